#!/usr/bin/env bash
# Roles and rights of the book's database; the image runs it once, when the data folder is empty.
#
#   daicho_owner    migrates the schema (`daicho init`); no service has its password
#   daicho_service  is the API and the workers: cannot change or delete an entry, a claim or a checkpoint
#   daicho_analyst  reads everything but the vault
#
# Rights come with the group roles daicho_<book>_writer and daicho_<book>_reader, to which the migration grants them.
set -euo pipefail

for file in "$OWNER_PASSWORD_FILE" "$SERVICE_PASSWORD_FILE" "$ANALYST_PASSWORD_FILE"; do
  test -s "$file" || { echo "there is no password in $file" >&2; exit 1; }
done
[[ $BOOK =~ ^[a-z][a-z0-9_]{0,30}$ ]] || { echo "BOOK is no name of a book: $BOOK" >&2; exit 1; }

psql --no-psqlrc --quiet --set=ON_ERROR_STOP=1 --set=book="$BOOK" --set=database="$POSTGRES_DB" \
  --username="${POSTGRES_USER:-postgres}" --dbname="$POSTGRES_DB" <<'SQL'
-- no statement with a password reaches the server's log, not even one that fails
SET log_statement = 'none';
SET log_min_error_statement = 'panic';
\set owner_password `cat "$OWNER_PASSWORD_FILE"`
\set service_password `cat "$SERVICE_PASSWORD_FILE"`
\set analyst_password `cat "$ANALYST_PASSWORD_FILE"`
\set writer daicho_ :book _writer
\set reader daicho_ :book _reader
BEGIN;
CREATE ROLE :"writer" NOLOGIN;
CREATE ROLE :"reader" NOLOGIN;
CREATE ROLE daicho_owner LOGIN PASSWORD :'owner_password';
CREATE ROLE daicho_service LOGIN PASSWORD :'service_password' IN ROLE :"writer";
CREATE ROLE daicho_analyst LOGIN PASSWORD :'analyst_password' IN ROLE :"reader";
REVOKE ALL ON DATABASE :"database" FROM PUBLIC;
GRANT CONNECT ON DATABASE :"database" TO daicho_service, daicho_analyst;
ALTER DATABASE :"database" OWNER TO daicho_owner;
REVOKE ALL ON SCHEMA public FROM PUBLIC;
-- from here on the superuser comes in by the socket inside the container only
ALTER ROLE CURRENT_USER PASSWORD NULL;
COMMIT;
SQL

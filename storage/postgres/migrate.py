"""Numbered SQL, forward only. The database's owner migrates; every other process only checks, and refuses to start.

Roles: `<schema>_writer` for the services, which cannot change or delete an entry, a claim or a checkpoint, and
`<schema>_reader` for whoever only looks, who cannot see the vault. Both are group roles without a login: the operator
grants them to the users that connect.
"""

import hashlib
from importlib.resources import files
from typing import Final, NamedTuple

import psycopg
from psycopg import sql

from storage.postgres.database import Database, Row, unavailable

_VERSIONS: Final = """
CREATE TABLE IF NOT EXISTS schema_version (
    version INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    sha256 TEXT NOT NULL,
    applied_at TIMESTAMPTZ NOT NULL DEFAULT now())
"""


class SchemaError(Exception):
    """The schema is not the one that this program works on; the message says what to do."""


class Migration(NamedTuple):
    """One step: its number, its file's name, its SQL."""

    version: int
    name: str
    text: str

    @property
    def sha256(self) -> str:
        """What tells a changed step from the one that was applied."""
        return hashlib.sha256(self.text.encode()).hexdigest()


def migrations() -> list[Migration]:
    """All steps that this program knows, in order."""
    found = [file for file in files("storage.postgres").joinpath("migrations").iterdir() if file.name.endswith(".sql")]
    steps = [Migration(int(file.name.split("_")[0]), file.name, file.read_text("utf-8")) for file in found]
    return sorted(steps)


def roles(database: Database) -> tuple[str, str]:
    """The writer's and the reader's group role."""
    return f"{database.schema}_writer", f"{database.schema}_reader"


def migrate(owner: Database) -> list[str]:
    """Bring the schema up to date, as its owner; the names of the steps that were applied now.

    Raises SchemaError when an applied step was changed, StorageUnavailable when the server refuses.
    """
    try:
        with owner.connect("migrate", autocommit=False) as connection:
            # A crash anywhere below leaves the schema as it was: all steps are one transaction.
            connection.execute("SELECT pg_advisory_xact_lock(%s)", (owner.lock_key("migrate"),))
            _prepare(connection, owner)
            applied = _applied(connection)
            todo = [step for step in migrations() if not _matches(step, applied)]
            for step in todo:
                connection.execute(_filled(step, owner))
                connection.execute(
                    "INSERT INTO schema_version (version, name, sha256) VALUES (%s, %s, %s)",
                    (step.version, step.name, step.sha256),
                )
            return [step.name for step in todo]
    except psycopg.Error as error:
        raise unavailable(error) from error


def check_schema(database: Database) -> None:
    """Raises SchemaError unless the schema is exactly the one that this program knows, StorageUnavailable."""
    with database.connect("check schema") as connection:
        try:
            applied = _applied(connection)
        except psycopg.errors.UndefinedTable:
            raise SchemaError(f"there is no schema {database.schema} yet: run `daicho database migrate`") from None
        except psycopg.Error as error:
            raise unavailable(error) from error
    known = migrations()
    missing = [step.name for step in known if not _matches(step, applied)]
    if missing:
        raise SchemaError(f"schema {database.schema} lacks {missing[0]}: run `daicho database migrate`")
    if unknown := set(applied) - {step.version for step in known}:
        raise SchemaError(f"schema {database.schema} has version {max(unknown)}, which a newer program made: update")


def _prepare(connection: psycopg.Connection[Row], owner: Database) -> None:
    """Schema and group roles; roles are the server's, so they may be there already."""
    for role in roles(owner):
        if not connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (role,)).fetchone():
            connection.execute(sql.SQL("CREATE ROLE {} NOLOGIN").format(sql.Identifier(role)))
    connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(owner.schema)))
    connection.execute(_VERSIONS)


def _applied(connection: psycopg.Connection[Row]) -> dict[int, str]:
    rows = connection.execute("SELECT version, sha256 FROM schema_version").fetchall()
    return dict(rows)


def _matches(step: Migration, applied: dict[int, str]) -> bool:
    """True when the step was applied. SchemaError when it was another text then."""
    found = applied.get(step.version)
    if found is not None and found != step.sha256:
        raise SchemaError(f"{step.name} was changed after it had been applied: steps are never changed, only added")
    return found is not None


def _filled(step: Migration, owner: Database) -> sql.Composed:
    writer, reader = (sql.Identifier(role) for role in roles(owner))
    template = sql.SQL(step.text)
    return template.format(schema=sql.Identifier(owner.schema), writer=writer, reader=reader)

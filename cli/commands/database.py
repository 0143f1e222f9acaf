"""`daicho database`: the schema of a book in PostgreSQL."""

from cyclopts import App

from cli.screen import console
from cli.settings import SettingsError, load_settings
from cli.wiring.postgres_stores import migrate_all, owner_database, service_database
from storage.postgres.migrate import check_schema

app = App(name="database", help="The book's schema in PostgreSQL: migrate, check.")


@app.command
def migrate() -> int:
    """Bring the schema up to date, as the database's owner (DAICHO_DATABASE_OWNER_URL). Forward only; may be repeated.

    Stop nothing for it: every step leaves what runs working, or says so in the changelog.
    """
    applied = migrate_all(owner_database(load_settings()))
    for name in applied:
        console.print(f"applied {name}", markup=False)
    console.print("The schema is up to date.")
    return 0


@app.command
def check() -> int:
    """Say whether the schema is the one that this program works on. Exit code 2 when it is not."""
    settings = load_settings()
    if not settings.clustered:
        raise SettingsError("set DAICHO_DATABASE_URL or DAICHO_DATABASE_URL_FILE")
    check_schema(service_database(settings))
    console.print("The schema is up to date.")
    return 0

"""The stores of one book in PostgreSQL, and the database that the settings name."""

from pathlib import Path
from typing import Any

from cli.settings import Settings, SettingsError
from projections.postgres.store import PostgresReadStore
from storage.anchor_recorder import ANCHOR_TABLE
from storage.postgres.database import Database, DatabaseUrlError
from storage.postgres.due_work import PostgresDueWork
from storage.postgres.entry_log import PostgresEntryLog
from storage.postgres.lane_store import PostgresLaneStore
from storage.postgres.log_store import PostgresLogStore
from storage.postgres.migrate import migrate
from storage.postgres.parcels import PostgresParcels
from storage.postgres.recorder import library_environment
from storage.postgres.vault_store import PostgresVaultStore


class PostgresStores:
    """The schema of one book."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def ledger_environment(self) -> dict[str, str]:
        """How the eventsourcing library finds the ledger's event store."""
        return library_environment(self.database, "ledger")

    def anchor_environment(self) -> dict[str, str]:
        """How it finds the anchor book's."""
        return library_environment(self.database, "anchors")

    def entries(self) -> PostgresEntryLog:
        """The ledger's entries, to read."""
        return PostgresEntryLog(self.database)

    def anchor_entries(self) -> PostgresEntryLog:
        """The anchor book's entries, to read."""
        return PostgresEntryLog(self.database, ANCHOR_TABLE)

    def log(self) -> PostgresLogStore:
        """Leaf hashes and checkpoints."""
        return PostgresLogStore(self.database)

    def due_work(self) -> PostgresDueWork:
        """The anchorer's due work and position."""
        return PostgresDueWork(self.database)

    def parcels(self) -> PostgresParcels:
        """The inbox, to read."""
        return PostgresParcels(self.database)

    def archive(self) -> Any:
        """The archive is a topic: the relay writes it."""
        raise NotImplementedError

    def store_work(self) -> PostgresDueWork:
        """Due work about stores' messages and purchases: the same table, other kinds."""
        return PostgresDueWork(self.database)

    def lane(self, *, chain_id: int, publisher: str, contract: str, log_id: bytes) -> PostgresLaneStore:
        """The anchor lane's memory."""
        return PostgresLaneStore(
            self.database, chain_id=chain_id, publisher=publisher, contract=contract, log_id=log_id
        )

    def vault(self) -> PostgresVaultStore:
        """Sealed keys and subjects."""
        return PostgresVaultStore(self.database)

    def reads(self) -> PostgresReadStore:
        """The read models."""
        return PostgresReadStore(self.database.conninfo, self.database.book)

    def signer_vault(self, runtime: Path) -> list[str]:
        """What tells the signer process where the vault is: the name of a file, since a command line can be seen."""
        file = runtime / "database"
        file.touch(mode=0o600)
        file.write_text(f"{self.database.book}\n{self.database.conninfo}", "utf-8")
        return ["--store", "storage.postgres.vault_store:open_vault", "--vault", str(file)]

    def attach(self, recorder: Any) -> None:
        """Tell a recorder where it writes groups."""
        recorder.attach(self.database)


def service_database(settings: Settings) -> Database:
    """The database as the services use it."""
    return _database(settings, "database_url")


def owner_database(settings: Settings) -> Database:
    """The database as its owner, who migrates."""
    return _database(settings, "database_owner_url")


def migrate_all(owner: Database) -> list[str]:
    """Bring the book's schema and that of its read models up to date; what was done now."""
    applied = migrate(owner)
    PostgresReadStore.prepare(owner.conninfo, owner.book)
    return applied


def _database(settings: Settings, name: str) -> Database:
    """The database that a setting names, by itself or in a file. Raises SettingsError, never repeating the URL."""
    secret, file = getattr(settings, name), getattr(settings, f"{name}_file")
    if secret is None and file is None:
        raise SettingsError(f"set DAICHO_{name.upper()} or DAICHO_{name.upper()}_FILE")
    try:
        text = secret.get_secret_value() if secret is not None else file.read_text("utf-8").strip()
        return Database(text, settings.book)
    except OSError as error:
        raise SettingsError(f"DAICHO_{name.upper()}_FILE: {error.strerror}: {file}") from None
    except (DatabaseUrlError, UnicodeDecodeError):
        raise SettingsError(f"DAICHO_{name.upper()} is no PostgreSQL connection string") from None

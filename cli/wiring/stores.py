"""Where everything is stored: SQLite files in the data folder, or one schema of a PostgreSQL database.

The only place that knows which of the two it is. Every method opens something new, which its caller closes.
"""

from pathlib import Path
from typing import Any, Protocol

from cli.settings import Settings
from projections.store import ReadStore
from storage.anchor_recorder import ANCHOR_TABLE
from storage.archive import SegmentArchive
from storage.due_work import DueWork
from storage.entry_log import SqliteEntryLog
from storage.folder import DataFolder
from storage.lane_store import SqliteLaneStore
from storage.log_store import SqliteLogStore
from storage.parcels import SqliteParcels
from storage.vault_store import SqliteVaultStore


class Stores(Protocol):
    """One book's stores."""

    def ledger_environment(self) -> dict[str, str]:
        """How the eventsourcing library finds the ledger's event store."""
        ...

    def anchor_environment(self) -> dict[str, str]:
        """How it finds the anchor book's."""
        ...

    def entries(self) -> Any:
        """The ledger's entries, to read."""
        ...

    def anchor_entries(self) -> Any:
        """The anchor book's entries, to read."""
        ...

    def log(self) -> Any:
        """Leaf hashes and checkpoints."""
        ...

    def due_work(self) -> Any:
        """The anchorer's due work and position."""
        ...

    def parcels(self) -> Any:
        """The inbox, to read."""
        ...

    def archive(self) -> Any:
        """The archive of stores' messages, to write; where it is a topic, the relay writes it."""
        ...

    def store_work(self) -> Any:
        """Due work about stores' messages and purchases, beside the ledger's entries."""
        ...

    def lane(self, *, chain_id: int, publisher: str, contract: str, log_id: bytes) -> Any:
        """The anchor lane's memory."""
        ...

    def vault(self) -> Any:
        """Sealed keys and subjects."""
        ...

    def reads(self) -> Any:
        """The read models."""
        ...

    def signer_vault(self, runtime: Path) -> list[str]:
        """What tells the signer process where the vault is; `runtime` is a private folder for as long as it runs."""
        ...

    def attach(self, recorder: Any) -> None:
        """Tell a recorder that the library has made where it writes groups."""
        ...


class SqliteStores:
    """Files of the data folder."""

    def __init__(self, folder: DataFolder) -> None:
        self._folder = folder

    def ledger_environment(self) -> dict[str, str]:
        """How the eventsourcing library finds the ledger's event store."""
        return {"SQLITE_DBNAME": str(self._folder.ledger)}

    def anchor_environment(self) -> dict[str, str]:
        """How it finds the anchor book's."""
        return {"SQLITE_DBNAME": str(self._folder.anchors)}

    def entries(self) -> SqliteEntryLog:
        """The ledger's entries, to read."""
        return SqliteEntryLog(self._folder.ledger)

    def anchor_entries(self) -> SqliteEntryLog:
        """The anchor book's entries, to read."""
        return SqliteEntryLog(self._folder.anchors, ANCHOR_TABLE)

    def log(self) -> SqliteLogStore:
        """Leaf hashes and checkpoints."""
        return SqliteLogStore(self._folder.log)

    def due_work(self) -> DueWork:
        """The anchorer's due work and position."""
        return DueWork(self._folder.anchors)

    def parcels(self) -> SqliteParcels:
        """The inbox, to read."""
        return SqliteParcels(self._folder.ledger)

    def archive(self) -> SegmentArchive:
        """The archive of stores' messages, to write."""
        return SegmentArchive(self._folder.archive)

    def store_work(self) -> DueWork:
        """Due work about stores' messages and purchases, beside the ledger's entries."""
        return DueWork(self._folder.ledger)

    def lane(self, *, chain_id: int, publisher: str, contract: str, log_id: bytes) -> SqliteLaneStore:
        """The anchor lane's memory."""
        return SqliteLaneStore(
            self._folder.anchors, chain_id=chain_id, publisher=publisher, contract=contract, log_id=log_id
        )

    def vault(self) -> SqliteVaultStore:
        """Sealed keys and subjects."""
        return SqliteVaultStore(self._folder.vault)

    def reads(self) -> ReadStore:
        """The read models."""
        return ReadStore(self._folder.reads)

    def signer_vault(self, runtime: Path) -> list[str]:  # noqa: ARG002 the file is where it is
        """What tells the signer process where the vault is."""
        return ["--vault", str(self._folder.vault)]

    def attach(self, recorder: Any) -> None:
        """A recorder on a file knows where it writes."""


def open_stores(settings: Settings, folder: DataFolder) -> Stores:
    """The stores that the settings name. Raises SettingsError for a database URL that cannot be used."""
    if not settings.clustered:
        return SqliteStores(folder)
    from cli.wiring.postgres_stores import PostgresStores, service_database  # psycopg costs a start 0.1 s

    return PostgresStores(service_database(settings))

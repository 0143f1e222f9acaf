"""The inbox: what came from outside, as ciphertext, stored in the transaction of the entry that tells of it.

Its numbers are gapless like positions, under the same lock, so whoever copies it (the archiver) knows what is missing.
Nothing is ever changed or deleted here; erasing somebody destroys the key.
"""

import sqlite3
import threading
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

from domain.errors import StorageUnavailable
from domain.orders import Parcel

COLUMNS: Final = "number, position, payload, owner, sealed, headers, proof"


class StoredParcel(NamedTuple):
    """A row: `position` is that of the entry that tells of it, the rest is as in `domain.orders.Parcel`."""

    number: int
    position: int
    payload: str
    owner: str
    sealed: bytes
    headers: bytes
    proof: bytes


class Parcels(Protocol):
    """Reading the inbox, from any thread. Raises StorageUnavailable."""

    def head(self) -> int:
        """The last number, 0 in an empty inbox."""
        ...

    def read(self, start: int, limit: int) -> list[StoredParcel]:
        """At most so many from a number on, ascending."""
        ...

    def of_payload(self, payload: str) -> StoredParcel | None:
        """The (first) parcel with that hash."""
        ...


class Cursor(Protocol):
    """What is needed of a cursor inside the writer's transaction."""

    def execute(self, statement: str, params: Sequence[object] = ()) -> object:
        """Run a statement."""

    def fetchone(self) -> Any:
        """Its first row."""

    def executemany(self, statement: str, params: Sequence[Sequence[object]]) -> object:
        """Run it for every row."""


def parcels_schema(table: str) -> list[str]:
    """The statements that create the inbox beside an events table."""
    return [
        (
            f"CREATE TABLE IF NOT EXISTS {table}_parcels (number INTEGER PRIMARY KEY, position INTEGER NOT NULL, "
            "payload TEXT NOT NULL, owner TEXT NOT NULL, sealed BLOB NOT NULL, headers BLOB NOT NULL, "
            "proof BLOB NOT NULL)"
        ),
        f"CREATE INDEX IF NOT EXISTS {table}_parcels_payload ON {table}_parcels (payload)",
    ]


def numbered(last: int, parcels: Sequence[tuple[int, Parcel]]) -> list[StoredParcel]:
    """The rows of parcels (each with the position of its entry) behind the last number."""
    return [
        StoredParcel(number, position, each.payload, each.owner, each.sealed, each.headers, each.proof)
        for number, (position, each) in enumerate(parcels, last + 1)
    ]


def insert_parcels(cursor: Cursor, table: str, parcels: Sequence[tuple[int, Parcel]]) -> None:
    """Store parcels inside the open transaction."""
    cursor.execute(f"SELECT coalesce(max(number), 0) FROM {table}_parcels")
    rows = numbered(cursor.fetchone()[0], parcels)
    cursor.executemany(f"INSERT INTO {table}_parcels ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)", rows)


class SqliteParcels:
    """The inbox of a ledger file."""

    def __init__(self, path: Path, table: str = "stored_events") -> None:
        self._path, self._table = path, f"{table}_parcels"
        self._local = threading.local()
        self._lock = threading.Lock()
        self._connections: list[sqlite3.Connection] = []

    def head(self) -> int:
        """The last number, 0 in an empty inbox."""
        return int(self._rows("SELECT coalesce(max(number), 0) FROM {table}")[0][0])

    def read(self, start: int, limit: int) -> list[StoredParcel]:
        """At most so many from a number on, ascending."""
        statement = f"SELECT {COLUMNS} FROM {{table}} WHERE number >= ? ORDER BY number LIMIT ?"
        return [StoredParcel(*row) for row in self._rows(statement, start, limit)]

    def of_payload(self, payload: str) -> StoredParcel | None:
        """The (first) parcel with that hash."""
        statement = f"SELECT {COLUMNS} FROM {{table}} WHERE payload = ? ORDER BY number LIMIT 1"
        rows = self._rows(statement, payload)
        return StoredParcel(*rows[0]) if rows else None

    def close(self) -> None:
        """Close every connection."""
        with self._lock:
            connections, self._connections = self._connections, []
        for connection in connections:
            connection.close()
        self._local = threading.local()

    def _rows(self, statement: str, *values: object) -> list[Any]:
        try:
            with closing(self._connection().execute(statement.format(table=self._table), values)) as cursor:
                return cursor.fetchall()
        except sqlite3.Error as error:
            raise StorageUnavailable("the inbox cannot be read for now", reason=str(error)) from error

    def _connection(self) -> sqlite3.Connection:
        found: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if found is None:
            found = sqlite3.connect(f"file:{self._path}?mode=ro", uri=True, check_same_thread=False)
            self._local.connection = found
            with self._lock:
                self._connections.append(found)
        return found

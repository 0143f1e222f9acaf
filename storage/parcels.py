"""The inbox: what came from outside, as ciphertext, stored in the transaction of the entry that tells of it.

Its numbers are gapless like positions, under the same lock, so whoever copies it (the archiver) knows what is missing.
Nothing is ever changed or deleted here; erasing somebody destroys the key.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Final, NamedTuple, Protocol

from domain.orders import Parcel
from storage.bulk_insert import Executor, insert_rows
from storage.sqlite_reader import SqliteReader

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


class Cursor(Executor, Protocol):
    """What is needed of a cursor inside the writer's transaction."""

    def fetchone(self) -> Any:
        """The first row."""


def parcels_schema(table: str) -> list[str]:
    """The statements that create the inbox beside an events table."""
    return [
        (
            f"CREATE TABLE IF NOT EXISTS {table}_parcels (number INTEGER PRIMARY KEY, position INTEGER NOT NULL, "
            "payload TEXT NOT NULL, owner TEXT NOT NULL, sealed BLOB NOT NULL, headers BLOB NOT NULL, "
            "proof BLOB NOT NULL)"
        ),
        f"CREATE INDEX IF NOT EXISTS {table}_parcels_payload ON {table}_parcels (payload)",
        f"CREATE INDEX IF NOT EXISTS {table}_parcels_owner ON {table}_parcels (owner, number)",
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
    insert_rows(cursor, f"{table}_parcels", numbered(cursor.fetchone()[0], parcels))


class SqliteParcels(SqliteReader):
    """The inbox of a ledger file."""

    WHAT: ClassVar = "the inbox"

    def __init__(self, path: Path | str, table: str = "stored_events") -> None:
        super().__init__(path)
        self._table = f"{table}_parcels"

    def head(self) -> int:
        """The last number, 0 in an empty inbox."""
        return int(self._fetch(f"SELECT coalesce(max(number), 0) FROM {self._table}")[0][0])

    def read(self, start: int, limit: int) -> list[StoredParcel]:
        """At most so many from a number on, ascending."""
        statement = f"SELECT {COLUMNS} FROM {self._table} WHERE number >= ? ORDER BY number LIMIT ?"
        return [StoredParcel(*row) for row in self._fetch(statement, (start, limit))]

    def of_payload(self, payload: str) -> StoredParcel | None:
        """The (first) parcel with that hash."""
        statement = f"SELECT {COLUMNS} FROM {self._table} WHERE payload = ? ORDER BY number LIMIT 1"
        rows = self._fetch(statement, (payload,))
        return StoredParcel(*rows[0]) if rows else None

    def owners(self, payloads: Sequence[str]) -> dict[str, str]:
        """The owner of each of these payloads that is here."""
        statement = f"SELECT payload, owner FROM {self._table} WHERE payload IN (SELECT value FROM json_each(?))"
        return dict(self._fetch(statement, (json.dumps(list(payloads)),)))

    def of_owner(self, owner: str, start: int, limit: int) -> list[StoredParcel]:
        """At most so many of an owner's parcels from a number on, ascending."""
        statement = f"SELECT {COLUMNS} FROM {self._table} WHERE owner = ? AND number >= ? ORDER BY number LIMIT ?"
        return [StoredParcel(*row) for row in self._fetch(statement, (owner, start, limit))]

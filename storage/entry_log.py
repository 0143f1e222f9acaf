"""Reading the event store: entries by position, and what is stored about commands. Never writes."""

import sqlite3
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from domain.entry import decode_envelope
from domain.errors import StorageUnavailable
from domain.orders import KnownCommand, Receipt
from storage.claims import known_commands, taken_claims

_CACHE_KIB: Final = 8192


class StoredRow(NamedTuple):
    """A row of the events table: the entry's bytes and what the row says beside them."""

    position: int
    aggregate_id: str
    version: int
    topic: str
    state: bytes


class SqliteEntryLog:
    """Entries of one event store, readable from any thread (a connection each). Positions start at 1.

    Its own connections: the library's pool makes readers wait for the writer.
    """

    def __init__(self, path: Path | str, table: str = "stored_events") -> None:
        self._path = Path(path)
        self._table = table
        self._local = threading.local()
        self._opened: list[sqlite3.Connection] = []
        self._lock = threading.Lock()

    def head(self) -> int:
        """The last position, 0 in an empty store."""
        row = self._one(f"SELECT MAX(rowid) FROM {self._table}")
        return int(row[0] or 0) if row else 0

    def read(self, start: int, limit: int) -> list[tuple[int, bytes]]:
        """At most `limit` records from position `start` (inclusive), ascending."""
        rows = self._cursor().execute(
            f"SELECT rowid, state FROM {self._table} WHERE rowid>=? ORDER BY rowid LIMIT ?", (start, limit)
        )
        return rows.fetchall()

    def rows(self, start: int, limit: int) -> list[StoredRow]:
        """Whole rows as they lie on disk, for audits."""
        found = self._cursor().execute(
            f"SELECT rowid, originator_id, originator_version, topic, state FROM {self._table} "
            "WHERE rowid>=? ORDER BY rowid LIMIT ?",
            (start, limit),
        )
        return [StoredRow(*row) for row in found]

    def get(self, position: int) -> bytes | None:
        """The entry at a position, or None."""
        if not 0 < position < 2**63:
            return None
        row = self._one(f"SELECT state FROM {self._table} WHERE rowid=?", (position,))
        return bytes(row[0]) if row else None

    def of_aggregate(self, aggregate_id: str, *, up_to: int | None = None) -> list[tuple[int, bytes]]:
        """The records of one aggregate in order, up to a position."""
        rows = self._cursor().execute(
            f"SELECT rowid, state FROM {self._table} WHERE originator_id=? AND rowid<=? ORDER BY originator_version",
            (aggregate_id, up_to if up_to is not None else 2**62),
        )
        return rows.fetchall()

    def known_commands(self, keys: Sequence[str]) -> dict[str, KnownCommand]:
        """The stored commands among these key hashes."""
        return known_commands(self._cursor(), self._table, keys)

    def taken_claims(self, claims: Sequence[str]) -> set[str]:
        """Those of the claims that are stored."""
        return taken_claims(self._cursor(), self._table, claims)

    def receipt(self, known: KnownCommand) -> Receipt:
        """The answer that a known command was given, marked as a repetition."""
        records = self.read(known.first, known.count)
        last = decode_envelope(records[-1][1])
        return Receipt(last.aggregate_id, last.version, records, hit=True)

    def close(self) -> None:
        """Close every connection."""
        with self._lock:
            for connection in self._opened:
                connection.close()
            self._opened.clear()
        self._local = threading.local()

    def _one(self, statement: str, params: Sequence[object] = ()) -> tuple[Any, ...] | None:
        row: tuple[Any, ...] | None = self._cursor().execute(statement, params).fetchone()
        return row

    def _cursor(self) -> sqlite3.Cursor:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            try:
                connection = sqlite3.connect(
                    f"{self._path.resolve().as_uri()}?mode=ro", uri=True, isolation_level=None, check_same_thread=False
                )
                connection.execute(f"PRAGMA cache_size=-{_CACHE_KIB}")
            except sqlite3.Error as error:
                raise StorageUnavailable("the event store cannot be read for now", reason=str(error)) from error
            self._local.connection = connection
            with self._lock:
                self._opened.append(connection)
        return connection.cursor()

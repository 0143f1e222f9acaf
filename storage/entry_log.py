"""Reading the event store: entries by position, and what is stored about commands. Never writes."""

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Final, NamedTuple

from domain.entry import decode_envelope
from domain.orders import KnownCommand, Receipt
from storage.claims import known_commands, taken_claims
from storage.sqlite_reader import SqliteReader

_LAST_ROWID: Final = 2**63 - 1


class StoredRow(NamedTuple):
    """A row of the events table: the entry's bytes and what the row says beside them."""

    position: int
    aggregate_id: str
    version: int
    topic: str
    state: bytes


class SqliteEntryLog(SqliteReader):
    """Entries of one event store. Positions start at 1."""

    WHAT: ClassVar = "the event store"

    def __init__(self, path: Path | str, table: str = "stored_events") -> None:
        super().__init__(path)
        self._table = table

    def head(self) -> int:
        """The last position, 0 in an empty store."""
        return self._fetch(f"SELECT MAX(rowid) FROM {self._table}")[0][0] or 0

    def read(self, start: int, limit: int) -> list[tuple[int, bytes]]:
        """At most `limit` records from position `start` (inclusive), ascending."""
        statement = f"SELECT rowid, state FROM {self._table} WHERE rowid>=? ORDER BY rowid LIMIT ?"
        return self._fetch(statement, (min(start, _LAST_ROWID), limit))

    def rows(self, start: int, limit: int) -> list[StoredRow]:
        """Whole rows as they lie on disk, for audits."""
        columns = "rowid, originator_id, originator_version, topic, state"
        statement = f"SELECT {columns} FROM {self._table} WHERE rowid>=? ORDER BY rowid LIMIT ?"
        return [StoredRow(*row) for row in self._fetch(statement, (min(start, _LAST_ROWID), limit))]

    def get(self, position: int) -> bytes | None:
        """The entry at a position, or None."""
        if not 0 < position < _LAST_ROWID:
            return None
        rows = self._fetch(f"SELECT state FROM {self._table} WHERE rowid=?", (position,))
        return rows[0][0] if rows else None

    def of_aggregate(self, aggregate_id: str, *, up_to: int | None = None) -> list[tuple[int, bytes]]:
        """The records of one aggregate in order, up to a position."""
        last = _LAST_ROWID if up_to is None else min(up_to, _LAST_ROWID)
        columns, order = "rowid, state", "ORDER BY originator_version"
        statement = f"SELECT {columns} FROM {self._table} WHERE originator_id=? AND rowid<=? {order}"
        return self._fetch(statement, (aggregate_id, last))

    def known_commands(self, keys: Sequence[str]) -> dict[str, KnownCommand]:
        """The stored commands among these key hashes."""
        with self._reading() as cursor:
            return known_commands(cursor, self._table, keys)

    def taken_claims(self, claims: Sequence[str]) -> set[str]:
        """Those of the claims that are stored."""
        with self._reading() as cursor:
            return taken_claims(cursor, self._table, claims)

    def receipt(self, known: KnownCommand) -> Receipt:
        """The answer that a known command was given, marked as a repetition."""
        records = self.read(known.first, known.count)
        last = decode_envelope(records[-1][1])
        return Receipt(last.aggregate_id, last.version, records, hit=True)

"""Reading the event store on PostgreSQL: entries by position, and what is stored about commands. Never writes."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from queue import Empty, LifoQueue
from typing import Any, Final

import psycopg
from psycopg import sql

from domain.entry import decode_envelope
from domain.errors import StorageUnavailable
from domain.orders import KnownCommand, Receipt
from storage.entry_log import StoredRow
from storage.postgres.claims import ClaimQueries
from storage.postgres.database import Database, Row, unavailable, usable

MAX_CONNECTIONS: Final = 8
WAIT_SECONDS: Final = 10.0
_LAST: Final = 2**63 - 1


class PostgresEntryLog:
    """Entries of one event store, readable from any thread over a few connections. Positions start at 1.

    Every method raises StorageUnavailable when the database cannot be read, or all connections are busy for long.
    """

    def __init__(
        self, database: Database, table: str = "stored_events", max_connections: int = MAX_CONNECTIONS
    ) -> None:
        self._database = database
        self._claims = ClaimQueries(database.schema, table)
        self._events = sql.Identifier(database.schema, table)
        self._idle: LifoQueue[psycopg.Connection[Row] | None] = LifoQueue()
        for _ in range(max_connections):
            self._idle.put(None)

    def head(self) -> int:
        """The last position, 0 in an empty store."""
        return self._fetch("SELECT max(notification_id) FROM {events}")[0][0] or 0

    def read(self, start: int, limit: int) -> list[tuple[int, bytes]]:
        """At most `limit` records from position `start` (inclusive), ascending."""
        statement = (
            "SELECT notification_id, state FROM {events} WHERE notification_id >= %s ORDER BY notification_id LIMIT %s"
        )
        return self._fetch(statement, min(start, _LAST), limit)

    def rows(self, start: int, limit: int) -> list[StoredRow]:
        """Whole rows as they lie on disk, for audits."""
        statement = (
            "SELECT notification_id, originator_id, originator_version, topic, state FROM {events}"
            " WHERE notification_id >= %s ORDER BY notification_id LIMIT %s"
        )
        return [StoredRow(*row) for row in self._fetch(statement, min(start, _LAST), limit)]

    def get(self, position: int) -> bytes | None:
        """The entry at a position, or None."""
        if not 0 < position < _LAST:
            return None
        rows = self._fetch("SELECT state FROM {events} WHERE notification_id = %s", position)
        return rows[0][0] if rows else None

    def of_aggregate(self, aggregate_id: str, *, up_to: int | None = None) -> list[tuple[int, bytes]]:
        """The records of one aggregate in order, up to a position."""
        statement = (
            "SELECT notification_id, state FROM {events} WHERE originator_id = %s AND notification_id <= %s"
            " ORDER BY originator_version"
        )
        return self._fetch(statement, aggregate_id, _LAST if up_to is None else min(up_to, _LAST))

    def known_commands(self, keys: Sequence[str]) -> dict[str, KnownCommand]:
        """The stored commands among these key hashes."""
        with self._cursor() as cursor:
            return self._claims.stored_keys(cursor, keys, [])[0]

    def taken_claims(self, claims: Sequence[str]) -> set[str]:
        """Those of the claims that are stored."""
        if not claims:
            return set()
        with self._cursor() as cursor:
            return self._claims.stored_keys(cursor, [], claims)[1]

    def receipt(self, known: KnownCommand) -> Receipt:
        """The answer that a known command was given, marked as a repetition."""
        records = self.read(known.first, known.count)
        last = decode_envelope(records[-1][1])
        return Receipt(last.aggregate_id, last.version, records, hit=True)

    def close(self) -> None:
        """Close every connection that is not in use."""
        for _ in range(self._idle.qsize()):
            connection = self._idle.get_nowait()
            if connection is not None:
                connection.close()
            self._idle.put(None)

    def _fetch(self, statement: str, *values: object) -> list[Any]:
        query = sql.SQL(statement).format(events=self._events)
        with self._cursor() as cursor:
            return cursor.execute(query, values, binary=True).fetchall()

    @contextmanager
    def _cursor(self) -> Iterator[psycopg.Cursor[Row]]:
        """A cursor of an idle connection, which is given back, or closed after an error of the database."""
        try:
            connection = self._idle.get(timeout=WAIT_SECONDS)
        except Empty:
            raise StorageUnavailable("the database cannot be read for now", reason="all connections are busy") from None
        try:
            if connection is not None and not usable(connection):
                connection.close()
                connection = None
            if connection is None:
                connection = self._database.connect("read")
            with connection.cursor() as cursor:
                yield cursor
        except psycopg.Error as error:
            if connection is not None:
                connection.close()
            connection = None
            raise unavailable(error) from error
        finally:
            self._idle.put(connection)

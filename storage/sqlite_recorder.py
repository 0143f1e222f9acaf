"""The event store on SQLite: a recorder of the eventsourcing library with gapless positions.

`position = last + 1` is assigned under the write lock (BEGIN IMMEDIATE), in the transaction that stores the events; the
entries are sealed there, too. So a hole among the positions is corruption, never normal, and a position is one more
than the leaf's index in the Merkle tree.
"""

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Final

from eventsourcing.persistence import IntegrityError, OperationalError, PersistenceError, StoredEvent, Tracking
from eventsourcing.sqlite import SQLiteConnection, SQLiteCursor, SQLiteDatastore, SQLiteProcessRecorder

from domain.entry import Entry
from domain.errors import StorageUnavailable
from domain.orders import KnownCommand, Parcel
from storage.bulk_insert import insert_rows
from storage.claims import ClaimRow, absent_aggregates, claims_schema, claims_table, stale_versions, stored_keys
from storage.parcels import insert_parcels, parcels_schema
from storage.sealing import EventRow, Sealing

BUSY_TIMEOUT_MILLISECONDS: Final = 250  # the event loop waits for it: long enough for a checkpoint, short for clients
_WRITER_PRAGMAS: Final = (
    "PRAGMA synchronous=FULL",  # an answered command survives a power cut
    "PRAGMA cache_size=-65536",
    "PRAGMA wal_autocheckpoint=4000",  # pages, 16 MiB: a bulk writes each index page back once, not four times
    f"PRAGMA busy_timeout={BUSY_TIMEOUT_MILLISECONDS}",
)


class LedgerRecorder(Sealing, SQLiteProcessRecorder):
    """Stores entries, claims and tracking in one transaction. Call `bind` before the first write of entries.

    Tables: the events (`rowid` is the position; declared, so that VACUUM cannot renumber it), the claims
    (`claims.py`) and the inbox (`parcels.py`).
    """

    DATABASE_ERRORS: ClassVar[tuple[type[BaseException], ...]] = (sqlite3.Error, PersistenceError, OSError)
    WAITS: ClassVar[bool] = False  # its calls go to this machine's disk at most: they may be made on the event loop

    def __init__(self, datastore: SQLiteDatastore, events_table_name: str = "stored_events", **kwargs: Any) -> None:
        super().__init__(datastore, events_table_name=events_table_name, **kwargs)
        table = self.events_table_name
        self.select_max_notification_id_statement = f"SELECT MAX(rowid) FROM {table}"
        self._lock = threading.Lock()
        self._writer: SQLiteConnection | None = None

    def construct_create_table_statements(self) -> list[str]:
        """Library hook: our events table in place of the library's, and the claims."""
        statements = super().construct_create_table_statements()
        table = self.events_table_name
        statements[0] = (
            f"CREATE TABLE IF NOT EXISTS {table} (rowid INTEGER PRIMARY KEY, originator_id TEXT NOT NULL, "
            "originator_version INTEGER NOT NULL, topic TEXT NOT NULL, state BLOB NOT NULL, "
            "UNIQUE (originator_id, originator_version))"
        )
        return [*statements, *claims_schema(table), *parcels_schema(table)]

    # -- the write lock ----------------------------------------------------------------------------------------------

    def begin(self) -> SQLiteCursor:
        """Take the write lock and open a transaction. Raises StorageUnavailable when it cannot be had."""
        self._lock.acquire()
        try:
            cursor = self._connection().cursor()
            cursor.execute("BEGIN IMMEDIATE")
        except BaseException as error:
            self._drop_writer()
            self._lock.release()
            if isinstance(error, self.DATABASE_ERRORS):
                raise unavailable(error) from error
            raise
        return cursor

    def commit(self) -> None:
        """Make the open transaction durable and give the lock back. Raises StorageUnavailable, with nothing stored.

        A crash before it returns leaves all of the transaction or none of it (WAL, synchronous=FULL). If all of it is
        there and the answer was lost, the caller's command keys recognise it.
        """
        try:
            if self._writer is None:
                raise sqlite3.ProgrammingError("no transaction is open")
            self._writer.commit()
        except sqlite3.Error as error:
            self._abandon(error)
            raise unavailable(error) from error
        finally:
            self._lock.release()

    def rollback(self, cause: BaseException | None = None) -> None:
        """Take back the open transaction and give the lock back. `cause` is the error that led to it, if any."""
        try:
            self._abandon(cause)
        finally:
            self._lock.release()

    def close(self) -> None:
        """Close the writer's connection and the pool."""
        with self._lock:
            self._drop_writer()
        self.datastore.close()

    def _connection(self) -> SQLiteConnection:
        if self._writer is None:
            # in shared-memory mode a second connection would deadlock with the pool's interlock: refused
            if self.datastore.pool.is_sqlite_memory_mode:
                raise StorageUnavailable("the ledger's event store is a file; a memory database is not supported")
            self._writer = self.datastore.pool._create_connection()  # noqa: SLF001 the library's own way to one
            for pragma in _WRITER_PRAGMAS:
                self._writer._sqlite_conn.execute(pragma)  # noqa: SLF001
        return self._writer

    def _abandon(self, cause: BaseException | None) -> None:
        """Roll back. After an error of the database the next transaction opens a new connection, too.

        One opened while the file system was read-only would stay read-only. Closing alone does not roll back: a
        statement that an exception still holds keeps the transaction, and with it the lock.
        """
        self.last_time = (0, "")
        try:
            if self._writer is not None:
                self._writer.rollback()
        except sqlite3.Error as error:
            cause = error
        if isinstance(cause, self.DATABASE_ERRORS):
            self._drop_writer()

    def _drop_writer(self) -> None:
        if self._writer is not None:
            self._writer._close()  # noqa: SLF001
            self._writer = None

    # -- library hooks -----------------------------------------------------------------------------------------------

    def insert_events(self, stored_events: Sequence[StoredEvent], **kwargs: Any) -> Sequence[int] | None:
        """Store events outside a group (the library's own `save`)."""
        with self.writing() as cursor:
            return self._insert_events(cursor, stored_events, **kwargs)

    def insert_tracking(self, tracking: Tracking) -> None:
        """Store a position of an upstream application."""
        with self.writing() as cursor:
            self._insert_tracking(cursor, tracking)

    @contextmanager
    def writing(self) -> Iterator[SQLiteCursor]:
        """A transaction of its own under the write lock, with the library's errors."""
        try:
            cursor = self.begin()
        except StorageUnavailable as error:
            raise OperationalError(str(error)) from error
        try:
            yield cursor
        except BaseException as error:
            self.rollback(error)
            if isinstance(error, sqlite3.IntegrityError):
                raise IntegrityError(error) from error
            if isinstance(error, sqlite3.Error):
                raise OperationalError(error) from error
            raise
        try:
            self.commit()
        except StorageUnavailable as error:
            raise OperationalError(str(error)) from error

    def _insert_events(
        self,
        c: SQLiteCursor,
        stored_events: Sequence[StoredEvent],
        *,
        tracking: Tracking | None = None,
        **_: Any,
    ) -> Sequence[int]:
        head = self.head_under_lock(c)
        sealed = any(isinstance(event, Entry) for event in stored_events)
        moment = self.time_under_lock(c, head) if sealed else ""
        rows = list(self.seal(stored_events, head + 1, moment))
        insert_rows(c, self.events_table_name, rows)
        if tracking is not None:
            self._insert_tracking(c, tracking)
        if sealed:
            self.remember_time(head + len(rows), moment)
        return list(range(head + 1, head + 1 + len(rows)))

    # -- under the lock ----------------------------------------------------------------------------------------------

    def head_under_lock(self, c: SQLiteCursor) -> int:
        """The last position, 0 in an empty store."""
        c.execute(self.select_max_notification_id_statement)
        return c.fetchone()[0] or 0

    def state_at(self, c: SQLiteCursor, position: int) -> bytes:
        """The entry at a position, which is there."""
        c.execute(f"SELECT state FROM {self.events_table_name} WHERE rowid=?", (position,))
        state: bytes = c.fetchone()[0]
        return state

    def stored_keys(
        self, c: SQLiteCursor, commands: Sequence[str], claims: Sequence[str]
    ) -> tuple[dict[str, KnownCommand], set[str]]:
        """The stored commands among these key hashes and the stored ones of these claims."""
        return stored_keys(c, self.events_table_name, commands, claims)

    def absent_aggregates(self, c: SQLiteCursor, ids: Sequence[str]) -> set[str]:
        """Those of these aggregates of which nothing is stored."""
        return absent_aggregates(c, self.events_table_name, ids)

    def stale_versions(self, c: SQLiteCursor, expected: dict[str, int]) -> set[str]:
        """The aggregates (of these versions, 0 for none) that stand at another version in the store."""
        return stale_versions(c, self.events_table_name, expected)

    def insert_group(self, c: SQLiteCursor, rows: Sequence[EventRow], claims: Sequence[ClaimRow]) -> None:
        """Put a group into the open transaction."""
        insert_rows(c, self.events_table_name, rows)
        insert_rows(c, claims_table(self.events_table_name), claims)

    def insert_parcels(self, c: SQLiteCursor, parcels: Sequence[tuple[int, Parcel]]) -> None:
        """Put what came with a group into the open transaction."""
        insert_parcels(c, self.events_table_name, parcels)

    def stored_after_all(self, key: str, position: int) -> bool:  # noqa: ARG002 the port's signature
        """Whether a commit that failed took effect: never, for SQLite commits in this process or not at all."""
        return False


def unavailable(error: BaseException) -> StorageUnavailable:
    """Our trouble for a database that refuses."""
    return StorageUnavailable("the event store refuses the write for now", reason=str(error))

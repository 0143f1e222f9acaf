"""The event store on PostgreSQL: gapless positions under an advisory lock, for several processes at once.

`position = last + 1` is assigned while the transaction holds the lock, which PostgreSQL gives back at its end, however
it ends. So positions are in commit order, without a hole, whoever wrote. The lock is waited for at most as long as the
session's lock time-out; a writer that stops in the middle loses it by the idle time-out of its transaction.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Final

import psycopg
from eventsourcing.persistence import IntegrityError, OperationalError, PersistenceError, StoredEvent, Tracking
from eventsourcing.postgres import PostgresDatastore, PostgresProcessRecorder
from psycopg import sql

from domain.entry import Entry
from domain.errors import LedgerReadOnly, StorageUnavailable
from domain.orders import KnownCommand, Parcel
from storage.claims import ClaimRow
from storage.postgres.claims import ClaimQueries
from storage.postgres.database import Database, Row, unavailable, usable
from storage.postgres.parcels import insert_parcels
from storage.sealing import EventRow, Sealing

RESOLVE_ATTEMPTS: Final = 3
POOL_SIZE: Final = 2
MAX_OVERFLOW: Final = 6  # with POOL_SIZE fewer than the library tries, discarding a stale connection each time
_RECORDERS: Final = {
    "ledger": "storage.postgres.recorder:PostgresLedgerRecorder",
    "anchors": "storage.postgres.recorder:PostgresAnchorRecorder",
}


def library_environment(database: Database, which: str) -> dict[str, str]:
    """How the eventsourcing library finds the event store of the `ledger` or of the `anchors`."""
    found = database.parameters()
    return {
        "PERSISTENCE_MODULE": "eventsourcing.postgres",
        "APPLICATION_RECORDER_TOPIC": _RECORDERS[which],
        "POSTGRES_DBNAME": str(found.get("dbname") or found.get("user") or "postgres"),
        "POSTGRES_HOST": str(found.get("host") or "127.0.0.1"),
        "POSTGRES_PORT": str(found.get("port") or "5432"),
        "POSTGRES_USER": str(found.get("user") or "postgres"),
        "POSTGRES_PASSWORD": str(found.get("password") or ""),
        "POSTGRES_SCHEMA": database.schema,
        "POSTGRES_POOL_SIZE": str(POOL_SIZE),
        "POSTGRES_MAX_OVERFLOW": str(MAX_OVERFLOW),
        "POSTGRES_CONNECT_TIMEOUT": "5",
        "POSTGRES_PRE_PING": "n",  # after a restart of the server the pool waits a second for each stale connection
        "POSTGRES_LOCK_TIMEOUT": f"{database.lock_timeout_seconds:.0f}",
        "POSTGRES_IDLE_IN_TRANSACTION_SESSION_TIMEOUT": f"{database.idle_in_transaction_seconds:.0f}",
        "CREATE_TABLE": "n",
    }


class PostgresLedgerRecorder(Sealing, PostgresProcessRecorder):
    """Stores entries, claims and tracking in one transaction. Call `bind` and `attach` before the first write."""

    DATABASE_ERRORS: ClassVar[tuple[type[BaseException], ...]] = (psycopg.Error, PersistenceError, OSError)
    WAITS: ClassVar[bool] = True
    LOCK: ClassVar = "writer"
    CHANNEL: ClassVar = "events"
    TABLE: ClassVar = "stored_events"

    def __init__(self, datastore: PostgresDatastore, events_table_name: str = "", **kwargs: Any) -> None:
        if datastore.enable_db_functions:
            raise ValueError("POSTGRES_ENABLE_DB_FUNCTIONS loses events for readers and drops tracking: switch it off")
        # the library names tables after the application; ours are the migration's, unless a test names another
        table = events_table_name if events_table_name not in {"", "ledger_events", "anchorbook_events"} else self.TABLE
        kwargs["tracking_table_name"] = "tracking"
        super().__init__(datastore, events_table_name=table, **kwargs)
        self.database: Database | None = None
        self._claims = ClaimQueries(datastore.schema, table)
        self._lock = threading.Lock()
        self._connection: psycopg.Connection[Row] | None = None
        self._greatest = 0
        names = {"events": sql.Identifier(datastore.schema, table)}
        names["claims"] = sql.Identifier(datastore.schema, f"{table}_claims")
        self._parcels = sql.Identifier(datastore.schema, f"{table}_parcels")
        self._select_head = sql.SQL("SELECT max(notification_id) FROM {events}").format(**names)
        self._select_state = sql.SQL("SELECT state FROM {events} WHERE notification_id = %s").format(**names)
        self._insert_rows = sql.SQL(
            "INSERT INTO {events} (notification_id, originator_id, originator_version, topic, state)"
            " SELECT * FROM unnest(%b::bigint[], %b::text[]::{ids}[], %b::bigint[], %b::text[], %b::bytea[])"
        ).format(ids=sql.Identifier(datastore.originator_id_type), **names)
        self._insert_claims = sql.SQL(
            "INSERT INTO {claims} (key, position, body, count)"
            " SELECT * FROM unnest(%b::text[], %b::bigint[], %b::text[], %b::bigint[])"
        ).format(**names)

    def attach(self, database: Database) -> None:
        """Name the database that groups are written to, on a connection of their own."""
        self.database = database

    # -- the write lock ----------------------------------------------------------------------------------------------

    def begin(self) -> psycopg.Cursor[Row]:
        """Take the write lock and open a transaction. Raises StorageUnavailable when it cannot be had in time."""
        self._lock.acquire()
        try:
            cursor = self._connected().cursor()
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", (self._attached().lock_key(self.LOCK),))
        except BaseException as error:
            self._drop_connection()
            self._lock.release()
            if isinstance(error, self.DATABASE_ERRORS):
                raise unavailable(error) from error
            raise
        return cursor

    def commit(self) -> None:
        """Make the open transaction durable and give the lock back. Raises StorageUnavailable.

        A crash before it returns leaves all of the transaction or none of it. Whether a commit that raises took effect
        is not known: `stored_after_all` finds it out, and otherwise the caller's command keys recognise it.
        """
        try:
            if self._connection is None:
                raise psycopg.OperationalError("no transaction is open")
            self._connection.commit()
            self._greatest = max(self._greatest, self.last_time[0])
        except psycopg.Error as error:
            self._abandon()
            raise unavailable(error) from error
        finally:
            self._lock.release()

    def rollback(self, cause: BaseException | None = None) -> None:
        """Take back the open transaction and give the lock back. `cause` is the error that led to it, if any."""
        try:
            self._abandon(keep=not isinstance(cause, self.DATABASE_ERRORS))
        finally:
            self._lock.release()

    def stored_after_all(self, key: str, position: int) -> bool:
        """After a commit that raised: whether it took effect, by a command key (hash) and its position.

        Asks under the write lock, so the old transaction has ended, either way. Raises StorageUnavailable.
        """
        for attempt in range(RESOLVE_ATTEMPTS):
            try:
                cursor = self.begin()
            except StorageUnavailable:
                if attempt == RESOLVE_ATTEMPTS - 1:
                    raise
                continue
            try:
                known, _ = self._claims.stored_keys(cursor, [key], [])
            except psycopg.Error as error:
                self.rollback(error)
                raise unavailable(error) from error
            self.rollback()
            return key in known and known[key].first == position
        return False

    def close(self) -> None:
        """Close the writer's connection and the library's pool."""
        with self._lock:
            self._drop_connection()
        self.datastore.close()

    def _attached(self) -> Database:
        if self.database is None:
            raise RuntimeError("attach the recorder to its database before it writes")
        return self.database

    def _connected(self) -> psycopg.Connection[Row]:
        if self._connection is None or not usable(self._connection):
            self._drop_connection()
            self._connection = self._attached().connect(self.LOCK, autocommit=False)
        return self._connection

    def _abandon(self, *, keep: bool = False) -> None:
        """Roll back; after an error of the database the next transaction opens a new connection, too."""
        self.last_time = (0, "")
        try:
            if self._connection is not None:
                self._connection.rollback()
        except psycopg.Error:
            keep = False
        if not keep:
            self._drop_connection()

    def _drop_connection(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    # -- library hooks -----------------------------------------------------------------------------------------------

    def insert_events(self, stored_events: Sequence[StoredEvent], **kwargs: Any) -> Sequence[int] | None:
        """Store events outside a group (the library's own `save`)."""
        with self.writing() as cursor:
            return self._insert_all(cursor, stored_events, **kwargs)

    def insert_tracking(self, tracking: Tracking) -> None:
        """Store a position of an upstream application."""
        with self.writing() as cursor:
            self._track(cursor, tracking)

    @contextmanager
    def writing(self) -> Iterator[psycopg.Cursor[Row]]:
        """A transaction of its own under the write lock, with the library's errors."""
        try:
            cursor = self.begin()
        except StorageUnavailable as error:
            raise OperationalError(str(error)) from error
        try:
            yield cursor
        except BaseException as error:
            self.rollback(error)
            if isinstance(error, psycopg.IntegrityError):
                raise IntegrityError(error) from error
            if isinstance(error, psycopg.Error):
                raise OperationalError(error) from error
            raise
        try:
            self.commit()
        except StorageUnavailable as error:
            raise OperationalError(str(error)) from error

    def _insert_all(
        self,
        c: psycopg.Cursor[Row],
        stored_events: Sequence[StoredEvent],
        *,
        tracking: Tracking | None = None,
        **_: Any,
    ) -> Sequence[int]:
        head = self.head_under_lock(c)
        sealed = any(isinstance(event, Entry) for event in stored_events)
        moment = self.time_under_lock(c, head) if sealed else ""
        rows = list(self.seal(stored_events, head + 1, moment))
        if rows:
            self._insert(c, rows)
        if tracking is not None:
            self._track(c, tracking)
        if sealed:
            self.remember_time(head + len(rows), moment)
        return list(range(head + 1, head + 1 + len(rows)))

    def _track(self, c: psycopg.Cursor[Row], tracking: Tracking) -> None:
        """Raises the library's IntegrityError for a position that was tracked before."""
        values = {"application_name": tracking.application_name, "notification_id": tracking.notification_id}
        c.execute(self.insert_tracking_statement, values)
        if c.fetchone() is None:
            raise psycopg.IntegrityError(f"{tracking.application_name} has tracked {tracking.notification_id} already")

    # -- under the lock ----------------------------------------------------------------------------------------------

    def head_under_lock(self, cursor: psycopg.Cursor[Row]) -> int:
        """The last position, 0 in an empty store.

        Raises LedgerReadOnly, from then on always, when it is lower than it was: the database was restored or failed
        over to a server that lacks the last commits, and writing on would fork the log.
        """
        row = cursor.execute(self._select_head).fetchone()
        head: int = row[0] or 0 if row else 0
        if head < self._greatest:
            reason = f"the store went back from position {self._greatest} to {head}: it was restored or failed over"
            raise LedgerReadOnly(reason, source="store", size=self._greatest)
        self._greatest = head
        return head

    def state_at(self, cursor: psycopg.Cursor[Row], position: int) -> bytes:
        """The entry at a position, which is there."""
        row = cursor.execute(self._select_state, (position,)).fetchone()
        if row is None:
            raise psycopg.OperationalError(f"position {position} is missing")
        return bytes(row[0])

    def stored_keys(
        self, cursor: psycopg.Cursor[Row], commands: Sequence[str], claims: Sequence[str]
    ) -> tuple[dict[str, KnownCommand], set[str]]:
        """The stored commands among these key hashes and the stored ones of these claims."""
        return self._claims.stored_keys(cursor, commands, claims)

    def absent_aggregates(self, cursor: psycopg.Cursor[Row], ids: Sequence[str]) -> set[str]:
        """Those of these aggregates of which nothing is stored."""
        return self._claims.absent_aggregates(cursor, ids)

    def stale_versions(self, cursor: psycopg.Cursor[Row], expected: dict[str, int]) -> set[str]:
        """The aggregates (of these versions, 0 for none) that stand at another version in the store."""
        return self._claims.stale_versions(cursor, expected)

    def insert_group(self, cursor: psycopg.Cursor[Row], rows: Sequence[EventRow], claims: Sequence[ClaimRow]) -> None:
        """Put a group into the open transaction, in one round trip."""
        with cursor.connection.pipeline():
            self._insert(cursor, rows)
            if claims:
                cursor.execute(self._insert_claims, [list(column) for column in zip(*claims, strict=True)])

    def insert_parcels(self, cursor: psycopg.Cursor[Row], parcels: Sequence[tuple[int, Parcel]]) -> None:
        """Put what came with a group into the open transaction."""
        insert_parcels(cursor, self._parcels, parcels)

    def _insert(self, cursor: psycopg.Cursor[Row], rows: Sequence[EventRow]) -> None:
        """Rows as typed arrays, and word to whoever listens, delivered with the commit."""
        cursor.execute(self._insert_rows, [list(column) for column in zip(*rows, strict=True)])
        channel = self._attached().channel(self.CHANNEL)
        cursor.execute("SELECT pg_notify(%s, %s)", (channel, str(rows[-1][0])))


class PostgresAnchorRecorder(PostgresLedgerRecorder):
    """The anchor book's event store: a table, a lock and a channel of its own."""

    LOCK: ClassVar = "anchor writer"
    CHANNEL: ClassVar = "anchor_events"
    TABLE: ClassVar = "anchor_events"

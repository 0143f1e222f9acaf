"""read.db: one SQLite file in WAL mode, an own write connection for each projector, an own read connection a thread.

Readers never wait for writers in WAL mode, so no pool stands between them (facts: a pool's fairness lock costs
milliseconds). Writers wait for each other at `BEGIN IMMEDIATE`, at most `BUSY_TIMEOUT_SECONDS`.
"""

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, ClassVar, Final, Literal, Protocol, runtime_checkable

from projections.schema import SCHEMA_VERSION, STATEMENTS

BUSY_TIMEOUT_SECONDS: Final = 30.0
_CACHED_STATEMENTS: Final = 256
_PAGE_BYTES: Final = 8_192  # entries are about 1 KiB: fewer bytes are left over at the end of a page
_WAL_PAGES: Final = 4_000  # 32 MiB: a bulk import does not checkpoint at every batch
Source = Literal["entries", "anchors"]
_SAVE_PROGRESS: Final = (
    "INSERT INTO progress VALUES (?, ?, ?, ?) ON CONFLICT (source) DO UPDATE"
    " SET position = excluded.position, leaf = excluded.leaf, log = excluded.log"
)


class StoreOutdated(Exception):
    """The file was written by another version of this program; it is derived data: rebuild it."""


class Cursor(Protocol):
    """The rows that a statement gives."""

    def fetchone(self) -> Any:
        """The next row, or None."""
        ...

    def fetchall(self) -> list[Any]:
        """All that are left."""
        ...

    def fetchmany(self, size: int, /) -> list[Any]:
        """At most so many of them."""
        ...


class Connection(Protocol):
    """What the read models need of a database connection; statements have `?` for values."""

    @property
    def in_transaction(self) -> bool:
        """True between BEGIN and its end."""
        ...

    def execute(self, statement: str, values: Sequence[Any] = (), /) -> Any:
        """Run one statement; its `Cursor`."""
        ...


@runtime_checkable
class Batching(Protocol):
    """A connection to another machine, which is sent many statements without waiting for each one's answer."""

    def together(self) -> AbstractContextManager[None]:
        """Inside, statements are only sent; whoever asks for rows waits. Errors are raised at its end at the latest."""
        ...


class AnyReadStore(Protocol):
    """Read models, whatever database they are in."""

    def writer(self) -> Connection:
        """A new write connection, used by one thread at a time."""
        ...

    def reader(self) -> Connection:
        """The calling thread's own read connection."""
        ...

    def snapshot(self) -> AbstractContextManager[Connection]:
        """The calling thread's read connection, held at one moment."""
        ...


class ReadStore:
    """The file of the read models. Opening creates it when it is missing.

    `durable=False` is for files that are made from nothing and thrown away when interrupted (a rebuild).
    Raises StoreOutdated when the file has another schema version.
    """

    DATABASE_ERRORS: ClassVar[tuple[type[BaseException], ...]] = (sqlite3.Error,)

    def __init__(self, path: Path, *, durable: bool = True) -> None:
        self.path = path
        self._durable = durable
        self._local = threading.local()
        self._lock = threading.Lock()
        self._connections: list[sqlite3.Connection] = []
        self._prepare()

    def writer(self) -> sqlite3.Connection:
        """A new write connection in autocommit mode; used by one thread at a time."""
        connection = self._connect()
        # FULL: a committed position is on the disk before anybody is told of it.
        connection.execute(f"PRAGMA synchronous = {'FULL' if self._durable else 'OFF'}")
        connection.execute(f"PRAGMA wal_autocheckpoint = {_WAL_PAGES}")
        connection.execute("PRAGMA cache_size = -65536")
        # Some builds fill freed bytes with zeros: work for nothing, for every row stands in the log for good.
        connection.execute("PRAGMA secure_delete = OFF")
        connection.execute("PRAGMA journal_size_limit = 67108864")
        return connection

    def reader(self) -> sqlite3.Connection:
        """The calling thread's own read connection."""
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._connect()
            connection.execute("PRAGMA query_only = ON")
            self._local.connection = connection
        return connection

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """The calling thread's read connection, held at one moment: all queries inside see the same position."""
        with snapshot(self.reader()) as connection:
            yield connection

    def close(self) -> None:
        """Close every connection that this object has opened."""
        with self._lock:
            connections, self._connections = self._connections, []
        for connection in connections:
            connection.close()
        self._local = threading.local()

    def _prepare(self) -> None:
        connection = self._connect()
        try:
            connection.execute(f"PRAGMA page_size = {_PAGE_BYTES}")  # counts only in a new file
            connection.execute("PRAGMA journal_mode = WAL")
            # A crash inside leaves an empty file or a complete schema, never half of one; the next start repeats it.
            connection.execute("BEGIN IMMEDIATE")
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version == 0:
                for statement in STATEMENTS:
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            connection.execute("COMMIT")
        finally:
            connection.close()
            self._connections.remove(connection)
        if version not in {0, SCHEMA_VERSION}:
            raise StoreOutdated(
                f"{self.path.name} has schema version {version}, this program {SCHEMA_VERSION}: rebuild the read models"
            )

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path,
            timeout=BUSY_TIMEOUT_SECONDS,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=_CACHED_STATEMENTS,
        )
        with self._lock:
            self._connections.append(connection)
        return connection


@contextmanager
def snapshot(connection: Connection) -> Iterator[Connection]:
    """Hold a connection at one moment; inside another snapshot it changes nothing."""
    if connection.in_transaction:
        yield connection
        return
    connection.execute("BEGIN")
    try:
        connection.execute("SELECT position FROM progress LIMIT 1").fetchone()  # takes the snapshot now, not later
        yield connection
    finally:
        connection.execute("COMMIT")


@contextmanager
def transaction(connection: Connection) -> Iterator[Connection]:
    """A write transaction: all of it or nothing."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield connection
        # A crash before this line leaves nothing of the batch, one after it all of it with its position:
        # the processor reads on from the position it finds.
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def progress(connection: Connection, source: Source) -> tuple[int, bytes, str]:
    """(position, leaf hash, log origin) of a source; (0, b"", "") at the beginning."""
    row = connection.execute("SELECT position, leaf, log FROM progress WHERE source = ?", (source,)).fetchone()
    return (0, b"", "") if row is None else (row[0], row[1], row[2])


def save_progress(connection: Connection, source: Source, position: int, leaf: bytes, log: str) -> None:
    """Say how far a source has come, in the transaction of its effects."""
    connection.execute(_SAVE_PROGRESS, (source, position, leaf, log))


def together(connection: Connection) -> AbstractContextManager[None]:
    """Statements whose answers nobody needs one by one: sent in one go where that saves waiting."""
    return connection.together() if isinstance(connection, Batching) else nullcontext()

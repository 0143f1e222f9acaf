"""Connections to one book's schema, with a bound on everything that waits, and one shared way to write.

Every session has time-outs for statements, locks and idle transactions: a process that is stopped in the middle of a
transaction loses its lock to the others instead of holding them up.
"""

import re
import select
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final
from zlib import crc32

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from domain.errors import StorageUnavailable

CONNECT_TIMEOUT_SECONDS: Final = 5
STATEMENT_TIMEOUT_SECONDS: Final = 10.0
LOCK_TIMEOUT_SECONDS: Final = 5.0
IDLE_IN_TRANSACTION_SECONDS: Final = 3.0  # less than the lock's: whoever stops in the middle does not fail the others
UNACKNOWLEDGED_SECONDS: Final = 10  # a server whose machine is gone answers nothing at all
MAX_NOTICES: Final = 100  # that an idle connection may have waiting; more, and it is opened anew
BOOK_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,30}")
Row = tuple[Any, ...]


class DatabaseUrlError(ValueError):
    """The connection string cannot be read; the message does not repeat it (it may hold a password)."""


@dataclass(frozen=True)
class Database:
    """Where one book lies: `conninfo` (a libpq URL or key/value string, secret) and the book's name.

    The schema is `daicho_<book>`; its read models lie in `daicho_<book>_reads` (projections). Time-outs in seconds.
    """

    conninfo: str = field(repr=False)
    book: str = "main"
    statement_timeout_seconds: float = STATEMENT_TIMEOUT_SECONDS
    lock_timeout_seconds: float = LOCK_TIMEOUT_SECONDS
    idle_in_transaction_seconds: float = IDLE_IN_TRANSACTION_SECONDS

    def __post_init__(self) -> None:
        if not BOOK_NAME.fullmatch(self.book):
            raise DatabaseUrlError(f"a book's name is {BOOK_NAME.pattern}, not {self.book!r}")
        self.parameters()

    @property
    def schema(self) -> str:
        """The book's schema."""
        return f"daicho_{self.book}"

    def parameters(self) -> dict[str, Any]:
        """The connection string as libpq keywords. Raises DatabaseUrlError."""
        try:
            return dict(conninfo_to_dict(self.conninfo))
        except psycopg.Error:
            raise DatabaseUrlError("the database's connection string cannot be read") from None

    def options(self) -> dict[str, str]:
        """What each session is told by libpq: search path, time-outs, name of what it is for."""
        settings = {
            "search_path": self.schema,
            "statement_timeout": f"{self.statement_timeout_seconds * 1000:.0f}",
            "lock_timeout": f"{self.lock_timeout_seconds * 1000:.0f}",
            "idle_in_transaction_session_timeout": f"{self.idle_in_transaction_seconds * 1000:.0f}",
            "default_transaction_isolation": r"read\ committed",  # what is read after a lock is what it protects
            "synchronous_commit": "on",  # an answered command survives a power cut, whatever the server's default
            # a plan made for an empty table reads it from end to end, and would be kept while the table grows
            "plan_cache_mode": "force_custom_plan",
        }
        return {
            "options": " ".join(f"-c {name}={value}" for name, value in settings.items()),
            "connect_timeout": str(CONNECT_TIMEOUT_SECONDS),
            "keepalives_idle": "5",
            "keepalives_interval": "2",
            "keepalives_count": "3",
            "tcp_user_timeout": str(UNACKNOWLEDGED_SECONDS * 1000),
            "client_encoding": "utf8",
        }

    def connect(self, purpose: str, *, autocommit: bool = True) -> psycopg.Connection[Row]:
        """A new connection. Raises StorageUnavailable, without the connection string in its words."""
        conninfo = make_conninfo(self.conninfo, application_name=f"daicho {self.book} {purpose}", **self.options())
        try:
            return psycopg.connect(conninfo, autocommit=autocommit)
        except psycopg.Error as error:
            raise unavailable(error) from None

    def lock_key(self, name: str) -> int:
        """The key of the advisory lock of that name in this book: 64 bits, signed."""
        key = crc32(self.schema.encode()) << 32 | crc32(name.encode())
        return key - 2**64 if key >= 2**63 else key

    def channel(self, name: str) -> str:
        """The NOTIFY channel of that name in this book."""
        return f"{self.schema}.{name}"


class Session:
    """One connection for short transactions, usable from any thread, opened again after it broke.

    Every method raises StorageUnavailable when the server refuses or is away; whether a COMMIT took effect is not known
    then. Nothing is repeated here: the caller's own positions, fences and keys recognise what was done. Errors named by
    `keep` are the caller's own affair and reach it as they are.
    """

    def __init__(self, database: Database, purpose: str, *, keep: tuple[type[BaseException], ...] = ()) -> None:
        self.database = database
        self._keep = keep
        self._purpose = purpose
        self._lock = threading.Lock()
        self._connection: psycopg.Connection[Row] | None = None

    @contextmanager
    def transaction(self, *, advisory_lock: str = "") -> Iterator[psycopg.Cursor[Row]]:
        """All of it or nothing; with `advisory_lock` nobody else is in a transaction of that name meanwhile."""
        with self._lock, self._translated():
            connection = self._connected()
            with connection.transaction(), connection.cursor() as cursor:
                if advisory_lock:
                    cursor.execute("SELECT pg_advisory_xact_lock(%s)", (self.database.lock_key(advisory_lock),))
                yield cursor

    def rows(self, query: str, values: Sequence[object] = ()) -> list[Row]:
        """The rows of one statement, in a transaction of its own."""
        with self._lock, self._translated():
            return self._connected().execute(query, values).fetchall()

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._drop()

    def _connected(self) -> psycopg.Connection[Row]:
        if self._connection is None or not usable(self._connection):
            self._drop()
            self._connection = self.database.connect(self._purpose)
        return self._connection

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """PostgreSQL's errors as our trouble; the next call opens a new connection."""
        try:
            yield
        except psycopg.Error as error:
            if isinstance(error, self._keep):
                raise
            self._drop()
            raise unavailable(error) from error


class MarkedCursor:
    """A cursor that takes `?` for values, for statements that SQLite knows, too."""

    def __init__(self, cursor: psycopg.Cursor[Row]) -> None:
        self._cursor = cursor

    def execute(self, statement: str, values: Sequence[object] = (), /) -> psycopg.Cursor[Row]:
        """Run one statement; the cursor."""
        return self._cursor.execute(statement.replace("?", "%s"), values)

    def executemany(self, statement: str, rows: Sequence[Sequence[object]], /) -> None:
        """Run one statement for every row."""
        self._cursor.executemany(statement.replace("?", "%s"), rows)


def usable(connection: psycopg.Connection[Row]) -> bool:
    """False for an idle connection whose server has gone away meanwhile, found out without asking it.

    An idle server has nothing to say but notices and its end; so the first call after its restart is not lost.
    """
    if connection.closed:
        return False
    poller = select.poll()
    poller.register(connection.fileno(), select.POLLIN)
    for _ in range(MAX_NOTICES):
        if not poller.poll(0):
            return connection.pgconn.status == psycopg.pq.ConnStatus.OK
        try:
            connection.pgconn.consume_input()
        except psycopg.Error:
            break
    return False


def unavailable(error: BaseException) -> StorageUnavailable:
    """Our trouble for a database that refuses or is away: the first line of its own words."""
    lines = str(error).strip().splitlines()
    return StorageUnavailable("the database cannot be used for now", reason=lines[0] if lines else type(error).__name__)

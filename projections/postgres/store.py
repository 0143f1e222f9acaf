"""One book's read models in PostgreSQL: schema `daicho_<book>_reads`, a connection for each thread and each projector.

Its owner prepares the schema; services read and write rows, analysts read. Every commit of a projector wakes whoever
listens, by a trigger on `progress`, so no writer can forget it.
"""

import select
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Final
from zlib import crc32

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from domain.errors import StorageUnavailable
from projections.postgres.dialect import definition, translated
from projections.schema import SCHEMA_VERSION, STATEMENTS
from projections.store import Connection, StoreOutdated, snapshot

CONNECT_TIMEOUT_SECONDS: Final = 5
STATEMENT_TIMEOUT_MILLISECONDS: Final = 30_000
LOCK_TIMEOUT_MILLISECONDS: Final = 10_000
IDLE_IN_TRANSACTION_MILLISECONDS: Final = 10_000
UNACKNOWLEDGED_MILLISECONDS: Final = 10_000
MAX_NOTICES: Final = 100  # that an idle connection may have waiting; more, and it is opened anew
_WRITE: Final = "BEGIN IMMEDIATE"
_READ: Final = "BEGIN"
_NOTIFY: Final = """
CREATE FUNCTION tell_progress() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    PERFORM pg_notify(
        {prefix} || CASE NEW.source WHEN 'entries' THEN 'reads' ELSE 'anchor_reads' END, NEW.position::text);
    RETURN NULL;
END $$;
CREATE TRIGGER tell_progress AFTER INSERT OR UPDATE ON progress FOR EACH ROW EXECUTE FUNCTION tell_progress();
"""


class PostgresConnection:
    """A connection as the projections know it from SQLite: statements with `?`, BEGIN, COMMIT, `in_transaction`.

    It opens again by itself after it broke, at the next statement outside a transaction. Raises StorageUnavailable.
    """

    def __init__(self, conninfo: str, schema: str, purpose: str, *, durable: bool = True) -> None:
        options = {
            "search_path": schema,
            "statement_timeout": STATEMENT_TIMEOUT_MILLISECONDS,
            "lock_timeout": LOCK_TIMEOUT_MILLISECONDS,
            "idle_in_transaction_session_timeout": IDLE_IN_TRANSACTION_MILLISECONDS,
            "synchronous_commit": "on" if durable else "off",
        }
        self._conninfo = make_conninfo(
            conninfo,
            application_name=f"{schema} {purpose}",
            options=" ".join(f"-c {name}={value}" for name, value in options.items()),
            connect_timeout=CONNECT_TIMEOUT_SECONDS,
            keepalives_idle=5,
            keepalives_interval=2,
            keepalives_count=3,
            tcp_user_timeout=UNACKNOWLEDGED_MILLISECONDS,
            client_encoding="utf8",
        )
        self._lock_key = crc32(schema.encode())
        self._connection: psycopg.Connection[tuple[Any, ...]] | None = None
        self._inside = False

    @property
    def in_transaction(self) -> bool:
        """True between BEGIN and COMMIT or ROLLBACK, while the connection holds."""
        return self._inside

    def execute(self, statement: str, values: Sequence[object] = ()) -> Any:
        """Run one statement of the read models; its cursor."""
        try:
            if statement in {_WRITE, _READ}:
                return self._begin(statement)
            if statement in {"COMMIT", "ROLLBACK"}:
                return self._end(statement)
            return self._connected().execute(translated(statement), values, binary=True)
        except psycopg.Error as error:
            self._broken(error)
            raise unavailable(error) from error

    @contextmanager
    def together(self) -> Iterator[None]:
        """Statements that follow each other without waiting for answers (libpq's pipeline mode)."""
        try:
            with self._connected().pipeline():
                yield
        except psycopg.Error as error:
            self._broken(error)
            raise unavailable(error) from error

    def close(self) -> None:
        """Close it for good."""
        if self._connection is not None:
            self._connection.close()

    def _begin(self, statement: str) -> Any:
        connection = self._connected()
        if statement == _READ:
            cursor = connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        else:
            cursor = connection.execute("BEGIN")
            # one projector at a time, in whatever process: the second one sees the first one's position
            connection.execute("SELECT pg_advisory_xact_lock($1)", (self._lock_key,))
        self._inside = True
        return cursor

    def _end(self, statement: str) -> Any:
        self._inside = False
        return self._connected().execute(statement)

    def _connected(self) -> psycopg.Connection[tuple[Any, ...]]:
        if self._inside:
            if self._connection is None or self._connection.closed:
                self._inside = False
                raise psycopg.OperationalError("the connection was lost inside a transaction")
        elif self._connection is None or not usable(self._connection):
            self.close()
            self._connection = psycopg.connect(self._conninfo, autocommit=True, cursor_factory=psycopg.RawCursor)
        return self._connection

    def _broken(self, error: psycopg.Error) -> None:
        """After a failed statement the transaction is void; one that lost its connection has ended already."""
        if self._connection is not None and (self._connection.closed or not isinstance(error, psycopg.DatabaseError)):
            self._inside = False


class PostgresReadStore:
    """The read models of one book. Raises StoreOutdated when the schema is of another version, StorageUnavailable.

    `suffix` names a schema beside the live one, which a rebuild fills (`projections.postgres.rebuild`).
    """

    DATABASE_ERRORS: ClassVar[tuple[type[BaseException], ...]] = (psycopg.Error,)

    def __init__(self, conninfo: str, book: str, *, suffix: str = "", durable: bool = True) -> None:
        self._conninfo, self._schema, self._durable = conninfo, reads_schema(book, suffix), durable
        self._local = threading.local()
        self._lock = threading.Lock()
        self._connections: list[PostgresConnection] = []
        self._check()

    @staticmethod
    def prepare(owner_conninfo: str, book: str, *, suffix: str = "") -> bool:
        """Create the schema if it is missing, as the database's owner; True when it was made now.

        A crash inside leaves nothing of it: all is one transaction.
        """
        schema = reads_schema(book, suffix)
        try:
            with psycopg.connect(owner_conninfo, connect_timeout=CONNECT_TIMEOUT_SECONDS) as connection:
                connection.execute("SELECT pg_advisory_xact_lock(%s)", (crc32(schema.encode()),))
                if _exists(connection, schema):
                    return False
                create_schema(connection, book, schema)
                return True
        except psycopg.Error as error:
            raise unavailable(error) from error

    def writer(self) -> PostgresConnection:
        """A new write connection; used by one thread at a time."""
        return self._open("write")

    def reader(self) -> PostgresConnection:
        """The calling thread's own read connection."""
        connection: PostgresConnection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = self._open("read")
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

    def _open(self, purpose: str) -> PostgresConnection:
        connection = PostgresConnection(self._conninfo, self._schema, purpose, durable=self._durable)
        with self._lock:
            self._connections.append(connection)
        return connection

    def _check(self) -> None:
        connection = PostgresConnection(self._conninfo, self._schema, "check")
        try:
            rows = connection.execute("SELECT version FROM read_models").fetchall()
        except StorageUnavailable as error:
            if isinstance(error.__cause__, psycopg.errors.UndefinedTable):
                raise StoreOutdated(f"there is no schema {self._schema} yet: run `daicho database migrate`") from None
            raise
        finally:
            connection.close()
        if rows != [(SCHEMA_VERSION,)]:
            versions = f"schema version {rows[0][0]}, this program {SCHEMA_VERSION}"
            raise StoreOutdated(f"{self._schema} has {versions}: rebuild the read models")


def reads_schema(book: str, suffix: str = "") -> str:
    """The name of the schema that holds a book's read models."""
    return f"daicho_{book}_reads{suffix}"


def create_schema(connection: psycopg.Connection[Any], book: str, schema: str) -> None:
    """Create tables, trigger and grants in a new schema, inside the caller's transaction."""
    name = sql.Identifier(schema)
    writer, reader = sql.Identifier(f"daicho_{book}_writer"), sql.Identifier(f"daicho_{book}_reader")
    connection.execute(sql.SQL("CREATE SCHEMA {}").format(name))
    connection.execute(sql.SQL("SET LOCAL search_path TO {}").format(name))
    connection.execute("CREATE TABLE read_models (version BIGINT NOT NULL)")
    connection.execute("INSERT INTO read_models VALUES (%s)", (SCHEMA_VERSION,))
    for statement in STATEMENTS:
        connection.execute(definition(statement))
    connection.execute(sql.SQL(_NOTIFY).format(prefix=sql.Literal(f"daicho_{book}.")))
    connection.execute(sql.SQL("GRANT USAGE ON SCHEMA {} TO {}, {}").format(name, writer, reader))
    tables = sql.SQL("GRANT {} ON ALL TABLES IN SCHEMA {} TO {}")
    connection.execute(tables.format(sql.SQL("SELECT, INSERT, UPDATE, DELETE"), name, writer))
    connection.execute(tables.format(sql.SQL("SELECT"), name, reader))


def usable(connection: psycopg.Connection[Any]) -> bool:
    """False for an idle connection whose server has gone away meanwhile, found out without asking it.

    An idle server has nothing to say but notices and its end; so the first read after its restart is not lost.
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


def unavailable(error: psycopg.Error) -> StorageUnavailable:
    """Our trouble for a database that refuses or is away: the first line of its own words."""
    lines = str(error).strip().splitlines()
    reason = lines[0] if lines else type(error).__name__
    return StorageUnavailable("the read models cannot be used for now", reason=reason)


def _exists(connection: psycopg.Connection[Any], schema: str) -> bool:
    return connection.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", (schema,)).fetchone() is not None

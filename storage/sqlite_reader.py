"""Reading a SQLite file from any thread, a connection each, beside whoever writes it. Never writes."""

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Final

from domain.errors import StorageUnavailable

_CACHE_KIB: Final = 8192


class SqliteReader:
    """Connections of its own: the library's pool makes readers wait for the writer.

    Every method raises StorageUnavailable when the database cannot be read; `WHAT` names what that is.
    """

    WHAT: ClassVar[str]

    def __init__(self, path: Path | str) -> None:
        self._path = Path(path)
        self._local = threading.local()
        self._opened: list[sqlite3.Connection] = []
        self._lock = threading.Lock()

    def close(self) -> None:
        """Close every connection."""
        with self._lock:
            for connection in self._opened:
                connection.close()
            self._opened.clear()
        self._local = threading.local()

    def _fetch(self, statement: str, params: Sequence[object] = ()) -> list[Any]:
        with self._reading() as cursor:
            return cursor.execute(statement, params).fetchall()

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Cursor]:
        """A cursor of this thread's connection; StorageUnavailable when it fails, and a new connection next time."""
        try:
            yield self._connection().cursor()
        except sqlite3.Error as error:
            self._drop_connection()
            raise StorageUnavailable(f"{self.WHAT} cannot be read for now", reason=str(error)) from error

    def _connection(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            uri = f"{self._path.resolve().as_uri()}?mode=ro"
            connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
            self._local.connection = connection
            with self._lock:
                self._opened.append(connection)
            connection.execute(f"PRAGMA cache_size=-{_CACHE_KIB}")
        return connection

    def _drop_connection(self) -> None:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is not None:
            self._local.connection = None
            with self._lock:
                self._opened.remove(connection)
            connection.close()

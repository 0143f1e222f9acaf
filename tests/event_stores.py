"""Event stores for the writer's contract suite: each can be opened by several processes, and its disk can fail.

A second implementation (PostgreSQL) is one more class like `SqliteStore`, added to `EVENT_STORES`.
"""

import resource
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from domain.errors import StorageUnavailable
from tests.ledger_kit import Book, Custodian, open_book


class EventStore(Protocol):
    """What the suite needs of an implementation. All faults are the database's own, but for the lost answers."""

    def open(self, **limits: Any) -> Book:
        """One more process on the store. All processes share one custodian of keys."""

    def full_disk(self, book: Book) -> Any:
        """While in this context, `book` finds no more room for what it writes."""

    def read_only(self, book: Book) -> Any:
        """While in this context, `book` may not write."""

    def locked(self) -> Any:
        """While in this context, somebody else holds the write lock and does not let go."""

    def lost_answers(self, book: Book) -> Any:
        """While in this context, commits of `book` become durable, and then their answer is lost."""

    def failing_commits(self, book: Book) -> Any:
        """While in this context, commits of `book` fail and nothing becomes durable."""

    def broken_reads(self) -> Any:
        """While in this context, nobody can read what is stored."""

    def close(self) -> None:
        """Close every process on the store."""


class SqliteStore:
    """One file; a process is a recorder with a connection of its own."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "ledger.db"
        self.custodian = Custodian()
        self.books: list[Book] = []

    def open(self, **limits: Any) -> Book:
        book = open_book(self.path, custodian=self.custodian, **limits)
        self.books.append(book)
        return book

    @contextmanager
    def full_disk(self, book: Book) -> Iterator[None]:
        """The database may not grow by a page."""
        pages = book.recorder._connection()._sqlite_conn.execute("PRAGMA page_count").fetchone()[0]
        with self._each_connection(book, f"PRAGMA max_page_count={pages}"):
            yield

    @contextmanager
    def file_size_limit(self, book: Book) -> Iterator[None]:
        """The operating system refuses to let the write-ahead log grow."""
        grown = self.path.with_name(self.path.name + "-wal").stat().st_size
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (grown, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    @contextmanager
    def read_only(self, book: Book) -> Iterator[None]:
        pool = book.recorder.datastore.pool
        pool.db_name = f"{self.path.as_uri()}?mode=ro"
        book.recorder._drop_writer()
        yield
        pool.db_name = str(self.path)

    @contextmanager
    def locked(self) -> Iterator[None]:
        holder = sqlite3.connect(self.path, isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        yield
        holder.close()

    @contextmanager
    def lost_answers(self, book: Book) -> Iterator[None]:
        really = book.recorder.commit

        def commit() -> None:
            really()
            raise StorageUnavailable("the event store refuses the write for now", reason="the answer was lost")

        book.recorder.commit = commit  # type: ignore[method-assign]
        yield
        book.recorder.commit = really  # type: ignore[method-assign]

    @contextmanager
    def failing_commits(self, book: Book) -> Iterator[None]:
        """A violation that only COMMIT finds: a deferred foreign key, written by a trigger of the connection."""
        with self._each_connection(
            book,
            "PRAGMA foreign_keys=ON",
            "CREATE TABLE IF NOT EXISTS parent (id INTEGER PRIMARY KEY)",
            "CREATE TABLE IF NOT EXISTS child (id INTEGER REFERENCES parent DEFERRABLE INITIALLY DEFERRED)",
            "CREATE TEMP TRIGGER IF NOT EXISTS trap AFTER INSERT ON main.stored_events "
            "BEGIN INSERT INTO child VALUES (7); END",
        ):
            yield

    @contextmanager
    def broken_reads(self) -> Iterator[None]:
        other = sqlite3.connect(self.path)
        for table in ("stored_events", "stored_events_claims"):
            other.execute(f"ALTER TABLE {table} RENAME TO hidden_{table}")
        yield
        for table in ("stored_events", "stored_events_claims"):
            other.execute(f"ALTER TABLE hidden_{table} RENAME TO {table}")
        other.close()

    def close(self) -> None:
        for book in self.books:
            book.close()

    @staticmethod
    @contextmanager
    def _each_connection(book: Book, *statements: str) -> Iterator[None]:
        """Every connection that writes for `book` begins with these statements."""
        really = book.recorder._connection

        def prepared() -> Any:
            connection = really()
            for statement in statements:
                connection._sqlite_conn.execute(statement)
            return connection

        book.recorder._connection = prepared  # type: ignore[method-assign]
        yield
        book.recorder._connection = really  # type: ignore[method-assign]
        book.recorder._drop_writer()


EVENT_STORES: dict[str, type[SqliteStore]] = {"sqlite": SqliteStore}

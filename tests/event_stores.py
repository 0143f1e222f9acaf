"""Event stores for the writer's contract suite: each can be opened by several processes, and its disk can fail.

One more implementation is one more class like `SqliteStore`, added to `EVENT_STORES`.
"""

import resource
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from domain.errors import StorageUnavailable
from storage.entry_log import SqliteEntryLog
from storage.parcels import SqliteParcels
from storage.postgres.entry_log import PostgresEntryLog
from storage.postgres.parcels import PostgresParcels
from tests.ledger_kit import Book, Custodian, open_book, open_postgres_book
from tests.postgres_server import shared_server


class EventStore(Protocol):
    """What the suite needs of an implementation. All faults are the database's own, but for the lost answers."""

    def open(self, **limits: Any) -> Book:
        """One more process on the store. All processes share one custodian of keys."""

    def read_alone(self) -> Any:
        """A reader of the store's entries without any writer."""

    def parcels(self) -> Any:
        """A reader of the store's inbox without any writer."""

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

    def read_alone(self) -> SqliteEntryLog:
        return SqliteEntryLog(self.path)

    def parcels(self) -> SqliteParcels:
        return SqliteParcels(self.path)

    @contextmanager
    def full_disk(self, book: Book) -> Iterator[None]:
        """The database may not grow by a page."""
        pages = book.recorder._connection()._sqlite_conn.execute("PRAGMA page_count").fetchone()[0]
        with self._each_connection(book, f"PRAGMA max_page_count={pages}"):
            yield

    @contextmanager
    def cut_off(self, book: Book) -> Iterator[None]:
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


class PostgresStore:
    """One database of a real server; a process is a recorder with a connection of its own."""

    def __init__(self, folder: Path) -> None:
        self.database = shared_server().new_database()
        self.custodian = Custodian()
        self.books: list[Book] = []

    def open(self, **limits: Any) -> Book:
        impatient = replace(self.database.writer, lock_timeout_seconds=0.5)
        book = open_postgres_book(impatient, custodian=self.custodian, **limits)
        self.books.append(book)
        return book

    def read_alone(self) -> PostgresEntryLog:
        return PostgresEntryLog(self.database.reader)

    def parcels(self) -> PostgresParcels:
        return PostgresParcels(self.database.reader)

    @contextmanager
    def full_disk(self, book: Book) -> Iterator[None]:
        """The server answers every insert as it does when its disk is full."""
        full = (
            "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = '53100'; END $$"
        )
        trap = "CREATE TRIGGER full_disk BEFORE INSERT ON stored_events EXECUTE FUNCTION full_disk()"
        with self._as_owner(full, trap, then="DROP FUNCTION full_disk CASCADE"):
            yield

    @contextmanager
    def read_only(self, book: Book) -> Iterator[None]:
        """The server is read-only for the service's login, as a stand-by is."""
        login = self.database.writer.parameters()["user"]
        setting = f"ALTER ROLE {login} IN DATABASE {self.database.name} {{}} default_transaction_read_only"
        with self._as_owner(f"{setting.format('SET')} = on", then=setting.format("RESET")):
            book.recorder._drop_connection()
            yield
        book.recorder._drop_connection()

    @contextmanager
    def cut_off(self, book: Book) -> Iterator[None]:
        """The server ends the session in the middle of the insert."""
        end = (
            "CREATE FUNCTION cut_off() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS "
            "$$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END $$"
        )
        trap = "CREATE TRIGGER cut_off BEFORE INSERT ON stored_events EXECUTE FUNCTION cut_off()"
        with self._as_owner(end, trap, then="DROP FUNCTION cut_off CASCADE"):
            yield

    @contextmanager
    def locked(self) -> Iterator[None]:
        holder = replace(self.database.owner, idle_in_transaction_seconds=60.0).connect("holder", autocommit=False)
        holder.execute("SELECT pg_advisory_xact_lock(%s)", (self.database.owner.lock_key("writer"),))
        yield
        holder.close()

    @contextmanager
    def lost_answers(self, book: Book) -> Iterator[None]:
        """The answer is lost for good: it cannot be found out afterwards either."""
        really, look = book.recorder.commit, book.recorder.stored_after_all

        def commit() -> None:
            really()
            raise StorageUnavailable("the event store refuses the write for now", reason="the answer was lost")

        def nobody_there(key: str, position: int) -> bool:
            raise StorageUnavailable("the event store refuses the write for now", reason="nobody answers")

        book.recorder.commit, book.recorder.stored_after_all = commit, nobody_there
        yield
        book.recorder.commit, book.recorder.stored_after_all = really, look

    @contextmanager
    def failing_commits(self, book: Book) -> Iterator[None]:
        """A violation that only COMMIT finds: a deferred constraint trigger."""
        check = (
            "CREATE FUNCTION no_commit() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION 'not at commit'; END $$"
        )
        trap = (
            "CREATE CONSTRAINT TRIGGER no_commit AFTER INSERT ON stored_events DEFERRABLE INITIALLY DEFERRED "
            "FOR EACH ROW EXECUTE FUNCTION no_commit()"
        )
        with self._as_owner(check, trap, then="DROP FUNCTION no_commit CASCADE"):
            yield

    @contextmanager
    def broken_reads(self) -> Iterator[None]:
        hide = [f"ALTER TABLE {table} RENAME TO hidden_{table}" for table in ("stored_events", "stored_events_claims")]
        with self._as_owner(*hide, then="ALTER TABLE hidden_stored_events RENAME TO stored_events"):
            yield
        with self._as_owner("ALTER TABLE hidden_stored_events_claims RENAME TO stored_events_claims"):
            pass

    def close(self) -> None:
        for book in self.books:
            book.close()
        self.database.drop()

    @contextmanager
    def _as_owner(self, *statements: str, then: str = "") -> Iterator[None]:
        with self.database.owner.connect("fault") as owner:
            for statement in statements:
                owner.execute(statement)
            yield
            if then:
                owner.execute(then)


EVENT_STORES: dict[str, Any] = {"sqlite": SqliteStore, "postgres": PostgresStore}

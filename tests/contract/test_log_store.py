"""What every log store owes the sequencer: gapless, durable, one head at a time, damage named."""

import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from merkle.hashing import leaf_hashes
from storage.log_store import (
    LogConflictError,
    LogDamagedError,
    LogStoreError,
    LogUnavailableError,
    SqliteLogStore,
    StoredCheckpoint,
)
from storage.postgres.log_store import PostgresLogStore
from tests.postgres_server import TestDatabase

LEAVES = leaf_hashes(b"%d" % number for number in range(3000))


def hashes(start: int, end: int) -> bytes:
    """The leaf hashes of positions start+1..end."""
    return LEAVES[32 * start : 32 * end]


def checkpoint(size: int, root: bytes = b"r" * 32) -> StoredCheckpoint:
    return StoredCheckpoint(size, root, b"note %d" % size, "2026-11-22T05:02:32.000000Z")


@pytest.fixture(params=["sqlite", "postgres"])
def reopen(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Any]:
    """Opens the same store, anew at each call, as a restart does."""
    opened: list[Any] = []
    database = request.getfixturevalue("database") if request.param == "postgres" else None

    def open_store() -> Any:
        opened.append(PostgresLogStore(database.writer) if database else SqliteLogStore(tmp_path / "log.db"))
        return opened[-1]

    request.addfinalizer(lambda: [store.close() for store in opened])  # noqa: PT021 - a closure over what was opened
    return open_store


def test_a_new_store_is_at_the_beginning(reopen: Callable[[], Any]) -> None:
    store = reopen()
    assert store.position() == (0, b"")
    assert b"".join(store.load()) == b""
    assert store.last_checkpoint() is None
    assert store.checkpoint_at_least(1) is None


@pytest.mark.parametrize("batch", [1, 100, 255, 256, 257, 600, 3000])
def test_what_was_appended_is_there_after_a_restart_in_whatever_batches(reopen: Callable[[], Any], batch: int) -> None:
    store = reopen()
    for start in range(0, 700 if batch == 1 else 3000, batch):
        store.append(start + 1, hashes(start, start + batch))
    end = store.position()[0]
    again = reopen()
    assert again.position() == (end, hashes(end - 1, end))
    assert b"".join(again.load()) == hashes(0, end)


def test_a_gap_or_a_repeat_is_refused_and_changes_nothing(reopen: Callable[[], Any]) -> None:
    store = reopen()
    store.append(1, hashes(0, 300))
    for first in (0, 1, 300, 302):
        with pytest.raises(LogConflictError, match="after 300"):
            store.append(first, hashes(first, first + 5))
    for broken in (b"", b"x" * 31, b"x" * 65):
        with pytest.raises(LogStoreError, match="whole leaf hashes"):
            store.append(301, broken)
    assert store.position() == (300, hashes(299, 300))
    assert b"".join(reopen().load()) == hashes(0, 300)


def test_a_second_writer_on_the_same_log_fails_loudly(reopen: Callable[[], Any]) -> None:
    first, second = reopen(), reopen()
    first.append(1, hashes(0, 10))
    with pytest.raises(LogConflictError):
        second.append(1, hashes(0, 10))
    first.add_checkpoint(0, checkpoint(10))
    with pytest.raises(LogConflictError, match="the last checkpoint is 10, not 0"):
        second.add_checkpoint(0, checkpoint(9))


def test_two_heads_of_equal_size_are_never_stored(reopen: Callable[[], Any]) -> None:
    store = reopen()
    store.append(1, hashes(0, 10))
    store.add_checkpoint(0, checkpoint(10))
    for previous in (0, 10):
        for root in (b"r" * 32, b"s" * 32):
            with pytest.raises(LogStoreError):
                store.add_checkpoint(previous, checkpoint(10, root))
    assert store.last_checkpoint() == checkpoint(10)


def test_a_head_only_grows_and_never_beyond_what_is_stored(reopen: Callable[[], Any]) -> None:
    store = reopen()
    store.append(1, hashes(0, 10))
    store.add_checkpoint(0, checkpoint(8))
    for size in (7, 11):
        with pytest.raises(LogStoreError, match=f"checkpoint {size} after 8, the log reaches 10"):
            store.add_checkpoint(8, checkpoint(size))
    store.add_checkpoint(8, checkpoint(10))
    assert reopen().last_checkpoint() == checkpoint(10)


def test_a_size_is_covered_by_the_smallest_head_that_reaches_it(reopen: Callable[[], Any]) -> None:
    store = reopen()
    store.append(1, hashes(0, 100))
    for previous, size in ((0, 10), (10, 20), (20, 100)):
        store.add_checkpoint(previous, checkpoint(size))
    assert store.checkpoint_at_least(1) == checkpoint(10)
    assert store.checkpoint_at_least(10) == checkpoint(10)
    assert store.checkpoint_at_least(11) == checkpoint(20)
    assert store.checkpoint_at_least(100) == checkpoint(100)
    assert store.checkpoint_at_least(101) is None


def test_a_load_in_progress_is_not_disturbed_by_an_append(reopen: Callable[[], Any]) -> None:
    store = reopen()
    for start in range(0, 2000, 500):
        store.append(start + 1, hashes(start, start + 500))
    chunks = store.load()
    loaded = next(chunks)
    store.append(2001, hashes(2000, 3000))
    assert loaded + b"".join(chunks) == hashes(0, 2000)


def test_readers_in_other_threads_see_only_whole_batches(reopen: Callable[[], Any]) -> None:
    store = reopen()
    wrong: list[object] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            position, leaf = store.position()
            if position % 10 or leaf != hashes(position - 1, position) * (position > 0):
                wrong.append((position, leaf))

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for start in range(0, 600, 10):
        store.append(start + 1, hashes(start, start + 10))
    done.set()
    for reader in readers:
        reader.join()
    assert wrong == []


# ---- SQLite only: the file and what may happen to it


def damaged(path: Path, statement: str, *bound: object) -> SqliteLogStore:
    """A store of 700 leaves (tiles 0, 1 and 188 hashes of tile 2) after `statement` was run on its file."""
    store = SqliteLogStore(path)
    store.append(1, hashes(0, 700))
    with closing(sqlite3.connect(path)) as file:
        file.execute(statement, bound)
        file.commit()
    return store


@pytest.mark.parametrize(
    ("statement", "bound", "named"),
    [
        ("DELETE FROM tile WHERE number = 0", (), "tile 0: missing"),
        ("DELETE FROM tile WHERE number = 1", (), "tile 1: missing"),
        ("DELETE FROM tile WHERE number = 2", (), "tile 2: missing"),
        ("UPDATE tile SET hashes = substr(hashes, 1, 8191) WHERE number = 1", (), "tile 1: 8191 bytes instead of 8192"),
        ("UPDATE tile SET hashes = substr(hashes, 1, 32) WHERE number = 2", (), "tile 2: 32 bytes instead of 6016"),
        ("UPDATE tile SET hashes = ? WHERE number = 2", (hashes(0, 188),), "tile 2: its last hash is not"),
        ("INSERT INTO tile VALUES (3, ?)", (hashes(0, 1),), "tile 3: missing or too many"),
        ("UPDATE reached SET position = 699", (), "tile 2: 6016 bytes instead of 5984"),
    ],
)
def test_damage_is_found_at_load_and_names_the_tile(
    tmp_path: Path, statement: str, bound: tuple[object, ...], named: str
) -> None:
    store = damaged(tmp_path / "log.db", statement, *bound)
    with pytest.raises(LogDamagedError, match=named):
        list(store.load())
    store.close()


def test_nothing_is_appended_to_a_damaged_last_tile(tmp_path: Path) -> None:
    store = damaged(tmp_path / "log.db", "UPDATE tile SET hashes = x'00' WHERE number = 2")
    with pytest.raises(LogDamagedError, match="tile 2: 1 bytes instead of 6016"):
        store.append(701, hashes(700, 710))
    assert store.position() == (700, hashes(699, 700))
    store.close()


def test_a_file_that_is_no_database_is_named_as_damage(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    path.write_bytes(b"not a database at all, but long enough to look" * 100)
    with pytest.raises(LogDamagedError, match=r"log\.db"):
        SqliteLogStore(path)


def test_a_file_of_a_newer_format_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    with closing(sqlite3.connect(path)) as file:
        file.execute("PRAGMA user_version = 99")
    with pytest.raises(LogStoreError, match="format 99"):
        SqliteLogStore(path)


def test_a_full_disk_is_said_to_be_passing_and_leaves_nothing_half_done(tmp_path: Path) -> None:
    store = SqliteLogStore(tmp_path / "log.db")
    store.append(1, hashes(0, 300))
    pages = store._writer.execute("PRAGMA page_count").fetchone()[0]
    store._writer.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(LogUnavailableError, match="full"):
        store.append(301, hashes(300, 3000))
    assert store.position() == (300, hashes(299, 300))
    store._writer.execute("PRAGMA max_page_count = 1000000")
    store.append(301, hashes(300, 3000))
    assert b"".join(store.load()) == hashes(0, 3000)
    store.close()


def test_commits_are_synced_to_disk_before_they_are_answered(tmp_path: Path) -> None:
    store = SqliteLogStore(tmp_path / "log.db")
    assert store._writer.execute("PRAGMA synchronous").fetchone()[0] == 2
    assert store._writer.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
    store.close()


def test_a_follower_reads_only_what_is_new(reopen: Callable[[], Any]) -> None:
    store = reopen()
    store.append(1, hashes(0, 700))
    for size in (0, 1, 255, 256, 257, 512, 699, 700):
        assert b"".join(store.load_from(size)) == hashes(size, 700)


# ---- PostgreSQL alone

DAMAGES = {
    "missing": "DELETE FROM tile WHERE number = 1",
    "short": "UPDATE tile SET hashes = substr(hashes, 1, 31) WHERE number = 1",
    "too many": "INSERT INTO tile VALUES (9, 'x')",
    "another last hash": "UPDATE reached SET leaf = 'x'",
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_in_postgresql_is_found_at_load_and_names_the_tile(database: TestDatabase, damage: str) -> None:
    store = PostgresLogStore(database.writer)
    store.append(1, hashes(0, 700))
    with database.owner.connect("damage") as owner:
        owner.execute(DAMAGES[damage])
    with pytest.raises(LogDamagedError, match="tile"):
        b"".join(store.load())
    store.close()


def test_a_session_ended_between_two_writes_costs_no_failure(database: TestDatabase) -> None:
    store = PostgresLogStore(database.writer)
    store.append(1, hashes(0, 10))
    with database.owner.connect("fault") as owner:
        owner.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name LIKE '% log'"
        )
    store.append(11, hashes(10, 20))
    assert b"".join(store.load()) == hashes(0, 20)
    store.close()


def test_a_stored_checkpoint_wakes_whoever_listens(database: TestDatabase) -> None:
    store = PostgresLogStore(database.writer)
    store.append(1, hashes(0, 10))
    with database.reader.connect("listen") as listener:
        listener.execute('LISTEN "daicho_main.checkpoints"')
        store.add_checkpoint(0, checkpoint(7))
        (told,) = listener.notifies(timeout=10, stop_after=1)
    assert told.payload == "7"
    store.close()

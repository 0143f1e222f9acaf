"""Due work is done by one worker at a time, never lost, and only the worker that holds it may report."""

import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from domain.errors import StorageUnavailable
from domain.ledger import Ledger
from storage.due_work import _LEASE, NOTHING_BEFORE, DueWork, DueWorkStore, LeaseLost, Work
from storage.postgres.due_work import PostgresDueWork
from tests.postgres_server import TestDatabase

NOW = 1_795_000_000.0
KIND = "anchor"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "work.db"


@pytest.fixture(params=["sqlite", "postgres"])
def reopen(request: pytest.FixtureRequest, path: Path) -> Iterator[Callable[[], DueWorkStore]]:
    """Opens the same due work, anew at each call, as another process does."""
    opened: list[DueWorkStore] = []
    database = request.getfixturevalue("database") if request.param == "postgres" else None

    def open_work() -> DueWorkStore:
        opened.append(PostgresDueWork(database.writer) if database else DueWork(path))
        return opened[-1]

    yield open_work
    for each in opened:
        each.close()


@pytest.fixture
def work(reopen: Callable[[], DueWorkStore]) -> DueWorkStore:
    return reopen()


@pytest.fixture
def other(reopen: Callable[[], DueWorkStore], work: DueWorkStore) -> DueWorkStore:
    """The same work, opened by somebody else."""
    return reopen()


def piece(key: str, due_at: float = NOW, kind: str = KIND) -> Work:
    return Work(kind, key, "{}", due_at)


def keys(work: DueWorkStore, owner: str = "one", now: float = NOW, limit: int = 10, seconds: float = 30.0) -> list[str]:
    return [lease.key for lease in work.lease(KIND, owner, seconds, now, limit)]


# ---- putting


def test_the_same_key_is_stored_once(work: DueWorkStore) -> None:
    assert work.put(piece("a"), piece("b")) == 2
    assert work.put(piece("a", NOW + 9), piece("c")) == 1
    assert keys(work) == ["a", "b", "c"]


def test_a_key_may_come_again_once_its_work_is_done(work: DueWorkStore) -> None:
    work.put(piece("a"))
    work.done(*work.lease(KIND, "one", 30, NOW))
    assert work.put(piece("a")) == 1


def test_payloads_and_keys_come_back_as_they_were(work: DueWorkStore) -> None:
    odd = Work(KIND, "緑茶 'x' \"y\" \\ 1", '{"note":"50% \\u0000 緑茶"}', NOW - 0.125)
    work.put(odd)
    lease = work.lease(KIND, "one", 30, NOW)[0]
    assert (lease.kind, lease.key, lease.payload, lease.due_at) == (odd.kind, odd.key, odd.payload, odd.due_at)


def test_work_and_position_are_stored_together_or_not_at_all(work: DueWorkStore, other: DueWorkStore) -> None:
    def crash() -> None:
        with work.transaction() as transaction:
            transaction.put(piece("a"))
            transaction.save_position("p", 7, b"leaf", "state")
            raise RuntimeError("the process ends here")

    with pytest.raises(RuntimeError):
        crash()
    assert other.position("p") == (0, b"", "")
    assert keys(other) == []
    with work.transaction() as transaction:
        transaction.put(piece("a"))
        transaction.save_position("p", 7, b"leaf", "state")
    assert other.position("p") == (7, b"leaf", "state")
    assert keys(other) == ["a"]


# ---- leases


def test_work_is_leased_when_it_is_due_earliest_first(work: DueWorkStore) -> None:
    work.put(piece("late", NOW + 5), piece("second", NOW - 1), piece("first", NOW - 2), piece("x", NOW, kind="other"))
    assert keys(work, limit=1) == ["first"]
    assert keys(work) == ["second"]
    assert work.next_at(KIND) == NOW + 5
    assert keys(work, now=NOW + 5) == ["late"]


def test_two_owners_never_hold_the_same_work(work: DueWorkStore, other: DueWorkStore) -> None:
    work.put(*(piece(f"k{i:03}") for i in range(200)))
    taken: dict[str, list[str]] = {"one": [], "two": []}
    begin = threading.Barrier(2)

    def take(store: DueWorkStore, owner: str) -> None:
        begin.wait()
        while leases := store.lease(KIND, owner, 30, NOW, 3):
            taken[owner] += [lease.key for lease in leases]

    threads = [threading.Thread(target=take, args=args) for args in ((work, "one"), (other, "two"))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken["one"] + taken["two"]) == [f"k{i:03}" for i in range(200)]


def test_a_lease_that_ran_out_is_taken_over(work: DueWorkStore, other: DueWorkStore) -> None:
    work.put(piece("a"))
    assert keys(work, "one", seconds=30) == ["a"]
    assert keys(other, "two", now=NOW + 29.9) == []
    assert work.next_at(KIND) == NOW + 30
    again = other.lease(KIND, "two", 30, NOW + 30)[0]
    assert (again.key, again.attempts) == ("a", 2)


@pytest.mark.parametrize("report", ["done", "retry", "again", "extend"])
@pytest.mark.parametrize("owner", ["two", "one"], ids=["by another", "by a later self"])
def test_a_worker_that_was_overtaken_cannot_report(
    work: DueWorkStore, other: DueWorkStore, report: str, owner: str
) -> None:
    work.put(piece("a"))
    late = work.lease(KIND, "one", 30, NOW)
    current = other.lease(KIND, owner, 30, NOW + 31)[0]
    reports = {
        "done": lambda: work.done(*late),
        "retry": lambda: work.retry(*late, error="late", due_at=NOW),
        "again": lambda: work.again(*late, due_at=NOW),
        "extend": lambda: work.extend(late, 30, NOW + 31),
    }
    with pytest.raises(LeaseLost, match="lease 1 of one was taken over"):
        reports[report]()
    other.done(current)
    assert work.rows(NOW) == []
    with pytest.raises(LeaseLost):
        reports[report]()


def test_a_late_worker_that_was_not_overtaken_may_still_report(work: DueWorkStore) -> None:
    work.put(piece("a"))
    late = work.lease(KIND, "one", 1, NOW)
    work.done(*late)
    assert work.next_at(KIND) is None


def test_of_several_pieces_reported_at_once_none_counts_when_one_was_lost(
    work: DueWorkStore, other: DueWorkStore
) -> None:
    work.put(piece("a"), piece("b"))
    first, second = work.lease(KIND, "one", 30, NOW, 2)
    work.extend([first], 300, NOW)
    assert [lease.key for lease in other.lease(KIND, "two", 30, NOW + 31)] == ["b"]
    with pytest.raises(LeaseLost):
        work.done(first, second)
    assert {row.key for row in work.rows(NOW)} == {"a", "b"}


def test_an_extended_lease_holds_longer(work: DueWorkStore, other: DueWorkStore) -> None:
    work.put(piece("a"))
    leases = work.lease(KIND, "one", 30, NOW)
    work.extend(leases, 30, NOW + 20)
    assert keys(other, "two", now=NOW + 49) == []
    assert keys(other, "two", now=NOW + 50) == ["a"]


def test_leases_of_a_process_that_is_gone_can_be_ended_at_once(work: DueWorkStore, other: DueWorkStore) -> None:
    work.put(piece("a"))
    gone = work.lease(KIND, "gone", 3600, NOW)
    assert other.release("other kind") == 0
    assert other.release(KIND) == 1
    assert keys(other, "two") == ["a"]
    with pytest.raises(LeaseLost):
        work.done(*gone)


# ---- failing


def test_failed_work_waits_and_keeps_its_reason(work: DueWorkStore) -> None:
    work.put(piece("a"))
    work.retry(*work.lease(KIND, "one", 30, NOW), error="node away", due_at=NOW + 4)
    assert keys(work, now=NOW + 3) == []
    assert [(row.state, row.last_error, row.attempts) for row in work.rows(NOW)] == [("waiting", "node away", 1)]
    lease = work.lease(KIND, "one", 30, NOW + 4)[0]
    assert (lease.attempts, lease.last_error) == (2, "node away")


def test_work_that_is_merely_not_over_forgets_its_failures(work: DueWorkStore) -> None:
    work.put(piece("a"))
    work.retry(*work.lease(KIND, "one", 30, NOW), error="node away", due_at=NOW)
    work.again(*work.lease(KIND, "one", 30, NOW), due_at=NOW + 1)
    lease = work.lease(KIND, "one", 30, NOW + 1)[0]
    assert (lease.attempts, lease.last_error) == (1, "")


def test_work_that_failed_too_often_is_dead_and_seen_until_it_is_revived(work: DueWorkStore) -> None:
    work.put(piece("a"))
    for attempt in (1, 2, 3):
        dead = work.retry(*work.lease(KIND, "one", 30, NOW), error=f"no {attempt}", due_at=NOW, max_attempts=3)
        assert bool(dead) is (attempt == 3)
    assert keys(work) == []
    assert work.next_at(KIND) is None
    assert [(row.key, row.state, row.last_error) for row in work.rows(NOW, state="dead")] == [("a", "dead", "no 3")]
    assert work.put(piece("a")) == 0, "dead work is not forgotten"
    assert work.revive("a", NOW)
    assert not work.revive("a", NOW)
    assert keys(work) == ["a"]


def test_a_worker_that_vanishes_again_and_again_is_counted(work: DueWorkStore) -> None:
    work.put(piece("a"))
    for attempt in range(1, 5):
        assert work.lease(KIND, "one", 1, NOW + 2 * attempt)[0].attempts == attempt


def test_an_endless_error_text_is_cut(work: DueWorkStore) -> None:
    work.put(piece("a"))
    work.retry(*work.lease(KIND, "one", 30, NOW), error="x" * 100_000, due_at=NOW)
    assert len(work.rows(NOW)[0].last_error) <= 500


# ---- planning


def test_work_that_nobody_has_begun_can_be_found_and_hastened(work: DueWorkStore) -> None:
    work.put(piece("later", NOW + 50), piece("soon", NOW + 10))
    with work.transaction() as transaction:
        assert transaction.untouched(KIND) == "soon"
        transaction.hasten("soon", NOW)
        transaction.hasten("soon", NOW + 90)
    assert keys(work) == ["soon"]
    with work.transaction() as transaction:
        assert transaction.untouched(KIND) == "later"
        assert transaction.untouched("other") is None


# ---- disk


def test_work_survives_its_process(reopen: Callable[[], DueWorkStore], work: DueWorkStore) -> None:
    work.put(piece("a"), piece("b"))
    work.done(*work.lease(KIND, "one", 30, NOW))
    again = reopen()
    assert [row.key for row in again.rows(NOW)] == ["b"]


def test_a_database_that_refuses_is_our_trouble(path: Path) -> None:
    work = DueWork(path)
    work.close()
    for call in (lambda: work.put(piece("a")), lambda: work.lease(KIND, "one", 1, NOW), lambda: work.rows(NOW)):
        with pytest.raises(StorageUnavailable):
            call()


def test_due_work_lies_beside_the_events_in_one_file(tmp_path: Path) -> None:
    """One file, one transaction log: an event and its work can be stored together."""
    path = tmp_path / "ledger.db"
    ledger = Ledger(env={"SQLITE_DBNAME": str(path)})
    work = DueWork(path)
    work.put(piece("a"))
    cursor = ledger.recorder.begin()
    cursor.execute("SELECT count(*) FROM due_work")
    assert cursor.fetchone()[0] == 1
    ledger.recorder.rollback()
    work.close()
    ledger.close()


# ---- sequences: what was put later waits behind what failed


def in_sequence(key: str, sequence: str) -> Work:
    return Work(KIND, key, "{}", NOW, sequence)


def test_work_of_one_sequence_is_done_in_order_and_others_go_on(work: DueWorkStore, other: DueWorkStore) -> None:
    work.put(in_sequence("a1", "a"), in_sequence("a2", "a"), in_sequence("b1", "b"), piece("alone"))
    first = work.lease(KIND, "one", 30, NOW, 10)
    assert [lease.key for lease in first] == ["a1", "b1", "alone"]
    assert keys(other, "two") == []
    assert work.next_at(KIND) == NOW + 30, "what waits behind another is no reason to look again at once"
    work.done(*first)
    assert keys(other, "two") == ["a2"]


def test_what_failed_for_good_holds_up_its_sequence_alone_until_it_is_revived(work: DueWorkStore) -> None:
    work.put(in_sequence("a1", "a"), in_sequence("a2", "a"), in_sequence("b1", "b"))
    (a1, b1) = work.lease(KIND, "one", 30, NOW, 10)
    work.done(b1)
    assert work.retry(a1, error="refused", due_at=NOW, max_attempts=1) == [a1]
    work.put(in_sequence("a3", "a"), in_sequence("b2", "b"))
    assert keys(work) == ["b2"]
    assert [row.key for row in work.rows(NOW, state="dead")] == ["a1"]
    assert work.revive("a1", NOW)
    for expected in ("a1", "a2", "a3"):
        (lease,) = work.lease(KIND, "one", 30, NOW, 10)
        assert lease.key == expected
        work.done(lease)


def test_what_failed_for_good_can_be_skipped_and_only_that(work: DueWorkStore) -> None:
    work.put(in_sequence("a1", "a"), in_sequence("a2", "a"))
    assert not work.skip("a1"), "it has not failed"
    (a1,) = work.lease(KIND, "one", 30, NOW, 10)
    work.retry(a1, error="refused", due_at=NOW, max_attempts=1)
    assert work.skip("a1")
    assert not work.skip("a1")
    assert keys(work) == ["a2"]


def test_a_file_without_sequences_gets_them(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    with sqlite3.connect(path) as file:
        file.execute(
            "CREATE TABLE due_work (id INTEGER PRIMARY KEY, kind TEXT NOT NULL, key TEXT NOT NULL UNIQUE, payload TEXT "
            "NOT NULL, due_at REAL NOT NULL, attempts INTEGER NOT NULL DEFAULT 0, leased_until REAL NOT NULL DEFAULT 0,"
            " lease_owner TEXT NOT NULL DEFAULT '', fence INTEGER NOT NULL DEFAULT 0, last_error TEXT NOT NULL DEFAULT "
            "'', dead INTEGER NOT NULL DEFAULT 0)"
        )
        file.execute("INSERT INTO due_work (kind, key, payload, due_at) VALUES ('anchor', 'kept', '{}', 1.0)")
    work = DueWork(path)
    assert keys(work) == ["kept"]
    work.put(in_sequence("a1", "a"))
    work.close()
    DueWork(path).close()


def test_new_work_in_postgresql_wakes_whoever_listens(database: TestDatabase) -> None:
    work = PostgresDueWork(database.writer)
    with database.reader.connect("listen") as listener:
        listener.execute('LISTEN "daicho_main.work"')
        work.put(piece("a"))
        assert next(listener.notifies(timeout=10)).channel == "daicho_main.work"
    work.close()


def test_what_comes_before_in_a_sequence_is_looked_up_and_not_searched_for(path: Path) -> None:
    """With ten thousand pieces waiting a search took seconds, under the ledger's write lock."""
    DueWork(path).close()
    connection = sqlite3.connect(path)
    next_at = f"SELECT min(due_at) FROM due_work WHERE kind = ? AND dead = 0 AND {NOTHING_BEFORE}"
    for statement, bound in ((_LEASE, ("me", 1.0, KIND, 1.0, 1)), (next_at, (KIND,))):
        plan = connection.execute(f"EXPLAIN QUERY PLAN {statement}", bound)
        steps = [row[3] for row in plan if "earlier" in row[3]]
        assert steps, "the plan says nothing of it"
        assert all(step.startswith("SEARCH earlier USING") and "due_work_sequence" in step for step in steps), steps
    connection.close()

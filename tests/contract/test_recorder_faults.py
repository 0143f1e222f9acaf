"""The recorder by itself, as the library's `save` uses it: the library's errors, nothing half done, recovery alone."""

from typing import Any
from uuid import uuid4

import pytest
from eventsourcing.persistence import IntegrityError, OperationalError, StoredEvent, Tracking

from domain.company import Company
from domain.errors import ClockJumped, StorageUnavailable
from storage.postgres.recorder import PostgresLedgerRecorder
from tests.event_stores import SqliteStore


def event(size: int = 10) -> StoredEvent:
    return StoredEvent(str(uuid4()), 1, "topic", b"x" * size)


@pytest.mark.parametrize("fault", ["full_disk", "failing_commits", "read_only"])
def test_a_database_that_refuses_is_the_librarys_operational_error(store: SqliteStore, fault: str) -> None:
    recorder = store.open().recorder
    assert recorder.insert_events([event()]) == [1]
    with getattr(store, fault)(store.books[0]):
        for _ in range(2):
            with pytest.raises(OperationalError):
                recorder.insert_events([event(200_000)], tracking=Tracking("upstream", 1))
        assert recorder.max_notification_id() == 1
    assert recorder.insert_events([event(200_000)], tracking=Tracking("upstream", 1)) == [2]
    assert recorder.max_tracking_id("upstream") == 1


def test_a_lock_that_somebody_keeps_is_an_operational_error(store: SqliteStore) -> None:
    recorder = store.open().recorder
    with store.locked(), pytest.raises(OperationalError, match=r"refuses the write|cannot be used"):
        recorder.insert_events([event()])
    assert recorder.insert_events([event()]) == [1]


def test_a_conflict_takes_back_events_and_tracking_together(store: SqliteStore) -> None:
    recorder = store.open().recorder
    first = event()
    recorder.insert_events([first], tracking=Tracking("upstream", 1))
    with pytest.raises(IntegrityError):
        recorder.insert_events([event(), first], tracking=Tracking("upstream", 2))
    with pytest.raises(IntegrityError):
        recorder.insert_events([event()], tracking=Tracking("upstream", 1))
    assert (recorder.max_notification_id(), recorder.max_tracking_id("upstream")) == (1, 1)
    assert recorder.insert_events([event()]) == [2]


def test_a_clock_that_jumped_stores_no_entry_and_lets_the_lock_go(store: SqliteStore) -> None:
    book = store.open()
    book.wall.shift = 3600
    with pytest.raises(ClockJumped):
        book.ledger.save(Company.register("aozora", "A"))  # type: ignore[arg-type]
    book.wall.shift = 0
    book.ledger.save(Company.register("aozora", "A"))  # type: ignore[arg-type]
    assert len(book.audit()) == 1


def drop(recorder: Any) -> None:
    """What the recorder itself does with a writer's connection that it does not trust any more."""
    (recorder._drop_connection if isinstance(recorder, PostgresLedgerRecorder) else recorder._drop_writer)()


def test_a_commit_without_its_connection_is_trouble_and_never_a_success(store: SqliteStore) -> None:
    recorder = store.open().recorder
    recorder.begin()
    drop(recorder)
    with pytest.raises(StorageUnavailable):
        recorder.commit()
    assert recorder.insert_events([event()]) == [1]


def test_a_connection_that_cannot_even_roll_back_is_replaced(store: SqliteStore) -> None:
    recorder: Any = store.open().recorder
    recorder.begin()
    postgres = isinstance(recorder, PostgresLedgerRecorder)
    (recorder._connection if postgres else recorder._connection()._sqlite_conn).close()
    recorder.rollback()
    assert recorder.insert_events([event()]) == [1]
    recorder.begin()
    drop(recorder)
    recorder.rollback()
    assert recorder.insert_events([event()]) == [2]


def test_a_defect_while_the_lock_is_taken_gives_it_back(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = store.open().recorder
    connect = "_connected" if isinstance(recorder, PostgresLedgerRecorder) else "_connection"
    with monkeypatch.context() as patch:
        patch.setattr(recorder, connect, lambda: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            recorder.insert_events([event()])
    assert recorder.insert_events([event()]) == [1]

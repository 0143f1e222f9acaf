"""The eventsourcing package's own recorder test cases, run unchanged on our recorder over a real PostgreSQL.

What is left out, and why:

- `AggregateRecorderTestCase` expects `insert_events` to return None, as recorders of snapshots do. Ours returns
  positions, so here it runs behind a wrapper that drops the return value.
- `optional_test_insert_subscribe`: the library's subscriptions listen to the library's own channel; ours tell the new
  head on the book's (`storage.postgres.wakeups`).
- `InfrastructureFactoryTestCase` compares classes of the library's factory, which makes our recorder by name
  (`storage.postgres.recorder.library_environment`); every test of the writer on PostgreSQL goes through it.
"""

import itertools
from collections.abc import Sequence
from typing import Any
from uuid import UUID, uuid4

import pytest
from eventsourcing.persistence import IntegrityError, StoredEvent, Tracking
from eventsourcing.postgres import PostgresDatastore
from eventsourcing.tests import persistence as library

from storage.postgres.recorder import PostgresLedgerRecorder
from tests.library_support import ClosesAfterItsThreads
from tests.postgres_server import TestDatabase, shared_server


class SnapshotStyleRecorder(PostgresLedgerRecorder):
    """Returns nothing from `insert_events`, as a recorder of snapshots does."""

    def insert_events(self, stored_events: Sequence[StoredEvent], **kwargs: Any) -> None:
        super().insert_events(stored_events, **kwargs)


class OnPostgres(ClosesAfterItsThreads):
    """Makes recorders over tables of a database that goes with the test."""

    text = False
    recorder_class = PostgresLedgerRecorder

    def setUp(self) -> None:
        super().setUp()
        self.database = shared_server().new_database()
        self.addCleanup(self.database.drop)
        self.numbers = itertools.count()

    def create_recorder(self) -> PostgresLedgerRecorder:
        recorder = recorder_on(self.database, self.recorder_class, f"events_{next(self.numbers)}", text=self.text)
        self.close_at_the_end(recorder)
        return recorder

    def new_originator_id(self) -> UUID | str:
        return str(uuid4()) if self.text else uuid4()


def recorder_on(
    database: TestDatabase, kind: type[PostgresLedgerRecorder], table: str, *, text: bool = True
) -> PostgresLedgerRecorder:
    """A recorder over a new table of the library's own shape."""
    found = database.owner.parameters()
    datastore = PostgresDatastore(
        found["dbname"], found["host"], found["port"], found["user"], "", pool_size=1, max_overflow=20,
        originator_id_type="text" if text else "uuid",
    )  # fmt: skip
    recorder = kind(datastore, events_table_name=table)
    recorder.create_table()
    recorder.attach(database.owner)
    return recorder


class TestAggregateRecorder(OnPostgres, library.AggregateRecorderTestCase):
    recorder_class = SnapshotStyleRecorder


class TestApplicationRecorder(OnPostgres, library.ApplicationRecorderTestCase[PostgresLedgerRecorder]):
    pass


class TestApplicationRecorderWithTextIds(OnPostgres, library.ApplicationRecorderTestCase[PostgresLedgerRecorder]):
    text = True


class TestProcessRecorder(OnPostgres, library.ProcessRecorderTestCase):
    pass


class TestTrackingRecorder(OnPostgres, library.TrackingRecorderTestCase):
    pass


class TestNonInterleavingNotificationIds(OnPostgres, library.NonInterleavingNotificationIDsBaseCase):
    pass


def test_events_and_what_they_were_made_from_are_tracked_in_one_transaction(database: TestDatabase) -> None:
    recorder = recorder_on(database, PostgresLedgerRecorder, "tracked")
    recorder.insert_events([StoredEvent("a", 1, "topic", b"state")], tracking=Tracking("upstream", 7))
    assert recorder.max_tracking_id("upstream") == 7
    for again in (7, 6):
        with pytest.raises(IntegrityError):
            recorder.insert_events([StoredEvent("b", 1, "topic", b"state")], tracking=Tracking("upstream", again))
    assert [event.id for event in recorder.select_notifications(1, 10)] == [1]
    recorder.insert_events([StoredEvent("b", 1, "topic", b"state")], tracking=Tracking("upstream", 8))
    assert [event.id for event in recorder.select_notifications(1, 10)] == [1, 2], "no hole where one was refused"
    recorder.close()

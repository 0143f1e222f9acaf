"""The eventsourcing package's own recorder test cases, run unchanged on our recorder with plain stored events.

What is left out, and why:

- `AggregateRecorderTestCase` expects `insert_events` to return None, as recorders of snapshots do. Ours returns
  positions, so here it runs behind a wrapper that drops the return value; all its other expectations hold.
- Shared-cache memory databases: the recorder writes on a connection of its own, which would deadlock with the pool's
  interlock between readers and the writer. The ledger's store is a file; asking for memory is refused (last test).
- `optional_test_insert_subscribe`: the library's own SQLite recorders do not offer subscriptions either.
- `ApplicationTestCase` tests `Application` over the library's in-memory recorder and never makes one of ours.
"""

import itertools
import os
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import UUID, uuid4

import pytest
from eventsourcing.persistence import (
    AggregateRecorder,
    ApplicationRecorder,
    InfrastructureFactory,
    OperationalError,
    ProcessRecorder,
    StoredEvent,
    TrackingRecorder,
)
from eventsourcing.sqlite import SQLiteAggregateRecorder, SQLiteDatastore, SQLiteFactory, SQLiteTrackingRecorder
from eventsourcing.tests import application as library_application
from eventsourcing.tests import persistence as library
from eventsourcing.utils import Environment, get_topic

from storage.sqlite_recorder import LedgerRecorder
from tests.library_support import ClosesAfterItsThreads


class SnapshotStyleRecorder(LedgerRecorder):
    """Returns nothing from `insert_events`, as a recorder of snapshots does."""

    def insert_events(self, stored_events: Sequence[StoredEvent], **kwargs: Any) -> None:
        super().insert_events(stored_events, **kwargs)


class OnFiles(ClosesAfterItsThreads):
    """Makes recorders over files of a folder that goes with the test."""

    text = False
    recorder_class = LedgerRecorder

    def setUp(self) -> None:
        super().setUp()
        folder = TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.numbers = itertools.count()

    def create_recorder(self) -> LedgerRecorder:
        path = self.folder / f"events-{next(self.numbers)}.db"
        recorder = self.recorder_class(SQLiteDatastore(str(path), originator_id_type="text" if self.text else "uuid"))
        recorder.create_table()
        self.close_at_the_end(recorder)
        return recorder

    def new_originator_id(self) -> UUID | str:
        return str(uuid4()) if self.text else uuid4()


class TestAggregateRecorder(OnFiles, library.AggregateRecorderTestCase):
    recorder_class = SnapshotStyleRecorder


class TestApplicationRecorder(OnFiles, library.ApplicationRecorderTestCase[LedgerRecorder]):
    pass


class TestApplicationRecorderWithTextIds(OnFiles, library.ApplicationRecorderTestCase[LedgerRecorder]):
    text = True


class TestProcessRecorder(OnFiles, library.ProcessRecorderTestCase):
    pass


class TestTrackingRecorder(OnFiles, library.TrackingRecorderTestCase):
    pass


class TestNonInterleavingNotificationIds(OnFiles, library.NonInterleavingNotificationIDsBaseCase):
    pass


class TestInfrastructureFactory(library.InfrastructureFactoryTestCase[SQLiteFactory]):
    def setUp(self) -> None:
        folder = TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.env = Environment("TestCase")
        self.env[InfrastructureFactory.PERSISTENCE_MODULE] = "eventsourcing.sqlite"
        self.env[SQLiteFactory.SQLITE_DBNAME] = str(Path(folder.name) / "events.db")
        self.env[InfrastructureFactory.APPLICATION_RECORDER_TOPIC] = get_topic(LedgerRecorder)
        self.env[InfrastructureFactory.PROCESS_RECORDER_TOPIC] = get_topic(LedgerRecorder)
        super().setUp()

    def expected_factory_class(self) -> type[SQLiteFactory]:
        return SQLiteFactory

    def expected_aggregate_recorder_class(self) -> type[AggregateRecorder]:
        return SQLiteAggregateRecorder

    def expected_application_recorder_class(self) -> type[ApplicationRecorder]:
        return LedgerRecorder

    def expected_tracking_recorder_class(self) -> type[TrackingRecorder]:
        return SQLiteTrackingRecorder

    def tracking_recorder_subclass(self) -> type[TrackingRecorder]:
        return LedgerRecorder

    def expected_process_recorder_class(self) -> type[ProcessRecorder]:
        return LedgerRecorder


class TestExampleApplication(library_application.ExampleApplicationTestCase):
    expected_factory_topic = "eventsourcing.sqlite:SQLiteFactory"

    def setUp(self) -> None:
        super().setUp()
        folder = TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        patch = pytest.MonkeyPatch()
        self.addCleanup(patch.undo)
        patch.setitem(os.environ, "PERSISTENCE_MODULE", "eventsourcing.sqlite")
        patch.setitem(os.environ, "SQLITE_DBNAME", str(Path(folder.name) / "events.db"))
        patch.setitem(os.environ, "APPLICATION_RECORDER_TOPIC", get_topic(LedgerRecorder))


def test_a_memory_database_is_refused_in_words() -> None:
    recorder = LedgerRecorder(SQLiteDatastore(f"file:{uuid4().hex}?mode=memory&cache=shared"))
    recorder.create_table()
    with pytest.raises(OperationalError, match="memory database is not supported"):
        recorder.insert_events([StoredEvent(uuid4(), 1, "topic", b"state")])
    recorder.close()


def test_vacuum_does_not_renumber_positions(tmp_path: Path) -> None:
    recorder = LedgerRecorder(SQLiteDatastore(str(tmp_path / "events.db")))
    recorder.create_table()
    for number in range(5):
        recorder.insert_events([StoredEvent(uuid4(), 1, "topic", b"%d" % number)])
    with recorder.datastore.get_connection(commit=True) as connection:
        connection.cursor().execute("DELETE FROM stored_events WHERE rowid=2")
        connection.cursor().execute("VACUUM")
    assert [event.id for event in recorder.select_notifications(1, 10)] == [1, 3, 4, 5]
    recorder.close()

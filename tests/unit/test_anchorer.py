"""The log is anchored on a timer, sooner when much waits or somebody asks, and never because of its own anchors."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from merkle.hashing import leaf_hash
from merkle.notes import Ed25519Signer
from storage.due_work import DueWork, Lease
from storage.log_store import SqliteLogStore
from streams.anchorer import ANCHOR_WORK, Anchorer, PublishedLog, size_of
from streams.sequencer import Sequencer
from tests.entry_factory import ORIGIN, walk
from tests.host_support import GrowingLog

RECORDS = walk(91, 500).factory.records
NOW = datetime(2026, 11, 22, 5, 2, 32, tzinfo=UTC)


@dataclass
class Desk:
    """An anchorer with a clock that stands, fed by hand."""

    anchorer: Anchorer
    work: DueWork
    now: float = 1_000.0

    def feed(self, upto: int) -> None:
        reached = self.anchorer.position()[0]
        self.anchorer.process(RECORDS[reached:upto])

    def lease(self) -> list[Lease]:
        return self.work.lease(ANCHOR_WORK, "executor", 30, self.now, 10)

    def waiting(self) -> list[tuple[int, float]]:
        return [(int(row.key.split(":")[1]), row.due_at) for row in self.work.rows(self.now)]

    def anchor_all(self) -> None:
        self.work.done(*self.lease())


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Sequencer]:
    store = SqliteLogStore(tmp_path / "log.db")
    sequencer = Sequencer(ORIGIN, store, Ed25519Signer(ORIGIN, Ed25519PrivateKey.generate()))
    sequencer.process(RECORDS)
    sequencer.publish(NOW)
    yield sequencer
    store.close()


@pytest.fixture
def desk(tmp_path: Path, log: Sequencer) -> Iterator[Desk]:
    work = DueWork(tmp_path / "anchors.db")
    anchorer = Anchorer(
        work,
        GrowingLog(RECORDS),
        log.view,
        interval_seconds=10,
        max_unanchored_entries=100,
        clock=lambda: made.now,
    )
    made = Desk(anchorer, work)
    yield made
    work.close()


def test_the_first_entries_are_anchored_at_once(desk: Desk) -> None:
    desk.feed(5)
    assert desk.waiting() == [(5, 1_000.0)]
    assert [size_of(lease.payload) for lease in desk.lease()] == [5]


def test_later_entries_wait_for_the_interval(desk: Desk) -> None:
    desk.feed(5)
    desk.anchor_all()
    desk.now += 1
    desk.feed(6)
    assert desk.waiting() == [(6, 1_010.0)]
    assert desk.lease() == []


def test_what_is_published_while_an_anchor_waits_asks_for_none_of_its_own(desk: Desk) -> None:
    desk.feed(5)
    desk.anchor_all()
    for upto in (6, 20, 50):
        desk.now += 1
        desk.feed(upto)
    assert desk.waiting() == [(6, 1_010.0)]


def test_what_is_published_after_an_anchor_has_begun_asks_for_another(desk: Desk) -> None:
    desk.feed(5)
    begun = desk.lease()
    desk.feed(6)
    assert desk.waiting()[-1] == (6, 1_010.0)
    desk.work.done(*begun)
    assert desk.waiting() == [(6, 1_010.0)]


def test_a_log_that_rested_longer_than_the_interval_is_anchored_at_once(desk: Desk) -> None:
    desk.feed(5)
    desk.anchor_all()
    desk.now += 60
    desk.feed(6)
    assert desk.waiting() == [(6, 1_060.0)]


def test_many_entries_do_not_wait_for_the_interval(desk: Desk) -> None:
    desk.feed(5)
    desk.anchor_all()
    desk.now += 1
    desk.feed(50)
    assert desk.lease() == []
    desk.feed(150)
    assert len(desk.lease()) == 1


def test_an_anchor_asked_for_is_due_at_once_and_only_once(desk: Desk) -> None:
    desk.feed(5)
    desk.anchor_all()
    assert asyncio.run(desk.anchorer.request_now()) == len(RECORDS)
    assert asyncio.run(desk.anchorer.request_now()) == len(RECORDS)
    assert desk.waiting() == [(len(RECORDS), 1_000.0)]
    desk.now += 1
    desk.feed(len(RECORDS))
    assert len(desk.waiting()) == 1, "what was asked for covers what is published meanwhile"


def test_an_anchor_that_the_interval_put_off_is_hastened_when_asked_for(desk: Desk) -> None:
    desk.feed(5)
    desk.anchor_all()
    desk.feed(len(RECORDS) - 450)
    desk.anchorer._entries = GrowingLog(RECORDS[:50])
    assert desk.waiting() == [(50, 1_010.0)]
    assert asyncio.run(desk.anchorer.request_now()) == 50
    assert desk.waiting() == [(50, 1_000.0)]
    desk.anchor_all()
    desk.now += 3
    desk.feed(60)
    assert desk.waiting() == [(60, 1_013.0)], "the interval begins anew with the anchor that was asked for"


def test_an_empty_ledger_has_nothing_to_anchor(desk: Desk) -> None:
    desk.anchorer._entries = GrowingLog()
    assert asyncio.run(desk.anchorer.request_now()) == 0
    assert desk.waiting() == []


def test_whoever_executes_is_told_when_there_is_something_to_do(desk: Desk) -> None:
    told: list[int] = []
    desk.anchorer.on_due.append(lambda: told.append(len(desk.waiting())))
    desk.feed(5)
    asyncio.run(desk.anchorer.request_now())
    desk.anchorer.process(RECORDS[:5])
    assert told == [1, 2]


def test_only_what_a_checkpoint_covers_is_followed(tmp_path: Path) -> None:
    store = SqliteLogStore(tmp_path / "log2.db")
    sequencer = Sequencer(ORIGIN, store, Ed25519Signer(ORIGIN, Ed25519PrivateKey.generate()))
    published = PublishedLog(GrowingLog(RECORDS), sequencer.view)
    assert (published.head(), published.read(1, 10)) == (0, [])
    sequencer.process(RECORDS[:30])
    assert (published.head(), published.read(1, 10)) == (0, [])
    sequencer.publish(NOW)
    assert published.head() == 30
    assert published.read(25, 1000) == RECORDS[24:30]
    assert published.read(31, 1000) == []
    store.close()


def test_its_position_is_that_of_the_last_entry_seen(desk: Desk) -> None:
    assert desk.anchorer.position() == (0, b"")
    desk.feed(7)
    assert desk.anchorer.position() == (7, leaf_hash(RECORDS[6][1]))

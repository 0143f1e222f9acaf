"""An anchor is begun only for what none under way covers, followed until it is final, and told to the book once."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from chain.lane_events import Failed, Final, Forked, LaneEvent, Mined, Replaced, Returned, Submitted
from domain.anchor import Anchor
from domain.anchor_book import AnchorBook
from domain.ids import anchor_id
from merkle.log_view import LogView
from merkle.notes import Ed25519Signer
from storage.clock import LedgerClock
from storage.due_work import DueWork, Lease
from storage.log_store import SqliteLogStore
from streams.anchor_work import AUDIT_KEY, AnchorWork, NotPublishedError, PublishedHeads
from streams.anchorer import ANCHOR_WORK, anchor_work
from streams.executors import Verdict
from streams.lane_reports import LaneIdentity
from streams.sequencer import Sequencer
from tests.entry_factory import ORIGIN, walk
from tests.ledger_kit import CONTRACT

NOW = 1_795_000_000.0
PUBLISHER = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"
IDENTITY = LaneIdentity(31337, CONTRACT, PUBLISHER, bytes(32))


def root_of(size: int) -> bytes:
    return size.to_bytes(32, "big")


@dataclass
class Status:
    final_size: int = 0
    mined_size: int = 0
    in_flight: int = 0


@dataclass
class SlowChain:
    """A lane on a chain that mines and makes final only when told to. One transaction at a time, as the real lane."""

    published: int = 0
    now: Status = field(default_factory=Status)
    outbox: list[LaneEvent] = field(default_factory=list)
    seq: int = 0
    nonce: int = -1
    sent: int = 0
    mine: bool = False
    finalise: bool = False
    submissions: list[int] = field(default_factory=list)
    acknowledged: int = 0

    def tell(self, kind: Callable[..., LaneEvent], size: int, **more: object) -> None:
        self.seq += 1
        self.outbox.append(kind(seq=self.seq, size=size, root=root_of(size), **more))

    def tick(self, *, may_plan: bool = True) -> list[LaneEvent]:
        place = {"block_number": 7, "block_hash": root_of(7), "log_index": 0, "block_time": 8, "gas_used": 9}
        told = {"nonce": self.nonce, "tx_hash": root_of(1000 + self.nonce)}
        if self.mine and self.now.in_flight:
            self.now.in_flight, self.now.mined_size = 0, self.sent
            self.tell(Mined, self.sent, **told, **place)
        if self.finalise and not self.now.in_flight and self.now.final_size < self.now.mined_size:
            self.now.final_size = self.now.mined_size
            self.tell(Final, self.sent, **told, **place)
        if may_plan and not self.now.in_flight and self.published > self.now.mined_size:
            self.nonce, self.sent, self.now.in_flight = self.nonce + 1, self.published, 1
            self.submissions.append(self.published)
            self.tell(Submitted, self.sent, nonce=self.nonce, tx_hash=root_of(1000 + self.nonce), previous_size=0)
        return self.pending_events()

    def pending_events(self) -> list[LaneEvent]:
        return list(self.outbox)

    def acknowledge(self, seq: int) -> None:
        assert seq > self.acknowledged
        self.acknowledged = seq
        self.outbox = [event for event in self.outbox if event.seq > seq]

    def status(self) -> Status:
        return self.now


@dataclass
class Desk:
    """The work over a slow chain, run by hand."""

    chain: SlowChain
    work: AnchorWork
    store: DueWork
    book: AnchorBook
    holds: int = 0

    def ask(self, size: int) -> None:
        self.chain.published = max(self.chain.published, size)
        self.store.put(anchor_work(size, NOW))

    def lease(self) -> list[Lease]:
        return self.store.lease(ANCHOR_WORK, "me", 30, NOW, 100)

    def hold(self) -> None:
        self.holds += 1

    def run(self) -> Verdict:
        verdict = self.work.run(self.lease(), self.hold)
        self.store.done(*verdict.done)
        self.store.again(*verdict.again, due_at=NOW)
        return verdict

    def anchor(self, nonce: int) -> Anchor:
        found = self.book.repository.get(anchor_id(31337, CONTRACT, PUBLISHER, nonce))
        assert isinstance(found, Anchor)
        return found


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    book = AnchorBook({"SQLITE_DBNAME": str(tmp_path / "anchors.db")})
    book.connect(ORIGIN, LedgerClock())
    store = DueWork(tmp_path / "anchors.db")
    chain = SlowChain()
    work = AnchorWork(
        IDENTITY,
        chain,
        book,
        lambda size, _: chain.published >= size,
        lambda: Contract(chain.now.mined_size),
    )
    yield Desk(chain, work, store, book)
    store.close()
    book.close()


@dataclass
class Contract:
    size: int
    root: bytes = bytes(32)


def keys(verdict: Verdict) -> tuple[list[str], list[str]]:
    return [lease.key for lease in verdict.done], [lease.key for lease in verdict.again]


def test_work_is_over_when_its_anchor_is_final_not_before(desk: Desk) -> None:
    desk.ask(10)
    assert keys(desk.run()) == ([], ["anchor:10"])
    assert desk.anchor(0).state == "pending"
    desk.chain.mine = True
    assert keys(desk.run()) == ([], ["anchor:10"])
    assert desk.anchor(0).state == "mined"
    desk.chain.finalise = True
    assert keys(desk.run()) == (["anchor:10"], [])
    assert desk.anchor(0).state == "final"
    assert desk.holds >= 3, "the lease is held while it lasts"


def test_a_growing_log_is_not_anchored_more_often_than_asked_for(desk: Desk) -> None:
    desk.ask(10)
    desk.run()
    desk.chain.published = 50
    for mine, finalise in ((False, False), (True, False), (True, False), (True, True)):
        desk.chain.mine, desk.chain.finalise = mine, finalise
        desk.run()
    assert desk.chain.submissions == [10]
    desk.ask(50)
    desk.run()
    assert desk.chain.submissions == [10, 50]


def test_one_anchor_serves_all_who_asked_before_it(desk: Desk) -> None:
    for size in (10, 20, 30):
        desk.ask(size)
    desk.chain.mine = desk.chain.finalise = True
    verdict = desk.run()
    assert keys(verdict) == (["anchor:10", "anchor:20", "anchor:30"], [])
    assert desk.chain.submissions == [30]


def test_who_asks_for_more_than_is_under_way_waits_for_the_next(desk: Desk) -> None:
    desk.ask(10)
    desk.run()
    desk.ask(20)
    desk.run()
    assert desk.chain.submissions == [10]
    desk.chain.mine = desk.chain.finalise = True
    assert keys(desk.run()) == (["anchor:10", "anchor:20"], [])
    assert desk.chain.submissions == [10, 20]


def test_a_head_that_the_contract_has_from_elsewhere_is_enough(desk: Desk) -> None:
    """The lane's own memory may be younger than the contract."""
    desk.ask(10)
    desk.chain.published = 0
    desk.work._covers = lambda _size, _timeout: True
    assert keys(desk.run()) == ([], ["anchor:10"])
    desk.work._chain_head = lambda: Contract(12)
    assert keys(desk.run()) == (["anchor:10"], [])
    assert desk.chain.submissions == []


def test_what_no_checkpoint_covers_is_said_and_the_rest_is_followed_all_the_same(desk: Desk) -> None:
    desk.ask(10)
    desk.run()
    desk.store.put(anchor_work(99, NOW))
    desk.chain.mine = True
    with pytest.raises(NotPublishedError, match="size 99"):
        desk.work.run(desk.lease(), desk.hold)
    assert desk.anchor(0).state == "mined"


def test_the_audit_never_ends_and_anchors_nothing(desk: Desk) -> None:
    desk.work.prepare(desk.store)
    desk.work.prepare(desk.store)
    desk.chain.published = 10
    verdict = desk.run()
    assert keys(verdict) == ([], [AUDIT_KEY])
    assert desk.chain.submissions == []
    assert verdict.again_after_seconds > 10
    desk.ask(10)
    assert desk.run().again_after_seconds < 10, "what is under way is looked after"


def test_reports_left_over_from_a_crash_are_delivered_before_anything_else(desk: Desk) -> None:
    desk.chain.published = 10
    desk.chain.tick()
    assert desk.chain.acknowledged == 0

    def away(*, may_plan: bool = True) -> list[LaneEvent]:
        raise ConnectionError("no node")

    desk.chain.tick = away  # type: ignore[method-assign]
    desk.work.prepare(desk.store)
    with pytest.raises(ConnectionError):
        desk.work.run(desk.lease(), desk.hold)
    assert desk.anchor(0).state == "pending"
    assert desk.chain.acknowledged == 1


def test_the_book_understands_every_event_of_the_lane(desk: Desk) -> None:
    chain = desk.chain
    place = {"block_number": 7, "block_hash": root_of(7)}
    whole = {**place, "log_index": 1, "block_time": 8, "gas_used": 9}
    states = []
    for kind, more in (
        (Submitted, {"previous_size": 0}),
        (Replaced, {"previous_size": 0, "replaced_tx_hash": root_of(1)}),
        (Mined, whole),
        (Final, whole),
        (Returned, place),
    ):
        chain.tell(kind, 10, nonce=0, tx_hash=root_of(2), **more)
        desk.work._deliver(chain.pending_events())
        states.append(desk.anchor(0).state)
    chain.tell(Failed, 10, nonce=0, reason="reverted")
    desk.work._deliver(chain.pending_events())
    assert [*states, desk.anchor(0).state] == ["pending", "pending", "mined", "final", "pending", "failed"]
    latest = desk.anchor(0).latest
    assert latest is not None
    assert (latest.tx_hash, latest.root) == (f"0x{root_of(2).hex()}", root_of(10).hex())


def test_a_fork_is_told_and_is_no_anchor(desk: Desk) -> None:
    forks: list[Forked] = []
    desk.work.on_forked.append(forks.append)
    desk.chain.tell(Forked, 77, own_size=10, own_root=b"")
    desk.work.prepare(desk.store)
    desk.run()
    assert [fork.size for fork in forks] == [77]
    assert desk.chain.acknowledged == 1
    assert desk.book.last_claim() is None


def test_the_lane_sees_only_what_is_published(tmp_path: Path) -> None:
    heads = PublishedHeads(LogView())
    assert heads.latest()[0] == 0
    store = SqliteLogStore(tmp_path / "log.db")
    sequencer = Sequencer(ORIGIN, store, Ed25519Signer(ORIGIN, Ed25519PrivateKey.generate()))
    sequencer.process(walk(93, 20).factory.records)
    heads = PublishedHeads(sequencer.view)
    assert heads.latest()[0] == 0
    sequencer.publish(datetime(2026, 11, 22, tzinfo=UTC))
    assert heads.latest() == (20, heads.root(20))
    assert heads.proof(7, 20) == sequencer.view.consistency(7, 20)
    store.close()

"""The work of anchoring: drives the lane until what was asked for is final, and tells the anchor book what happened."""

import json
import logging
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from chain.lane_events import Forked, LaneEvent
from domain.anchor_book import AnchorBook
from merkle.log_view import LogView
from storage.due_work import DueWorkStore, Lease, Work
from streams.anchorer import ANCHOR_WORK, size_of
from streams.executors import Verdict
from streams.lane_reports import AnchorLane, LaneIdentity

TICK_SECONDS: Final = 1.0
AUDIT_SECONDS: Final = 60.0
PUBLISH_TIMEOUT_SECONDS: Final = 5.0
MAX_ROUNDS: Final = 8  # ticks in a row while each of them finds something new
AUDIT_KEY: Final = "audit"
logger = logging.getLogger("daicho.executors")


class ChainHead(Protocol):
    """What a contract holds of the log."""

    @property
    def size(self) -> int:
        """Size, 0 before the first anchor."""

    @property
    def root(self) -> bytes:
        """Root at that size."""


class NotPublishedError(Exception):
    """No checkpoint covers what is to be anchored."""


class PublishedHeads:
    """What the lane may anchor: the published part of the log, as chain.lane_ports.HeadSource wants it."""

    def __init__(self, view: LogView) -> None:
        self._view = view

    def latest(self) -> tuple[int, bytes]:
        """Size and root of the newest checkpoint; (0, b"") before the first."""
        head = self._view.head
        return (head.size, head.root) if head else (0, b"")

    def root(self, size: int) -> bytes:
        """Root over the first `size` leaves."""
        return self._view.root(size)

    def proof(self, old: int, new: int) -> list[bytes]:
        """Consistency proof between two published sizes."""
        return self._view.consistency(old, new)


class AnchorWork:
    """One lane of one log. Due work asks for sizes; an anchor is begun only for a size that none under way covers.

    `covers(size, timeout_seconds)` waits for a checkpoint (Publisher.covers); `chain_head` asks the contract.
    `on_forked` hears, in this thread, that the contract holds a head that this log never had.
    """

    def __init__(
        self,
        identity: LaneIdentity,
        lane: AnchorLane,
        book: AnchorBook,
        covers: Callable[[int, float], bool],
        chain_head: Callable[[], ChainHead],
        *,
        tick_seconds: float = TICK_SECONDS,
        audit_seconds: float = AUDIT_SECONDS,
    ) -> None:
        self.on_forked: list[Callable[[Forked], None]] = []
        self._identity, self._lane, self._book = identity, lane, book
        self._covers, self._chain_head = covers, chain_head
        self._tick_seconds, self._audit_seconds = tick_seconds, audit_seconds

    @staticmethod
    def prepare(store: DueWorkStore) -> None:
        """Put the standing work: looking after what is final already, and after reports left over from a crash."""
        store.put(Work(ANCHOR_WORK, AUDIT_KEY, json.dumps({"size": 0}), 0.0))

    def run(self, leases: Sequence[Lease], hold: Callable[[], None]) -> Verdict:
        """Tick while something happens; then what is final is done, the rest is looked at again.

        The lane looks at old anchors again by itself (each once a day), as often as it is ticked: the audit only sees
        to it that it is, when there is nothing to anchor. Raises NotPublishedError and whatever the chain raises.
        """
        asked = max(size_of(lease.payload) for lease in leases)
        published = self._covers(asked, PUBLISH_TIMEOUT_SECONDS)
        self._deliver(self._lane.pending_events())
        for _ in range(MAX_ROUNDS):
            hold()
            events = self._lane.tick(may_plan=asked > self._under_way())
            self._deliver(events)
            if not events:
                break
        if not published:  # said last: what is under way is followed all the same
            raise NotPublishedError(f"no checkpoint of size {asked} was published within {PUBLISH_TIMEOUT_SECONDS} s")
        return self._verdict(leases)

    def _under_way(self) -> int:
        """The largest size that is in a block or on its way into one."""
        status = self._lane.status()
        claim = self._book.last_claim() if status.in_flight else None
        return max(status.mined_size, claim.size if claim else 0)

    def _verdict(self, leases: Sequence[Lease]) -> Verdict:
        status = self._lane.status()
        settled = not status.in_flight and status.mined_size == status.final_size
        sizes = {lease: size_of(lease.payload) for lease in leases}
        final_size = status.final_size
        if settled and max(sizes.values()) > final_size:
            # Nothing is under way and yet the lane knows of no such anchor: did the contract get it without it?
            final_size = max(final_size, self._chain_head().size)
        done = [lease for lease, size in sizes.items() if lease.key != AUDIT_KEY and size <= final_size]
        again = [lease for lease in leases if lease not in done]
        idle = settled and all(lease.key == AUDIT_KEY for lease in again)
        return Verdict(done, again, self._audit_seconds if idle else self._tick_seconds)

    def _deliver(self, events: Sequence[LaneEvent]) -> None:
        """Tell the book, then let the lane forget. A crash in between delivers again; the book recognises it."""
        while events:
            for event in events:
                report = self._identity.report(event)
                if report is not None:
                    self._book.record(report)
                elif isinstance(event, Forked):
                    self._tell(event)
            self._lane.acknowledge(events[-1].seq)
            events = self._lane.pending_events()

    def _tell(self, event: Forked) -> None:
        logger.critical("the contract holds size %d, root 0x%s, which this log never had", event.size, event.root.hex())
        for notify in self.on_forked:
            notify(event)

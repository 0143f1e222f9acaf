"""A ledger with everything behind it, wired as in the product: host, publisher, anchoring, fork guard, real node."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from chain.connection import Connection
from chain.lane import Lane, LaneSettings
from chain.registry import Anchored, Registry, ensure_deployed, ensure_registered, log_id_of
from domain.anchor_book import AnchorBook
from merkle.notes import Ed25519Signer
from projections.anchor_projector import AnchorProjector
from projections.anchors import receipt
from projections.projector import Projector
from projections.store import ReadStore
from projections.views import ReceiptView
from storage.anchor_recorder import ANCHOR_TABLE
from storage.clock import LedgerClock
from storage.due_work import DueWork
from storage.entry_log import SqliteEntryLog
from storage.lane_store import SqliteLaneStore
from storage.log_store import SqliteLogStore
from streams.anchor_work import AnchorWork, PublishedHeads
from streams.anchorer import ANCHOR_WORK, Anchorer, PublishedLog
from streams.executors import Executor
from streams.faults import Backoff
from streams.fork_guard import ForkGuard
from streams.lane_reports import AnchorLane, LaneIdentity
from streams.local import LocalHost
from streams.publisher import Publisher
from streams.sequencer import Sequencer
from tests.chain_fixtures import CHAIN_ID, KeySigner
from tests.host_support import TIMEOUT_SECONDS
from tests.ledger_kit import ORIGIN, Custodian, open_book

LOG_KEY = Ed25519PrivateKey.generate()


def deploy(url: str, signer: KeySigner) -> str:
    """A registry with the log in it; its address."""
    connection = Connection(url)
    contract = ensure_deployed(connection, signer, fee_cap=10**12, timeout_seconds=20)
    registry = Registry(connection, chain_id=CHAIN_ID, contract=contract, log_id=log_id_of(ORIGIN))
    ensure_registered(registry, signer, origin=ORIGIN, publisher=signer.address, fee_cap=10**12, timeout_seconds=20)
    return contract


@dataclass(frozen=True)
class Setup:
    """Where and how a service runs. `wrap_lane` puts something between the lane and its executor."""

    folder: Path
    url: str
    signer: KeySigner
    contract: str
    custodian: Custodian = field(default_factory=Custodian)
    interval_seconds: float = 0.05
    checkpoint_seconds: float = 0.02
    wrap_lane: Callable[[AnchorLane], AnchorLane] = lambda lane: lane
    prepare: Callable[["Service"], None] = lambda _: None


class Service:
    """One run of the service; make another one of the same setup and it is a restart."""

    def __init__(self, setup: Setup) -> None:
        self.setup, self.folder = setup, setup.folder
        self.book = open_book(self.folder / "ledger.db", custodian=setup.custodian)
        self.log_store = SqliteLogStore(self.folder / "log.db")
        self.sequencer = Sequencer(ORIGIN, self.log_store, Ed25519Signer(ORIGIN, LOG_KEY))
        self.reads = ReadStore(self.folder / "read.db")
        self._wire_anchoring(setup)
        self._wire_host()
        setup.prepare(self)

    def _wire_anchoring(self, setup: Setup) -> None:
        anchors, view = self.folder / "anchors.db", self.sequencer.view
        self.anchors = AnchorBook({"SQLITE_DBNAME": str(anchors)})
        self.anchors.connect(ORIGIN, LedgerClock())
        self.work = DueWork(anchors)
        log_id = log_id_of(ORIGIN)
        connection = Connection(setup.url, timeout_seconds=5, retries=1)
        self.registry = Registry(connection, chain_id=CHAIN_ID, contract=setup.contract, log_id=log_id)
        self.lane_store = SqliteLaneStore(
            anchors, chain_id=CHAIN_ID, publisher=setup.signer.address, contract=setup.contract, log_id=log_id
        )
        lane = Lane(self.registry, PublishedHeads(view), setup.signer, self.lane_store, LaneSettings())
        self.publisher = Publisher(self.sequencer, setup.checkpoint_seconds)
        identity = LaneIdentity(CHAIN_ID, setup.contract, setup.signer.address, log_id)
        self.anchoring = AnchorWork(
            identity,
            setup.wrap_lane(lane),
            self.anchors,
            self.publisher.covers,
            self.registry.head,
            tick_seconds=0.05,
        )
        self.guard = ForkGuard(self.book.entries, view, self.log_store, self.anchors, self.registry.head)
        self.executor = Executor(self.work, ANCHOR_WORK, self.anchoring, backoff=Backoff(0.01, 0.1))
        self.anchorer = Anchorer(self.work, self.book.entries, view, interval_seconds=setup.interval_seconds)

    def _wire_host(self) -> None:
        self.host = LocalHost(new_backoff=lambda: Backoff(0.01, 0.1))
        entries = self.host.source(self.book.entries)
        published = self.host.source(PublishedLog(self.book.entries, self.sequencer.view))
        anchored = self.host.source(SqliteEntryLog(self.folder / "anchors.db", ANCHOR_TABLE))
        self.host.add(entries, self.sequencer)
        self.host.add(entries, Projector(self.reads))
        self.host.add(published, self.anchorer)
        self.host.add(anchored, AnchorProjector(self.reads, {CHAIN_ID}))
        self.book.writer.on_commit.append(entries.wake)
        self.publisher.on_published.append(published.wake)
        self.anchors.on_recorded.append(anchored.wake)
        self.anchorer.on_due.append(self.executor.wake)
        self.anchoring.on_forked.append(self.guard.forked)
        self.guard.on_closed.append(lambda refusal: self.publisher.halt(refusal.message))

    async def start(self) -> None:
        self.changed = asyncio.Event()
        loop = asyncio.get_running_loop()
        self.host.on_change.append(lambda _: self.changed.set())
        self.executor.on_change.append(lambda _: loop.call_soon_threadsafe(self.changed.set))
        self.publisher.on_published.append(lambda _: self.changed.set())
        await self.host.start()
        await self.publisher.start()
        self.is_open = await self.guard.check_until_open(self.refuse)
        if self.is_open:
            self.anchoring.prepare(self.work)
            await self.executor.start()

    def refuse(self, refusal: Any) -> None:
        self.book.writer.refusal = refusal

    async def stop(self) -> None:
        self.guard.stop()
        await self.executor.stop()
        await self.host.stop()
        await self.publisher.stop()
        self.lane_store.close()
        self.work.close()
        self.anchors.close()
        self.log_store.close()
        self.reads.close()
        self.book.close()

    async def until(self, condition: Callable[[], Any]) -> Any:
        """Wait, woken by every step of the service, until the condition holds."""
        async with asyncio.timeout(TIMEOUT_SECONDS):
            while not (answer := condition()):
                self.changed.clear()
                await self.changed.wait()
            return answer

    # -- looking -----------------------------------------------------------------------------------------------------

    def receipt(self, position: int) -> ReceiptView | None:
        return receipt(self.reads.reader(), None, position)

    def anchored_at(self, position: int) -> str:
        """State of the anchor that covers a position, "" for none."""
        found = self.receipt(position)
        return found.anchor.state if found and found.anchor else ""

    def on_chain(self) -> list[Anchored]:
        return self.registry.anchored_events(0)

    def waiting(self) -> list[str]:
        return [row.key for row in self.work.rows(time.time()) if row.key != "audit"]

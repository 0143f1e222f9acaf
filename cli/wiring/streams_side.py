"""The streams of a service: processors on the embedded host, checkpoint timer, anchoring, fork guard."""

from collections.abc import Callable, Mapping
from typing import Any, cast

from chain.lane import Lane, LaneSettings
from chain.registry import Head
from cli.settings import Settings
from cli.wiring.chain_side import GWEI, ChainSide
from cli.wiring.ledger_side import LedgerSide
from cli.wiring.store_side import StoreSide
from cli.wiring.stores import Stores
from domain.anchor_book import AnchorBook
from domain.errors import DaichoError
from projections.anchor_projector import AnchorProjector
from projections.projector import Projector
from projections.waiting import PositionBoard
from storage.sqlite_recorder import LedgerRecorder
from streams.anchor_work import AnchorWork, PublishedHeads
from streams.anchorer import ANCHOR_WORK, Anchorer, PublishedLog
from streams.archiver import Archiver
from streams.executors import Executor
from streams.fork_guard import ForkGuard
from streams.lane_reports import LaneIdentity
from streams.local import LocalHost, ProcessorStatus
from streams.publisher import Publisher
from streams.sequencer import Sequencer


class StreamsSide:
    """Everything that follows the entries. `start` after the ledger is open, `stop` before it closes."""

    def __init__(self, settings: Settings, stores: Stores, chain: ChainSide, ledger: LedgerSide) -> None:
        self._ledger = ledger
        self._chain = chain
        self.log_store = stores.log()
        self.sequencer = Sequencer(chain.description.origin, self.log_store, chain.blocking)
        self.view = self.sequencer.view
        self.read_store = stores.reads()
        self.board = PositionBoard()
        self.publisher = Publisher(self.sequencer, settings.checkpoint_interval_seconds)
        self.book = AnchorBook(stores.anchor_environment())
        stores.attach(self.book.recorder)
        self.book.connect(chain.description.origin, ledger.clock)
        self._work = stores.due_work()
        self.anchorer = Anchorer(
            self._work, ledger.entries, self.view, interval_seconds=settings.anchor_interval_seconds
        )
        self._lane_store = stores.lane(
            chain_id=chain.description.chain_id,
            publisher=chain.publisher.address,
            contract=chain.description.contract,
            log_id=chain.registry.log_id,
        )
        self.lane = Lane(
            chain.registry, PublishedHeads(self.view), chain.publisher, self._lane_store, lane_settings(settings)
        )
        self._anchor_entries = stores.anchor_entries()
        self.work = AnchorWork(self._identity(), self.lane, self.book, self.publisher.covers, self._contract_head)
        self.executor = Executor(self._work, ANCHOR_WORK, self.work)
        self.guard = ForkGuard(ledger.entries, self.view, self.log_store, self.book, self._contract_head)
        self.stores = StoreSide(settings, stores, ledger) if settings.has_stores else None
        self._inbox = stores.parcels()
        self.archiver = Archiver(self._inbox, stores.archive) if settings.has_stores else None
        self.host = LocalHost()
        self._own_chains = settings.own_chains
        self._connect()

    def _connect(self) -> None:
        """Say who wakes whom. Nobody calls back up: everything goes one way, from the entries on."""
        ledger, host = self._ledger, self.host
        source = host.source(ledger.entries)
        host.add(source, self.sequencer)
        projector = Projector(self.read_store, self.board.publish)
        self.board.publish(projector.position()[0])  # what an earlier process projected can be read from the start
        host.add(source, projector)
        if self.stores is not None:
            host.add(source, self.stores.intake)
        published = host.source(PublishedLog(ledger.entries, self.view))
        host.add(published, self.anchorer)
        anchors = host.source(self._anchor_entries)
        host.add(anchors, AnchorProjector(self.read_store, self._own_chains))
        ledger.writer.on_commit.append(source.wake)
        if self.archiver is not None:
            ledger.writer.on_commit.append(self.archiver.wake)
        self.board.on_wait = source.hurry
        self.publisher.on_published.append(published.wake)
        self.anchorer.on_due.append(self.executor.wake)
        self.book.on_recorded.append(anchors.wake)
        self.work.on_forked.append(self.guard.forked)
        self.guard.on_closed.append(lambda refusal: self.publisher.halt(refusal.message))

    def on_commit(self, heard: Callable[[int], None]) -> None:
        """Tell of everything that is committed."""
        self._ledger.writer.on_commit.append(heard)

    async def start(self) -> None:
        """Start to follow. The ledger stays read-only until `open_ledger`."""
        await self.host.start()
        await self.publisher.start()
        if self.archiver is not None:
            await self.archiver.start()

    async def open_ledger(self) -> bool:
        """Compare the store with what was signed and anchored; True when the ledger takes commands.

        Anchoring begins only then: while the tree is still being rebuilt, the lane would take it for another log.
        """
        opened = await self.guard.check_until_open(self._set_refusal)
        if opened:
            self.work.prepare(self._work)
            await self.executor.start()
            if self.stores is not None:
                await self.stores.start()
        return opened

    async def stop(self) -> None:
        """Finish what is in work, publish once more, close the files."""
        self.guard.stop()
        if self.stores is not None:
            await self.stores.stop()
        await self.executor.stop()
        await self.host.stop()
        await self.publisher.stop()
        if self.archiver is not None:
            await self.archiver.stop()
        self._inbox.close()
        if self.stores is not None:
            self.stores.close()
        self._lane_store.close()
        self._anchor_entries.close()
        self._work.close()
        cast("LedgerRecorder", self.book.recorder).close()
        self.log_store.close()
        self.read_store.close()

    async def request_anchor(self) -> Mapping[str, Any]:
        """Ask for an anchor of the published head at once: what it will cover, and how far anchors are."""
        size = await self.anchorer.request_now()
        lane = self.lane.status()
        return {"requested_size": size, "final_size": lane.final_size, "mined_size": lane.mined_size}

    def processors(self) -> list[Mapping[str, Any]]:
        """Every processor, the publisher and the executor, as the API shows them."""
        rows: list[Mapping[str, Any]] = [
            {"name": s.name, "position": s.position, "lag": s.lag, "state": s.state, "error": s.error}
            for s in (*self.host.status(), self.publisher.status(), *self._of_stores())
        ]
        status, lane = self.executor.status(), self.lane.status()
        error = status.error or lane.fork or "; ".join(f"{name}: {text}" for name, text in lane.alarms.items())
        lag = max(0, self._ledger.entries.head() - lane.final_size)
        rows.append(
            {"name": status.name, "position": lane.final_size, "lag": lag, "state": status.state, "error": error}
        )
        return rows

    def _of_stores(self) -> list[ProcessorStatus]:
        """The rows of what is done about stores, where any is set up."""
        rows = [] if self.stores is None else self.stores.status()
        return rows if self.archiver is None else [self.archiver.status(), *rows]

    def _set_refusal(self, refusal: DaichoError | None) -> None:
        self._ledger.writer.refusal = refusal

    def _contract_head(self) -> Head:
        return self._chain.contract_head()

    def _identity(self) -> LaneIdentity:
        registry = self._chain.registry
        return LaneIdentity(registry.chain_id, registry.contract, self._chain.publisher.address, registry.log_id)


def lane_settings(settings: Settings) -> LaneSettings:
    """How patient a lane is and what it may pay."""
    return LaneSettings(
        confirmations=settings.confirmations,
        bump_after_seconds=settings.bump_after_seconds,
        fee_cap_wei=int(settings.max_fee_gwei * GWEI),
    )

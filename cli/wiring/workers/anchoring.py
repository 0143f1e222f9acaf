"""The anchorer's process: asks for anchors of published heads, drives the lane, keeps the anchor book."""

import asyncio
from collections.abc import Sequence
from typing import Any, cast

from chain.lane import Lane
from cli.settings import Settings
from cli.wiring.chain_side import ChainSide
from cli.wiring.master_key import master_key_of
from cli.wiring.postgres_stores import PostgresStores
from cli.wiring.streams_side import lane_settings
from cli.wiring.workers.worker import Worker
from domain.anchor_book import AnchorBook
from storage.clock import LedgerClock
from storage.folder import DataFolder
from storage.postgres.wakeups import Wakeups
from streams.anchor_work import AnchorWork, PublishedHeads
from streams.anchorer import ANCHOR_WORK, Anchorer, PublishedLog
from streams.executors import Executor
from streams.kafka.waker import KafkaWaker
from streams.lane_reports import LaneIdentity
from streams.local import LocalHost, ProcessorStatus, Source
from streams.log_follower import LogFollower
from streams.publisher import Publisher
from streams.topic_checkpoints import CheckpointRecords
from streams.topics import topic_name

POLL_SECONDS = 1.0


class AnchorerPart:
    """Woken by the topic of the checkpoints, it follows the published log; the log store is the truth about it."""

    def __init__(self, settings: Settings, stores: PostgresStores, worker: Worker) -> None:
        self._settings, self._stores, self._worker = settings, stores, worker
        folder = DataFolder(settings.data_dir)
        self._chain = ChainSide(settings, folder, stores, master_key_of(settings, folder), begins=False)
        self._host = LocalHost()
        self._open: list[Any] = []
        self._follower: Publisher | None = None
        self._executor: Executor | None = None
        self._waker: KafkaWaker | None = None
        self._wakeups: Wakeups | None = None
        self._lane: Lane | None = None

    async def start(self) -> None:
        """Load the tree and begin."""
        await self._chain.start()
        await asyncio.to_thread(self._build)
        await cast("Publisher", self._follower).start()
        await self._host.start()
        await cast("KafkaWaker", self._waker).start()
        await asyncio.to_thread(cast("Wakeups", self._wakeups).start)
        await cast("Executor", self._executor).start()

    async def stop(self) -> None:
        """Finish the work in hand, close everything."""
        if self._wakeups is not None:
            await asyncio.to_thread(self._wakeups.stop)
        for part in (self._executor, self._waker, self._host, self._follower):
            if part is not None:
                await part.stop()
        for store in self._open:
            store.close()
        await self._chain.stop()

    def status(self) -> Sequence[ProcessorStatus]:
        """The anchorer, and the executor as `anchor`."""
        rows = self._host.status()
        if self._executor is None or self._lane is None or self._follower is None:
            return rows
        status, lane = self._executor.status(), self._lane.status()
        error = status.error or lane.fork or "; ".join(f"{name}: {text}" for name, text in lane.alarms.items())
        lag = max(0, self._follower.status().position - lane.final_size)
        return [*rows, ProcessorStatus(status.name, lane.final_size, lag, status.state, error)]

    def _build(self) -> None:
        settings, stores, chain, origin = self._settings, self._stores, self._chain, self._chain.description.origin
        log, work, entries = stores.log(), stores.due_work(), stores.entries()
        follower = LogFollower(origin, log)
        self._follower = Publisher(follower, POLL_SECONDS, "log-follower")
        book = AnchorBook(stores.anchor_environment())
        stores.attach(book.recorder)
        book.connect(origin, LedgerClock(settings.clock_jump_limit_seconds))
        lanes = stores.lane(
            chain_id=chain.description.chain_id,
            publisher=chain.publisher.address,
            contract=chain.description.contract,
            log_id=chain.registry.log_id,
        )
        self._open = [log, work, entries, lanes, book.recorder]
        self._lane = Lane(
            chain.registry, PublishedHeads(follower.view), chain.publisher, lanes, lane_settings(settings)
        )
        identity = LaneIdentity(
            chain.registry.chain_id, chain.registry.contract, chain.publisher.address, chain.registry.log_id
        )
        anchoring = AnchorWork(identity, self._lane, book, self._follower.covers, chain.contract_head)
        anchoring.prepare(work)
        anchorer = Anchorer(work, entries, follower.view, interval_seconds=settings.anchor_interval_seconds)
        self._executor = Executor(work, ANCHOR_WORK, anchoring)
        published = self._host.source(PublishedLog(entries, follower.view))
        self._host.add(published, anchorer)
        self._connect(published, anchorer)

    def _connect(self, published: Source, anchorer: Anchorer) -> None:
        """Who wakes whom: a checkpoint the follower, the follower the anchorer, the anchorer its executor."""
        settings, follower = self._settings, cast("Publisher", self._follower)
        executor = cast("Executor", self._executor)
        follower.on_published.append(published.wake)
        anchorer.on_due.append(executor.wake)
        self._waker = KafkaWaker(
            settings.kafka_bootstrap,
            f"daicho-{settings.book}-anchorer",
            topic_name(settings.book, "checkpoints"),
            CheckpointRecords(self._chain.description.origin),
            lambda _: follower.wake(),
        )
        self._wakeups = Wakeups(self._worker.database, {"work": lambda _: executor.wake()})

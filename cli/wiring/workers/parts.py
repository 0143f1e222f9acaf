"""What each worker runs: the parts of a cluster, wired one by one."""

import asyncio
from collections.abc import Sequence
from typing import Any

from cli.settings import Settings, SettingsError
from cli.wiring.chain_side import ChainSide
from cli.wiring.ledger_side import LedgerSide
from cli.wiring.master_key import master_key_of
from cli.wiring.postgres_stores import PostgresStores
from cli.wiring.reading_side import ReadingSide
from cli.wiring.store_side import StoreSide
from cli.wiring.workers.anchoring import AnchorerPart
from cli.wiring.workers.worker import Part, Worker
from domain.anchor_book import ORIGIN_SUFFIX
from domain.errors import LedgerReadOnly
from projections.anchor_projector import AnchorProjector
from projections.projector import Projector
from storage.folder import DataFolder
from storage.postgres.wakeups import Wakeups
from streams.archive_topic import InboxFeed, ParcelRecords
from streams.kafka.host import KafkaHost
from streams.local import ProcessorStatus
from streams.processor import Processor
from streams.publisher import Publisher
from streams.relay import Relay
from streams.sequencer import Sequencer
from streams.topic_checkpoints import CheckpointFeed, CheckpointRecords
from streams.topic_record import EntryRecords
from streams.topics import topic_name


async def run_part(settings: Settings, name: str) -> int:
    """Run the worker of that name; its exit code."""
    worker = Worker(settings, name)
    stores = PostgresStores(worker.database)
    kinds: dict[str, Any] = {
        "relay": RelayPart,
        "sequencer": SequencerPart,
        "projector": ProjectorPart,
        "anchor-projector": AnchorProjectorPart,
        "anchorer": AnchorerPart,
        "stores": StoresPart,
    }
    part: Part = kinds[name](settings, stores, worker)
    return await worker.run(part)


def host_for(settings: Settings, processor: Processor, suffix: str, origin: str) -> KafkaHost:
    """The Faust host of a processor of entries."""
    group = f"daicho-{settings.book}-{processor.name}"
    topic = topic_name(settings.book, suffix)
    return KafkaHost(processor, settings.kafka_bootstrap, group, topic, EntryRecords(origin))


class RelayPart:
    """From the event stores and the log store to their topics."""

    def __init__(self, settings: Settings, stores: PostgresStores, worker: Worker) -> None:
        self._settings, self._stores, self._worker = settings, stores, worker
        self._relays: list[Relay] = []
        self._open: list[Any] = []
        self._wakeups: Wakeups | None = None

    async def start(self) -> None:
        """Begin to copy."""
        origin = await asyncio.to_thread(origin_of, self._stores)
        entries, anchors, log = self._stores.entries(), self._stores.anchor_entries(), self._stores.log()
        work, inbox = self._stores.due_work(), self._stores.parcels()
        self._open = [entries, anchors, log, work, inbox]
        feeds: list[tuple[str, Any, Any]] = [
            ("entries", EntryRecords(origin), entries),
            ("anchors", EntryRecords(origin + ORIGIN_SUFFIX), anchors),
            ("checkpoints", CheckpointRecords(origin), CheckpointFeed(log)),
            ("notifications", ParcelRecords(), InboxFeed(inbox)),
        ]
        for suffix, records, feed in feeds:
            name = f"relay-{suffix}"

            def save(position: int, leaf: bytes, name: str = name) -> None:
                with work.transaction() as transaction:
                    transaction.save_position(name, position, leaf, "")

            topic = topic_name(self._settings.book, suffix)
            relay = Relay(
                name, self._settings.kafka_bootstrap, topic, records, feed,
                save=save, still_leader=self._worker.leadership.held,
            )  # fmt: skip
            self._relays.append(relay)
            await relay.start()
        wake_entries, wake_anchors, wake_checkpoints, wake_inbox = (relay.wake for relay in self._relays)

        def wake_both(head: int) -> None:
            wake_entries(head)
            wake_inbox(0)  # its numbers are its own

        channels = {"events": wake_both, "anchor_events": wake_anchors, "checkpoints": wake_checkpoints}
        self._wakeups = Wakeups(self._worker.database, channels)
        await asyncio.to_thread(self._wakeups.start)

    async def stop(self) -> None:
        """Send what is on its way, close everything."""
        if self._wakeups is not None:
            await asyncio.to_thread(self._wakeups.stop)
        for relay in self._relays:
            await relay.stop()
        for store in self._open:
            store.close()

    def status(self) -> Sequence[ProcessorStatus]:
        """One row a topic."""
        return [relay.status() for relay in self._relays]


class SequencerPart:
    """From entries to leaves, and the log's signed heads."""

    def __init__(self, settings: Settings, stores: PostgresStores, worker: Worker) -> None:
        self._settings, self._stores, self._worker = settings, stores, worker
        folder = DataFolder(settings.data_dir)
        self._chain = ChainSide(settings, folder, stores, master_key_of(settings, folder), begins=False)
        self._log: Any = None
        self._host: KafkaHost | None = None
        self._publisher: Publisher | None = None

    async def start(self) -> None:
        """Load the tree and begin."""
        await self._chain.start()
        origin = self._chain.description.origin
        self._log = self._stores.log()
        sequencer = await asyncio.to_thread(Sequencer, origin, self._log, self._chain.blocking)
        self._publisher = Publisher(LeadersOnly(sequencer, self._worker), self._settings.checkpoint_interval_seconds)
        self._host = host_for(self._settings, sequencer, "entries", origin)
        await self._host.start()
        await self._publisher.start()

    async def stop(self) -> None:
        """Finish the batch, publish once more, close."""
        if self._host is not None:
            await self._host.stop()
        if self._publisher is not None:
            await self._publisher.stop()
        await self._chain.stop()
        if self._log is not None:
            self._log.close()

    def status(self) -> Sequence[ProcessorStatus]:
        """Sequencer and publisher."""
        rows = self._host.status() if self._host is not None else []
        return [*rows, self._publisher.status()] if self._publisher is not None else rows


class LeadersOnly:
    """A sequencer that signs only while its process leads: nobody else has signed meanwhile."""

    def __init__(self, sequencer: Sequencer, worker: Worker) -> None:
        self.view = sequencer.view
        self.position = sequencer.position
        self._sequencer, self._worker = sequencer, worker

    def publish(self, now: Any) -> bytes | None:
        """Sign, store and show the head if the log grew."""
        return self._sequencer.publish(now) if self._worker.leadership.held() else None


class ProjectorPart:
    """From entries to read models."""

    def __init__(self, settings: Settings, stores: PostgresStores, worker: Worker) -> None:
        self._settings, self._stores, self._worker = settings, stores, worker
        self._reads: Any = None
        self._host: KafkaHost | None = None

    def _processor(self) -> tuple[Processor, str, str]:
        """The processor, the topic's suffix and the origin of its records."""
        return Projector(self._reads), "entries", origin_of(self._stores)

    async def start(self) -> None:
        """Begin."""
        self._reads = await asyncio.to_thread(self._stores.reads)
        processor, suffix, origin = await asyncio.to_thread(self._processor)
        self._host = host_for(self._settings, processor, suffix, origin)
        await self._host.start()

    async def stop(self) -> None:
        """Finish the batch, close."""
        if self._host is not None:
            await self._host.stop()
        if self._reads is not None:
            self._reads.close()

    def status(self) -> Sequence[ProcessorStatus]:
        """The projector."""
        return self._host.status() if self._host is not None else []


class AnchorProjectorPart(ProjectorPart):
    """From the anchor book's entries to read models."""

    def _processor(self) -> tuple[Processor, str, str]:
        projector = AnchorProjector(self._reads, self._settings.own_chains)
        return projector, "anchors", origin_of(self._stores) + ORIGIN_SUFFIX


class StoresPart:
    """What is done about stores' messages and purchases: it follows the entries and writes to the ledger, too."""

    def __init__(self, settings: Settings, stores: PostgresStores, worker: Worker) -> None:
        if not settings.has_stores:
            raise SettingsError("no store is set up: set DAICHO_APPLE_BUNDLE_ID or DAICHO_GOOGLE_PACKAGE")
        self._settings, self._stores, self._worker = settings, stores, worker
        self._key_file = master_key_of(settings, DataFolder(settings.data_dir))
        self._chain = ChainSide(settings, DataFolder(settings.data_dir), stores, self._key_file, begins=False)
        self._ledger: LedgerSide | None = None
        self._reading: ReadingSide | None = None
        self._side: StoreSide | None = None
        self._host: KafkaHost | None = None
        self._wakeups: Wakeups | None = None
        self._opening: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin, with a ledger that takes commands once nobody is known to know more than its store."""
        await self._chain.start()
        origin = self._chain.description.origin
        reading, side = await asyncio.to_thread(self._build)
        await reading.start()
        self._host = host_for(self._settings, side.intake, "entries", origin)
        self._wakeups = Wakeups(self._worker.database, {"work": lambda _: side.wake()})
        await self._host.start()
        await asyncio.to_thread(self._wakeups.start)
        self._opening = asyncio.create_task(self._open(reading, side), name="open ledger")

    async def stop(self) -> None:
        """Finish the work in hand, close everything."""
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.gather(self._opening, return_exceptions=True)
        if self._wakeups is not None:
            await asyncio.to_thread(self._wakeups.stop)
        if self._side is not None:
            await self._side.stop()
        if self._host is not None:
            await self._host.stop()
        if self._side is not None:
            self._side.close()
        if self._reading is not None:
            await self._reading.stop()
        if self._ledger is not None:
            self._ledger.close()
        await self._chain.stop()

    def status(self) -> Sequence[ProcessorStatus]:
        """The intake, a row for each kind of work, and the billing system."""
        rows = self._host.status() if self._host is not None else []
        return [*rows, *self._side.status()] if self._side is not None else rows

    def _build(self) -> tuple[ReadingSide, StoreSide]:
        settings, stores, chain = self._settings, self._stores, self._chain
        self._ledger = LedgerSide(settings, stores, chain.description, chain.client, self._key_file)
        self._ledger.writer.refusal = LedgerReadOnly("the worker is starting", source="start")
        self._reading = ReadingSide(settings, stores, chain, self._ledger)
        self._side = StoreSide(settings, stores, self._ledger)
        return self._reading, self._side

    @staticmethod
    async def _open(reading: ReadingSide, side: StoreSide) -> None:
        if await reading.open_ledger():
            await side.start()


def origin_of(stores: PostgresStores) -> str:
    """The book's origin, by its vault. Raises SettingsError before `daicho init`; blocking."""
    vault = stores.vault()
    try:
        found = vault.identity()
    finally:
        vault.close()
    if found is None:
        raise SettingsError("this book has not begun yet: run `daicho init`")
    origin: str = found[0]
    return origin

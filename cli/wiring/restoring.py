"""A book rebuilt from its topics, into its database or into a data folder of one's own."""

from collections.abc import Sequence
from typing import Any

from cli.settings import Settings, SettingsError
from cli.wiring.stores import Stores
from domain.anchor_book import ORIGIN_SUFFIX, AnchorBook
from domain.entry import decode_stamp
from domain.ledger import Ledger
from merkle.checkpoint import StoredCheckpoint
from projections.anchor_projector import AnchorProjector
from projections.projector import Projector
from storage.restore import EventRestorer
from streams import restoring
from streams.topic_checkpoints import CheckpointRecords
from streams.topic_heads import ANY_LOG
from streams.topic_partition import KafkaPartition
from streams.topic_reader import READ_RECORDS, TopicLog, TopicReader
from streams.topic_record import EntryRecords
from streams.topics import topic_name


def rebuild_from_kafka(settings: Settings, stores: Stores, progressed: restoring.Progressed) -> dict[str, Any]:
    """Restore everything that the stores lack; what they are afterwards. Raises ForkError, TopicUnavailable."""
    bootstrap = settings.kafka_bootstrap
    with KafkaPartition(bootstrap, topic_name(settings.book, "entries")) as partition:
        topic = TopicLog(TopicReader(partition, EntryRecords(ANY_LOG)))
        first = topic.read(1, 1)
        if not first:
            raise SettingsError(f"the topic {partition.topic} is empty: there is nothing to rebuild from")
        origin = decode_stamp(first[0][1]).log
        added = _restore_events(stores, "ledger", topic, progressed)
    with KafkaPartition(bootstrap, topic_name(settings.book, "anchors")) as partition:
        anchors = TopicLog(TopicReader(partition, EntryRecords(origin + ORIGIN_SUFFIX)))
        anchors_added = _restore_events(stores, "anchors", anchors, progressed)
    log = _restore_log(settings, stores, origin, first[0][1], progressed)
    projected = _restore_reads(settings, stores, progressed)
    return {
        "origin": origin,
        "size": log.size,
        "root": log.root.hex(),
        "entries_added": added,
        "anchor_events_added": anchors_added,
        "checkpoints_added": log.checkpoints,
        "projected": projected,
    }


def _restore_events(stores: Stores, which: str, topic: TopicLog, progressed: restoring.Progressed) -> int:
    ledger = which == "ledger"
    application: Any = Ledger(stores.ledger_environment()) if ledger else AnchorBook(stores.anchor_environment())
    stores.attach(application.recorder)
    entries = stores.entries() if ledger else stores.anchor_entries()
    try:
        target = EventRestorer(application.recorder, claims=ledger)
        return restoring.restore_entries(topic, entries, target, "entries" if ledger else which, progressed)
    finally:
        entries.close()
        application.recorder.close()


def _restore_log(
    settings: Settings, stores: Stores, origin: str, first_entry: bytes, progressed: restoring.Progressed
) -> restoring.RestoredLog:
    entries, log = stores.entries(), stores.log()
    try:
        tree = restoring.restore_log(entries, log, progressed)
        return restoring.restore_checkpoints(_checkpoints(settings, origin), first_entry, tree, log)
    finally:
        entries.close()
        log.close()


def _checkpoints(settings: Settings, origin: str) -> Sequence[StoredCheckpoint]:
    """Every checkpoint in the topic."""
    records, found = CheckpointRecords(origin), dict[int, StoredCheckpoint]()
    with KafkaPartition(settings.kafka_bootstrap, topic_name(settings.book, "checkpoints")) as partition:
        offset, end = partition.bounds()
        while offset < end and (raws := partition.fetch(offset, READ_RECORDS)):
            for raw in raws:
                checkpoint = records.checkpoint(raw)
                found.setdefault(checkpoint.size, checkpoint)
            offset = raws[-1].offset + 1
    return list(found.values())


def _restore_reads(settings: Settings, stores: Stores, progressed: restoring.Progressed) -> int:
    entries, anchors, reads = stores.entries(), stores.anchor_entries(), stores.reads()
    try:
        restoring.restore_projection(anchors, AnchorProjector(reads, settings.own_chains), progressed)
        return restoring.restore_projection(entries, Projector(reads), progressed)
    finally:
        for store in (entries, anchors, reads):
            store.close()

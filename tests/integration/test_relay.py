"""The relay from a real store into a real topic: the store's bytes in their order, and nothing it cannot vouch for."""

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from kafka.admin import ConfigResource, ConfigResourceType

from domain.errors import StorageUnavailable
from merkle.checkpoint import Checkpoint, StoredCheckpoint
from merkle.hashing import leaf_hash
from merkle.notes import Ed25519Signer, join_note
from storage.log_store import SqliteLogStore
from storage.postgres.entry_log import PostgresEntryLog
from streams import topic_writer, topics
from streams.local import ENDED, FAILED, RUNNING, STOPPED
from streams.relay import Relay
from streams.topic_checkpoints import CheckpointFeed, CheckpointRecords
from streams.topic_reader import TAIL_RECORDS, TopicReader
from streams.topic_record import EntryRecords, TopicRecord
from streams.topic_writer import TopicWriter, WriteFailed
from streams.topics import topic_name
from tests.entry_factory import ORIGIN, EntryFactory, Record
from tests.kafka_broker import KafkaBroker, NamedBroker, new_name
from tests.postgres_server import TestDatabase
from tests.topic_support import (
    Load,
    Saved,
    admin,
    delete_entries,
    fields_of,
    make_entries,
    new_plain_topic,
    new_topic,
    read_entries,
    read_raw,
    running,
    send_raw,
    store_entries,
    wait_for,
    wires,
    without_repeats,
)

Broker = KafkaBroker | NamedBroker


@pytest.fixture
def store(database: TestDatabase) -> PostgresEntryLog:
    return PostgresEntryLog(database.writer)


@pytest.fixture
def topic(broker: Broker) -> str:
    return new_topic(broker.bootstrap)


def reaches(relay: Relay, position: int) -> None:
    wait_for(lambda: relay.status().position >= position, f"position {position} was not reached: {relay.status()}")


def stops(relay: Relay, why: str) -> None:
    wait_for(lambda: relay.status().state == STOPPED, f"it did not stop: {relay.status()}")
    assert why in relay.status().error


def fails(relay: Relay, why: str) -> None:
    wait_for(lambda: relay.status().state == FAILED and why in relay.status().error, f"no failure: {relay.status()}")


# -- what it copies ----------------------------------------------------------------------------------------------------


def test_a_topic_gets_exactly_the_bytes_of_its_store_in_order(
    broker: Broker, topic: str, database: TestDatabase, store: PostgresEntryLog
) -> None:
    records, saved = make_entries(5_000), Saved()
    store_entries(database, records)
    with running(broker.bootstrap, topic, store, saved) as relay:
        reaches(relay, 5_000)
        wait_for(lambda: saved.last == 5_000)
        assert relay.status().lag == 0
    assert read_entries(broker.bootstrap, topic) == records
    leaves = {position: leaf_hash(entry) for position, entry in records}
    assert [position for position, _ in saved.all] == sorted({position for position, _ in saved.all})
    assert all(leaves[position] == leaf for position, leaf in saved.all)
    assert relay.status().state == ENDED


def test_what_is_committed_later_follows_when_the_relay_is_woken_and_also_when_it_is_not(
    broker: Broker, topic: str, database: TestDatabase, store: PostgresEntryLog
) -> None:
    records = make_entries(60)
    with running(broker.bootstrap, topic, store) as relay:
        for begin in range(0, 50, 10):
            store_entries(database, records[begin : begin + 10])
            relay.wake(begin + 10)
            reaches(relay, begin + 10)
        store_entries(database, records[50:])
        reaches(relay, 60)  # nobody woke it
    assert read_entries(broker.bootstrap, topic) == records


def test_the_lag_is_what_the_store_holds_beyond_the_topic(
    broker: Broker, topic: str, database: TestDatabase, store: PostgresEntryLog
) -> None:
    saved = Saved()
    store_entries(database, make_entries(10))
    with running(broker.bootstrap, topic, store, saved) as relay:
        reaches(relay, 10)
        saved.leading = False
        relay.wake(25)
        assert relay.status().lag == 15


def test_the_largest_entries_pass(broker: Broker, topic: str, database: TestDatabase, store: PostgresEntryLog) -> None:
    factory = EntryFactory()
    records = [factory.add("Trade", "a", "TradeNoteAdded", {"text": "x" * 65_000}) for _ in range(40)]
    store_entries(database, records)
    with running(broker.bootstrap, topic, store) as relay:
        reaches(relay, 40)
    assert read_entries(broker.bootstrap, topic) == records


def test_anchors_have_a_topic_of_their_own(broker: Broker, database: TestDatabase) -> None:
    topic = new_topic(broker.bootstrap, "anchors")
    records = make_entries(30, factory=EntryFactory(3, f"{ORIGIN}/anchors"))
    store_entries(database, records, "anchor_events")
    feed = PostgresEntryLog(database.writer, "anchor_events")
    with running(broker.bootstrap, topic, feed, records=EntryRecords(f"{ORIGIN}/anchors")) as relay:
        reaches(relay, 30)
    assert read_entries(broker.bootstrap, topic) == records


def test_checkpoints_follow_each_other_by_size(broker: Broker, tmp_path: Path) -> None:
    topic = new_topic(broker.bootstrap, "checkpoints")
    log, formats = SqliteLogStore(tmp_path / "log.db"), CheckpointRecords(ORIGIN)
    signer = Ed25519Signer.from_seed(ORIGIN, bytes(32))
    log.append(1, bytes(32 * 500))
    stored: list[StoredCheckpoint] = []

    def sign(size: int) -> None:
        body = Checkpoint(ORIGIN, size, size.to_bytes(32, "big")).body()
        note = join_note(body, [signer.sign(body)])
        stored.append(StoredCheckpoint(size, size.to_bytes(32, "big"), note, f"2026-11-26T09:00:00.{size:06d}Z"))
        log.add_checkpoint(stored[-2].size if len(stored) > 1 else 0, stored[-1])

    for size in (3, 40, 41):
        sign(size)
    for later in ((100, 250), (500,)):
        with running(broker.bootstrap, topic, CheckpointFeed(log), records=formats) as relay:
            for size in later:
                sign(size)
                relay.wake(size)
            reaches(relay, later[-1])
    assert [formats.checkpoint(raw) for raw in read_raw(broker.bootstrap, topic)] == stored


# -- where it goes on --------------------------------------------------------------------------------------------------


def test_the_tail_of_the_topic_says_where_to_go_on_whatever_position_was_saved(
    broker: Broker, topic: str, database: TestDatabase, store: PostgresEntryLog
) -> None:
    """Without the look at the tail this would double what is there, or leave a hole."""
    records = make_entries(3_000)
    store_entries(database, records)
    send_raw(broker.bootstrap, topic, wires(records[:1_234]))
    for _ in range(2):
        with running(broker.bootstrap, topic, store) as relay:
            reaches(relay, 3_000)
    assert read_entries(broker.bootstrap, topic) == records


def test_a_relay_whose_position_is_never_saved_doubles_nothing(
    broker: Broker, topic: str, database: TestDatabase, store: PostgresEntryLog
) -> None:
    class Unsaved(Saved):
        def save(self, position: int, leaf: bytes) -> None:
            super().save(position, leaf)
            raise StorageUnavailable("the position cannot be saved")

    records, saved = make_entries(4_000), Unsaved()
    store_entries(database, records)
    with running(broker.bootstrap, topic, store, saved) as relay:
        wait_for(lambda: saved.last == 4_000)
        assert "the position cannot be saved" in relay.status().error
    with running(broker.bootstrap, topic, store, saved) as relay:
        reaches(relay, 4_000)
    assert read_entries(broker.bootstrap, topic) == records


def test_a_store_that_is_away_for_a_while_is_caught_up_with(
    broker: Broker, topic: str, database: TestDatabase, store: PostgresEntryLog
) -> None:
    away = threading.Event()

    class Feed:
        def head(self) -> int:
            return store.head()

        def read(self, start: int, limit: int) -> list[Record]:
            if away.is_set():
                raise StorageUnavailable("the event store cannot be read for now")
            return store.read(start, limit)

    records = make_entries(2_000)
    store_entries(database, records[:1_000])
    with running(broker.bootstrap, topic, Feed()) as relay:
        reaches(relay, 1_000)
        away.set()
        store_entries(database, records[1_000:])
        relay.wake(2_000)
        fails(relay, "the event store cannot be read for now")
        away.clear()
        reaches(relay, 2_000)
        assert relay.status().state == RUNNING
        assert relay.status().error == ""
    assert read_entries(broker.bootstrap, topic) == records


def test_a_topic_that_is_made_later_is_waited_for(
    broker: Broker, database: TestDatabase, store: PostgresEntryLog
) -> None:
    book = new_name("b")
    records = make_entries(10)
    store_entries(database, records)
    with running(broker.bootstrap, topic_name(book, "entries"), store) as relay:
        fails(relay, "there is no such topic")
        topics.apply(broker.bootstrap, book)
        reaches(relay, 10)
    assert read_entries(broker.bootstrap, topic_name(book, "entries")) == records


def test_a_topic_that_lost_its_end_is_filled_again_from_the_store(
    broker: Broker, topic: str, database: TestDatabase, store: PostgresEntryLog
) -> None:
    records, saved = make_entries(500), Saved()
    saved.save(500, leaf_hash(records[-1][1]))  # that far it had come before
    store_entries(database, records)
    send_raw(broker.bootstrap, topic, wires(records[:321]))
    with running(broker.bootstrap, topic, store, saved) as relay:
        reaches(relay, 500)
    assert read_entries(broker.bootstrap, topic) == records


# -- what it does not vouch for ----------------------------------------------------------------------------------------


def test_a_topic_ahead_of_its_store_stops_the_relay(
    broker: Broker, topic: str, database: TestDatabase, store: PostgresEntryLog
) -> None:
    records = make_entries(100)
    store_entries(database, records)
    with running(broker.bootstrap, topic, store) as relay:
        reaches(relay, 100)
    delete_entries(database, after=90)
    with running(broker.bootstrap, topic, store) as relay:
        stops(relay, f"{topic} position 91: nothing here, {leaf_hash(records[90][1]).hex()} there")
        store_entries(database, make_entries(130, seed=4)[90:])
        relay.wake(130)
        stops(relay, "position 91")
    assert read_entries(broker.bootstrap, topic) == records


def test_another_entry_at_the_tail_stops_the_relay(
    broker: Broker, topic: str, database: TestDatabase, store: PostgresEntryLog
) -> None:
    records = make_entries(100)
    store_entries(database, records)
    other = make_entries(51, seed=9)[50:]
    send_raw(broker.bootstrap, topic, wires(records[:50] + other))
    with running(broker.bootstrap, topic, store) as relay:
        stops(
            relay, f"{topic} position 51: {leaf_hash(records[50][1]).hex()} here, {leaf_hash(other[0][1]).hex()} there"
        )
    assert read_entries(broker.bootstrap, topic) == records[:50] + other


def test_another_entry_before_the_tail_stops_the_relay_too(
    broker: Broker, topic: str, database: TestDatabase, store: PostgresEntryLog
) -> None:
    records = make_entries(100)
    store_entries(database, records)
    other = make_entries(51, seed=9)[50:]
    send_raw(broker.bootstrap, topic, wires([*records[:50], *other, *records[51:60]]))
    with running(broker.bootstrap, topic, store) as relay:
        stops(relay, f"{topic} position 51")


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"value": b"hello"}, "not an entry"),
        ({"value": None}, "no value"),
        ({"key": b"x"}, "the key is not the entry's aggregate id"),
        ({"headers": []}, "the header ce_specversion is there 0 times"),
    ],
)
def test_a_foreign_record_at_the_tail_stops_the_relay(
    broker: Broker, topic: str, database: TestDatabase, store: PostgresEntryLog, changed: dict[str, Any], why: str
) -> None:
    records = make_entries(20)
    store_entries(database, records)
    first, (tenth,) = wires(records[:9]), wires(records[9:10])
    send_raw(broker.bootstrap, topic, [*first, fields_of(tenth) | changed])
    with running(broker.bootstrap, topic, store) as relay:
        stops(relay, f"{topic} offset 9: {why}")
    assert len(read_raw(broker.bootstrap, topic)) == 10


def test_the_topic_of_another_book_stops_the_relay(
    broker: Broker, topic: str, database: TestDatabase, store: PostgresEntryLog
) -> None:
    store_entries(database, make_entries(20))
    send_raw(broker.bootstrap, topic, wires(make_entries(10, factory=EntryFactory(1, "daicho.invalid/other"))))
    with running(broker.bootstrap, topic, store, records=EntryRecords(ORIGIN)) as relay:
        stops(relay, f"an entry of the log daicho.invalid/other, not of {ORIGIN}")


def test_a_topic_without_its_beginning_or_with_a_hole_stops_the_relay(
    broker: Broker, database: TestDatabase, store: PostgresEntryLog
) -> None:
    records = make_entries(100)
    store_entries(database, records)
    late, holed = new_topic(broker.bootstrap), new_topic(broker.bootstrap)
    send_raw(broker.bootstrap, late, wires(records[10:50]))
    send_raw(broker.bootstrap, holed, wires(records[:10] + records[11:50]))
    with running(broker.bootstrap, late, store) as relay:
        stops(relay, f"{late} begins at offset 0 with position 11, not with 1")
    with running(broker.bootstrap, holed, store) as relay:
        stops(relay, "position 12 where 11 was due")


def test_a_topic_with_three_partitions_stops_the_relay(
    broker: Broker, database: TestDatabase, store: PostgresEntryLog
) -> None:
    store_entries(database, make_entries(10))
    topic = new_plain_topic(broker.bootstrap, partitions=3)
    with running(broker.bootstrap, topic, store) as relay:
        stops(relay, f"{topic}: 3 partitions, must be 1")
    assert read_raw(broker.bootstrap, topic) == []


def test_a_store_with_a_hole_stops_the_relay_before_the_hole(
    broker: Broker, topic: str, database: TestDatabase, store: PostgresEntryLog
) -> None:
    records = make_entries(100)
    store_entries(database, records[:60] + records[61:])
    with running(broker.bootstrap, topic, store) as relay:
        stops(relay, "position 62 where 61 was due")
    copied = read_entries(broker.bootstrap, topic)
    assert copied == records[: len(copied)]


def test_a_store_with_an_entry_at_the_wrong_position_stops_the_relay(
    broker: Broker, topic: str, database: TestDatabase, store: PostgresEntryLog
) -> None:
    records = make_entries(10)
    store_entries(database, [*records[:7], (8, records[8][1])])
    with running(broker.bootstrap, topic, store) as relay:
        stops(relay, "the entry at position 8 says 9")
    copied = read_entries(broker.bootstrap, topic)
    assert copied == records[: len(copied)]


def test_whoever_writes_into_the_topic_beside_an_idle_relay_is_noticed_before_the_next_entry(
    broker: Broker, topic: str, database: TestDatabase, store: PostgresEntryLog
) -> None:
    records = make_entries(20)
    store_entries(database, records[:10])
    with running(broker.bootstrap, topic, store) as relay:
        reaches(relay, 10)
        send_raw(broker.bootstrap, topic, [{"key": b"k", "value": b"hello"}])
        stops(relay, f"{topic} offset 10: not an entry")
        store_entries(database, records[10:])
        relay.wake(20)
    assert len(read_raw(broker.bootstrap, topic)) == 11


def test_whoever_writes_into_the_topic_beside_a_busy_relay_is_noticed_at_the_next_acknowledgement(
    broker: Broker, topic: str, database: TestDatabase, store: PostgresEntryLog
) -> None:
    def append(made: Sequence[Record]) -> None:
        store_entries(database, made)
        relay.wake(made[-1][0])

    with running(broker.bootstrap, topic, store) as relay, Load(append, EntryFactory()):
        reaches(relay, 200)
        send_raw(broker.bootstrap, topic, [{"key": b"k", "value": b"hello"}])
        stops(relay, "not an entry")


def test_whoever_writes_into_the_topic_while_its_tail_is_looked_at_is_noticed(
    broker: Broker, topic: str, database: TestDatabase, store: PostgresEntryLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    records, really = make_entries(20), TopicReader.last_records
    store_entries(database, records)
    foreign: list[Any] = [{"key": b"k", "value": b"hello"}]

    def last_records(self: TopicReader, count: int) -> list[TopicRecord]:
        found = really(self, count)
        if foreign:
            send_raw(broker.bootstrap, topic, [foreign.pop()])
        return found

    monkeypatch.setattr(TopicReader, "last_records", last_records)
    send_raw(broker.bootstrap, topic, wires(records[:10]))
    with running(broker.bootstrap, topic, store) as relay:
        stops(relay, f"{topic} offset 10: not an entry")
    assert len(read_raw(broker.bootstrap, topic)) == 11


def test_a_producer_ends_before_anything_follows_what_was_refused(
    broker: Broker, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(topic_writer, "BATCH_BYTES", 2_000)
    factory, told = EntryFactory(), threading.Event()
    records = make_entries(30, factory=factory)
    records.append(factory.add("Trade", "a", "TradeNoteAdded", {"text": "x" * 60_000}))
    records += make_entries(30, factory=factory)
    _limit(broker, topic, "20000")
    writer = TopicWriter(broker.bootstrap, topic, 0, told.set)
    for (position, _), wire in zip(records, wires(records), strict=True):
        writer.send(position, wire)
    wait_for(lambda: not _producers(topic), "the producer goes on")
    with pytest.raises(WriteFailed, match="MessageSizeTooLarge"):
        writer.collect()
    with pytest.raises(WriteFailed, match="MessageSizeTooLarge"):
        writer.send(62, wires(records)[0])
    writer.kill()
    assert told.is_set()
    assert read_entries(broker.bootstrap, topic) == records[:30]


def test_nothing_follows_a_record_that_the_broker_refuses_for_good(
    broker: Broker, topic: str, database: TestDatabase, store: PostgresEntryLog
) -> None:
    factory = EntryFactory()
    records = make_entries(3_000, factory=factory)
    records.append(factory.add("Trade", "a", "TradeNoteAdded", {"text": "x" * 60_000}))
    records += make_entries(3_000, factory=factory)
    store_entries(database, records)
    _limit(broker, topic, "20000")
    with running(broker.bootstrap, topic, store) as relay:
        fails(relay, "MessageSizeTooLarge")
        wait_for(lambda: len(read_raw(broker.bootstrap, topic)) == 3_000)
        _limit(broker, topic, "1048576")
        reaches(relay, 6_001)
    assert read_entries(broker.bootstrap, topic) == records


def _limit(broker: Broker, topic: str, size_bytes: str) -> None:
    with admin(broker.bootstrap) as client:
        client.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, {"max.message.bytes": size_bytes})])


# -- who may copy ------------------------------------------------------------------------------------------------------


def test_a_relay_that_does_not_lead_sends_nothing(
    broker: Broker, topic: str, database: TestDatabase, store: PostgresEntryLog
) -> None:
    records, saved = make_entries(40), Saved()
    store_entries(database, records[:20])
    saved.leading = False
    with running(broker.bootstrap, topic, store, saved) as relay:
        fails(relay, "another process copies into it")
        assert read_raw(broker.bootstrap, topic) == []
        saved.leading = True
        reaches(relay, 20)
        saved.leading = False
        store_entries(database, records[20:])
        relay.wake(40)
        fails(relay, "another process copies into it")
    assert read_entries(broker.bootstrap, topic) == records[:20]


def test_a_take_over_in_the_middle_loses_nothing_and_skips_nothing(
    broker: Broker, topic: str, database: TestDatabase, store: PostgresEntryLog
) -> None:
    factory, old, new = EntryFactory(), Saved(), Saved()

    def append(made: Sequence[Record]) -> None:
        store_entries(database, made)
        first.wake(made[-1][0])

    with running(broker.bootstrap, topic, store, old, name="old") as first, Load(append, factory) as load:
        reaches(first, 300)
        with running(broker.bootstrap, topic, store, new, name="new") as second:
            reaches(first, 600)  # both at once, until the old one knows
            old.leading = False
            fails(first, "another process copies into it")
            load.end()
            reaches(second, len(load.records))
            copied = read_entries(broker.bootstrap, topic)
    assert without_repeats(copied) == load.records


def test_two_relays_that_both_believe_to_lead_leave_a_topic_that_reads_whole(
    broker: Broker, topic: str, database: TestDatabase, store: PostgresEntryLog
) -> None:
    factory = EntryFactory()
    with (
        running(broker.bootstrap, topic, store, name="one") as one,
        running(broker.bootstrap, topic, store, name="two") as two,
    ):
        with Load(lambda made: store_entries(database, made), factory) as load:
            wait_for(lambda: len(load.records) >= 2_000)
        for relay in (one, two):
            reaches(relay, len(load.records))
    assert without_repeats(read_entries(broker.bootstrap, topic)) == load.records


def test_a_tail_that_begins_in_what_another_relay_repeated_is_no_gap(
    broker: Broker, topic: str, database: TestDatabase, store: PostgresEntryLog
) -> None:
    made = make_entries(2 * TAIL_RECORDS)
    store_entries(database, made)
    # one sent the first half, the other repeated its beginning, then the first went on
    send_raw(broker.bootstrap, topic, wires([*made[:TAIL_RECORDS], *made[:200], *made[TAIL_RECORDS:-100]]))
    with running(broker.bootstrap, topic, store) as relay:
        reaches(relay, len(made))
    assert without_repeats(read_entries(broker.bootstrap, topic)) == made


# -- how it ends -------------------------------------------------------------------------------------------------------


def test_no_thread_of_a_producer_outlives_its_relay(
    broker: Broker, topic: str, database: TestDatabase, store: PostgresEntryLog
) -> None:
    store_entries(database, make_entries(3_000))
    with running(broker.bootstrap, topic, store) as relay:
        reaches(relay, 1_000)
        assert _producers(topic)
    assert not _producers(topic)


def _producers(topic: str) -> list[str]:
    return [thread.name for thread in threading.enumerate() if f"daicho-relay-{topic}" in thread.name]

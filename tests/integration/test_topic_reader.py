"""Reading topics of a real broker by position."""

import pytest
from kafka import KafkaProducer, TopicPartition

from merkle.checkpoint import Checkpoint, StoredCheckpoint
from merkle.hashing import leaf_hash
from merkle.notes import Ed25519Signer, join_note
from streams import topics
from streams.local import LogBehindError
from streams.processor import ForkError, GapError
from streams.topic_checkpoints import CheckpointRecords
from streams.topic_heads import TopicHeads
from streams.topic_partition import KafkaPartition, RecordsGone, TopicUnavailable
from streams.topic_reader import TopicLog, TopicReader, open_topic
from streams.topic_record import EntryRecords, RecordRefused
from streams.topics import TopicsRefused, topic_name
from tests.entry_factory import ORIGIN, Record
from tests.kafka_broker import KafkaBroker, NamedBroker, new_name
from tests.postgres_server import free_port
from tests.topic_support import admin, fields_of, make_entries, new_plain_topic, new_topic, send_raw, wires

Broker = KafkaBroker | NamedBroker
RECORDS = make_entries(3_000)
FORMAT = EntryRecords(ORIGIN)


@pytest.fixture
def topic(broker: Broker) -> str:
    return new_topic(broker.bootstrap)


def read_all(reader: TopicReader, start: int = 1, max_records: int = 700) -> list[Record]:
    return [record for batch in reader.read(start, max_records) for record in batch.records]


def test_an_empty_topic_has_no_tail_and_nothing_to_read(broker: Broker, topic: str) -> None:
    with open_topic(broker.bootstrap, topic, FORMAT) as reader:
        assert reader.tail() is None
        assert reader.last_records() == []
        assert read_all(reader) == []
        assert TopicLog(reader).head() == 0
        assert TopicLog(reader).read(1, 10) == []
        with pytest.raises(LogBehindError):
            reader.find(1)


def test_everything_is_read_from_any_position(broker: Broker, topic: str) -> None:
    send_raw(broker.bootstrap, topic, wires(RECORDS))
    with open_topic(broker.bootstrap, topic, FORMAT) as reader:
        tail = reader.tail()
        assert tail is not None
        assert (tail.position, tail.entry, tail.offset, tail.leaf) == (
            3_000,
            RECORDS[-1][1],
            2_999,
            leaf_hash(RECORDS[-1][1]),
        )
        for start in (1, 2, 1_500, 3_000, 3_001):
            assert read_all(reader, start) == RECORDS[start - 1 :]
        for position in (1, 999, 3_000):
            assert reader.find(position, leaf_hash(RECORDS[position - 1][1])) == position - 1
        assert [record.position for record in reader.last_records(5)] == [2_996, 2_997, 2_998, 2_999, 3_000]


def test_repeats_are_dropped_and_the_first_of_each_position_is_found(broker: Broker, topic: str) -> None:
    written = RECORDS[:1_000] + RECORDS[600:1_400] + RECORDS[1_399:2_000] + RECORDS[1_000:1_100]
    send_raw(broker.bootstrap, topic, wires(written))
    with open_topic(broker.bootstrap, topic, FORMAT) as reader:
        assert read_all(reader) == RECORDS[:2_000]
        assert read_all(reader, 1_050) == RECORDS[1_049:2_000]
        assert reader.find(900) == 899
        assert reader.find(1_001) == 1_000 + 400
        log = TopicLog(reader)
        assert log.head() == 2_000
        assert log.read(1, 5_000) == RECORDS[:2_000]
        assert log.read(2_001, 10) == []
        assert log.read(1_990, 5) == RECORDS[1_989:1_994]


def test_a_topic_read_as_a_log_goes_on_when_more_has_come(broker: Broker, topic: str) -> None:
    send_raw(broker.bootstrap, topic, wires(RECORDS[:100]))
    with open_topic(broker.bootstrap, topic, FORMAT) as reader:
        log = TopicLog(reader)
        assert log.read(1, 1_000) == RECORDS[:100]
        assert log.read(101, 1_000) == []
        send_raw(broker.bootstrap, topic, wires(RECORDS[50:200]))
        assert log.read(101, 1_000) == RECORDS[100:200]
        assert log.head() == 200


def test_offsets_that_hold_no_record_disturb_nobody(broker: Broker, topic: str) -> None:
    """Records of transactions: each commit takes an offset, the last one behind the last record."""
    producer = KafkaProducer(bootstrap_servers=broker.bootstrap, transactional_id=new_name("tx"), retry_backoff_ms=10)
    producer.init_transactions()
    for begin in range(0, 100, 10):
        producer.begin_transaction()
        for wire in wires(RECORDS[begin : begin + 10]):
            producer.send(topic, partition=0, **fields_of(wire))
        producer.commit_transaction()
    producer.close(5)
    with open_topic(broker.bootstrap, topic, FORMAT) as reader:
        assert reader.bounds() == (0, 110)
        tail = reader.tail()
        assert tail is not None
        assert (tail.position, tail.offset) == (100, 108)
        assert read_all(reader) == RECORDS[:100]
        assert [reader.find(position) for position in (1, 10, 11, 100)] == [0, 9, 11, 108]
        with pytest.raises(LogBehindError):
            reader.find(101)
        assert TopicLog(reader).read(95, 100) == RECORDS[94:100]


@pytest.mark.parametrize(
    ("spoil", "error", "why"),
    [
        ("missing", GapError, "position 12 where 11 was due"),
        ("reordered", GapError, "position 12 where 11 was due"),
        ("truncated", RecordRefused, "offset 10: not an entry"),
        ("edited", RecordRefused, "offset 10: the header daicho-leaf is not that of these bytes"),
        ("foreign", RecordRefused, "offset 10: not an entry"),
        ("emptied", RecordRefused, "offset 10: no value"),
        ("replaced", ForkError, "position 11"),
    ],
)
def test_a_topic_that_was_tampered_with_is_read_up_to_there_and_no_further(
    broker: Broker, topic: str, spoil: str, error: type[Exception], why: str
) -> None:
    sent = [fields_of(wire) for wire in wires(RECORDS[:20])]
    eleventh = sent[10]
    spoiled = {
        "missing": [*sent[:10], *sent[11:]],
        "reordered": [*sent[:10], sent[11], sent[10], *sent[12:]],
        "truncated": [*sent[:10], {**eleventh, "value": eleventh["value"][:-5]}],
        "edited": [*sent[:10], {**eleventh, "value": eleventh["value"].replace(b"x", b"y")}],
        "foreign": [*sent[:10], {"key": b"k", "value": b"hello"}],
        "emptied": [*sent[:10], {**eleventh, "value": None}],
        "replaced": [*sent[:20], fields_of(wires(make_entries(11, seed=4))[10])],
    }
    send_raw(broker.bootstrap, topic, spoiled[spoil])
    read: list[Record] = []
    with open_topic(broker.bootstrap, topic, FORMAT) as reader, pytest.raises(error, match=why):
        read += [record for batch in reader.read(1, 1) for record in batch.records]
    with open_topic(broker.bootstrap, topic, FORMAT) as reader:
        log = TopicLog(reader)
        before = [log.read(position, 1) for position in range(1, 11)]
        assert [record for part in before for record in part] == RECORDS[:10]


def test_a_beginning_that_was_deleted_is_told_as_that(broker: Broker, topic: str) -> None:
    send_raw(broker.bootstrap, topic, wires(RECORDS[:50]))
    with open_topic(broker.bootstrap, topic, FORMAT) as reader, admin(broker.bootstrap) as client:
        assert read_all(reader) == RECORDS[:50]
        client.delete_records({TopicPartition(topic, 0): 20})
        with pytest.raises(RecordsGone, match="begins at position 21, 1 is gone"):
            read_all(reader)
        with pytest.raises(RecordsGone, match="begins at position 21, 20 is gone"):
            reader.find(20)
        assert read_all(reader, 22) == RECORDS[21:50]


def test_an_offset_that_is_gone_is_told_as_that(broker: Broker, topic: str) -> None:
    send_raw(broker.bootstrap, topic, wires(RECORDS[:50]))
    with KafkaPartition(broker.bootstrap, topic) as partition, admin(broker.bootstrap) as client:
        client.delete_records({TopicPartition(topic, 0): 20})
        with pytest.raises(RecordsGone, match="there is no offset 5 any more"):
            partition.fetch(5, 10)
        with pytest.raises(RecordsGone):
            partition.fetch(51, 10)
        assert [raw.offset for raw in partition.fetch(20, 2)] == [20, 21]


def test_a_topic_that_is_not_there_or_has_other_partitions_is_not_read(broker: Broker) -> None:
    with pytest.raises(TopicUnavailable, match="there is no such topic"):
        KafkaPartition(broker.bootstrap, new_name("none"))
    topic = new_plain_topic(broker.bootstrap, partitions=3)
    with pytest.raises(TopicsRefused, match=f"{topic}: 3 partitions, must be 1"):
        KafkaPartition(broker.bootstrap, topic)


def test_a_broker_that_is_not_there_is_waited_for_no_longer_than_asked() -> None:
    with pytest.raises(TopicUnavailable):
        KafkaPartition(f"127.0.0.1:{free_port()}", "daicho.main.entries", answer_seconds=0.5)


def test_a_compressed_batch_reads_like_any_other(broker: Broker, topic: str) -> None:
    send_raw(broker.bootstrap, topic, wires(RECORDS[:200]), compression_type="gzip")
    with open_topic(broker.bootstrap, topic, FORMAT) as reader:
        assert read_all(reader, 150) == RECORDS[149:200]


def test_the_last_entry_and_checkpoint_that_kafka_knows(broker: Broker) -> None:
    book = new_name("b")
    topics.apply(broker.bootstrap, book)
    heads = TopicHeads(broker.bootstrap, book)
    assert heads.last_entry() == heads.last_checkpoint() == (0, b"")
    send_raw(broker.bootstrap, topic_name(book, "entries"), wires(RECORDS[:50] + RECORDS[30:40]))
    assert heads.last_entry() == (50, leaf_hash(RECORDS[49][1]))
    formats, signer = CheckpointRecords(ORIGIN), Ed25519Signer.from_seed(ORIGIN, bytes(32))
    for size in (3, 49, 50, 49):
        root = size.to_bytes(32, "big")
        body = Checkpoint(ORIGIN, size, root).body()
        stored = StoredCheckpoint(size, root, join_note(body, [signer.sign(body)]), "2026-11-26T09:00:00.000000Z")
        send_raw(broker.bootstrap, topic_name(book, "checkpoints"), [formats.encode(size, stored)])
    assert heads.last_checkpoint() == (50, (50).to_bytes(32, "big"))
    with open_topic(broker.bootstrap, topic_name(book, "checkpoints"), formats) as reader:
        assert [reader.find(size) for size in (3, 50)] == [0, 2]
        assert reader.find(49) in (1, 3)
        with pytest.raises(LogBehindError, match="ends before position 51"):
            reader.find(51)
        with pytest.raises(RecordsGone, match="has no position 20"):
            reader.find(20)
        with pytest.raises(ValueError, match="no gapless positions"):
            next(reader.read(1))
    send_raw(broker.bootstrap, topic_name(book, "entries"), [{"key": b"k", "value": b"hello"}])
    with pytest.raises(RecordRefused, match="offset 60: not an entry"):
        heads.last_entry()

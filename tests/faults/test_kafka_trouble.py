"""Kafka killed, paused, emptied and damaged under a relay that copies: nothing is lost, nothing is out of order."""

import logging
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from storage.postgres.entry_log import PostgresEntryLog
from streams import relay_session, topic_writer
from streams.local import ENDED, FAILED, RUNNING, STOPPED
from streams.relay import Relay
from streams.topic_partition import KafkaPartition
from streams.topic_reader import open_topic
from streams.topic_record import EntryRecords, RecordRefused
from streams.topic_verify import verify
from streams.topics import apply, topic_name
from tests.entry_factory import ORIGIN, EntryFactory, Record
from tests.kafka_broker import KafkaBroker
from tests.postgres_server import TestDatabase
from tests.topic_support import (
    Load,
    Saved,
    make_entries,
    new_topic,
    read_entries,
    running,
    store_entries,
    wait_for,
    wires,
    without_repeats,
)

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
PROCESS = Path(__file__).with_name("relay_process.py")


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """The client prints several lines for each attempt to reach a broker that is away."""
    logger = logging.getLogger("kafka")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    yield
    logger.setLevel(before)


@pytest.fixture(scope="module")
def own_broker() -> Iterator[KafkaBroker]:
    """A broker that these tests may kill."""
    with KafkaBroker() as broker:
        yield broker


@pytest.fixture
def store(database: TestDatabase) -> PostgresEntryLog:
    return PostgresEntryLog(database.writer)


@pytest.fixture
def topic(own_broker: KafkaBroker) -> str:
    return new_topic(own_broker.bootstrap)


def reaches(relay: Relay, position: int) -> None:
    wait_for(lambda: relay.status().position >= position, f"position {position} was not reached: {relay.status()}")


def state(relay: Relay, expected: str, why: str = "") -> None:
    wait_for(lambda: relay.status().state == expected and why in relay.status().error, f"{relay.status()}")


def load_on(database: TestDatabase, relay: Relay) -> Load:
    """Writes entries and wakes the relay, as the service does: it never waits for the relay."""

    def append(made: Sequence[Record]) -> None:
        store_entries(database, made)
        relay.wake(made[-1][0])

    return Load(append, EntryFactory())


def test_a_broker_killed_twice_under_load_loses_and_reorders_nothing(
    own_broker: KafkaBroker, topic: str, database: TestDatabase, store: PostgresEntryLog
) -> None:
    saved = Saved()
    with running(own_broker.bootstrap, topic, store, saved) as relay, load_on(database, relay) as load:
        for _ in range(2):
            reaches(relay, relay.status().position + 500)
            own_broker.kill9()
            before = len(load.records)
            wait_for(lambda before=before: len(load.records) > before + 500)
            own_broker.start()
            reaches(relay, before + 500)
        load.end()
        reaches(relay, len(load.records))
        assert relay.status().state == RUNNING
    copied = read_entries(own_broker.bootstrap, topic)
    assert without_repeats(copied) == load.records
    assert saved.last == len(load.records)
    with KafkaPartition(own_broker.bootstrap, topic) as partition:
        assert verify(partition, EntryRecords(ORIGIN), store).agrees


@pytest.mark.parametrize("stall_seconds", [60.0, 3.0], ids=["the same producer goes on", "a new producer takes over"])
def test_a_broker_paused_for_longer_than_requests_last_loses_and_reorders_nothing(
    own_broker: KafkaBroker,
    topic: str,
    database: TestDatabase,
    store: PostgresEntryLog,
    monkeypatch: pytest.MonkeyPatch,
    stall_seconds: float,
) -> None:
    monkeypatch.setattr(topic_writer, "REQUEST_TIMEOUT_MS", 1_000)
    monkeypatch.setattr(relay_session, "ANSWER_SECONDS", 1.0)
    monkeypatch.setattr(relay_session, "STALL_SECONDS", stall_seconds)
    with running(own_broker.bootstrap, topic, store) as relay, load_on(database, relay) as load:
        reaches(relay, 300)
        own_broker.pause()
        try:
            if stall_seconds < 60:
                state(relay, FAILED)
            else:
                time.sleep(5)
        finally:
            own_broker.resume()
        reaches(relay, len(load.records) + 300)
        load.end()
        reaches(relay, len(load.records))
    assert without_repeats(read_entries(own_broker.bootstrap, topic)) == load.records


def test_a_relay_killed_between_acknowledgement_and_saved_position_doubles_nothing(
    own_broker: KafkaBroker, topic: str, database: TestDatabase, store: PostgresEntryLog
) -> None:
    records = make_entries(9_000)
    store_entries(database, records[:3_000])
    command = [sys.executable, PROCESS, own_broker.bootstrap, topic, database.writer.conninfo, "main"]
    for copied in (3_000, 6_000):
        with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT, env={"PYTHONPATH": str(ROOT)}) as process:
            assert process.stdout is not None
            acknowledged = int(process.stdout.readline())
            assert 0 < acknowledged <= copied
            process.kill()
        store_entries(database, records[copied : copied + 3_000])
    with running(own_broker.bootstrap, topic, store) as relay:
        reaches(relay, 9_000)
    assert read_entries(own_broker.bootstrap, topic) == records


def test_what_is_on_its_way_is_bounded_while_kafka_is_away_and_the_end_does_not_wait_for_it(
    own_broker: KafkaBroker,
    topic: str,
    database: TestDatabase,
    store: PostgresEntryLog,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(relay_session, "FLUSH_SECONDS", 1.0)
    records = make_entries(20_000)
    store_entries(database, records[:100])
    with running(own_broker.bootstrap, topic, store) as relay:
        reaches(relay, 100)
        own_broker.pause()
        try:
            store_entries(database, records[100:])
            relay.wake(20_000)
            session = relay._left
            assert session is not None
            assert session._writer is not None
            writer = session._writer
            wait_for(lambda: writer.in_flight > 500)
            time.sleep(1)
            assert writer.in_flight <= topic_writer.MAX_IN_FLIGHT_RECORDS
            assert writer._bytes <= topic_writer.MAX_IN_FLIGHT_BYTES
            assert len(session._ready) <= 2 * relay_session.READ_RECORDS
            assert relay.status().lag == 19_900
            running_before = _producers(topic)
            threading.Thread(target=relay._stopping.set).start()
            wait_for(lambda: relay.status().state == ENDED)
        finally:
            own_broker.resume()
    assert running_before
    wait_for(lambda: not _producers(topic))
    with running(own_broker.bootstrap, topic, store) as relay:
        reaches(relay, 20_000)
    assert without_repeats(read_entries(own_broker.bootstrap, topic)) == records


def test_a_relay_that_starts_before_its_broker_waits_for_it(
    own_broker: KafkaBroker,
    topic: str,
    database: TestDatabase,
    store: PostgresEntryLog,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(relay_session, "ANSWER_SECONDS", 1.0)
    records = make_entries(100)
    store_entries(database, records)
    own_broker.kill9()
    with running(own_broker.bootstrap, topic, store) as relay:
        state(relay, FAILED, "TopicUnavailable")
        own_broker.start()
        reaches(relay, 100)
    assert read_entries(own_broker.bootstrap, topic) == records


@pytest.mark.parametrize("busy", [True, False])
def test_a_broker_that_lost_its_disk_is_filled_again_from_the_store(
    database: TestDatabase, store: PostgresEntryLog, monkeypatch: pytest.MonkeyPatch, *, busy: bool
) -> None:
    monkeypatch.setattr(relay_session, "ANSWER_SECONDS", 1.0)
    monkeypatch.setattr(relay_session, "STALL_SECONDS", 3.0)
    records = make_entries(3_000)
    store_entries(database, records[:2_000])
    with KafkaBroker() as broker:
        apply(broker.bootstrap, "main")
        topic = topic_name("main", "entries")
        with running(broker.bootstrap, topic, store) as relay:
            reaches(relay, 2_000)
            broker.kill9()
            broker.lose_disk()
            if busy:
                store_entries(database, records[2_000:])
                relay.wake(3_000)
            broker.start()
            state(relay, FAILED, "there is no such topic")
            apply(broker.bootstrap, "main")
            if not busy:
                reaches(relay, 2_000)
                store_entries(database, records[2_000:])
                relay.wake(3_000)
            wait_for(lambda: read_entries(broker.bootstrap, topic) == records)


def test_a_topic_emptied_behind_an_idle_relay_is_filled_again_from_the_beginning(
    database: TestDatabase, store: PostgresEntryLog
) -> None:
    """Sent on blindly, the next entry would be the first of the new topic, and all before it missing for ever."""
    records = make_entries(200)
    store_entries(database, records[:150])
    with KafkaBroker() as broker:
        apply(broker.bootstrap, "main")
        topic = topic_name("main", "entries")
        with running(broker.bootstrap, topic, store) as relay:
            reaches(relay, 150)
            broker.kill9()
            broker.lose_disk()
            broker.start()
            apply(broker.bootstrap, "main")
            time.sleep(relay_session.LOOK_SECONDS)
            store_entries(database, records[150:])
            relay.wake(200)
            wait_for(lambda: read_entries(broker.bootstrap, topic) == records)
            assert relay.status().state != STOPPED


def test_bytes_edited_on_the_brokers_disk_are_found(
    own_broker: KafkaBroker, topic: str, database: TestDatabase, store: PostgresEntryLog
) -> None:
    records = make_entries(100)
    store_entries(database, records)
    with running(own_broker.bootstrap, topic, store) as relay:
        reaches(relay, 100)
    own_broker.stop()
    (segment,) = (own_broker.data / f"{topic}-0").glob("*.log")
    data = segment.read_bytes()
    victim = wires(records)[49].value
    assert data.count(victim) == 1
    segment.write_bytes(data.replace(victim, victim.replace(b'"v":1', b'"v":2')))
    own_broker.start()
    refused = pytest.raises(RecordRefused, match=r"offset \d+: cannot be read \(.*crc")
    with open_topic(own_broker.bootstrap, topic, EntryRecords(ORIGIN)) as reader, refused:
        list(reader.read(1))
    with running(own_broker.bootstrap, topic, store) as relay:
        state(relay, STOPPED, "cannot be read")
    with KafkaPartition(own_broker.bootstrap, topic) as partition:
        report = verify(partition, EntryRecords(ORIGIN), store)
    assert not report.agrees
    assert report.foreign >= 1
    assert report.finished


def _producers(topic: str) -> list[str]:
    return [thread.name for thread in threading.enumerate() if f"daicho-relay-{topic}" in thread.name]

"""For tests of the relay and of topics: a store that is filled with made entries, raw reading and raw writing."""

import asyncio
import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, Self

import psycopg
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from psycopg import sql

from streams import topics
from streams.faults import Backoff
from streams.relay import Relay
from streams.topic_record import EntryRecords, Format, Wire
from tests.entry_factory import EntryFactory, Record
from tests.kafka_broker import new_name
from tests.postgres_server import TestDatabase

WAIT_SECONDS = 60.0


def make_entries(count: int, seed: int = 0, factory: EntryFactory | None = None) -> list[Record]:
    """So many entries of different lengths in a row."""
    factory = factory or EntryFactory(seed)
    aggregates = [factory.uuid() for _ in range(20)]
    return [
        factory.add(
            "Trade", factory.random.choice(aggregates), "TradeNoteAdded", {"text": "x" * factory.random.randrange(300)}
        )
        for _ in range(count)
    ]


def store_entries(database: TestDatabase, records: Sequence[Record], table: str = "stored_events") -> None:
    """Put entries into the event store as they are, in one transaction."""
    columns = "(notification_id, originator_id, originator_version, topic, state)"
    target = sql.SQL("COPY {} " + columns + " FROM STDIN").format(sql.Identifier(database.owner.schema, table))
    with (
        psycopg.connect(database.owner.conninfo) as connection,
        connection.cursor() as cursor,
        cursor.copy(target) as copy,
    ):
        for position, entry in records:
            copy.write_row((position, "x", position, "x", entry))


def delete_entries(database: TestDatabase, after: int) -> None:
    """What an older backup does not have."""
    table = sql.Identifier(database.owner.schema, "stored_events")
    with psycopg.connect(database.owner.conninfo) as connection:
        connection.execute(sql.SQL("DELETE FROM {} WHERE notification_id > %s").format(table), (after,))


def new_topic(bootstrap: str, suffix: str = "entries") -> str:
    """A topic of a book of its own, with the settings that it must have; its name."""
    book = new_name("b")
    topics.apply(bootstrap, book)
    return topics.topic_name(book, suffix)


def new_plain_topic(bootstrap: str, partitions: int = 1, **configs: str) -> str:
    """A topic with other settings; underscores for dots."""
    name = new_name("t")
    with admin(bootstrap) as client:
        wanted = {key.replace("_", "."): value for key, value in configs.items()}
        spec = {"num_partitions": partitions, "replication_factor": 1, "configs": wanted}
        client.create_topics({name: spec}, wait_for_metadata=True)
    return name


@contextmanager
def admin(bootstrap: str) -> Iterator[Any]:
    """Kafka's admin client."""
    client = KafkaAdminClient(bootstrap_servers=bootstrap)
    try:
        yield client
    finally:
        client.close()


def read_raw(bootstrap: str, topic: str) -> list[Any]:
    """Every record of a topic as Kafka's client gives it, in order of offsets."""
    consumer = KafkaConsumer(
        bootstrap_servers=bootstrap, enable_auto_commit=False, auto_offset_reset="none", allow_auto_create_topics=False
    )
    partition = TopicPartition(topic, 0)
    consumer.assign([partition])
    first, end = consumer.beginning_offsets([partition])[partition], consumer.end_offsets([partition])[partition]
    consumer.seek(partition, first)
    found: list[Any] = []
    while consumer.position(partition) < end:
        for records in consumer.poll(500).values():
            found += records
    consumer.close()
    return found


def read_entries(bootstrap: str, topic: str) -> list[Record]:
    """Every record as (position, value), decoded strictly."""
    return [EntryRecords("").decode(raw)[:2] for raw in read_raw(bootstrap, topic)]


def without_repeats(records: Sequence[Record]) -> list[Record]:
    """What a reader keeps: of each position the first, and nothing that skips one."""
    kept: list[Record] = []
    for position, entry in records:
        if position == len(kept) + 1:
            kept.append((position, entry))
        else:
            assert position <= len(kept), f"position {position} after {len(kept)}"
            assert kept[position - 1] == (position, entry), f"another entry at {position}"
    return kept


def send_raw(bootstrap: str, topic: str, wires: Sequence[Wire | dict[str, Any]], **configs: Any) -> None:
    """Write records into a topic as somebody else would."""
    producer = KafkaProducer(bootstrap_servers=bootstrap, **configs)
    for wire in wires:
        fields = wire if isinstance(wire, dict) else fields_of(wire)
        producer.send(topic, partition=0, **fields)
    producer.flush(30)
    producer.close(5)


def fields_of(wire: Wire) -> dict[str, Any]:
    """What the producer is given for a record, to be changed by a test."""
    return {"key": wire.key, "value": wire.value, "headers": list(wire.headers), "timestamp_ms": wire.timestamp_ms}


def wires(records: Sequence[Record]) -> list[Wire]:
    """The records as the relay writes them."""
    return [EntryRecords("").encode(position, entry) for position, entry in records]


class MemoryPartition:
    """A topic in memory: records at given offsets, handed over in pieces of at most `piece`."""

    topic = "daicho.main.entries"

    def __init__(self, raws: Sequence[Any], piece: int = 1_000, first: int = 0) -> None:
        self.raws, self.piece, self.first = list(raws), piece, first
        self.fetches = 0

    def bounds(self) -> tuple[int, int]:
        return self.first, max(self.first, self.raws[-1].offset + 1 if self.raws else 0)

    def fetch(self, offset: int, limit: int) -> list[Any]:
        self.fetches += 1
        begin = bisect_left(self.raws, offset, key=lambda raw: raw.offset)
        return self.raws[begin : begin + min(limit, self.piece)]

    def close(self) -> None:
        self.raws = []


def raw(wire: Wire, offset: int, **changes: Any) -> Any:
    """A record as Kafka's client hands it over."""
    fields = {"topic": MemoryPartition.topic, "offset": offset, "key": wire.key, "value": wire.value}
    return SimpleNamespace(**{**fields, "headers": list(wire.headers), **changes})


class Saved:
    """Where a relay saves its position; what it has saved, in order."""

    def __init__(self) -> None:
        self.all: list[tuple[int, bytes]] = []
        self.leading = True

    def save(self, position: int, leaf: bytes) -> None:
        self.all.append((position, leaf))

    def still_leader(self) -> bool:
        return self.leading

    @property
    def last(self) -> int:
        return self.all[-1][0] if self.all else 0


@contextmanager
def running(
    bootstrap: str,
    topic: str,
    feed: Any,
    saved: Saved | None = None,
    records: Format | None = None,
    name: str = "relay",
) -> Iterator[Relay]:
    """A relay that runs until the end of the context."""
    saved = saved or Saved()
    relay = Relay(
        name,
        bootstrap,
        topic,
        records or EntryRecords(""),
        feed,
        save=saved.save,
        still_leader=saved.still_leader,
        new_backoff=lambda: Backoff(0.05, 0.5),
    )
    asyncio.run(relay.start())
    try:
        yield relay
    finally:
        asyncio.run(relay.stop())


def wait_for(condition: Callable[[], bool], what: str = "it did not happen", seconds: float = WAIT_SECONDS) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


class Load:
    """Appends entries to a store, a few at a time, as long as the context lasts."""

    def __init__(self, append: Callable[[Sequence[Record]], None], factory: EntryFactory) -> None:
        self.append, self.factory, self.records = append, factory, list[Record]()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """No more."""
        self._ending.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ending.wait(0.005):
            made = make_entries(20, factory=self.factory)
            self.append(made)
            self.records += made

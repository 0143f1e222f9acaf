"""Every processor on Faust and a real Kafka, over SQLite and PostgreSQL: once, in order, from its own position.

The suite of the embedded host (`test_processors_local.py`) says what a processor owes; here the host is the other one.
"""

import asyncio
import logging
import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from merkle.notes import Ed25519Signer
from projections.digest import digest
from projections.postgres.store import PostgresReadStore
from projections.projector import Projector
from projections.store import ReadStore
from storage.log_store import SqliteLogStore
from storage.postgres.log_store import PostgresLogStore
from streams import topics
from streams.kafka.app import FaustRefused, topic_app
from streams.kafka.host import KafkaHost
from streams.kafka.metrics import WorkerMetrics
from streams.local import ProcessorStatus
from streams.processor import Processor, Record
from streams.sequencer import Sequencer
from streams.topic_record import EntryRecords
from tests.entry_factory import ORIGIN, EntryFactory, walk
from tests.host_support import Crash, CrashingProcessor, quick_backoff
from tests.kafka_broker import KafkaBroker, NamedBroker, new_name

COUNT = 400
RECORDS = walk(81, COUNT).factory.records
OTHER_RECORDS = walk(82, COUNT).factory.records
SIGNER = Ed25519Signer(ORIGIN, Ed25519PrivateKey.generate())
PATIENCE_SECONDS = 30.0
FORMAT = EntryRecords(ORIGIN)


@dataclass
class Bench:
    """Makes one kind of processor over one kind of store, and says what it has effected there."""

    name: str
    make: Callable[[], Processor]
    effect: Callable[[], Any]


def sequencer_bench(store: Any) -> Bench:
    return Bench(
        "sequencer",
        lambda: Sequencer(ORIGIN, store, SIGNER),
        lambda: (store.position(), b"".join(store.load())),
    )


def projector_bench(store: Any) -> Bench:
    return Bench("projector", lambda: Projector(store), lambda: digest(store))


@pytest.fixture(params=["sequencer on sqlite", "sequencer on postgres", "projector on sqlite", "projector on postgres"])
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    kind, _, where = request.param.partition(" on ")
    store: Any
    if where == "sqlite":
        store = SqliteLogStore(tmp_path / "log.db") if kind == "sequencer" else ReadStore(tmp_path / "read.db")
    else:
        database = request.getfixturevalue("database")
        if kind == "sequencer":
            store = PostgresLogStore(database.writer)
        else:
            PostgresReadStore.prepare(database.owner.conninfo, "main")
            store = PostgresReadStore(database.writer.conninfo, "main")
    yield sequencer_bench(store) if kind == "sequencer" else projector_bench(store)
    store.close()


@pytest.fixture
def expected(bench: Bench, tmp_path: Path) -> Any:
    """The effect of all records, processed at once and without any trouble, in SQLite."""
    store: Any
    if bench.name == "sequencer":
        store = SqliteLogStore(tmp_path / "expected-log.db")
        made = sequencer_bench(store)
    else:
        store = ReadStore(tmp_path / "expected-read.db")
        made = projector_bench(store)
    made.make().process(RECORDS)
    effect = made.effect()
    store.close()
    return effect


class Topic:
    """A topic of its own on a real broker."""

    def __init__(self, bootstrap: str, *, book: str = "") -> None:
        """With a `book` the topic is not made."""
        self.bootstrap = bootstrap
        self.book = book or new_name("b").replace("-", "_").lower()[:25]
        if not book:
            topics.apply(bootstrap, self.book)
        self.name = topics.topic_name(self.book, "entries")

    def send(self, records: Sequence[Record]) -> None:
        """Records as the relay writes them."""
        from kafka import KafkaProducer

        producer = KafkaProducer(bootstrap_servers=self.bootstrap, linger_ms=5)
        for position, entry in records:
            wire = FORMAT.encode(position, entry)
            producer.send(
                self.name, wire.value, key=wire.key, headers=wire.headers, timestamp_ms=wire.timestamp_ms, partition=0
            )
        producer.flush(30)
        producer.close()

    def send_foreign(self) -> None:
        from kafka import KafkaProducer

        producer = KafkaProducer(bootstrap_servers=self.bootstrap)
        producer.send(self.name, b"\x1b[31mnot an entry", partition=0).get(10)
        producer.close()

    def send_foreign_book(self) -> None:
        """An entry of another log, as when two books' topics were swapped."""
        from kafka import KafkaProducer

        other = "daicho.invalid/another"
        data = {"code": "elsewhere", "name": "Elsewhere"}
        wire = EntryRecords(other).encode(*EntryFactory(9, other).add("Company", "c" * 32, "CompanyRegistered", data))
        producer = KafkaProducer(bootstrap_servers=self.bootstrap)
        producer.send(self.name, wire.value, key=wire.key, headers=wire.headers, partition=0).get(10)
        producer.close()

    def host(self, processor: Processor, **options: Any) -> KafkaHost:
        group = f"daicho-{self.book}-{processor.name}"
        return KafkaHost(processor, self.bootstrap, group, self.name, FORMAT, new_backoff=quick_backoff, **options)


@pytest.fixture
def topic(broker: KafkaBroker | NamedBroker) -> Topic:
    return Topic(broker.bootstrap)


class Following:
    """A host, followed until what it says holds."""

    def __init__(self, host: KafkaHost) -> None:
        self.host = host
        self.seen: list[ProcessorStatus] = []
        host.on_change.append(self.seen.append)

    @property
    def status(self) -> ProcessorStatus:
        return self.host.status()[0]

    async def __aenter__(self) -> Self:
        await self.host.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.host.stop()

    async def until(self, condition: Callable[[ProcessorStatus], bool]) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not condition(self.status):  # noqa: ASYNC110 what it says may change in a thread
                await asyncio.sleep(0.01)

    async def reached(self, position: int) -> None:
        await self.until(lambda status: status.position >= position and status.state == "running")


# ---- following


def test_a_processor_catches_up_and_then_follows_with_faust(topic: Topic, bench: Bench, expected: Any) -> None:
    async def scenario() -> None:
        topic.send(RECORDS[:250])
        async with Following(topic.host(bench.make())) as following:
            await following.reached(250)
            for start in range(250, COUNT, 50):
                topic.send(RECORDS[start : start + 50])
                await following.reached(start + 50)
        assert following.status.state == "ended"

    asyncio.run(scenario())
    assert bench.effect() == expected


def test_a_restart_goes_on_from_the_processors_own_position(topic: Topic, bench: Bench, expected: Any) -> None:
    async def scenario(end: int) -> None:
        async with Following(topic.host(bench.make())) as following:
            await following.reached(end)

    for start, end in ((0, 120), (120, 121), (121, COUNT)):
        topic.send(RECORDS[start:end])
        asyncio.run(scenario(end))
    assert bench.effect() == expected


def test_records_that_the_relay_repeats_change_nothing(topic: Topic, bench: Bench, expected: Any) -> None:
    async def scenario() -> None:
        topic.send(RECORDS[:100])
        async with Following(topic.host(bench.make())) as following:
            await following.reached(100)
            await live(following)
            topic.send(RECORDS[60:100])
            topic.send(RECORDS[90:])
            await following.reached(COUNT)

    asyncio.run(scenario())
    assert bench.effect() == expected


def test_a_member_that_joined_while_the_topic_was_missing_is_given_it_after_a_restart(
    broker: KafkaBroker | NamedBroker, tmp_path: Path
) -> None:
    """The group remembers that it gave this member nothing, and would give it nothing again (KIP-345)."""
    missing = Topic(broker.bootstrap, book=new_name("b").replace("-", "_").lower()[:25])
    store = SqliteLogStore(tmp_path / "log.db")
    host = missing.host(sequencer_bench(store).make())

    async def scenario() -> None:
        early = topic_app(missing.bootstrap, host._group, missing.name, None)

        async def agent(stream: Any) -> None:
            async for _ in stream:
                raise AssertionError("the topic is not there")

        early.agent(early.topic(missing.name, value_type=bytes, key_type=bytes, internal=False))(agent)
        early.finalize()
        await early.start()
        await asyncio.sleep(3)
        await early.stop()
        topics.apply(missing.bootstrap, missing.book)
        async with Following(host) as following:
            await live(following)
            await asyncio.to_thread(missing.send, RECORDS[:50])
            await following.reached(50)

    asyncio.run(scenario())
    assert store.position()[0] == 50
    store.close()


# ---- the seek: our position counts, not the group's


def test_a_group_that_committed_more_than_the_database_has_skips_nothing(topic: Topic, tmp_path: Path) -> None:
    """As after a restored backup: Faust alone would begin at the committed offset. Without the seek this fails."""
    topic.send(RECORDS[:200])
    ahead = sequencer_bench(SqliteLogStore(tmp_path / "ahead.db"))
    asyncio.run(follow_live(topic, ahead, 200, RECORDS[200:300]))
    behind = SqliteLogStore(tmp_path / "behind.db")
    sequencer_bench(behind).make().process(RECORDS[:250])
    placed: list[int] = []

    async def scenario() -> None:
        # the plain consumer is told to stay out, so that Faust alone has to find the place
        host = topic.host(sequencer_bench(behind).make())
        host._catch_up = _already_near  # type: ignore[method-assign]
        really = host._place

        async def place() -> int:
            placed.append(await really())
            return placed[-1]

        host._place = place  # type: ignore[method-assign]
        async with Following(host) as following:
            await following.reached(300)

    asyncio.run(scenario())
    assert placed[0] == 249, "the record that the processor stands on is shown once more"
    assert behind.position()[0] == 300
    behind.close()


def test_a_database_that_is_ahead_of_the_group_repeats_nothing_it_need_not(topic: Topic, tmp_path: Path) -> None:
    topic.send(RECORDS[:100])
    store = SqliteLogStore(tmp_path / "log.db")
    asyncio.run(follow_live(topic, sequencer_bench(store), 100, RECORDS[100:120]))
    topic.send(RECORDS[120:300])
    sequencer_bench(store).make().process(RECORDS[120:300])
    shown: list[int] = []

    class Watched:
        name = "sequencer"

        def __init__(self) -> None:
            self.inner = sequencer_bench(store).make()
            self.position = self.inner.position

        def process(self, records: Sequence[Record]) -> None:
            shown.extend(position for position, _ in records)
            self.inner.process(records)

    async def scenario() -> None:
        async with Following(topic.host(Watched())) as following:
            await following.reached(300)
            await live(following)
            topic.send(RECORDS[300:])
            await following.reached(COUNT)

    asyncio.run(scenario())
    assert min(shown) == 300
    assert store.position()[0] == COUNT
    store.close()


# ---- topics that cannot be true: the gap alarm, forks, foreign records


@pytest.mark.parametrize("while_live", [False, True], ids=["while catching up", "while live"])
@pytest.mark.parametrize("trouble", ["gap", "fork", "foreign", "another book's"])
def test_what_cannot_be_true_stops_a_processor_for_good_and_changes_nothing(
    topic: Topic, bench: Bench, trouble: str, while_live: bool
) -> None:
    """Without the gap alarm a missing record would be passed over in silence: this fails then."""

    def spoil() -> None:
        if trouble == "gap":
            topic.send(RECORDS[51:60])
        elif trouble == "fork":
            topic.send(OTHER_RECORDS[49:50])
        elif trouble == "another book's":
            topic.send_foreign_book()
        else:
            topic.send_foreign()

    words = {"gap": "Gap", "fork": "Fork", "foreign": "not an entry", "another book's": "of the log"}[trouble]

    async def scenario() -> str:
        topic.send(RECORDS[:50])
        if not while_live:
            spoil()
        async with Following(topic.host(bench.make())) as following:
            if while_live:
                await following.reached(50)
                await live(following)
                spoil()
            await following.until(lambda status: status.state == "stopped")
            await asyncio.sleep(0.3)
            assert following.status.state == "stopped", "it is not tried again before a restart"
            return following.status.error

    reason = asyncio.run(scenario())
    assert words in reason
    assert reason.isprintable()
    # while catching up the whole batch is refused, with what stood before the trouble
    assert bench.make().position()[0] == 50 if while_live else bench.make().position()[0] in {0, 50}


def test_a_topic_that_ends_before_the_processor_is_waited_for(topic: Topic, bench: Bench, expected: Any) -> None:
    async def scenario() -> None:
        bench.make().process(RECORDS[:50])
        topic.send(RECORDS[:49])
        async with Following(topic.host(bench.make())) as following:
            await following.until(lambda status: status.state == "failed")
            assert "before position 50" in following.status.error
            topic.send(RECORDS[49:])
            await following.reached(COUNT)

    asyncio.run(scenario())
    assert bench.effect() == expected


# ---- crashes


@pytest.mark.parametrize("after", [False, True], ids=["before its effect", "after its effect"])
def test_a_processor_that_fails_while_live_is_fed_again_from_its_own_position(
    topic: Topic, bench: Bench, expected: Any, after: bool
) -> None:
    async def scenario() -> None:
        topic.send(RECORDS[:50])
        crashing = CrashingProcessor(bench.make(), 90, after=after, times=2)
        async with Following(topic.host(crashing)) as following:
            await following.reached(50)
            await live(following)
            topic.send(RECORDS[50:])
            await following.reached(COUNT)
        assert crashing.crashes == (1 if after else 2)

    asyncio.run(scenario())
    assert bench.effect() == expected


def test_a_hanging_processor_holds_one_batch_and_stopping_gives_it_up(topic: Topic, tmp_path: Path) -> None:
    import threading

    store = SqliteLogStore(tmp_path / "log.db")
    entered, go = threading.Event(), threading.Event()

    class Hanging:
        name = "sequencer"

        def position(self) -> tuple[int, bytes]:
            return store.position()

        def process(self, records: Sequence[Record]) -> None:
            entered.set()
            go.wait(PATIENCE_SECONDS)
            raise Crash("the process ends here")

    async def scenario() -> None:
        topic.send(RECORDS[:50])
        host = topic.host(Hanging())
        await host.start()
        assert await asyncio.to_thread(entered.wait, PATIENCE_SECONDS)
        await host.stop(0.2)

    asyncio.run(scenario())
    go.set()
    assert store.position() == (0, b"")
    store.close()


def test_a_broker_killed_in_the_middle_costs_nothing(tmp_path: Path) -> None:
    store = SqliteLogStore(tmp_path / "log.db")
    bench = sequencer_bench(store)
    with KafkaBroker() as broker:
        topic = Topic(broker.bootstrap)

        async def scenario() -> None:
            topic.send(RECORDS[:100])
            async with Following(topic.host(bench.make())) as following:
                await following.reached(100)
                await live(following)
                await asyncio.to_thread(broker.kill9)
                await asyncio.sleep(1.0)
                await asyncio.to_thread(broker.start)
                await asyncio.to_thread(topic.send, RECORDS[100:])
                await following.reached(COUNT)

        asyncio.run(scenario())
    assert store.position()[0] == COUNT
    store.close()


WORKER = """
import asyncio, sys
from pathlib import Path
from storage.log_store import SqliteLogStore
from streams.kafka.host import KafkaHost
from tests.contract.test_processors_kafka import FORMAT, sequencer_bench

async def main(bootstrap, group, topic, file):
    host = KafkaHost(sequencer_bench(SqliteLogStore(Path(file))).make(), bootstrap, group, topic, FORMAT)
    await host.start()
    await asyncio.Event().wait()

asyncio.run(main(*sys.argv[1:]))
"""


def test_workers_killed_one_after_the_other_process_everything_once(topic: Topic, tmp_path: Path) -> None:
    file = tmp_path / "log.db"
    store = SqliteLogStore(file)
    command = [sys.executable, "-c", textwrap.dedent(WORKER), topic.bootstrap, "daicho-killed", topic.name, str(file)]

    async def scenario() -> None:
        for start in range(0, COUNT, 100):
            worker = subprocess.Popen(  # noqa: ASYNC220 nothing else runs on this loop
                command, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
            )
            topic.send(RECORDS[start : start + 100])
            async with asyncio.timeout(PATIENCE_SECONDS):
                while store.position()[0] < start + 60:  # noqa: ASYNC110 it changes in another process
                    await asyncio.sleep(0.01)
            worker.send_signal(signal.SIGKILL)
            worker.wait()

    asyncio.run(scenario())
    bench = sequencer_bench(store)

    async def rest() -> None:
        async with Following(topic.host(bench.make())) as following:
            await following.reached(COUNT)

    asyncio.run(rest())
    again = SqliteLogStore(tmp_path / "again.db")
    sequencer_bench(again).make().process(RECORDS)
    assert b"".join(store.load()) == b"".join(again.load())
    for each in (store, again):
        each.close()


# ---- handing over


@pytest.mark.parametrize("lag", [99, 100, 101])
def test_the_hand_over_has_neither_gap_nor_overlap_at_its_boundary(topic: Topic, tmp_path: Path, lag: int) -> None:
    store = SqliteLogStore(tmp_path / "log.db")

    async def scenario() -> None:
        topic.send(RECORDS[: 200 + lag])
        sequencer_bench(store).make().process(RECORDS[:200])
        host = topic.host(sequencer_bench(store).make(), near_records=100)
        async with Following(host) as following:
            topic.send(RECORDS[200 + lag : 350])  # arrive while it hands over
            await following.reached(350)
            topic.send(RECORDS[350:])
            await following.reached(COUNT)

    asyncio.run(scenario())
    assert store.position()[0] == COUNT
    store.close()


def test_far_behind_faust_hands_back_to_the_plain_consumer(
    topic: Topic, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = SqliteLogStore(tmp_path / "log.db")
    sent = threading.Event()

    async def scenario() -> None:
        processor = sequencer_bench(store).make()
        process = processor.process

        def slow_process(records: Sequence[Record]) -> None:
            if records[-1][0] > 10:
                assert sent.wait(PATIENCE_SECONDS)
            process(records)

        processor.process = slow_process  # type: ignore[method-assign]
        host = topic.host(processor, max_batch=5, far_records=100, near_records=50)
        async with Following(host) as following:
            topic.send(RECORDS[:10])
            await following.reached(10)
            await live(following)
            await asyncio.to_thread(topic.send, RECORDS[10:])
            sent.set()
            await following.reached(COUNT)

    with caplog.at_level(logging.INFO, "daicho"):
        asyncio.run(scenario())
    behind = [record.args[1] for record in caplog.records if "a plain consumer catches up" in record.msg]  # type: ignore[index]
    assert behind, "a hand-back"
    assert all(100 < count <= COUNT for count in behind)
    assert store.position()[0] == COUNT
    store.close()


# ---- what is refused, what is shown


def test_exactly_once_is_refused() -> None:
    with pytest.raises(FaustRefused, match="exactly_once"):
        topic_app("127.0.0.1:1", "group", "topic", None, guarantee="exactly_once")


def test_a_workers_metrics_say_where_it_stands() -> None:
    metrics = WorkerMetrics("main", "projector")
    metrics.lead()
    metrics.show([ProcessorStatus("projector", 17, 3, "failed", "away")])
    from prometheus_client import generate_latest

    text = generate_latest(metrics.registry).decode()
    labels = '{book="main",processor="projector",worker="projector"}'
    assert f"daicho_processor_position{labels} 17.0" in text
    assert f"daicho_processor_lag{labels} 3.0" in text
    assert f"daicho_processor_running{labels} 0.0" in text
    assert 'daicho_worker_leading{book="main",worker="projector"} 1.0' in text


# ---- helpers


async def live(following: Following) -> None:
    """Wait until Faust has the topic, and nobody else."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while following.host._catching is not None:  # noqa: ASYNC110 it changes in a thread
            await asyncio.sleep(0.01)
        await asyncio.sleep(1.6)  # it joins its group within this, or what is sent now is found when it has


async def _already_near() -> None:
    return None


async def follow_live(topic: Topic, bench: Bench, end: int, more: Sequence[Record]) -> None:
    """Follow to a position, then some more with Faust, whose group then has committed them."""
    async with Following(topic.host(bench.make())) as following:
        await following.reached(end)
        await live(following)
        topic.send(more)
        await following.reached(end + len(more))
        await asyncio.sleep(1.5)  # its commits are a second apart

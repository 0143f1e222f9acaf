"""`python -m benchmarks.cluster`: what Kafka and PostgreSQL cost, each beside its bare baseline, in one run.

Needs what `make test` needs (a broker from Maven jars, PostgreSQL from its wheel). Every figure is a ratio of medians
of interleaved rounds; absolute rates are this machine's alone.
"""

import argparse
import asyncio
import contextlib
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from rich.console import Console
from rich.table import Table

from benchmarks.postgres_rows import database_of
from merkle.flat_log import FlatLog
from merkle.hashing import leaf_hashes
from merkle.notes import Ed25519Signer
from projections.postgres.store import PostgresReadStore
from projections.projector import Projector
from storage.postgres.log_store import PostgresLogStore
from streams import topics
from streams.kafka.app import topic_app
from streams.kafka.catch_up import CatchUp
from streams.kafka.host import MAX_BATCH, KafkaHost
from streams.relay import Relay
from streams.sequencer import Sequencer
from streams.topic_partition import KafkaPartition
from streams.topic_record import EntryRecords
from tests.entry_factory import ORIGIN, walk
from tests.kafka_broker import KafkaBroker, new_name
from tests.postgres_server import PostgresServer
from tests.projection_support import MemoryLog

OUT: Final = Path("build/bench-cluster.json")
FORMAT: Final = EntryRecords(ORIGIN)
ROUNDS: Final = 3
PATIENCE_SECONDS: Final = 300.0
WITHIN_SECONDS: Final = 0.05  # how long the empty agent gathers a batch
Records = Sequence[tuple[int, bytes]]


class Bench:
    """One broker, one server, one set of records for all rows."""

    def __init__(self, broker: KafkaBroker, server: PostgresServer, records: Records) -> None:
        self.bootstrap, self.server, self.records = broker.bootstrap, server, list(records)

    def new_topic(self) -> str:
        book = new_name("b").replace("-", "_").lower()[:25]
        topics.apply(self.bootstrap, book)
        return topics.topic_name(book, "entries")

    def filled_topic(self) -> str:
        """A topic that holds all records."""
        topic = self.new_topic()
        self.produce(topic)
        return topic

    def produce(self, topic: str) -> float:
        """With a bare producer, encoded beforehand; seconds."""
        from kafka import KafkaProducer

        wires = [FORMAT.encode(position, entry) for position, entry in self.records]
        producer = KafkaProducer(bootstrap_servers=self.bootstrap, linger_ms=20, batch_size=262_144)
        began = time.perf_counter()
        for wire in wires:
            producer.send(
                topic, wire.value, key=wire.key, headers=wire.headers, timestamp_ms=wire.timestamp_ms, partition=0
            )
        producer.flush()
        lasted = time.perf_counter() - began
        producer.close()
        return lasted

    def relay(self, topic: str) -> float:
        """With the relay, from a log in memory; seconds."""

        async def copy() -> float:
            relay = Relay(
                "relay", self.bootstrap, topic, FORMAT, MemoryLog(self.records),
                save=lambda *_: None, still_leader=lambda: True,
            )  # fmt: skip
            began = time.perf_counter()
            await relay.start()
            relay.wake(len(self.records))
            while relay.status().position < len(self.records):
                await asyncio.sleep(0.005)
            lasted = time.perf_counter() - began
            await relay.stop()
            return lasted

        return asyncio.run(copy())

    def poll(self, topic: str, each: Callable[[Any], None] = lambda _: None) -> float:
        """A plain poll loop over the topic; seconds."""
        began = time.perf_counter()
        with KafkaPartition(self.bootstrap, topic) as partition:
            offset, end = partition.bounds()
            while offset < end:
                raws = partition.fetch(offset, 2_000)
                each(raws)
                offset = raws[-1].offset + 1
        return time.perf_counter() - began

    def catch_up(self, topic: str, processor: Any) -> float:
        """The plain consumer's catch-up into a processor; seconds."""
        began = time.perf_counter()
        reached = CatchUp(self.bootstrap, topic, FORMAT, processor, lambda *_: None, near_records=0).run()
        assert reached == len(self.records)
        return time.perf_counter() - began

    def empty_agent(self, topic: str) -> float:
        """Faust reading the topic and doing nothing; seconds from its first batch to its last."""

        async def follow() -> float:
            app = topic_app(self.bootstrap, f"empty-{topic}", topic, None)
            times: list[float] = []
            seen, done = [0], asyncio.Event()

            async def agent(stream: Any) -> None:
                async for events in stream.take_events(MAX_BATCH, within=WITHIN_SECONDS):
                    times.append(time.perf_counter())
                    seen[0] += len(events)
                    if seen[0] >= len(self.records):
                        done.set()

            app.agent(app.topic(topic, value_type=bytes, key_type=bytes, internal=False), concurrency=1)(agent)
            app.finalize()
            await app.start()
            await asyncio.wait_for(done.wait(), PATIENCE_SECONDS)
            await app.stop()
            return times[-1] - times[0]

        return asyncio.run(follow())

    def live(self, topic: str, processor: Any) -> float:
        """Faust feeding a processor, the plain consumer kept out; seconds from its first batch to its last."""

        async def follow() -> float:
            times: list[float] = []

            class Timed:
                name = processor.name
                position = staticmethod(processor.position)

                @staticmethod
                def process(records: Records) -> None:
                    times.append(time.perf_counter())
                    processor.process(records)

            host = KafkaHost(Timed(), self.bootstrap, f"live-{topic}", topic, FORMAT, far_records=10**9)

            async def stay_out() -> None:
                return None

            host._catch_up = stay_out
            await host.start()
            async with asyncio.timeout(PATIENCE_SECONDS):
                while processor.position()[0] < len(self.records):
                    await asyncio.sleep(0.005)
            lasted = time.perf_counter() - times[0]
            await host.stop()
            return lasted

        return asyncio.run(follow())


@contextlib.contextmanager
def sequencer(server: PostgresServer) -> Iterator[Sequencer]:
    """A sequencer over an empty log in PostgreSQL."""
    with database_of(server) as database, contextlib.closing(PostgresLogStore(database.writer)) as store:
        yield Sequencer(ORIGIN, store, Ed25519Signer(ORIGIN, Ed25519PrivateKey.generate()))


@contextlib.contextmanager
def projector(server: PostgresServer) -> Iterator[Projector]:
    """A projector over empty read models in PostgreSQL."""
    with database_of(server) as database:
        store = PostgresReadStore(database.writer.conninfo, "main")
        yield Projector(store)
        store.close()


def rows(bench: Bench, only: str = "", rounds: int = ROUNDS) -> Iterator[dict[str, Any]]:
    """Every row: name, our rate and the baseline's (records a second, medians), their ratio, its gate.

    `only` is a part of the names of the rows that are wanted.
    """
    count = len(bench.records)
    filled = bench.filled_topic()

    def into(make: Callable[[PostgresServer], Any], run: Callable[[str, Any], float]) -> Callable[[], float]:
        def measured() -> float:
            with make(bench.server) as processor:
                return run(filled, processor)

        return measured

    def tree() -> float:
        """From the topic to a tree whose root is known, every record checked on the way."""
        log = FlatLog()

        class Leaves:
            name = "leaves"
            position = staticmethod(lambda: (log.size, log.leaf(log.size - 1) if log.size else b""))

            @staticmethod
            def process(records: Records) -> None:
                log.append(leaf_hashes(entry for _, entry in records))

        lasted = bench.catch_up(filled, Leaves())
        assert log.root(log.size)
        return lasted

    def bare_tree() -> float:
        log = FlatLog()
        return bench.poll(filled, lambda raws: log.append(leaf_hashes(raw.value for raw in raws)))

    pairs: list[tuple[str, Callable[[], float], Callable[[], float], float]] = [
        (
            "relay ÷ bare producer",
            lambda: bench.relay(bench.new_topic()),
            lambda: bench.produce(bench.new_topic()),
            0.8,
        ),
        ("live sequencer ÷ empty Faust agent", into(sequencer, bench.live), lambda: bench.empty_agent(filled), 0.5),
        ("live projector ÷ empty Faust agent", into(projector, bench.live), lambda: bench.empty_agent(filled), 0.5),
        ("sequencer's catch-up ÷ plain poll", into(sequencer, bench.catch_up), lambda: bench.poll(filled), 0.5),
        ("topic to verified tree ÷ poll + hashing", tree, bare_tree, 0.5),
    ]
    for name, ours, theirs, gate in pairs:
        if only not in name:
            continue
        times: list[tuple[float, float]] = []
        for _ in range(rounds):
            if "agent" in name:  # a group reads a topic once
                filled = bench.filled_topic()
            times.append((ours(), theirs()))
        mine, other = (count / statistics.median(each) for each in zip(*times, strict=True))
        yield {"row": name, "ours_per_second": mine, "baseline_per_second": other, "ratio": mine / other, "gate": gate}


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="benchmarks.cluster", description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=int, default=50_000)
    parser.add_argument("--only", default="", metavar="WORD", help="rows with this in their name")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 140)
    with console.status("preparing"):
        records = walk(3, options.records).factory.records
    table = Table(title=f"{options.records:,} entries, medians of {options.rounds} interleaved rounds")
    for name in ("row", "ours/s", "baseline/s", "ratio", "gate"):
        table.add_column(name, justify="left" if name == "row" else "right")
    found = []
    with KafkaBroker() as broker, PostgresServer() as server, tempfile.TemporaryDirectory():
        for row in rows(Bench(broker, server, records), options.only, options.rounds):
            found.append(row)
            console.print(f"{row['row']}: {row['ratio']:.2f}")
            table.add_row(
                row["row"], f"{row['ours_per_second']:,.0f}", f"{row['baseline_per_second']:,.0f}",
                f"{row['ratio']:.2f}", f">= {row['gate']}",
            )  # fmt: skip
    console.print(table)
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps(found, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

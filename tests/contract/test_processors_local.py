"""One suite for every processor, on the embedded host: effects once, in order, from its own place, whatever happens."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from merkle.notes import Ed25519Signer
from projections.digest import digest
from projections.projector import Projector
from projections.store import ReadStore
from storage.due_work import DueWork
from storage.log_store import SqliteLogStore
from streams.anchorer import Anchorer
from streams.local import LocalHost
from streams.processor import Processor
from streams.sequencer import Sequencer
from tests.entry_factory import ORIGIN, walk
from tests.host_support import (
    Crash,
    CrashingProcessor,
    GrowingLog,
    HangingProcessor,
    Watch,
    quick_backoff,
)

NOW = datetime(2026, 11, 22, 5, 2, 32, tzinfo=UTC)
COUNT = 300
RECORDS = walk(81, COUNT).factory.records
OTHER_RECORDS = walk(82, COUNT).factory.records
SIGNER = Ed25519Signer(ORIGIN, Ed25519PrivateKey.generate())


@dataclass
class Bench:
    """Makes one kind of processor over files in a folder, and says what it has effected there."""

    folder: Path
    make: Callable[[], Processor]
    effect: Callable[[], Any]
    close: Callable[[], None]


def sequencer_bench(folder: Path) -> Bench:
    store = SqliteLogStore(folder / "log.db")
    return Bench(
        folder,
        lambda: Sequencer(ORIGIN, store, SIGNER),
        lambda: (store.position(), b"".join(store.load())),
        store.close,
    )


def projector_bench(folder: Path) -> Bench:
    store = ReadStore(folder / "read.db")
    return Bench(folder, lambda: Projector(store), lambda: digest(store), store.close)


def anchorer_bench(folder: Path) -> Bench:
    work = DueWork(folder / "anchors.db")
    log = SqliteLogStore(folder / "published.db")
    sequencer = Sequencer(ORIGIN, log, SIGNER)
    sequencer.process(RECORDS)
    sequencer.publish(NOW)

    def effect() -> Any:
        return work.position("anchorer")[:2], len(work.rows(0.0))

    def close() -> None:
        work.close()
        log.close()

    # The clock stands still and the interval has not passed: one anchor is asked for, whatever the batches are.
    return Bench(folder, lambda: Anchorer(work, GrowingLog(RECORDS), sequencer.view, clock=lambda: 1.0), effect, close)


KINDS = {"sequencer": sequencer_bench, "projector": projector_bench, "anchorer": anchorer_bench}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def bench(kind: str, tmp_path: Path) -> Iterator[Bench]:
    made = KINDS[kind](tmp_path)
    yield made
    made.close()


@pytest.fixture
def expected(kind: str, tmp_path: Path) -> Any:
    """The effect of all records, processed at once and without any trouble."""
    folder = tmp_path / "expected"
    folder.mkdir()
    made = KINDS[kind](folder)
    made.make().process(RECORDS)
    effect = made.effect()
    made.close()
    return effect


def new_host(**options: Any) -> LocalHost:
    return LocalHost(new_backoff=quick_backoff, **options)


# ---- following


def test_a_processor_follows_the_log_to_its_end_and_on(kind: str, bench: Bench, expected: Any) -> None:
    async def run() -> None:
        host, log = new_host(max_batch=40), GrowingLog(RECORDS[:100])
        source = host.source(log)
        host.add(source, bench.make())
        watch = Watch(host)
        await host.start()
        await watch.reached(kind, 100)
        log.records += RECORDS[100:]
        source.wake(COUNT)
        assert watch.of(kind).lag == COUNT - 100
        await watch.reached(kind, COUNT)
        assert watch.of(kind).lag == 0
        await host.stop()
        assert watch.of(kind).state == "ended"

    asyncio.run(run())
    assert bench.effect() == expected


def test_records_delivered_again_change_nothing(bench: Bench, expected: Any) -> None:
    processor = bench.make()
    processor.process(RECORDS)
    for again in (RECORDS, RECORDS[-1:], RECORDS[10:20], RECORDS[250:], []):
        processor.process(again)
    assert bench.effect() == expected


def test_a_restart_continues_from_the_processors_own_position(kind: str, bench: Bench, expected: Any) -> None:
    async def run(upto: int, start: int) -> None:
        host, log = new_host(max_batch=40), GrowingLog(RECORDS[:upto])
        host.add(host.source(log), bench.make())
        watch = Watch(host)
        await host.start()
        await watch.reached(kind, upto)
        await host.stop()
        assert log.reads[0][0] == max(1, start), "the record it stands on is shown once more"
        assert all(at > start for at, _ in log.reads[1:])

    for start, upto in ((0, 120), (120, 120), (120, 121), (121, COUNT)):
        asyncio.run(run(upto, start))
    assert bench.effect() == expected


# ---- logs that cannot be true


def stopped(bench: Bench, kind: str, log: GrowingLog) -> str:
    """Run a host until the processor is stopped for good; its reason."""

    async def run() -> str:
        host = new_host(max_batch=40)
        source = host.source(log)
        host.add(source, bench.make())
        watch = Watch(host)
        await host.start()
        status = await watch.state(kind, "stopped")
        reads = len(log.reads)
        for _ in range(20):
            source.wake(COUNT)
            await asyncio.sleep(0)
        assert len(log.reads) == reads, "it is not tried again before a restart"
        await host.stop()
        assert watch.of(kind).state == "stopped"
        return status.error

    return asyncio.run(run())


def test_a_hole_in_the_log_stops_a_processor_for_good(kind: str, bench: Bench) -> None:
    bench.make().process(RECORDS[:50])
    before = bench.effect()
    reason = stopped(bench, kind, GrowingLog(RECORDS[:49] + RECORDS[51:]))
    assert "52" in reason
    assert "Gap" in reason
    assert bench.effect() == before


def test_another_entry_at_its_position_stops_a_processor_before_it_builds_on_it(kind: str, bench: Bench) -> None:
    bench.make().process(RECORDS[:50])
    before = bench.effect()
    reason = stopped(bench, kind, GrowingLog([*RECORDS[:49], OTHER_RECORDS[49], *RECORDS[50:]]))
    assert "Fork" in reason
    assert "50" in reason
    assert bench.effect() == before


def test_another_entry_among_repeated_ones_changes_nothing(bench: Bench) -> None:
    processor = bench.make()
    processor.process(RECORDS[:50])
    before = bench.effect()
    with pytest.raises(Exception, match="position 20"):
        processor.process([*RECORDS[10:19], OTHER_RECORDS[19], *RECORDS[20:60]])
    assert bench.effect() == before
    processor.process(RECORDS[50:])


def test_a_log_that_ends_before_the_processor_is_waited_for(kind: str, bench: Bench, expected: Any) -> None:
    bench.make().process(RECORDS[:50])

    async def run() -> None:
        host, log = new_host(), GrowingLog(RECORDS[:49])
        host.add(host.source(log), bench.make())
        watch = Watch(host)
        await host.start()
        assert "before position 50" in (await watch.state(kind, "failed")).error
        log.records += RECORDS[49:]
        await watch.reached(kind, COUNT)
        await host.stop()

    asyncio.run(run())
    assert bench.effect() == expected


# ---- crashes


@pytest.mark.parametrize("after", [False, True], ids=["before its effect", "after its effect"])
def test_a_crash_loses_and_doubles_nothing(kind: str, bench: Bench, expected: Any, after: bool) -> None:
    async def run() -> None:
        host, log = new_host(max_batch=40), GrowingLog(RECORDS)
        crashing = CrashingProcessor(bench.make(), 90, after=after, times=3)
        host.add(host.source(log), crashing)
        watch = Watch(host)
        await host.start()
        await watch.reached(kind, COUNT)
        failed = [status for status in watch.seen if status.state == "failed"]
        assert crashing.crashes == len(failed) == (1 if after else 3)
        assert all(status.error.isprintable() and status.position <= 90 for status in failed)
        # Asked anew where it is, the processor is shown the record it stands on, and nothing that is behind it.
        assert [start for start, _ in log.reads[3:][: len(failed)]] == ([120] if after else [80] * 3)
        await host.stop()

    asyncio.run(run())
    assert bench.effect() == expected


@pytest.mark.parametrize("after", [False, True], ids=["before its effect", "after its effect"])
def test_a_new_process_goes_on_after_a_crash(kind: str, bench: Bench, expected: Any, after: bool) -> None:
    crashing = CrashingProcessor(bench.make(), 90, after=after)
    with pytest.raises(Crash):
        crashing.process(RECORDS[:120])
    assert bench.make().position()[0] == (120 if after else 0)

    async def run() -> None:
        host = new_host()
        host.add(host.source(GrowingLog(RECORDS)), bench.make())
        watch = Watch(host)
        await host.start()
        await watch.reached(kind, COUNT)
        await host.stop()

    asyncio.run(run())
    assert bench.effect() == expected


def test_a_processor_that_fails_keeps_its_place_and_stops_no_other(kind: str, bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "others").mkdir()
    others = [make(tmp_path / "others") for name, make in KINDS.items() if name != kind]

    async def run() -> None:
        host = new_host(max_batch=40)
        source = host.source(GrowingLog(RECORDS))
        host.add(source, CrashingProcessor(bench.make(), 90, after=False, times=10**9))
        for other in others:
            host.add(source, other.make())
        watch = Watch(host)
        await host.start()
        for name in KINDS:
            if name != kind:
                await watch.reached(name, COUNT)
        failing = await watch.state(kind, "failed")
        assert (failing.position, failing.lag) == (80, COUNT - 80)
        assert failing.error.startswith("Crash")
        await host.stop()

    asyncio.run(run())
    assert bench.make().position()[0] == 80
    for other in others:
        other.close()


# ---- back-pressure and stopping


def test_a_slow_processor_holds_one_batch_and_no_more(kind: str, bench: Bench) -> None:
    async def run() -> None:
        host, log = new_host(max_batch=40), GrowingLog(RECORDS)
        hanging = HangingProcessor(bench.make())
        source = host.source(log)
        host.add(source, hanging)
        watch = Watch(host)
        await host.start()
        assert await asyncio.to_thread(hanging.entered.wait, 10)
        for _ in range(50):
            source.wake(COUNT)
            await asyncio.sleep(0)
        assert [count for _, count in log.reads] == [40]
        hanging.go.set()
        await watch.reached(kind, COUNT)
        assert max(count for _, count in log.reads) <= 40
        await host.stop()

    asyncio.run(run())


def test_stopping_finishes_the_batch_in_work(kind: str, bench: Bench) -> None:
    async def run() -> None:
        host = new_host(max_batch=40)
        hanging = HangingProcessor(bench.make())
        host.add(host.source(GrowingLog(RECORDS)), hanging)
        await host.start()
        assert await asyncio.to_thread(hanging.entered.wait, 10)
        stopping = asyncio.create_task(host.stop())
        await asyncio.sleep(0)
        hanging.go.set()
        await stopping

    asyncio.run(run())
    assert bench.make().position()[0] == 40

"""The head is signed while the log grows, once more at the end, and never again after a fork."""

import asyncio
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from merkle.notes import Ed25519Signer
from storage.log_store import SqliteLogStore
from streams.processor import ForkError
from streams.publisher import Publisher
from streams.sequencer import Sequencer
from tests.entry_factory import ORIGIN, walk

RECORDS = walk(92, 60).factory.records


@pytest.fixture
def sequencer(tmp_path: Path) -> Iterator[Sequencer]:
    store = SqliteLogStore(tmp_path / "log.db")
    yield Sequencer(ORIGIN, store, Ed25519Signer(ORIGIN, Ed25519PrivateKey.generate()))
    store.close()


async def until(condition: Callable[[], bool], publisher: Publisher) -> None:
    """Wait, woken by every round of the publisher."""
    round_over = asyncio.Event()
    publisher.on_change.append(lambda _: round_over.set())
    async with asyncio.timeout(20):
        while not condition():
            round_over.clear()
            await round_over.wait()


def test_every_growth_is_signed_and_told_once(sequencer: Sequencer) -> None:
    async def story() -> None:
        told: list[int] = []
        publisher = Publisher(sequencer, 0.01)
        publisher.on_published.append(told.append)
        sequencer.process(RECORDS[:10])
        await publisher.start()
        await until(lambda: told == [10], publisher)
        sequencer.process(RECORDS[10:30])
        await until(lambda: told == [10, 30], publisher)
        assert publisher.status().position == 30
        await publisher.stop()
        assert told == [10, 30]

    asyncio.run(story())


def test_the_head_that_a_restart_finds_is_told_again(sequencer: Sequencer) -> None:
    """Whoever waits for it may have missed it."""

    async def story() -> None:
        sequencer.process(RECORDS[:10])
        told: list[int] = []
        for _ in range(2):
            publisher = Publisher(sequencer, 0.01)
            publisher.on_published.append(told.append)
            await publisher.start()
            await until(lambda: bool(told), publisher)
            await publisher.stop()
        assert told == [10, 10]

    asyncio.run(story())


def test_stopping_signs_what_is_left(sequencer: Sequencer) -> None:
    async def story() -> None:
        publisher = Publisher(sequencer, 3600)
        rounds: list[int] = []
        publisher.on_change.append(lambda status: rounds.append(status.position))
        await publisher.start()
        await until(lambda: rounds == [0], publisher)
        sequencer.process(RECORDS[:10])
        await publisher.stop()
        assert sequencer.view.size == 10

    asyncio.run(story())


def test_a_thread_can_wait_for_a_size(sequencer: Sequencer) -> None:
    async def story() -> None:
        publisher = Publisher(sequencer, 0.01)
        await publisher.start()
        waiting = asyncio.create_task(asyncio.to_thread(publisher.covers, 10, 20.0))
        sequencer.process(RECORDS[:10])
        assert await waiting is True
        assert await asyncio.to_thread(publisher.covers, 11, 0.01) is False
        await publisher.stop()

    asyncio.run(story())


def test_a_failure_that_passes_is_seen_and_signed_over(
    sequencer: Sequencer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = sequencer.publish
    failing = True

    def publish(now: datetime) -> bytes | None:
        if failing:
            raise OSError("disk full\nreally")
        return real(now)

    monkeypatch.setattr(sequencer, "publish", publish)

    async def story() -> None:
        nonlocal failing
        publisher = Publisher(sequencer, 0.01)
        sequencer.process(RECORDS[:10])
        await publisher.start()
        await until(lambda: publisher.status().state == "failed", publisher)
        assert publisher.status().error == "OSError: disk full\\nreally"
        failing = False
        await until(lambda: publisher.status().state == "running", publisher)
        assert sequencer.view.size == 10
        await publisher.stop()

    asyncio.run(story())
    assert len([record for record in caplog.records if "disk full" in record.getMessage()]) == 1


@pytest.mark.parametrize("how", ["found by the sequencer", "told by the guard"])
def test_after_a_fork_nothing_is_signed_any_more(
    sequencer: Sequencer, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    calls = 0

    def publish(now: datetime) -> bytes | None:
        nonlocal calls
        calls += 1
        if how == "found by the sequencer":
            raise ForkError("checkpoint 3", b"ours", b"theirs")
        return None

    monkeypatch.setattr(sequencer, "publish", publish)

    async def story() -> None:
        publisher = Publisher(sequencer, 0.01)
        if how == "told by the guard":
            publisher.halt("the contract knows more")
        await publisher.start()
        if how == "found by the sequencer":
            await until(lambda: publisher.status().state == "stopped", publisher)
        sequencer.process(RECORDS[:10])
        await publisher.stop()
        assert calls == (1 if how == "found by the sequencer" else 0)
        assert publisher.status().state == "stopped"

    asyncio.run(story())

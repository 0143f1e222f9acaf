"""Due work is done in a thread of its own, tried again when it fails, and given up only when its owner says so."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Self

import pytest

from storage.due_work import DueWork, Lease, Work
from streams.executors import Executor, ExecutorStatus, Verdict
from streams.faults import Backoff

KIND = "test"


class Doing:
    """Does what a test tells it to, and remembers."""

    def __init__(self, do: Callable[[Sequence[Lease], Callable[[], None]], Verdict | None] | None = None) -> None:
        self.do = do or (lambda leases, hold: None)
        self.runs: list[list[str]] = []

    def run(self, leases: Sequence[Lease], hold: Callable[[], None]) -> Verdict:
        self.runs.append([lease.key for lease in leases])
        return self.do(leases, hold) or Verdict(done=leases)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DueWork]:
    opened = DueWork(tmp_path / "work.db")
    yield opened
    opened.close()


def piece(key: str, delay_seconds: float = 0.0) -> Work:
    return Work(KIND, key, "{}", time.time() + delay_seconds)


class Stage:
    """An executor under way, and a way to wait for what it does."""

    def __init__(self, store: DueWork, doing: Doing, **options: object) -> None:
        options = {"backoff": Backoff(0.001, 0.01), **options}
        self.store = store
        self.executor = Executor(store, KIND, doing, **options)  # type: ignore[arg-type]
        self.statuses: list[ExecutorStatus] = []

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition():
                self.changed.clear()
                await self.changed.wait()

    async def __aenter__(self) -> Self:
        self.changed = asyncio.Event()
        loop = asyncio.get_running_loop()

        def heard(status: ExecutorStatus) -> None:
            self.statuses.append(status)
            loop.call_soon_threadsafe(self.changed.set)

        self.executor.on_change.append(heard)
        await self.executor.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.executor.stop()

    def keys(self) -> list[str]:
        return [row.key for row in self.store.rows(time.time())]


def test_due_work_is_done_and_gone(store: DueWork) -> None:
    async def story() -> None:
        store.put(piece("a"), piece("b"))
        doing = Doing()
        async with Stage(store, doing) as stage:
            await stage.until(lambda: not stage.keys())
            store.put(piece("c"))
            stage.executor.wake()
            await stage.until(lambda: not stage.keys())
        assert doing.runs == [["a", "b"], ["c"]]

    asyncio.run(story())


def test_work_due_later_is_done_without_being_woken(store: DueWork) -> None:
    async def story() -> None:
        store.put(piece("a", 0.05))
        doing = Doing()
        async with Stage(store, doing) as stage:
            await stage.until(lambda: not stage.keys())
        assert doing.runs == [["a"]]

    asyncio.run(story())


def test_work_is_tried_again_until_it_succeeds(store: DueWork) -> None:
    failures = iter(range(3))

    def fail_thrice(leases: Sequence[Lease], hold: Callable[[], None]) -> None:
        if next(failures, None) is not None:
            raise ConnectionError("away\nfor now")

    async def story() -> None:
        store.put(piece("a"))
        doing = Doing(fail_thrice)
        async with Stage(store, doing) as stage:
            await stage.until(lambda: not stage.keys())
        assert len(doing.runs) == 4
        failed = [status.error for status in stage.statuses if status.state == "failed"]
        assert failed == ["ConnectionError: away\\nfor now"] * 3
        assert stage.executor.status().state == "running"

    asyncio.run(story())


def test_work_that_fails_too_often_is_dead_and_is_left_alone(store: DueWork) -> None:
    def fail(leases: Sequence[Lease], hold: Callable[[], None]) -> None:
        raise ValueError("never")

    async def story() -> None:
        store.put(piece("a"))
        doing = Doing(fail)
        async with Stage(store, doing, max_attempts=3) as stage:
            await stage.until(lambda: bool(store.rows(time.time(), state="dead")))
        assert len(doing.runs) == 3
        assert store.rows(time.time())[0].last_error == "ValueError: never"

    asyncio.run(story())


def test_work_that_is_not_over_is_looked_at_again(store: DueWork) -> None:
    rounds: list[int] = []

    def thrice(leases: Sequence[Lease], hold: Callable[[], None]) -> Verdict | None:
        rounds.append(leases[0].attempts)
        return Verdict(again=leases, again_after_seconds=0.001) if len(rounds) < 3 else None

    async def story() -> None:
        store.put(piece("a"))
        async with Stage(store, Doing(thrice)) as stage:
            await stage.until(lambda: not stage.keys())
        assert rounds == [1, 1, 1], "it did not fail"

    asyncio.run(story())


def test_what_a_dead_process_held_is_taken_over_at_once(store: DueWork) -> None:
    store.put(piece("a"))
    assert store.lease(KIND, "dead process", 3600, time.time())

    async def story() -> None:
        async with Stage(store, Doing()) as stage:
            await stage.until(lambda: not stage.keys())

    asyncio.run(story())


def test_a_worker_that_was_overtaken_reports_nothing(store: DueWork) -> None:
    taken: list[Lease] = []

    def be_overtaken(leases: Sequence[Lease], hold: Callable[[], None]) -> None:
        if not taken:
            taken.extend(store.lease(KIND, "other", 0.01, time.time() + 3600))
            hold()
            pytest.fail("it was told that it still holds its lease")

    async def story() -> None:
        store.put(piece("a"))
        doing = Doing(be_overtaken)
        async with Stage(store, doing) as stage:
            await stage.until(lambda: bool(taken))
            store.done(*taken)
            stage.executor.wake()
        assert doing.runs == [["a"]]
        assert all(status.state == "running" for status in stage.statuses)

    asyncio.run(story())


def test_a_call_that_hangs_blocks_neither_the_loop_nor_the_end(store: DueWork) -> None:
    entered, let_go = threading.Event(), threading.Event()

    def hang(leases: Sequence[Lease], hold: Callable[[], None]) -> None:
        entered.set()
        let_go.wait(20)

    async def story() -> None:
        store.put(piece("a"))
        executor = Executor(store, KIND, Doing(hang))
        await executor.start()
        assert await asyncio.to_thread(entered.wait, 20)
        await executor.stop(timeout_seconds=0.05)

    asyncio.run(story())
    assert [row.state for row in store.rows(time.time())] == ["leased"]
    let_go.set()


def test_a_store_that_refuses_is_waited_for(store: DueWork, monkeypatch: pytest.MonkeyPatch) -> None:
    real, failures = store.lease, iter(range(2))

    def refuse_twice(*given: object) -> list[Lease]:
        if next(failures, None) is not None:
            raise OSError("disk full")
        return real(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(store, "lease", refuse_twice)

    async def story() -> None:
        store.put(piece("a"))
        async with Stage(store, Doing()) as stage:
            await stage.until(lambda: not stage.keys())
            await stage.until(lambda: stage.executor.status().state == "running")
        assert [status.error for status in stage.statuses if status.error] == ["OSError: disk full"] * 2

    asyncio.run(story())

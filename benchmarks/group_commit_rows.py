"""Row 4: 32 threads, each with one command at a time: ours share commits, the library's take turns."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self, TypeVar

from benchmarks.ledger_rows import CONDITIONS, both
from benchmarks.naive import NaiveTrade, trade_fields
from benchmarks.rig import Rig
from benchmarks.rows import Budget, Goal, Row, make_row, rate, take_turns
from benchmarks.samples import record_body

T = TypeVar("T")
THREADS = 32
SAVES = 1_280


def group_commit_row(budget: Budget) -> Row:
    """Trades a second over 32 threads; ours is the whole command, signed on its own and promised."""
    goal = Goal(
        "group-commit", f"{THREADS} threads recording trades one at a time (commands/s)",
        f"{THREADS} threads calling app.save (eventsourcing 9.5.6, default Aggregate, SQLite recorder)", 1.6, 5,
    )  # fmt: skip
    with both() as (naive, rig, _), ThreadPoolExecutor(THREADS) as pool:
        count = budget.count(SAVES, THREADS) // THREADS

        def in_threads(work: Callable[[int], None]) -> float:
            return rate(count * THREADS, lambda: list(pool.map(work, range(THREADS))))

        def save(thread: int) -> None:
            for number in range(count):
                naive.save(NaiveTrade(**trade_fields(thread * count + number)))

        with _Running(rig) as running:

            def ours() -> float:
                bodies = [[record_body(number) for number in range(count)] for _ in range(THREADS)]

                def execute(thread: int) -> None:
                    for body in bodies[thread]:
                        running.wait(rig.record(body))

                figure = in_threads(execute)
                running.wait(rig.drain())
                return figure

            base, mine = take_turns(budget.rounds, lambda: in_threads(save), ours)
    return make_row(goal, base, mine, f"{CONDITIONS}; aggregates made inside the measured time on both sides")


class _Running:
    """The rig's event loop, running in a thread of its own, so that other threads can wait for its work."""

    def __init__(self, rig: Rig) -> None:
        self._loop = rig.loop
        self._thread = threading.Thread(target=self._loop.run_forever, name="loop")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of a coroutine, from any thread."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

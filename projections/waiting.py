"""Read-your-writes without polling: wait until the read models have reached a position.

The projector publishes each committed position from its thread; waiters on the event loop sleep on futures in a heap
ordered by position, so a publication touches only those it wakes.
"""

import asyncio
import heapq
import threading
from collections.abc import Callable
from itertools import count
from typing import Final

from domain.errors import Overloaded

MAX_WAITERS: Final = 20_000
_SPARE: Final = 16


class PositionBoard:
    """The position that is visible, and who waits for a later one.

    `wait` belongs to one event loop, the one that first waits; `publish` may be called from any thread. Positions
    never go back: a lower one is ignored. `on_wait` is called when somebody begins to wait.
    """

    def __init__(self, position: int = 0, *, max_waiters: int = MAX_WAITERS) -> None:
        self._position = position
        self._max_waiters = max_waiters
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock = threading.Lock()
        self._scheduled = False
        self._heap: list[tuple[int, int, asyncio.Future[bool]]] = []
        self._order = count()  # futures of one position need a tie-break
        self._live = 0
        self.on_wait: Callable[[], None] = lambda: None

    @property
    def position(self) -> int:
        """The last published position."""
        return self._position

    @property
    def waiters(self) -> int:
        """How many are waiting now."""
        return self._live

    def publish(self, position: int) -> None:
        """Say that everything up to `position` can be read. From any thread; never blocks for long, never raises."""
        with self._lock:
            if position <= self._position:
                return
            self._position = position
            loop = self._loop
            if loop is None or self._scheduled:
                return
            self._scheduled = True
        try:
            loop.call_soon_threadsafe(self._wake)
        except RuntimeError:  # the loop has been closed: nobody waits there any more
            self._scheduled = False

    async def wait(self, min_position: int, timeout_seconds: float) -> bool:
        """True as soon as `min_position` is visible, False when the time is over.

        Raises Overloaded when too many wait already, RuntimeError from a second event loop.
        """
        if self._position >= min_position:
            return True
        if timeout_seconds <= 0:
            return False
        loop = asyncio.get_running_loop()
        with self._lock:
            if self._loop is None or self._loop.is_closed():
                self._adopt(loop)
        if self._loop is not loop:
            raise RuntimeError("a PositionBoard serves one event loop")
        if self.waiters >= self._max_waiters:
            raise Overloaded(f"{self.waiters} requests wait for the read models", waiters=self.waiters)
        future: asyncio.Future[bool] = loop.create_future()
        heapq.heappush(self._heap, (min_position, next(self._order), future))
        if self._position >= min_position:  # published between the first look and the push, before the loop was known
            self._wake()
        timer = loop.call_later(timeout_seconds, _expire, future)
        self._live += 1
        self.on_wait()
        try:
            return await future
        finally:
            timer.cancel()
            self._live -= 1
            self._sweep()

    def _adopt(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop, self._scheduled = loop, False
        self._heap.clear()
        self._live = 0

    def _wake(self) -> None:
        with self._lock:
            self._scheduled = False
            position = self._position
        while self._heap and self._heap[0][0] <= position:
            future = heapq.heappop(self._heap)[2]
            if not future.done():
                future.set_result(True)

    def _sweep(self) -> None:
        """Waiters that gave up stay in the heap until they outnumber the others."""
        if len(self._heap) > 2 * self._live + _SPARE:
            self._heap = [waiter for waiter in self._heap if not waiter[2].done()]
            heapq.heapify(self._heap)


def _expire(future: asyncio.Future[bool]) -> None:
    if not future.done():
        future.set_result(False)

"""Something has been committed: whoever waits for a change looks again. A condition, never polling."""

import asyncio
import threading


class Pulse:
    """`beat` from any thread, `wait` on the event loop that `attach` was called on."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._beaten = asyncio.Event()
        self._pending = threading.Event()

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Name the loop that waits."""
        self._loop = loop

    def beat(self, _head: int = 0) -> None:
        """Something has changed. Beats that nobody has heard yet are one."""
        if self._loop is None or self._pending.is_set():
            return
        self._pending.set()
        try:
            self._loop.call_soon_threadsafe(self._spread)
        except RuntimeError:  # the loop has ended
            self._loop = None

    def listen(self) -> asyncio.Event:
        """An event that the next beat sets: take it before looking, so that no change is missed."""
        return self._beaten

    def _spread(self) -> None:
        self._pending.clear()
        beaten, self._beaten = self._beaten, asyncio.Event()
        beaten.set()

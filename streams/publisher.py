"""The checkpoint timer: has the log's head signed when it grew, and tells who waits for that."""

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, Protocol

from merkle.log_view import LogView
from storage.log_store import LogConflictError, LogDamagedError
from streams.faults import Backoff, one_line
from streams.local import FAILED, RUNNING, STOPPED, ProcessorStatus
from streams.own_thread import OwnThread
from streams.processor import ProcessorError

INTERVAL_SECONDS: Final = 1.0
LONGEST_RETRY_SECONDS: Final = 3.0  # of what a restarted database costs, this is the most
NAME: Final = "publisher"
_NEVER_PASSES: Final = (ProcessorError, LogConflictError, LogDamagedError)
logger = logging.getLogger("daicho.streams")


class Signs(Protocol):
    """Whoever signs heads: the sequencer."""

    @property
    def view(self) -> LogView:
        """What is published."""

    def position(self) -> tuple[int, bytes]:
        """How far the tree goes."""

    def publish(self, now: datetime) -> bytes | None:
        """Sign, store and show the head if the log grew."""


class Publisher:
    """Publishes every `interval_seconds` while the log grows. `halt` ends the signing until a restart.

    `on_published` hears of the size of every new head and `on_change` of every round, on the event loop; `covers` waits
    for a size in another thread.
    """

    def __init__(self, sequencer: Signs, interval_seconds: float = INTERVAL_SECONDS, name: str = NAME) -> None:
        self.on_published: list[Callable[[int], None]] = []
        self.on_change: list[Callable[[ProcessorStatus], None]] = []
        self._sequencer, self._interval = sequencer, interval_seconds
        self._name = name
        self._thread = OwnThread(name)
        self._backoff = Backoff(interval_seconds, max(interval_seconds, LONGEST_RETRY_SECONDS))
        self._stopping = False
        self._woken = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._shown = threading.Condition()
        self._task: asyncio.Task[None] | None = None
        self._state, self._error = RUNNING, ""
        self._told = 0
        self._lag = 0

    async def start(self) -> None:
        """Publish now, and from now on."""
        self._loop = asyncio.get_running_loop()
        self._task = self._loop.create_task(self._run(), name=self._name)

    def wake(self) -> None:
        """Publish now instead of at the next interval. From any thread."""
        if self._loop is None:
            return
        try:
            self._loop.call_soon_threadsafe(self._woken.set)
        except RuntimeError:  # the loop has ended
            self._loop = None

    async def stop(self) -> None:
        """Publish what the sequencer has, once more, and end. Stop the processors before."""
        self._stopping = True
        self._woken.set()
        if self._task is not None:
            await self._task
            self._task = None
        self._thread.close()

    def halt(self, reason: str) -> None:
        """Sign nothing any more: what would be signed may contradict what is known to others."""
        if self._state != STOPPED:
            logger.error("no head is signed any more: %s", reason)
        self._state, self._error = STOPPED, reason

    def status(self) -> ProcessorStatus:
        """Published size; the lag is what the tree holds beyond it."""
        return ProcessorStatus(self._name, self._sequencer.view.size, self._lag, self._state, self._error)

    def covers(self, size: int, timeout_seconds: float) -> bool:
        """Wait, in a thread that may wait, until a head of `size` at least is published; False when time is over."""
        view = self._sequencer.view
        with self._shown:
            return self._shown.wait_for(lambda: view.size >= size, timeout_seconds)

    async def _run(self) -> None:
        last_round = False
        while not last_round:
            last_round = self._stopping
            self._woken.clear()
            wait = self._interval
            if self._state != STOPPED:
                wait = await self._publish()
                for notify in self.on_change:
                    notify(self.status())
            if not last_round:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._woken.wait(), wait)

    async def _publish(self) -> float:
        """One round; the seconds until the next."""
        try:
            size, reached = await self._thread.run(self._publish_in_thread)
        except _NEVER_PASSES as error:
            self.halt(one_line(error))
            return self._interval
        except Exception as error:  # noqa: BLE001 disk full or key away: the log waits unsigned, nothing else does
            self._failed(one_line(error))
            return self._backoff.failed()
        self._backoff.succeeded()
        if self._state == FAILED:
            self._state, self._error = RUNNING, ""
        self._lag = max(0, reached - size)
        if size > self._told:
            self._told = size
            for notify in self.on_published:
                notify(size)
        return self._interval

    def _failed(self, reason: str) -> None:
        if reason != self._error:
            logger.error("the head is not signed: %s", reason)
        self._state, self._error = FAILED, reason

    def _publish_in_thread(self) -> tuple[int, int]:
        self._sequencer.publish(datetime.now(UTC))
        with self._shown:
            self._shown.notify_all()
        return self._sequencer.view.size, self._sequencer.position()[0]

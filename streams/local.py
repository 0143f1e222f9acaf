"""The embedded host: feeds processors from a log inside one process, each at its own pace in its own thread.

    writer ── wake(head) ──▶ Source ──▶ follower: read at most one batch ─▶ process ─▶ read on ─▶ wait to be woken

Under load a follower gathers what comes within `GATHER_SECONDS` for one batch, unless somebody waits for it (`hurry`):
each batch costs a commit on the disk that the writer needs as well.

A follower reads only what it is about to process, so a slow processor holds one batch in memory and delays nobody. One
that fails keeps its place, says so, and tries again after a while; one that can never succeed waits for a restart.
"""

import asyncio
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Final, Protocol

from projections.position import ProjectionStopped
from storage.log_store import LogConflictError, LogDamagedError
from streams.faults import Backoff, one_line
from streams.own_thread import OwnThread
from streams.processor import Processor, ProcessorError, Record

MAX_BATCH: Final = 1_000
GATHER_SECONDS: Final = 0.1  # from the begin of one batch to the next, if that one was not full
SAFETY_POLL_SECONDS: Final = 1.0  # nobody should have to be woken by it; a lost wake-up costs this much
STOP_TIMEOUT_SECONDS: Final = 30.0
NEVER_PASSES: Final = (ProcessorError, ProjectionStopped, LogConflictError, LogDamagedError)
RUNNING: Final = "running"
FAILED: Final = "failed"
STOPPED: Final = "stopped"
ENDED: Final = "ended"
logger = logging.getLogger("daicho.streams")


class EntryLog(Protocol):
    """A log as its readers see it. May be asked from any thread."""

    def head(self) -> int:
        """The last position, 0 in an empty log."""
        ...

    def read(self, start: int, limit: int) -> list[Record]:
        """At most `limit` records from position `start` (inclusive), ascending."""
        ...


class LogBehindError(Exception):
    """The log ends before the position that a processor has reached: it was restored, or is still being built."""


@dataclass(frozen=True, slots=True)
class ProcessorStatus:
    """How one processor is. `lag` is in entries; `error` says why it is not running.

    `state`: running; failed (keeps its place, tries again); stopped (cannot go on, wants a restart); ended (the host
    was stopped).
    """

    name: str
    position: int
    lag: int
    state: str
    error: str


class Source:
    """One log that processors follow. `wake` may be called from any thread."""

    def __init__(self, log: EntryLog) -> None:
        self.log = log
        self.head = 0
        self.loop: asyncio.AbstractEventLoop | None = None
        self.loop_thread = 0
        self.followers: list[Follower] = []

    def wake(self, head: int) -> None:
        """The log now goes up to `head`: whoever follows it reads on."""
        if self.loop is None:
            return
        if threading.get_ident() == self.loop_thread:
            self._wake(head)
            return
        try:
            self.loop.call_soon_threadsafe(self._wake, head)
        except RuntimeError:  # the loop has ended, and the followers with it
            self.loop = None

    def hurry(self) -> None:
        """Somebody waits for what the log holds: followers gather no more. On the event loop."""
        for follower in self.followers:
            follower.hurried.set()

    def reached(self, head: int) -> None:
        """A reader has seen the log go up to `head`."""
        self.head = max(self.head, head)

    def _wake(self, head: int) -> None:
        self.reached(head)
        for follower in self.followers:
            follower.woken.set()


class Follower:
    """One processor on its way along a source."""

    def __init__(self, source: Source, processor: Processor, max_batch: int, backoff: Backoff) -> None:
        self.source, self.processor, self.name = source, processor, processor.name
        self.woken, self.hurried, self.stopping = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.position, self.state, self.error = 0, RUNNING, ""
        self.on_change: Callable[[ProcessorStatus], None] = lambda _: None
        self._max_batch = max_batch
        self._backoff = backoff
        self._thread = OwnThread(f"processor-{self.name}")
        self._placed = False

    def status(self) -> ProcessorStatus:
        """How it is now."""
        lag = max(0, self.source.head - self.position)
        return ProcessorStatus(self.name, self.position, lag, self.state, self.error)

    async def run(self) -> None:
        """Follow until told to stop; what is in work then is finished."""
        while not self.stopping.is_set():
            self.woken.clear()  # before reading: a wake-up in between is not lost
            self.hurried.clear()
            started = monotonic()
            try:
                head, more = await self._thread.run(self._step)
            except NEVER_PASSES as error:
                self._failed(error, STOPPED)
                await self.stopping.wait()
            except Exception as error:  # noqa: BLE001 whatever a processor raises, the others go on
                self._failed(error, FAILED)
                await _either(self.stopping, self._backoff.failed())
            else:
                self._succeeded(head)
                if not more:
                    await _either(self.hurried, started + GATHER_SECONDS - monotonic())
                    await _either(self.woken, SAFETY_POLL_SECONDS)
        self._thread.close()
        if self.state == RUNNING:
            self.state = ENDED
        self.on_change(self.status())

    def stop(self) -> None:
        """Ask `run` to end after the batch in work."""
        self.stopping.set()
        self.hurried.set()
        self.woken.set()

    def _step(self) -> tuple[int, bool]:
        """In the thread: one batch. How far the log goes as far as was seen, and whether to read on at once.

        At the start and after a failure the processor is asked where it is, and is shown the record it stands on once
        more: if that is not the one it knows, it stops before anything is built on it.
        """
        head = 0
        if not self._placed:
            self.position, leaf = self.processor.position()
            head = self.source.log.head()
            records = self.source.log.read(max(1, self.position), self._max_batch)
            if self.position and not records:
                raise LogBehindError(f"the log ends before position {self.position} ({leaf.hex()})")
        else:
            records = self.source.log.read(self.position + 1, self._max_batch)
        if records:
            self.processor.process(records)
            self.position = records[-1][0]
        self._placed = True
        return max(head, self.position), len(records) == self._max_batch

    def _failed(self, error: BaseException, state: str) -> None:
        self._placed = False
        reason = one_line(error)
        if (state, reason) != (self.state, self.error):  # one line for a failure, however often it is tried again
            logger.error("processor %s is %s at position %d: %s", self.name, state, self.position, reason)
        self.state, self.error = state, reason
        self.on_change(self.status())

    def _succeeded(self, head: int) -> None:
        self._backoff.succeeded()
        self.source.reached(head)
        if self.state == FAILED:
            logger.info("processor %s goes on from position %d", self.name, self.position)
        self.state, self.error = RUNNING, ""
        self.on_change(self.status())


class LocalHost:
    """Runs processors in this process. `add` all of them, `start`, and at the end `stop`.

    `on_change` hears of every step of every processor, on the event loop.
    """

    def __init__(self, *, max_batch: int = MAX_BATCH, new_backoff: Callable[[], Backoff] = Backoff) -> None:
        if not 1 <= max_batch <= MAX_BATCH:
            raise ValueError(f"a batch has 1 to {MAX_BATCH} records, not {max_batch}")
        self.on_change: list[Callable[[ProcessorStatus], None]] = []
        self._max_batch = max_batch
        self._new_backoff = new_backoff
        self._sources: list[Source] = []
        self._tasks: list[asyncio.Task[None]] = []

    def source(self, log: EntryLog) -> Source:
        """A log to follow; its `wake` belongs into whatever tells of new entries (`writer.on_commit`)."""
        source = Source(log)
        self._sources.append(source)
        return source

    def add(self, source: Source, processor: Processor) -> None:
        """Let a processor follow a source. Names must differ; before `start` only."""
        if self._tasks:
            raise RuntimeError("processors are added before the host starts")
        if processor.name in {follower.name for follower in self._followers()}:
            raise ValueError(f"two processors are called {processor.name}")
        follower = Follower(source, processor, self._max_batch, self._new_backoff())
        follower.on_change = self._changed
        source.followers.append(follower)

    def status(self) -> list[ProcessorStatus]:
        """All processors, in the order they were added in each source."""
        return [follower.status() for follower in self._followers()]

    async def start(self) -> None:
        """Begin to feed; each processor begins where its own position says."""
        loop = asyncio.get_running_loop()
        for source in self._sources:
            source.loop, source.loop_thread = loop, threading.get_ident()
        self._tasks = [loop.create_task(each.run(), name=f"follow-{each.name}") for each in self._followers()]

    async def stop(self, timeout_seconds: float = STOP_TIMEOUT_SECONDS) -> None:
        """Let every processor finish its batch. One that hangs is left behind: its transaction counts or does not."""
        for follower in self._followers():
            follower.stop()
        if self._tasks:
            _, hanging = await asyncio.wait(self._tasks, timeout=timeout_seconds)
            for task in hanging:
                logger.error("%s did not end within %.0f s", task.get_name(), timeout_seconds)
                task.cancel()
            await asyncio.gather(*hanging, return_exceptions=True)
        self._tasks = []

    def _followers(self) -> list[Follower]:
        return [follower for source in self._sources for follower in source.followers]

    def _changed(self, status: ProcessorStatus) -> None:
        for notify in self.on_change:
            try:
                notify(status)
            except Exception:  # a metric that fails must not end a processor
                logger.exception("a listener of %s failed", status.name)


async def _either(event: asyncio.Event, timeout_seconds: float) -> None:
    """Wait for the event, at most so long."""
    try:
        async with asyncio.timeout(timeout_seconds):
            await event.wait()
    except TimeoutError:
        return

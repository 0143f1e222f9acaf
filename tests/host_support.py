"""Shared by the tests of the embedded host: logs that can grow and lie, processors that can crash, and waiting."""

import asyncio
import threading
from collections.abc import Callable, Sequence

from streams.faults import Backoff
from streams.local import LocalHost, ProcessorStatus
from streams.processor import Processor, Record

TIMEOUT_SECONDS = 20.0


class Crash(Exception):
    """The process ends here."""


class GrowingLog:
    """A log in memory. It remembers what was read of it; records may be missing or replaced."""

    def __init__(self, records: Sequence[Record] = ()) -> None:
        self.records = list(records)
        self.reads: list[tuple[int, int]] = []

    def head(self) -> int:
        return self.records[-1][0] if self.records else 0

    def read(self, start: int, limit: int) -> list[Record]:
        found = [record for record in self.records if record[0] >= start][:limit]
        self.reads.append((start, len(found)))
        return found


class CrashingProcessor:
    """A real processor; once armed with a position, it crashes when it processes that record.

    `after`: right after the effect took place, as when the process is killed before it can say so.
    """

    def __init__(self, inner: Processor, at: int, *, after: bool, times: int = 1) -> None:
        self.name = inner.name
        self.inner, self.at, self.after, self.times = inner, at, after, times
        self.crashes = 0

    def position(self) -> tuple[int, bytes]:
        return self.inner.position()

    def process(self, records: Sequence[Record]) -> None:
        hit = any(position == self.at for position, _ in records) and self.crashes < self.times
        if hit and not self.after:
            self.crashes += 1
            raise Crash("before\nthe effect \x1b[31m")
        self.inner.process(records)
        if hit:
            self.crashes += 1
            raise Crash("after the effect")


class HangingProcessor:
    """A processor that hangs until it is let go, as one does whose disk does not answer."""

    def __init__(self, inner: Processor) -> None:
        self.name = inner.name
        self.inner = inner
        self.entered, self.go = threading.Event(), threading.Event()

    def position(self) -> tuple[int, bytes]:
        return self.inner.position()

    def process(self, records: Sequence[Record]) -> None:
        self.entered.set()
        self.go.wait(TIMEOUT_SECONDS)
        self.inner.process(records)


def quick_backoff() -> Backoff:
    """Waits too short to notice."""
    return Backoff(0.001, 0.01)


class Watch:
    """Waits for what a host says of its processors."""

    def __init__(self, host: LocalHost) -> None:
        self.host = host
        self.seen: list[ProcessorStatus] = []
        self._changed = asyncio.Event()
        host.on_change.append(self._hear)

    def _hear(self, status: ProcessorStatus) -> None:
        self.seen.append(status)
        self._changed.set()

    def of(self, name: str) -> ProcessorStatus:
        return next(status for status in self.host.status() if status.name == name)

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def reached(self, name: str, position: int) -> None:
        await self.until(lambda: self.of(name).position >= position and self.of(name).state == "running")

    async def state(self, name: str, state: str) -> ProcessorStatus:
        await self.until(lambda: self.of(name).state == state)
        return self.of(name)

"""Executors: lease due work, do it with the outside in a thread of their own, and say what became of it.

A partner that hangs holds up its own executor and nobody else. A lease that runs out is taken over by whoever comes
next; every piece of work can be done twice.
"""

import asyncio
import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from storage.due_work import DueWorkStore, Lease, LeaseLost
from streams.faults import Backoff, one_line
from streams.local import FAILED, RUNNING
from streams.own_thread import OwnThread

LEASE_SECONDS: Final = 30.0
MAX_LEASES: Final = 1_000
LONGEST_SLEEP_SECONDS: Final = 60.0
LONGEST_STORAGE_RETRY_SECONDS: Final = 3.0
STOP_TIMEOUT_SECONDS: Final = 30.0
logger = logging.getLogger("daicho.executors")


@dataclass(frozen=True, slots=True)
class Failure:
    """One piece of work that failed, where the others of its round did not. `after_seconds`: not before that."""

    lease: Lease
    reason: str
    after_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of leased work: done, not over and to be looked at again, or failed. What is raised fails all.

    `later`: not over either, each to be looked at again after so many seconds of its own.
    """

    done: Sequence[Lease] = ()
    again: Sequence[Lease] = ()
    again_after_seconds: float = 1.0
    failed: Sequence[Failure] = ()
    later: Sequence[tuple[Lease, float]] = ()


def one_by_one(leases: Sequence[Lease], hold: Callable[[], None], do: Callable[[Lease], float | None]) -> Verdict:
    """Work of which each piece stands for itself: what `do` raises fails that one, and the others go on.

    `do` gives None when it is done, or after how many seconds to look again. An error of a partner that has asked to
    wait (`retry_after_seconds` of StoreAway and BillingAway) is heeded.
    """
    done: list[Lease] = []
    failed: list[Failure] = []
    later: list[tuple[Lease, float]] = []
    for lease in leases:
        try:
            seconds = do(lease)
        except Exception as error:  # noqa: BLE001 the others go on, and this one is tried again
            asked: float | None = getattr(error, "retry_after_seconds", None)
            failed.append(Failure(lease, one_line(error), asked or 0.0))
        else:
            if seconds is None:
                done.append(lease)
            else:
                later.append((lease, seconds))
        hold()
    return Verdict(done=done, failed=failed, later=later)


class Work(Protocol):
    """Does one kind of due work. Blocking; called in the executor's thread. Doing it twice must do no harm."""

    def run(self, leases: Sequence[Lease], hold: Callable[[], None]) -> Verdict:
        """Do the work. `hold` extends the leases and raises LeaseLost when they are ours no more: then stop."""
        ...


@dataclass(frozen=True, slots=True)
class ExecutorStatus:
    """How an executor is. `state`: running, or failed (it tries again; `error` says why)."""

    name: str
    state: str
    error: str


@dataclass(slots=True)
class Executor:
    """Leases the work of one kind and has it done.

    `sole`: nobody else leases this kind, so what an earlier process held when it ended is taken over at once. After
    `max_attempts` failures (None: no limit) work is dead, which `DueWorkStore.rows` shows.
    """

    store: DueWorkStore
    kind: str
    work: Work
    max_leases: int = MAX_LEASES
    lease_seconds: float = LEASE_SECONDS
    max_attempts: int | None = None
    sole: bool = True
    backoff: Backoff = field(default_factory=lambda: Backoff(1.0, 60.0))
    clock: Callable[[], float] = time.time
    on_change: list[Callable[[ExecutorStatus], None]] = field(default_factory=list)
    owner: str = field(default_factory=lambda: f"{os.getpid()}-{threading.get_ident()}-{time.monotonic_ns()}")
    _state: str = RUNNING
    _error: str = ""
    _loop: asyncio.AbstractEventLoop | None = None
    _task: "asyncio.Task[None] | None" = None
    _woken: asyncio.Event = field(default_factory=asyncio.Event)
    _stopping: bool = False

    async def start(self) -> None:
        """Begin to work."""
        self._loop = asyncio.get_running_loop()
        self._task = self._loop.create_task(self._run(), name=f"execute-{self.kind}")

    async def stop(self, timeout_seconds: float = STOP_TIMEOUT_SECONDS) -> None:
        """Finish the work in hand. A call that hangs is left behind; its lease runs out."""
        self._stopping = True
        self._woken.set()
        if self._task is None:
            return
        _, hanging = await asyncio.wait([self._task], timeout=timeout_seconds)
        for task in hanging:
            logger.error("%s did not end within %.0f s", task.get_name(), timeout_seconds)
            task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._task = None

    def wake(self) -> None:
        """There may be work now. From any thread."""
        if self._loop is None:
            return
        try:
            self._loop.call_soon_threadsafe(self._woken.set)
        except RuntimeError:  # the loop has ended
            self._loop = None

    def status(self) -> ExecutorStatus:
        """How it is now."""
        return ExecutorStatus(self.kind, self._state, self._error)

    async def _run(self) -> None:
        thread = OwnThread(f"executor-{self.kind}")
        storage_backoff = Backoff(0.1, LONGEST_STORAGE_RETRY_SECONDS)
        released = not self.sole
        while not self._stopping:
            self._woken.clear()
            try:
                if not released:
                    await thread.run(lambda: self.store.release(self.kind))
                    released = True
                wait = await thread.run(self._round)
                storage_backoff.succeeded()
            except Exception as error:  # noqa: BLE001 the store refuses: what was leased is leased again later
                self._become(FAILED, one_line(error))
                wait = storage_backoff.failed()
            if wait > 0 and not self._stopping:
                await self._sleep(wait)
        thread.close()

    async def _sleep(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(min(seconds, LONGEST_SLEEP_SECONDS)):
                await self._woken.wait()
        except TimeoutError:
            return

    def _round(self) -> float:
        """In the thread: do what is due; the seconds until there may be more."""
        leases = self.store.lease(self.kind, self.owner, self.lease_seconds, self.clock(), self.max_leases)
        if not leases:
            next_at = self.store.next_at(self.kind)
            return LONGEST_SLEEP_SECONDS if next_at is None else max(0.01, next_at - self.clock())
        try:
            verdict = self.work.run(leases, lambda: self.store.extend(leases, self.lease_seconds, self.clock()))
            self.store.done(*verdict.done)
            self.store.again(*verdict.again, due_at=self.clock() + verdict.again_after_seconds)
            for lease, seconds in verdict.later:
                self.store.again(lease, due_at=self.clock() + seconds)
            for failure in verdict.failed:
                self._retry([failure.lease], failure.reason, failure.after_seconds)
            if verdict.failed:
                return 0
        except LeaseLost as lost:
            logger.warning("%s", lost)  # whoever has it now reports
        except Exception as error:  # noqa: BLE001 whatever the outside does, the work waits and is tried again
            self._retry(leases, one_line(error))
            return 0
        self._become(RUNNING, "")
        return 0

    def _retry(self, leases: Sequence[Lease], reason: str, after_seconds: float = 0.0) -> None:
        waits = self.backoff.after(max(lease.attempts for lease in leases))
        due_at = self.clock() + max(waits, after_seconds)
        dead: Sequence[Lease] = ()
        try:
            dead = self.store.retry(*leases, error=reason, due_at=due_at, max_attempts=self.max_attempts)
        except LeaseLost as lost:
            logger.warning("%s", lost)
        for lease in dead:
            logger.error("due work %s is dead after %d attempts: %s", lease.key, lease.attempts, reason)
        self._become(FAILED, reason)  # told last: who hears of it finds it written down

    def _become(self, state: str, error: str) -> None:
        if (state, error) != (self._state, self._error):
            if error:
                logger.error("executor %s is %s: %s", self.kind, state, error)
            elif self._state == FAILED:
                logger.info("executor %s works again", self.kind)
        self._state, self._error = state, error
        for notify in self.on_change:
            notify(self.status())

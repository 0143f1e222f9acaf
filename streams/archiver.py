"""The archiver of one machine: copies the inbox into the segments, number by number, and never back.

It goes on from the archive's own end. A row that follows without a gap is appended; what stands there already is not
looked at again here (`daicho archive verify` does). A disk that refuses delays it and loses nothing: the inbox waits.
"""

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable
from typing import Final, Protocol

from storage.parcels import StoredParcel
from streams.archive_topic import Inbox
from streams.faults import Backoff, one_line
from streams.local import ENDED, FAILED, RUNNING, STOPPED, ProcessorStatus
from streams.own_thread import OwnThread
from streams.processor import ProcessorError

BATCH: Final = 500
POLL_SECONDS: Final = 1.0  # nobody should have to wait for it: a lost wake-up costs this much
logger = logging.getLogger("daicho.archiver")


class Archive(Protocol):
    """`storage.archive.SegmentArchive`."""

    def head(self) -> int: ...
    def append(self, parcels: list[StoredParcel]) -> None: ...
    def close(self) -> None: ...


class ArchiveAhead(ProcessorError):
    """The archive holds more than the inbox: the ledger was restored from an old copy."""


class Archiver:
    """Runs in a thread of its own. `start` once, `stop` at the end; `wake` from any thread."""

    name: Final = "archiver"

    def __init__(self, inbox: Inbox, open_archive: Callable[[], Archive]) -> None:
        self._inbox, self._open_archive = inbox, open_archive
        self._archive: Archive | None = None
        self._thread = OwnThread(self.name)
        self._woken, self._stopping = threading.Event(), False
        self._task: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._signal = asyncio.Event()
        self._position, self._head, self._state, self._error = 0, 0, RUNNING, ""

    def wake(self, _head: int = 0) -> None:
        """There may be something new."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self._signal.set)

    def status(self) -> ProcessorStatus:
        """How it is: numbers of the inbox, not positions of the log."""
        return ProcessorStatus(self.name, self._position, max(0, self._head - self._position), self._state, self._error)

    async def start(self) -> None:
        """Begin to copy."""
        self._loop = asyncio.get_running_loop()
        self._task = self._loop.create_task(self._run(), name=self.name)

    async def stop(self) -> None:
        """Copy what is there, then end."""
        self._stopping = True
        self._signal.set()
        if self._task is not None:
            await self._task
        self._thread.close()

    async def _run(self) -> None:
        backoff = Backoff(0.2, 10.0)
        while True:
            ending = self._stopping
            self._signal.clear()
            try:
                await self._thread.run(self._copy)
                self._become(RUNNING, "")
                backoff.succeeded()
                pause = POLL_SECONDS
            except ProcessorError as error:
                self._become(STOPPED, one_line(error))
                return
            except Exception as error:  # noqa: BLE001 inbox or disk: later, from the archive's own end
                self._become(FAILED, one_line(error))
                pause = backoff.failed()
            if ending:
                break
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._signal.wait(), pause)
        await self._thread.run(self._close)
        if self._state == RUNNING:
            self._state = ENDED

    def _copy(self) -> None:
        if self._archive is None:
            self._archive = self._open_archive()
        self._position, self._head = self._archive.head(), self._inbox.head()
        if self._position > self._head:
            raise ArchiveAhead(f"the archive ends at number {self._position}, the inbox at {self._head}")
        while rows := self._inbox.read(self._position + 1, BATCH):
            # A crash before this leaves the rows to be copied again; a torn tail is cut off then.
            self._archive.append(rows)
            self._position = rows[-1].number
            self._head = max(self._head, self._position)

    def _close(self) -> None:
        if self._archive is not None:
            self._archive.close()

    def _become(self, state: str, error: str) -> None:
        if (state, error) != (self._state, self._error):
            if error:
                logger.error("%s is %s at number %d: %s", self.name, state, self._position, error)
            else:
                logger.info("%s goes on from number %d", self.name, self._position)
        self._state, self._error = state, error

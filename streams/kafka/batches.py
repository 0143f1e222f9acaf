"""Batches out of single records: what has come while the last batch was in work is the next one.

So a record that comes alone is processed at once, and under load the batches grow by themselves: the cost of a
transaction is shared by many records exactly when there are many.
"""

import asyncio
import contextlib
from typing import Any, Final

BUSY_RECORDS: Final = 50  # a batch of so many says that more are coming: the next one is gathered for a moment
GATHER_SECONDS: Final = 0.05


class Batches:
    """Between one task that puts records in and one that takes batches out. Holds at most `max_records`."""

    def __init__(self, max_records: int, *, gather_seconds: float = GATHER_SECONDS) -> None:
        self._max, self._gather = max_records, gather_seconds
        self._waiting: list[Any] = []
        self._some, self._room, self._full = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._room.set()
        self._last = 0

    async def put(self, record: Any) -> None:
        """Add a record; waits while a full batch is waiting already."""
        while len(self._waiting) >= self._max:
            self._room.clear()
            await self._room.wait()
        self._waiting.append(record)
        self._some.set()
        if len(self._waiting) >= self._max:
            self._full.set()

    async def take(self) -> list[Any]:
        """The next batch, in the order of `put`; waits until there is one."""
        await self._some.wait()
        if self._last >= BUSY_RECORDS and not self._full.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._full.wait(), self._gather)
        batch, self._waiting = self._waiting, []
        self._last = len(batch)
        self._some.clear()
        self._full.clear()
        self._room.set()
        return batch

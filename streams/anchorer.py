"""The anchorer: decides when the log is to be anchored next, and writes that down as due work.

It follows the published part of the log as a processor, so what it asks for is always covered by a signed checkpoint.
It never looks at the anchor book: nothing that anchoring itself logs can lead to another anchor.
"""

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from typing import Final

from merkle.hashing import leaf_hash
from merkle.log_view import LogView
from storage.due_work import DueWorkStore, Work
from streams.local import EntryLog
from streams.processor import Record, fresh

INTERVAL_SECONDS: Final = 10.0
MAX_UNANCHORED_ENTRIES: Final = 100_000
ANCHOR_WORK: Final = "anchor"


class PublishedLog:
    """The entries that the last checkpoint covers."""

    def __init__(self, entries: EntryLog, view: LogView) -> None:
        self._entries, self._view = entries, view

    def head(self) -> int:
        """The published size."""
        return self._view.size

    def read(self, start: int, limit: int) -> list[Record]:
        """At most `limit` published records from position `start`."""
        limit = min(limit, self._view.size - start + 1)
        return self._entries.read(start, limit) if limit > 0 else []


def anchor_work(size: int, due_at: float) -> Work:
    """Work that is done when a head of `size` at least is final on the chain."""
    return Work(ANCHOR_WORK, f"{ANCHOR_WORK}:{size}", json.dumps({"size": size}), due_at)


def size_of(payload: str) -> int:
    """The size that anchor work asks for."""
    size: int = json.loads(payload)["size"]
    return size


class Anchorer:
    """Asks for an anchor at most every `interval_seconds`, sooner when `max_unanchored_entries` wait for one.

    An anchor that is due but not begun will carry the newest head, so what is published meanwhile asks for none of
    its own. `on_due` is called whenever there is something to do, in the calling thread.
    """

    name: Final = "anchorer"

    def __init__(
        self,
        work: DueWorkStore,
        entries: EntryLog,
        view: LogView,
        *,
        interval_seconds: float = INTERVAL_SECONDS,
        max_unanchored_entries: int = MAX_UNANCHORED_ENTRIES,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.on_due: list[Callable[[], None]] = []
        self._work, self._entries, self._view = work, entries, view
        self._interval, self._max_unanchored = interval_seconds, max_unanchored_entries
        self._clock = clock

    def position(self) -> tuple[int, bytes]:
        """The last position seen and its leaf hash; (0, b"") in the beginning."""
        return self._work.position(self.name)[:2]

    def process(self, records: Sequence[Record]) -> None:
        """See to it that the records are anchored in time. GapError or ForkError when they do not follow."""
        with self._work.transaction() as transaction:
            position, leaf, state = transaction.position(self.name)
            new = fresh(records, (position, leaf), lambda at: self._view.leaf(at - 1))
            if not new:
                return
            size, entry = new[-1]
            asked, due_at = json.loads(state) if state else (0, 0.0)
            now = self._clock()
            waiting = transaction.untouched(ANCHOR_WORK)
            enough = size - asked >= self._max_unanchored
            if waiting is None:
                # A due time still to come was overtaken by a request: that one was the last anchor, about now.
                asked, due_at = size, now if enough else max(now, min(due_at, now) + self._interval)
                transaction.put(anchor_work(size, due_at))
            elif enough:
                asked, due_at = size, now
                transaction.hasten(waiting, now)
            # Work and position are one transaction: a crash before it repeats the records, after it skips them.
            transaction.save_position(self.name, size, leaf_hash(entry), json.dumps([asked, due_at]))
        for notify in self.on_due:
            notify()

    async def request_now(self) -> int:
        """Ask for an anchor at once, whatever the interval says; the size that it will cover (0: there is nothing)."""
        return await asyncio.to_thread(self._request_now)

    def _request_now(self) -> int:
        size, now = self._entries.head(), self._clock()
        if not size:
            return 0
        # A crash before this is durable: nobody was told that it was asked for. After it: the executor finds it.
        with self._work.transaction() as transaction:
            work = anchor_work(size, now)
            transaction.put(work)
            transaction.hasten(work.key, now)  # the interval may have asked for the same size, later
        for notify in self.on_due:
            notify()
        return size

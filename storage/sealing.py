"""What every recorder does under its write lock: gives a group its time and seals its entries."""

from collections.abc import Iterable, Iterator
from typing import Any

from domain.entry import Entry, parse_time
from storage.clock import LedgerClock

EventRow = tuple[int, str, int, str, bytes]
"""A row of the events table: position, aggregate id, version, event type, entry bytes."""


class Sealing:
    """Origin, clock and last time of one event store. The recorder says how a stored entry is read under the lock."""

    origin: str = ""
    clock: LedgerClock | None = None
    last_time: tuple[int, str] = (0, "")

    def bind(self, origin: str, clock: LedgerClock) -> None:
        """Name the log that entries are sealed for, and the clock that gives their time."""
        self.origin, self.clock = origin, clock

    def time_under_lock(self, cursor: Any, head: int) -> str:
        """The time of the entries to be stored now: never before the last entry's. Raises ClockJumped."""
        if self.clock is None:
            raise RuntimeError("bind the recorder to an origin and a clock before it stores entries")
        known, last = self.last_time
        if known != head:  # the first write of this process, or somebody else wrote in between
            last = self.clock.time_of(self.state_at(cursor, head)) if head else ""
        return self.clock.next_time(last)

    def remember_time(self, head: int, moment: str) -> None:
        """The last entry is now `head`, of that time; forgotten again when the commit fails."""
        self.last_time = (head, moment)

    @staticmethod
    def seconds_of(moment: str) -> float:
        """Unix seconds of an entry's time."""
        return parse_time(moment).timestamp()

    def state_at(self, cursor: Any, position: int) -> bytes:
        """The entry at a position, which is there."""
        raise NotImplementedError

    def seal(self, drafts: Iterable[Any], first: int, moment: str) -> Iterator[EventRow]:
        """Rows of the events table, from position `first`. Raises EntryTooLarge.

        Entries are sealed; a plain StoredEvent (the library's own test cases) stays opaque.
        """
        for position, draft in enumerate(drafts, first):
            name = draft.originator_id
            state = draft.seal(self.origin, position, moment) if type(draft) is Entry else draft.state
            yield position, name if type(name) is str else name.hex, draft.originator_version, draft.topic, state

"""The one time there is: `recorded_at`, which never decreases along the positions."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from domain.entry import decode_stamp, format_time, parse_time
from domain.errors import ClockJumped

DEFAULT_LIMIT_SECONDS: Final = 60.0


def _elapsed_seconds() -> float:
    """Seconds that passed, sleep of the machine included where the system counts it."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


class LedgerClock:
    """Gives each group its time and refuses when the wall clock jumps by more than `limit_seconds`.

    Backwards: against the last entry. Forwards: against the time that really passed since the latest time it ever was
    (so that a clock set back may be set right again); a jump before the start of the process cannot be told from a
    pause of the service. Within the limit a clock that was set back repeats the last entry's time until it has caught
    up. After a wanted change of the clock, restart the service.
    """

    def __init__(
        self,
        limit_seconds: float = DEFAULT_LIMIT_SECONDS,
        wall: Callable[[], float] = time.time,
        elapsed: Callable[[], float] = _elapsed_seconds,
    ) -> None:
        self._limit = limit_seconds
        self._wall = wall
        self._elapsed = elapsed
        self._reference = (wall(), elapsed())

    def next_time(self, last: str) -> str:
        """The time of the next entries, given the last entry's ("" for none). Raises ClockJumped."""
        wall, elapsed = self._wall(), self._elapsed()
        expected = self._reference[0] + elapsed - self._reference[1]
        ahead = wall - expected
        if ahead > self._limit:
            raise ClockJumped(
                f"the clock jumped forward by {ahead:.0f} s (limit {self._limit:.0f} s): set it right, or restart",
                jump_seconds=round(ahead, 3),
            )
        moment = datetime.fromtimestamp(wall, UTC)
        if last:
            behind = (parse_time(last) - moment).total_seconds()
            if behind > self._limit:
                raise ClockJumped(
                    f"the clock is {behind:.0f} s behind the last entry (limit {self._limit:.0f} s)",
                    jump_seconds=-round(behind, 3),
                )
        self._reference = (max(wall, expected), elapsed)
        return max(format_time(moment), last)

    @staticmethod
    def time_of(state: bytes) -> str:
        """The time of a stored entry."""
        return decode_stamp(state).recorded_at

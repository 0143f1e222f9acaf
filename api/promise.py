"""The promise at the end of every answer to a command: these entries will be in the published log by then.

A C2SP signed note under the key `<origin>/promise`: first line the key's name, then `publish-by <time>`, then a line
`<position> <base64 leaf hash>` for each entry, ascending (docs/evidence.md).
"""

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Final

from api.services import PromisesPort
from api.text import b64
from domain.entry import format_time

NAME_SUFFIX: Final = "/promise"
_SAME_SECONDS: Final = 0.05  # promises made this close to each other name the same (earlier) time: writing it is dear


class Promiser:
    """Makes promises for one log."""

    def __init__(self, origin: str, port: PromisesPort, clock: Callable[[], float] = time.time) -> None:
        self._name = f"{origin}{NAME_SUFFIX}"
        self._port = port
        self._clock = clock
        self._head = ("", 0.0)

    async def promise(self, leaves: Mapping[int, bytes]) -> str | None:
        """The signed note over these leaf hashes by position; None when there are none."""
        if not leaves:
            return None
        lines = [f"{position} {b64(leaf)}\n" for position, leaf in sorted(leaves.items())]
        return (await self._port.sign(f"{self._first_lines()}{''.join(lines)}".encode())).decode()

    def _first_lines(self) -> str:
        lines, made = self._head
        now = self._clock()
        if not 0 <= now - made < _SAME_SECONDS:
            due = datetime.fromtimestamp(now + self._port.publish_by_seconds, UTC)
            lines = f"{self._name}\npublish-by {format_time(due)}\n"
            self._head = lines, now
        return lines

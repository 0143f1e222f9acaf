"""What can be copied into a topic, and compared with it."""

from collections.abc import Collection, Sequence
from typing import Any, Final, Protocol

_READ: Final = 1_000


class Feed(Protocol):
    """Items by position: `streams.local.EntryLog`, `streams.topic_checkpoints.CheckpointFeed`."""

    def head(self) -> int:
        """The last position, 0 when there is nothing."""
        ...

    def read(self, start: int, limit: int) -> Sequence[tuple[int, Any]]:
        """At most `limit` items from position `start` on, ascending."""
        ...


def items_at(feed: Feed, positions: Collection[int]) -> dict[int, Any]:
    """The feed's items at those of the positions where it has one."""
    found: dict[int, Any] = {}
    wanted, asked = sorted(set(positions), reverse=True), frozenset(positions)
    while wanted:
        items = feed.read(wanted[-1], min(_READ, wanted[0] - wanted[-1] + 1))
        found |= {position: item for position, item in items if position in asked}
        reached = items[-1][0] if items else wanted[0]
        while wanted and wanted[-1] <= reached:
            wanted.pop()
    return found

"""Where a read model stands in its log, and which records it may take next.

A record is (position, entry bytes). At-least-once delivery repeats records; a repeat is recognised by its leaf hash
and skipped. Anything else that does not continue the log stops the projection before it changes a row.
"""

from collections.abc import Callable, Sequence

from merkle.hashing import leaf_hash

Record = tuple[int, bytes]
Accepted = tuple[int, bytes, bytes]  # position, entry bytes, leaf hash


class ProjectionStopped(Exception):
    """The projection cannot go on by itself: nothing was changed. `position` says where it stopped."""

    def __init__(self, message: str, position: int) -> None:
        super().__init__(message)
        self.position = position


class PositionGap(ProjectionStopped):
    """A record does not follow the one before it."""


class PositionFork(ProjectionStopped):
    """A position that was applied comes again with another entry, or the entries are another log's."""


class UnknownEvent(ProjectionStopped):
    """An event type or schema version that this program does not know: a newer one must run."""


class EntryCorrupt(ProjectionStopped):
    """The entry's bytes contradict their place or the state they act on."""


def accept(records: Sequence[Record], position: int, known: Callable[[int, int], dict[int, bytes]]) -> list[Accepted]:
    """The records that come after `position`, with their leaf hashes; repeats are dropped.

    `known(first, last)` gives the leaf hashes of applied positions. Raises PositionFork when a repeat has another hash
    and PositionGap when a position is left out; records must ascend one by one.
    """
    if not records:
        return []
    expected = records[0][0]
    if not 1 <= expected <= position + 1:
        raise PositionGap(f"position {expected} does not follow {position}", expected)
    repeats = known(expected, position) if expected <= position else {}
    fresh: list[Accepted] = []
    for at, entry in records:
        if at != expected:
            raise PositionGap(f"position {at} does not follow {expected - 1}", at)
        expected += 1
        leaf = leaf_hash(entry)
        if at > position:
            fresh.append((at, entry, leaf))
        elif repeats.get(at) != leaf:
            raise PositionFork(f"position {at} was applied with leaf hash {repeats[at].hex()}, not {leaf.hex()}", at)
    return fresh

"""What a processor owes its host, and the one rule by which repeats, gaps and forks are told apart."""

from collections.abc import Callable, Sequence
from typing import Protocol

from merkle.hashing import leaf_hash

Record = tuple[int, bytes]
"""A position (from 1, gapless) and the entry's exact bytes."""


class Processor(Protocol):
    """Something that follows the log. Its host calls it from one thread at a time.

    Duties: effect and position are one transaction; a record seen before is skipped, told by its leaf hash; a
    gap or another entry at a known position raises and changes nothing.
    """

    @property
    def name(self) -> str:
        """What it is called in readiness and logs."""
        ...

    def position(self) -> tuple[int, bytes]:
        """The last position processed and its leaf hash; (0, b"") in the beginning."""
        ...

    def process(self, records: Sequence[Record]) -> None:
        """Take records in ascending order without gaps, starting anywhere up to `position() + 1`."""
        ...


class ProcessorError(Exception):
    """A processor cannot go on with what it is fed. Never passes by itself: stop and look.

    ProcessorError
    ├── GapError    a position is missing
    └── ForkError   two truths about the same position or size
    """


class GapError(ProcessorError):
    """A record is not the one after the last."""

    def __init__(self, expected: int, found: int) -> None:
        """`expected` and `found` are positions."""
        super().__init__(f"position {found} where {expected} was due")
        self.expected = expected
        self.found = found


class ForkError(ProcessorError):
    """What we hold and what we are told disagree about the past: one of the two was rewritten."""

    def __init__(self, what: str, ours: bytes, theirs: bytes) -> None:
        """`what` names the position or size; `ours` and `theirs` are the hashes (empty: there is none)."""
        super().__init__(f"{what}: {ours.hex() or 'nothing'} here, {theirs.hex() or 'nothing'} there")
        self.what = what
        self.ours = ours
        self.theirs = theirs


def fresh(
    records: Sequence[Record],
    position: tuple[int, bytes],
    known: Callable[[int], bytes] | None = None,
) -> Sequence[Record]:
    """The records beyond `position`, once the others and their order are checked.

    A repeat is compared by leaf hash: at the last position always, below it where `known` gives the leaf hash
    at a position. ForkError when one differs, GapError when a position is missing, below the first or out of
    order.
    """
    last, last_hash = position
    for expected, (number, _) in enumerate(records, start=records[0][0] if records else 0):
        if number != expected:
            raise GapError(expected, number)
    if records and not 1 <= records[0][0] <= last + 1:
        raise GapError(last + 1, records[0][0])
    repeats = last + 1 - records[0][0] if records else 0
    for number, entry in records[:repeats]:
        if known is None and number != last:
            continue
        ours = known(number) if known else last_hash
        theirs = leaf_hash(entry)
        if ours != theirs:
            raise ForkError(f"position {number}", ours, theirs)
    return records[repeats:]

"""The one rule by which every processor tells repeats, gaps and forks apart."""

import pytest

from merkle.hashing import leaf_hash
from streams.processor import ForkError, GapError, ProcessorError, Record, fresh

ENTRIES = [b'{"position":%d}' % position for position in range(1, 7)]


def records(first: int, last: int) -> list[Record]:
    """The records of positions first..last."""
    return [(position, ENTRIES[position - 1]) for position in range(first, last + 1)]


def test_a_processor_that_knows_only_its_last_hash_still_sees_a_fork_there() -> None:
    reached = (3, leaf_hash(ENTRIES[2]))
    assert fresh(records(1, 5), reached) == records(4, 5)
    assert fresh([(2, b"cannot be told"), *records(3, 4)], reached) == records(4, 4)
    assert fresh([], reached) == []
    assert fresh(records(1, 2), (0, b"")) == records(1, 2)
    with pytest.raises(ForkError) as fork:
        fresh([(3, b"rewritten")], reached)
    assert (fork.value.what, fork.value.ours, fork.value.theirs) == (
        "position 3",
        leaf_hash(ENTRIES[2]),
        leaf_hash(b"rewritten"),
    )
    with pytest.raises(GapError) as gap:
        fresh(records(5, 6), reached)
    assert (gap.value.expected, gap.value.found) == (4, 5)
    assert isinstance(gap.value, ProcessorError)


def test_a_hole_a_repeat_or_another_order_inside_a_batch_is_a_gap() -> None:
    reached = (3, leaf_hash(ENTRIES[2]))
    one, other = records(4, 4), records(5, 5)
    for batch, expected, found in (
        ([*one, *records(6, 6)], 5, 6),
        ([*one, *one, *other], 5, 4),
        ([*records(3, 3), *other, *one], 4, 5),
    ):
        with pytest.raises(GapError) as gap:
            fresh(batch, reached)
        assert (gap.value.expected, gap.value.found) == (expected, found)

"""Fees of a first attempt and of its replacement: enough for geth, never above the cap."""

from hypothesis import given
from hypothesis import strategies as st

from chain.fees import Fees, bumped_fees, first_fees, increased

wei = st.integers(0, 10**13)
NO_CAP = 10**30


@given(st.integers(0, 10**30))
def test_an_increase_is_at_least_an_eighth_rounded_up_and_never_nothing(fee: int) -> None:
    assert increased(fee) * 8 >= fee * 9
    assert fee < increased(fee) <= fee * 9 // 8 + 1


@given(wei, wei, wei, wei)
def test_a_replacement_is_dearer_by_more_than_geth_asks_on_both_fees(
    base: int, tip: int, later_base: int, later_tip: int
) -> None:
    first = first_fees(base, tip, NO_CAP)
    bumped = bumped_fees(first, later_base, later_tip, NO_CAP)
    for old, new in zip(first, bumped, strict=True):
        # geth, core/txpool: strictly more, and at least 110 %
        assert new > old
        assert new * 100 >= old * 110
    assert bumped.max_fee >= 2 * later_base + bumped.tip


@given(wei, wei, wei)
def test_no_fee_is_ever_above_the_cap(base: int, tip: int, cap: int) -> None:
    first = first_fees(base, tip, cap)
    if first is None:
        assert base > cap
        return
    assert first.tip <= first.max_fee <= cap
    bumped = bumped_fees(first, base * 2, tip, cap)
    if bumped is not None:
        assert bumped.tip <= bumped.max_fee <= cap
        assert bumped.max_fee >= increased(first.max_fee)


def test_a_first_attempt_leaves_room_for_the_base_fee_to_double() -> None:
    assert first_fees(10, 3, NO_CAP) == Fees(23, 3)
    assert first_fees(10, 3, 15) == Fees(15, 3)
    assert first_fees(10, 3, 9) is None


def test_a_replacement_at_the_cap_is_made_only_when_it_still_replaces() -> None:
    assert bumped_fees(Fees(800, 8), 500, 1, 900) == Fees(900, 9)
    assert bumped_fees(Fees(801, 8), 500, 1, 900) is None

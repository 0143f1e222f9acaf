"""What an anchor may cost: EIP-1559 fees, their increase when a transaction is stuck, and the hard cap. Pure."""

from typing import Final, NamedTuple

# geth and most others replace a transaction only for at least 10 % more on both fees; 12.5 % leaves room for rounding
BUMP_NUMERATOR: Final = 9
BUMP_DENOMINATOR: Final = 8


class Fees(NamedTuple):
    """Wei per gas: the most to pay in all, and the part of it for the block's builder."""

    max_fee: int
    tip: int


def increased(fee: int) -> int:
    """12.5 % more, rounded up, and always more."""
    return max(-(-fee * BUMP_NUMERATOR // BUMP_DENOMINATOR), fee + 1)


def first_fees(base_fee: int, tip: int, cap: int) -> Fees | None:
    """Fees of a first attempt: room for the base fee to double. None while the base fee alone is over the cap."""
    if base_fee > cap:
        return None
    most = min(2 * base_fee + tip, cap)
    return Fees(most, min(tip, most))


def bumped_fees(previous: Fees, base_fee: int, tip: int, cap: int) -> Fees | None:
    """Fees that replace a stuck attempt of the same nonce. None when the cap does not allow the increase."""
    new_tip = max(tip, increased(previous.tip))
    most = max(2 * base_fee + new_tip, increased(previous.max_fee))
    if most > cap:
        # still a valid replacement when the cap itself lies far enough above the previous fee
        most = cap if cap >= increased(previous.max_fee) else 0
    return Fees(most, new_tip) if most >= new_tip and most > 0 else None

"""Who may use what he has paid for, and why: one pure function over what is known of a subscription.

No message grants anything by its type. Access follows from the state of the life cycle and from dates.
"""

from enum import StrEnum
from typing import Final, NamedTuple

from domain.store_notification import State
from domain.subscription_history import History

DAY_MILLIS: Final = 86_400_000


class AccessReason(StrEnum):
    """Why access is given or not."""

    PAID = "paid"
    GRACE = "grace"  # payment failed, the store asks to keep access
    SOFT_GAP = "soft_gap"  # the period has ended, the store has not reported the next one yet
    NOT_STARTED = "not_started"
    UNKNOWN_PERIOD = "unknown_period"  # active, but the store has not said until when
    RAN_OUT = "ran_out"
    HOLD = "hold"
    PAUSED = "paused"
    EXPIRED = "expired"
    REVOKED = "revoked"
    SUPERSEDED = "superseded"


class Access(NamedTuple):
    """`until` is in milliseconds since 1970-01-01 UTC, None for access without end or none at all."""

    granted: bool
    reason: AccessReason
    until: int | None


_WITHOUT: Final = {
    State.PENDING: AccessReason.NOT_STARTED,
    State.HOLD: AccessReason.HOLD,
    State.PAUSED: AccessReason.PAUSED,
    State.EXPIRED: AccessReason.EXPIRED,
    State.REVOKED: AccessReason.REVOKED,
    State.SUPERSEDED: AccessReason.SUPERSEDED,
}


def access_of(history: History, now: int, soft_gap_millis: int = 0) -> Access:
    """Access at `now` (milliseconds since 1970-01-01 UTC).

    1. Only ACTIVE and GRACE give access.
    2. It lasts until the later of the end of the paid period and the end of the grace period.
    3. What is going to renew keeps access for `soft_gap_millis` more: Google may let a period end about a day before
       it reports what came of it.
    """
    state = history.state
    if state in _WITHOUT:
        return Access(granted=False, reason=_WITHOUT[state], until=None)
    if history.plan is None:
        return Access(granted=False, reason=AccessReason.UNKNOWN_PERIOD, until=None)
    paid = AccessReason.GRACE if state is State.GRACE else AccessReason.PAID
    if history.plan.expires_at is None:
        return Access(granted=True, reason=paid, until=None)
    renewal = history.renewal
    grace = renewal.grace_expires_at if renewal is not None else None
    until = max(history.plan.expires_at, grace or 0)
    if now < until:
        return Access(granted=True, reason=paid, until=until)
    if renewal is not None and renewal.renews and now < until + soft_gap_millis:
        return Access(granted=True, reason=AccessReason.SOFT_GAP, until=until + soft_gap_millis)
    return Access(granted=False, reason=AccessReason.RAN_OUT, until=None)

"""What is known of a subscription, out of everything a store has said of it, in whatever order it arrived.

Order cannot matter, since nothing here looks at it: a snapshot counts by the moment that its store gave it, facts are
sets, and SUPERSEDED absorbs. So two histories with the same messages, repeated and shuffled, end in the same place.
"""

from itertools import pairwise
from typing import Final, NamedTuple, TypeVar

import msgspec

from domain.store_notification import (
    WHOLE,
    Charge,
    Kind,
    Part,
    Plan,
    PriceConsent,
    Refund,
    RefundReversal,
    Renewal,
    Standing,
    State,
    StoreNotification,
)

P = TypeVar("P", bound=Part)
_RANK: Final = {state: rank for rank, state in enumerate(State)}
MOVES: Final[dict[State, frozenset[State]]] = {
    State.PENDING: frozenset({State.ACTIVE, State.EXPIRED}),
    State.ACTIVE: frozenset({State.GRACE, State.HOLD, State.PAUSED, State.EXPIRED, State.REVOKED, State.SUPERSEDED}),
    State.GRACE: frozenset({State.ACTIVE, State.HOLD, State.EXPIRED, State.REVOKED, State.SUPERSEDED}),
    State.HOLD: frozenset({State.ACTIVE, State.EXPIRED, State.REVOKED, State.SUPERSEDED}),
    State.PAUSED: frozenset({State.ACTIVE, State.HOLD, State.EXPIRED, State.REVOKED}),
    State.EXPIRED: frozenset({State.ACTIVE}),  # resubscribed, or a refund reversed
    State.REVOKED: frozenset({State.ACTIVE}),  # a refund reversed, or back in the family
    State.SUPERSEDED: frozenset(),
}
"""The moves that stores describe. Another one counts all the same when it is newer, and is an anomaly."""


class Anomaly(NamedTuple):
    """A move that no store describes: a message is missing, or a store has changed its ways."""

    before: State
    after: State
    at: int


class RefundState(NamedTuple):
    """How much of a charge has been given back, in thousandths of a percent, as of the newest word on it."""

    share: int
    at: int


class History:
    """Everything that a store has said of one subscription. `observe` may be told a thing any number of times."""

    __slots__ = ("charges", "plan", "refunds", "renewal", "replaced_by", "reversals", "standings")

    def __init__(self) -> None:
        self.standings: set[Standing] = set()
        self.plan: Plan | None = None
        self.renewal: Renewal | None = None
        self.charges: dict[str, Charge] = {}
        self.refunds: set[Refund] = set()
        self.reversals: set[RefundReversal] = set()
        self.replaced_by: set[str] = set()

    # -- what arrives ------------------------------------------------------------------------------------------------

    def observe(self, said: StoreNotification) -> None:
        """Take in everything that a message says."""
        self.add_snapshots(said.standing, said.plan, said.renewal)
        for charge in said.charges:
            self.add_charge(charge)
        self.refunds.update(said.refunds)
        self.reversals.update(said.reversals)

    def add_snapshots(self, standing: Standing | None, plan: Plan | None, renewal: Renewal | None) -> None:
        """How things stood at some moment; each part counts by its own."""
        if standing is not None:
            self.standings.add(standing)
        self.plan = later(self.plan, plan)
        self.renewal = later(self.renewal, renewal)

    def add_charge(self, charge: Charge) -> None:
        """Money was taken. Of two descriptions of one charge the same one is kept, whichever came first."""
        self.charges[charge.key] = self._better(charge)

    def news(self, said: StoreNotification) -> StoreNotification:
        """The message without everything that is known already."""
        return msgspec.structs.replace(
            said,
            standing=None if said.standing in self.standings else said.standing,
            plan=None if later(self.plan, said.plan) == self.plan else said.plan,
            renewal=None if later(self.renewal, said.renewal) == self.renewal else said.renewal,
            charges=tuple(charge for charge in said.charges if self._better(charge) != self.charges.get(charge.key)),
            refunds=tuple(refund for refund in said.refunds if refund not in self.refunds),
            reversals=tuple(reversal for reversal in said.reversals if reversal not in self.reversals),
        )

    def _better(self, charge: Charge) -> Charge:
        known = self.charges.get(charge.key)
        return charge if known is None else max(known, charge, key=_charge_order)

    # -- what follows from it ----------------------------------------------------------------------------------------

    @property
    def standing(self) -> Standing | None:
        """The newest one; SUPERSEDED for good once it was said."""
        absorbing = [each for each in self.standings if each.state is State.SUPERSEDED]
        return max(absorbing or self.standings, key=_standing_order, default=None)

    @property
    def state(self) -> State:
        """Where the subscription stands: SUPERSEDED once another one has taken its place."""
        if self.replaced_by:
            return State.SUPERSEDED
        standing = self.standing
        return State.PENDING if standing is None else standing.state

    @property
    def price_consent(self) -> PriceConsent:
        """What the user has said to a higher price, as of the newest renewal."""
        return PriceConsent.NONE if self.renewal is None else self.renewal.price_consent

    def anomalies(self) -> list[Anomaly]:
        """Moves between neighbouring standings that no store describes, in order of time."""
        ordered = sorted(self.standings, key=_standing_order)
        return [
            Anomaly(before.state, after.state, after.at)
            for before, after in pairwise(ordered)
            if after.state is not before.state and after.state not in MOVES[before.state]
        ]

    def refund_of(self, charge: str) -> RefundState:
        """What has been given back of a charge, also of one that is not known yet: (0, 0) when nothing was."""
        found = [(each.at, each.share) for each in self.refunds if each.charge == charge]
        found += [(each.at, 0) for each in self.reversals if each.charge == charge]
        at, share = max(found, default=(0, 0))
        return RefundState(share, at)

    def refunded_whole(self, charge: str) -> bool:
        """True when all of a charge has been given back."""
        return self.refund_of(charge).share >= WHOLE


def later(known: P | None, said: P | None) -> P | None:
    """The one of two snapshots that counts: of the later period, then the newer, then always the same one."""
    if known is None or said is None:
        return said if known is None else known
    return max(known, said, key=_part_order)


def about_this_line(said: StoreNotification) -> bool:
    """False for what a subscription has nothing to learn from."""
    return said.line is not None and said.kind is not Kind.NOT_ABOUT_US


def _part_order(part: Part) -> tuple[int, int, bytes]:
    since = part.since if isinstance(part, Plan) else 0
    return since, part.at, msgspec.json.encode(part)


def _standing_order(standing: Standing) -> tuple[int, int]:
    return standing.at, _RANK[standing.state]


def _charge_order(charge: Charge) -> tuple[bool, int, bytes]:
    """The one that knows the amount, then the earlier one."""
    return charge.milliunits is not None, -charge.at, msgspec.json.encode(charge)

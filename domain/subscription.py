"""Subscription: one line at a store, from everything that its store has said of it.

The aggregate never argues with a store: whatever is new is recorded, however late it comes, and what follows from it is
worked out by `History`, which knows no order of arrival. Ids of a store (of lines and of charges) do not enter the
ledger: aggregates and charges are named by UUIDv5 of them, and the payloads that hold them lie in the archive.
"""

import msgspec

from domain.aggregate import Aggregate, Event, event_of
from domain.ids import charge_id, subscription_id
from domain.store_notification import (
    Charge,
    Kind,
    Millis,
    Plan,
    Refund,
    RefundReversal,
    Renewal,
    Standing,
    Store,
    StoreEnvironment,
    StoreNotification,
)
from domain.subscription_history import History, about_this_line


class Subscription(Aggregate):
    """`history` is what is known; a subscription of a sandbox never counts as one that was paid for."""

    __slots__ = ("environment", "history", "store")

    def __init__(self, aggregate_id: str) -> None:
        super().__init__(aggregate_id)
        self.store = Store.APPLE
        self.environment = StoreEnvironment.SANDBOX
        self.history = History()

    @classmethod
    def open(cls, store: Store, environment: StoreEnvironment, line: str) -> "Subscription":
        """A line that was never heard of before."""
        subscription = cls(subscription_id(store, environment, line))
        subscription.trigger(SubscriptionOpened(store, environment))
        return subscription

    def observe(self, said: StoreNotification, payload: str) -> bool:
        """Record what is new in a message; False when there is nothing. `payload` is the SHA-256 (hex) of its bytes."""
        new = self.history.news(self._with_our_names(said))
        if new.says_nothing or not about_this_line(said):
            return False
        if (new.standing, new.plan, new.renewal) != (None, None, None):
            self.trigger(SubscriptionObserved(payload, new.kind, new.signed_at, new.standing, new.plan, new.renewal))
        for charge in new.charges:
            self.trigger(SubscriptionCharged(payload, charge))
        for refund in new.refunds:
            self.trigger(ChargeRefunded(payload, refund))
        for reversal in new.reversals:
            self.trigger(ChargeRefundReversed(payload, reversal))
        return True

    def supersede(self, by: str) -> bool:
        """Another subscription (its aggregate id) has taken this one's place, for good; False when that is known."""
        if by in self.history.replaced_by:
            return False
        self.trigger(SubscriptionSuperseded(by))
        return True

    def _with_our_names(self, said: StoreNotification) -> StoreNotification:
        def ours(key: str) -> str:
            return charge_id(said.store, said.environment, key)

        replace = msgspec.structs.replace
        return replace(
            said,
            charges=tuple(replace(each, key=ours(each.key)) for each in said.charges),
            refunds=tuple(replace(each, charge=ours(each.charge)) for each in said.refunds),
            reversals=tuple(replace(each, charge=ours(each.charge)) for each in said.reversals),
        )


@event_of(Subscription)
class SubscriptionOpened(Event):
    """A store has spoken of this line for the first time."""

    store: Store
    environment: StoreEnvironment

    def apply(self, subscription: Subscription) -> None:
        subscription.store, subscription.environment = self.store, self.environment


@event_of(Subscription)
class SubscriptionObserved(Event):
    """A store has said how something stands. `payload` is the SHA-256 of the message that says so."""

    payload: str
    kind: Kind
    signed_at: Millis
    standing: Standing | None
    plan: Plan | None
    renewal: Renewal | None

    def apply(self, subscription: Subscription) -> None:
        subscription.history.add_snapshots(self.standing, self.plan, self.renewal)


@event_of(Subscription)
class SubscriptionCharged(Event):
    """Money was taken."""

    payload: str
    charge: Charge

    def apply(self, subscription: Subscription) -> None:
        subscription.history.add_charge(self.charge)


@event_of(Subscription)
class ChargeRefunded(Event):
    """Money of a charge was given back."""

    payload: str
    refund: Refund

    def apply(self, subscription: Subscription) -> None:
        subscription.history.refunds.add(self.refund)


@event_of(Subscription)
class ChargeRefundReversed(Event):
    """A refund was undone."""

    payload: str
    reversal: RefundReversal

    def apply(self, subscription: Subscription) -> None:
        subscription.history.reversals.add(self.reversal)


@event_of(Subscription)
class SubscriptionSuperseded(Event):
    """Another subscription has taken this one's place."""

    by: str

    def apply(self, subscription: Subscription) -> None:
        subscription.history.replaced_by.add(self.by)

"""A subscription records what is new in a message, once, under our own names, and its replay is what it was."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from domain.ids import charge_id, subscription_id
from domain.store_notification import (
    Charge,
    Kind,
    Plan,
    Refund,
    RefundReversal,
    Renewal,
    Standing,
    State,
    Store,
    StoreEnvironment,
    StoreNotification,
)
from domain.subscription import Subscription

APPLE, PRODUCTION = Store.APPLE, StoreEnvironment.PRODUCTION


def said(at: int, kind: Kind = Kind.RENEWED, line: str | None = "100", **parts: Any) -> StoreNotification:
    return StoreNotification(APPLE, PRODUCTION, f"n-{at}", kind, "LABEL", at, line=line, **parts)


BOUGHT = said(
    1, Kind.STARTED, standing=Standing(1, State.ACTIVE), plan=Plan(1, "monthly", expires_at=9),
    renewal=Renewal(1, renews=True), charges=(Charge("c1", 1, "monthly"),),
)  # fmt: skip
REFUNDED = said(5, Kind.REFUNDED, standing=Standing(5, State.REVOKED), refunds=(Refund("c1", 5),))
REVERSED = said(7, Kind.REFUND_REVERSED, standing=Standing(7, State.ACTIVE), reversals=(RefundReversal("c1", 7),))


def new() -> Subscription:
    return Subscription.open(APPLE, PRODUCTION, "100")


def types(subscription: Subscription) -> list[str]:
    return [event.TYPE for event in subscription.collect_events()]


def test_a_line_has_one_subscription_whoever_speaks_of_it() -> None:
    subscription = new()
    assert subscription.id == subscription_id("apple", "production", "100")
    assert (
        subscription_id("apple", "sandbox", "100") != subscription.id != subscription_id("google", "production", "100")
    )
    assert (subscription.store, subscription.environment) == (APPLE, PRODUCTION)


def test_what_is_new_is_recorded_and_a_repeat_is_not() -> None:
    subscription = new()
    assert subscription.observe(BOUGHT, "aa")
    assert types(subscription) == ["SubscriptionOpened", "SubscriptionObserved", "SubscriptionCharged"]
    assert not subscription.observe(BOUGHT, "bb")
    assert types(subscription) == []


def test_only_the_new_part_of_a_message_is_recorded() -> None:
    subscription = new()
    subscription.observe(BOUGHT, "aa")
    subscription.collect_events()
    subscription.observe(said(2, standing=Standing(1, State.ACTIVE), renewal=Renewal(2, renews=False)), "bb")
    (event,) = subscription.collect_events()
    assert (event.standing, event.plan, event.renewal) == (None, None, Renewal(2, renews=False))  # type: ignore[attr-defined]


def test_facts_are_recorded_by_themselves_under_our_own_names() -> None:
    subscription = new()
    subscription.observe(said(5, Kind.REFUNDED, refunds=(Refund("c1", 5),)), "aa")
    subscription.observe(said(7, Kind.REFUND_REVERSED, reversals=(RefundReversal("c1", 7),)), "bb")
    assert types(subscription) == ["SubscriptionOpened", "ChargeRefunded", "ChargeRefundReversed"]
    assert subscription.history.refund_of(charge_id("apple", "production", "c1")) == (0, 7)
    assert subscription.history.refund_of("c1") == (0, 0), "the store's own name of a charge stays out of the ledger"


def test_a_message_that_is_not_about_it_teaches_it_nothing() -> None:
    subscription = new()
    subscription.collect_events()
    assert not subscription.observe(said(1, Kind.NOT_ABOUT_US, standing=Standing(1, State.ACTIVE)), "aa")
    assert not subscription.observe(said(1, line=None, standing=Standing(1, State.ACTIVE)), "aa")
    assert not subscription.observe(said(1, Kind.UNKNOWN), "aa")
    assert types(subscription) == []


def test_a_superseded_subscription_is_so_once_and_for_good() -> None:
    subscription = new()
    subscription.observe(BOUGHT, "aa")
    subscription.supersede("another")
    subscription.supersede("another")
    assert types(subscription)[-1:] == ["SubscriptionSuperseded"]
    subscription.observe(REVERSED, "bb")
    assert subscription.history.state is State.SUPERSEDED


@given(st.lists(st.sampled_from([BOUGHT, REFUNDED, REVERSED]), max_size=8))
def test_the_replay_of_its_events_is_what_it_was(messages: list[StoreNotification]) -> None:
    subscription = new()
    for number, message in enumerate(messages):
        subscription.observe(message, f"{number:064x}")
    replayed: Any = None
    for event in subscription.collect_events():
        replayed = event.mutate(replayed)
    assert replayed.version == subscription.version
    for name in ("standings", "plan", "renewal", "charges", "refunds", "reversals", "replaced_by"):
        assert getattr(replayed.history, name) == getattr(subscription.history, name)

"""What is known of a subscription does not depend on the order in which its messages arrive, nor on their repeats."""

from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.access import DAY_MILLIS, Access, AccessReason, access_of
from domain.store_notification import (
    WHOLE,
    Charge,
    Kind,
    Ownership,
    Phase,
    Plan,
    PriceConsent,
    Refund,
    RefundReversal,
    Renewal,
    Standing,
    State,
    Store,
    StoreEnvironment,
    StoreNotification,
)
from domain.subscription_history import MOVES, Anomaly, History, about_this_line, later

DAY = DAY_MILLIS
MONTH = 30 * DAY


def said(at: int, kind: Kind = Kind.RENEWED, **parts: Any) -> StoreNotification:
    return StoreNotification(
        Store.APPLE, StoreEnvironment.PRODUCTION, f"n-{at}-{kind}", kind, "LABEL", at, line="line", **parts
    )


def told(*messages: StoreNotification) -> History:
    history = History()
    for message in messages:
        history.observe(message)
    return history


def seen(history: History) -> tuple[Any, ...]:
    return (
        history.state, history.standing, history.plan, history.renewal, history.price_consent,
        sorted(history.charges.items()), {key: history.refund_of(key) for key in ("c1", "c2", "c3")},
        history.anomalies(), access_of(history, 40 * DAY),
    )  # fmt: skip


def plan(number: int, at: int, **more: Any) -> Plan:
    """The plan of a month, said at some time."""
    return Plan(at, "monthly", since=number * MONTH, expires_at=(number + 1) * MONTH, **more)


BOUGHT = said(
    1, Kind.STARTED, standing=Standing(1, State.ACTIVE), plan=plan(0, 1), renewal=Renewal(1, renews=True),
    charges=(Charge("c1", 1, "monthly", "JPY", 980_000),),
)  # fmt: skip
GRACE = said(
    MONTH, Kind.GRACE_ENTERED, standing=Standing(MONTH, State.GRACE), plan=plan(0, MONTH),
    renewal=Renewal(MONTH, renews=True, grace_expires_at=MONTH + 6 * DAY),
)  # fmt: skip
RECOVERED = said(
    MONTH + DAY, Kind.RECOVERED, standing=Standing(MONTH + DAY, State.ACTIVE), plan=plan(1, MONTH + DAY),
    renewal=Renewal(MONTH + DAY, renews=True), charges=(Charge("c2", MONTH + DAY, "monthly", "JPY", 980_000),),
)  # fmt: skip
OLD_REFUND = said(
    MONTH + 2 * DAY, Kind.REFUNDED, standing=Standing(MONTH + 2 * DAY, State.ACTIVE), plan=plan(0, MONTH + 2 * DAY),
    refunds=(Refund("c1", MONTH + 2 * DAY),),
)  # fmt: skip
TURNED_OFF = said(
    MONTH + 3 * DAY, Kind.RENEWAL_TURNED_OFF, standing=Standing(MONTH + 3 * DAY, State.ACTIVE),
    plan=plan(1, MONTH + 3 * DAY), renewal=Renewal(MONTH + 3 * DAY, renews=False),
)  # fmt: skip
REVERSED = said(
    MONTH + 4 * DAY, Kind.REFUND_REVERSED, standing=Standing(MONTH + 4 * DAY, State.ACTIVE),
    reversals=(RefundReversal("c1", MONTH + 4 * DAY),),
)  # fmt: skip
EXPIRED = said(
    2 * MONTH, Kind.EXPIRED, standing=Standing(2 * MONTH, State.EXPIRED), plan=plan(1, 2 * MONTH),
    renewal=Renewal(2 * MONTH, renews=False),
)  # fmt: skip
SEVEN = (BOUGHT, GRACE, RECOVERED, OLD_REFUND, TURNED_OFF, REVERSED, EXPIRED)


def test_every_order_of_seven_messages_ends_in_the_same_place() -> None:
    expected = seen(told(*SEVEN))
    assert expected[0] is State.EXPIRED
    for order in permutations(SEVEN):
        assert seen(told(*order)) == expected


@given(st.lists(st.sampled_from(SEVEN), min_size=1, max_size=20), st.randoms(use_true_random=False))
def test_repeats_change_nothing_whatever_was_lost(messages: list[StoreNotification], random: Any) -> None:
    once = list(dict.fromkeys(messages))
    random.shuffle(once)
    history = told(*messages)
    assert seen(history) == seen(told(*once))
    assert all(history.news(message).says_nothing for message in messages)


STATES = st.sampled_from(list(State))
PARTS = st.builds(
    lambda at, state, since, product, renews: said(
        at, standing=Standing(at, state), plan=Plan(at, product, since=since, expires_at=since + 5),
        renewal=Renewal(at, renews=renews), charges=(Charge("c1", at, product),), refunds=(Refund("c2", at, at),),
    ),
    st.integers(1, 4), STATES, st.integers(0, 3), st.sampled_from(["a", "b"]), st.booleans(),
)  # fmt: skip


@given(st.lists(PARTS, max_size=6), st.randoms(use_true_random=False))
def test_no_order_matters_even_when_messages_of_one_moment_contradict_each_other(
    messages: list[StoreNotification], random: Any
) -> None:
    shuffled = list(messages)
    random.shuffle(shuffled)
    assert seen(told(*messages)) == seen(told(*shuffled))


def test_a_message_that_says_something_new_is_not_known() -> None:
    history = told(BOUGHT)
    assert history.news(BOUGHT).says_nothing
    assert not any(history.news(message).says_nothing for message in SEVEN[1:])
    assert not history.news(said(1, charges=(Charge("c1", 1, "monthly", "JPY", 990_000),))).says_nothing
    assert history.news(said(9)).says_nothing, "nothing is said at all"


def test_a_late_refund_of_an_older_charge_is_kept_and_ends_nothing() -> None:
    history = told(BOUGHT, GRACE, RECOVERED, OLD_REFUND)
    assert history.refunded_whole("c1")
    assert not history.refunded_whole("c2")
    assert history.plan == plan(1, MONTH + DAY), "the refund speaks of the first month, access is of the second"
    assert access_of(history, MONTH + 3 * DAY) == Access(True, AccessReason.PAID, 2 * MONTH)


def test_a_refund_may_be_heard_of_before_its_charge() -> None:
    history = told(OLD_REFUND)
    assert history.refund_of("c1").share == WHOLE
    history.observe(BOUGHT)
    assert history.charges["c1"].milliunits == 980_000
    assert history.refunded_whole("c1")


def test_the_newest_word_on_a_charge_says_how_much_was_given_back() -> None:
    history = told(said(5, refunds=(Refund("c1", 5, 30_000),)))
    assert history.refund_of("c1") == (30_000, 5)
    history.observe(said(7, reversals=(RefundReversal("c1", 7),)))
    assert history.refund_of("c1") == (0, 7)
    history.observe(said(6, refunds=(Refund("c1", 6),)))
    assert history.refund_of("c1") == (0, 7)
    assert history.refund_of("nobody's") == (0, 0)


def test_a_superseded_line_stays_so_and_still_takes_refunds() -> None:
    history = told(BOUGHT, said(5, standing=Standing(5, State.SUPERSEDED)), RECOVERED, OLD_REFUND)
    assert history.state is State.SUPERSEDED
    assert history.refunded_whole("c1")
    assert access_of(history, 2) == Access(False, AccessReason.SUPERSEDED, None)


def test_a_line_that_another_one_replaces_is_superseded_whatever_its_store_says_later() -> None:
    history = told(BOUGHT)
    history.replaced_by.add("another line")
    history.observe(RECOVERED)
    assert history.state is State.SUPERSEDED


def test_an_expired_subscription_is_open_again_when_a_later_renewal_arrives_late() -> None:
    late = said(2 * MONTH + 1, standing=Standing(2 * MONTH + 1, State.ACTIVE), plan=plan(2, 2 * MONTH + 1))
    history = told(*SEVEN, late)
    assert history.state is State.ACTIVE
    assert access_of(history, 2 * MONTH + 2).granted
    assert history.anomalies() == []


def test_an_extended_date_counts_for_the_same_period() -> None:
    extended = Plan(9, "monthly", since=0, expires_at=MONTH + 5 * DAY)
    assert told(BOUGHT, said(9, plan=extended)).plan == extended
    assert later(extended, BOUGHT.plan) == extended
    assert later(None, extended) == later(extended, None) == extended


def test_a_move_that_no_store_describes_is_an_anomaly_and_counts_all_the_same() -> None:
    history = told(said(1, standing=Standing(1, State.HOLD)), said(2, standing=Standing(2, State.PAUSED)))
    assert history.state is State.PAUSED
    assert history.anomalies() == [Anomaly(State.HOLD, State.PAUSED, 2)]
    history.observe(said(3, standing=Standing(3, State.PAUSED)))
    assert len(history.anomalies()) == 1, "staying is no move"


def test_every_state_has_its_moves() -> None:
    assert set(MOVES) == set(State)
    assert not MOVES[State.SUPERSEDED]


def test_of_two_descriptions_of_a_charge_the_one_with_an_amount_is_kept() -> None:
    bare, priced = Charge("c1", 1, "monthly"), Charge("c1", 2, "monthly", "JPY", 5)
    for order in ((bare, priced), (priced, bare)):
        history = History()
        for charge in order:
            history.add_charge(charge)
        assert history.charges == {"c1": priced}


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (State.PENDING, AccessReason.NOT_STARTED),
        (State.HOLD, AccessReason.HOLD),
        (State.PAUSED, AccessReason.PAUSED),
        (State.EXPIRED, AccessReason.EXPIRED),
        (State.REVOKED, AccessReason.REVOKED),
        (State.SUPERSEDED, AccessReason.SUPERSEDED),
    ],
)
def test_no_other_state_than_active_and_grace_gives_access(state: State, reason: AccessReason) -> None:
    history = told(BOUGHT, said(5, standing=Standing(5, state)))
    assert access_of(history, 6, soft_gap_millis=DAY) == Access(False, reason, None)


def test_nothing_is_granted_before_the_store_has_said_anything() -> None:
    assert access_of(History(), 1) == Access(False, AccessReason.NOT_STARTED, None)
    assert access_of(told(said(1, standing=Standing(1, State.ACTIVE))), 1) == Access(
        False, AccessReason.UNKNOWN_PERIOD, None
    )


def test_a_grace_period_keeps_access_to_its_end() -> None:
    history = told(BOUGHT, GRACE)
    assert access_of(history, MONTH + 6 * DAY - 1) == Access(True, AccessReason.GRACE, MONTH + 6 * DAY)
    assert access_of(history, MONTH + 6 * DAY) == Access(False, AccessReason.RAN_OUT, None)


def test_a_period_that_is_to_renew_keeps_access_over_a_soft_gap() -> None:
    history = told(BOUGHT)
    assert access_of(history, MONTH, soft_gap_millis=DAY) == Access(True, AccessReason.SOFT_GAP, MONTH + DAY)
    assert access_of(history, MONTH + DAY, soft_gap_millis=DAY) == Access(False, AccessReason.RAN_OUT, None)
    history.observe(said(5, renewal=Renewal(5, renews=False)))
    assert access_of(history, MONTH, soft_gap_millis=DAY) == Access(False, AccessReason.RAN_OUT, None)


def test_what_does_not_expire_gives_access_without_end() -> None:
    history = told(said(1, standing=Standing(1, State.ACTIVE), plan=Plan(1, "for ever")))
    assert access_of(history, 10**12) == Access(True, AccessReason.PAID, None)


def test_facets_stand_beside_the_state() -> None:
    history = told(
        said(1, plan=Plan(1, "yearly", phase=Phase.TRIAL, ownership=Ownership.FAMILY)),
        said(2, renewal=Renewal(2, renews=True, next_product="monthly", price_consent=PriceConsent.PENDING)),
    )
    assert history.plan is not None
    assert (history.plan.phase, history.plan.ownership) == (Phase.TRIAL, Ownership.FAMILY)
    assert history.price_consent is PriceConsent.PENDING
    assert History().price_consent is PriceConsent.NONE


def test_a_message_about_no_line_or_not_about_us_teaches_a_subscription_nothing() -> None:
    assert about_this_line(BOUGHT)
    assert not about_this_line(said(1, Kind.NOT_ABOUT_US))
    nowhere = StoreNotification(Store.GOOGLE, StoreEnvironment.SANDBOX, "n", Kind.UNKNOWN, "99", 1)
    assert not about_this_line(nowhere)
    assert nowhere.semantic_key == "google|sandbox||unknown|99|1"

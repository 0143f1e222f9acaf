"""What Apple says, in our own words: every type and subtype, every part, and nothing lost for being new or odd."""

from typing import Any

import pytest

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
from stores.apple.kinds import BY_SUBTYPE, BY_TYPE, SUBTYPES, is_known, kind_of
from stores.apple.translate import translate
from stores.apple.verify import AppleMessage
from stores.verdict import MessageRefused, Verdict
from tests.apple_payloads import ACCOUNT, DAY_MS, LINE, notification, renewal, transaction

NOW = 1_795_000_000_000
CHARGE = "400000000000123"


def said(
    type_: str = "DID_RENEW", subtype: str = "", *, paid: Any = None, renews: Any = None, **data: Any
) -> StoreNotification:
    """A message with these inner parts; by default both as they usually are."""
    return translate(
        AppleMessage(
            Verdict.VALID, "", StoreEnvironment.PRODUCTION, notification(NOW, type_, subtype, **data),
            transaction(NOW - 1) if paid is None else paid, renewal(NOW - 2) if renews is None else renews,
        )
    )  # fmt: skip


def test_a_renewal_says_how_things_stand_each_part_by_its_own_date() -> None:
    assert said() == StoreNotification(
        Store.APPLE,
        StoreEnvironment.PRODUCTION,
        "002e14d5-51f5-4503-b5a8-c3a1af68eb20",
        Kind.RENEWED,
        "DID_RENEW",
        NOW,
        line=LINE,
        account=ACCOUNT,
        standing=Standing(NOW, State.ACTIVE),
        plan=Plan(NOW - 1, "daily.monthly", since=NOW - 1 - 10 * DAY_MS, expires_at=NOW - 1 + 20 * DAY_MS),
        renewal=Renewal(NOW - 2, renews=True),
        charges=(Charge(CHARGE, NOW - 1 - 10 * DAY_MS, "daily.monthly", "JPY", 980_000),),
    )


TABLE = {
    ("SUBSCRIBED", "INITIAL_BUY"): Kind.STARTED,
    ("SUBSCRIBED", "RESUBSCRIBE"): Kind.RESTARTED,
    ("DID_RENEW", ""): Kind.RENEWED,
    ("DID_RENEW", "BILLING_RECOVERY"): Kind.RECOVERED,
    ("DID_CHANGE_RENEWAL_PREF", "UPGRADE"): Kind.PLAN_CHANGED_NOW,
    ("DID_CHANGE_RENEWAL_PREF", "DOWNGRADE"): Kind.PLAN_CHANGE_SCHEDULED,
    ("DID_CHANGE_RENEWAL_PREF", ""): Kind.PLAN_CHANGE_CANCELLED,
    ("DID_CHANGE_RENEWAL_STATUS", "AUTO_RENEW_ENABLED"): Kind.RENEWAL_TURNED_ON,
    ("DID_CHANGE_RENEWAL_STATUS", "AUTO_RENEW_DISABLED"): Kind.RENEWAL_TURNED_OFF,
    ("DID_FAIL_TO_RENEW", "GRACE_PERIOD"): Kind.GRACE_ENTERED,
    ("DID_FAIL_TO_RENEW", ""): Kind.HOLD_ENTERED,
    ("GRACE_PERIOD_EXPIRED", ""): Kind.HOLD_ENTERED,
    **{("EXPIRED", each): Kind.EXPIRED for each in (
        "", "VOLUNTARY", "BILLING_RETRY", "PRICE_INCREASE", "PRODUCT_NOT_FOR_SALE")},
    ("OFFER_REDEEMED", "UPGRADE"): Kind.PLAN_CHANGED_NOW,
    ("OFFER_REDEEMED", "DOWNGRADE"): Kind.PLAN_CHANGE_SCHEDULED,
    ("OFFER_REDEEMED", "INITIAL_BUY"): Kind.STARTED,
    ("OFFER_REDEEMED", "RESUBSCRIBE"): Kind.RESTARTED,
    ("OFFER_REDEEMED", ""): Kind.RENEWED,
    ("PRICE_INCREASE", "PENDING"): Kind.PRICE_CONSENT_ASKED,
    ("PRICE_INCREASE", "ACCEPTED"): Kind.PRICE_CONSENT_GIVEN,
    ("REFUND", ""): Kind.REFUNDED,
    ("REFUND_DECLINED", ""): Kind.REFUND_DECLINED,
    ("REFUND_REVERSED", ""): Kind.REFUND_REVERSED,
    ("CONSUMPTION_REQUEST", ""): Kind.REFUND_INPUT_REQUESTED,
    ("REVOKE", ""): Kind.REVOKED,
    ("RENEWAL_EXTENDED", ""): Kind.DATE_EXTENDED,
    ("RENEWAL_EXTENSION", "SUMMARY"): Kind.NOT_ABOUT_US,
    ("RENEWAL_EXTENSION", "FAILURE"): Kind.NOT_ABOUT_US,
    ("ONE_TIME_CHARGE", ""): Kind.BOUGHT_ONCE,
    ("EXTERNAL_PURCHASE_TOKEN", "UNREPORTED"): Kind.NOT_ABOUT_US,
    ("EXTERNAL_PURCHASE_TOKEN", "CREATED"): Kind.NOT_ABOUT_US,
    ("EXTERNAL_PURCHASE_TOKEN", "ACTIVE_TOKEN_REMINDER"): Kind.NOT_ABOUT_US,
    ("RESCIND_CONSENT", ""): Kind.NOT_ABOUT_US,
    ("METADATA_UPDATE", ""): Kind.NOT_ABOUT_US,
    ("MIGRATION", ""): Kind.NOT_ABOUT_US,
    ("PRICE_CHANGE", ""): Kind.NOT_ABOUT_US,
    ("TEST", ""): Kind.NOT_ABOUT_US,
}  # fmt: skip


@pytest.mark.parametrize(("type_", "subtype", "kind"), [(*names, kind) for names, kind in TABLE.items()])
def test_every_type_and_subtype_of_apples_pages_has_its_kind(type_: str, subtype: str, kind: Kind) -> None:
    found = said(type_, subtype)
    assert (found.kind, found.label) == (kind, f"{type_}/{subtype}" if subtype else type_)
    assert is_known(type_, subtype)


def test_all_twenty_three_types_and_nineteen_subtypes_are_known() -> None:
    assert (len(BY_TYPE), len(SUBTYPES)) == (23, 19)
    assert {type_ for type_, _ in TABLE} == set(BY_TYPE)
    assert {subtype for _, subtype in TABLE if subtype} == SUBTYPES
    assert {type_ for type_, _ in BY_SUBTYPE} <= set(BY_TYPE)


def test_a_type_that_nobody_knows_yet_is_kept_with_everything_that_it_says() -> None:
    found = said("DID_TELEPORT", "TO_MARS")
    assert (found.kind, found.label, found.line) == (Kind.UNKNOWN, "DID_TELEPORT/TO_MARS", LINE)
    assert found.standing == Standing(NOW, State.ACTIVE)
    assert not is_known("DID_TELEPORT", "")
    assert not is_known("EXPIRED", "TO_MARS")
    assert kind_of("EXPIRED", "TO_MARS") is Kind.EXPIRED


@pytest.mark.parametrize(
    ("status", "state"),
    [(1, State.ACTIVE), (2, State.EXPIRED), (3, State.HOLD), (4, State.GRACE), (5, State.REVOKED)],
)
def test_the_status_is_the_state_as_of_the_whole_message(status: int, state: State) -> None:
    assert said(status=status).standing == Standing(NOW, state)


@pytest.mark.parametrize("status", [None, 0, 6, "1", True, [1], {}])
def test_a_status_that_nobody_knows_says_nothing(status: Any) -> None:
    assert said(status=status).standing is None


def test_a_trial_an_offer_and_what_does_not_renew_are_phases() -> None:
    def phase(**more: Any) -> Phase:
        plan = said(paid=transaction(NOW, **more)).plan
        assert plan is not None
        return plan.phase

    assert phase() is Phase.REGULAR
    assert phase(offerType=1, offerDiscountType="FREE_TRIAL") is Phase.TRIAL
    assert phase(offerType=2, offerDiscountType="PAY_AS_YOU_GO") is Phase.INTRO
    assert phase(type="Non-Renewing Subscription") is Phase.PREPAID


def test_what_a_family_shares_is_owned_by_the_family_and_charged_to_nobody_here() -> None:
    found = said(paid=transaction(NOW, inAppOwnershipType="FAMILY_SHARED", revocationDate=NOW))
    assert found.plan is not None
    assert found.plan.ownership is Ownership.FAMILY
    assert (found.charges, found.refunds) == ((), ())


def test_the_renewal_tells_what_comes_next() -> None:
    assert said(renews=renewal(NOW, autoRenewStatus=0, autoRenewProductId="daily.yearly")).renewal == Renewal(
        NOW, renews=False, next_product="daily.yearly"
    )
    grace = NOW + 6 * DAY_MS
    assert said(renews=renewal(NOW, gracePeriodExpiresDate=grace)).renewal == Renewal(
        NOW, renews=True, grace_expires_at=grace
    )


@pytest.mark.parametrize(
    ("fields", "consent"),
    [
        ({}, PriceConsent.NONE),
        ({"priceIncreaseStatus": 0}, PriceConsent.PENDING),
        ({"priceIncreaseStatus": 1}, PriceConsent.ACCEPTED),
        ({"priceIncreaseStatus": 9}, PriceConsent.NONE),
        ({"priceIncreaseStatus": 0, "expirationIntent": 3}, PriceConsent.DECLINED),
    ],
)
def test_consent_to_a_higher_price(fields: dict[str, int], consent: PriceConsent) -> None:
    found = said(renews=renewal(NOW, **fields)).renewal
    assert found is not None
    assert found.price_consent is consent


def test_a_refund_names_its_charge_and_how_much() -> None:
    whole = transaction(NOW, revocationDate=NOW - 5, revocationReason=0, revocationType="REFUND_FULL")
    assert said("REFUND", paid=whole, status=5).refunds == (Refund(CHARGE, NOW - 5, WHOLE),)
    part = transaction(NOW, revocationDate=NOW - 5, revocationType="REFUND_PRORATED", revocationPercentage=40_000)
    assert said("REFUND", paid=part).refunds == (Refund(CHARGE, NOW - 5, 40_000),)
    assert said("DID_RENEW", paid=part).refunds == (Refund(CHARGE, NOW - 5, 40_000),), "in whatever message it stands"
    assert said("REFUND").refunds == (Refund(CHARGE, NOW, WHOLE),), "and without a date of its own"


@pytest.mark.parametrize("percentage", [None, -1, 100_001, "40000"])
def test_a_share_that_makes_no_sense_counts_as_the_whole(percentage: Any) -> None:
    odd = transaction(NOW, revocationDate=NOW, revocationType="REFUND_PRORATED", revocationPercentage=percentage)
    assert said("REFUND", paid=odd).refunds == (Refund(CHARGE, NOW, WHOLE),)


def test_the_end_of_family_sharing_is_no_refund() -> None:
    ended = transaction(NOW, revocationDate=NOW, revocationType="FAMILY_REVOKE")
    found = said("REVOKE", paid=ended, status=5)
    assert (found.kind, found.refunds) == (Kind.REVOKED, ())
    assert found.standing == Standing(NOW, State.REVOKED)


def test_a_refund_that_was_undone_names_its_charge() -> None:
    assert said("REFUND_REVERSED").reversals == (RefundReversal(CHARGE, NOW),)
    assert said("REFUND").reversals == ()


def test_a_charge_is_named_by_its_order_line_whatever_transaction_ids_there_are() -> None:
    other_id = transaction(NOW, transactionId="400000000000055")
    assert said(paid=other_id).charges[0].key == CHARGE
    once = {name: value for name, value in transaction(NOW).items() if name != "webOrderLineItemId"}
    assert said("ONE_TIME_CHARGE", paid=once).charges[0].key == "400000000000009"


@pytest.mark.parametrize("fields", [{"currency": None}, {"currency": "yen"}, {"price": None}, {"price": -1}])
def test_a_charge_of_an_unknown_amount_is_a_charge_all_the_same(fields: dict[str, Any]) -> None:
    (charge,) = said(paid=transaction(NOW, **fields)).charges
    assert (charge.currency, charge.milliunits) == (None, None)


def test_after_the_token_was_set_anew_the_newer_part_counts() -> None:
    found = said(paid=transaction(5, appAccountToken="old"), renews=renewal(9, appAccountToken="new"))
    assert found.account == "new"
    found = said(paid=transaction(9, appAccountToken="new"), renews=renewal(5, appAccountToken="old"))
    assert found.account == "new"
    assert said(paid=transaction(9, appAccountToken=None), renews=renewal(5, appAccountToken=7)).account is None


def test_a_message_without_inner_parts_is_about_no_line() -> None:
    found = translate(AppleMessage(Verdict.VALID, "", StoreEnvironment.SANDBOX, notification(NOW, "TEST")))
    assert (found.line, found.account, found.plan, found.renewal) == (None, None, None, None)
    assert (found.charges, found.refunds, found.reversals) == ((), (), ())
    assert found.environment is StoreEnvironment.SANDBOX
    none = {"notificationUUID": "n", "notificationType": "TEST", "signedDate": 1, "data": "odd"}
    assert translate(AppleMessage(Verdict.VALID, "", StoreEnvironment.SANDBOX, none)).standing is None


def test_the_line_is_told_by_the_renewal_alone_too() -> None:
    assert said(paid={}).line == LINE


@pytest.mark.parametrize("value", [None, "x", -1, 2**60, 1.5, True, [], {}])
def test_fields_of_other_types_are_as_if_they_were_not_there(value: Any) -> None:
    odd = said(paid=transaction(NOW, expiresDate=value), renews=renewal(NOW, gracePeriodExpiresDate=value))
    assert odd.plan is not None
    assert odd.renewal is not None
    assert (odd.plan.expires_at, odd.renewal.grace_expires_at) == (None, None)
    assert said(paid=transaction(NOW, signedDate=value)).plan is None
    assert said(renews=renewal(NOW, signedDate=value)).renewal is None
    assert said(paid=transaction(NOW, purchaseDate=value)).charges == ()


@pytest.mark.parametrize("value", ["", "a b", "日本", "x" * 257, 7, None, "a\nb"])
def test_texts_that_are_none_of_apples_are_as_if_they_were_not_there(value: Any) -> None:
    odd = transaction(NOW, productId=value)
    assert (said(paid=odd).plan, said(paid=odd).charges) == (None, ())


@pytest.mark.parametrize("missing", ["notificationUUID", "notificationType", "signedDate"])
def test_a_message_without_its_own_name_type_or_date_is_refused(missing: str) -> None:
    payload = notification(NOW)
    del payload[missing]
    with pytest.raises(MessageRefused):
        translate(AppleMessage(Verdict.VALID, "", StoreEnvironment.PRODUCTION, payload))


def test_a_message_that_was_not_verified_is_not_translated() -> None:
    with pytest.raises(MessageRefused):
        translate(AppleMessage(Verdict.INVALID, "outer signature"))
    with pytest.raises(MessageRefused):
        translate(AppleMessage(Verdict.INVALID, "", None, notification(NOW)))

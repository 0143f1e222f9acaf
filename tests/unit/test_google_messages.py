"""What Google announces and what it answers, in our own words; what cannot be read is no more than that."""

import base64
import hashlib
import json
from typing import Any

import pytest

from domain.store_notification import (
    WHOLE,
    Charge,
    Kind,
    Phase,
    Plan,
    PriceConsent,
    Refund,
    Renewal,
    Standing,
    State,
    Store,
    StoreEnvironment,
    StoreNotification,
)
from stores.google.announce import ONE_TIME, PART, SUBSCRIPTION, announce, is_known
from stores.google.envelope import GoogleMessage, read_push
from stores.google.observe import Observed, observe
from stores.google.push import GoogleApp
from stores.verdict import MessageRefused, Verdict

APP = GoogleApp("com.example.daily", "projects/p/subscriptions/s", "audience", "push@example.iam")
TOKEN = "opaque-token-of-a-purchase.AO-J1Oy"
LINE = hashlib.sha256(TOKEN.encode()).hexdigest()
HAPPENED, FETCHED = 1_795_000_000_000, 1_795_000_007_000
EXPIRES = 1_797_600_000_123


def push(notification: Any, **envelope: Any) -> bytes:
    data = notification if isinstance(notification, bytes) else json.dumps(notification).encode()
    message = {
        "data": base64.b64encode(data).decode(),
        "messageId": "136969346945",
        "publishTime": "2026-11-27T00:00:00Z",
    }
    return json.dumps({"message": message, "subscription": APP.subscription, **envelope}).encode()


def notification(**parts: Any) -> dict[str, Any]:
    return {"version": "1.0", "packageName": APP.package, "eventTimeMillis": str(HAPPENED), **parts}


def subscription(number: Any, token: Any = TOKEN) -> dict[str, Any]:
    fields = {"version": "1.0", "notificationType": number, "purchaseToken": token}
    return notification(subscriptionNotification=fields)


def read(posted: dict[str, Any]) -> GoogleMessage:
    return read_push(APP, push(posted))


# -- the envelope ------------------------------------------------------------------------------------------------------


def test_a_push_is_read_whole() -> None:
    found = read(subscription(4))
    assert (found.verdict, found.message, found.at) == (Verdict.VALID, "136969346945", HAPPENED)
    assert (found.kind, found.fields["purchaseToken"]) == ("subscriptionNotification", TOKEN)
    assert json.loads(found.data) == subscription(4)


def test_both_spellings_of_the_message_id_and_both_forms_of_the_time_are_read() -> None:
    data = base64.b64encode(json.dumps({**subscription(4), "eventTimeMillis": HAPPENED}).encode()).decode()
    posted = json.dumps({"message": {"data": data, "message_id": "77"}, "subscription": APP.subscription}).encode()
    found = read_push(APP, posted)
    assert (found.verdict, found.message, found.at) == (Verdict.VALID, "77", HAPPENED)


def test_fields_that_nobody_knows_yet_do_no_harm() -> None:
    posted = push({**subscription(4), "orbit": {"x": 1}}, deliveryAttempt=3, moon=True)
    assert read_push(APP, posted).verdict is Verdict.VALID


def test_a_push_of_another_subscription_or_about_another_package_is_foreign() -> None:
    other = read_push(APP, push(subscription(4), subscription="projects/p/subscriptions/other"))
    assert (other.verdict, other.reason) == (Verdict.FOREIGN, "of another subscription")
    other = read({**subscription(4), "packageName": "com.example.other"})
    assert (other.verdict, other.reason) == (Verdict.FOREIGN, "about another package")
    assert other.data, "it is kept"


GARBAGE: dict[str, bytes] = {
    "nothing": b"",
    "no JSON": b"message=1",
    "no object": b"[]",
    "no message": b"{}",
    "a message that is no object": b'{"message":[]}',
    "no id": json.dumps({"message": {"data": "e30="}}).encode(),
    "an id that is no text": json.dumps({"message": {"data": "e30=", "messageId": 7}}).encode(),
    "an id with a line break": json.dumps({"message": {"data": "e30=", "messageId": "a\nb"}}).encode(),
    "no data": json.dumps({"message": {"messageId": "1"}}).encode(),
    "no base64": json.dumps({"message": {"messageId": "1", "data": "*"}}).encode(),
    "another alphabet": json.dumps({"message": {"messageId": "1", "data": "é"}}).encode(),
    "data that is no JSON": push(b"rubbish"),
    "data with a key twice": push(b'{"packageName":"a","packageName":"b"}'),
    "data with NaN": push(b'{"eventTimeMillis":NaN}'),
    "data with deep nesting": push(b'{"a":' + b"[" * 50 + b"]" * 50 + b"}"),
    "no time": push({"packageName": APP.package}),
    "a time that is none": push({**subscription(4), "eventTimeMillis": "soon"}),
    "a time of a million digits": push({**subscription(4), "eventTimeMillis": "1" * 1_000}),
    "a time before time": push({**subscription(4), "eventTimeMillis": -1}),
    "more than a mebibyte": push({**subscription(4), "x": "a" * 1_048_576}),
}


@pytest.mark.parametrize("posted", GARBAGE.values(), ids=GARBAGE.keys())
def test_what_cannot_be_read_is_malformed_and_nothing_of_it_is_repeated(posted: bytes) -> None:
    found = read_push(APP, posted)
    assert (found.verdict, found.message, found.kind) == (Verdict.MALFORMED, "", "")
    assert 0 < len(found.reason) < 60


# -- what is announced -------------------------------------------------------------------------------------------------


def test_an_announcement_names_the_purchase_by_a_hash_and_asks_for_a_fetch() -> None:
    assert announce(read(subscription(4))) == StoreNotification(
        Store.GOOGLE, StoreEnvironment.PRODUCTION, "136969346945", Kind.STARTED, "subscription/4", HAPPENED, line=LINE,
        needs_fetch=True,
    )  # fmt: skip


@pytest.mark.parametrize("number", [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 17, 18, 19, 20, 22])
def test_every_subscription_type_has_its_kind(number: int) -> None:
    found = announce(read(subscription(number)))
    assert (found.kind, found.label) == (SUBSCRIPTION[number], f"subscription/{number}")
    assert is_known(read(subscription(number)))


def test_there_are_no_other_types() -> None:
    assert len(SUBSCRIPTION) == 18
    assert set(ONE_TIME) == {1, 2}


@pytest.mark.parametrize("number", [0, 14, 21, 99, "4", None, True])
def test_a_type_that_nobody_knows_yet_is_kept_and_the_purchase_is_looked_at_all_the_same(number: Any) -> None:
    message = read(subscription(number))
    found = announce(message)
    assert (found.kind, found.line, found.needs_fetch) == (Kind.UNKNOWN, LINE, True)
    assert not is_known(message)


def test_the_other_kinds_of_notifications() -> None:
    once = {"version": "1.0", "notificationType": 1, "purchaseToken": TOKEN, "sku": "coins"}
    found = announce(read(notification(oneTimeProductNotification=once)))
    assert (found.kind, found.label, found.line) == (Kind.BOUGHT_ONCE, "one-time/1", LINE)
    review = {"version": "1.0", "pendingRefundToken": "t", "orderId": "GPA.1", "obfuscatedAccountId": "ab" * 32}
    found = announce(read(notification(pendingRefundReviewNotification=review)))
    assert (found.kind, found.line, found.account) == (Kind.REFUND_INPUT_REQUESTED, None, "ab" * 32)
    assert not found.needs_fetch
    found = announce(read(notification(testNotification={"version": "1.0"})))
    assert (found.kind, found.needs_fetch) == (Kind.NOT_ABOUT_US, False)
    unknown = read(notification(marsNotification={"version": "1.0"}))
    assert (unknown.verdict, announce(unknown).kind) == (Verdict.VALID, Kind.UNKNOWN)


def test_a_voided_purchase_is_a_refund_of_its_order() -> None:
    def voided(**more: Any) -> StoreNotification:
        fields = {"purchaseToken": TOKEN, "orderId": "GPA.1..0", "productType": 1, "refundType": 1, **more}
        return announce(read(notification(voidedPurchaseNotification=fields)))

    assert voided().refunds == (Refund("GPA.1..0", HAPPENED, WHOLE),)
    assert voided(refundType=2).refunds == (Refund("GPA.1..0", HAPPENED, PART),)
    assert voided(orderId=None).refunds == ()
    assert (voided().kind, voided().line, voided().needs_fetch) == (Kind.REFUNDED, LINE, True)
    assert not voided(productType=2).needs_fetch


@pytest.mark.parametrize("token", [None, "", "a b", 7, "é"])
def test_an_announcement_that_names_no_purchase_is_refused(token: Any) -> None:
    with pytest.raises(MessageRefused, match="purchaseToken is missing"):
        announce(read(subscription(4, token)))


# -- what is answered --------------------------------------------------------------------------------------------------


def resource(state: str = "ACTIVE", item: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return {
        "kind": "androidpublisher#subscriptionPurchaseV2", "startTime": "2026-10-01T00:00:00Z",
        "subscriptionState": f"SUBSCRIPTION_STATE_{state}", "latestOrderId": "GPA.1..0", "etag": "e1",
        "acknowledgementState": "ACKNOWLEDGEMENT_STATE_PENDING",
        "externalAccountIdentifiers": {"obfuscatedExternalAccountId": "ab" * 32},
        "lineItems": [
            {"productId": "daily.monthly", "expiryTime": "2026-12-18T13:20:00.123456Z", "offerPhase": {"basePrice": {}},
             "latestSuccessfulOrderId": "GPA.1..0", "autoRenewingPlan": {"autoRenewEnabled": True}, **(item or {})},
        ],
        **more,
    }  # fmt: skip


def observed(answer: dict[str, Any], number: int = 2) -> Observed:
    return observe(announce(read(subscription(number))), answer, FETCHED)


def test_an_answer_says_how_things_stand_as_of_the_fetch() -> None:
    found = observed(resource())
    assert found == Observed(
        StoreNotification(
            Store.GOOGLE, StoreEnvironment.PRODUCTION, "136969346945", Kind.RENEWED, "subscription/2", HAPPENED,
            line=LINE, account="ab" * 32, standing=Standing(FETCHED, State.ACTIVE),
            plan=Plan(FETCHED, "daily.monthly", expires_at=EXPIRES), renewal=Renewal(FETCHED, renews=True),
            charges=(Charge("GPA.1..0", FETCHED, "daily.monthly"),),
        ),
        "e1",
        False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("named", "state", "renews"),
    [
        ("PENDING", State.PENDING, True),
        ("ACTIVE", State.ACTIVE, True),
        ("PAUSED", State.PAUSED, True),
        ("IN_GRACE_PERIOD", State.GRACE, True),
        ("ON_HOLD", State.HOLD, True),
        ("CANCELED", State.ACTIVE, False),
        ("EXPIRED", State.EXPIRED, False),
        ("PENDING_PURCHASE_CANCELED", State.EXPIRED, False),
    ],
)
def test_every_state_of_googles(named: str, state: State, renews: bool) -> None:
    said = observed(resource(named)).said
    assert said.standing == Standing(FETCHED, state)
    assert said.renewal is not None
    assert said.renewal.renews is renews
    assert said.renewal.grace_expires_at == (EXPIRES if state is State.GRACE else None)


def test_a_state_that_nobody_knows_says_nothing() -> None:
    assert observed(resource("UNSPECIFIED")).said.standing is None
    assert observed({}).said.standing is None


def test_a_purchase_that_another_one_has_replaced_is_superseded() -> None:
    replaced = resource("EXPIRED", canceledStateContext={"replacementCancellation": {}})
    assert observed(replaced).said.standing == Standing(FETCHED, State.SUPERSEDED)
    by_user = resource("CANCELED", canceledStateContext={"userInitiatedCancellation": {}})
    assert observed(by_user).said.standing == Standing(FETCHED, State.ACTIVE)


def test_a_revocation_is_told_from_an_expiry_by_the_announcement() -> None:
    assert observed(resource("EXPIRED"), 12).said.standing == Standing(FETCHED, State.REVOKED)
    assert observed(resource("ACTIVE"), 12).said.standing == Standing(FETCHED, State.ACTIVE), (
        "a type alone ends nothing"
    )


def test_the_item_that_lasts_longest_is_the_plan_and_every_order_is_a_charge() -> None:
    short = {"productId": "extra", "expiryTime": "2026-11-30T00:00:00Z", "latestSuccessfulOrderId": "GPA.2"}
    answer = resource()
    answer["lineItems"] = [short, *answer["lineItems"], "odd", {**short, "productId": "again"}]
    said = observed(answer).said
    assert said.plan is not None
    assert said.plan.product == "daily.monthly"
    assert {charge.key for charge in said.charges} == {"GPA.1..0", "GPA.2"}


@pytest.mark.parametrize(
    ("item", "phase"),
    [
        ({"offerPhase": {"freeTrial": {}}}, Phase.TRIAL),
        ({"offerPhase": "freeTrial"}, Phase.TRIAL),
        ({"offerPhase": {"introductoryPrice": {}}}, Phase.INTRO),
        ({"offerPhase": {"prorationPeriod": {}}}, Phase.REGULAR),
        ({"offerPhase": 7}, Phase.REGULAR),
        ({"prepaidPlan": {}}, Phase.PREPAID),
    ],
)
def test_phases(item: dict[str, Any], phase: Phase) -> None:
    plan = observed(resource(item=item)).said.plan
    assert plan is not None
    assert plan.phase is phase


def auto(**plan: Any) -> dict[str, Any]:
    return {"autoRenewingPlan": {"autoRenewEnabled": True, **plan}}


@pytest.mark.parametrize(
    ("item", "consent"),
    [
        (auto(), PriceConsent.NONE),
        (auto(priceChangeDetails={"state": "OUTSTANDING"}), PriceConsent.PENDING),
        (auto(priceChangeDetails={"state": "CONFIRMED"}), PriceConsent.ACCEPTED),
        (auto(priceChangeDetails={"state": "APPLIED"}), PriceConsent.ACCEPTED),
        (auto(priceChangeDetails={"state": "CANCELED"}), PriceConsent.NONE),
        (auto(priceStepUpConsentDetails={"state": "PENDING"}), PriceConsent.PENDING),
        (auto(priceStepUpConsentDetails={"state": "COMPLETED"}), PriceConsent.ACCEPTED),
    ],
)
def test_consent_to_a_higher_price(item: dict[str, Any], consent: PriceConsent) -> None:
    renewal = observed(resource(item=item)).said.renewal
    assert renewal is not None
    assert renewal.price_consent is consent


@pytest.mark.parametrize(
    ("total", "left", "commitment"),
    [(12, 9, (3, 12)), (12, 0, (12, 12)), (12, 13, None), ("12", 9, None), (12, None, None)],
)
def test_a_commitment_says_which_payment_of_how_many(total: Any, left: Any, commitment: Any) -> None:
    details = {"initialCommittedPaymentsCount": total, "remainingCommittedPaymentsCount": left}
    plan = observed(resource(item=auto(installmentDetails=details))).said.plan
    assert plan is not None
    assert plan.commitment == commitment


def test_what_comes_next_and_what_was_before() -> None:
    answer = resource(item={"deferredItemReplacement": {"productId": "daily.yearly"}}, linkedPurchaseToken="old token")
    assert observed(answer).said.replaces is None, "a token has no spaces"
    answer = resource(item={"deferredItemReplacement": {"productId": "daily.yearly"}}, linkedPurchaseToken="old" * 200)
    said = observed(answer).said
    assert said.renewal is not None
    assert said.renewal.next_product == "daily.yearly"
    assert said.replaces == hashlib.sha256(b"old" * 200).hexdigest()


@pytest.mark.parametrize("named", ["PENDING", "PENDING_PURCHASE_CANCELED"])
def test_a_purchase_that_was_not_paid_replaces_nothing(named: str) -> None:
    assert observed(resource(named, linkedPurchaseToken="old")).said.replaces is None
    assert observed(resource("ACTIVE", linkedPurchaseToken="old")).said.replaces is not None


def test_a_test_purchase_is_of_the_sandbox() -> None:
    assert observed(resource(testPurchase={})).said.environment is StoreEnvironment.SANDBOX


def test_a_purchase_outside_the_app_belongs_to_the_account_of_the_one_before_it() -> None:
    before = {"expiredExternalAccountIdentifiers": {"obfuscatedExternalAccountId": "cd" * 32}}
    answer = resource(outOfAppPurchaseContext=before, externalAccountIdentifiers={})
    assert observed(answer).said.account == "cd" * 32
    assert observed(resource(externalAccountIdentifiers="odd")).said.account is None


@pytest.mark.parametrize(
    ("named", "acknowledged"),
    [("ACKNOWLEDGEMENT_STATE_ACKNOWLEDGED", True), ("ACKNOWLEDGEMENT_STATE_PENDING", False), ("odd", None), (7, None)],
)
def test_whether_it_was_acknowledged(named: Any, acknowledged: bool | None) -> None:
    assert observed(resource(acknowledgementState=named)).acknowledged is acknowledged


@pytest.mark.parametrize("value", [None, 7, "", "soon", "2026-12-18T13:20:00", "1960-01-01T00:00:00Z", [], {}])
def test_times_that_are_none_are_as_if_they_were_not_there(value: Any) -> None:
    plan = observed(resource(item={"expiryTime": value})).said.plan
    assert plan is not None
    assert plan.expires_at is None


@pytest.mark.parametrize("value", [None, 7, "a b", "x" * 300, "日本"])
def test_texts_that_are_none_of_googles_are_as_if_they_were_not_there(value: Any) -> None:
    said = observed(resource(item={"productId": value})).said
    assert (said.plan, said.renewal, said.charges) == (None, None, ())
    assert observed({**resource(), "lineItems": "odd", "etag": value}) == observed(
        {**resource(), "lineItems": [], "etag": None}
    )

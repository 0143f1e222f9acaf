"""What apps hand in at a purchase: a genuine transaction goes on, and each way of not being one has a name."""

import json
import time
from typing import Any

import pytest

from domain.ids import message_id, subscription_id
from domain.store_notification import State, Store, StoreEnvironment
from simulator.authority import StoreCa
from stores.apple.verify import AppleApp, AppleVerifier
from stores.google.envelope import line_of
from stores.intake import AppleIntake
from stores.parcel_format import HandedIn, is_handed_in
from stores.purchases import MAX_TOKEN_CHARACTERS, MAX_TRANSACTION_CHARACTERS, HandIn, of_apple
from stores.verdict import MessageRefused
from tests.apple_payloads import APP_ID, BUNDLE, DAY_MS, LINE, notification, transaction, whole

NOW = int(time.time() * 1000)
CA = StoreCa()
PRODUCTION = StoreEnvironment.PRODUCTION


def hand_in() -> HandIn:
    return HandIn(
        AppleVerifier(AppleApp(BUNDLE, APP_ID), [CA.root.der], online=False, max_age_seconds=None), google=True
    )


def of_app(text: str, store: Store = Store.APPLE, product: str = "daily.monthly") -> HandedIn:
    return HandedIn(store, text, product, PRODUCTION)


def without(**changes: Any) -> dict[str, Any]:
    """A transaction changed so; None takes a field away."""
    return {name: value for name, value in transaction(NOW, **changes).items() if value is not None}


def test_a_transaction_names_its_subscription_and_says_how_it_stands() -> None:
    text = CA.sign(transaction(NOW))
    handed = hand_in().judge(of_app(text, product="what the app says"))
    assert handed.subscription == subscription_id("apple", "production", LINE)
    assert (handed.product, is_handed_in(handed.judged.plain)) == ("daily.monthly", True)
    assert handed.said.standing is not None
    assert handed.said.standing.state is State.ACTIVE
    said, charge = of_apple(of_app(text))
    assert (said, charge) == (handed.said, "400000000000009")


def test_the_same_transaction_is_the_same_message_whenever_it_comes() -> None:
    text = CA.sign(transaction(NOW))
    first, second = (hand_in().judge(of_app(text, product=product)).judged for product in ("a", "a"))
    assert first.content == second.content


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"environment": "Xcode"}, "INVALID_ENVIRONMENT"),
        ({"environment": "LocalTesting"}, "INVALID_ENVIRONMENT"),
        ({"bundleId": "com.other"}, "INVALID_APP_IDENTIFIER"),
        ({"signedDate": None}, "signedDate is missing"),
        ({"signedDate": "1795000000000"}, "signedDate is missing"),
        ({"signedDate": NOW + DAY_MS}, "signed in the future"),
        ({"expiresDate": None}, "not a subscription"),
        ({"originalTransactionId": None}, "is missing"),
        ({"transactionId": 7}, "is missing"),
        ({"productId": None}, "is missing"),
    ],
)
def test_what_is_no_subscription_of_our_app_is_refused_by_name(changes: dict[str, Any], rule: str) -> None:
    with pytest.raises(MessageRefused, match=rule):
        hand_in().judge(of_app(CA.sign(without(**changes))))


@pytest.mark.parametrize(
    "text",
    ["", "a.b.c", "x" * (MAX_TRANSACTION_CHARACTERS + 1), StoreCa().sign(transaction(NOW)), "\u00e9.\u00e9.\u00e9"],
    ids=["empty", "garbage", "too long", "foreign authority", "not ASCII"],
)
def test_what_apple_has_not_signed_is_refused(text: str) -> None:
    with pytest.raises(MessageRefused):
        hand_in().judge(of_app(text))


def test_a_transaction_that_is_dated_before_its_certificate_is_refused() -> None:
    with pytest.raises(MessageRefused, match="VERIFICATION_FAILURE"):
        hand_in().judge(of_app(CA.sign(transaction(NOW - 4_000 * DAY_MS))))


def test_a_purchase_in_the_sandbox_stays_one() -> None:
    handed = hand_in().judge(of_app(CA.sign(transaction(NOW, environment="Sandbox"))))
    assert handed.said.environment is StoreEnvironment.SANDBOX
    assert handed.subscription != subscription_id("apple", "production", LINE)


def test_a_token_is_only_the_name_of_a_purchase() -> None:
    handed = hand_in().judge(of_app("token-1", Store.GOOGLE))
    assert handed.subscription == subscription_id("google", "production", line_of("token-1"))
    assert (handed.product, handed.said.standing) == ("daily.monthly", None)


@pytest.mark.parametrize("token", ["", "a b", "a\nb", "\u00e9", "x" * (MAX_TOKEN_CHARACTERS + 1)])
def test_what_is_no_token_is_refused(token: str) -> None:
    with pytest.raises(MessageRefused, match="not a purchase token"):
        hand_in().judge(of_app(token, Store.GOOGLE))


def test_a_token_without_a_product_is_refused() -> None:
    with pytest.raises(MessageRefused, match="product is missing"):
        hand_in().judge(of_app("token-1", Store.GOOGLE, ""))


def test_a_store_that_is_not_set_up_takes_nothing() -> None:
    nobody = HandIn(None, google=False)
    assert [nobody.serves(store) for store in Store] == [False, False]
    with pytest.raises(MessageRefused):
        nobody.judge(of_app(CA.sign(transaction(NOW))))


def test_a_message_out_of_apples_history_has_the_name_that_it_would_have_had() -> None:
    id_ = notification(NOW)["notificationUUID"]
    assert AppleIntake.name_of(whole(CA, NOW)) == message_id(Store.APPLE, PRODUCTION, id_)
    assert AppleIntake.name_of(b"garbage") is None
    unnamed = {name: value for name, value in notification(NOW).items() if name != "notificationUUID"}
    assert AppleIntake.name_of(json.dumps({"signedPayload": CA.sign(unnamed)}).encode()) is None

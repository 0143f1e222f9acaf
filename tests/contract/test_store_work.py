"""From a stored message to what the ledger knows of a subscription: intake, executors, the store's own answer."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from domain.ids import message_id
from domain.store_notification import State
from stores.errors import PurchaseGone, StoreAway, StoreRefused
from stores.google.envelope import line_of
from tests import google_pushes
from tests.apple_payloads import DAY_MS, LINE, body, notification, renewal, transaction
from tests.google_pushes import envelope
from tests.store_house import StoreHouse, store_house

NOW = int(time.time() * 1000)


@pytest.fixture
def at(tmp_path: Path) -> Iterator[StoreHouse]:
    with store_house(tmp_path) as house:
        yield house


class Play:
    """Google's answers by purchase token; an exception is raised."""

    def __init__(self, **answers: Any) -> None:
        self.answers, self.asked = answers, list[str]()

    def subscription(self, purchase_token: str) -> dict[str, Any]:
        self.asked.append(purchase_token)
        answer = self.answers[purchase_token]
        if isinstance(answer, Exception):
            raise answer
        found: dict[str, Any] = answer
        return found


def resource(state: str = "ACTIVE", **more: Any) -> dict[str, Any]:
    return {
        "subscriptionState": f"SUBSCRIPTION_STATE_{state}", "etag": "e1",
        "acknowledgementState": "ACKNOWLEDGEMENT_STATE_PENDING",
        "lineItems": [{
            "productId": "daily.monthly", "expiryTime": "2027-01-01T00:00:00Z", "latestSuccessfulOrderId": "GPA.1",
            "autoRenewingPlan": {"autoRenewEnabled": True},
        }], **more,
    }  # fmt: skip


def apple(at: StoreHouse, type_: str, uuid: str, signed_at: int, **changes: Any) -> bytes:
    """A notification with both inner parts, the transaction changed so."""
    outer = notification(
        signed_at, type_, signedTransactionInfo=at.ca.sign(transaction(signed_at, **changes)),
        signedRenewalInfo=at.ca.sign(renewal(signed_at)),
    )  # fmt: skip
    return body(at.ca, {**outer, "notificationUUID": uuid})


def types(at: StoreHouse) -> list[str]:
    """Of the entries about messages and subscriptions; what follows from them is tried elsewhere."""
    return [entry["type"] for entry in at.entries() if not entry["type"].startswith(("Purchase", "Identity"))]


def test_what_apple_says_is_in_the_ledger_with_the_hash_of_the_message_that_says_it(at: StoreHouse) -> None:
    at.post_apple(apple(at, "DID_RENEW", "a", NOW))
    at.work_on()
    assert types(at) == ["NotificationReceived", "SubscriptionOpened", "SubscriptionObserved", "SubscriptionCharged"]
    received, _, observed, charged = (entry["data"] for entry in at.entries()[:4])
    assert observed["payload"] == charged["payload"] == received["payload"]
    assert at.subscription("apple", LINE).history.state is State.ACTIVE
    assert LINE not in str(at.entries())


def test_working_on_it_again_changes_nothing(at: StoreHouse) -> None:
    at.post_apple(apple(at, "DID_RENEW", "a", NOW))
    at.work_on()
    before = at.entries()
    assert at.work is not None
    with at.work.transaction() as transaction_:  # as after a crash before the position was saved
        transaction_.save_position("store-intake", 0, b"", "")
    at.work_on()
    assert (at.entries(), at.failures) == (before, [])


def test_a_late_refund_counts_though_it_came_last(at: StoreHouse) -> None:
    at.post_apple(apple(at, "DID_RENEW", "a", NOW, transactionId="2", webOrderLineItemId="w2"))
    late = apple(
        at, "REFUND", "b", NOW - DAY_MS, webOrderLineItemId="w1", purchaseDate=NOW - 40 * DAY_MS,
        expiresDate=NOW - 10 * DAY_MS, revocationDate=NOW - DAY_MS, revocationReason=0,
    )  # fmt: skip
    at.post_apple(late)
    at.work_on()
    history = at.subscription("apple", LINE).history
    assert (len(history.refunds), history.state) == (1, State.ACTIVE)


@pytest.mark.parametrize("type_", ["TEST", "SOMETHING_NEW", "EXTERNAL_PURCHASE_TOKEN"])
def test_what_is_not_about_a_subscription_leads_to_nothing_but_its_record(at: StoreHouse, type_: str) -> None:
    outer = notification(NOW, type_)
    at.post_apple(body(at.ca, outer))
    at.work_on()
    assert (types(at), at.failures) == (["NotificationReceived"], [])


def test_google_is_asked_and_its_answer_is_recorded_before_anything_is_made_of_it(at: StoreHouse) -> None:
    at.post_google()
    play = Play(**{"token-1": resource()})
    at.work_on(play)
    assert play.asked == ["token-1"]
    assert types(at) == [
        "NotificationReceived", "NotificationReceived", "SubscriptionOpened", "SubscriptionObserved",
        "SubscriptionCharged",
    ]  # fmt: skip
    answer, observed = at.entries()[1], at.entries()[3]
    assert observed["data"]["payload"] == answer["data"]["payload"]
    assert b'"etag":"e1"' in at.opened(2)
    assert at.parcels.read(2, 1)[0].owner == at.parcels.read(1, 1)[0].owner
    assert at.subscription("google", line_of("token-1")).history.state is State.ACTIVE


def test_a_purchase_that_replaces_another_one_ends_it_for_good(at: StoreHouse) -> None:
    at.post_google()
    at.work_on(Play(**{"token-1": resource()}))
    at.post_google(envelope(google_pushes.notification("token-2"), "2"))
    at.work_on(Play(**{"token-2": resource(linkedPurchaseToken="token-1")}))
    assert at.subscription("google", line_of("token-1")).history.state is State.SUPERSEDED
    assert at.subscription("google", line_of("token-2")).history.state is State.ACTIVE


def test_a_purchase_that_replaces_one_that_was_never_heard_of_stands_alone(at: StoreHouse) -> None:
    at.post_google(envelope(google_pushes.notification("token-2"), "2"))
    at.work_on(Play(**{"token-2": resource(linkedPurchaseToken="token-1")}))
    assert at.failures == []
    assert at.subscription("google", line_of("token-2")).history.state is State.ACTIVE


def test_a_voided_purchase_is_a_refund_at_once_and_asked_about_afterwards(at: StoreHouse) -> None:
    data = google_pushes.notification()
    del data["subscriptionNotification"]
    data["voidedPurchaseNotification"] = {
        "purchaseToken": "token-1", "orderId": "GPA.1", "productType": 1, "refundType": 1
    }  # fmt: skip
    at.post_google(envelope(data))
    at.work_on(Play(**{"token-1": StoreAway("subscriptionsv2.get: status 503", 7.0)}))
    assert types(at)[-1] == "ChargeRefunded"
    assert at.failures == ["subscriptionsv2.get: status 503"]
    at.clock += 100
    at.work_on(Play(**{"token-1": resource("EXPIRED")}))
    assert at.subscription("google", line_of("token-1")).history.state is State.EXPIRED


def test_many_announcements_of_one_purchase_are_answered_by_one_question(at: StoreHouse) -> None:
    for number, code in enumerate((4, 2, 2, 3)):
        at.post_google(envelope(google_pushes.notification(code=code), str(number)))
    play = Play(**{"token-1": resource()})
    at.work_on(play, ticking=True)
    assert play.asked == ["token-1"]
    at.clock += 60
    at.post_google(envelope(google_pushes.notification(code=12), "revoked"))
    at.work_on(play, ticking=True)
    assert play.asked == ["token-1"] * 2


@pytest.mark.parametrize("gone", [True, False])
def test_a_purchase_that_google_does_not_know_is_given_up_and_a_refusal_is_tried_again(
    at: StoreHouse, gone: bool
) -> None:
    at.post_google()
    at.work_on(Play(**{"token-1": PurchaseGone("status 410") if gone else StoreRefused("status 400")}))
    assert at.work is not None
    assert bool(at.work.rows(at.clock)) is not gone


def test_a_message_that_could_not_be_judged_is_judged_later_and_only_then_applied(at: StoreHouse) -> None:
    at.ocsp.broken = b"no answer"
    at.post_apple(apple(at, "DID_RENEW", "a", NOW))
    at.work_on()
    at.clock += 61
    at.work_on()
    assert types(at) == ["NotificationReceived"]
    at.ocsp.broken = None
    at.clock += 301
    at.work_on()
    assert types(at)[1:3] == ["NotificationJudged", "SubscriptionOpened"]
    assert at.entries()[1]["aggregate_id"] == message_id("apple", "production", "a")


def test_a_message_whose_key_was_destroyed_leads_to_nothing(at: StoreHouse) -> None:
    at.post_apple(apple(at, "DID_RENEW", "a", NOW))
    at.keys.erase(at.parcels.read(1, 1)[0].owner)
    at.work_on()
    assert (types(at), at.failures) == (["NotificationReceived"], [])


def test_a_message_that_is_not_in_the_inbox_is_waited_for(at: StoreHouse) -> None:
    import sqlite3

    at.post_apple(apple(at, "DID_RENEW", "a", NOW))
    with sqlite3.connect(at.folder / "ledger.db") as connection:
        connection.execute("UPDATE stored_events_parcels SET sealed = x'00'")
    at.work_on()
    assert types(at) == ["NotificationReceived"]
    assert "is not in the inbox" in at.failures[0]

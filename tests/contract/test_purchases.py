"""Purchases end to end over the API: handed in, verified, bound, a contract, acknowledged; and every way it may end."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from domain.accounts import account_of
from domain.ids import purchase_id, subscription_id
from domain.purchase import PurchaseSaga
from domain.store_identity import StoreIdentity
from domain.store_notification import State, Store
from stores.errors import PurchaseGone, StoreAway
from stores.google.envelope import line_of
from tests import google_pushes
from tests.apple_payloads import DAY_MS, LINE, body, notification, renewal, transaction
from tests.billing_double import Billing
from tests.google_pushes import envelope
from tests.store_house import COMPANY, StoreHouse, store_house

NOW = int(time.time() * 1000)
APPLE_LINE = subscription_id("apple", "production", LINE)


class Play:
    """Google: a resource for each token, what was acknowledged and given back; `away` while True."""

    def __init__(self, **resources: Any) -> None:
        self.resources, self.acknowledged, self.revoked = resources, list[str](), list[str]()
        self.away = False

    def subscription(self, purchase_token: str) -> dict[str, Any]:
        self._there()
        if purchase_token not in self.resources:
            raise PurchaseGone("subscriptionsv2.get: status 404")
        found: dict[str, Any] = self.resources[purchase_token]
        return found

    def acknowledge(self, product: str, purchase_token: str) -> None:
        self._there()
        self.acknowledged.append(f"{product} {purchase_token}")

    def revoke(self, purchase_token: str) -> None:
        self._there()
        self.revoked.append(purchase_token)

    def _there(self) -> None:
        if self.away:
            raise StoreAway("status 503", 3.0)


def resource(state: str = "ACTIVE", **more: Any) -> dict[str, Any]:
    return {
        "subscriptionState": f"SUBSCRIPTION_STATE_{state}", "acknowledgementState": "ACKNOWLEDGEMENT_STATE_PENDING",
        "lineItems": [{"productId": "daily.monthly", "expiryTime": "2030-01-01T00:00:00Z",
                       "latestSuccessfulOrderId": "GPA.1", "autoRenewingPlan": {"autoRenewEnabled": True}}],
        **more,
    }  # fmt: skip


@pytest.fixture
def at(tmp_path: Path) -> Iterator[StoreHouse]:
    with store_house(tmp_path) as house:
        house.house.admit(COMPANY)
        yield house


@pytest.fixture
def billing() -> Billing:
    return Billing()


def google(at: StoreHouse, token: str = "token-1", user: str = "ann", **more: Any) -> Any:
    return at.buy(user=user, store="google", purchase_token=token, product="daily.monthly", **more)


def apple(at: StoreHouse, user: str = "ann", **more: Any) -> Any:
    changes = more.pop("changes", {"appAccountToken": None})
    return at.buy(user=user, store="apple", signed_transaction=at.signed_transaction(**changes), **more)


def saga(at: StoreHouse, subscription: str = APPLE_LINE) -> PurchaseSaga:
    found = at.house.ledger.load(purchase_id(subscription))
    assert isinstance(found, PurchaseSaga)
    return found


def google_line(token: str = "token-1") -> str:
    return subscription_id("google", "production", line_of(token))


def says(at: StoreHouse, type_: str, uuid: str, *, status: int = 1, later: int = 0, **changes: Any) -> None:
    """Apple notifies, so much later than now: what went before is signed as the test comes by, not at its start."""
    signed_at = int(time.time() * 1000) + later
    outer = notification(
        signed_at, type_, status=status, signedTransactionInfo=at.ca.sign(transaction(signed_at, **changes)),
        signedRenewalInfo=at.ca.sign(renewal(signed_at, appAccountToken=changes.get("appAccountToken"))),
    )  # fmt: skip
    assert at.post_apple(body(at.ca, {**outer, "notificationUUID": uuid})).status_code == 200


# -- all goes well ----------------------------------------------------------------------------------------------------


def test_a_purchase_of_apples_becomes_a_contract_under_the_companys_own_user_id(
    at: StoreHouse, billing: Billing
) -> None:
    response = apple(at)
    assert response.status_code == 202
    at.work_on(billing=billing)
    assert (saga(at).state, at.failures) == ("done", [])
    assert [(each.user, each.plan) for each in billing.active()] == [("ann", "daily.monthly")]
    shown = at.house.get(response.headers["location"], COMPANY).json()
    assert (shown["state"], shown["store"], shown["product"]) == ("done", "apple", "daily.monthly")
    assert apple(at).status_code == 201
    assert LINE not in str(at.entries())
    assert "ann" not in str(at.entries())


def test_a_purchase_of_googles_is_asked_for_acknowledged_and_contracted(at: StoreHouse, billing: Billing) -> None:
    assert google(at).status_code == 202
    play = Play(**{"token-1": resource()})
    at.work_on(play, billing)
    assert saga(at, google_line()).state == "done"
    assert play.acknowledged == ["daily.monthly token-1"]
    assert len(billing.active()) == 1
    assert google(at).status_code == 201


def test_the_caller_waits_for_it_as_long_as_he_likes(at: StoreHouse, billing: Billing) -> None:
    import asyncio

    at.pulse.attach(at.house.runner.get_loop())
    at.work_on(billing=billing)  # makes the executors

    async def both() -> Any:
        asked = asyncio.create_task(
            at.house.client.post(
                "/v1/purchases",
                headers={
                    "authorization": f"Bearer {at.house.as_(COMPANY)}", "idempotency-key": "k",
                    "prefer": "wait=9", "content-type": "application/json",
                },
                json={"user": "ann", "store": "apple",
                      "signed_transaction": at.signed_transaction(appAccountToken=None)},
            )
        )  # fmt: skip
        await asyncio.sleep(0.3)
        assert not asked.done()
        await at.working(billing=billing)
        return await asked

    assert at.run(both()).status_code == 201


def test_the_same_request_again_is_the_same_purchase_and_another_body_under_its_key_is_refused(
    at: StoreHouse, billing: Billing
) -> None:
    text = at.signed_transaction(appAccountToken=None)
    first, second = (at.buy(user="ann", store="apple", signed_transaction=text, key="once") for _ in range(2))
    assert first.json()["id"] == second.json()["id"]
    assert second.headers["idempotency-hit"] == "true"
    other = at.buy(user="bob", store="apple", signed_transaction=text, key="once")
    assert (other.status_code, other.json()["type"]) == (409, "urn:daicho:problem:command-key-reused")
    at.work_on(billing=billing)
    assert len(billing.active()) == 1


def test_a_notification_that_comes_first_is_joined_by_the_client(at: StoreHouse, billing: Billing) -> None:
    says(at, "SUBSCRIBED", "n1", appAccountToken=None)
    at.work_on(billing=billing)
    assert (saga(at).state, billing.active()) == ("bind", [])
    apple(at)
    at.work_on(billing=billing)
    assert (saga(at).state, saga(at).round, len(billing.active())) == ("done", 1, 1)


def test_a_notification_with_our_account_token_needs_no_client(at: StoreHouse, billing: Billing) -> None:
    user = at.run(at.house.pseudonyms.pseudonym(COMPANY, "ann"))
    says(at, "SUBSCRIBED", "n1", appAccountToken=account_of(user, Store.APPLE))
    at.work_on(billing=billing)
    assert saga(at).state == "done"
    assert [each.user for each in billing.active()] == ["ann"]


def test_a_notification_after_the_client_changes_nothing(at: StoreHouse, billing: Billing) -> None:
    apple(at)
    at.work_on(billing=billing)
    says(at, "SUBSCRIBED", "n1", appAccountToken=None)
    says(at, "DID_RENEW", "n2", later=1_000, appAccountToken=None)
    at.work_on(billing=billing)
    assert (saga(at).round, len(billing.contracts)) == (1, 1)


# -- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["garbage", "stranger", "other app", "alg none", "not a subscription"])
def test_a_transaction_that_is_not_genuine_is_refused_and_nothing_is_written(at: StoreHouse, what: str) -> None:
    from simulator.authority import StoreCa, jws

    text = {
        "garbage": lambda: "a.b.c",
        "stranger": lambda: StoreCa().sign(transaction(NOW)),
        "other app": lambda: at.signed_transaction(bundleId="com.example.other"),
        "alg none": lambda: jws({"alg": "none"}, b"{}", None),
        "not a subscription": lambda: at.signed_transaction(expiresDate=None),
    }[what]()
    before = at.house.head()
    response = at.buy(user="ann", store="apple", signed_transaction=text)
    assert (response.status_code, response.json()["type"]) == (422, "urn:daicho:problem:purchase-not-genuine")
    assert at.house.head() == before


@pytest.mark.parametrize(
    "body",
    [
        {"user": "ann", "store": "apple"},
        {"user": "ann", "store": "google", "purchase_token": "t"},
        {"user": "ann", "store": "google", "purchase_token": "t", "product": "p", "signed_transaction": "x"},
        {"user": "", "store": "google", "purchase_token": "t", "product": "p"},
        {"user": "a\nb", "store": "google", "purchase_token": "t", "product": "p"},
        {"user": "ann", "store": "amazon", "purchase_token": "t", "product": "p"},
        {"user": "ann", "store": "google", "purchase_token": "a b", "product": "p"},
        {"user": "ann", "store": "google", "purchase_token": "t", "product": "p", "more": 1},
    ],
)
def test_a_request_that_is_not_well_formed_is_refused(at: StoreHouse, body: dict[str, Any]) -> None:
    assert at.buy(**body).status_code == 422


def test_another_company_may_not_hand_in_purchases_or_see_them(at: StoreHouse) -> None:
    at.house.admit("other")
    response = apple(at)
    assert at.buy("other", user="ann", store="apple", signed_transaction="x").status_code == 403
    assert at.house.get(response.headers["location"], "other").status_code == 403
    assert at.house.get(f"/v1/purchases/{purchase_id('none')}", COMPANY).status_code == 404


@pytest.mark.parametrize("wait", ["11", "-1", "x", "1.5"])
def test_a_wait_that_is_none_is_refused(at: StoreHouse, wait: str) -> None:
    assert apple(at, wait=wait).status_code == 400


def test_a_token_that_google_does_not_know_is_rejected(at: StoreHouse, billing: Billing) -> None:
    google(at, "made-up")
    at.work_on(Play(), billing)
    assert (saga(at, google_line("made-up")).state, billing.calls) == ("rejected", [])
    assert google(at, "made-up").json()["state"] == "rejected"


def test_a_product_that_was_not_bought_is_rejected_and_what_was_bought_is_contracted(
    at: StoreHouse, billing: Billing
) -> None:
    at.buy(user="ann", store="google", purchase_token="token-1", product="daily.yearly")
    at.work_on(Play(**{"token-1": resource()}), billing)
    moved = [entry["data"]["after"] for entry in at.entries() if entry["type"] == "PurchaseMoved"]
    assert moved[0] == "rejected"
    assert (saga(at, google_line()).round, [each.plan for each in billing.contracts]) == (2, ["daily.monthly"])


def test_a_test_purchase_is_none_of_production(at: StoreHouse, billing: Billing) -> None:
    google(at)
    at.work_on(Play(**{"token-1": resource(testPurchase={})}), billing)
    assert (saga(at, google_line()).state, billing.contracts) == ("rejected", [])


def test_a_purchase_that_is_not_paid_yet_waits_for_the_stores_word(at: StoreHouse, billing: Billing) -> None:
    google(at)
    play = Play(**{"token-1": resource("PENDING")})
    at.work_on(play, billing)
    assert (saga(at, google_line()).state, billing.calls) == ("verify", [])
    play.resources["token-1"] = resource()
    at.clock += 60
    at.post_google(envelope(google_pushes.notification()))
    at.work_on(play, billing)
    assert saga(at, google_line()).state == "done"


# -- whose it is ------------------------------------------------------------------------------------------------------


def test_a_line_of_another_user_is_not_taken_and_people_are_asked(at: StoreHouse, billing: Billing) -> None:
    apple(at)
    at.work_on(billing=billing)
    other = apple(at, user="bob")
    assert (other.status_code, other.json()["type"]) == (409, "urn:daicho:problem:line-taken")
    bob = at.run(at.house.pseudonyms.pseudonym(COMPANY, "bob"))
    says(at, "DID_RENEW", "n1", later=1_000, appAccountToken=account_of(bob, Store.APPLE))
    at.work_on(billing=billing)
    from domain.ids import identity_id

    identity = at.house.ledger.load(identity_id(APPLE_LINE))
    assert isinstance(identity, StoreIdentity)
    assert identity.claimants == {bob}
    assert identity.user == at.run(at.house.pseudonyms.pseudonym(COMPANY, "ann"))
    assert [entry["data"]["kind"] for entry in at.entries() if entry["type"] == "CaseOpened"] == ["identity_conflict"]


# -- trouble at billing -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["away", "lost", "late"])
def test_trouble_at_billing_never_makes_two_contracts_and_never_none(
    at: StoreHouse, billing: Billing, fault: str
) -> None:
    billing.faults = [fault]
    apple(at)
    at.work_on(billing=billing)
    assert saga(at).state == "start"
    at.clock += 30
    at.work_on(billing=billing)
    assert (saga(at).state == "done") is (fault == "away"), "what may be done still is waited for"
    billing.settle()
    at.clock += 31
    at.work_on(billing=billing)
    assert (saga(at).state, len(billing.contracts)) == ("done", 1)


def test_a_refusal_at_billing_undoes_what_was_done_and_asks_people_to_give_the_money_back(
    at: StoreHouse, billing: Billing
) -> None:
    billing.faults = ["refused"]
    apple(at)
    at.work_on(billing=billing)
    at.clock += 61
    at.work_on(billing=billing)
    assert (saga(at).state, billing.contracts) == ("compensated", [])
    assert [entry["data"]["kind"] for entry in at.entries() if entry["type"] == "CaseOpened"] == ["give_back"]


def test_a_refusal_at_billing_is_given_back_by_google(at: StoreHouse, billing: Billing) -> None:
    billing.faults = ["refused"]
    google(at)
    play = Play(**{"token-1": resource()})
    at.work_on(play, billing)
    at.clock += 61
    at.work_on(play, billing)
    assert (saga(at, google_line()).state, play.revoked, play.acknowledged) == ("compensated", ["token-1"], [])


def test_a_renewal_after_a_compensation_opens_it_again_and_asks_billing_first(at: StoreHouse, billing: Billing) -> None:
    billing.faults = ["refused"]
    apple(at)
    at.work_on(billing=billing)
    at.clock += 61
    at.work_on(billing=billing)
    billing.calls.clear()
    says(at, "DID_RENEW", "n1", later=1_000, appAccountToken=None)
    at.work_on(billing=billing)
    assert (saga(at).state, saga(at).round, len(billing.active())) == ("done", 2, 1)
    assert billing.calls.index("of_key") < billing.calls.index("start")


def test_a_contract_that_people_have_left_is_for_people(at: StoreHouse, billing: Billing) -> None:
    apple(at)
    at.work_on(billing=billing)
    says(at, "EXPIRED", "n1", status=2, later=60_000, appAccountToken=None)
    at.work_on(billing=billing)
    billing.contracts[0].active = True  # somebody has opened it again by hand
    says(at, "SUBSCRIBED", "n2", later=120_000, appAccountToken=None)
    at.work_on(billing=billing)
    assert (saga(at).state, saga(at).waiting, len(billing.contracts)) == ("parked", "start", 1)


def test_a_contract_that_was_made_twice_is_ended_but_for_one(at: StoreHouse, billing: Billing) -> None:
    billing.faults = ["lost"]
    apple(at)
    at.work_on(billing=billing)
    billing.start("ann", "daily.monthly", billing.contracts[0].key)  # somebody else was at it, too
    at.clock += 61
    at.work_on(billing=billing)
    assert (saga(at).state, len(billing.active())) == ("done", 1)


def test_people_decide_what_becomes_of_a_purchase_that_had_its_time(at: StoreHouse, billing: Billing) -> None:
    google(at)
    play = Play(**{"token-1": resource()})
    play.away = True
    at.work_on(play, billing)
    at.clock += 25 * 3_600
    at.work_on(play, billing)
    assert (saga(at, google_line()).state, saga(at, google_line()).waiting) == ("parked", "verify")
    case = next(entry for entry in at.entries() if entry["type"] == "CaseOpened")
    assert case["data"]["kind"] == "saga_parked"
    decide(at, case["aggregate_id"], "retry")
    play.away = False
    at.work_on(play, billing)
    assert saga(at, google_line()).state == "done"
    assert at.entries()[-1]["type"] != "CaseOpened"
    assert any(entry["type"] == "CaseClosed" for entry in at.entries())


def decide(at: StoreHouse, case: str, action: str) -> None:
    """Two persons agree."""
    from domain.entry import Actor
    from domain.orders import Order
    from domain.purchase_commands import ApproveCaseAction, ProposeCaseAction
    from domain.purchase_table import Action
    from tests.api_support import ORIGIN

    for number, command in enumerate(
        (ProposeCaseAction(case=case, action=Action(action)), ApproveCaseAction(case=case, action=Action(action)))
    ):
        at.run(at.house.ledger.execute(Order.of(ORIGIN, command, Actor("", f"{number + 1:032x}"), f"decide {number}")))


# -- what becomes of it at the store ----------------------------------------------------------------------------------


def test_a_line_that_is_over_ends_its_contract_and_a_late_old_message_ends_nothing(
    at: StoreHouse, billing: Billing
) -> None:
    apple(at)
    at.work_on(billing=billing)
    says(at, "EXPIRED", "old", status=2, later=-5 * DAY_MS, appAccountToken=None)
    at.work_on(billing=billing)
    assert (saga(at).state, len(billing.active())) == ("done", 1)
    says(at, "EXPIRED", "new", status=2, later=60_000, appAccountToken=None)
    at.work_on(billing=billing)
    assert (saga(at).state, billing.active()) == ("ended", [])
    assert at.subscription("apple", LINE).history.state is State.EXPIRED


def test_a_line_that_lives_again_gets_a_new_contract(at: StoreHouse, billing: Billing) -> None:
    apple(at)
    at.work_on(billing=billing)
    says(at, "EXPIRED", "n1", status=2, later=60_000, appAccountToken=None)
    at.work_on(billing=billing)
    says(at, "SUBSCRIBED", "n2", later=120_000, appAccountToken=None)
    at.work_on(billing=billing)
    assert (saga(at).state, saga(at).round) == ("done", 2)
    assert [contract.active for contract in billing.contracts] == [False, True]


def test_another_plan_under_the_same_line_gets_a_contract_of_its_own(at: StoreHouse, billing: Billing) -> None:
    apple(at)
    at.work_on(billing=billing)
    says(
        at, "DID_CHANGE_RENEWAL_PREF", "n1", later=60_000, productId="daily.yearly",
        purchaseDate=int(time.time() * 1000) + 50_000, appAccountToken=None,
    )  # fmt: skip
    at.work_on(billing=billing)
    assert saga(at).state == "done"
    assert [(contract.plan, contract.active) for contract in billing.contracts] == [
        ("daily.monthly", False), ("daily.yearly", True)
    ]  # fmt: skip


def test_a_purchase_of_googles_that_replaces_another_one_moves_the_contract_and_the_user(
    at: StoreHouse, billing: Billing
) -> None:
    google(at)
    play = Play(**{"token-1": resource()})
    at.work_on(play, billing)
    play.resources["token-2"] = resource(linkedPurchaseToken="token-1")
    at.post_google(envelope(google_pushes.notification("token-2"), "2"))
    at.work_on(play, billing)
    assert saga(at, google_line("token-1")).state == "ended"
    assert saga(at, google_line("token-2")).state == "done"
    assert [each.user for each in billing.contracts] == ["ann", "ann"]
    assert len(billing.active()) == 1
    assert play.acknowledged[-1] == "daily.monthly token-2"


def test_what_a_family_shares_is_nobodys_contract(at: StoreHouse, billing: Billing) -> None:
    says(at, "SUBSCRIBED", "n1", inAppOwnershipType="FAMILY_SHARED", appAccountToken=None)
    at.work_on(billing=billing)
    assert at.house.ledger.load(purchase_id(APPLE_LINE)) is None

"""Support's questions over the API: access and why, the story of a purchase, raw payloads, cases, erasure."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from domain.accounts import account_of
from domain.ids import purchase_id, subscription_id
from domain.store_notification import Store
from tests.apple_payloads import DAY_MS, LINE, body, notification, renewal, transaction
from tests.billing_double import Billing
from tests.contract.test_purchases import Play, resource
from tests.store_house import COMPANY, StoreHouse, store_house

APPLE_LINE = subscription_id("apple", "production", LINE)


@pytest.fixture
def at(tmp_path: Path) -> Iterator[StoreHouse]:
    with store_house(tmp_path) as house:
        house.house.admit(COMPANY)
        house.house.tokens["support"] = house.house.token("sue", "support:read")
        house.house.tokens["other-operator"] = house.house.token("ron", "operator")
        yield house


def bought(at: StoreHouse, billing: Billing | None = None) -> Billing:
    """Ann has a subscription of Apple's."""
    billing = billing or Billing()
    response = at.buy(user="ann", store="apple", signed_transaction=at.signed_transaction(appAccountToken=None))
    assert response.status_code == 202
    at.work_on(billing=billing)
    return billing


def says(at: StoreHouse, type_: str, uuid: str, *, status: int = 1, later: int = 1_000, **changes: Any) -> None:
    signed_at = int(time.time() * 1000) + later
    changes = {"appAccountToken": None, **changes}
    outer = notification(
        signed_at, type_, status=status, signedTransactionInfo=at.ca.sign(transaction(signed_at, **changes)),
        signedRenewalInfo=at.ca.sign(renewal(signed_at, appAccountToken=None)),
    )  # fmt: skip
    assert at.post_apple(body(at.ca, {**outer, "notificationUUID": uuid})).status_code == 200


def ask(at: StoreHouse, path: str, who: str = "support") -> Any:
    response = at.house.get(path, who)
    assert response.status_code == 200, response.text
    return response.json()


# -- access -----------------------------------------------------------------------------------------------------------


def test_access_is_explained_from_the_payload_to_the_rule(at: StoreHouse) -> None:
    bought(at)
    found = ask(at, "/v1/users/ann/access?explain=true", COMPANY)
    assert found["granted"] is True
    (line,) = found["lines"]
    assert (line["subscription"], line["reason"], line["state"]) == (APPLE_LINE, "paid", "active")
    assert line["rule"] == "active gives access until the end of the period that was paid"
    assert {part for link in line["because"] for part in link["says"]} == {"standing", "plan"}
    link = line["because"][0]
    entry = json.loads(dict(at.house.entries.read(link["position"], 1))[link["position"]])
    assert (entry["type"], entry["data"]["payload"]) == (link["type"], link["payload"])
    assert at.parcels.of_payload(link["payload"]) is not None


def test_access_ends_with_what_the_store_says_and_is_nobody_elses(at: StoreHouse) -> None:
    bought(at)
    says(at, "EXPIRED", "n1", status=2, expiresDate=int(time.time() * 1000) - DAY_MS)
    at.work_on(billing=Billing())
    found = ask(at, "/v1/users/ann/access", COMPANY)
    assert (found["granted"], found["lines"][0]["reason"]) == (False, "expired")
    nobody = ask(at, "/v1/users/nobody/access", COMPANY)
    assert (nobody["granted"], nobody["lines"]) == (False, [])
    line = ask(at, f"/v1/subscriptions/{APPLE_LINE}/access?explain=true")
    assert line["rule"] == "what has expired gives no access"


def test_a_purchase_that_is_being_verified_gives_access_for_a_day_at_most(at: StoreHouse) -> None:
    at.buy(user="ann", store="google", purchase_token="token-1", product="daily.monthly")
    play = Play(**{"token-1": resource()})
    play.away = True
    at.work_on(play, Billing())
    found = ask(at, "/v1/users/ann/access?explain=true", COMPANY)
    assert (found["granted"], found["lines"][0]["reason"]) == (True, "temporary")
    assert abs(found["lines"][0]["until"] - time.time() * 1000 - DAY_MS) < 60_000


def test_a_sandbox_purchase_gives_nothing_in_production(at: StoreHouse) -> None:
    text = at.signed_transaction(environment="Sandbox", appAccountToken=None)
    at.buy(user="ann", store="apple", signed_transaction=text)
    at.work_on(billing=Billing())
    found = ask(at, "/v1/users/ann/access", COMPANY)
    assert (found["granted"], found["lines"][0]["reason"]) == (False, "sandbox")


def test_whoever_may_not_ask_is_refused(at: StoreHouse) -> None:
    at.house.admit("other")
    for path in ("/v1/users/ann/timeline", f"/v1/payloads/{'0' * 64}", "/v1/timeline?store=apple&line=1"):
        assert at.house.get(path, COMPANY).status_code == 403
    assert at.house.get("/v1/users/ann/access", "other").status_code == 403
    assert at.house.get("/v1/users/ann/access").status_code == 401


# -- the story --------------------------------------------------------------------------------------------------------


def test_the_story_tells_messages_entries_and_changes_of_access_in_order(at: StoreHouse) -> None:
    bought(at)
    says(at, "REFUND_DECLINED", "n1")
    says(at, "DID_FAIL_TO_RENEW", "n2", status=3)
    at.work_on(billing=Billing())
    items = ask(at, "/v1/users/ann/timeline?limit=1000")["items"]
    assert [item["position"] for item in items] == sorted(item["position"] for item in items)
    messages = [(item["label"], item["origin"]) for item in items if item["kind"] == "message"]
    assert messages == [("client", "client"), ("REFUND_DECLINED", "push"), ("DID_FAIL_TO_RENEW", "push")]
    access = [(item["granted"], item["reason"]) for item in items if item["kind"] == "access"]
    assert access == [(True, "paid"), (False, "hold")]
    types = [item["type"] for item in items if item["kind"] == "entry"]
    assert {"PurchaseAccepted", "IdentityClaimed", "SubscriptionObserved", "ContractFound"} <= set(types)
    assert at.audited[-1][1] == "read timeline"
    by_line = ask(at, f"/v1/timeline?store=apple&line={LINE}&limit=1000")["items"]
    by_order = ask(at, "/v1/timeline?store=apple&order=400000000000123&limit=1000")["items"]
    assert by_line == by_order == items


def test_the_story_is_read_page_by_page(at: StoreHouse) -> None:
    bought(at)
    whole = ask(at, "/v1/users/ann/timeline?limit=1000")
    assert whole["next_after"] is None
    found, after = [], 0
    while after is not None:
        page = ask(at, f"/v1/users/ann/timeline?limit=2&after={after or 1}")
        found += page["items"]
        after = page["next_after"]
    assert found == whole["items"]


@pytest.mark.parametrize(
    "query", ["", "store=apple", "store=apple&line=1&order=2", "store=amazon&line=1", "store=apple&line=%0a"]
)
def test_a_question_that_is_none_is_refused(at: StoreHouse, query: str) -> None:
    assert at.house.get(f"/v1/timeline?{query}", "support").status_code == 400


def test_a_payload_is_shown_as_it_came_and_the_read_is_written_down_first(at: StoreHouse) -> None:
    posted = at.apple_body()
    at.post_apple(posted)
    at.post_google()
    first, second = (row.payload for row in at.parcels.read(1, 2))
    shown = ask(at, f"/v1/payloads/{first}")
    assert (shown["body"], shown["form"], shown["label"]) == (posted.decode(), "apple-notification", "DID_RENEW")
    pushed = ask(at, f"/v1/payloads/{second}")
    assert "token-1" not in pushed["body"]  # base64, as Google sends it
    assert "Bearer" not in json.dumps(pushed)
    assert at.audited[-1][1:] == ("read payload", second)
    assert at.house.get(f"/v1/payloads/{'0' * 64}", "support").status_code == 404
    assert at.house.get("/v1/payloads/xyz", "support").status_code == 400


def test_the_app_gets_the_token_that_it_hands_to_the_store(at: StoreHouse) -> None:
    found = {store: ask(at, f"/v1/users/ann/store-account?store={store}", COMPANY)["account"] for store in Store}
    user = at.run(at.house.pseudonyms.pseudonym(COMPANY, "ann"))
    assert found == {store: account_of(user, store) for store in Store}
    assert at.house.get("/v1/users/ann/store-account", COMPANY).status_code == 400


# -- cases ------------------------------------------------------------------------------------------------------------


def parked(at: StoreHouse) -> tuple[str, Play]:
    """A purchase that waits for people, and the store that was away too long."""
    at.buy(user="ann", store="google", purchase_token="token-1", product="daily.monthly")
    play = Play(**{"token-1": resource()})
    play.away = True
    at.work_on(play, Billing())
    at.clock += 25 * 3_600
    at.work_on(play, Billing())
    (case,) = ask(at, "/v1/cases", "operator")["items"]
    assert (case["kind"], case["state"]) == ("saga_parked", "open")
    return case["id"], play


def test_two_persons_decide_and_then_it_is_done(at: StoreHouse) -> None:
    case, play = parked(at)
    proposed = at.house.post(f"/v1/cases/{case}:propose", "operator", {"action": "retry"})
    assert proposed.status_code == 200, proposed.text
    alone = at.house.post(f"/v1/cases/{case}:approve", "operator", {"action": "retry"})
    assert (alone.status_code, alone.json()["type"]) == (403, "urn:daicho:problem:second-person-needed")
    other = at.house.post(f"/v1/cases/{case}:approve", "other-operator", {"action": "skip"})
    assert other.status_code == 409
    assert at.house.post(f"/v1/cases/{case}:approve", "other-operator", {"action": "retry"}).status_code == 200
    play.away = False
    at.work_on(play, Billing())
    assert ask(at, f"/v1/cases/{case}", "operator")["state"] == "closed"
    assert ask(at, "/v1/cases", "operator")["items"] == []
    purchases = [entry for entry in at.entries() if entry["aggregate"] == "PurchaseSaga"]
    assert purchases[-1]["data"]["after"] == "done"


def test_a_proposal_may_be_taken_back(at: StoreHouse) -> None:
    case, _ = parked(at)
    at.house.post(f"/v1/cases/{case}:propose", "operator", {"action": "compensate"})
    assert at.house.post(f"/v1/cases/{case}:withdraw", "other-operator").status_code == 200
    refused = at.house.post(f"/v1/cases/{case}:propose", "operator", {"action": "skip"})
    assert refused.status_code == 422, "skipping needs a reason"
    assert at.house.get("/v1/cases", COMPANY).status_code == 403
    assert at.house.get(f"/v1/cases/{purchase_id('none')}", "operator").status_code == 404


# -- erasure ----------------------------------------------------------------------------------------------------------


def test_after_an_erasure_nothing_of_the_user_is_left_in_clear_and_everything_still_verifies(at: StoreHouse) -> None:
    from cli.checking.archive import check_archive
    from storage.archive import SegmentArchive
    from tests.contract.test_archive import archive_all

    user = "ann.surname@example.org"
    text = at.signed_transaction(appAccountToken=None)
    assert at.buy(user=user, store="apple", signed_transaction=text).status_code == 202
    at.work_on(billing=Billing())
    says(at, "DID_RENEW", "n1")
    at.work_on(billing=Billing())
    archive_all(at.parcels, at.folder / "archive", at.parcels.head())
    pseudonym = at.run(at.house.pseudonyms.pseudonym(COMPANY, user))
    payload = at.parcels.read(1, 1)[0].payload
    asked = at.house.post(f"/v1/users/{user}/erasure", "operator", {"reason": "asked for by the user"})
    assert (asked.status_code, asked.json()["position"] is not None) == (202, True)
    at.work_on(billing=Billing())
    assert pseudonym not in at.house.pseudonyms.of.values()
    assert at.house.get(f"/v1/payloads/{payload}", "support").status_code == 410
    at.house.publish()
    report = check_archive(
        at.house.entries, at.parcels, SegmentArchive(at.folder / "archive", writable=False), lambda *_: None
    )
    assert report.findings == []
    for file in at.folder.rglob("*"):
        if file.is_file() and file.name != "jwks.json":
            content = file.read_bytes()
            for clear in (user.encode(), LINE.encode(), text.encode()[:60], b"400000000000123"):
                assert clear not in content, f"{clear!r} in {file.name}"
    again = at.house.post(f"/v1/users/{user}/erasure", "operator", {"reason": "asked for by the user"})
    assert again.json() == {"position": None}

"""Commands over HTTP: what is answered, promised, repeated, expected and only tried."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from daicho_verify.notes import parse_key, parse_note
from daicho_verify.promise import parse_promise
from domain.entry import decode_envelope, entry_leaf_hash
from domain.errors import LedgerReadOnly
from merkle.notes import open_note
from tests.api_support import House, terms


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path)
    made.admit("aozora", "kaede", "midori")
    yield made
    made.close()


def problem(response: Any, name: str, status: int) -> dict[str, Any]:
    """The problem of that name and status."""
    assert response.headers["content-type"] == "application/problem+json", response.text
    body: dict[str, Any] = response.json()
    assert (body["type"], body["status"], response.status_code) == (f"urn:daicho:problem:{name}", status, status)
    assert body["title"]
    assert body["detail"]
    return body


def test_an_answer_holds_the_exact_entry_and_a_signed_promise_to_publish_it(house: House) -> None:
    response = house.post("/v1/trades", "aozora", terms(description='茶 "ten boxes"'))
    assert response.status_code == 201
    body = response.json()
    shown = body["entries"][0]
    stored = house.entries.get(body["position"])
    assert stored is not None
    assert shown["entry"].encode() == stored
    assert base64.b64decode(shown["leaf_hash"]) == entry_leaf_hash(stored)
    assert json.loads(shown["entry"])["data"]["description"] == '茶 "ten boxes"'
    promise = parse_promise(body["promise"].encode())
    assert promise.leaves == ((body["position"], entry_leaf_hash(stored)),)
    assert promise.publish_by > decode_envelope(stored).recorded_at
    open_note(body["promise"].encode(), [house.promise_signer.key])
    assert parse_note(body["promise"], "promise").text.startswith("daicho.invalid/3f9c3f9c3f9c3f9c/promise\n")
    assert parse_key(str(house.promise_signer.key), "key", 1)
    assert response.headers["location"] == f"/v1/trades/{body['id']}"
    assert response.headers["etag"] == '"1"'


def test_a_trade_goes_through_its_whole_life(house: House) -> None:
    trade = house.record()["id"]
    path = f"/v1/trades/{trade}"
    amount = {"currency": "JPY", "units": "50000"}
    steps: list[tuple[str, str, dict[str, Any] | None]] = [
        ("note", "aozora", {"note": "sent", "attachments": [{"name": "a.pdf", "sha256": "ab" * 32}]}),
        ("confirm", "kaede", None),
        ("dispute", "kaede", {"reason": "two boxes missing"}),
        ("withdraw-dispute", "kaede", {"reason": "found them"}),
        ("propose-settlement", "kaede", {"amount": amount, "settled_on": "2026-12-01"}),
        ("settle", "aozora", {"amount": amount, "settled_on": "2026-12-01"}),
        ("settle", "aozora", {"amount": {"currency": "JPY", "units": "70000"}, "settled_on": "2026-12-02"}),
    ]
    for version, (verb, who, body) in enumerate(steps, 2):
        response = house.post(f"{path}:{verb}", who, body)
        assert response.status_code == 200, (verb, response.text)
        assert response.json()["version"] == version
        assert response.headers["etag"] == f'"{version}"'
    shown = house.get(path, "kaede").json()
    assert (shown["state"], shown["open"]["units"], shown["version"]) == ("settled", "0", 8)
    other = house.record()["id"]
    assert house.post(f"/v1/trades/{other}:confirm", "kaede").status_code == 200
    assert house.post(f"/v1/trades/{other}:propose-reversal", "kaede", {"reason": "wrong"}).status_code == 200
    assert house.post(f"/v1/trades/{other}:reverse", "aozora", {"reason": "agreed"}).status_code == 200
    assert house.get(f"/v1/trades/{other}", "aozora").json()["state"] == "reversed"


def test_the_same_key_and_body_again_is_answered_from_what_is_stored(house: House) -> None:
    wanted = terms()
    first = house.post("/v1/trades", "aozora", wanted, key="one")
    head = house.head()
    again = house.post("/v1/trades", "aozora", wanted, key="one")
    assert "idempotency-hit" not in first.headers
    assert again.headers["idempotency-hit"] == "true"
    assert again.status_code == first.status_code
    assert again.json()["entries"] == first.json()["entries"]
    open_note(again.json()["promise"].encode(), [house.promise_signer.key])
    assert house.head() == head


def test_the_same_key_with_another_body_is_refused_and_means_something_else_to_another_user(house: House) -> None:
    assert house.post("/v1/trades", "aozora", terms(), key="one").status_code == 201
    problem(house.post("/v1/trades", "aozora", terms(), key="one"), "command-key-reused", 409)
    assert house.post("/v1/trades", "kaede", terms(), key="one").status_code == 201


def test_a_dry_run_decides_by_the_same_rules_and_writes_nothing(house: House) -> None:
    wanted, head = terms(), house.head()
    tried = house.post("/v1/trades?dry_run=true", "aozora", wanted)
    assert tried.status_code == 200
    body = tried.json()
    assert (body["dry_run"], body["promise"], body["position"]) == (True, None, 0)
    assert body["entries"][0]["leaf_hash"] is None
    assert json.loads(body["entries"][0]["entry"])["data"]["reference"] == wanted["reference"]
    refused = house.post("/v1/trades?dry_run=true", "aozora", terms(seller="kaede", buyer="midori"))
    problem(refused, "not-your-company", 403)
    assert house.head() == head
    done = house.post("/v1/trades?dry_run=false", "aozora", wanted)
    assert done.status_code == 201
    assert "dry_run" not in done.json()


def test_a_command_meant_for_another_version_is_refused(house: House) -> None:
    trade = house.record()["id"]
    path = f"/v1/trades/{trade}:confirm"
    refused = problem(house.post(path, "kaede", headers={"if-match": '"2"'}), "version-mismatch", 412)
    assert refused["values"] == {"expected": 2, "current": 1}
    assert house.post(path, "kaede", headers={"if-match": '"1"'}).status_code == 200
    problem(house.post("/v1/trades", "aozora", terms(), headers={"if-match": '"1"'}), "bad-parameter", 400)


def test_what_belongs_to_others_is_answered_like_what_does_not_exist(house: House) -> None:
    trade, missing = house.record()["id"], "01938a5e-7c00-7aaa-aaaa-0123456789ab"
    for verb, body in (("confirm", None), ("dispute", {"reason": "x"}), ("note", {"note": "x"})):
        foreign = problem(house.post(f"/v1/trades/{trade}:{verb}", "midori", body), "trade-not-found", 404)
        unknown = problem(house.post(f"/v1/trades/{missing}:{verb}", "midori", body), "trade-not-found", 404)
        assert json.dumps(foreign).replace(trade, missing) == json.dumps(unknown)
    wallet = house.get("/v1/wallets", "aozora").json()["items"][0]["id"]
    unknown_wallet = "5b0f8d3e-2f6a-5c11-9d0a-7e4b1c2d3f60"
    for path, body in (("freeze", {"reason": "x"}), ("close", {"reason": "x"}), ("rotate", None)):
        foreign = problem(house.post(f"/v1/wallets/{wallet}:{path}", "midori", body), "wallet-not-found", 404)
        unknown = problem(house.post(f"/v1/wallets/{unknown_wallet}:{path}", "midori", body), "wallet-not-found", 404)
        assert json.dumps(foreign).replace(wallet, unknown_wallet) == json.dumps(unknown)
    with_foreign = house.post("/v1/trades", "midori", terms(seller="midori", wallet=wallet))
    with_unknown = house.post("/v1/trades", "midori", terms(seller="midori", wallet=unknown_wallet))
    foreign = problem(with_foreign, "wallet-not-found", 404)
    assert json.dumps(foreign).replace(wallet, unknown_wallet) == json.dumps(
        problem(with_unknown, "wallet-not-found", 404)
    )


def test_companies_are_admitted_suspended_and_resumed_by_the_operator(house: House) -> None:
    response = house.post("/v1/companies", "operator", {"code": "nami", "name": "Nami"})
    assert (response.status_code, response.headers["location"]) == (201, "/v1/companies/nami")
    problem(house.post("/v1/companies", "operator", {"code": "nami", "name": "Nami"}), "already-exists", 409)
    problem(house.post("/v1/companies", "aozora", {"code": "mine", "name": "x"}), "missing-scope", 403)
    assert house.post("/v1/companies/aozora:suspend", "operator", {"reason": "audit"}).status_code == 200
    assert house.get("/v1/companies/aozora", "kaede").json()["state"] == "suspended"
    problem(house.post("/v1/trades", "aozora", terms()), "company-suspended", 409)
    assert house.post("/v1/companies/aozora:resume", "operator", {"reason": "done"}).status_code == 200
    assert house.post("/v1/trades", "aozora", terms()).status_code == 201
    problem(house.post("/v1/companies/nobody:suspend", "operator", {"reason": "x"}), "company-not-found", 404)


def test_our_own_trouble_is_503_with_a_time_to_come_back_and_nothing_written(house: House) -> None:
    wanted, head = terms(), house.head()
    house.writer.refusal = LedgerReadOnly("the store may be behind", source="contract")
    response = house.post("/v1/trades", "aozora", wanted, key="later")
    assert problem(response, "ledger-read-only", 503)["values"] == {"source": "contract"}
    assert int(response.headers["retry-after"]) > 0
    house.writer.refusal = None
    house.keys.away = True
    response = house.post("/v1/trades", "aozora", wanted, key="later")
    problem(response, "signer-unavailable", 503)
    house.keys.away = False
    assert house.head() == head
    assert house.post("/v1/trades", "aozora", wanted, key="later").status_code == 201


def test_a_command_is_counted_by_type_and_outcome(house: House) -> None:
    wanted = terms()
    for _ in range(2):
        house.post("/v1/trades", "aozora", wanted, key="counted")
    house.post("/v1/trades", "aozora", {**wanted, "reference": "other"}, key="counted")
    text = house.get("/metrics").text
    for outcome in ("done", "repeated", "command-key-reused"):
        assert f'daicho_commands_total{{outcome="{outcome}",type="RecordTrade"}} 1.0' in text
    assert 'daicho_http_responses_total{status="409"} 1.0' in text
    assert f"daicho_head_position {house.head()}.0" in text
    assert "daicho_group_commands_count" in text


@pytest.mark.parametrize("company", ["aozora", None])
def test_a_token_without_the_scope_or_the_company_does_nothing(house: House, company: str | None) -> None:
    head = house.head()
    house.tokens["reader"] = house.token("r", "trade:read" if company else "trade:write", company)
    name = "missing-scope" if company else "missing-company"
    problem(house.post("/v1/trades", "reader", terms()), name, 403)
    trade = "01938a5e-7c00-7aaa-aaaa-0123456789ab"
    problem(house.post(f"/v1/trades/{trade}:confirm", "reader"), name, 403)
    assert house.head() == head

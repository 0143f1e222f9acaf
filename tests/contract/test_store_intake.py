"""Stores' notifications over HTTP: each row of the response matrix, what is stored, and what is answered when."""

import base64
import json
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from domain.errors import LedgerReadOnly, StorageUnavailable
from domain.ids import message_id, payload_owner
from simulator.authority import StoreCa
from stores.parcel_format import read_headers, read_proof, unpack_google
from tests import google_pushes
from tests.apple_payloads import LINE, notification, renewal, transaction, whole
from tests.apple_payloads import body as apple_body
from tests.google_pushes import envelope
from tests.store_house import APPLE, GOOGLE, StoreHouse, store_house

UUID_OF = "002e14d5-51f5-4503-b5a8-c3a1af68eb20"


@pytest.fixture
def at(tmp_path: Path) -> Iterator[StoreHouse]:
    with store_house(tmp_path) as house:
        yield house


# -- the response matrix, row by row: Apple ---------------------------------------------------------------------------


def test_a_valid_notification_is_answered_200_and_stored_byte_for_byte(at: StoreHouse) -> None:
    body = at.apple_body()
    response = at.post_apple(body)
    assert (response.status_code, at.outcomes()) == (200, ["stored"])
    entry = at.entries()[0]
    assert entry["type"] == "NotificationReceived"
    assert entry["aggregate_id"] == message_id("apple", "production", UUID_OF)
    assert entry["data"]["verdict"] == "valid"
    parcel = at.parcels.read(1, 1)[0]
    assert (parcel.payload, parcel.owner) == (entry["data"]["payload"], payload_owner("apple", LINE))
    assert at.opened(1) == body
    assert body not in parcel.sealed
    assert read_proof(parcel.proof).chain == tuple(at.ca.chain())
    headers = read_headers(parcel.headers)
    assert headers.label == "DID_RENEW"
    assert abs(headers.received_at - time.time() * 1000) < 60_000
    assert headers.headers["content-type"] == "application/json"


def test_a_duplicate_is_answered_200_and_stored_once(at: StoreHouse) -> None:
    body = at.apple_body()
    assert [at.post_apple(body).status_code for _ in range(3)] == [200] * 3
    assert at.outcomes() == ["stored", "repeated", "repeated"]
    assert (at.parcels.head(), len(at.entries())) == (1, 1)


def test_the_same_message_under_a_new_signature_is_a_duplicate(at: StoreHouse) -> None:
    now = int(time.time() * 1000)
    inner = {
        "signedTransactionInfo": at.ca.sign(transaction(now)), "signedRenewalInfo": at.ca.sign(renewal(now)),
    }  # fmt: skip
    outer = notification(now, **inner)
    assert [at.post_apple(apple_body(at.ca, outer)).status_code for _ in range(2)] == [200] * 2
    assert at.outcomes() == ["stored", "repeated"]


def test_the_same_id_with_other_bytes_is_answered_200_and_both_are_kept_with_an_alarm(
    at: StoreHouse, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = at.apple_body(), whole(at.ca, int(time.time() * 1000) - 5_000, "REFUND")
    assert [at.post_apple(each).status_code for each in (first, second)] == [200, 200]
    assert at.outcomes() == ["stored", "contradicted"]
    assert [entry["type"] for entry in at.entries()] == ["NotificationReceived", "NotificationContradicted"]
    assert [at.opened(1), at.opened(2)] == [first, second]
    assert "other bytes under a known id" in caplog.text


def test_an_unknown_type_is_answered_200_kept_and_counted(at: StoreHouse) -> None:
    assert at.post_apple(whole(at.ca, int(time.time() * 1000), "SOMETHING_NEW")).status_code == 200
    assert at.outcomes() == ["stored", "unknown_kind"]
    assert at.entries()[0]["data"]["verdict"] == "valid"


def test_a_wrong_signature_is_answered_401_and_a_sealed_sample_is_kept(at: StoreHouse) -> None:
    stranger = StoreCa()
    body = whole(stranger, int(time.time() * 1000))
    response = at.post_apple(body)
    assert (response.status_code, at.outcomes(), at.entries()) == (401, ["refused"], [])
    assert response.json()["type"] == "urn:daicho:problem:not-from-store"
    sample = at.quarantine.samples()[0]
    assert body[:40] not in sample
    assert body in at.reserve.seal.open(sample)


def test_a_foreign_app_is_answered_200_kept_as_foreign_and_told(
    at: StoreHouse, caplog: pytest.LogCaptureFixture
) -> None:
    now = int(time.time() * 1000)
    assert at.post_apple(apple_body(at.ca, notification(now, bundleId="com.example.other"))).status_code == 200
    assert at.outcomes() == ["stored", "foreign"]
    assert at.entries()[0]["data"]["verdict"] == "foreign"
    assert "apple: a message is foreign" in caplog.text


def test_revocation_that_cannot_be_asked_is_answered_200_and_kept_as_unverified(at: StoreHouse) -> None:
    at.ocsp.broken = b"no answer"
    assert at.post_apple(at.apple_body()).status_code == 200
    assert at.outcomes() == ["stored", "unverified"]
    assert at.entries()[0]["data"]["verdict"] == "unverified"


@pytest.mark.parametrize("declared", [True, False])
@pytest.mark.parametrize("path", [APPLE, GOOGLE])
def test_a_body_over_one_mebibyte_is_answered_413_and_its_begin_is_kept(
    at: StoreHouse, path: str, declared: bool
) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(1_600):  # 100 MB, of which little more than 1 MiB is read
            yield b"x" * 65_536

    content: Any = b"x" * 1_100_000 if declared else endless()
    response = at.house.request("POST", path, key=None, content=content)
    assert (response.status_code, at.outcomes()) == (413, ["too_large"])
    assert b"x" * 65_536 in at.reserve.seal.open(at.quarantine.samples()[0])
    assert b"x" * 65_537 not in at.reserve.seal.open(at.quarantine.samples()[0])


def test_a_slow_body_is_answered_408(at: StoreHouse) -> None:
    import asyncio

    async def slow() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.sleep(1.0)
        yield b"}"

    assert at.house.request("POST", APPLE, key=None, content=slow()).status_code == 408


GARBAGE = {
    "no JSON": b"signedPayload",
    "no UTF-8": b'{"signedPayload":"\xff"}',
    "nothing": b"",
    "an array": b"[]",
    "NaN": b'{"signedPayload":NaN}',
    "a key twice": b'{"signedPayload":"a","signedPayload":"b"}',
    "deep nesting": b'{"signedPayload":' + b"[" * 500_000 + b"]" * 500_000 + b"}",
    "no JWS": b'{"signedPayload":"a.b"}',
    "no base64": b'{"signedPayload":"!.!.!"}',
    "a number": b'{"signedPayload":12}',
}


@pytest.mark.parametrize("name", GARBAGE)
def test_garbage_is_answered_401_by_apples_endpoint(at: StoreHouse, name: str) -> None:
    assert at.post_apple(GARBAGE[name]).status_code == 401
    assert (at.outcomes(), at.entries()) == (["refused"], [])


@pytest.mark.parametrize("name", GARBAGE)
def test_garbage_is_answered_401_by_googles_endpoint_without_a_token(at: StoreHouse, name: str) -> None:
    assert at.post_google(GARBAGE[name], authorization="Bearer none").status_code == 401
    assert (at.outcomes(), at.entries()) == (["refused"], [])


# -- the response matrix, row by row: Google --------------------------------------------------------------------------


def test_a_valid_push_is_answered_204_and_stored_with_its_token(at: StoreHouse) -> None:
    body, authorization = envelope(google_pushes.notification()), at.google.bearer()
    response = at.post_google(body, authorization)
    assert (response.status_code, response.content, at.outcomes()) == (204, b"", ["stored"])
    pushed = unpack_google(at.opened(1))
    assert (pushed.body, pushed.authorization) == (body, authorization)
    key = read_proof(at.parcels.read(1, 1)[0].proof).key
    assert key is not None
    assert key["kty"] == "RSA"
    token = b"token-1"
    assert all(token not in row.sealed + row.headers + row.proof for row in at.parcels.read(1, 9))
    assert "token-1" not in json.dumps(at.entries())


def test_a_redelivery_with_another_token_and_count_is_a_duplicate(at: StoreHouse) -> None:
    pushed = google_pushes.notification()
    for attempt in range(1, 4):
        at.post_google(envelope(pushed, deliveryAttempt=attempt), at.google.bearer(jti=str(attempt)))
    assert at.outcomes() == ["stored", "repeated", "repeated"]
    assert len(at.entries()) == 1


def test_the_same_message_id_with_other_data_is_answered_204_and_both_are_kept(at: StoreHouse) -> None:
    at.post_google(envelope(google_pushes.notification(code=4)))
    assert at.post_google(envelope(google_pushes.notification(code=13))).status_code == 204
    assert at.outcomes() == ["stored", "contradicted"]
    assert at.parcels.head() == 2


def test_an_unknown_push_is_answered_204_kept_and_counted(at: StoreHouse) -> None:
    data = {"version": "1.0", "packageName": google_pushes.APP.package, "eventTimeMillis": "1", "newThing": {}}
    assert at.post_google(envelope(data)).status_code == 204
    assert at.outcomes() == ["stored", "unknown_kind"]


@pytest.mark.parametrize(
    "claims", [{"email": "other@p.iam.gserviceaccount.com"}, {"email_verified": "true"}, {"aud": "x"}, {"exp": 1}]
)
def test_a_token_of_another_tenant_is_answered_401(at: StoreHouse, claims: dict[str, Any]) -> None:
    assert at.post_google(authorization=at.google.bearer(**claims)).status_code == 401
    assert (at.outcomes(), at.entries()) == (["refused"], [])


@pytest.mark.parametrize("foreign", ["package", "subscription"])
def test_a_foreign_package_or_subscription_is_answered_204_and_kept_as_foreign(at: StoreHouse, foreign: str) -> None:
    other = {"packageName": "com.example.other"} if foreign == "package" else {}
    around = {"subscription": "projects/p/subscriptions/other"} if foreign == "subscription" else {}
    assert at.post_google(envelope({**google_pushes.notification(), **other}, **around)).status_code == 204
    assert at.outcomes() == ["stored", "foreign"]


@pytest.mark.parametrize("data", ["!not base64!", base64.b64encode(b"no JSON").decode()])
def test_garbage_with_a_valid_token_is_answered_204_and_kept_as_malformed(at: StoreHouse, data: str) -> None:
    assert at.post_google(envelope(data)).status_code == 204
    assert at.outcomes() == ["stored", "malformed"]
    assert at.entries()[0]["data"]["verdict"] == "malformed"


def test_a_key_that_was_rotated_just_now_is_answered_503_and_then_taken(at: StoreHouse) -> None:
    assert at.post_google().status_code == 204
    body = envelope(google_pushes.notification(), "2")
    response = at.post_google(body, at.google.bearer("two"))
    assert (response.status_code, at.parcels.head()) == (503, 1)
    assert int(response.headers["retry-after"]) > 0
    at.google_keys._next_try = float("-inf")  # thirty seconds go by
    at.google.published = ["one", "two"]
    assert at.post_google(body, at.google.bearer("two")).status_code == 204
    assert at.parcels.head() == 2


def test_a_flood_of_unknown_key_ids_asks_for_keys_once(at: StoreHouse) -> None:
    at.post_google()
    asked = len(at.key_stub.asked)
    for _ in range(50):
        assert at.post_google(authorization=at.google.bearer("two")).status_code == 503
    assert len(at.key_stub.asked) <= asked + 1


# -- when the ledger does not take it ---------------------------------------------------------------------------------


@pytest.mark.parametrize("trouble", [StorageUnavailable("disk full"), LedgerReadOnly("starting", source="start")])
@pytest.mark.parametrize("store", ["apple", "google"])
def test_what_the_ledger_refuses_goes_to_the_spool_and_is_drained_once(
    at: StoreHouse, trouble: Any, store: str
) -> None:
    def post() -> int:
        return (at.post_apple(body) if store == "apple" else at.post_google(body)).status_code

    body = at.apple_body() if store == "apple" else envelope(google_pushes.notification())
    at.house.writer.refusal = trouble
    well = 200 if store == "apple" else 204
    assert [post(), post()] == [well, well]
    assert at.outcomes() == ["spooled", "spooled"]
    assert all(b"signedPayload" not in at.spool.read(name) for name in at.spool.names())
    at.house.writer.refusal = None
    at.drain(1)
    assert (at.parcels.head(), len(at.entries()), at.spool.names()) == (1, 1, [])
    assert post() == well
    assert at.outcomes()[-1] == "repeated"


def test_when_the_keys_store_is_away_a_message_goes_to_the_spool(at: StoreHouse, monkeypatch: Any) -> None:
    def away(*_: object) -> bytes:
        raise StorageUnavailable("the vault does not answer")

    with monkeypatch.context() as patched:
        patched.setattr(at.keys, "seal", away)
        assert at.post_apple(at.apple_body()).status_code == 200
    assert at.outcomes() == ["spooled"]
    at.drain(1)
    assert at.parcels.head() == 1


@pytest.mark.parametrize("store", ["apple", "google"])
def test_when_no_medium_takes_it_the_answer_is_503_and_the_store_sends_it_again(at: StoreHouse, store: str) -> None:
    body = at.apple_body()
    at.house.writer.refusal, at.spool.refuses = StorageUnavailable("disk full"), True
    response = at.post_apple(body) if store == "apple" else at.post_google()
    assert (response.status_code, at.outcomes()) == (503, ["not_stored"])
    assert int(response.headers["retry-after"]) > 0
    at.house.writer.refusal = None
    assert (at.post_apple(body) if store == "apple" else at.post_google()).is_success
    assert at.parcels.head() == 1


def test_a_defect_of_our_verifier_keeps_the_message_to_be_judged_later(at: StoreHouse, monkeypatch: Any) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("stores.apple.verify.AppleVerifier.judge", broken)
    assert at.post_apple(at.apple_body()).status_code == 200
    assert at.outcomes() == ["stored", "unverified"]


def test_a_message_about_an_erased_line_is_sealed_under_its_own_name(at: StoreHouse) -> None:
    assert at.post_apple(at.apple_body()).status_code == 200
    at.keys.erase(payload_owner("apple", LINE))
    now = int(time.time() * 1000)
    outer = notification(now, signedTransactionInfo=at.ca.sign(transaction(now)))
    outer["notificationUUID"] = "11111111-51f5-4503-b5a8-c3a1af68eb20"
    body = apple_body(at.ca, outer)
    assert at.post_apple(body).status_code == 200
    assert at.parcels.read(2, 1)[0].owner == message_id("apple", "production", outer["notificationUUID"])
    assert at.opened(2) == body


def test_a_store_that_is_not_set_up_is_not_found(tmp_path: Path) -> None:
    from tests.api_support import House

    house = House(tmp_path)
    try:
        assert [house.post(path, key=None).status_code for path in (APPLE, GOOGLE)] == [404, 404]
    finally:
        house.close()


def test_a_push_that_names_no_purchase_is_answered_204_and_kept_as_malformed(at: StoreHouse) -> None:
    data = google_pushes.notification()
    del data["subscriptionNotification"]["purchaseToken"]
    assert at.post_google(envelope(data)).status_code == 204
    assert at.outcomes() == ["stored", "malformed"]

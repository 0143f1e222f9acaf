"""What is laid down of a message, and what is read out of it again."""

import time

import pytest

from domain.store_notification import Store
from simulator.authority import StoreCa
from stores.apple.verify import AppleApp, AppleVerifier
from stores.intake import AppleIntake, GoogleIntake, Judged
from stores.parcel_format import (
    ParcelHeaders,
    headers_json,
    kept_headers,
    pack_google,
    proof_json,
    read_headers,
    read_proof,
    unpack_google,
)
from stores.reading import NotSetUp, Reader
from stores.receive import arrived
from stores.verdict import MessageRefused, Verdict
from tests.apple_payloads import APP_ID, BUNDLE, whole
from tests.google_pushes import APP, envelope, notification

SECRET = "Bearer eyJhbGciOiJSUzI1NiJ9.secret"


@pytest.mark.parametrize("plain", [b"", b"{}", b'{"type":"google-push"}', b'{"type":"google-push","x":1}', b"\xff"])
def test_bytes_that_nobody_has_laid_down_are_refused(plain: bytes) -> None:
    for read in (unpack_google, read_headers, read_proof):
        if plain == b"{}" and read is read_proof:
            continue
        with pytest.raises(MessageRefused):
            read(plain)


def test_headers_that_are_kept_are_bounded_printable_and_no_secrets() -> None:
    kept = kept_headers({
        b"authorization": SECRET.encode(), b"cookie": b"a=b", b"user-agent": b"x" * 1_000 + b"\n",
        b"x-forwarded-for": b"1.2.3.4\r\n\xe9",
    })  # fmt: skip
    assert kept == {"user-agent": "x" * 512, "x-forwarded-for": "1.2.3.4???"}
    headers = ParcelHeaders(1, "valid", headers=kept)
    assert read_headers(headers_json(headers)) == headers
    assert read_proof(proof_json(chain=[b"a"], key={"kty": "RSA"})).chain == (b"a",)


def test_a_judged_message_shows_nothing_of_itself_and_neither_does_one_that_arrived() -> None:
    judged = Judged.unjudged(Store.GOOGLE, {b"authorization": SECRET.encode()}, b"body", "ZeroDivisionError")
    assert unpack_google(judged.plain).authorization == SECRET
    assert "secret" not in repr(judged) + repr(arrived(judged, ParcelHeaders(0, "unverified")))
    assert judged.kept


def test_only_what_is_valid_is_confirmed() -> None:
    ca = StoreCa()
    apple = AppleIntake(AppleVerifier(AppleApp(BUNDLE, APP_ID), [ca.root.der], online=False))
    body = whole(StoreCa(), int(time.time() * 1000))
    judged = apple.judge({}, body)
    assert (judged.verdict, apple.confirms) == (Verdict.INVALID, False)
    assert apple.confirm(judged, body) is judged
    assert GoogleIntake.confirm(None, judged, b"") is judged  # type: ignore[arg-type]


def test_a_message_of_a_store_that_is_not_set_up_any_more_waits() -> None:
    pushed = pack_google(SECRET, envelope(notification()))
    with pytest.raises(NotSetUp):
        Reader(None).read(pushed)
    said = Reader(APP).read(pushed)
    assert said.token == "token-1"
    assert "token-1" not in repr(said)


def test_a_message_of_another_app_says_nothing() -> None:
    with pytest.raises(MessageRefused, match="foreign"):
        Reader(APP).read(pack_google(SECRET, envelope({**notification(), "packageName": "com.example.other"})))


def test_what_an_older_release_has_kept_without_a_purchase_is_refused() -> None:
    data = notification()
    del data["subscriptionNotification"]["purchaseToken"]
    with pytest.raises(MessageRefused, match="purchaseToken"):
        Reader(APP).read(pack_google(SECRET, envelope(data)))

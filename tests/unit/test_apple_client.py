"""Apple's server API against a real HTTP server: pages, tokens, errors that pass and errors that do not."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from stores.apple.client import AppleClient, Missed, Status
from stores.errors import PurchaseGone, StoreAway, StoreRefused
from tests.http_stub import Answer, Asked, Stub, serving

KEY = ec.generate_private_key(ec.SECP256R1())
PEM = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


class Apple:
    """Answers what it is told to."""

    def __init__(self) -> None:
        self.answers: Callable[[Asked], Answer] = lambda _: Answer(b"")
        self.clock = 1_790_000_000.0

    def answer(self, asked: Asked) -> Answer:
        return self.answers(asked)


@pytest.fixture
def apple() -> Apple:
    return Apple()


@pytest.fixture
def stub(apple: Apple) -> Iterator[Stub]:
    with serving(apple.answer) as stub:
        yield stub


@pytest.fixture
def client(stub: Stub, apple: Apple) -> Iterator[AppleClient]:
    with httpx.Client(timeout=1.0) as http:
        yield AppleClient(http, PEM, "KID", "issuer", "com.example", base_url=stub.url, now=lambda: apple.clock)


def test_a_token_is_signed_for_our_app_and_renewed_before_it_runs_out(
    client: AppleClient, stub: Stub, apple: Apple
) -> None:
    for later in (0, 200, 100):
        apple.clock += later
        client.request_test()
    tokens = [asked.headers["authorization"].removeprefix("Bearer ") for asked in stub.asked]
    assert tokens[0] == tokens[1] != tokens[2]
    claims = jwt.decode(
        tokens[0], KEY.public_key(), ["ES256"], audience="appstoreconnect-v1",
        options={"verify_exp": False, "verify_iat": False},
    )  # fmt: skip
    assert (claims["iss"], claims["bid"], claims["exp"] - claims["iat"]) == ("issuer", "com.example", 300)
    assert jwt.get_unverified_header(tokens[0])["kid"] == "KID"
    assert "PRIVATE" not in repr(client)


def test_a_key_that_is_none_is_refused_without_showing_it() -> None:
    with httpx.Client() as http, pytest.raises(ValueError, match="not a private key"):
        AppleClient(http, b"secret", "KID", "issuer", "com.example")


def test_the_history_is_read_to_its_end(client: AppleClient, stub: Stub, apple: Apple) -> None:
    pages = [
        {"notificationHistory": [
            {"signedPayload": "a", "sendAttempts": [{"sendAttemptResult": "TIMED_OUT"}]},
            {"signedPayload": "b", "sendAttempts": [{"sendAttemptResult": "SUCCESS"}]}, "odd",
        ], "hasMore": True, "paginationToken": "next"},
        {"notificationHistory": [{"signedPayload": 1}, {"signedPayload": "c"}], "hasMore": False},
    ]  # fmt: skip
    apple.answers = lambda _: Answer(pages[len(stub.asked) - 1])
    found = list(client.history(1, 2, only_failures=True))
    assert found == [Missed("a", False), Missed("b", True), Missed("c", False)]
    assert json.loads(stub.asked[0].body) == {"startDate": 1, "endDate": 2, "onlyFailures": True}
    assert stub.asked[1].path.endswith("?paginationToken=next")


@pytest.mark.parametrize("page", [{}, {"hasMore": True}, {"hasMore": "false"}, {"hasMore": True, "paginationToken": 7}])
def test_a_history_that_breaks_off_is_not_read_to_its_end(client: AppleClient, apple: Apple, page: Any) -> None:
    apple.answers = lambda _: Answer({"notificationHistory": [{"signedPayload": "a"}], **page})
    history = client.history(1, 2)
    assert next(history) == Missed("a", False)
    with pytest.raises(StoreAway, match="whether it is the last"):
        next(history)


def test_a_history_without_end_is_given_up(client: AppleClient, apple: Apple, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stores.apple.client._MAX_PAGES", 2)
    apple.answers = lambda _: Answer({"hasMore": True, "paginationToken": "next"})
    with pytest.raises(StoreRefused, match="more pages"):
        list(client.history(1, 2))


def test_a_subscription_is_asked_for_and_what_is_odd_left_out(client: AppleClient, stub: Stub, apple: Apple) -> None:
    whole = {"originalTransactionId": "1", "status": 1, "signedTransactionInfo": "t", "signedRenewalInfo": "r"}
    odd: list[Any] = [{**whole, "status": "1"}, {**whole, "signedRenewalInfo": None}, {**whole, "status": True}, 7]
    apple.answers = lambda _: Answer({"data": [{"lastTransactions": [whole, *odd]}, None]})
    assert client.statuses("1/2") == [Status("1", 1, "t", "r")]
    assert stub.asked[0].path == "/inApps/v1/subscriptions/1%2F2"


def test_consumption_and_finishing_are_sent(client: AppleClient, stub: Stub, apple: Apple) -> None:
    apple.answers = lambda _: Answer(b"", 202)
    client.send_consumption("1", {"customerConsented": True})
    client.finish("1")
    assert [(asked.method, asked.path) for asked in stub.asked] == [
        ("PUT", "/inApps/v2/transactions/consumption/1"), ("POST", "/inApps/v1/transactions/1/finish"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (404, {"errorCode": 4040010}, PurchaseGone),
        (404, {"errorCode": 4040002}, StoreAway),
        (404, b"<html>", StoreAway),
        (404, {"errorCode": 5000000}, StoreAway),
        (404, {"errorCode": "4040010"}, StoreAway),
        (404, {"errorCode": [4040010]}, StoreAway),
        (500, {"errorCode": {"a": 1}}, StoreAway),
        (400, {"errorCode": 4000006}, StoreRefused),
        (401, b"Unauthenticated", StoreAway),
        (429, {"errorCode": 4290000}, StoreAway),
        (500, {"errorCode": 5000001}, StoreAway),
        (503, b"<html>", StoreAway),
        (200, b"<html>", StoreAway),
        (200, b"x" * 1_100_000, StoreAway),
        (400, {"errorCode": "odd"}, StoreRefused),
    ],
)
def test_what_passes_is_told_from_what_does_not(
    client: AppleClient, apple: Apple, status: int, body: Any, error: type[Exception]
) -> None:
    apple.answers = lambda _: Answer(body, status)
    with pytest.raises(error) as found:
        client.finish("secret-id")
    assert "secret-id" not in str(found.value)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("1790000030000", 30.0), ("1", 0.0), ("soon", None), ("", None), ("9" * 400, None), ("9" * 5_000, None)],
)
def test_apple_says_until_when_to_wait(client: AppleClient, apple: Apple, header: str, seconds: float | None) -> None:
    apple.answers = lambda _: Answer({"errorCode": 4290000}, 429, {"retry-after": header})
    with pytest.raises(StoreAway) as found:
        client.finish("1")
    assert found.value.retry_after_seconds == seconds


def test_a_server_that_is_away_passes() -> None:
    with httpx.Client(timeout=1.0) as http, pytest.raises(StoreAway, match="ConnectError"):
        AppleClient(http, PEM, "KID", "issuer", "com.example", base_url="http://127.0.0.1:1").finish("1")

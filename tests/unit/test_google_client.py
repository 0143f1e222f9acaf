"""Asking Google Play over HTTP: what was asked, what may be asked again, and nothing secret in what goes wrong."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from stores.errors import PurchaseGone, StoreAway, StoreError, StoreRefused
from stores.google import client as play
from stores.google.client import PlayClient
from tests.http_stub import Answer, Asked, Stub, serving

TOKEN = "secret/token+of a purchase"
ROOT = "/androidpublisher/v3/applications/com.example.daily"


@contextmanager
def google(answer: Callable[[Asked], Answer]) -> Iterator[tuple[Stub, PlayClient]]:
    with serving(answer) as stub, httpx.Client(timeout=2.0) as http:
        yield stub, PlayClient(http, "com.example.daily", lambda: "access-secret", base_url=stub.url)


def test_a_subscription_is_asked_for_by_its_token_and_with_ours() -> None:
    with google(lambda _: Answer({"etag": "e"})) as (stub, client):
        assert client.subscription(TOKEN) == {"etag": "e"}
        (asked,) = stub.asked
    assert (asked.method, asked.path) == (
        "GET", f"{ROOT}/purchases/subscriptionsv2/tokens/secret%2Ftoken%2Bof%20a%20purchase",
    )  # fmt: skip
    assert asked.headers["authorization"] == "Bearer access-secret"


def test_an_acknowledgement_may_be_answered_with_nothing() -> None:
    with google(lambda _: Answer(b"")) as (stub, client):
        client.acknowledge("daily.monthly", "token")
        (asked,) = stub.asked
    assert (asked.method, asked.path, asked.body) == (
        "POST", f"{ROOT}/purchases/subscriptions/daily.monthly/tokens/token:acknowledge", b"{}",
    )  # fmt: skip


def test_voided_purchases_are_read_page_by_page() -> None:
    def pages(asked: Asked) -> Answer:
        if "token=next" in asked.path:
            return Answer({"voidedPurchases": [{"orderId": "3"}]})
        more = {"tokenPagination": {"nextPageToken": "next"}}
        return Answer({"voidedPurchases": [{"orderId": "1"}, "odd", {"orderId": "2"}], **more})

    with google(pages) as (stub, client):
        assert [each["orderId"] for each in client.voided(1_795_000_000_000)] == ["1", "2", "3"]
    assert [asked.path.partition("?")[2] for asked in stub.asked] == [
        "startTime=1795000000000&type=1", "startTime=1795000000000&type=1&token=next",
    ]  # fmt: skip


@pytest.mark.parametrize("page", [{}, {"voidedPurchases": 7}, {"tokenPagination": 7}, {"tokenPagination": {}}])
def test_a_page_without_anything_is_the_last(page: dict[str, Any]) -> None:
    with google(lambda _: Answer(page)) as (stub, client):
        assert list(client.voided(0)) == []
    assert len(stub.asked) == 1


def test_pages_without_end_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(play, "_MAX_PAGES", 3)
    with google(lambda _: Answer({"tokenPagination": {"nextPageToken": "same"}})) as (stub, client):
        with pytest.raises(StoreRefused):
            list(client.voided(0))
        assert len(stub.asked) == 3


def test_a_word_on_a_refund() -> None:
    with google(lambda _: Answer({})) as (stub, client):
        client.review_refund("GPA.1..0", {"refundPreference": "DECLINE"})
        (asked,) = stub.asked
    assert (asked.path, asked.body) == (f"{ROOT}/orders/GPA.1..0:reviewrefund", b'{"refundPreference":"DECLINE"}')


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, StoreRefused), (409, StoreRefused), (404, PurchaseGone), (410, PurchaseGone),
        (301, StoreAway), (401, StoreAway), (403, StoreAway), (429, StoreAway), (500, StoreAway), (503, StoreAway),
    ],
)  # fmt: skip
def test_what_went_wrong_says_whether_it_may_be_asked_again_and_nothing_secret(
    status: int, error: type[StoreError]
) -> None:
    with google(lambda _: Answer({"error": {"message": TOKEN}}, status)) as (_, client), pytest.raises(error) as raised:
        client.subscription(TOKEN)
    assert type(raised.value) is error
    assert str(raised.value) == f"subscriptionsv2.get: status {status}"


@pytest.mark.parametrize("status", [404, 410])
@pytest.mark.parametrize("body", [b"<html>", b"", b'{"error":"gone"}'])
def test_a_proxy_does_not_say_that_a_purchase_is_gone(status: int, body: bytes) -> None:
    with google(lambda _: Answer(body, status)) as (_, client), pytest.raises(StoreAway):
        client.subscription(TOKEN)


@pytest.mark.parametrize(("header", "seconds"), [("7", 7.0), ("999999", 3_600.0), ("soon", None), ("", None)])
def test_how_long_google_asks_us_to_wait_is_told(header: str, seconds: float | None) -> None:
    waiting = Answer(b"", 429, {"retry-after": header})
    with google(lambda _: waiting) as (_, client), pytest.raises(StoreAway) as raised:
        client.subscription(TOKEN)
    assert raised.value.retry_after_seconds == seconds


def test_a_page_of_somebody_elses_is_no_answer() -> None:
    page, rule = Answer(b"<html>maintenance</html>"), "an answer that is not JSON"
    with google(lambda _: page) as (_, client), pytest.raises(StoreAway, match=rule):
        client.subscription(TOKEN)


def test_a_server_that_is_not_there_is_away_and_its_error_holds_no_token() -> None:
    with httpx.Client(timeout=2.0) as http:
        client = PlayClient(http, "com.example.daily", lambda: "access-secret", base_url="http://127.0.0.1:1")
        with pytest.raises(StoreAway) as raised:
            client.subscription(TOKEN)
    assert str(raised.value) == "subscriptionsv2.get: ConnectError"
    assert raised.value.__cause__ is None

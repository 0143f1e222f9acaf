"""The billing system's client against a real HTTP server: what was surely not done is told from what may have been."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from stores.answers import bounded
from stores.billing import BillingClient
from stores.errors import BillingAway, BillingRefused, BillingUnknown
from stores.strict_json import MAX_BYTES
from tests.http_stub import Answer, Asked, Stub, serving

SECRET = "a-secret-token"


def contract(number: int = 1, status: str = "active") -> dict[str, Any]:
    return {
        "contract_id": f"c-{number}", "user_id": "ann", "plan": "monthly", "external_key": "k:1", "status": status,
        "more": "of no interest",
    }  # fmt: skip


class Server:
    """Answers what it is told to."""

    def __init__(self) -> None:
        self.answers: Callable[[Asked], Answer] = lambda _: Answer(contract(), 201)

    def answer(self, asked: Asked) -> Answer:
        return self.answers(asked)


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def stub(server: Server) -> Iterator[Stub]:
    with serving(server.answer) as stub:
        yield stub


@pytest.fixture
def client(stub: Stub) -> Iterator[BillingClient]:
    with httpx.Client(timeout=0.5) as http:
        yield BillingClient(http, stub.url + "/", lambda: SECRET)


def test_a_contract_is_started_under_our_key(client: BillingClient, stub: Stub) -> None:
    made = client.start("ann", "monthly", "k:1")
    assert (made.contract_id, made.user, made.plan, made.key, made.active) == ("c-1", "ann", "monthly", "k:1", True)
    asked = stub.asked[0]
    assert (asked.method, asked.path) == ("POST", "/contracts")
    assert json.loads(asked.body) == {"user_id": "ann", "plan": "monthly", "external_key": "k:1"}
    assert asked.headers["authorization"] == f"Bearer {SECRET}"
    assert SECRET not in repr(client)


def test_contracts_are_found_by_our_key_and_ended(client: BillingClient, stub: Stub, server: Server) -> None:
    listed = [{**contract(), "external_key": "k:1 &"}, {**contract(2, "cancelled"), "external_key": "k:1 &"}]
    server.answers = lambda _: Answer({"contracts": listed})
    assert [each.active for each in client.of_key("k:1 &")] == [True, False]
    assert stub.asked[0].path == "/contracts?external_key=k%3A1+%26"
    server.answers = lambda _: Answer({**contract(1, "cancelled"), "contract_id": "c/1"})
    client.cancel("c/1")
    assert stub.asked[1].path == "/contracts/c%2F1/cancel"
    server.answers = lambda _: Answer({"error": {"code": "already_cancelled"}}, 409)
    client.cancel("c-1")


@pytest.mark.parametrize(
    "answer",
    [
        Answer(b"<html>We are sorry</html>", 200),
        Answer(contract(), 200),
        Answer(contract(2, "cancelled"), 200),
        Answer({**contract(), "status": "cancelling"}, 200),
        Answer(b"", 200),
        Answer({"error": {"code": "locked"}}, 409),
        Answer(b"<html>", 409),
        Answer(b"<html>", 404),
        Answer(b"<html>", 422),
        Answer(b"", 500),
    ],
    ids=[
        "page",
        "still active",
        "another one",
        "half way",
        "empty",
        "locked",
        "page 409",
        "page 404",
        "page 422",
        "500",
    ],
)
def test_nothing_but_a_cancelled_contract_says_that_it_is_ended(
    client: BillingClient, server: Server, answer: Answer
) -> None:
    server.answers = lambda _: answer
    with pytest.raises(BillingUnknown):
        client.cancel("c-1")


def test_a_cancellation_without_an_answer_in_time_may_be_done(client: BillingClient, server: Server) -> None:
    def slow(_: Asked) -> Answer:
        time.sleep(1.0)
        return Answer(contract(1, "cancelled"))

    server.answers = slow
    with pytest.raises(BillingUnknown, match="ReadTimeout"):
        client.cancel("c-1")


def test_an_answer_that_trickles_in_is_not_waited_for_for_ever(
    client: BillingClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stores.billing.bounded", lambda response: bounded(response, max_seconds=-1.0))
    with pytest.raises(BillingUnknown, match="AnswerTooLong"):
        client.start("ann", "monthly", "k:1")


@pytest.mark.parametrize(
    "changes", [{"user_id": "bob"}, {"plan": "yearly"}, {"external_key": "k:2"}, {"status": "cancelled"}]
)
def test_a_contract_that_was_not_asked_for_is_none_of_ours(
    client: BillingClient, server: Server, changes: dict[str, str]
) -> None:
    server.answers = lambda _: Answer({**contract(), **changes}, 201)
    with pytest.raises(BillingUnknown, match="another question"):
        client.start("ann", "monthly", "k:1")


def test_contracts_of_another_key_are_not_believed(client: BillingClient, server: Server) -> None:
    server.answers = lambda _: Answer({"contracts": [contract()]})
    with pytest.raises(BillingAway, match="another question"):
        client.of_key("k:2")


@pytest.mark.parametrize("answer", [Answer({"error": {"code": "gone"}}, 404), Answer(b"<html>", 404)])
def test_a_route_that_is_missing_refuses_nothing_and_tells_nothing(
    client: BillingClient, server: Server, answer: Answer
) -> None:
    server.answers = lambda _: answer
    with pytest.raises(BillingUnknown):
        client.start("ann", "monthly", "k:1")
    with pytest.raises(BillingAway):
        client.of_key("k:1")


def test_all_contracts_are_read_page_by_page(client: BillingClient, server: Server) -> None:
    def page(asked: Asked) -> Answer:
        number = int(asked.path.rpartition("=")[2])
        return Answer({"contracts": [contract(number)], "next_page": number + 1 if number < 3 else None})

    server.answers = page
    assert [each.contract_id for each in client.all()] == ["c-1", "c-2", "c-3"]


def test_pages_that_break_off_are_not_all_there_are(client: BillingClient, server: Server) -> None:
    server.answers = lambda _: Answer({"contracts": [contract()]})
    with pytest.raises(BillingAway, match="none of its own"):
        list(client.all())


def test_pages_without_end_are_given_up(client: BillingClient, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stores.billing.MAX_PAGES", 3)
    server.answers = lambda _: Answer({"contracts": [], "next_page": 1})
    with pytest.raises(BillingAway, match="more pages"):
        list(client.all())


def test_a_refusal_is_for_good_and_says_its_code(client: BillingClient, server: Server) -> None:
    server.answers = lambda _: Answer({"error": {"code": "unknown_plan", "message": "ann has no plan"}}, 422)
    with pytest.raises(BillingRefused) as error:
        client.start("ann", "x", "k")
    assert (error.value.code, "ann" in str(error.value)) == ("unknown_plan", False)
    server.answers = lambda _: Answer({"error": {"code": "unknown_contract"}}, 404)
    with pytest.raises(BillingRefused, match="unknown_contract"):
        client.cancel("c-9")


@pytest.mark.parametrize("body", [b"<html>", b'{"error":{"code":"a\\nb"}}', b'{"error":1}', b"\xff"])
def test_a_refusal_without_a_code_is_none_and_repeats_nothing_of_the_answer(
    client: BillingClient, server: Server, body: bytes
) -> None:
    server.answers = lambda _: Answer(body, 422)
    with pytest.raises(BillingUnknown, match=r"start: status 422$"):
        client.start("ann", "x", "k")


def test_maintenance_and_a_refused_connection_have_surely_done_nothing(client: BillingClient, server: Server) -> None:
    server.answers = lambda _: Answer(b"", 503, {"retry-after": "120"})
    with pytest.raises(BillingAway) as error:
        client.start("ann", "x", "k")
    assert error.value.retry_after_seconds == 120
    server.answers = lambda _: Answer(b"", 503, {"retry-after": "soon"})
    with pytest.raises(BillingAway) as error:
        client.start("ann", "x", "k")
    assert error.value.retry_after_seconds is None
    with httpx.Client(timeout=0.5) as http, pytest.raises(BillingAway, match="ConnectError"):
        BillingClient(http, "http://127.0.0.1:1", lambda: SECRET).start("ann", "x", "k")


@pytest.mark.parametrize(
    "answer",
    [
        Answer(b"<html>We are sorry</html>", 200),
        Answer(b"", 500),
        Answer({"contract_id": "c"}, 201),
        Answer(b"\xff", 201),
        Answer(b"x" * (MAX_BYTES + 1), 201),
        Answer(b"", 401),
    ],
    ids=["page with 200", "500", "half a contract", "no UTF-8", "too long", "401"],
)
def test_an_answer_that_tells_nothing_may_stand_for_a_contract(
    client: BillingClient, server: Server, answer: Answer
) -> None:
    server.answers = lambda _: answer
    with pytest.raises(BillingUnknown):
        client.start("ann", "x", "k")
    with pytest.raises(BillingAway):
        client.of_key("k")


def test_no_answer_in_time_may_stand_for_a_contract(client: BillingClient, server: Server) -> None:
    done = threading.Event()

    def slow(_: Asked) -> Answer:
        time.sleep(1.0)
        done.set()
        return Answer(contract(), 201)

    server.answers = slow
    with pytest.raises(BillingUnknown, match="ReadTimeout"):
        client.start("ann", "x", "k")
    assert done.wait(5)

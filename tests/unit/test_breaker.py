"""The breaker opens for trouble alone, lets one call through after a while, and closes when that goes well."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from stores.billing import Contract
from stores.breaker import GuardedBilling
from stores.errors import BillingAway, BillingRefused, BillingUnknown


class Client:
    """Raises what it is told to, or answers."""

    def __init__(self) -> None:
        self.error: BaseException | None = None
        self.calls = 0

    def start(self, *_: str) -> Contract:
        self._do()
        return Contract("c", "u", "p", "k", "active")

    def of_key(self, _: str) -> list[Contract]:
        self._do()
        return []

    def cancel(self, _: str) -> None:
        self._do()

    def pages(self) -> Any:
        for _ in range(2):
            self._do()
            yield [Contract("c", "u", "p", "k", "active")]

    def _do(self) -> None:
        self.calls += 1
        if self.error is not None:
            raise self.error


@pytest.mark.parametrize("error", [BillingAway("x"), BillingUnknown("x")])
def test_it_opens_after_trouble_in_a_row_and_closes_when_it_is_over(error: Exception) -> None:
    client = Client()
    guarded = GuardedBilling(client, failures=2, open_seconds=0.05)  # type: ignore[arg-type]
    client.error = error
    for _ in range(2):
        with pytest.raises(type(error)):
            guarded.start("u", "p", "k")
    assert guarded.is_open
    with pytest.raises(BillingAway) as away:
        guarded.of_key("k")
    assert client.calls == 2
    assert 0 < (away.value.retry_after_seconds or 0) <= 0.05
    time.sleep(0.06)
    client.error = None
    guarded.cancel("c")
    assert guarded.start("u", "p", "k").contract_id == "c"
    closed = not guarded.is_open
    assert closed
    assert [each.contract_id for each in guarded.all()] == ["c", "c"]


def test_a_refusal_is_an_answer() -> None:
    client = Client()
    guarded = GuardedBilling(client, failures=2)  # type: ignore[arg-type]
    client.error = BillingRefused("user_blocked")
    for _ in range(5):
        with pytest.raises(BillingRefused):
            guarded.start("u", "p", "k")
    assert not guarded.is_open


def test_calls_are_made_side_by_side() -> None:
    """Each waits for all the others to be under way: one at a time, none of them would ever end."""
    together = threading.Barrier(4, timeout=10.0)

    class Slow(Client):
        def of_key(self, _: str) -> list[Contract]:
            together.wait()
            return []

    guarded = GuardedBilling(Slow())  # type: ignore[arg-type]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(guarded.of_key, "abcd")) == [[], [], [], []]


def test_one_call_alone_finds_out_whether_it_is_back() -> None:
    client = Client()
    guarded = GuardedBilling(client, failures=1, open_seconds=0.01)  # type: ignore[arg-type]
    client.error = BillingAway("x")
    with pytest.raises(BillingAway):
        guarded.of_key("k")
    client.error = None
    time.sleep(0.02)
    inside, finish = threading.Event(), threading.Event()

    def slow(_: str) -> list[Contract]:
        inside.set()
        assert finish.wait(10)
        return []

    client.of_key = slow  # type: ignore[method-assign]
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(guarded.of_key, "k")
        assert inside.wait(10)
        with pytest.raises(BillingAway, match="a moment ago"):
            guarded.of_key("k")
        finish.set()
        assert first.result(10) == []
    assert not guarded.is_open


def test_a_call_of_before_that_ends_meanwhile_lets_no_second_one_through() -> None:
    client = Client()
    guarded = GuardedBilling(client, failures=1, open_seconds=0.01)  # type: ignore[arg-type]
    inside = {key: threading.Event() for key in ("before", "trial")}
    finish = {key: threading.Event() for key in inside}

    def answer(key: str) -> list[Contract]:
        if key in inside:
            inside[key].set()
            assert finish[key].wait(10)
        raise BillingAway("x")

    client.of_key = answer  # type: ignore[method-assign]
    with ThreadPoolExecutor(2) as pool:
        before = pool.submit(guarded.of_key, "before")
        assert inside["before"].wait(10)
        with pytest.raises(BillingAway):
            guarded.of_key("opens it")
        time.sleep(0.02)
        trial = pool.submit(guarded.of_key, "trial")
        assert inside["trial"].wait(10)
        finish["before"].set()
        with pytest.raises(BillingAway):
            before.result(10)
        time.sleep(0.02)
        with pytest.raises(BillingAway, match="a moment ago"):
            guarded.of_key("second")
        finish["trial"].set()
        with pytest.raises(BillingAway):
            trial.result(10)


def test_it_stays_open_for_as_long_as_the_billing_system_has_asked_for() -> None:
    client = Client()
    guarded = GuardedBilling(client, failures=1, open_seconds=0.01)  # type: ignore[arg-type]
    client.error = BillingAway("maintenance", 600.0)
    with pytest.raises(BillingAway):
        guarded.of_key("k")
    time.sleep(0.02)
    with pytest.raises(BillingAway) as away:
        guarded.of_key("k")
    assert 590 < (away.value.retry_after_seconds or 0) <= 600
    assert (guarded.is_open, client.calls) == (True, 1)


def test_a_process_that_is_being_stopped_says_nothing_of_the_billing_system() -> None:
    client = Client()
    guarded = GuardedBilling(client, failures=1)  # type: ignore[arg-type]
    client.error = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        guarded.of_key("k")
    assert not guarded.is_open


def test_pages_are_not_asked_for_while_it_is_open() -> None:
    client = Client()
    guarded = GuardedBilling(client, failures=1, open_seconds=60.0)  # type: ignore[arg-type]
    pages = guarded.all()
    assert next(pages).contract_id == "c"
    client.error = BillingAway("x")
    with pytest.raises(BillingAway):
        next(pages)
    with pytest.raises(BillingAway, match="a moment ago"):
        next(guarded.all())
    assert client.calls == 2

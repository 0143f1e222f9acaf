"""The breaker opens for trouble alone, lets one call through after a while, and closes when that goes well."""

import time
from typing import Any

import pytest

from stores.billing import Contract
from stores.breaker import GuardedBilling
from stores.errors import BillingAway, BillingRefused, BillingUnknown


class Client:
    """Raises what it is told to, or answers."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.calls = 0

    def start(self, *_: str) -> Contract:
        return self._do(Contract("c", "u", "p", "k", "active"))

    def of_key(self, _: str) -> list[Contract]:
        return self._do([])

    def cancel(self, _: str) -> None:
        return self._do(None)

    def all(self) -> Any:
        return iter([])

    def _do(self, result: Any) -> Any:
        self.calls += 1
        if self.error is not None:
            raise self.error
        return result


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
    assert (away.value.retry_after_seconds, client.calls) == (0.05, 2)
    time.sleep(0.06)
    client.error = None
    guarded.cancel("c")
    assert not guarded.is_open
    assert guarded.start("u", "p", "k").contract_id == "c"
    assert list(guarded.all()) == []


def test_a_refusal_is_an_answer() -> None:
    client = Client()
    guarded = GuardedBilling(client, failures=2)  # type: ignore[arg-type]
    client.error = BillingRefused("user_blocked")
    for _ in range(5):
        with pytest.raises(BillingRefused):
            guarded.start("u", "p", "k")
    assert not guarded.is_open

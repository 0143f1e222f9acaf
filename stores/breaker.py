"""A circuit breaker around the billing system: while it is away, nobody waits in vain and nobody adds to its load.

Only trouble counts: a refusal is an answer. After a while one call is let through to see whether it is back.
"""

from collections.abc import Callable, Iterator
from typing import Any, Final, TypeVar

import pybreaker

from stores.billing import BillingClient, Contract
from stores.errors import BillingAway, BillingRefused

T = TypeVar("T")
FAILURES: Final = 5
OPEN_SECONDS: Final = 10.0


class GuardedBilling:
    """`BillingClient` behind a breaker. From any thread; raises the same errors."""

    def __init__(self, client: BillingClient, *, failures: int = FAILURES, open_seconds: float = OPEN_SECONDS) -> None:
        self._client, self._open_seconds = client, open_seconds
        self._breaker = pybreaker.CircuitBreaker(
            fail_max=failures, reset_timeout=open_seconds, exclude=[BillingRefused], throw_new_error_on_trip=False
        )

    @property
    def is_open(self) -> bool:
        """True while calls are not even tried."""
        return bool(self._breaker.current_state == pybreaker.STATE_OPEN)

    def start(self, user: str, plan: str, key: str) -> Contract:
        """A new contract, each time it is called."""
        return self._guarded(self._client.start, user, plan, key)

    def of_key(self, key: str) -> list[Contract]:
        """All contracts that were ever started under a key of ours."""
        return self._guarded(self._client.of_key, key)

    def cancel(self, contract_id: str) -> None:
        """End a contract; one that is ended stays so."""
        self._guarded(self._client.cancel, contract_id)

    def all(self) -> Iterator[Contract]:
        """Every contract there is."""
        return self._client.all()

    def _guarded(self, call: Callable[..., T], *arguments: Any) -> T:
        try:
            result: T = self._breaker.call(call, *arguments)
        except pybreaker.CircuitBreakerError:
            raise BillingAway("the billing system was away a moment ago", self._open_seconds) from None
        return result

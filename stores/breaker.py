"""A circuit breaker around the billing system: while it is away, nobody waits in vain and nobody adds to its load.

Only trouble counts: a refusal is an answer. After a while, or after as long as the billing system has asked for, one
call is let through to see whether it is back. pybreaker counts and keeps the state; it holds its lock for as long as a
call lasts and goes by the wall clock, so calls are made outside of it and it is told afterwards how they went.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, Final, TypeVar

import pybreaker

from stores.billing import BillingClient, Contract
from stores.errors import BillingAway, BillingRefused

T = TypeVar("T")
FAILURES: Final = 5
OPEN_SECONDS: Final = 10.0


class GuardedBilling:
    """`BillingClient` behind a breaker. From any thread, side by side; raises the same errors."""

    def __init__(self, client: BillingClient, *, failures: int = FAILURES, open_seconds: float = OPEN_SECONDS) -> None:
        self._client, self._open_seconds = client, open_seconds
        self._breaker = pybreaker.CircuitBreaker(
            fail_max=failures, reset_timeout=0, exclude=[BillingRefused], throw_new_error_on_trip=False
        )
        self._lock = threading.Lock()
        self._until, self._trying = 0.0, False

    @property
    def is_open(self) -> bool:
        """True while calls are not even tried."""
        with self._lock:
            return self._left() > 0

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
        """Every contract there is; each page is asked for by itself, and not tried while the breaker is open."""
        pages = self._client.pages()
        while (page := self._guarded(next, pages, None)) is not None:
            yield from page

    # -- inside ------------------------------------------------------------------------------------------------------

    def _guarded(self, call: Callable[..., T], *arguments: Any) -> T:
        trial = self._admit()
        try:
            result: T = call(*arguments)
        except BaseException as error:
            self._went(error, trial=trial)
            raise
        self._went(None, trial=trial)
        return result

    def _left(self) -> float:
        """Seconds until a call is let through again."""
        return 0.0 if self._closed() else max(0.0, self._until - time.monotonic())

    def _closed(self) -> bool:
        return bool(self._breaker.current_state == pybreaker.STATE_CLOSED)

    def _admit(self) -> bool:
        """Whether this call is the one that finds out. Raises BillingAway for a call that is not to be tried."""
        with self._lock:
            if self._closed():
                return False
            left = self._left()
            if left > 0 or self._trying:
                raise BillingAway("the billing system was away a moment ago", left or self._open_seconds)
            self._trying = True
            return True

    def _went(self, error: BaseException | None, *, trial: bool) -> None:
        def again() -> None:
            if error is not None:
                raise error

        with self._lock:
            if trial:  # a call of before may still come to its end meanwhile
                self._trying = False
            if error is not None and not isinstance(error, Exception):
                return  # the process is being stopped: that says nothing of the billing system
            with suppress(Exception):  # the caller has it
                self._breaker.call(again)
            if not self._closed():
                asked = getattr(error, "retry_after_seconds", None) or 0.0
                self._until = time.monotonic() + max(self._open_seconds, asked)

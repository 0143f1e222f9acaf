"""The existing billing system: slow at times, never idempotent, and fond of error pages with status 200."""

import threading
import time
from dataclasses import asdict, dataclass
from typing import Any, Final

from simulator.faults import Faults

PAGE: Final = 100


@dataclass
class Contract:
    """A contract."""

    contract_id: str
    user_id: str
    plan: str
    external_key: str
    status: str = "active"


class Refused(Exception):
    """An answer that is none of success."""

    def __init__(self, status: int, code: str, **headers: str) -> None:
        super().__init__(code)
        self.status, self.code, self.headers = status, code, headers


class ErrorPage(Exception):
    """We are sorry."""


class Billing:
    """From any thread. `plans`: None takes every plan."""

    def __init__(self, faults: Faults, plans: set[str] | None = None) -> None:
        self.contracts: dict[str, Contract] = {}
        self.by_key: dict[str, list[Contract]] = {}
        self.blocked: set[str] = set()
        self._faults, self._plans = faults, plans
        self._lock = threading.Lock()

    def start(self, user: str, plan: str, key: str) -> dict[str, Any]:
        """A new contract, each time."""
        self._before()
        if self._plans is not None and plan not in self._plans:
            raise Refused(422, "unknown_plan")
        if user in self.blocked:
            raise Refused(422, "user_blocked")
        with self._lock:
            made = Contract(f"C-{len(self.contracts) + 1:08d}", user, plan, key)
            self.contracts[made.contract_id] = made
            self.by_key.setdefault(key, []).append(made)
        self._after()
        return asdict(made)

    def cancel(self, contract: str) -> dict[str, Any]:
        """End a contract."""
        self._before()
        with self._lock:
            found = self.contracts.get(contract)
            if found is None:
                raise Refused(404, "unknown_contract")
            if found.status == "cancelled":
                raise Refused(409, "already_cancelled")
            found.status = "cancelled"
        self._after()
        return asdict(found)

    def of_key(self, key: str) -> dict[str, Any]:
        """All that was started under a key."""
        self._before()
        return {"contracts": [asdict(each) for each in self.by_key.get(key, [])]}

    def page(self, number: int) -> dict[str, Any]:
        """A hundred contracts."""
        self._before()
        with self._lock:
            listed = list(self.contracts.values())[(number - 1) * PAGE : number * PAGE]
            more = len(self.contracts) > number * PAGE
        return {"contracts": [asdict(each) for each in listed], "next_page": number + 1 if more else None}

    def active(self) -> list[Contract]:
        """Those that somebody is charged for."""
        with self._lock:
            return [each for each in self.contracts.values() if each.status == "active"]

    def _before(self) -> None:
        if self._faults.billing_away:
            raise Refused(503, "maintenance", **{"retry-after": "1"})
        if self._faults.strikes("billing_errors"):
            raise ErrorPage
        if self._faults.strikes("billing_slow"):
            time.sleep(self._faults.billing_slow_seconds)
        if self._faults.strikes("billing_hang_before"):
            time.sleep(self._faults.billing_hang_seconds)
            raise ErrorPage

    def _after(self) -> None:
        if self._faults.strikes("billing_hang_after"):
            time.sleep(self._faults.billing_hang_seconds)

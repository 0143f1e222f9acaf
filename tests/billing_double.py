"""The existing billing system in memory: it does everything as often as it is told, and fails as a test says."""

from collections.abc import Callable
from dataclasses import dataclass, field

from stores.errors import BillingAway, BillingRefused, BillingUnknown


@dataclass
class Contract:
    """A contract there."""

    contract_id: str
    user: str
    plan: str
    key: str
    active: bool = True


@dataclass
class Billing:
    """`faults` are taken one for each call: away, refused, lost (done, not answered), late (done when it settles)."""

    contracts: list[Contract] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    late: list[Callable[[], object]] = field(default_factory=list)
    refuses: bool = False

    def start(self, user: str, plan: str, key: str) -> Contract:
        if self.refuses:
            raise BillingRefused("unknown_plan")
        return self._do("start", lambda: self._made(user, plan, key))

    def of_key(self, key: str) -> list[Contract]:
        self.calls.append("of_key")
        fault = self.faults.pop(0) if self.faults and self.faults[0] == "away" else ""
        if fault:
            raise BillingAway("nobody answers")
        return [contract for contract in self.contracts if contract.key == key]

    def cancel(self, contract_id: str) -> None:
        def end() -> Contract:
            found = next(each for each in self.contracts if each.contract_id == contract_id)
            found.active = False
            return found

        self._do("cancel", end)

    def settle(self) -> None:
        """What was still on its way is done now."""
        for do in self.late:
            do()
        self.late.clear()

    def active(self) -> list[Contract]:
        """Those that cost somebody money."""
        return [contract for contract in self.contracts if contract.active]

    def _made(self, user: str, plan: str, key: str) -> Contract:
        contract = Contract(f"c-{len(self.contracts) + 1}", user, plan, key)
        self.contracts.append(contract)
        return contract

    def _do(self, name: str, do: Callable[[], Contract]) -> Contract:
        self.calls.append(name)
        fault = self.faults.pop(0) if self.faults else ""
        if fault == "away":
            raise BillingAway("nobody answers", 5.0)
        if fault == "refused":
            raise BillingRefused("user_blocked")
        if fault == "late":
            self.late.append(do)
            raise BillingUnknown("no answer in time")
        made = do()
        if fault == "lost":
            raise BillingUnknown("no answer in time")
        return made

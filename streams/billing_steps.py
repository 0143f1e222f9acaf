"""A purchase's steps at the existing billing system, which does everything as often as it is told: ask before retry.

    RequestContract (one worker gets the attempt) ─▶ start ─▶ the contract, or nobody knows
                ▲                                                    │ settle, then ask by our key
                └──── it has none ◀──────────────────────────────────┘──▶ it has one: that is it

A request that was not answered may be carried out after we have asked; only when it has had time to settle does
"there is none" mean that there will be none.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from domain.purchase import PurchaseSaga
from domain.purchase_commands import RequestContract
from domain.purchase_table import Outcome
from stores.errors import BillingAway, BillingRefused, BillingUnknown
from streams.ledger_bridge import Bridge
from streams.purchase_outcomes import Report, Wait


class BillingPort(Protocol):
    """`stores.billing.BillingClient`. Raises BillingAway, BillingUnknown, BillingRefused."""

    def start(self, user: str, plan: str, key: str) -> Any: ...
    def of_key(self, key: str) -> list[Any]: ...
    def cancel(self, contract_id: str) -> None: ...


class NoContract(NamedTuple):
    """Stands for the contract where no billing system is set up."""

    contract_id: str = "none"


class NoBilling:
    """No billing system is set up: purchases go on without a contract."""

    def start(self, user: str, plan: str, key: str) -> NoContract:  # noqa: ARG002 the port's signature
        """Nothing to start."""
        return NoContract()

    def of_key(self, key: str) -> list[Any]:  # noqa: ARG002 the port's signature
        """Nothing is there."""
        return []

    def cancel(self, contract_id: str) -> None:
        """Nothing to cancel."""


@dataclass(slots=True)
class BillingSteps:
    """`reveal` gives (company, user) of a pseudonym; `plans` the billing system's name of a product, if it differs."""

    bridge: Bridge
    billing: BillingPort
    reveal: Callable[[str], tuple[str, str] | None]
    plans: Mapping[str, str] = field(default_factory=dict)
    settle_seconds: float = 60.0
    clock: Callable[[], float] = time.time
    _not_done: set[tuple[str, int, int]] = field(default_factory=set)

    def start(self, purchase: PurchaseSaga) -> Report | Wait:
        """A contract for the user."""
        revealed = self.reveal(purchase.user or "")
        if revealed is None:
            return Report(Outcome.REFUSED, "the user was erased")
        if purchase.asked_before:
            settling = self._settling(purchase)
            if settling is not None:
                return settling
            if self._left_over(purchase):
                return Report(Outcome.GIVE_UP, "a contract of an earlier round is there still")
            contract = self._only(purchase)
            if contract is not None:
                return Report(Outcome.OK, "the billing system has it", contract)
        return self._post(purchase, revealed[1])

    def cancel(self, purchase: PurchaseSaga) -> Report | Wait:
        """No contract of this purchase is left, nor will be."""
        if not purchase.asked_before:
            return Report(Outcome.OK, "there is none")
        settling = self._settling(purchase)
        if settling is not None:
            return settling
        try:
            ended = [self._end(contract) for contract in self._active(purchase)]
        except BillingRefused as refused:
            return Report(Outcome.REFUSED, str(refused))
        return Report(Outcome.OK, f"{len(ended)} ended" if ended else "there is none")

    # -- inside ------------------------------------------------------------------------------------------------------

    def _post(self, purchase: PurchaseSaga, user: str) -> Report | Wait:
        """One attempt, by whoever has taken the right to it."""
        attempt = purchase.attempt + 1
        request = RequestContract(
            purchase=purchase.id, round=purchase.round, attempt=attempt, asked=purchase.asked_before
        )
        # A crash after this leaves an attempt that was posted or not: it settles, and is asked for.
        if not self.bridge.do([(f"request {purchase.id} v{purchase.version}", request)]):
            return Wait(1.0, "another worker has this attempt")
        try:
            plan = self.plans.get(purchase.product, purchase.product)
            contract = self.billing.start(user, plan, purchase.contract_key)
        except BillingRefused as refused:
            return Report(Outcome.REFUSED, str(refused))
        except BillingAway:
            self._not_done.add((purchase.id, purchase.round, attempt))  # surely: nothing has to settle
            raise
        except BillingUnknown as unknown:
            return Wait(self.settle_seconds, str(unknown))
        return Report(Outcome.OK, "", contract.contract_id)

    def _settling(self, purchase: PurchaseSaga) -> Wait | None:
        """How long the last request may still be carried out; None when there is none such."""
        if purchase.contract is not None or not purchase.attempt:
            return None
        if (purchase.id, purchase.round, purchase.attempt) in self._not_done:
            return None
        told = self.bridge.last_entry(purchase.id, "ContractRequested")
        left = 0.0 if told is None else told.at + self.settle_seconds - self.clock()
        return Wait(left, "the billing system may still be at it") if left > 0 else None

    def _only(self, purchase: PurchaseSaga) -> str | None:
        """The contract of this round; what was made twice all the same is ended."""
        ours = sorted(each.contract_id for each in self.billing.of_key(purchase.contract_key) if each.active)
        for double in ours[1:]:
            self._end(double)
        return ours[0] if ours else None

    def _left_over(self, purchase: PurchaseSaga) -> bool:
        """Whether people have left a contract of an earlier round: then they say what becomes of it."""
        return any(each.active for key in purchase.earlier_keys for each in self.billing.of_key(key))

    def _active(self, purchase: PurchaseSaga) -> Iterator[str]:
        for key in (purchase.contract_key, *purchase.earlier_keys):
            yield from (each.contract_id for each in self.billing.of_key(key) if each.active)

    def _end(self, contract: str) -> str:
        self.billing.cancel(contract)
        return contract

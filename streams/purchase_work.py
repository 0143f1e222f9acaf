"""Due work `purchase`: the saga's engine. It does step after step until nothing is left, or something has to wait.

Before each step the purchase is read as stored; after it, what came of it is reported under a key that is made from the
purchase's version, so that of two workers one is heard and the other one reads on.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from domain.purchase import PurchaseSaga
from domain.purchase_commands import ReportStep
from domain.purchase_table import WORK, Outcome, Step
from storage.due_work import Lease
from streams.executors import Verdict as Done
from streams.executors import one_by_one
from streams.faults import one_line, printable
from streams.ledger_bridge import Bridge
from streams.purchase_outcomes import Report, Wait
from streams.purchase_steps import PurchaseSteps
from streams.store_tasks import About

MAX_STEPS: Final = 100
HOUR: Final = 3_600.0
PATIENCE_SECONDS: Final[Mapping[Step, float]] = {
    Step.VERIFY: 24 * HOUR,
    Step.START: 24 * HOUR,
    Step.ACKNOWLEDGE: 60 * HOUR,  # Google gives the money back after 72 h
    Step.CANCEL_CONTRACT: 7 * 24 * HOUR,
    Step.END_CONTRACT: 7 * 24 * HOUR,
    Step.GIVE_BACK: 7 * 24 * HOUR,
}
"""How long trouble is waited out, step by step; then people are asked. The way back is waited for longer."""


class PurchaseWork:
    """Drives purchases. `patience` as PATIENCE_SECONDS."""

    def __init__(
        self,
        bridge: Bridge,
        steps: PurchaseSteps,
        *,
        patience: Mapping[Step, float] = PATIENCE_SECONDS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._bridge, self._steps, self._patience, self._clock = bridge, steps, patience, clock

    def run(self, leases: Sequence[Lease], hold: Callable[[], None]) -> Done:
        """Drive each as far as it goes."""
        return one_by_one(leases, hold, self._do)

    def _do(self, lease: Lease) -> float | None:
        wait = self._drive(About.of(lease.payload).aggregate)
        return None if wait is None else wait.seconds

    def _drive(self, purchase_id: str) -> Wait | None:
        """Steps until there is none to be done (None), or one has to wait."""
        for _ in range(MAX_STEPS):
            purchase = self._bridge.load(PurchaseSaga, purchase_id)
            if purchase is None or purchase.state not in WORK:
                return None
            try:
                came = self._steps.run(purchase)
            except Exception as error:
                if not self._too_late(purchase):
                    raise
                came = Report(Outcome.GIVE_UP, one_line(error)[:500])
            if isinstance(came, Wait):
                if came.seconds is None or not self._too_late(purchase):
                    return came
                came = Report(Outcome.GIVE_UP, came.reason)
            self._report(purchase, came)
        raise RuntimeError("a purchase goes round in circles")

    def _report(self, purchase: PurchaseSaga, came: Report) -> None:
        # The step may have taken an attempt and so a version; whoever is slower than another worker says nothing new.
        report = ReportStep(
            purchase=purchase.id,
            round=purchase.round,
            step=purchase.state,
            outcome=came.outcome,
            detail=printable(came.detail),
            contract=came.contract,
        )
        # A crash before this runs the step again, which looks at what it did before.
        self._bridge.do([(f"report {purchase.id} v{purchase.version} a{purchase.attempt}", report)])

    def _too_late(self, purchase: PurchaseSaga) -> bool:
        """Whether the step has had its time: since the entry that has brought the purchase to it."""
        patience = self._patience.get(purchase.state)
        if patience is None:
            return False
        told = self._bridge.last_entry(
            purchase.id, "PurchaseAccepted", "PurchaseMoved", "PurchaseEnding", "PurchaseReopened"
        )
        return told is not None and self._clock() - told.at > patience

"""What is put before people (`people`), and what becomes of their decisions (`decide`).

A case names the purchase, the binding or the message that it is about, and its evidence by hash. What two persons have
decided is done by a command that names the case, and the case is closed.
"""

from collections.abc import Callable, Iterator, Sequence

import msgspec

from domain.case import Case, CaseKind, CaseState
from domain.commands import Command
from domain.errors import OutcomeNotAllowed, WrongState
from domain.ids import purchase_id
from domain.purchase import PurchaseSaga
from domain.purchase_commands import CloseCase, DecidePurchase, OpenCase
from domain.purchase_table import Step
from domain.store_identity import StoreIdentity
from domain.store_message import StoreMessage
from storage.due_work import Lease
from streams.executors import Verdict as Done
from streams.executors import one_by_one
from streams.faults import printable
from streams.ledger_bridge import Bridge
from streams.store_tasks import About

_REASON_CHARACTERS = 500


class _Moved(msgspec.Struct):
    detail: str = ""


class PeopleWork:
    """Due work `people`: opens cases."""

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge

    def run(self, leases: Sequence[Lease], hold: Callable[[], None]) -> Done:
        """Open what is to be opened; each stands for itself."""
        return one_by_one(leases, hold, lambda lease: self._open(About.of(lease.payload)))

    def _open(self, about: About) -> None:
        for case in self._cases(about):
            self._bridge.do([(f"open {case.case}", case)])

    def _cases(self, about: About) -> Iterator[OpenCase]:
        purchase = self._bridge.load(PurchaseSaga, about.aggregate)
        if purchase is not None:
            if purchase.state is Step.PARKED:
                told = self._bridge.last_entry(purchase.id, "PurchaseMoved")
                detail = "" if told is None else msgspec.json.decode(told.data, type=_Moved).detail
                yield _case(about, purchase.times_parked, f"{purchase.waiting}: {detail}", purchase.payload)
            return
        identity = self._bridge.load(StoreIdentity, about.aggregate)
        if identity is not None:
            buyer = self._bridge.load(PurchaseSaga, purchase_id(identity.subscription))
            if identity.claimants and (buyer is None or buyer.user not in identity.claimants):
                number = len(identity.claimants)
                yield _case(about, number, "somebody else lays claim to this line", str(about.position))
            return
        message = self._bridge.load(StoreMessage, about.aggregate)
        if message is not None and message.contradicted:
            number = len(message.payloads) - 1
            yield _case(about, number, "other bytes have come under a known id", *message.payloads)


class DecideWork:
    """Due work `decide`: does what was approved, and closes the case."""

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge

    def run(self, leases: Sequence[Lease], hold: Callable[[], None]) -> Done:
        """Do what was decided; each stands for itself."""
        return one_by_one(leases, hold, lambda lease: self._decide(About.of(lease.payload)))

    def _decide(self, about: About) -> None:
        case = self._bridge.load(Case, about.aggregate)
        if case is None or case.state is not CaseState.APPROVED or case.action is None:
            return
        closing: tuple[str, Command] = (
            f"close {case.id} v{case.version}", CloseCase(case=case.id, action=case.action)
        )  # fmt: skip
        if self._bridge.load(PurchaseSaga, case.about) is not None and case.kind in {
            CaseKind.SAGA_PARKED, CaseKind.IDENTITY_CONFLICT
        }:  # fmt: skip
            decision = DecidePurchase(
                purchase=case.about, case=case.id, action=case.action, reason=printable(case.reason)
            )
            try:
                # A crash after this closes the case at the next try: the decision under this key is known then.
                self._bridge.do([(f"decide {case.id} v{case.version}", decision)])
            except (OutcomeNotAllowed, WrongState):  # it has moved on by itself meanwhile
                closing = (f"settled {case.id} v{case.version}", CloseCase(case=case.id, action=None))
        self._bridge.do([closing])


def _case(about: About, number: int, reason: str, *evidence: str) -> OpenCase:
    return OpenCase(
        kind=CaseKind(about.case),
        about=about.aggregate,
        number=max(1, number),
        reason=printable(reason)[:_REASON_CHARACTERS],
        evidence=tuple(evidence)[:100],
    )

"""Case: something that only people can settle. One of them proposes what to do, another one approves it.

A case decides nothing by itself: what was approved is done by a command of its own, which names the case.
"""

from enum import StrEnum

from domain.aggregate import Aggregate, Event, event_of
from domain.errors import Malformed, SecondPersonNeeded, WrongState
from domain.ids import case_id
from domain.purchase_table import Action


class CaseKind(StrEnum):
    """What has happened."""

    SAGA_PARKED = "saga_parked"
    IDENTITY_CONFLICT = "identity_conflict"
    CONTRADICTION = "contradiction"  # other bytes under a known id
    GIVE_BACK = "give_back"  # a customer's money that no program can give back
    DEADLINE = "deadline"


class CaseState(StrEnum):
    """How far it is."""

    OPEN = "open"
    PROPOSED = "proposed"
    APPROVED = "approved"
    CLOSED = "closed"


class Case(Aggregate):
    """`about` is an aggregate's id; `action` what was proposed, by `proposed_by`, because of `reason`."""

    __slots__ = ("about", "action", "evidence", "kind", "opened_because", "proposed_by", "reason", "state")

    def __init__(self, aggregate_id: str) -> None:
        super().__init__(aggregate_id)
        self.kind = CaseKind.SAGA_PARKED
        self.about = self.opened_because = ""
        self.evidence: tuple[str, ...] = ()
        self.state = CaseState.OPEN
        self.withdraw_proposal()

    @classmethod
    def open(cls, kind: CaseKind, about: str, number: int, reason: str, evidence: tuple[str, ...]) -> "Case":
        """The `number`th case of its kind about an aggregate."""
        case = cls(case_id(kind, about, number))
        case.trigger(CaseOpened(kind, about, reason, evidence))
        return case

    def propose(self, action: Action, reason: str, by: str) -> None:
        """A person says what is to be done; a step is skipped for a reason only."""
        self._require(CaseState.OPEN)
        if action is Action.SKIP and not reason.strip():
            raise Malformed("a step is skipped for a reason", field="reason", rule="not empty where a step is skipped")
        self.trigger(CaseActionProposed(action, reason, by))

    def approve(self, action: Action, by: str) -> None:
        """Another person agrees to what was proposed, which is `action`."""
        self._require(CaseState.PROPOSED)
        if action is not self.action:
            raise WrongState(f"what was proposed is {self.action}", case=self.id, action=self.action)
        if by == self.proposed_by:
            raise SecondPersonNeeded("another person approves what you have proposed", case=self.id)
        self.trigger(CaseActionApproved(by))

    def withdraw(self, by: str) -> None:
        """A person takes a proposal back, his own or another one's."""
        self._require(CaseState.PROPOSED)
        self.trigger(CaseActionWithdrawn(by))

    def close(self, action: Action | None) -> bool:
        """`action`, which was approved, is done; or None: the matter has settled itself. False when closed already."""
        if self.state is CaseState.CLOSED:
            return False
        if action is not None:
            self.require_approved(action, self.about)
        self.trigger(CaseClosed(action))
        return True

    def require_approved(self, action: Action, about: str) -> None:
        """Raise WrongState unless two persons have decided to do that to that aggregate."""
        self._require(CaseState.APPROVED)
        if (action, about) != (self.action, self.about):
            raise WrongState("that is not what was approved", case=self.id, action=self.action, about=self.about)

    def withdraw_proposal(self) -> None:
        """Set that nothing is proposed (of events)."""
        self.action: Action | None = None
        self.reason = self.proposed_by = ""

    def _require(self, state: CaseState) -> None:
        if self.state is not state:
            raise WrongState(f"the case is {self.state}, not {state}", case=self.id, state=self.state)


@event_of(Case)
class CaseOpened(Event):
    """Something waits for people. `evidence`: hashes of payloads (SHA-256), or positions of entries."""

    kind: CaseKind
    about: str
    reason: str
    evidence: tuple[str, ...]

    def apply(self, case: Case) -> None:
        case.kind, case.about, case.opened_because, case.evidence = self.kind, self.about, self.reason, self.evidence


@event_of(Case)
class CaseActionProposed(Event):
    """A person has said what is to be done. `by` is his pseudonym."""

    action: Action
    reason: str
    by: str

    def apply(self, case: Case) -> None:
        case.action, case.reason, case.proposed_by = self.action, self.reason, self.by
        case.state = CaseState.PROPOSED


@event_of(Case)
class CaseActionApproved(Event):
    """Another person has agreed to it."""

    by: str

    def apply(self, case: Case) -> None:
        case.state = CaseState.APPROVED


@event_of(Case)
class CaseActionWithdrawn(Event):
    """The proposal is off."""

    by: str

    def apply(self, case: Case) -> None:
        case.state = CaseState.OPEN
        case.withdraw_proposal()


@event_of(Case)
class CaseClosed(Event):
    """It is settled: `action` is done, or (`null`) nothing had to be."""

    action: Action | None

    def apply(self, case: Case) -> None:
        case.state = CaseState.CLOSED

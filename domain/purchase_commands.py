"""What the ledger is asked to do about purchases, bindings and cases: by its own parts, and of cases by people."""

from typing import Annotated

from msgspec import Meta

from domain.case import CaseKind
from domain.commands import Command, Digest, Pseudonym, Reason, Uuid
from domain.ids import case_id, identity_id, purchase_id
from domain.purchase import Origin, Request
from domain.purchase_table import Action, EndReason, Outcome, Step
from domain.store_notification import Store, StoreEnvironment, StoreText

Detail = Annotated[str, Meta(max_length=500, pattern=r"\A[^\x00-\x1f\x7f]*\Z")]
"""A short text for people, on one line; never a secret and never an id of a store's."""
Round = Annotated[int, Meta(ge=1, lt=2**31)]
Evidence = Annotated[str, Meta(pattern=r"\A([0-9a-f]{64}|[1-9][0-9]{0,15})\Z")]
"""The SHA-256 of a payload, or the position of an entry."""


class IdentityCommand(Command, frozen=True, kw_only=True):
    """About the user to whom a line at a store is bound. `subscription` is the line's aggregate id."""

    subscription: Uuid

    @property
    def identity(self) -> str:
        """The aggregate that it is about."""
        return identity_id(self.subscription)


class ClaimIdentity(IdentityCommand, frozen=True, kw_only=True, tag=True):
    """Record that a user says that a line is his."""

    user: Pseudonym


class ProveIdentity(IdentityCommand, frozen=True, kw_only=True, tag=True):
    """Record that the store says so: the account token that came back from it is this user's."""

    user: Pseudonym


class TransferIdentity(IdentityCommand, frozen=True, kw_only=True, tag=True):
    """Record that people have given a line to another user."""

    before: Pseudonym
    after: Pseudonym
    reason: Reason


class ReleaseIdentity(IdentityCommand, frozen=True, kw_only=True, tag=True):
    """Record that a line is no longer this user's."""

    user: Pseudonym
    reason: Reason


class AcceptPurchase(Command, frozen=True, kw_only=True, tag=True):
    """Record that somebody has told of a purchase: it begins, is joined, or begins again.

    `payload` is the SHA-256 of what he sent, `user` a pseudonym where it is known.
    """

    subscription: Uuid
    store: Store
    environment: StoreEnvironment
    user: Pseudonym | None
    product: StoreText
    payload: Digest
    origin: Origin

    @property
    def purchase(self) -> str:
        """The aggregate that it is about."""
        return purchase_id(self.subscription)

    @property
    def request(self) -> Request:
        """What was told."""
        return Request(self.origin, self.user, self.product, self.payload)


class ReportStep(Command, frozen=True, kw_only=True, tag=True):
    """Record what has come of a step. `contract`: what the billing system calls it, of START that is ok only."""

    purchase: Uuid
    round: Round
    step: Step
    outcome: Outcome
    detail: Detail = ""
    contract: StoreText | None = None


class RequestContract(Command, frozen=True, kw_only=True, tag=True):
    """Take the right to post this attempt (from 1, by one more each) at the billing system; only one worker gets it.

    `asked`: the billing system was asked for the purchase's `contract_key` and `earlier_keys`, after the settle time,
    and has none. Only a line that it was never spoken to about may do without.
    """

    purchase: Uuid
    round: Round
    attempt: Round
    asked: bool = False


class EndPurchase(Command, frozen=True, kw_only=True, tag=True):
    """Record that the line is over at its store."""

    purchase: Uuid
    reason: EndReason


class DecidePurchase(Command, frozen=True, kw_only=True, tag=True):
    """Do to a parked purchase what two persons have decided in `case`."""

    purchase: Uuid
    case: Uuid
    action: Action
    reason: Detail = ""


class OpenCase(Command, frozen=True, kw_only=True, tag=True):
    """Put something before people: the `number`th case of its kind about an aggregate."""

    kind: CaseKind
    about: Uuid
    number: Round
    reason: Reason
    evidence: Annotated[tuple[Evidence, ...], Meta(max_length=100)] = ()

    @property
    def case(self) -> str:
        """The aggregate that it is about."""
        return case_id(self.kind, self.about, self.number)


class AskErasure(Command, frozen=True, kw_only=True, tag=True):
    """Record that a user is to be forgotten; `owners` name the keys of the payloads about the user's lines."""

    user: Pseudonym
    owners: Annotated[tuple[Uuid, ...], Meta(max_length=1_000)] = ()
    reason: Reason


class CaseCommand(Command, frozen=True, kw_only=True):
    """About an open case."""

    case: Uuid


class ProposeCaseAction(CaseCommand, frozen=True, kw_only=True, tag=True):
    """Say what is to be done (a person)."""

    action: Action
    reason: Detail = ""


class ApproveCaseAction(CaseCommand, frozen=True, kw_only=True, tag=True):
    """Agree to what was proposed, `action` (another person)."""

    action: Action


class WithdrawCaseAction(CaseCommand, frozen=True, kw_only=True, tag=True):
    """Take a proposal back (a person)."""


class CloseCase(CaseCommand, frozen=True, kw_only=True, tag=True):
    """Record that the approved action is done, or (None) that the matter has settled itself."""

    action: Action | None


PURCHASE_COMMANDS: tuple[type[Command], ...] = (
    ClaimIdentity,
    ProveIdentity,
    TransferIdentity,
    ReleaseIdentity,
    AcceptPurchase,
    ReportStep,
    RequestContract,
    EndPurchase,
    DecidePurchase,
    OpenCase,
    AskErasure,
    ProposeCaseAction,
    ApproveCaseAction,
    WithdrawCaseAction,
    CloseCase,
)

"""PurchaseSaga: how a purchase at a store becomes a contract at the billing system, and how it is undone or ended.

There is one saga for each line at a store, so whoever hears of a purchase meets the others in it: that is the semantic
lock. What it does next is `state`; the table is `purchase_table`. A line that is over and lives again goes through it
once more, as the next *round*. Events hold what followed from them; a replay works nothing out again.
"""

from enum import StrEnum
from typing import NamedTuple

from domain.aggregate import Aggregate, Event, event_of
from domain.errors import AskFirst, LineTaken, Malformed, OutcomeNotAllowed
from domain.ids import purchase_id
from domain.purchase_table import (
    ENDINGS,
    OVER,
    WAY_BACK,
    Action,
    EndReason,
    Outcome,
    Step,
    next_step,
)
from domain.store_notification import Store, StoreEnvironment


class Origin(StrEnum):
    """Who told of a purchase."""

    CLIENT = "client"
    NOTIFICATION = "notification"


class Request(NamedTuple):
    """What was told of a purchase: by whom, for which user (a pseudonym, if known), of what, in which bytes (hash)."""

    origin: Origin
    user: str | None
    product: str
    payload: str


class PurchaseSaga(Aggregate):
    """`payload` is what this round is about, `waiting` the step that a parked one has stopped at.

    `contract` is the billing system's name of the contract, as far as it is known. `attempt` counts the contracts
    requested in this round, `ending` says why the line is over at the store, `revival` what was told since then (or
    before this round was verified): the next round is about it. `times_parked` counts for ever.
    """

    __slots__ = (
        "attempt", "contract", "ending", "environment", "origin", "payload", "payloads", "product", "revival", "round",
        "rounds_at_billing", "state", "store", "subscription", "times_parked", "user", "waiting",
    )  # fmt: skip

    def __init__(self, aggregate_id: str) -> None:
        super().__init__(aggregate_id)
        self.subscription = ""
        self.store, self.environment = Store.APPLE, StoreEnvironment.SANDBOX
        self.payloads: set[str] = set()
        self.rounds_at_billing: list[int] = []
        self.round = self.times_parked = 0
        self.begin(Request(Origin.CLIENT, None, "", ""), Step.VERIFY)

    # -- what executors ask --------------------------------------------------------------------------------------------

    @property
    def contract_key(self) -> str:
        """The key of this round's contract at the billing system."""
        return f"{self.id}:{self.round}"

    @property
    def earlier_keys(self) -> tuple[str, ...]:
        """The keys of earlier rounds under which the billing system may have a contract still."""
        return tuple(f"{self.id}:{number}" for number in self.rounds_at_billing if number != self.round)

    @property
    def asked_before(self) -> bool:
        """True when a contract was ever requested or found, in any round: billing is asked before the next request."""
        return bool(self.rounds_at_billing)

    # -- what is told of it --------------------------------------------------------------------------------------------

    @classmethod
    def accept(cls, subscription: str, store: Store, environment: StoreEnvironment, request: Request) -> "PurchaseSaga":
        """A purchase on a line that none was heard of before."""
        purchase = cls(purchase_id(subscription))
        origin, user, product, payload = request
        purchase.trigger(PurchaseAccepted(subscription, store, environment, user, product, payload, origin))
        return purchase

    def join(self, request: Request) -> bool:
        """Take in that somebody has told of this purchase (again); False when it is nothing new.

        LineTaken when it is going on for another user.
        """
        new = request.payload not in self.payloads
        if new and self.state in OVER:
            self._reopen(request)
            return True
        if None not in {request.user, self.user} and request.user != self.user:
            if new and self._winding_down:
                return self._remember(request)
            raise LineTaken("another user is buying this line at the store", purchase=self.id)
        # the store may be asked at this moment, with what somebody has made up: its own word must not be lost by that
        verifying = Step.VERIFY in {self.state, self.waiting} and request.origin is Origin.NOTIFICATION
        remembered = new and (self._winding_down or verifying) and self._remember(request)
        return self._name(request.user) or remembered

    def end(self, reason: EndReason) -> bool:
        """The line is over at its store; False when that is known, or when the round is over, too."""
        if self.state in OVER or (self.ending is not None and self.revival is None):
            return False
        self.trigger(PurchaseEnding(self.round, reason, ENDINGS.get(self.state, self.state)))
        return True

    # -- what comes of its steps ---------------------------------------------------------------------------------------

    def report(self, number: int, step: Step, outcome: Outcome, detail: str, contract: str | None) -> bool:
        """What has come of a step of round `number`; False when that step is not the one to be done (any more).

        `contract`: the billing system's name of it, where START has come out well and nowhere else. OutcomeNotAllowed.
        """
        if number != self.round or step is not self.state:
            return False
        if (contract is not None) != (step is Step.START and outcome is Outcome.OK):
            raise Malformed("START names its contract when it is OK", field="contract", rule="of START that is ok only")
        if step is Step.BIND and outcome is Outcome.OK and self.user is None:
            raise OutcomeNotAllowed("nobody is known that the line could be bound to", purchase=self.id)
        after = self._after(outcome, None)
        if contract is not None:
            self.trigger(ContractFound(self.round, contract))
        self._move(outcome, after, detail)
        return True

    def request_contract(self, number: int, attempt: int, *, asked: bool) -> bool:
        """Let one worker post this attempt; False for every other one.

        `asked`: the billing system was asked for `contract_key` and `earlier_keys`, and has none. AskFirst unless it
        was, or was never spoken to about this line.
        """
        if (number, self.state, attempt) != (self.round, Step.START, self.attempt + 1):
            return False
        if self.asked_before and not asked:
            raise AskFirst("a contract may exist already: ask the billing system first", purchase=self.id)
        self.trigger(ContractRequested(self.round, attempt, asked))
        return True

    def decide(self, action: Action, reason: str) -> None:
        """What people have decided on a parked purchase; OutcomeNotAllowed otherwise."""
        outcome = Outcome(action)
        self._move(outcome, self._after(outcome, self.waiting), reason)

    # -- inside --------------------------------------------------------------------------------------------------------

    @property
    def _winding_down(self) -> bool:
        return self.ending is not None or (self.waiting or self.state) in WAY_BACK

    def _after(self, outcome: Outcome, waiting: Step | None) -> Step:
        over, lives = self.ending is not None, self._winding_down and self.revival is not None
        return next_step(self.state, outcome, waiting, over=over, lives=lives)

    def _move(self, outcome: Outcome, after: Step, detail: str) -> None:
        self.trigger(PurchaseMoved(self.round, self.state, outcome, after, detail))
        if after in OVER and self.revival is not None:
            self._reopen(self.revival)

    def _reopen(self, request: Request) -> None:
        """Begin the next round. It asks the store first: a late message of a line that has ended begins no contract."""
        origin, user, product, payload = request
        user = self.user if user is None else user
        self.trigger(PurchaseReopened(self.round + 1, payload, origin, user, product, self.state, Step.VERIFY))

    def _remember(self, request: Request) -> bool:
        """For the next round. The first that is told counts, but a store's word counts before a client's."""
        known = self.revival
        if known is not None and (known.origin, request.origin) != (Origin.CLIENT, Origin.NOTIFICATION):
            return False
        origin, user, product, payload = request
        self.trigger(PurchaseReopening(self.round, payload, origin, user, product))
        return True

    def _name(self, user: str | None) -> bool:
        if user is None or self.user is not None:
            return False
        self.trigger(PurchaseUserNamed(user))
        if self.waiting is Step.BIND:  # it waited for this
            self.decide(Action.RETRY, "the user is known")
        return True

    def begin(self, request: Request, state: Step) -> None:
        """Set what a round begins with (of events, which have decided it)."""
        self.origin, self.user, self.product, self.payload = request
        self.state = state
        self.waiting: Step | None = None
        self.ending: EndReason | None = None
        self.revival: Request | None = None
        self.contract: str | None = None
        self.attempt = 0

    def at_billing(self) -> None:
        """Note that the billing system may know this round (of events)."""
        if self.round not in self.rounds_at_billing:
            self.rounds_at_billing.append(self.round)


@event_of(PurchaseSaga)
class PurchaseAccepted(Event):
    """Somebody has told of a purchase on this line for the first time. `payload` is the SHA-256 of what he sent."""

    subscription: str
    store: Store
    environment: StoreEnvironment
    user: str | None
    product: str
    payload: str
    origin: Origin

    def apply(self, purchase: PurchaseSaga) -> None:
        purchase.subscription, purchase.store, purchase.environment = self.subscription, self.store, self.environment
        purchase.round = 1
        purchase.payloads.add(self.payload)
        purchase.begin(Request(self.origin, self.user, self.product, self.payload), Step.VERIFY)


@event_of(PurchaseSaga)
class PurchaseUserNamed(Event):
    """A purchase that a store told of first has a user."""

    user: str

    def apply(self, purchase: PurchaseSaga) -> None:
        purchase.user = self.user


@event_of(PurchaseSaga)
class PurchaseMoved(Event):
    """A step has come to something, or people have decided; `after` is what is to be done next."""

    round: int
    before: Step
    outcome: Outcome
    after: Step
    detail: str

    def apply(self, purchase: PurchaseSaga) -> None:
        purchase.state = self.after
        parked = self.after is Step.PARKED
        purchase.waiting = self.before if parked else None
        purchase.times_parked += parked
        if self.after is Step.BIND:  # verified: whatever else was told meanwhile was told of this
            purchase.revival = None
        elif self.after is Step.ACTIVATE:
            purchase.at_billing()
        if self.outcome is Outcome.OK and self.before in {Step.CANCEL_CONTRACT, Step.END_CONTRACT}:
            purchase.contract = None


@event_of(PurchaseSaga)
class ContractRequested(Event):
    """From here on the billing system may have a contract of this round. `asked`: it was asked, and had none."""

    round: int
    attempt: int
    asked: bool

    def apply(self, purchase: PurchaseSaga) -> None:
        purchase.attempt = self.attempt
        purchase.at_billing()


@event_of(PurchaseSaga)
class ContractFound(Event):
    """The billing system has a contract of this round, under this name."""

    round: int
    contract: str

    def apply(self, purchase: PurchaseSaga) -> None:
        purchase.contract = self.contract
        purchase.at_billing()


@event_of(PurchaseSaga)
class PurchaseEnding(Event):
    """The line is over at its store; `after` is what is to be done next."""

    round: int
    reason: EndReason
    after: Step

    def apply(self, purchase: PurchaseSaga) -> None:
        purchase.state, purchase.ending, purchase.revival = self.after, self.reason, None


@event_of(PurchaseSaga)
class PurchaseReopening(Event):
    """The line may live (again): once this round is over the next one is about this payload."""

    round: int
    payload: str
    origin: Origin
    user: str | None
    product: str

    def apply(self, purchase: PurchaseSaga) -> None:
        purchase.payloads.add(self.payload)
        purchase.revival = Request(self.origin, self.user, self.product, self.payload)


@event_of(PurchaseSaga)
class PurchaseReopened(Event):
    """The next round begins, at `state`; `reason` is what the one before has come to."""

    round: int
    payload: str
    origin: Origin
    user: str | None
    product: str
    reason: Step
    state: Step

    def apply(self, purchase: PurchaseSaga) -> None:
        purchase.round = self.round
        purchase.payloads.add(self.payload)
        purchase.begin(Request(self.origin, self.user, self.product, self.payload), self.state)

"""Store, ledger and billing system held against one another: each paid line has one contract, and none has no line.

    store   ◀── how each line stands ──▶  ledger  ◀── one contract for each purchase ──▶  billing system

What does not agree is looked at a second time, since the service goes on meanwhile. A difference is *explained* when
somebody is at it, or knows of it: a purchase in course, one that waits for people, a line at the turn of its period.
"""

import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple, Protocol

from cli.checking.entries import marked
from cli.checking.findings import Progress, Report
from domain.entry import parse_time
from domain.ids import purchase_id
from domain.purchase import PurchaseSaga
from domain.purchase_table import OVER, WORK, Step
from domain.store_notification import Ownership, State
from domain.subscription import Subscription
from domain.subscription_history import History
from stores.errors import PurchaseGone, StoreError
from streams.purchase_follow import ACCESS, ENDINGS

SETTLING_SECONDS: Final = 900.0
TURN_MS: Final = 2 * 3_600_000
FORGOTTEN_MS: Final = 60 * 86_400_000
"""Google forgets a purchase 60 days after it has expired; what ended longer ago is not asked for."""
LEDGER_BILLING, STORE_LEDGER = "ledger and billing", "store and ledger"
_OURS: Final = re.compile(r"\A[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}:[1-9][0-9]*\Z")
_MARK: Final = re.compile(rb'"aggregate":"(?:PurchaseSaga|Subscription)"')


class ContractsPort(Protocol):
    """`stores.breaker.GuardedBilling`."""

    def all(self) -> Iterator[Any]: ...
    def of_key(self, key: str) -> list[Any]: ...


class Sides(NamedTuple):
    """Where to look. `load` gives an aggregate as stored now; `reveal` (company, user) of a pseudonym, None if erased.

    `ask` gives how a line stands at its store: None where it cannot be asked about (erased, another environment, no API
    set up). Raises StoreError. `billing` None: no billing system is set up.
    """

    entries: Any
    load: Callable[[str], Any]
    reveal: Callable[[str], tuple[str, str] | None]
    ask: Callable[[Subscription], State | None]
    billing: ContractsPort | None
    plans: Mapping[str, str]


class TieOut:
    """One comparison. `report.findings` are what nobody can explain; what is explained is counted by its reason."""

    def __init__(
        self, sides: Sides, *, settling_seconds: float = SETTLING_SECONDS, clock: Callable[[], float] = time.time
    ) -> None:
        self._sides, self._settling, self._clock = sides, settling_seconds, clock
        self._last: dict[str, tuple[int, float]] = {}
        self.report = Report()

    def run(self, progress: Progress) -> Report:
        """Compare all. Raises BillingError where the billing system cannot be read to its end."""
        # what the billing system has comes first: whatever is in the ledger by then may only be newer
        contracts = [] if self._sides.billing is None else list(self._sides.billing.all())
        purchases, lines = self._aggregates(progress)
        if self._sides.billing is None:
            self.report.not_checked[LEDGER_BILLING] = "no billing system is set up (DAICHO_BILLING_URL)"
        else:
            self._contracts(contracts, purchases, progress)
        for number, line in enumerate(lines, 1):
            self._line(line)
            progress("lines", number, len(lines))
        return self.report

    def _aggregates(self, progress: Progress) -> tuple[list[str], list[str]]:
        """The ids of all purchases and lines, and when each was last heard of."""
        kinds: dict[str, str] = {}
        self.report.pinned = self._sides.entries.head()
        for position, envelope in marked(self._sides.entries, self.report.pinned, _MARK, progress):
            kinds[envelope.aggregate_id] = envelope.aggregate
            self._last[envelope.aggregate_id] = position, parse_time(envelope.recorded_at).timestamp()
        lines = [id_ for id_, kind in kinds.items() if kind == "Subscription"]
        return [id_ for id_, kind in kinds.items() if kind == "PurchaseSaga"], lines

    # -- ledger and billing system -------------------------------------------------------------------------------------

    def _contracts(self, contracts: Iterable[Any], purchases: list[str], progress: Progress) -> None:
        by_purchase: dict[str, list[Any]] = {}
        for contract in contracts:
            if not _OURS.match(contract.key):
                self.report.count("contracts of others")  # the billing system had customers before us
                continue
            self.report.count("contracts")
            by_purchase.setdefault(contract.key.partition(":")[0], []).append(contract)
        for number, id_ in enumerate(purchases, 1):
            self._purchase(id_, by_purchase.pop(id_, []))
            progress("purchases", number, len(purchases))
        for id_, left in by_purchase.items():
            if any(contract.active for contract in left) and not isinstance(self._sides.load(id_), PurchaseSaga):
                self.report.differs(LEDGER_BILLING, 0, f"contract {left[0].contract_id} belongs to no purchase")

    def _purchase(self, id_: str, contracts: list[Any]) -> None:
        self.report.count("purchases")
        found = self._sides.load(id_)
        if _disagreement(found, contracts, self._user(found), self._sides.plans) is None:
            return
        found = self._sides.load(id_)
        reason = _in_course(found)
        if reason is not None:  # nothing has to be asked again for that
            self.report.count(f"explained: {reason}")
            return
        what = _disagreement(found, self._ask_again(found), self._user(found), self._sides.plans)
        if what is not None:
            self._tell(LEDGER_BILLING, id_, f"purchase {id_}: {what}")

    def _ask_again(self, purchase: PurchaseSaga) -> list[Any]:
        billing = self._sides.billing
        keys = (purchase.contract_key, *purchase.earlier_keys)
        return [] if billing is None else [each for key in keys for each in billing.of_key(key)]

    def _user(self, purchase: PurchaseSaga) -> str | None:
        revealed = self._sides.reveal(purchase.user or "") if purchase.user else None
        return None if revealed is None else revealed[1]

    # -- store and ledger ----------------------------------------------------------------------------------------------

    def _line(self, id_: str) -> None:
        self.report.count("lines")
        line = self._sides.load(id_)
        self._paid_and_bought(line)
        if _long_over(line.history, self._now_ms()):
            self.report.count("not asked: over for 60 days")
            return
        try:
            theirs = self._sides.ask(line)
        except PurchaseGone:
            theirs = State.EXPIRED
        except StoreError as error:
            self.report.differs(STORE_LEDGER, 0, f"line {id_}: the store cannot be asked: {error}")
            return
        if theirs is None:
            self.report.count("not asked: no way to")
            return
        ours = self._sides.load(id_).history
        if _class(theirs) != _class(ours.state):
            turn = "at the turn of its period" if _at_its_turn(ours, self._now_ms()) else None
            self._tell(STORE_LEDGER, id_, f"line {id_}: {theirs} at the store, {ours.state} here", turn)
        else:
            self.report.count("asked")

    def _paid_and_bought(self, line: Subscription) -> None:
        """A line that gives access has a purchase; one that is over has none that is done."""
        history = line.history
        purchase = self._sides.load(purchase_id(line.id))
        family = history.plan is None or history.plan.ownership is Ownership.FAMILY
        if purchase is None and history.state in ACCESS and not family:
            self._tell(STORE_LEDGER, line.id, f"line {line.id} gives access, and is no purchase")
        elif purchase is not None and history.state in ENDINGS and purchase.state is Step.DONE:
            self._tell(STORE_LEDGER, line.id, f"line {line.id} is over, its purchase is not")

    def _tell(self, part: str, id_: str, what: str, reason: str | None = None) -> None:
        position, at = self._last.get(id_, (0, 0.0))
        if reason is None and self._clock() - at < self._settling:
            reason = "heard of a moment ago"
        if reason is None:
            self.report.differs(part, position, what)
        else:
            self.report.count(f"explained: {reason}")

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)


def _disagreement(
    purchase: PurchaseSaga, contracts: list[Any], user: str | None, plans: Mapping[str, str]
) -> str | None:
    """What the billing system ought to have otherwise; None where it has what it ought to."""
    active = [contract for contract in contracts if contract.active]
    if purchase.state is not Step.DONE:
        agrees = purchase.state in OVER and not active
        return None if agrees else f"{len(active)} active contracts of a purchase that is {purchase.state}"
    if len(active) != 1:
        return f"{len(active)} active contracts, not 1"
    contract = active[0]
    if purchase.contract is not None and contract.contract_id != purchase.contract:
        return f"contract {contract.contract_id}, not {purchase.contract}"
    if contract.plan != plans.get(purchase.product, purchase.product):
        return "the contract is for another plan"
    if user is not None and contract.user != user:
        return "the contract is another user's"
    return None


def _in_course(purchase: PurchaseSaga) -> str | None:
    if purchase.state is Step.PARKED:
        return "waits for people"
    return "in course" if purchase.state in WORK else None


def _class(state: State) -> str:
    """Stores name an end in several ways, and one that we know as superseded is expired to them."""
    return "over" if state in ENDINGS else str(state)


def _at_its_turn(history: History, now_ms: int) -> bool:
    expires_at = None if history.plan is None else history.plan.expires_at
    return expires_at is not None and abs(now_ms - expires_at) < TURN_MS


def _long_over(history: History, now_ms: int) -> bool:
    expires_at = None if history.plan is None else history.plan.expires_at
    return history.state in ENDINGS and expires_at is not None and now_ms - expires_at > FORGOTTEN_MS

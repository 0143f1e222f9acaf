"""The desk at which one group of units is decided: aggregates in hand, claims made, nothing stored yet.

All units of a group share it, so each decides on the result of those before it. It holds every aggregate that it has
touched (a cache may not evict what is in flight) and remembers at which version it took it up: these are the group's
read set, checked against the store under the write lock.
"""

from collections.abc import Callable, Collection, Mapping
from typing import TypeVar

from domain.aggregate import Aggregate, Event
from domain.case import Case
from domain.commands import Command
from domain.company import Company
from domain.entry import CommandRef, Entry
from domain.erasure import Erasure
from domain.errors import (
    BulkRejected,
    CaseNotFound,
    CommandKeyReused,
    CompanyNotFound,
    DaichoError,
    IdentityNotFound,
    MessageNotFound,
    PurchaseNotFound,
    ReferenceTaken,
    SignatureReplayed,
    SubscriptionNotFound,
    TradeNotFound,
    WalletNotFound,
)
from domain.ids import company_id, erasure_id
from domain.mapper import EntryMapper
from domain.orders import Decided, KnownCommand, Line, Order, Repeat, Unit
from domain.purchase import PurchaseSaga
from domain.store_identity import StoreIdentity
from domain.store_message import StoreMessage
from domain.subscription import Subscription
from domain.trade import Trade
from domain.wallet import Wallet

A = TypeVar("A", bound=Aggregate)
Load = Callable[[str], Aggregate | None]
LoadAt = Callable[[str, int], Aggregate | None]
Handler = Callable[["Desk", Order], Aggregate]
Forced = Mapping[CommandRef, DaichoError]


class Desk:
    """Decides units in order. `taken` are the claims among the orders' that are stored already.

    `absent` are ids of which the store is known to hold nothing, by a look under the write lock: they are not looked up
    again and are no part of the read set.
    `load` gives an aggregate as stored, or None: it may come from a cache, and the desk changes it in place. `load_at`
    replays one from the store as it was at a version.
    """

    def __init__(
        self,
        load: Load,
        load_at: LoadAt,
        mapper: EntryMapper,
        handlers: Mapping[type[Command], Handler],
        now_seconds: float,
        taken: set[str],
        absent: Collection[str] = (),
    ) -> None:
        self._load = load
        self._load_at = load_at
        self._mapper = mapper
        self._handlers = handlers
        self.now_seconds = now_seconds
        self.loaded: dict[str, int] = {}
        self._taken = set(taken)
        self._absent = absent
        self._in_hand: dict[str, Aggregate] = {}
        self._staged: dict[str, list[Event]] = {}
        self._seen: dict[str, Decided] = {}
        self._order_claims: list[str] = []

    # -- for handlers ------------------------------------------------------------------------------------------------

    def company(self, code: str) -> Company:
        """The company of that code; CompanyNotFound."""
        found = self._take(company_id(code))
        if not isinstance(found, Company):
            raise CompanyNotFound(f"no company {code!r}", company=code)
        return found

    def wallet(self, wallet_id: str) -> Wallet:
        """The wallet of that id; WalletNotFound."""
        found = self._take(wallet_id)
        if not isinstance(found, Wallet):
            raise WalletNotFound(f"no wallet {wallet_id}", wallet=wallet_id)
        return found

    def trade(self, trade_id: str) -> Trade:
        """The trade of that id; TradeNotFound."""
        found = self._take(trade_id)
        if not isinstance(found, Trade):
            raise TradeNotFound(f"no trade {trade_id}", trade=trade_id)
        return found

    def store_message(self, message_id: str) -> StoreMessage:
        """The message of that id; MessageNotFound."""
        found = self._take(message_id)
        if not isinstance(found, StoreMessage):
            raise MessageNotFound(f"no message {message_id}", notification=message_id)
        return found

    def subscription(self, subscription_id: str) -> Subscription:
        """The subscription of that id; SubscriptionNotFound."""
        found = self._take(subscription_id)
        if not isinstance(found, Subscription):
            raise SubscriptionNotFound(f"no subscription {subscription_id}", subscription=subscription_id)
        return found

    def identity(self, identity_id: str) -> StoreIdentity:
        """The binding of that id; IdentityNotFound."""
        found = self._take(identity_id)
        if not isinstance(found, StoreIdentity):
            raise IdentityNotFound(f"no binding {identity_id}", identity=identity_id)
        return found

    def purchase(self, purchase_id: str) -> PurchaseSaga:
        """The purchase of that id; PurchaseNotFound."""
        found = self._take(purchase_id)
        if not isinstance(found, PurchaseSaga):
            raise PurchaseNotFound(f"no purchase {purchase_id}", purchase=purchase_id)
        return found

    def case(self, case_id: str) -> Case:
        """The case of that id; CaseNotFound."""
        found = self._take(case_id)
        if not isinstance(found, Case):
            raise CaseNotFound(f"no case {case_id}", case=case_id)
        return found

    def erasure(self, user: str) -> Erasure | None:
        """The erasure of a user (a pseudonym), None when nobody has asked for it."""
        found = self._take(erasure_id(user))
        return found if isinstance(found, Erasure) else None

    def exists(self, aggregate_id: str) -> bool:
        """True when there is an aggregate of that id, stored or decided in this group."""
        return self._take(aggregate_id) is not None

    def add(self, aggregate: A) -> A:
        """Take a new aggregate in hand."""
        if aggregate.id not in self._absent:
            self.loaded.setdefault(aggregate.id, 0)
        self._in_hand[aggregate.id] = aggregate
        return aggregate

    def claim(self, order: Order) -> None:
        """Reserve the order's unique keys; the refusal that belongs to the first one that is taken."""
        for key in order.claims():
            if key in self._taken:
                raise claim_refusal(key)
            self._taken.add(key)
            self._order_claims.append(key)

    # -- for the writer ----------------------------------------------------------------------------------------------

    def decide(self, unit: Unit, known: Mapping[str, KnownCommand], forced: Forced) -> list[Line]:
        """Decide a unit: a line per order. `forced` are refusals that are certain already (too large, not signed)."""
        lines = [self._line(order, known, forced) for order in unit.orders]
        rejected = any(isinstance(line, DaichoError) or (unit.strict and isinstance(line, Repeat)) for line in lines)
        if rejected and len(unit.orders) > 1:
            return self._reject(lines)
        return lines

    def in_hand(self) -> list[Aggregate]:
        """The aggregates in hand, as they are after this group."""
        return list(self._in_hand.values())

    # -- inside ------------------------------------------------------------------------------------------------------

    def _line(self, order: Order, known: Mapping[str, KnownCommand], forced: Forced) -> Line:
        key = order.ref.key
        stored = known.get(key)
        if stored is not None:
            return Repeat(order, stored) if stored.body == order.ref.body else key_reused()
        earlier = self._seen.get(key)
        if earlier is not None:
            return Repeat(order, earlier) if earlier.order.ref.body == order.ref.body else key_reused()
        if forced and order.ref in forced:
            return forced[order.ref]
        self._order_claims = []
        try:
            aggregate = self._handlers[type(order.command)](self, order)
        except DaichoError as refusal:
            self._drop_claims(self._order_claims)
            return refusal
        events = aggregate.collect_events()
        entries: list[Entry] = [self._mapper.draft(event, order.actor, order.ref) for event in events]
        self._staged.setdefault(aggregate.id, []).extend(events)
        decided = Decided(order, events, entries, self._order_claims, aggregate.id, aggregate.version)
        self._seen[key] = decided
        return decided

    def _reject(self, lines: list[Line]) -> list[Line]:
        """Take back what the unit has decided. Its allowed orders answer BulkRejected: they may be sent again."""
        undone = [line for line in lines if isinstance(line, Decided)]
        for line in undone:
            self._seen.pop(line.order.ref.key, None)
            self._drop_claims(line.claims)
            staged = self._staged[line.aggregate_id]
            del staged[len(staged) - len(line.events) :]
        for aggregate_id in dict.fromkeys(line.aggregate_id for line in undone):
            self._restore(aggregate_id)
        taken_back = {id(line) for line in undone}
        return [
            bulk_rejected()
            if id(line) in taken_back or (isinstance(line, Repeat) and id(line.source) in taken_back)
            else line
            for line in lines
        ]

    def _restore(self, aggregate_id: str) -> None:
        """Bring an aggregate back to what was taken up plus what earlier units of this group have decided.

        From the store, never from the cache: the cached object is the one that the rejected unit has changed.
        """
        del self._in_hand[aggregate_id]
        taken_up = self.loaded.get(aggregate_id, 0)
        fresh = self._load_at(aggregate_id, taken_up) if taken_up else None
        for event in self._staged.get(aggregate_id, ()):
            fresh = event.mutate(fresh)
        if fresh is not None:
            self._in_hand[aggregate_id] = fresh

    def _drop_claims(self, keys: list[str]) -> None:
        self._taken.difference_update(keys)

    def _take(self, aggregate_id: str) -> Aggregate | None:
        aggregate = self._in_hand.get(aggregate_id)
        if aggregate is None:
            if aggregate_id in self._absent or self.loaded.get(aggregate_id) == 0:
                return None
            aggregate = self._load(aggregate_id)
            self.loaded.setdefault(aggregate_id, aggregate.version if aggregate is not None else 0)
            if aggregate is not None:
                self._in_hand[aggregate_id] = aggregate
        return aggregate


def key_reused() -> CommandKeyReused:
    """The refusal of a command key that stands for another body."""
    return CommandKeyReused("this Idempotency-Key was used before with another body", header="Idempotency-Key")


def bulk_rejected() -> BulkRejected:
    """The answer for an allowed order whose unit was rejected."""
    return BulkRejected("not done, because another command of this atomic bulk was refused")


def claim_refusal(key: str) -> DaichoError:
    """The refusal that belongs to a claim's kind."""
    kind, _, rest = key.partition("|")
    if kind == "ref":
        company, _, reference = rest.partition("|")
        return ReferenceTaken(f"{company} has used the reference {reference!r}", company=company, reference=reference)
    wallet, _, nonce = rest.partition("|")
    return SignatureReplayed("the signature's nonce has been used by this wallet", wallet=wallet, nonce=nonce)

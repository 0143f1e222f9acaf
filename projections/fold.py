"""What each event changes: a pure fold over rows in dictionaries, without input or output.

The caller decodes a batch, loads the rows that `Needs` asks for, folds event by event and stores what has changed.
The same fold answers `as_of`: it runs over one trade's history up to a position.
"""

from collections.abc import Callable, Iterable
from typing import Any, Final

from projections import events as ev
from projections.position import EntryCorrupt
from projections.rows import BalanceRow, CompanyRow, Pending, TradeRow, TradeTerms, WalletRow

_OPENING: Final = frozenset({"BookOpened", "CompanyRegistered", "WalletOpened", "BatchSigned", "TradeRecorded"})
Pair = tuple[str, str, str]  # lesser company code, greater company code, currency
Posting = tuple[int, int]  # position, units that the lesser company is owed more by the greater (negative: less)


class Needs:
    """The aggregates that a batch changes and that an earlier batch has made."""

    def __init__(self, heads: Iterable[ev.Head]) -> None:
        made: set[str] = set()
        self.companies: set[str] = set()
        self.wallets: set[str] = set()
        self.trades: set[str] = set()
        kinds = {"T": self.trades, "C": self.companies, "W": self.wallets}
        for head in heads:
            if head.type in _OPENING:
                made.add(head.aggregate_id)
            elif head.aggregate_id not in made and head.type not in ev.STORE_EVENTS:
                kinds[head.type[0]].add(head.aggregate_id)


class Fold:
    """The rows of a batch while events run over them.

    `companies`, `wallets` and `trades` hold the rows by aggregate id; `changed_*` the ids that must be stored; `terms`
    those of trades that are new in this batch; `entries`, `books` and `postings` grow by what each event adds.
    """

    def __init__(self, codec: ev.Codec) -> None:
        self._data = codec.data
        self._handlers = _HANDLERS
        self.companies: dict[str, CompanyRow] = {}
        self.wallets: dict[str, WalletRow] = {}
        self.trades: dict[str, TradeRow] = {}
        self.terms: dict[str, TradeTerms] = {}
        self.changed_companies: set[str] = set()
        self.changed_wallets: set[str] = set()
        self.changed_trades: set[str] = set()
        self.entries: list[tuple[Any, ...]] = []
        self.books: list[tuple[Any, ...]] = []
        self.store_index: list[tuple[Any, ...]] = []
        self.postings: dict[Pair, list[Posting]] = {}

    def apply(self, head: ev.Head, entry: bytes) -> None:
        """One event. EntryCorrupt when it acts on something that was never made."""
        trade, reader = self._handlers[head.type](self, head, self._data(head))
        self.entries.append((head.position, trade, reader, entry))

    # -- what handlers share -------------------------------------------------------------------------------------------

    def trade(self, head: ev.Head) -> TradeRow:
        """The row of the event's trade, marked as changed by it."""
        row = self.trades.get(head.aggregate_id)
        if row is None:
            raise EntryCorrupt(
                f"{head.type} at position {head.position} is about a trade never recorded", head.position
            )
        row.last_position = head.position
        self.changed_trades.add(row.id)
        return row

    def wallet(self, head: ev.Head) -> WalletRow:
        """The row of the event's wallet, marked as changed by it."""
        row = self.wallets.get(head.aggregate_id)
        if row is None:
            raise EntryCorrupt(f"{head.type} at position {head.position} is about a wallet never opened", head.position)
        row.version, row.last_position, row.updated_at = head.version, head.position, head.recorded_at
        self.changed_wallets.add(row.id)
        return row

    def company(self, head: ev.Head) -> CompanyRow:
        """The row of the event's company, marked as changed by it."""
        row = self.companies.get(head.aggregate_id)
        if row is None:
            raise EntryCorrupt(
                f"{head.type} at position {head.position} is about a company never registered", head.position
            )
        row.version, row.last_position, row.updated_at = head.version, head.position, head.recorded_at
        self.changed_companies.add(row.id)
        return row

    def post(self, head: ev.Head, row: TradeRow, units: int) -> None:
        """The buyer owes the seller so many units more."""
        if row.seller < row.buyer:
            pair = (row.seller, row.buyer, row.currency)
        else:
            pair, units = (row.buyer, row.seller, row.currency), -units
        self.postings.setdefault(pair, []).append((head.position, units))


def running(postings: dict[Pair, list[Posting]], balances: dict[Pair, BalanceRow]) -> list[tuple[int, int, str]]:
    """Rows of the table `postings`, pair by pair; `balances` (before the batch) are brought up to date."""
    rows = []
    for pair, changes in postings.items():
        row = balances.get(pair)
        if row is None:
            first = changes[0][0]
            row = balances[pair] = BalanceRow(*pair, "0", first, first)
        number, balance = row.pair, int(row.units)
        for position, units in changes:
            balance += units
            rows.append((number, position, str(balance)))
        row.units, row.position = str(balance), changes[-1][0]
    return rows


# -- handlers: (fold, head, data) -> (position of the trade, or else the only company that may read it) -------------

_Readers = tuple[int | None, str | None]
_EVERYBODY: Final = (None, None)
_NOBODY: Final = (None, "")  # but auditors: no company has an empty code


def _book_opened(fold: Fold, head: ev.Head, data: ev.BookOpened) -> _Readers:
    previous = bytes(data.previous).decode()
    fold.books.append(
        (
            head.position, head.log, data.chain_id, data.contract, data.log_key, data.promise_key,
            None if previous == "null" else previous, head.recorded_at,
        )
    )  # fmt: skip
    return _EVERYBODY


def _company_registered(fold: Fold, head: ev.Head, data: ev.CompanyRegistered) -> _Readers:
    at, now = head.position, head.recorded_at
    fold.companies[head.aggregate_id] = CompanyRow(
        at, head.aggregate_id, data.code, data.name, now, "active", "", head.version, at, now
    )
    fold.changed_companies.add(head.aggregate_id)
    return _EVERYBODY


def _company_state(state: str) -> Callable[[Fold, ev.Head, ev.Reason], _Readers]:
    def handle(fold: Fold, head: ev.Head, data: ev.Reason) -> _Readers:
        row = fold.company(head)
        row.state, row.reason = state, data.reason
        return _EVERYBODY

    return handle


def _wallet_opened(fold: Fold, head: ev.Head, data: ev.WalletOpened) -> _Readers:
    at, now = head.position, head.recorded_at
    fold.wallets[head.aggregate_id] = WalletRow(
        at, head.aggregate_id, data.company, data.subject, data.custody, now, data.address, "active", "",
        [(data.address, at)], head.version, at, now,
    )  # fmt: skip
    fold.changed_wallets.add(head.aggregate_id)
    return None, data.company


def _key_rotated(fold: Fold, head: ev.Head, data: ev.WalletKeyRotated) -> _Readers:
    row = fold.wallet(head)
    row.address = data.new
    row.keys.append((data.new, head.position))
    return None, row.company


def _wallet_state(state: str) -> Callable[[Fold, ev.Head, ev.Reason], _Readers]:
    def handle(fold: Fold, head: ev.Head, data: ev.Reason) -> _Readers:
        row = fold.wallet(head)
        row.state, row.reason = state, data.reason
        return None, row.company

    return handle


def _batch_signed(_: Fold, __: ev.Head, data: ev.BatchSigned) -> _Readers:
    return None, data.company


def _trade_recorded(fold: Fold, head: ev.Head, data: ev.TradeRecorded) -> _Readers:
    at, trade_id = head.position, head.aggregate_id
    units = int(data.amount.units)
    fold.trades[trade_id] = TradeRow(
        at, trade_id, data.seller, data.buyer, data.amount.currency, units, "recorded", units, "", None, at
    )
    fold.terms[trade_id] = TradeTerms(data.recorded_by, data.traded_on, data.description, data.reference)
    fold.changed_trades.add(trade_id)
    return at, None


def _trade_confirmed(fold: Fold, head: ev.Head, _: None) -> _Readers:
    row = fold.trade(head)
    row.state = "confirmed"
    fold.post(head, row, row.amount)
    return row.position, None


def _pending(row: TradeRow) -> Pending:
    if row.pending is None:
        row.pending = Pending()
    return row.pending


def _trade_disputed(fold: Fold, head: ev.Head, data: ev.Disputed) -> _Readers:
    row = fold.trade(head)
    row.disputed_by, _pending(row).dispute_reason = data.by, data.reason
    return row.position, None


def _dispute_withdrawn(fold: Fold, head: ev.Head, _: None) -> _Readers:
    row = fold.trade(head)
    row.disputed_by = _pending(row).dispute_reason = ""
    return row.position, None


def _settlement_proposed(fold: Fold, head: ev.Head, data: ev.Settlement) -> _Readers:
    row = fold.trade(head)
    pending = _pending(row)
    pending.proposed, pending.proposed_by, pending.proposed_on = data.amount.units, data.by, data.settled_on
    return row.position, None


def _trade_settled(fold: Fold, head: ev.Head, data: ev.Settlement) -> _Readers:
    row = fold.trade(head)
    units = int(data.amount.units)
    if data.amount.currency != row.currency or units > row.open:
        raise EntryCorrupt(
            f"position {head.position} settles {units} {data.amount.currency} of {row.open} {row.currency} open",
            head.position,
        )
    row.open -= units
    if not row.open:
        row.state = "settled"
    if row.pending is not None:
        row.pending.settle()
    fold.post(head, row, -units)
    return row.position, None


def _reversal_proposed(fold: Fold, head: ev.Head, data: ev.By) -> _Readers:
    row = fold.trade(head)
    _pending(row).reversal_by = data.by
    return row.position, None


def _trade_reversed(fold: Fold, head: ev.Head, _: None) -> _Readers:
    row = fold.trade(head)
    if row.state == "confirmed":
        fold.post(head, row, -row.amount)
    row.state, row.open = "reversed", 0
    if row.pending is not None:
        row.pending.settle()
    return row.position, None


def _note_added(fold: Fold, head: ev.Head, _: None) -> _Readers:
    return fold.trade(head).position, None


def _identity_claimed(fold: Fold, head: ev.Head, data: ev.IdentityClaimed) -> _Readers:
    fold.store_index.append((head.position, "line", head.aggregate_id, data.subscription))
    fold.store_index.append((head.position, "user", data.user, data.subscription))
    return _NOBODY


def _identity_transferred(fold: Fold, head: ev.Head, data: ev.IdentityTransferred) -> _Readers:
    fold.store_index.append((head.position, "moved", data.after, head.aggregate_id))
    return _NOBODY


def _purchase_accepted(fold: Fold, head: ev.Head, data: ev.PurchaseAccepted) -> _Readers:
    if data.user is not None:
        fold.store_index.append((head.position, "user", data.user, data.subscription))
    return _NOBODY


def _charged(fold: Fold, head: ev.Head, data: ev.SubscriptionCharged) -> _Readers:
    fold.store_index.append((head.position, "charge", data.charge.key, head.aggregate_id))
    return _NOBODY


def _case_opened(fold: Fold, head: ev.Head, data: ev.CaseOpened) -> _Readers:
    fold.store_index.append((head.position, "case", data.kind, head.aggregate_id))
    return _NOBODY


def _of_a_store(fold: Fold, head: ev.Head, data: None) -> _Readers:  # noqa: ARG001 the table's signature
    return _NOBODY


_HANDLERS: Final[dict[str, Callable[[Fold, ev.Head, Any], _Readers]]] = {
    "BookOpened": _book_opened,
    "CompanyRegistered": _company_registered,
    "CompanySuspended": _company_state("suspended"),
    "CompanyResumed": _company_state("active"),
    "WalletOpened": _wallet_opened,
    "WalletKeyRotated": _key_rotated,
    "WalletFrozen": _wallet_state("frozen"),
    "WalletUnfrozen": _wallet_state("active"),
    "WalletClosed": _wallet_state("closed"),
    "BatchSigned": _batch_signed,
    "TradeRecorded": _trade_recorded,
    "TradeConfirmed": _trade_confirmed,
    "TradeDisputed": _trade_disputed,
    "TradeDisputeWithdrawn": _dispute_withdrawn,
    "TradeSettlementProposed": _settlement_proposed,
    "TradeSettled": _trade_settled,
    "TradeReversalProposed": _reversal_proposed,
    "TradeReversed": _trade_reversed,
    "TradeNoteAdded": _note_added,
    **dict.fromkeys(ev.STORE_EVENTS, _of_a_store),
    "IdentityClaimed": _identity_claimed,
    "PurchaseAccepted": _purchase_accepted,
    "IdentityTransferred": _identity_transferred,
    "SubscriptionCharged": _charged,
    "CaseOpened": _case_opened,
}

"""The bodies that the API answers with, beyond the read models' own views. Their names are stable."""

from typing import Any, Generic, TypeVar

import msgspec

from domain.purchase_table import Step
from domain.store_notification import Store, StoreEnvironment
from projections.views import (
    AnchorView,
    BalanceView,
    CheckpointRef,
    HistoryView,
    Money,
    ReceiptView,
    TradeView,
)

T = TypeVar("T")


class EntryShown(msgspec.Struct, frozen=True):
    """An entry: its exact bytes as a string, its leaf hash in base64 (null in a dry run: it has no place yet)."""

    position: int
    leaf_hash: str | None
    entry: str


class CommandAnswer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a command led to. `promise` is the signed note over `entries`; a dry run has none and writes nothing."""

    id: str
    version: int
    position: int
    entries: list[EntryShown]
    promise: str | None
    dry_run: bool = False


class PurchaseAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A purchase: `state` is the step to be done next, or what it has come to; `waiting` the step it has stopped at."""

    id: str
    subscription: str
    store: Store
    environment: StoreEnvironment
    product: str
    state: Step
    round: int
    waiting: Step | None


class UserAnswer(CommandAnswer, frozen=True, kw_only=True, omit_defaults=True):
    """A user's wallet, as it was opened."""

    wallet: str
    company: str
    custody: str
    address: str


class LineAnswer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One command of a bulk: as `CommandAnswer` without promise, or its `problem`. `line` counts commands from 0."""

    line: int
    status: int
    id: str | None = None
    version: int | None = None
    position: int | None = None
    entries: list[EntryShown] | None = None
    hit: bool = False
    problem: Any = None


class BulkEnd(msgspec.Struct, frozen=True, kw_only=True):
    """The last line of a bulk's answer: `batch` is the entry that signs the others, `promise` covers all of them."""

    done: int
    refused: int
    batch: EntryShown | None
    promise: str | None
    dry_run: bool


class PageOf(msgspec.Struct, Generic[T], frozen=True):
    """Part of a list; `next` is the cursor of the following part, null at the end."""

    items: list[T]
    next: str | None


class TradeAnswer(TradeView, frozen=True):
    """A trade, and where its latest entry stands in log and chain."""

    receipt: ReceiptView | None


class HistoryItem(HistoryView, frozen=True):
    """One event of a trade, and where its entry stands in log and chain."""

    receipt: ReceiptView | None


class History(msgspec.Struct, frozen=True):
    """Every event of a trade, oldest first."""

    items: list[HistoryItem]


class Balances(msgspec.Struct, frozen=True):
    """A company's balances by counterparty and currency, and their totals per currency."""

    company: str
    items: list[BalanceView]
    totals: list[Money]


class EntryAnswer(msgspec.Struct, frozen=True):
    """An entry and its receipt: checkpoint and anchor are null until there are some that cover it."""

    position: int
    leaf_hash: str
    entry: str
    checkpoint: CheckpointRef | None
    anchor: AnchorView | None


class ProofAnswer(msgspec.Struct, frozen=True):
    """An RFC 6962 inclusion proof, hashes in base64: leaf `position` - 1 in the tree of `size` leaves under `root`."""

    position: int
    leaf_hash: str
    size: int
    root: str
    inclusion: list[str]
    checkpoint: str


class BookAnswer(msgspec.Struct, frozen=True):
    """The ledger's identity, its published head, and a policy for daicho-verify to be checked and kept by its user."""

    origin: str
    chain_id: int
    contract: str
    log_id: str
    log_key: str
    promise_key: str
    publish_by_seconds: float
    log_entries: str
    size: int
    root: str | None
    checkpoint: str | None
    policy: dict[str, Any]


class TypedDataAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What to sign. Then send the command with `signature` {deadline, nonce, value}, and a new trade with this id."""

    typed_data: dict[str, Any]
    nonce: str
    deadline: int
    wallet: str
    trade: str | None


class RpcRequest(msgspec.Struct, frozen=True, omit_defaults=True):
    """A JSON-RPC 2.0 request."""

    method: str
    jsonrpc: str = "2.0"
    params: list[Any] = []
    id: int | str | None = None

"""What the read models answer: the payload shapes of API, webhooks and live streams. Their names are stable.

Hashes and digests are hex digits (with 0x where Ethereum writes it so), amounts objects of currency and integer minor
units in a string, times UTC with microseconds and `Z`, positions integers from 1. A field without a value is null.
"""

from typing import Generic, TypeVar

import msgspec

T = TypeVar("T")


class Money(msgspec.Struct, frozen=True):
    """An amount in integer minor units; balances may be negative and of any size."""

    currency: str
    units: str


class Page(msgspec.Struct, Generic[T], frozen=True):
    """Part of a list; `next` continues it (as the query's cursor), null at the end."""

    items: list[T]
    next: int | None


class CompanyView(msgspec.Struct, frozen=True):
    """A company; `state` active or suspended, `reason` of the last change of it."""

    code: str
    name: str
    state: str
    reason: str
    registered_at: str
    updated_at: str
    version: int
    position: int
    last_position: int


class KeyView(msgspec.Struct, frozen=True):
    """A wallet's key, valid from one position until before another (null: still)."""

    address: str
    from_position: int
    until_position: int | None


class WalletView(msgspec.Struct, frozen=True):
    """A user's wallet; `state` active, frozen or closed, `custody` custodial or own, `keys` oldest first."""

    id: str
    company: str
    subject: str
    address: str
    custody: str
    state: str
    reason: str
    keys: list[KeyView]
    opened_at: str
    updated_at: str
    version: int
    position: int
    last_position: int


class Dispute(msgspec.Struct, frozen=True):
    """Who contests a trade, and why."""

    by: str
    reason: str


class ProposedSettlement(msgspec.Struct, frozen=True):
    """What the debtor says it has paid; the creditor has not settled it yet."""

    by: str
    amount: Money
    settled_on: str


class TradeView(msgspec.Struct, frozen=True):
    """A trade; `state` recorded, confirmed, settled or reversed, `open` what is not settled yet.

    `position` is that of its recording, `last_position` and `version` those of its latest event.
    """

    id: str
    state: str
    seller: str
    buyer: str
    recorded_by: str
    amount: Money
    open: Money
    traded_on: str
    due_on: str
    description: str
    lines: msgspec.Raw
    reference: str
    digest: str
    dispute: Dispute | None
    proposed_settlement: ProposedSettlement | None
    reversal_proposed_by: str | None
    created_at: str
    updated_at: str
    version: int
    position: int
    last_position: int


class HistoryView(msgspec.Struct, frozen=True):
    """One event of a trade: `by` the company, `subject` the pseudonym of its user, `data` exactly as in the entry."""

    position: int
    version: int
    type: str
    by: str
    subject: str
    recorded_at: str
    leaf_hash: str
    data: msgspec.Raw


class BalanceView(msgspec.Struct, frozen=True):
    """What `counterparty` owes `company` in one currency (negative: the other way round), and since which position."""

    company: str
    counterparty: str
    balance: Money
    position: int


class AnchorView(msgspec.Struct, frozen=True):
    """A head of the log on a chain; `state` pending, mined, final or failed.

    `independent` is false on the chain that this installation runs itself: such an anchor proves nothing against its
    operator. The block's fields are null until it is mined.
    """

    id: str
    chain_id: int
    contract: str
    log_id: str
    nonce: int
    size: int
    root: str
    tx_hash: str
    state: str
    independent: bool
    block_number: int | None
    block_hash: str | None
    block_time: int | None
    log_index: int | None
    gas_used: int | None
    reason: str
    submitted_at: str
    updated_at: str


class CheckpointRef(msgspec.Struct, frozen=True):
    """A signed head of the log that covers an entry: `root` 64 hex digits."""

    size: int
    root: str


class ReceiptView(msgspec.Struct, frozen=True):
    """Where an entry stands: in the log, under which checkpoint, in which anchor (both null until there is one)."""

    position: int
    leaf_hash: str
    type: str
    recorded_at: str
    checkpoint: CheckpointRef | None
    anchor: AnchorView | None


class BookView(msgspec.Struct, frozen=True):
    """How the log was opened: chain and contract of its anchors and signatures, and its public keys (C2SP vkeys)."""

    origin: str
    chain_id: int
    contract: str
    log_key: str
    promise_key: str
    previous: msgspec.Raw
    recorded_at: str
    position: int

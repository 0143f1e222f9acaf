"""The events of a trade: what both companies and every auditor read for ever. Their fields never change.

Every event but the first names the company that acted (`by`) and the digest of the recorded terms.
"""

import hashlib
from typing import TYPE_CHECKING

import msgspec

from domain.aggregate import Event
from domain.entry import canonical
from domain.money import Money
from domain.signature import Signature

if TYPE_CHECKING:
    from domain.trade import Trade


class Line(msgspec.Struct, frozen=True):
    """One line of a trade: `quantity` a decimal string, `unit_price` integer minor units of the trade's currency."""

    item: str
    quantity: str
    unit_price: str


class Attachment(msgspec.Struct, frozen=True):
    """A document kept elsewhere: its name and SHA-256 (64 hex digits)."""

    name: str
    sha256: str


class Terms(msgspec.Struct, frozen=True):
    """What the two companies agree on."""

    seller: str
    buyer: str
    recorded_by: str
    amount: Money
    traded_on: str
    due_on: str
    description: str
    lines: tuple[Line, ...]
    reference: str

    def digest(self) -> str:
        """SHA-256 of the terms' canonical JSON, 64 hex digits: what the other side confirms."""
        return hashlib.sha256(canonical(self)).hexdigest()


class SignedTerms(msgspec.Struct, frozen=True):
    """The terms and their digest: the data of TradeRecorded without its signature."""

    seller: str
    buyer: str
    recorded_by: str
    amount: Money
    traded_on: str
    due_on: str
    description: str
    lines: tuple[Line, ...]
    reference: str
    digest: str


class TradeRecorded(Event):
    """One side has recorded a trade."""

    seller: str
    buyer: str
    recorded_by: str
    amount: Money
    traded_on: str
    due_on: str
    description: str
    lines: tuple[Line, ...]
    reference: str
    digest: str
    signature: Signature

    def apply(self, trade: "Trade") -> None:
        trade.seller, trade.buyer, trade.recorded_by = self.seller, self.buyer, self.recorded_by
        trade.amount, trade.open, trade.digest = self.amount, self.amount.minor, self.digest
        trade.state = "recorded"


class TradeConfirmed(Event):
    """The other side agrees to the terms."""

    by: str
    digest: str
    signature: Signature

    def apply(self, trade: "Trade") -> None:
        trade.state = "confirmed"


class TradeDisputed(Event):
    """One side contests the trade."""

    by: str
    digest: str
    reason: str
    signature: Signature

    def apply(self, trade: "Trade") -> None:
        trade.disputed_by = self.by


class TradeDisputeWithdrawn(Event):
    """The side that disputed no longer does."""

    by: str
    digest: str
    reason: str
    signature: Signature

    def apply(self, trade: "Trade") -> None:
        trade.disputed_by = ""


class TradeSettlementProposed(Event):
    """The debtor says it has paid; counts only once the creditor settles."""

    by: str
    digest: str
    amount: Money
    settled_on: str
    signature: Signature

    def apply(self, trade: "Trade") -> None:
        """Changes no state: nothing is settled before the creditor says so."""


class TradeSettled(Event):
    """The creditor has received (part of) the amount."""

    by: str
    digest: str
    amount: Money
    settled_on: str
    signature: Signature

    def apply(self, trade: "Trade") -> None:
        trade.open -= self.amount.minor
        if not trade.open:
            trade.state = "settled"


class TradeReversalProposed(Event):
    """One side asks to undo a confirmed trade."""

    by: str
    digest: str
    reason: str
    signature: Signature

    def apply(self, trade: "Trade") -> None:
        trade.reversal_by = self.by


class TradeReversed(Event):
    """The trade is undone."""

    by: str
    digest: str
    reason: str
    signature: Signature

    def apply(self, trade: "Trade") -> None:
        trade.state = "reversed"


class TradeNoteAdded(Event):
    """A remark, with the hashes of documents kept elsewhere."""

    by: str
    digest: str
    note: str
    attachments: tuple[Attachment, ...]
    signature: Signature

    def apply(self, trade: "Trade") -> None:
        """Changes no state: a note is only read."""

"""Entries as the projections see them: only the fields that they use are decoded (a fourth of the full cost).

A codec knows every event type, and the schema version, that this program understands; all others stop the
projection, for a fact that is skipped in silence is a wrong balance.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from projections.position import EntryCorrupt, UnknownEvent


class Head(msgspec.Struct, gc=False):
    """The envelope of an entry, as far as folds need it; `data` stays bytes until its type is known."""

    aggregate_id: str
    data: msgspec.Raw
    log: str
    position: int
    recorded_at: str
    type: str
    v: int
    version: int


class Amount(msgspec.Struct, gc=False):
    """Integer minor units of a currency, as written in the entry."""

    currency: str
    units: str


class BookOpened(msgspec.Struct):
    """Chain, contract and keys of the log."""

    chain_id: int
    contract: str
    log_key: str
    promise_key: str
    previous: msgspec.Raw


class CompanyRegistered(msgspec.Struct):
    """A company by its code."""

    code: str
    name: str


class Reason(msgspec.Struct):
    """Of events that only say why: companies and wallets stopped and resumed, anchors failed or returned."""

    reason: str


class WalletOpened(msgspec.Struct):
    """A user of a company has a key."""

    subject: str
    company: str
    address: str
    custody: str


class WalletKeyRotated(msgspec.Struct):
    """Another key signs from here on."""

    new: str


class BatchSigned(msgspec.Struct):
    """A company signs the entries that follow."""

    company: str


class TradeRecorded(msgspec.Struct, gc=False):
    """Those terms of a trade that lists select by."""

    seller: str
    buyer: str
    recorded_by: str
    amount: Amount
    traded_on: str
    description: str
    reference: str


class By(msgspec.Struct, gc=False):
    """Of trade events that say who acted."""

    by: str


class Unread(msgspec.Struct, gc=False):
    """Of trade events whose type says all that a fold needs."""


class Disputed(msgspec.Struct, gc=False):
    """One side contests the trade."""

    by: str
    reason: str


class Settlement(msgspec.Struct, gc=False):
    """An amount paid, proposed by the debtor or settled by the creditor."""

    by: str
    amount: Amount
    settled_on: str


class IdentityClaimed(msgspec.Struct):
    """A line at a store is a user's."""

    subscription: str
    user: str


class IdentityTransferred(msgspec.Struct):
    """A line is another user's."""

    after: str


class PurchaseAccepted(msgspec.Struct):
    """A purchase on a line, of a user where one is known."""

    subscription: str
    user: str | None


class ChargeKey(msgspec.Struct):
    """Our name of a charge."""

    key: str


class SubscriptionCharged(msgspec.Struct):
    """Money was taken for a line."""

    charge: ChargeKey


class CaseOpened(msgspec.Struct):
    """Something waits for people."""

    kind: str


class Submitted(msgspec.Struct):
    """What every event of an anchor says: the head it carries and the transaction that carries it."""

    chain_id: int
    contract: str
    log_id: str
    nonce: int
    size: int
    root: str
    tx_hash: str


class Mined(Submitted):
    """The anchor stands in a block."""

    block_number: int
    block_hash: str
    block_time: int
    log_index: int
    gas_used: int


class Undone(Submitted):
    """The anchor's transaction failed, or its block was reorganised away."""

    reason: str


STORE_EVENTS: Final = frozenset(
    {
        "NotificationReceived",
        "NotificationContradicted",
        "NotificationJudged",
        "SubscriptionOpened",
        "SubscriptionObserved",
        "SubscriptionCharged",
        "ChargeRefunded",
        "ChargeRefundReversed",
        "SubscriptionSuperseded",
        "PurchaseAccepted",
        "PurchaseUserNamed",
        "PurchaseMoved",
        "ContractRequested",
        "ContractFound",
        "PurchaseEnding",
        "PurchaseReopening",
        "PurchaseReopened",
        "IdentityClaimed",
        "IdentityProven",
        "IdentityConflicted",
        "IdentityTransferred",
        "IdentityReleased",
        "ErasureAsked",
        "CaseOpened",
        "CaseActionProposed",
        "CaseActionApproved",
        "CaseActionWithdrawn",
        "CaseClosed",
    }
)
"""What app stores' messages lead to: kept among the entries, and found by `store_index`."""
_ENTRY_DATA: Final[dict[str, type[msgspec.Struct]]] = {
    "BookOpened": BookOpened,
    "CompanyRegistered": CompanyRegistered,
    "CompanySuspended": Reason,
    "CompanyResumed": Reason,
    "WalletOpened": WalletOpened,
    "WalletKeyRotated": WalletKeyRotated,
    "WalletFrozen": Reason,
    "WalletUnfrozen": Reason,
    "WalletClosed": Reason,
    "BatchSigned": BatchSigned,
    "TradeRecorded": TradeRecorded,
    "TradeConfirmed": Unread,
    "TradeDisputed": Disputed,
    "TradeDisputeWithdrawn": Unread,
    "TradeSettlementProposed": Settlement,
    "TradeSettled": Settlement,
    "TradeReversalProposed": By,
    "TradeReversed": Unread,
    "TradeNoteAdded": Unread,
    **dict.fromkeys(STORE_EVENTS, Unread),
    "IdentityClaimed": IdentityClaimed,
    "PurchaseAccepted": PurchaseAccepted,
    "IdentityTransferred": IdentityTransferred,
    "SubscriptionCharged": SubscriptionCharged,
    "CaseOpened": CaseOpened,
}
_ANCHOR_DATA: Final[dict[str, type[msgspec.Struct]]] = {
    "AnchorSubmitted": Submitted,
    "AnchorReplaced": Submitted,
    "AnchorMined": Mined,
    "AnchorFinal": Mined,
    "AnchorReturned": Undone,
    "AnchorFailed": Undone,
}


class Codec:
    """Decodes the entries of one source; `types` maps event types (all of schema version 1) to their data."""

    VERSION: Final = 1

    def __init__(self, types: Mapping[str, type[msgspec.Struct]]) -> None:
        self.types = frozenset(types)
        self._head = msgspec.json.Decoder(Head).decode
        self._data = {name: _decoder(struct) for name, struct in types.items()}

    def head(self, position: int, entry: bytes, log: str) -> Head:
        """The envelope; EntryCorrupt when it is not the entry that belongs there.

        `log` is the origin read so far, "" when none is known yet. Raises UnknownEvent for a type or schema version
        that is not handled.
        """
        try:
            head = self._head(entry)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise EntryCorrupt(f"position {position} is no entry: {error}", position) from error
        if head.position != position:
            raise EntryCorrupt(f"the entry at position {position} says it stands at {head.position}", position)
        if head.log != log and log:
            raise EntryCorrupt(f"position {position} is an entry of {head.log!r}, not of {log!r}", position)
        if head.type not in self._data or head.v != self.VERSION:
            raise UnknownEvent(
                f"position {position} holds {head.type} version {head.v}, which this program does not know", position
            )
        return head

    def data(self, head: Head) -> Any:
        """The event's data as the struct of its type."""
        try:
            return self._data[head.type](head.data)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise EntryCorrupt(
                f"position {head.position} holds a malformed {head.type}: {error}", head.position
            ) from error


def _decoder(struct: type[msgspec.Struct]) -> Callable[[msgspec.Raw], Any]:
    return _unread if struct is Unread else msgspec.json.Decoder(struct).decode


def _unread(_: msgspec.Raw) -> None:
    """Nothing is decoded of data that nobody reads."""


def entry_codec() -> Codec:
    """For the entries of the log."""
    return Codec(_ENTRY_DATA)


def anchor_codec() -> Codec:
    """For the entries of the anchor book."""
    return Codec(_ANCHOR_DATA)

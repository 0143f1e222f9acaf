"""Everything that can be asked of the ledger: one frozen struct a command, imperative, checked as it is decoded.

msgspec refuses unknown fields, wrong types, floats where integers belong, invalid UTF-8 and lone surrogates, and names
the field in its message. What can only be judged against the ledger's state is judged in `ledger.py` and `trade.py`.
`tag` is the command's name in a bulk line: `{"command": "ConfirmTrade", "trade": "…"}`.
"""

import datetime as dt
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from domain.book import PreviousHead
from domain.ids import is_uuid7
from domain.money import Money
from domain.signature import Address, ClientSignature, Signature
from domain.trade_events import Attachment, Line
from domain.wallet import Custody

EARLIEST_YEAR, LATEST_YEAR = 1900, 2200
_ONE_LINE = r"\A[^\x00-\x1f\x7f]*\Z"
_PROSE = r"\A[^\x00-\x08\x0b-\x1f\x7f]*\Z"

Code = Annotated[
    str,
    Meta(
        pattern=r"\A[a-z0-9][a-z0-9-]{0,38}[a-z0-9]\Z",
        description="a company's code: 2 to 40 lower-case letters, digits and hyphens",
        examples=["aozora-foods"],
    ),
]
Name = Annotated[str, Meta(min_length=1, max_length=200, pattern=_ONE_LINE, examples=["Aozora Foods K.K."])]
Reason = Annotated[str, Meta(min_length=1, max_length=500, pattern=_ONE_LINE, examples=["wrong quantity"])]
Prose = Annotated[str, Meta(max_length=4000, pattern=_PROSE)]
Reference = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=64,
        pattern=r"\A[^\x00-\x1f\x7f|]+\Z",
        description="the recording company's own number, used once",
        examples=["AF-2026-00017"],
    ),
]
Uuid = Annotated[
    str,
    Meta(
        pattern=r"\A[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\Z",
        examples=["01938a5e-7c00-7aaa-aaaa-0123456789ab"],
    ),
]
Digest = Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z", description="SHA-256 in hex", examples=["9f" * 32])]
Pseudonym = Annotated[str, Meta(pattern=r"\A[0-9a-f]{32}\Z")]
Quantity = Annotated[
    str,
    Meta(
        pattern=r"\A(0|[1-9][0-9]{0,11})(\.[0-9]{1,6})?\Z",
        description="a decimal, up to 6 places",
        examples=["12.5"],
    ),
]
UnitPrice = Annotated[
    str,
    Meta(
        pattern=r"\A(0|[1-9][0-9]{0,17})\Z",
        description="integer minor units of the trade's currency",
        examples=["48000"],
    ),
]


def in_range(day: dt.date, field: str) -> None:
    """Raise ValueError for a day outside the years that a ledger of trades can mean."""
    if not EARLIEST_YEAR <= day.year <= LATEST_YEAR:
        raise ValueError(f"{field} must lie in the years {EARLIEST_YEAR} to {LATEST_YEAR}")


class Command(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="command", tag=True):
    """What all commands have: a name."""


class RegisterCompany(Command, frozen=True, kw_only=True, tag=True):
    """Admit a company (operator)."""

    code: Code
    name: Name


class SuspendCompany(Command, frozen=True, kw_only=True, tag=True):
    """Stop a company from signing (operator)."""

    code: Code
    reason: Reason


class ResumeCompany(Command, frozen=True, kw_only=True, tag=True):
    """Let a company sign again (operator)."""

    code: Code
    reason: Reason


class OpenWallet(Command, frozen=True, kw_only=True, tag=True):
    """Give a company's user a wallet. `subject` is the user's pseudonym; the signature proves possession of the key."""

    subject: Pseudonym
    company: Code
    address: Address
    custody: Custody
    signature: ClientSignature


class RotateKey(Command, frozen=True, kw_only=True, tag=True):
    """Replace a wallet's key; signed by the old and the new key over the same message (one nonce, one deadline)."""

    wallet: Uuid
    new: Address
    signature: ClientSignature
    new_signature: ClientSignature

    def __post_init__(self) -> None:
        old, new = self.signature, self.new_signature
        if (old.nonce, old.deadline) != (new.nonce, new.deadline):
            raise ValueError("new_signature must have the nonce and the deadline of signature")


class FreezeWallet(Command, frozen=True, kw_only=True, tag=True):
    """Stop a wallet from signing for the time being."""

    wallet: Uuid
    reason: Reason


class UnfreezeWallet(Command, frozen=True, kw_only=True, tag=True):
    """Let a frozen wallet sign again."""

    wallet: Uuid
    reason: Reason


class CloseWallet(Command, frozen=True, kw_only=True, tag=True):
    """Stop a wallet from signing for good."""

    wallet: Uuid
    reason: Reason


class TradeCommand(Command, frozen=True, kw_only=True):
    """Signed by a wallet of the acting company: `wallet` (by default the caller's), `signature` if in own custody."""

    wallet: Uuid | None = None
    signature: ClientSignature | None = None


class RecordTrade(TradeCommand, frozen=True, kw_only=True, tag=True):
    """Record a trade of the acting company with another one.

    `trade` may be chosen by the client (a UUIDv7); who signs by himself has to, for the signature covers it.
    """

    seller: Code
    buyer: Code
    amount: Money
    traded_on: dt.date
    due_on: dt.date
    reference: Reference
    description: Prose = ""
    lines: Annotated[tuple["TradeLine", ...], Meta(max_length=200)] = ()
    trade: Uuid | None = None

    def __post_init__(self) -> None:
        in_range(self.traded_on, "traded_on")
        in_range(self.due_on, "due_on")
        if self.due_on < self.traded_on:
            raise ValueError("due_on must not precede traded_on")
        if self.trade is not None and not is_uuid7(self.trade):
            raise ValueError("trade must be a UUIDv7")
        if self.trade is None and self.signature is not None:
            raise ValueError("trade must be given beside a signature, which covers it")


class TradeLine(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One line of a trade."""

    item: Annotated[str, Meta(min_length=1, max_length=200, pattern=_ONE_LINE, examples=["matcha, 1 kg"])]
    quantity: Quantity
    unit_price: UnitPrice

    def event_form(self) -> Line:
        """The line as it stands in the entry."""
        return Line(self.item, self.quantity, self.unit_price)


class TradeFollowUp(TradeCommand, frozen=True, kw_only=True):
    """About a recorded trade; with `digest` only if its terms are those the caller saw."""

    trade: Uuid
    digest: Digest | None = None


class ConfirmTrade(TradeFollowUp, frozen=True, kw_only=True, tag=True):
    """Agree to the terms that the other side recorded."""


class DisputeTrade(TradeFollowUp, frozen=True, kw_only=True, tag=True):
    """Contest a trade."""

    reason: Reason


class WithdrawDispute(TradeFollowUp, frozen=True, kw_only=True, tag=True):
    """No longer contest a trade."""

    reason: Reason


class ProposeSettlement(TradeFollowUp, frozen=True, kw_only=True, tag=True):
    """As the debtor, say that it is paid."""

    amount: Money
    settled_on: dt.date

    def __post_init__(self) -> None:
        in_range(self.settled_on, "settled_on")


class SettleTrade(TradeFollowUp, frozen=True, kw_only=True, tag=True):
    """As the creditor, say that (part of) it is received."""

    amount: Money
    settled_on: dt.date

    def __post_init__(self) -> None:
        in_range(self.settled_on, "settled_on")


class ProposeReversal(TradeFollowUp, frozen=True, kw_only=True, tag=True):
    """Ask the other side to undo a confirmed trade."""

    reason: Reason


class ReverseTrade(TradeFollowUp, frozen=True, kw_only=True, tag=True):
    """Undo a trade: alone before confirmation, after the other side's proposal otherwise."""

    reason: Reason


class TradeAttachment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A document kept elsewhere."""

    name: Annotated[str, Meta(min_length=1, max_length=200, pattern=_ONE_LINE, examples=["delivery-note.pdf"])]
    sha256: Digest

    def event_form(self) -> Attachment:
        """The attachment as it stands in the entry."""
        return Attachment(self.name, self.sha256)


class AddNote(TradeFollowUp, frozen=True, kw_only=True, tag=True):
    """Add a remark to a trade, with the hashes of documents kept elsewhere."""

    note: Annotated[str, Meta(min_length=1, max_length=4000, pattern=_PROSE, examples=["delivered to dock 4"])]
    attachments: Annotated[tuple[TradeAttachment, ...], Meta(max_length=50)] = ()


class OpenBook(Command, frozen=True, kw_only=True, tag=True):
    """Begin the log (the operator, once). `previous`: the head of the log that it succeeds."""

    chain_id: int
    contract: Address
    log_key: str
    promise_key: str
    previous: PreviousHead | None = None


class SignBatch(Command, frozen=True, kw_only=True, tag=True):
    """Sign the commands that follow at once (made by the ledger itself, or by a client that signs its own bulk)."""

    batch: Uuid
    company: Code
    root: Digest
    count: Annotated[int, Meta(ge=1, le=10_000)]
    signature: Signature


class ClientBatch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The signature of a wallet in own custody over a whole bulk: the batch's id, RFC 6962 root and count of its lines.

    The id is a UUIDv7: one with a natural key (UUIDv5) could take the place of a company that is yet to come.
    """

    batch: Uuid
    root: Digest
    count: Annotated[int, Meta(ge=1, le=10_000)]
    signature: ClientSignature

    def __post_init__(self) -> None:
        if not is_uuid7(self.batch):
            raise ValueError("batch must be a UUIDv7")


OPERATOR_COMMANDS: tuple[type[Command], ...] = (RegisterCompany, SuspendCompany, ResumeCompany)
WALLET_COMMANDS: tuple[type[Command], ...] = (RotateKey, FreezeWallet, UnfreezeWallet, CloseWallet)
TRADE_COMMANDS: tuple[type[TradeCommand], ...] = (
    RecordTrade,
    ConfirmTrade,
    DisputeTrade,
    WithdrawDispute,
    ProposeSettlement,
    SettleTrade,
    ProposeReversal,
    ReverseTrade,
    AddNote,
)
CLIENT_COMMANDS: tuple[type[Command], ...] = (*OPERATOR_COMMANDS, *WALLET_COMMANDS, *TRADE_COMMANDS)

_body = msgspec.json.Encoder(order="sorted").encode


def body_bytes(command: Command) -> bytes:
    """The canonical bytes of a command's body: what its command key stands for."""
    return _body(command)


def union_of(commands: tuple[type[Command], ...]) -> Any:
    """The type of "one of these commands", for a decoder."""
    union: Any = commands[0]
    for command in commands[1:]:
        union |= command
    return union

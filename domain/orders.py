"""A command on its way: the order that asks, the unit that stands or falls together, the receipt that answers."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol

from domain.aggregate import Event
from domain.commands import Command, OpenWallet, RecordTrade, RegisterCompany, SignBatch, body_bytes
from domain.entry import Actor, CommandRef, Entry, body_hash, command_key_hash
from domain.errors import DaichoError
from domain.ids import company_id, wallet_id
from domain.purchase_commands import AcceptPurchase, ClaimIdentity, OpenCase, ProveIdentity
from domain.signature import Signature
from domain.store_commands import ObserveSubscription, ReceiveNotification
from domain.trade_events import Terms

_NAMES: Final = ("trade", "wallet", "message", "subscription", "identity", "purchase", "case")
_CODES: Final = ("company", "code", "seller", "buyer")


@dataclass(slots=True, frozen=True)
class Parcel:
    """Bytes that are stored beside the entries of an order, in the same transaction, and never enter the log.

    `payload` is the SHA-256 (hex) of `sealed`, the ciphertext of what came; `proof` is what somebody needs to verify
    it later (JSON: certificates, keys), `headers` what it came with (JSON). `owner` names the key it is sealed under.
    """

    payload: str
    owner: str
    sealed: bytes
    headers: bytes
    proof: bytes


@dataclass(slots=True)
class Order:
    """One command by one actor under one command key. Signing fills `signature`, `terms`, `digest` and `trade_id`.

    `parcel`: bytes to be stored in the same transaction.
    """

    command: Command
    actor: Actor
    ref: CommandRef
    expected_version: int | None = None
    signature: Signature | None = None
    new_signature: Signature | None = None
    terms: Terms | None = None
    digest: str = ""
    trade_id: str = ""
    parcel: Parcel | None = None

    @classmethod
    def of(
        cls, origin: str, command: Command, actor: Actor, key: str, *, expected_version: int | None = None
    ) -> "Order":
        """An order for a command under the caller's key (any text of at most 255 characters)."""
        ref = CommandRef(body=body_hash(body_bytes(command)), key=command_key_hash(origin, actor, key))
        return cls(command, actor, ref, expected_version)

    def claims(self) -> list[str]:
        """The unique keys that the order takes when it is stored: its signature's nonce, a new trade's reference.

        Known before the order is decided, so that a group looks all of them up at once.
        """
        keys: list[str] = []
        if self.signature is not None and self.signature.own:
            keys.append(f"nonce|{self.signature.wallet}|{self.signature.nonce}")
        if isinstance(self.command, RecordTrade):
            keys.append(f"ref|{self.actor.company}|{self.command.reference}")
        return keys

    def names(self) -> list[str]:
        """The ids of the aggregates that the order names: what deciding it reads, as far as that is known before."""
        command = self.command
        found = [value for field in _NAMES if isinstance(value := getattr(command, field, None), str)]
        codes = [value for field in _CODES if isinstance(value := getattr(command, field, None), str)]
        if self.signature is not None:
            found.append(self.signature.wallet)
        if self.actor.company:
            codes.append(self.actor.company)
            found.append(wallet_id(self.actor.company, self.actor.subject))
        return found + [company_id(code) for code in codes if code]

    def creates(self) -> str | None:
        """The id of the aggregate that the order would begin, known before it is decided; None for none."""
        command = self.command
        if isinstance(command, RecordTrade):
            return self.trade_id or None
        if isinstance(command, SignBatch):
            return command.batch
        if isinstance(command, RegisterCompany):
            return company_id(command.code)
        if isinstance(command, OpenWallet):
            return wallet_id(command.company, command.subject)
        if isinstance(command, ReceiveNotification):
            return command.message
        if isinstance(command, ObserveSubscription):
            return command.subscription
        if isinstance(command, AcceptPurchase):
            return command.purchase
        if isinstance(command, ClaimIdentity | ProveIdentity):
            return command.identity
        if isinstance(command, OpenCase):
            return command.case
        return None


@dataclass(slots=True)
class Unit:
    """Orders that stand or fall together. A single command is a unit of one.

    `strict`: a repeated command key in it is a reason to reject it, too (a signed batch counts its entries).
    """

    orders: list[Order]
    strict: bool = False


@dataclass(slots=True)
class Decided:
    """An order that the rules allow: its entries, still without position, and the state they lead to."""

    order: Order
    events: list[Event]
    entries: list[Entry]
    claims: list[str]
    aggregate_id: str
    version: int


@dataclass(slots=True, frozen=True)
class KnownCommand:
    """What is stored about a command key: the hash of its body, and the entries that it led to."""

    body: str
    first: int
    count: int


@dataclass(slots=True)
class Repeat:
    """An order whose command key was used before, with the same body: answered from what is stored."""

    order: Order
    source: KnownCommand | Decided


Line = Decided | Repeat | DaichoError


@dataclass(slots=True)
class Receipt:
    """The answer to an order: what it led to, as stored. `hit` marks the repetition of an earlier command."""

    aggregate_id: str
    version: int
    records: list[tuple[int, bytes]] = field(default_factory=list)
    hit: bool = False

    @property
    def position(self) -> int:
        """The last position that the order led to; 0 when it led to nothing."""
        return self.records[-1][0] if self.records else 0


Answer = Receipt | DaichoError
BulkMode = Literal["atomic", "continue"]


class Writer(Protocol):
    """Where decided units become durable.

    Duties: one writer decides and commits; an answer is given only after the commit; a unit is stored whole or not at
    all; a lost answer is recognised by its command key. The three questions raise StorageUnavailable.
    """

    @property
    def alone(self) -> bool:
        """True when no other process writes to the same store."""

    async def warm(self, orders: Sequence[Order]) -> None:
        """Read what the orders name into the cache, where reading it later would hold up everybody."""

    async def submit(self, units: list[Unit]) -> list[list[Answer]]:
        """Answers per unit and order, in order. Raises nothing: every refusal or trouble is an answer."""

    async def taken(self, claims: list[str]) -> set[str]:
        """Those of the claims that are stored."""

    async def known(self, keys: list[str]) -> dict[str, KnownCommand]:
        """What is stored about these command key hashes."""

    async def receipt_of(self, known: KnownCommand) -> Receipt:
        """The stored answer of a known command."""

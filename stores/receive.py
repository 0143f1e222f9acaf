"""A store's message on its way into the ledger: sealed, and recorded with its bytes in one transaction.

Whoever brings a message (the endpoint, a drained spool, a reconciler, an answer that was fetched) brings it here. The
same message again changes nothing, whoever brings it.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from typing import Final, Literal, NamedTuple, Protocol

import msgspec

from domain.entry import Actor
from domain.errors import CommandKeyReused, NothingNew
from domain.ids import message_id, payload_owner
from domain.orders import Order, Parcel, Receipt
from domain.store_commands import ReceiveNotification
from domain.store_notification import Store, StoreEnvironment
from stores.intake import Judged
from stores.parcel_format import FetchedFromStore, ParcelHeaders, headers_json, pack_fetched
from stores.verdict import Verdict

OPERATOR_SUBJECT: Final = "daicho"
Outcome = Literal["stored", "repeated", "contradicted"]


class OwnerErased(Exception):
    """The owner's key was destroyed for good."""


class Sealer(Protocol):
    """Payloads under a key per owner (`chain.payload_keys.PayloadKeys`). May block, from any thread."""

    def seal(self, owner: str, payload: bytes) -> bytes:
        """The payload as ciphertext, the same for the same. Raises OwnerErased."""
        ...


class LedgerPort(Protocol):
    """`domain.ledger.Ledger`."""

    async def execute(self, order: Order) -> Receipt:
        """Do a command; the receipt after the commit."""
        ...


class Arrived(msgspec.Struct, frozen=True):
    """A message as it is going to be recorded; a spool keeps it in this form.

    `message` is its aggregate's id, `content` the SHA-256 (hex) of what is said, `owner` names the key that `plain` is
    sealed under; `headers` and `proof` as in `stores.parcel_format`.
    """

    store: Store
    environment: StoreEnvironment | None
    message: str
    content: str
    verdict: Verdict
    owner: str
    plain: bytes
    headers: bytes
    proof: bytes

    def __repr__(self) -> str:
        return f"Arrived({self.store}, {self.message}, {self.verdict})"


class Received(NamedTuple):
    """What became of a message. `payload` is the hash of its ciphertext; `position` 0 for one that was repeated."""

    outcome: Outcome
    payload: str
    position: int


def arrived(judged: Judged, headers: ParcelHeaders) -> Arrived:
    """A judged message; one that has no id of the store's is named by what it says."""
    environment = judged.environment or ""
    message = message_id(judged.store, environment, judged.notification or f"sha256:{judged.content}")
    return Arrived(
        judged.store,
        judged.environment,
        message,
        judged.content,
        judged.verdict,
        message if judged.line is None else payload_owner(judged.store, judged.line),
        judged.plain,
        headers_json(headers),
        judged.proof,
    )


def fetched(answer: FetchedFromStore, owner: str) -> Arrived:
    """A store's answer, as a message of its own: recorded before anything is made of it."""
    plain = pack_fetched(answer)
    content = hashlib.sha256(plain).hexdigest()
    store = answer.announced.store
    headers = ParcelHeaders(answer.at, Verdict.VALID, origin="pull", label="fetched")
    return Arrived(
        store, None, message_id(store, "", f"fetched:{content}"), content, Verdict.VALID, owner, plain,
        headers_json(headers), b"{}",
    )  # fmt: skip


class Receiver:
    """Records messages. On the event loop; `actor` gives the ledger's own actor, whenever it is needed first."""

    def __init__(self, origin: str, ledger: LedgerPort, sealer: Sealer, subject: Callable[[], Awaitable[str]]) -> None:
        self._origin, self._ledger, self._sealer, self._subject = origin, ledger, sealer, subject
        self._actor: Actor | None = None

    async def actor(self) -> Actor:
        """The ledger itself, as the operator's part that no person is."""
        if self._actor is None:
            self._actor = Actor("", await self._subject())
        return self._actor

    async def record(self, message: Arrived, sealed: tuple[str, bytes] | None = None) -> Received:
        """Record a message, durably on return. `sealed`: owner and ciphertext where somebody has made them already.

        Raises the ledger's trouble, and whatever keeps the keys' store from answering.
        """
        owner, ciphertext = sealed if sealed is not None else await asyncio.to_thread(self.seal, message)
        payload = hashlib.sha256(ciphertext).hexdigest()
        command = ReceiveNotification(
            message=message.message,
            store=message.store,
            environment=message.environment,
            verdict=message.verdict,
            payload=payload,
            size=len(ciphertext),
        )
        # one key for one thing said under one id: a delivery that differs around it is a repetition, too
        order = Order.of(self._origin, command, await self.actor(), f"{message.message} {message.content}")
        order.parcel = Parcel(payload, owner, ciphertext, message.headers, message.proof)
        try:
            receipt = await self._ledger.execute(order)
        except (CommandKeyReused, NothingNew):
            return Received("repeated", payload, 0)
        if receipt.hit:
            return Received("repeated", payload, 0)
        return Received("contradicted" if receipt.version > 1 else "stored", payload, receipt.position)

    def seal(self, message: Arrived) -> tuple[str, bytes]:
        """Owner and ciphertext of a message; blocking. What comes after an erasure is sealed under its own name."""
        try:
            return message.owner, self._sealer.seal(message.owner, message.plain)
        except OwnerErased:
            return message.message, self._sealer.seal(message.message, message.plain)

"""Authorship: the signature that every trade command needs, before it is decided.

A custodial wallet's signature is asked of the signer process; one in own custody must come with the command and is
verified. A bulk is signed once: `BatchSigned` carries the RFC 6962 root over its entries' signed contents. Whether the
wallet may sign at that position is judged again when the command is decided, under the write lock.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol, cast

import msgspec

from domain import commands as c
from domain.aggregate import Aggregate
from domain.entry import CommandRef, body_hash, command_key_hash
from domain.errors import (
    DaichoError,
    Malformed,
    SignatureInvalid,
    SignatureMissing,
    SignerUnavailable,
    TradeNotFound,
    WalletNotFound,
)
from domain.ids import IdSource, wallet_id
from domain.orders import Order
from domain.signature import ClientSignature, Signature, require_live, same_address, wrong_signer
from domain.trade import Trade
from domain.trade_events import SignedTerms, Terms
from domain.typed_data import batch_content
from domain.wallet import Wallet
from merkle.flat_log import FlatLog
from merkle.hashing import leaf_hashes

CUSTODIAL_SECONDS: Final = 3600  # our own signatures must be recorded within this time


class Unsigned(NamedTuple):
    """What is to be signed, by which wallet's key at which address ("" where that is to be found out).

    `data` is the event's data without signatures, `nonce` 0x and 64 hex digits, `deadline` Unix seconds.
    """

    wallet: str
    address: str
    event_type: str
    aggregate_id: str
    data: Mapping[str, Any]
    nonce: str
    deadline: int


class Signed(NamedTuple):
    """A signature and the address of the key that made it."""

    address: str
    value: str


class Signer(Protocol):
    """The process that holds the custodial keys. Duties: signs typed messages only; keeps an audit row for each."""

    async def sign(self, messages: Sequence[Unsigned]) -> list[Signed]:
        """A signature per message, in order. Raises SignerUnavailable when the signer does not answer."""


class SignatureVerifier(Protocol):
    """Recovers the signer of a typed message of this book, chain and contract."""

    def address_of(self, message: Unsigned, value: str) -> str:
        """The address that signed. Raises SignatureInvalid for what is no (strict, low-s) signature."""


class _Plan(NamedTuple):
    """An order, the wallet that signs it, and the content to be signed."""

    order: Order
    wallet: Wallet
    event_type: str
    aggregate_id: str
    data: SignedTerms | dict[str, Any]

    def message(self, nonce: str, deadline: int) -> Unsigned:
        """What the wallet signs for it on its own."""
        wallet, data = self.wallet, msgspec.to_builtins(self.data)
        return Unsigned(wallet.id, wallet.address, self.event_type, self.aggregate_id, data, nonce, deadline)


class Authorship:
    """Signs or verifies orders. `look` gives an aggregate as stored (a hint), or None."""

    def __init__(
        self,
        origin: str,
        look: Callable[[str], Aggregate | None],
        signer: Signer,
        verifier: SignatureVerifier,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.origin = origin
        self._look = look
        self._signer = signer
        self._verifier = verifier
        self.clock = clock
        self._ids = IdSource()

    async def sign(self, orders: Sequence[Order], *, preview: bool = False) -> list[DaichoError | None]:
        """Complete each order that needs a signature, or say why not. `preview` stands in for missing signatures."""
        refusals: list[DaichoError | None] = []
        custodial: list[tuple[Order, Unsigned]] = []
        digests: dict[str, str] = {}
        for order in orders:
            try:
                if not isinstance(order.command, c.TradeCommand):
                    self._take_given(order)
                elif (message := self._own_message(order, order.command, digests)) is not None:
                    custodial.append((order, message))
                refusals.append(None)
            except DaichoError as refusal:
                refusals.append(refusal)
        if preview:
            for order, message in custodial:
                order.signature = _signature(message, Signed(message.address, "0x" + "00" * 65))
        elif custodial:
            failed = await self._sign_custodial(custodial)
            refusals = [failed.get(id(o), refusal) for o, refusal in zip(orders, refusals, strict=True)]
        return refusals

    async def sign_batch(
        self, orders: Sequence[Order], given: c.ClientBatch | None = None
    ) -> tuple[Order | None, list[DaichoError | None]]:
        """Sign the orders as one batch by the actor's custodial wallet, or verify a signature over exactly these.

        The one `given` is by a wallet in own custody. Returns the order that stands before them (None when none is
        left, or when not all are that a given signature is over) and a refusal per order that was left out.
        """
        refusals: list[DaichoError | None] = []
        plans: list[_Plan] = []
        digests: dict[str, str] = {}
        for order in orders:
            try:
                plan = self._plan(order, _line_command(order, given), digests)
                if given is None:
                    _require_custodial(plan.wallet)
                if plans and plan.wallet.id != plans[0].wallet.id:
                    raise Malformed("all lines of a batch are of one wallet", field="wallet", rule="one per batch")
                plans.append(plan)
                refusals.append(None)
            except DaichoError as refusal:
                refusals.append(refusal)
        if not plans or (given is not None and any(refusals)):
            return None, refusals
        contents = [batch_content(plan.event_type, plan.aggregate_id, plan.data) for plan in plans]
        command = await self._batch_command(plans[0], batch_root(contents).hex(), len(plans), given)
        wallet = command.signature.wallet
        for index, plan in enumerate(plans):
            plan.order.signature = Signature(wallet, batch=command.batch, index=index)
        actor = plans[0].order.actor
        key = command_key_hash(self.origin, actor, f"\0batch {command.batch}")  # no header has a NUL
        ref = CommandRef(body=body_hash(c.body_bytes(command)), key=key)
        return Order(command, actor, ref, signature=command.signature), refusals

    async def _batch_command(self, first: _Plan, root: str, count: int, given: c.ClientBatch | None) -> c.SignBatch:
        wallet, company = first.wallet.id, first.order.actor.company
        data = {"wallet": wallet, "company": company, "root": root, "count": count}
        if given is None:
            batch = self._ids.uuid7()
            message = Unsigned(
                wallet, first.wallet.address, "BatchSigned", batch, data, self._ids.nonce(), self._custodial_deadline()
            )
            signed = (await self._signer.sign([message]))[0]
        else:
            if (given.root, given.count) != (root, count):
                raise SignatureInvalid("the batch's root or count is not that of its lines", root=root, count=count)
            batch, proof = given.batch, given.signature
            require_live(proof.deadline, self.clock())
            message = Unsigned(wallet, first.wallet.address, "BatchSigned", batch, data, proof.nonce, proof.deadline)
            signed = Signed(self._verifier.address_of(message, proof.value), proof.value)
        return c.SignBatch(batch=batch, company=company, root=root, count=count, signature=_signature(message, signed))

    def signs_for(self, order: Order) -> bool:
        """True when the order's signature is ours to make again."""
        return isinstance(order.command, c.TradeCommand) and order.command.signature is None

    def message_of(self, order: Order, nonce: str, deadline: int) -> Unsigned:
        """The message that a wallet in own custody has to sign for an order."""
        if isinstance(order.command, c.TradeCommand):
            return self._plan(order, order.command, {}).message(nonce, deadline)
        raise SignatureMissing(f"{type(order.command).__name__} is not signed by a wallet")

    # -- inside ------------------------------------------------------------------------------------------------------

    def _own_message(self, order: Order, command: c.TradeCommand, digests: dict[str, str]) -> Unsigned | None:
        """What our signer has to sign for an order; None when it came with its signature, which is verified."""
        plan = self._plan(order, command, digests)
        given = command.signature
        if given is None:
            _require_custodial(plan.wallet)
            return plan.message(self._ids.nonce(), self._custodial_deadline())
        require_live(given.deadline, self.clock())
        message = plan.message(given.nonce, given.deadline)
        order.signature = _signature(message, Signed(self._verifier.address_of(message, given.value), given.value))
        return None

    def _plan(self, order: Order, command: c.TradeCommand, digests: dict[str, str]) -> _Plan:
        wallet = self._wallet(order, command)
        aggregate_id, event_type, data = self._content(order, command, digests)
        return _Plan(order, wallet, event_type, aggregate_id, data)

    def _wallet(self, order: Order, command: c.TradeCommand) -> Wallet:
        name = command.wallet or wallet_id(order.actor.company, order.actor.subject)
        wallet = self._look(name)
        if not isinstance(wallet, Wallet):
            if command.wallet is None:
                who = f"this user has no wallet in {order.actor.company or 'the operator'}: sign the user up first"
                raise WalletNotFound(who, wallet=name, company=order.actor.company)
            raise WalletNotFound(f"no wallet {name}", wallet=name)
        wallet.require_company(order.actor.company)
        return wallet

    def _content(
        self, order: Order, command: c.TradeCommand, digests: dict[str, str]
    ) -> tuple[str, str, SignedTerms | dict[str, Any]]:
        """The aggregate's id, the event's type and its data without signatures: what the handler will decide."""
        company = order.actor.company
        if isinstance(command, c.RecordTrade):
            if not order.trade_id:
                order.trade_id = command.trade or self._ids.uuid7()
                order.terms = terms_of(command, company)
                order.digest = order.terms.digest()
            digests[order.trade_id] = order.digest
            return order.trade_id, "TradeRecorded", signed_terms(cast("Terms", order.terms), order.digest)
        if not isinstance(command, c.TradeFollowUp):
            raise TypeError(type(command).__name__)
        digest = digests.get(command.trade)
        if digest is None:
            trade = self._look(command.trade)
            if not isinstance(trade, Trade):
                raise TradeNotFound(f"no trade {command.trade}", trade=command.trade)
            trade.require_party(company)
            digest = trade.digest
        order.digest = digest
        event_type, content = CONTENTS[type(command)]
        return command.trade, event_type, {"by": company, "digest": digest, **content(command)}

    def _take_given(self, order: Order) -> None:
        """Verify the proof of possession of a wallet command that carries one."""
        command = order.command
        if isinstance(command, c.OpenWallet):
            wallet = wallet_id(command.company, command.subject)
            data = {"company": command.company, "custody": command.custody, "address": command.address}
            order.signature = self._own(wallet, "WalletOpened", data, command.signature, command.address)
        elif isinstance(command, c.RotateKey):
            found = self._look(command.wallet)
            if not isinstance(found, Wallet):
                raise WalletNotFound(f"no wallet {command.wallet}", wallet=command.wallet)
            data = {"old": found.address, "new": command.new}
            order.signature = self._own(found.id, "WalletKeyRotated", data, command.signature, found.address)
            order.new_signature = self._own(found.id, "WalletKeyRotated", data, command.new_signature, command.new)

    def _own(
        self,
        wallet: str,
        event_type: str,
        data: Mapping[str, Any],
        given: ClientSignature,
        expected: str,
    ) -> Signature:
        require_live(given.deadline, self.clock())
        message = Unsigned(wallet, "", event_type, wallet, data, given.nonce, given.deadline)
        address = self._verifier.address_of(message, given.value)
        if not same_address(address, expected):
            raise wrong_signer(wallet, expected, address)
        return _signature(message, Signed(address, given.value))

    async def _sign_custodial(self, messages: Sequence[tuple[Order, Unsigned]]) -> dict[int, DaichoError]:
        try:
            signed = await self._signer.sign([message for _, message in messages])
        except SignerUnavailable as trouble:
            return {id(order): trouble for order, _ in messages}
        for (order, message), signature in zip(messages, signed, strict=True):
            order.signature = _signature(message, signature)
        return {}

    def _custodial_deadline(self) -> int:
        return int(self.clock()) + CUSTODIAL_SECONDS


def terms_of(command: c.RecordTrade, company: str) -> Terms:
    """The terms that a command to record states."""
    return Terms(
        command.seller,
        command.buyer,
        company,
        command.amount,
        command.traded_on.isoformat(),
        command.due_on.isoformat(),
        command.description,
        tuple([line.event_form() for line in command.lines]),
        command.reference,
    )


def signed_terms(t: Terms, digest: str) -> SignedTerms:
    """The terms with their digest."""
    return SignedTerms(
        t.seller, t.buyer, t.recorded_by, t.amount, t.traded_on, t.due_on, t.description, t.lines, t.reference, digest
    )


def batch_root(contents: Sequence[bytes]) -> bytes:
    """The RFC 6962 root over the signed contents of a batch, 32 bytes."""
    tree = FlatLog()
    tree.append(leaf_hashes(contents))
    return tree.root()


def _signature(message: Unsigned, signed: Signed) -> Signature:
    return Signature(
        message.wallet,
        address=signed.address,
        deadline=message.deadline,
        nonce=message.nonce,
        value=signed.value,
    )


def _require_custodial(wallet: Wallet) -> None:
    if wallet.custody == "own":
        raise SignatureMissing(
            "this wallet is in its user's own custody: send the command with its signature", wallet=wallet.id
        )


def _line_command(order: Order, given: c.ClientBatch | None) -> c.TradeCommand:
    """The command of a batch's line, if it may stand in one."""
    command = order.command
    if not isinstance(command, c.TradeCommand):
        name = type(command).__name__
        raise Malformed(f"{name} has no place in a signed batch", field="command", rule="signed by a wallet")
    if command.signature is not None:
        raise Malformed("a line of a batch has no signature of its own", field="signature", rule="absent")
    if given is not None and isinstance(command, c.RecordTrade) and command.trade is None:
        raise Malformed("the batch's signature covers the trade's id", field="trade", rule="given in a signed batch")
    return command


def _reason(command: Any) -> dict[str, Any]:
    return {"reason": command.reason}


def _settlement(command: Any) -> dict[str, Any]:
    return {"amount": msgspec.to_builtins(command.amount), "settled_on": command.settled_on.isoformat()}


def _note(command: Any) -> dict[str, Any]:
    return {
        "note": command.note,
        "attachments": msgspec.to_builtins([a.event_form() for a in command.attachments]),
    }


CONTENTS: Final[Mapping[type, tuple[str, Callable[[Any], dict[str, Any]]]]] = {
    c.ConfirmTrade: ("TradeConfirmed", lambda _: {}),
    c.DisputeTrade: ("TradeDisputed", _reason),
    c.WithdrawDispute: ("TradeDisputeWithdrawn", _reason),
    c.ProposeSettlement: ("TradeSettlementProposed", _settlement),
    c.SettleTrade: ("TradeSettled", _settlement),
    c.ProposeReversal: ("TradeReversalProposed", _reason),
    c.ReverseTrade: ("TradeReversed", _reason),
    c.AddNote: ("TradeNoteAdded", _note),
}

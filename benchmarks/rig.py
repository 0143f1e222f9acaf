"""Our ledger as the service wires it, in one process: real stores, real signatures, processors running in threads.

The HTTP rows use `daicho serve` itself; this rig is for rows that leave HTTP out.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any, Final, TypeVar

import msgspec

from api.promise import Promiser
from benchmarks.samples import BUYERS, CHAIN_ID, CONTRACT, OPERATOR, ORIGIN, SELLER, command_key, user_of
from chain.curve import address_of_secret, sign_digest
from chain.eip712 import TypedSigner, signature_hex
from cli.interpreter import settle_down
from cli.wiring.stores import Stores
from domain.authorship import Authorship, Signed, Unsigned
from domain.commands import CLIENT_COMMANDS, Command, OpenBook, OpenWallet, RegisterCompany, union_of
from domain.entry import Actor, entry_leaf_hash
from domain.ids import wallet_id
from domain.ledger import Ledger
from domain.orders import Answer, Order, Receipt
from domain.signature import ClientSignature
from merkle.notes import Ed25519Signer, join_note
from projections.projector import Projector
from storage.clock import LedgerClock
from storage.writer import GroupWriter
from streams.local import LocalHost
from streams.publisher import Publisher
from streams.sequencer import Sequencer

T = TypeVar("T")
DRAIN_SECONDS: Final = 120.0
decode_command: Callable[[bytes], Command] = msgspec.json.Decoder(union_of(CLIENT_COMMANDS)).decode


class KeyRing:
    """The domain's Signer and SignatureVerifier inside the process, on the real curve."""

    def __init__(self) -> None:
        self._typed = TypedSigner(CHAIN_ID, CONTRACT)
        self._secrets: dict[str, bytes] = {}

    def add(self, secret: bytes) -> str:
        """Take a key; its address."""
        address = address_of_secret(secret)
        self._secrets[address] = secret
        return address

    async def sign(self, messages: Sequence[Unsigned]) -> list[Signed]:
        """A signature per message by the key at its address."""
        return [Signed(message.address, self.value(message, message.address)) for message in messages]

    def value(self, message: Unsigned, address: str) -> str:
        """The signature over a message by the key at an address."""
        return signature_hex(sign_digest(self._secrets[address], self._digest(message)))

    def address_of(self, message: Unsigned, value: str) -> str:
        """Who signed a message."""
        return self._typed.address_of(self._digest(message), value)

    def _digest(self, message: Unsigned) -> bytes:
        return self._typed.digest(
            message.event_type, ORIGIN, message.aggregate_id, message.data, int(message.nonce, 16), message.deadline
        )


class PromiseKey:
    """The promise key as the service holds it (`api.services.PromisesPort`)."""

    publish_by_seconds = 60.0

    def __init__(self, signer: Ed25519Signer) -> None:
        self._signer = signer

    async def sign(self, text: bytes) -> bytes:
        """The signed note over a promise's text."""
        return join_note(text, [self._signer.sign(text)])


class Rig:
    """A ledger in its stores with its companies and wallets, its promises signed.

    Its processors follow in threads, or not at all where they have processes of their own (`following` false).
    """

    def __init__(self, stores: Stores, *, following: bool = True) -> None:
        settle_down()
        self.loop = asyncio.new_event_loop()
        self.ledger = Ledger(stores.ledger_environment())
        self.recorder: Any = self.ledger.recorder
        self.recorder.bind(ORIGIN, LedgerClock())
        stores.attach(self.recorder)
        self.entries = stores.entries()
        self.writer = GroupWriter(self.recorder, self.entries, self.ledger)
        self.keys = KeyRing()
        self.ledger.connect(self.writer, Authorship(ORIGIN, self.ledger.load, self.keys, self.keys))
        promise_key = Ed25519Signer.from_seed(f"{ORIGIN}/promise", bytes(range(32)))
        self.promiser = Promiser(ORIGIN, PromiseKey(promise_key))
        log_key = Ed25519Signer.from_seed(ORIGIN, bytes(range(1, 33)))
        self._log_store, self._read_store = stores.log(), stores.reads()
        sequencer = Sequencer(ORIGIN, self._log_store, log_key)
        self.host, self.publisher = LocalHost(), Publisher(sequencer)
        self.source = self.host.source(self.entries)
        if following:
            self.host.add(self.source, sequencer)
            self.host.add(self.source, Projector(self._read_store))
        self.writer.on_commit.append(self.source.wake)
        self.run(self._start(str(log_key.key), str(promise_key.key)))
        self.run(self.drain())

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the rig's event loop."""
        return self.loop.run_until_complete(work)

    def orders(self, bodies: Sequence[bytes], actor: Actor) -> list[Order]:
        """The orders of a bulk request: a command a line, one command key for all."""
        stem = command_key()
        return [Order.of(ORIGIN, decode_command(body), actor, f"{stem}:{line}") for line, body in enumerate(bodies)]

    async def execute(self, body: bytes, actor: Actor) -> Receipt:
        """One command, answered and promised."""
        receipt = await self.ledger.execute(Order.of(ORIGIN, decode_command(body), actor, command_key()))
        await self.promise(receipt.records)
        return receipt

    async def promise(self, records: Iterable[tuple[int, bytes]]) -> str:
        """The signed note that promises these records."""
        note = await self.promiser.promise({position: entry_leaf_hash(entry) for position, entry in records})
        assert note is not None
        return note

    async def answer(self, answers: Sequence[Answer]) -> list[Receipt]:
        """The receipts of a request, promised; a refusal is raised."""
        receipts = []
        for answer in answers:
            if not isinstance(answer, Receipt):
                raise answer
            receipts.append(answer)
        await self.promise(record for receipt in receipts for record in receipt.records)
        return receipts

    async def drain(self) -> None:
        """Wait until every processor has reached the head."""
        head = self.entries.head()
        reached = asyncio.Event()

        def look(_: object) -> None:
            if all(status.position >= head for status in self.host.status()):
                reached.set()

        self.host.on_change.append(look)
        try:
            self.source.wake(head)
            self.source.hurry()
            look(None)
            async with asyncio.timeout(DRAIN_SECONDS):
                await reached.wait()
        finally:
            self.host.on_change.remove(look)

    def close(self) -> None:
        """Stop everything."""
        self.run(self.host.stop())
        self.run(self.publisher.stop())
        self.writer.close()
        self.entries.close()
        self._read_store.close()
        self._log_store.close()
        self.recorder.close()
        self.loop.close()

    async def _start(self, log_key: str, promise_key: str) -> None:
        """Open the book, register the companies, open a wallet for each user; let the processors follow."""
        opening = OpenBook(chain_id=CHAIN_ID, contract=CONTRACT, log_key=log_key, promise_key=promise_key)
        await self.ledger.execute(Order.of(ORIGIN, opening, OPERATOR, "book"))
        for number, code in enumerate((SELLER, *BUYERS)):
            company = RegisterCompany(code=code, name=f"Company {number}")
            await self.ledger.execute(Order.of(ORIGIN, company, OPERATOR, f"company {code}"))
            wallet = self._wallet(code, bytes([number + 1]) * 32)
            await self.ledger.execute(Order.of(ORIGIN, wallet, user_of(code), f"wallet {code}"))
        await self.host.start()
        await self.publisher.start()

    def _wallet(self, company: str, secret: bytes) -> OpenWallet:
        address, deadline, nonce = self.keys.add(secret), int(time.time()) + 600, "0x" + secret.hex()
        wallet = wallet_id(company, user_of(company).subject)
        data = {"company": company, "custody": "custodial", "address": address}
        value = self.keys.value(Unsigned(wallet, "", "WalletOpened", wallet, data, nonce, deadline), address)
        return OpenWallet(
            subject=user_of(company).subject,
            company=company,
            address=address,
            custody="custodial",
            signature=ClientSignature(deadline=deadline, nonce=nonce, value=value),
        )

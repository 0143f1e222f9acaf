"""Users and their wallets: the port `UsersPort` over the ledger, the pseudonyms and the keeper of custodial keys.

Opening a custodial wallet takes three steps, each of which may be repeated:

1. pseudonym: durable on first use
2. key and proof of possession: made once per wallet, the same again however often it is asked for
3. WalletOpened: refused when the wallet is there, which is then the answer

A crash between them leaves a pseudonym or a key that nobody uses yet; the next sign-up of that user goes on from there.
"""

import hashlib
import time
from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

import msgspec

from api.services import Custody, EntriesPort, LedgerPort, Record
from domain import commands as c
from domain.aggregate import Aggregate
from domain.company import Company
from domain.entry import Actor, command_key_hash, decode_envelope
from domain.errors import (
    AlreadyExists,
    CommandKeyReused,
    CompanyNotFound,
    NotYourCompany,
    SignatureMissing,
    WalletNotFound,
)
from domain.ids import IdSource, company_id, wallet_id
from domain.orders import KnownCommand, Order, Receipt
from domain.signature import ClientSignature
from domain.wallet import Wallet

SIGNED_FOR_SECONDS: Final = 3600


class KeyRotation(NamedTuple):
    """A custodial wallet's next key, and the same message signed by the old and by the new one."""

    new: str
    signature: str
    new_signature: str


class WalletKeys(Protocol):
    """The keeper of custodial keys (the signer process). Every request may be repeated. Raises SignerUnavailable."""

    async def create(self, wallet: str) -> str:
        """The address of the wallet's first key."""

    async def prove(self, wallet: str, company: str, nonce: str, deadline: int) -> str:
        """Its signature over OpenWallet: 0x and 130 hex digits."""

    async def rotate(self, wallet: str, old: str, nonce: str, deadline: int) -> KeyRotation:
        """The key after `old`; the same nonce gives the same key again."""


class Pseudonyms(Protocol):
    """Real users and their pseudonyms."""

    async def pseudonym(self, company: str, subject: str) -> str:
        """The pseudonym, made on first use."""

    async def known(self, company: str, subject: str) -> str | None:
        """The pseudonym if there is one."""


class Memory(Protocol):
    """What the ledger knows: aggregates, and the commands done before (`Ledger.load` and its writer)."""

    def load(self, aggregate_id: str) -> Aggregate | None:
        """The aggregate as stored, or None."""

    async def known(self, keys: list[str]) -> dict[str, KnownCommand]:
        """What is stored about these command key hashes."""

    async def receipt_of(self, known: KnownCommand) -> Receipt:
        """The stored answer of a known command."""


class Accounts:
    """Opens and rotates wallets."""

    def __init__(
        self,
        origin: str,
        ledger: LedgerPort,
        memory: Memory,
        entries: EntriesPort,
        pseudonyms: Pseudonyms,
        keys: WalletKeys,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._origin = origin
        self._ledger = ledger
        self._memory = memory
        self._entries = entries
        self._pseudonyms = pseudonyms
        self._keys = keys
        self._clock = clock
        self._ids = IdSource()

    async def pseudonym(self, company: str, subject: str) -> str:
        """The pseudonym (32 hex digits) of a company's user, made on first use."""
        return await self._pseudonyms.pseudonym(company, subject)

    async def known(self, company: str, subject: str) -> str | None:
        """The pseudonym if there is one already."""
        return await self._pseudonyms.known(company, subject)

    async def open_wallet(
        self,
        actor: Actor,
        company: str,
        user: str,
        custody: Custody,
        address: str | None,
        proof: ClientSignature | None,
        *,
        key: str | None,
    ) -> Receipt:
        """The user's wallet, opened now or before (a hit). AlreadyExists for another custody or key than it has."""
        self._require_company(actor, company)
        subject = await self._pseudonyms.pseudonym(company, user)
        wallet = wallet_id(company, subject)
        if (there := self._there(wallet, custody, address)) is not None:
            return there
        nonce, deadline = self._ids.nonce(), int(self._clock()) + SIGNED_FOR_SECONDS
        if custody == "custodial":
            address = await self._keys.create(wallet)
            proof = ClientSignature(deadline, nonce, await self._keys.prove(wallet, company, nonce, deadline))
        if address is None or proof is None:
            raise SignatureMissing("own custody needs the key's address and a proof of its possession", wallet=wallet)
        command = c.OpenWallet(subject=subject, company=company, address=address, custody=custody, signature=proof)
        try:
            return await self._ledger.execute(Order.of(self._origin, command, actor, key or f"user {wallet}"))
        except (AlreadyExists, CommandKeyReused):  # the same user at the same time: the other one was first
            if (there := self._there(wallet, custody, address)) is not None:
                return there
            raise

    async def rotate(self, actor: Actor, wallet: str, *, key: str, expected_version: int | None) -> Receipt:
        """Give a custodial wallet a new key. Raises refusals."""
        found = self._memory.load(wallet)
        if not isinstance(found, Wallet) or (actor.company and found.company != actor.company):
            raise WalletNotFound(f"no wallet {wallet}", wallet=wallet)
        key_hash = command_key_hash(self._origin, actor, key)
        if (before := (await self._memory.known([key_hash])).get(key_hash)) is not None:
            return await self._repeated(wallet, before)
        if found.custody != "custodial":
            raise SignatureMissing("this wallet is in its user's own custody: send the new address and both signatures")
        found.require_active()
        found.expect_version(expected_version)  # before a key is made that nobody will ever use
        nonce = "0x" + hashlib.sha256(f"rotate {key_hash}".encode()).hexdigest()  # a repetition finds the same key
        deadline = int(self._clock()) + SIGNED_FOR_SECONDS
        made = await self._keys.rotate(wallet, found.address, nonce, deadline)
        command = c.RotateKey(
            wallet=wallet,
            new=made.new,
            signature=ClientSignature(deadline, nonce, made.signature),
            new_signature=ClientSignature(deadline, nonce, made.new_signature),
        )
        return await self._ledger.execute(
            Order.of(self._origin, command, actor, key, expected_version=expected_version)
        )

    # -- inside ------------------------------------------------------------------------------------------------------

    def _require_company(self, actor: Actor, company: str) -> None:
        """Before anything is made: the company exists, is active, and is the caller's."""
        if actor.company not in {"", company}:
            raise NotYourCompany(f"{actor.company} may not act for {company}", company=actor.company)
        found = self._memory.load(company_id(company))
        if not isinstance(found, Company):
            raise CompanyNotFound(f"no company {company!r}", company=company)
        found.require_active()

    def _there(self, wallet: str, custody: Custody, address: str | None) -> Receipt | None:
        """The wallet's opening as a repetition; None when there is no wallet. AlreadyExists when it is another one."""
        found = self._memory.load(wallet)
        if not isinstance(found, Wallet):
            return None
        opened: Record = self._entries.of_aggregate(wallet)[0]
        if found.custody != custody or (custody == "own" and address is not None and address != _address_of(opened[1])):
            raise AlreadyExists("this user has another wallet already", wallet=wallet, custody=found.custody)
        return Receipt(wallet, 1, [opened], hit=True)

    async def _repeated(self, wallet: str, before: KnownCommand) -> Receipt:
        receipt = await self._memory.receipt_of(before)
        if receipt.aggregate_id != wallet or decode_envelope(receipt.records[-1][1]).type != "WalletKeyRotated":
            raise CommandKeyReused("this Idempotency-Key was used before with another body", header="Idempotency-Key")
        return receipt


class _Address(msgspec.Struct):
    address: str


_decode_address = msgspec.json.Decoder(_Address).decode


def _address_of(entry: bytes) -> str:
    """The address that a WalletOpened entry names: a repeated sign-up may not know of later rotations."""
    return _decode_address(decode_envelope(entry).data).address

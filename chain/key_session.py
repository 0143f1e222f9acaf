"""The one short session in which keys are used: it belongs to one message of requests.

It opens what it needs, signs, and collects every row it owes (new keys, the last signed head, one audit row
per use); `commit` makes them durable together, and only then may answers leave.
"""

import hashlib
import secrets
from collections import defaultdict

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from chain.curve import address_of_secret, sign_digest
from chain.envelope import Context, seal
from chain.vault import (
    LOG,
    PROMISE,
    PUBLISHER,
    WALLET,
    AuditRow,
    ForeignDomainError,
    HeadRefusedError,
    Identity,
    NoteKey,
    NotInitialisedError,
    SealedKey,
    UnknownKeyError,
    Vault,
    VaultConflictError,
    note_name,
    verifier_key,
)
from merkle.notes import VerifierKey


class Session:
    """The uses of keys that belong to one message, on behalf of `who` (named in its audit rows)."""

    def __init__(self, vault: Vault, who: str) -> None:
        self._vault = vault
        self._who = who
        self._opened: dict[Context, bytes] = {}
        self._new: defaultdict[tuple[str, str], list[SealedKey]] = defaultdict(list)
        self._audit: list[AuditRow] = []
        self._identity: Identity | None = None
        self._pinned: Identity | None = None
        self._head: tuple[int, bytes] | None = None
        self._head_before: tuple[int, bytes] | None = None

    def __repr__(self) -> str:
        return f"Session({self._who}, {len(self._audit)} uses)"

    def identity(self) -> Identity:
        """What is pinned, read once per session."""
        if self._identity is None:
            self._identity = self._vault.identity()
        return self._identity

    def initialise(self, origin: str, chain_id: int) -> None:
        """Pin origin and chain id and make log, promise and publisher keys.

        A repeat with the same values does nothing. Raises ForeignDomainError when others are pinned.
        """
        try:
            pinned = self.identity()
        except NotInitialisedError:
            self._identity = self._pinned = Identity(origin, chain_id, "")
            for purpose in (LOG, PROMISE, PUBLISHER):
                self._create(purpose, "", 1, "")
            self._use("initialise", origin, b"")
            return
        if (pinned.origin, pinned.chain_id) != (origin, chain_id):
            raise ForeignDomainError(f"the vault belongs to {pinned.origin} on chain {pinned.chain_id}")

    def pin_contract(self, contract: str) -> None:
        """Fix the registry's address; a repeat is nothing, another address raises ForeignDomainError."""
        pinned = self.identity()
        if not pinned.contract:
            self._identity = self._pinned = pinned._replace(contract=contract)
            self._use("pin contract", contract, b"")
        elif pinned.contract.lower() != contract.lower():
            raise ForeignDomainError(f"the vault belongs to contract {pinned.contract}")

    def create_wallet_key(self, wallet_id: str) -> str:
        """The address of the wallet's first key, made now if there is none: the same however often asked."""
        try:
            return self._sealed(WALLET, wallet_id).address
        except UnknownKeyError:
            key = self._create(WALLET, wallet_id, 1, "")
        self._use("create wallet key", wallet_id, b"")
        return key.address

    def rotate_wallet_key(self, wallet_id: str, old: str, nonce: str) -> str:
        """The address of the key that follows `old`, made now unless this nonce made it before."""
        self._sealed(WALLET, wallet_id, old)  # there, and not erased
        rows = [SealedKey(*row) for row in self._vault.store.keys(WALLET, wallet_id)]
        rows += self._new.get((WALLET, wallet_id), [])
        for key in rows:
            if key.rotation == nonce:
                return key.address
        key = self._create(WALLET, wallet_id, rows[-1].version + 1, nonce)
        self._use("create wallet key", wallet_id, b"")
        return key.address

    def address(self, purpose: str, owner: str) -> str:
        """The address of the owner's first key."""
        return self._sealed(purpose, owner).address

    def newest_address(self, purpose: str, owner: str) -> str:
        """The address of the owner's newest key."""
        made = self._new.get((purpose, owner))
        rows = made or [SealedKey(*row) for row in self._vault.store.keys(purpose, owner)]
        if not rows:
            raise UnknownKeyError(f"no key: {Context(purpose, owner, '')}")
        return rows[-1].address

    def verifier_key(self, purpose: str) -> VerifierKey:
        """The public half of the log's or the promise's note key."""
        return verifier_key(purpose, self.identity().origin, self.address(purpose, ""))

    def sign(self, what: str, purpose: str, owner: str, address: str, digest: bytes) -> bytes:
        """RFC 6979 signature r, s, recovery bit (65 bytes) over a digest that this package computed itself.

        `address` "" takes the owner's first key. `what` is named in the audit row.
        """
        secret = self._secret(purpose, owner, address)
        self._use(what, owner, digest)
        return sign_digest(secret, digest)

    def sign_note(self, purpose: str, text: bytes) -> bytes:
        """The signature line of the log's or the promise's key for a note's text."""
        secret = self._secret(purpose, "", "")
        self._use(f"sign {purpose}", "", hashlib.sha256(text).digest())
        return NoteKey(note_name(purpose, self.identity().origin), secret).sign(text)

    def advance_head(self, size: int, root: bytes) -> None:
        """Note that a checkpoint of this head is being signed; HeadRefusedError when it takes one back."""
        last = self._head or self._vault.store.head()
        if size < last[0]:
            raise HeadRefusedError(f"a checkpoint of size {size} was asked for, {last[0]} was signed before")
        if size == last[0] and last[1] and root != last[1]:
            raise HeadRefusedError(f"another root of size {size} was signed before: this would be a fork")
        self._head_before = self._head_before or last
        self._head = (size, root)

    def commit(self) -> None:
        """Make keys, head and audit rows durable in one transaction; VaultConflictError when outrun.

        A crash before leaves nothing, and no answer has left. A crash after leaves a key or a head whose
        answer nobody saw: the same request again finds it and gets the same answer (signatures are
        deterministic).
        """
        head = None
        if self._head is not None and self._head_before is not None and self._head != self._head_before:
            head = (*self._head_before, *self._head)
        if not (self._pinned or self._new or head or self._audit):
            return
        keys = [key for made in self._new.values() for key in made]
        if not self._vault.store.commit(self._pinned, keys, head, self._audit):
            raise VaultConflictError("another process used the vault at the same moment")

    def _create(self, purpose: str, owner: str, version: int, rotation: str) -> SealedKey:
        if purpose in {LOG, PROMISE}:
            private = Ed25519PrivateKey.generate()
            secret, address = private.private_bytes_raw(), private.public_key().public_bytes_raw().hex()
        else:
            secret, address = _new_secret()
        sealed = seal(secret, Context(purpose, owner, address), self._vault.provider)
        key = SealedKey(purpose, owner, version, address, rotation, *sealed)
        self._new[purpose, owner].append(key)
        return key

    def _sealed(self, purpose: str, owner: str, address: str = "") -> SealedKey:
        for key in self._new.get((purpose, owner), ()):
            if address in {"", key.address}:
                return key
        return self._vault.sealed(purpose, owner, address)

    def _secret(self, purpose: str, owner: str, address: str) -> bytes:
        wanted = Context(purpose, owner, address)
        secret = self._opened.get(wanted)
        if secret is None:
            secret = self._opened[wanted] = self._vault.unseal(self._sealed(*wanted))
        return secret

    def _use(self, what: str, owner: str, digest: bytes) -> None:
        self._audit.append(self._vault.audit_row(self._who, what, owner, digest))


def _new_secret() -> tuple[bytes, str]:
    """A fresh secp256k1 secret (32 bytes) and its address."""
    while True:
        secret = secrets.token_bytes(32)
        try:
            return secret, address_of_secret(secret)
        except ValueError:  # outside the group: once in 2^128
            continue

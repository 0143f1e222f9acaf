"""The key vault: sealed keys in a store, opened with master keys; what a process may open is its scope's affair.

Keys: one per wallet (with its rotations), the publisher's (secp256k1), the log's and the promise's (Ed25519
note keys). `chain.key_session` is where they are used, in the signer's process.
"""

import time
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, Protocol

from chain.envelope import Context, KeyEncryptionProvider, Sealed, VaultError, unseal
from merkle.notes import KIND_ED25519, Ed25519Signer, VerifierKey

WALLET: Final = "wallet"
PUBLISHER: Final = "publisher"
LOG: Final = "log"
PROMISE: Final = "promise"
PAYLOAD: Final = "payload"
KeyRow = tuple[str, str, int, str, str, int, bytes, bytes, bytes, bytes]
AuditRow = tuple[int, str, str, str, bytes]


class UnknownKeyError(VaultError):
    """No key of that purpose, owner and address."""


class KeyErasedError(VaultError):
    """The key was destroyed on request; it cannot come back."""


class NotInitialisedError(VaultError):
    """The vault has no origin and chain yet."""


class ForeignDomainError(VaultError):
    """Another origin, chain id or contract than the pinned one."""


class HeadRefusedError(VaultError):
    """A checkpoint that takes back what was signed: smaller, or as large with another root."""


class VaultConflictError(VaultError):
    """Another process wrote at the same moment; nothing was written, do it again."""


class Identity(NamedTuple):
    """What the vault signs for; `contract` is "" until it is deployed."""

    origin: str
    chain_id: int
    contract: str


class SealedKey(NamedTuple):
    """A key at rest, as stored. `rotation` is the nonce of the rotation that made it, "" for the first."""

    purpose: str
    owner: str
    version: int
    address: str
    rotation: str
    kek: int
    wrap_nonce: bytes
    wrapped_key: bytes
    nonce: bytes
    ciphertext: bytes

    @property
    def context(self) -> Context:
        """What it is bound to."""
        return Context(self.purpose, self.owner, self.address)

    @property
    def sealed(self) -> Sealed:
        """The two sealed layers."""
        return Sealed(*self[5:])

    @property
    def erased(self) -> bool:
        """True once its data key is destroyed."""
        return not self.wrapped_key

    def __repr__(self) -> str:
        return f"SealedKey({self.context}, version {self.version}, master key {self.kek})"


class VaultStore(Protocol):
    """Where sealed keys lie.

    Duties: `commit` writes all or nothing and returns only when it is on disk; reads see the last commit of
    any process; rows are tuples in the order of SealedKey.
    """

    def identity(self) -> tuple[str, int, str] | None:
        """Origin, chain id, contract ("" while unknown), or None before initialisation."""
        ...

    def key(self, purpose: str, owner: str, address: str) -> KeyRow | None:
        """The key with that address."""
        ...

    def keys(self, purpose: str, owner: str) -> Sequence[KeyRow]:
        """Every version of an owner's key, oldest first."""
        ...

    def head(self) -> tuple[int, bytes]:
        """Size and root of the last checkpoint signed; (0, b"") before the first."""
        ...

    def commit(
        self,
        identity: tuple[str, int, str] | None,
        keys: Sequence[KeyRow],
        head: tuple[int, bytes, int, bytes] | None,
        audit: Sequence[AuditRow],
    ) -> bool:
        """Write all in one transaction, or nothing and False.

        False when a key version exists already, the identity differs from the pinned one, or the last head is
        not `head[:2]` any more. `head` is (size, root) before and after.
        """
        ...


class NoteKey:
    """An opened note key (Ed25519): shows its public half, never the secret; refuses to be pickled."""

    __slots__ = ("_signer", "key")

    def __init__(self, name: str, secret: bytes) -> None:
        self._signer = Ed25519Signer.from_seed(name, secret)
        self.key: VerifierKey = self._signer.key

    def sign(self, text: bytes) -> bytes:
        """The signature line (with its LF) for a note's text, as C2SP signed-note prescribes it."""
        return self._signer.sign(text)

    def __repr__(self) -> str:
        return f"NoteKey({self.key})"

    def __reduce__(self) -> str:
        raise TypeError("a note key does not leave its process")


def note_name(purpose: str, origin: str) -> str:
    """The key name of the log's or the promise's note key."""
    return origin if purpose == LOG else f"{origin}/promise"


def verifier_key(purpose: str, origin: str, public: str) -> VerifierKey:
    """The log's or the promise's verifier key from its public key of 64 hex digits."""
    return VerifierKey(note_name(purpose, origin), KIND_ED25519, bytes.fromhex(public))


class Vault:
    """Sealed keys in a store, opened with the master keys of a provider."""

    def __init__(
        self, store: VaultStore, provider: KeyEncryptionProvider, now: Callable[[], float] = time.time
    ) -> None:
        self.store = store
        self.provider = provider
        self._now = now

    def identity(self) -> Identity:
        """What is pinned; NotInitialisedError before that."""
        row = self.store.identity()
        if row is None:
            raise NotInitialisedError("the vault is not initialised: it has no origin and chain id yet")
        return Identity(*row)

    def verifier_key(self, purpose: str) -> VerifierKey:
        """The public half of the log's or the promise's note key; needs no master key."""
        return verifier_key(purpose, self.identity().origin, self.sealed(purpose, "").address)

    def open_note_key(self, purpose: str = PROMISE, who: str = "service") -> NoteKey:
        """Open a note key in this process, with an audit row for the opening.

        Meant for the promise key: a promise is signed for every answer, 46 microseconds in process against a
        round trip to the signer. The price: whoever reads the service's memory can sign promises (not
        checkpoints, wallets or anchors, whose master key the service need not hold), and single promises
        leave no audit row: the promise itself, with the client, is the record. The signer's SignPromise is
        the way without that price.
        """
        secret = self.unseal(self.sealed(purpose, ""))
        self.store.commit(None, (), None, (self.audit_row(who, f"open {purpose}", "", b""),))
        return NoteKey(note_name(purpose, self.identity().origin), secret)

    def sealed(self, purpose: str, owner: str, address: str = "") -> SealedKey:
        """The sealed key with that address, or the owner's first; UnknownKeyError, KeyErasedError."""
        rows = [self.store.key(purpose, owner, address)] if address else self.store.keys(purpose, owner)[:1]
        if not rows or rows[0] is None:
            raise UnknownKeyError(f"no key: {Context(purpose, owner, address)}")
        key = SealedKey(*rows[0])
        if key.erased:
            raise KeyErasedError(f"{key.context}: the key was erased")
        return key

    def unseal(self, key: SealedKey) -> bytes:
        """The secret of a sealed key; only for this package."""
        return unseal(key.sealed, key.context, self.provider)

    def audit_row(self, who: str, purpose: str, owner: str, digest: bytes) -> AuditRow:
        """One audit row, now."""
        return (int(self._now() * 1_000), who, purpose, owner, digest)

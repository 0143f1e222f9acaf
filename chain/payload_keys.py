"""Payloads from outside, sealed under a key per owner: a store line, or a single message.

Destroy the key, and all copies of what it sealed are noise, in the inbox, in the archive and in every backup, while
their hashes still verify.

Sealing is deterministic (a synthetic nonce, as in RFC 5297): the same payload gives the same bytes, so a message that a
store repeats is recognised by the hash of its ciphertext; that two are equal under one owner is no secret here.
AES-GCM does not commit to its key, so the key's commitment stands in front of the ciphertext and is checked first.

    1 byte version | 32 bytes commitment | 12 bytes nonce | AES-256-GCM ciphertext with its tag
"""

import hmac
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from chain.envelope import DATA_KEY_BYTES, NONCE_BYTES, Context, SealBrokenError, seal
from chain.vault import PAYLOAD, AuditRow, SealedKey, UnknownKeyError, Vault

_VERSION: Final = b"\x01"
_LABEL: Final = b"daicho/payload/1 "
_COMMITMENT_BYTES: Final = 32
_HEADER_BYTES: Final = len(_VERSION) + _COMMITMENT_BYTES + NONCE_BYTES
_REMEMBERED: Final = 4_096  # opened keys
REMEMBERED_SECONDS: Final = 60.0  # so long another process may go on with a key that was destroyed here


class _Opened(NamedTuple):
    """What is derived from an owner's key: one part for each use. `until` when it may be used without a look."""

    cipher: AESGCM
    nonce_key: bytes
    commitment: bytes
    until: float


class KeyStore(Protocol):
    """What of the vault's store is needed beside `chain.vault.VaultStore`."""

    def erase_keys(self, purpose: str, owner: str, audit: AuditRow) -> int:
        """Destroy every version of a key; how many there were."""
        ...


class PayloadKeys:
    """Seals and opens payloads. From any thread; needs the service's part of the master key."""

    def __init__(self, vault: Vault, store: KeyStore, *, now: Callable[[], float] = time.monotonic) -> None:
        self._vault, self._store, self._now = vault, store, now
        self._lock = threading.Lock()
        self._opened: OrderedDict[str, _Opened] = OrderedDict()

    def __repr__(self) -> str:
        return "PayloadKeys()"

    def seal(self, owner: str, payload: bytes) -> bytes:
        """The payload under the owner's key, which is made, durably, at first use. Raises KeyErasedError."""
        key = self._key(owner, make=True)
        nonce = hmac.digest(key.nonce_key, payload, "sha256")[:NONCE_BYTES]
        head = _VERSION + key.commitment + nonce
        return head + key.cipher.encrypt(nonce, payload, _bound(owner))

    def open(self, owner: str, sealed: bytes) -> bytes:
        """The payload again. Raises KeyErasedError, UnknownKeyError, and SealBrokenError for what was altered."""
        key = self._key(owner, make=False)
        version, commitment = sealed[:1], sealed[1 : 1 + _COMMITMENT_BYTES]
        if version != _VERSION or not hmac.compare_digest(commitment, key.commitment):
            raise SealBrokenError(f"{PAYLOAD} {owner}: sealed under another key")
        try:
            nonce = sealed[_HEADER_BYTES - NONCE_BYTES : _HEADER_BYTES]
            return key.cipher.decrypt(nonce, sealed[_HEADER_BYTES:], _bound(owner))
        except (InvalidTag, ValueError):
            raise SealBrokenError(f"{PAYLOAD} {owner}: the sealed payload was altered") from None

    def erase(self, owner: str, who: str = "service") -> bool:
        """Destroy the owner's key for good, with an audit row; False when there was none.

        Nobody seals under that owner again: what comes later is sealed under its own message's name.
        """
        audit = self._vault.audit_row(who, "erase payload key", owner, b"")
        erased = self._store.erase_keys(PAYLOAD, owner, audit) > 0
        with self._lock:
            self._opened.pop(owner, None)
        return erased

    # -- inside ------------------------------------------------------------------------------------------------------

    def _key(self, owner: str, *, make: bool) -> _Opened:
        with self._lock:
            found = self._opened.get(owner)
            if found is not None and self._now() < found.until:
                self._opened.move_to_end(owner)
                return found
        opened = _derived(self._secret(owner, make=make), self._now() + REMEMBERED_SECONDS)
        with self._lock:
            self._opened[owner] = opened
            if len(self._opened) > _REMEMBERED:
                self._opened.popitem(last=False)
        return opened

    def _secret(self, owner: str, *, make: bool) -> bytes:
        """The stored key. A crash after it was made and before anything was sealed leaves a key for the next time."""
        try:
            return self._vault.unseal(self._vault.sealed(PAYLOAD, owner))
        except UnknownKeyError:
            if not make:
                raise
        fresh = seal(secrets.token_bytes(DATA_KEY_BYTES), Context(PAYLOAD, owner, ""), self._vault.provider)
        audit = self._vault.audit_row("service", "create payload key", owner, b"")
        self._vault.store.commit(None, (SealedKey(PAYLOAD, owner, 1, "", "", *fresh),), None, (audit,))
        return self._vault.unseal(self._vault.sealed(PAYLOAD, owner))  # ours, or that of who was faster


def _derived(secret: bytes, until: float) -> _Opened:
    parts = [HKDFExpand(SHA256(), 32, _LABEL + use).derive(secret) for use in (b"seal", b"nonce", b"commit")]
    return _Opened(AESGCM(parts[0]), parts[1], parts[2], until)


def _bound(owner: str) -> bytes:
    return _LABEL + owner.encode()

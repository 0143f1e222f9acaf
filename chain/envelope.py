"""Envelope encryption: a data key for each secret, each data key wrapped by a versioned master key.

Rotating the master key then never touches a secret, and destroying one wrapped data key destroys one secret
for good. Both layers are AES-256-GCM, bound by associated data to the purpose, the owner and the public
identity of what they seal, the outer one also to the master key's version: rows cannot be swapped, relabelled
or moved between versions.
"""

import os
from typing import Final, NamedTuple, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

DATA_KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12  # random, NIST SP 800-38D section 8.2.2: safe below 2^32 uses of one key
_NO_MASTER_KEY: Final = 0  # the inner layer is not bound to a version, so that rewrapping leaves it as it is


class VaultError(Exception):
    """Root of what the vault refuses; the message names the purpose and the owner, never a secret."""


class SealBrokenError(VaultError):
    """A sealed secret does not open: altered, swapped, or sealed under another master key."""


class MasterKeyError(VaultError):
    """The master key is missing, readable by others, or not the one that is asked for."""


class Context(NamedTuple):
    """What a sealed secret belongs to; bound into both layers.

    `purpose` is one of the names in `chain.master_key.SCOPES`, `owner` e.g. a wallet id, `address` the public
    identity.
    """

    purpose: str
    owner: str
    address: str

    def associated_data(self, kek: int) -> bytes:
        """Purpose, owner, address and master key version, each behind its length: no two contexts collide."""
        parts = (b"daicho/vault/1", *(part.encode() for part in self), str(kek).encode())
        return b"".join(len(part).to_bytes(4, "big") + part for part in parts)

    def __str__(self) -> str:
        return f"{self.purpose} {self.owner} {self.address}".rstrip()


class WrappedKey(NamedTuple):
    """A data key under master key version `kek`."""

    kek: int
    nonce: bytes
    sealed: bytes


class Sealed(NamedTuple):
    """A secret at rest: its wrapped data key, and the secret under that."""

    kek: int
    wrap_nonce: bytes
    wrapped_key: bytes
    nonce: bytes
    ciphertext: bytes

    @property
    def wrapped(self) -> WrappedKey:
        """The outer layer alone."""
        return WrappedKey(self.kek, self.wrap_nonce, self.wrapped_key)


class KeyEncryptionProvider(Protocol):
    """Holds the master keys.

    Duties: versions only grow; a version unwraps what it wrapped until it is removed by hand; `wrap` uses the
    current one; nothing it raises or prints shows a key.
    """

    def current(self) -> int:
        """The version that `wrap` uses, at least 1."""
        ...

    def wrap(self, data_key: bytes, context: Context) -> WrappedKey:
        """Seal a 32-byte data key under the current master key."""
        ...

    def unwrap(self, wrapped: WrappedKey, context: Context) -> bytes:
        """The data key; SealBrokenError when it does not open, MasterKeyError when its version is missing."""
        ...

    def rewrap(self, wrapped: WrappedKey, context: Context) -> WrappedKey:
        """The same data key under the current master key."""
        ...


def seal(secret: bytes, context: Context, provider: KeyEncryptionProvider) -> Sealed:
    """Seal a secret under a fresh data key."""
    data_key, nonce = os.urandom(DATA_KEY_BYTES), os.urandom(NONCE_BYTES)
    ciphertext = AESGCM(data_key).encrypt(nonce, secret, context.associated_data(_NO_MASTER_KEY))
    wrapped = provider.wrap(data_key, context)
    return Sealed(wrapped.kek, wrapped.nonce, wrapped.sealed, nonce, ciphertext)


def unseal(sealed: Sealed, context: Context, provider: KeyEncryptionProvider) -> bytes:
    """The secret; SealBrokenError when anything about it or its context was altered."""
    data_key = provider.unwrap(sealed.wrapped, context)
    try:
        return AESGCM(data_key).decrypt(sealed.nonce, sealed.ciphertext, context.associated_data(_NO_MASTER_KEY))
    except InvalidTag:
        raise SealBrokenError(f"{context}: the sealed secret was altered or belongs to something else") from None


def rewrap(sealed: Sealed, context: Context, provider: KeyEncryptionProvider) -> Sealed:
    """The same secret with its data key under the current master key; the secret is never decrypted."""
    wrapped = provider.rewrap(sealed.wrapped, context)
    return sealed._replace(kek=wrapped.kek, wrap_nonce=wrapped.nonce, wrapped_key=wrapped.sealed)

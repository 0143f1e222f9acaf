"""secp256k1 and Keccak-256: native libraries, or the slow fallbacks that `assert_fast_crypto` refuses.

A missing wheel must never turn into a service that is forty times slower without a word: eth-keys falls back
to pure Python silently, eth-hash picks a slower Keccak silently. So the choice is made here, once, and can be
asked for.
"""

from functools import lru_cache
from typing import Final

try:
    from sha3 import keccak_256 as _keccak_256

    KECCAK_BACKEND = "pysha3"
except ImportError:  # pragma: no cover (covered in a child process)
    from Crypto.Hash import keccak as _slow_keccak

    KECCAK_BACKEND = "pycryptodome"

try:
    import coincurve
    from coincurve.context import GLOBAL_CONTEXT

    CURVE_BACKEND = "coincurve"
except ImportError:  # pragma: no cover (covered in a child process)
    from eth_keys.backends.native.main import NativeECCBackend
    from eth_keys.datatypes import PrivateKey as _SlowPrivateKey
    from eth_keys.datatypes import Signature as _SlowSignature

    CURVE_BACKEND = "native Python"

ORDER: Final = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141  # SEC 2, section 2.4.1
SECRET_BYTES: Final = 32
ADDRESS_BYTES: Final = 20


class SlowCryptoError(RuntimeError):
    """The fast native libraries are missing."""


def assert_fast_crypto(*, allow_slow: bool = False) -> None:
    """Raise SlowCryptoError unless libsecp256k1 and the C Keccak are in use; `allow_slow` for development."""
    slow = [
        f"{part} runs on {backend}, install {package}"
        for part, backend, wanted, package in (
            ("secp256k1", CURVE_BACKEND, "coincurve", "coincurve"),
            ("keccak", KECCAK_BACKEND, "pysha3", "safe-pysha3"),
        )
        if backend != wanted
    ]
    if slow and not allow_slow:
        raise SlowCryptoError("slow cryptography refused outside development: " + "; ".join(slow))


if KECCAK_BACKEND == "pysha3":

    def keccak(data: bytes) -> bytes:
        """Keccak-256 as Ethereum uses it (before SHA-3's padding), 32 bytes."""
        digest: bytes = _keccak_256(data).digest()
        return digest

else:  # pragma: no cover (covered in a child process)

    def keccak(data: bytes) -> bytes:
        """Keccak-256 as Ethereum uses it (before SHA-3's padding), 32 bytes."""
        return _slow_keccak.new(digest_bits=256, data=data).digest()


if CURVE_BACKEND == "coincurve":

    class _Signer(coincurve.PrivateKey):
        """A private key without its two public keys: computing them costs twice as much as a signature."""

        def __init__(self, secret: bytes) -> None:  # the secret was checked when the key was made
            self.secret = secret
            self.context = GLOBAL_CONTEXT

    def sign_digest(secret: bytes, digest: bytes) -> bytes:
        """RFC 6979 low-s signature over a 32-byte digest: r, s and the recovery bit 0 or 1, 65 bytes."""
        signature: bytes = _Signer(secret).sign_recoverable(digest, hasher=None)
        return signature

    def public_key(secret: bytes) -> bytes:
        """The 64 bytes x, y of the public key; ValueError for a secret outside the group."""
        point: bytes = coincurve.PrivateKey(secret).public_key.format(compressed=False)
        return point[1:]

    def recover(signature: bytes, digest: bytes) -> bytes:
        """The 64 bytes x, y of the key that made r, s, recovery bit; ValueError when there is none."""
        found = coincurve.PublicKey.from_signature_and_message(signature, digest, hasher=None)
        point: bytes = found.format(compressed=False)
        return point[1:]

else:  # pragma: no cover (covered in a child process)

    def sign_digest(secret: bytes, digest: bytes) -> bytes:
        """RFC 6979 low-s signature over a 32-byte digest: r, s and the recovery bit 0 or 1, 65 bytes."""
        key = _SlowPrivateKey(secret, backend=NativeECCBackend())
        return key.sign_msg_hash(digest).to_bytes()

    def public_key(secret: bytes) -> bytes:
        """The 64 bytes x, y of the public key; ValueError for a secret outside the group."""
        if not 0 < int.from_bytes(secret, "big") < ORDER:
            raise ValueError("not a secret of the group")
        return _SlowPrivateKey(secret, backend=NativeECCBackend()).public_key.to_bytes()

    def recover(signature: bytes, digest: bytes) -> bytes:
        """The 64 bytes x, y of the key that made r, s, recovery bit; ValueError when there is none."""
        try:
            found = _SlowSignature(signature, backend=NativeECCBackend())
            return found.recover_public_key_from_msg_hash(digest).to_bytes()
        except Exception as error:  # eth-keys has an exception tree of its own
            raise ValueError("no key recovers") from error


@lru_cache(maxsize=65_536)
def checksummed(address: bytes) -> str:
    """EIP-55 spelling of a 20-byte address."""
    digits = address.hex()
    case = keccak(digits.encode()).hex()
    return "0x" + "".join(d.upper() if c >= "8" else d for d, c in zip(digits, case, strict=False))


def address_of_public_key(point: bytes) -> str:
    """EIP-55 address of a public key given as 64 bytes x, y."""
    return checksummed(keccak(point)[-ADDRESS_BYTES:])


def address_of_secret(secret: bytes) -> str:
    """EIP-55 address of a private key of 32 bytes."""
    return address_of_public_key(public_key(secret))

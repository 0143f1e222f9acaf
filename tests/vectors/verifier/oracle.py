"""Keys, notes and trees for the verifier's tests, by other people's libraries and by the definitions of RFC 9162.

Keys come from labels and signatures are deterministic, so the same book has the same bytes in every run. Nothing here
uses the verifier's own code.
"""

import base64
import hashlib
import uuid
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from eth_account import Account


def seed(label: str) -> bytes:
    return hashlib.sha256(b"daicho verifier test: " + label.encode()).digest()


def note_key(label: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(seed(label))


def wallet_key(label: str) -> Any:
    return Account.from_key(seed(label))


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def uid(label: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, label))


def vkey(name: str, key: Any, kind: int = 1) -> str:
    typed = bytes([kind]) + key.public_key().public_bytes_raw()
    return f"{name}+{key_id(name, key, kind).hex()}+{b64(typed)}"


def key_id(name: str, key: Any, kind: int = 1) -> bytes:
    typed = bytes([kind]) + key.public_key().public_bytes_raw()
    return hashlib.sha256(name.encode() + b"\n" + typed).digest()[:4]


def leaf_hash(data: bytes) -> bytes:
    return hashlib.sha256(b"\x00" + data).digest()


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


def mth(leaves: Any) -> bytes:
    """MTH of RFC 9162 section 2.1.1, over leaf hashes."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    k = 1 << ((len(leaves) - 1).bit_length() - 1)
    return _node(mth(leaves[:k]), mth(leaves[k:]))


def path(m: int, leaves: Any) -> list[bytes]:
    """PATH of RFC 9162 section 2.1.3.1."""
    if len(leaves) <= 1:
        return []
    k = 1 << ((len(leaves) - 1).bit_length() - 1)
    if m < k:
        return [*path(m, leaves[:k]), mth(leaves[k:])]
    return [*path(m - k, leaves[k:]), mth(leaves[:k])]


def proof(m: int, leaves: Any, *, whole: bool = True) -> list[bytes]:
    """PROOF and SUBPROOF of RFC 9162 section 2.1.4.1."""
    if m == len(leaves):
        return [] if whole else [mth(leaves)]
    k = 1 << ((len(leaves) - 1).bit_length() - 1)
    if m <= k:
        return [*proof(m, leaves[:k], whole=whole), mth(leaves[k:])]
    return [*proof(m - k, leaves[k:], whole=False), mth(leaves[:k])]


def sign_note(text: str, *lines: tuple[str, bytes, bytes]) -> str:
    """A signed note; each line is (name, key id, signature bytes)."""
    return text + "\n" + "".join(f"— {name} {b64(ident + value)}\n" for name, ident, value in lines)


def checkpoint_text(origin: Any, leaves: Any, *, size: Any = None, root: Any = None) -> str:
    size = len(leaves) if size is None else size
    return f"{origin}\n{size}\n{b64(mth(leaves) if root is None else root)}\n"

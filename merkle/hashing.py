"""Leaf and node hashes of RFC 6962 section 2.1, one by one and in batches."""

from collections.abc import Iterable
from hashlib import sha256
from struct import Struct

HASH_BYTES = 32

EMPTY_ROOT = sha256(b"").digest()
"""The root of the tree without leaves: SHA-256 of nothing."""

# A copied context is up to 1.4 times faster than a new one, for which OpenSSL 3 looks the algorithm up again.
# The prefix that tells leaves from nodes is already in it.
_leaf_context = sha256(b"\x00").copy
_node_context = sha256(b"\x01").copy
_pairs = Struct("64s").iter_unpack


def leaf_hash(entry: bytes) -> bytes:
    """SHA-256(0x00 || entry), 32 bytes."""
    context = _leaf_context()
    context.update(entry)
    return context.digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """SHA-256(0x01 || left || right), 32 bytes; both children are 32 bytes long."""
    context = _node_context()
    context.update(left + right)
    return context.digest()


def leaf_hashes(entries: Iterable[bytes]) -> bytes:
    """The leaf hashes of `entries` in order, joined (32 bytes each)."""
    hashes: list[bytes] = []
    keep, new = hashes.append, _leaf_context
    for entry in entries:
        context = new()
        context.update(entry)
        keep(context.digest())
    return b"".join(hashes)


def parent_hashes(level: bytes) -> bytes:
    """The node hashes one height above `level`, joined; `level` holds whole pairs (64 bytes each)."""
    hashes: list[bytes] = []
    keep, new = hashes.append, _node_context
    for (pair,) in _pairs(level):
        context = new()
        context.update(pair)
        keep(context.digest())
    return b"".join(hashes)

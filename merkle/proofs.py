"""Checking inclusion and consistency proofs, as RFC 9162 sections 2.1.3.2 and 2.1.4.2 write it down.

Every check returns nothing or raises `ProofError`: a forgotten `if` cannot accept a proof.
"""

from collections.abc import Sequence

from merkle.hashing import HASH_BYTES, node_hash

SIZE_LIMIT = 1 << 63
"""Sizes and indices are below this (C2SP tlog-checkpoint)."""


class ProofError(ValueError):
    """A proof does not prove what it is said to prove."""


def verify_inclusion(index: int, size: int, leaf: bytes, path: Sequence[bytes], root: bytes) -> None:
    """Check that `leaf` (a leaf hash) is number `index` of the `size` leaves under `root`.

    1. the index is inside the size, the size below 2**63, every hash 32 bytes long;
    2. the path is neither too long nor too short for that place;
    3. leaf and path hash to the root.
    """
    _require_hashes(leaf, root, *path)
    if not 0 <= index < size < SIZE_LIMIT:
        raise ProofError(f"inclusion: index {index} and size {size} are no place in a tree")
    node, last, running = index, size - 1, leaf
    for sibling in path:
        if last == 0:
            raise ProofError("inclusion: the path is too long")
        if node & 1 or node == last:
            running = node_hash(sibling, running)
            up = _up_to_right_child(node)
            node, last = node >> up, last >> up
        else:
            running = node_hash(running, sibling)
        node, last = node >> 1, last >> 1
    if last != 0:
        raise ProofError("inclusion: the path is too short")
    if running != root:
        raise ProofError("inclusion: the path leads to another root")


def verify_consistency(old_size: int, size: int, old_root: bytes, root: bytes, proof: Sequence[bytes]) -> None:
    """Check that the tree of `old_size` leaves under `old_root` is a prefix of that of `size` under `root`.

    1. sizes ascend from 1, below 2**63, every hash 32 bytes long (an old size of 0 proves nothing: refused);
    2. equal sizes need equal roots and an empty proof;
    3. the proof is neither too long nor too short;
    4. it hashes to both roots.
    """
    _require_hashes(old_root, root, *proof)
    if not 0 < old_size <= size < SIZE_LIMIT:
        raise ProofError(f"consistency: sizes {old_size} and {size} cannot be compared")
    if old_size == size and (proof or old_root != root):
        raise ProofError(f"consistency: two different trees of size {size}")
    _climb_both(0, old_size - 1, size - 1, old_root, root, proof)


def verify_subtree_inclusion(index: int, start: int, end: int, leaf: bytes, path: Sequence[bytes], root: bytes) -> None:
    """Check that `leaf` is leaf `index` of the log, inside the subtree start..end-1 with that `root`."""
    if not is_subtree(start, end):
        raise ProofError(f"inclusion: [{start}, {end}) is no subtree")
    verify_inclusion(index - start, end - start, leaf, path, root)


def verify_subtree_consistency(
    start: int, end: int, size: int, subtree_root: bytes, root: bytes, proof: Sequence[bytes]
) -> None:
    """Check that the subtree start..end-1 with `subtree_root` is part of the tree of `size` under `root`.

    Source: draft-ietf-plants-merkle-tree-certs, "Verifying a Subtree Consistency Proof".
    """
    _require_hashes(subtree_root, root, *proof)
    if start == end or not is_subtree(start, end) or not end <= size < SIZE_LIMIT:
        raise ProofError(f"consistency: [{start}, {end}) is no subtree of size {size}")
    _climb_both(start, end - 1, size - 1, subtree_root, root, proof)


def is_subtree(start: int, end: int) -> bool:
    """Whether start..end-1 is a subtree: empty, or `start` divisible by the least power of two >= width."""
    return 0 <= start <= end < SIZE_LIMIT and (start == end or start & ((1 << (end - start - 1).bit_length()) - 1) == 0)


def _climb_both(first: int, last: int, edge: int, old_root: bytes, root: bytes, proof: Sequence[bytes]) -> None:
    """Hash from the last whole node of the old tree up to both roots.

    `first` and `last` are the leaves that bound the old tree, `edge` is the last leaf of the new one. With
    first = 0 this is RFC 9162 2.1.4.2.
    """
    # Up to the largest node that ends where the old tree ends and is the same in both trees.
    up = (first ^ last).bit_length()
    if last != edge:
        up = min(up, (~last & last + 1).bit_length() - 1)
    first, last, edge = first >> up, last >> up, edge >> up
    # That node is the whole old tree, or it comes first in the proof.
    hashes = [old_root, *proof] if first == last else proof
    if not hashes:
        raise ProofError("consistency: the proof is empty")
    old = new = hashes[0]
    for sibling in hashes[1:]:
        if edge == 0:
            raise ProofError("consistency: the proof is too long")
        if last & 1 or last == edge:
            if first < last:
                old = node_hash(sibling, old)
            new = node_hash(sibling, new)
            up = _up_to_right_child(last)
            first, last, edge = first >> up, last >> up, edge >> up
        else:
            new = node_hash(new, sibling)
        first, last, edge = first >> 1, last >> 1, edge >> 1
    if edge != 0:
        raise ProofError("consistency: the proof is too short")
    if old != old_root:
        raise ProofError("consistency: the proof leads to another old root")
    if new != root:
        raise ProofError("consistency: the proof leads to another root")


def _up_to_right_child(node: int) -> int:
    """How many heights a node on the right edge climbs without a sibling."""
    return (node & -node).bit_length() - 1


def _require_hashes(*hashes: bytes) -> None:
    for each in hashes:
        if len(each) != HASH_BYTES:
            raise ProofError(f"a hash of {len(each)} bytes instead of {HASH_BYTES}")

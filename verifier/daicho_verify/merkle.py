"""RFC 6962 / RFC 9162 Merkle trees: leaf and node hashes, and the checking of proofs."""

import hashlib
from collections.abc import Callable, Sequence

HASH_BYTES = 32
EMPTY_ROOT = hashlib.sha256(b"").digest()

NodeAt = Callable[[int, int], bytes]  # (level, index) -> hash of the perfect subtree of 2^level leaves


def leaf_hash(entry: bytes) -> bytes:
    """Hash an entry as a leaf: SHA-256(0x00 || entry), RFC 9162 section 2.1.1."""
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash two children: SHA-256(0x01 || left || right), RFC 9162 section 2.1.1."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def _sound(hashes: Sequence[bytes]) -> bool:
    return all(len(value) == HASH_BYTES for value in hashes)


def verify_inclusion(index: int, size: int, leaf: bytes, proof: Sequence[bytes], root: bytes) -> bool:
    """Say whether `leaf` is at 0-based `index` in the tree of `size` with `root` (RFC 9162 section 2.1.3.2)."""
    if not 0 <= index < size or not _sound([leaf, root, *proof]):
        return False
    fn, sn, value = index, size - 1, leaf
    for sibling in proof:
        if sn == 0:
            return False
        if fn & 1 or fn == sn:
            value = node_hash(sibling, value)
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            value = node_hash(value, sibling)
        fn, sn = fn >> 1, sn >> 1
    return sn == 0 and value == root


def verify_consistency(first: int, second: int, first_root: bytes, second_root: bytes, proof: Sequence[bytes]) -> bool:
    """Say whether the tree of size `second` extends the one of size `first` (RFC 9162 section 2.1.4.2).

    A first size of 0 proves nothing and is refused: it is the caller's decision.
    """
    if not 0 < first <= second or not _sound([first_root, second_root, *proof]):
        return False
    if first == second:
        return not proof and first_root == second_root
    path = [first_root, *proof] if first & (first - 1) == 0 else list(proof)
    if not proof:
        return False
    fn, sn = first - 1, second - 1
    while fn & 1:
        fn, sn = fn >> 1, sn >> 1
    old = new = path[0]
    for sibling in path[1:]:
        if sn == 0:
            return False
        if fn & 1 or fn == sn:
            old, new = node_hash(sibling, old), node_hash(sibling, new)
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            new = node_hash(new, sibling)
        fn, sn = fn >> 1, sn >> 1
    return sn == 0 and old == first_root and new == second_root


def split(size: int) -> int:
    """Give the largest power of two below `size` (size > 1): where RFC 9162 cuts a tree."""
    return 1 << ((size - 1).bit_length() - 1)


def range_root(low: int, high: int, node: NodeAt, cut: int = 0) -> bytes:
    """Give the hash of leaves [low, high) from perfect subtrees, none of which straddles `cut`.

    With the same `node`, range_root(0, m, node) uses a subset of the subtrees of range_root(0, n, node, cut=m): if the
    latter equals a trusted root, the former is that tree's true root at size m.
    """
    width = high - low
    if width & (width - 1) == 0 and not low < cut < high:
        return node(width.bit_length() - 1, low // width)
    middle = low + split(width)
    return node_hash(range_root(low, middle, node, cut), range_root(middle, high, node, cut))


def inclusion_path(index: int, size: int, node: NodeAt) -> list[bytes]:
    """Give the audit path of leaf `index` (0-based) in the tree of `size`, leaf sibling first."""
    low, high, path = 0, size, []
    while high - low > 1:
        middle = low + split(high - low)
        if index < middle:
            path.append(range_root(middle, high, node))
            high = middle
        else:
            path.append(range_root(low, middle, node))
            low = middle
    return path[::-1]


def perfect_root(hashes: Sequence[bytes]) -> bytes:
    """Give the root over a power of two of hashes."""
    row = list(hashes)
    while len(row) > 1:
        row = [node_hash(row[i], row[i + 1]) for i in range(0, len(row), 2)]
    return row[0]


class Frontier:
    """The right edge of a growing tree: enough to append leaves and to give the root at any moment."""

    def __init__(self) -> None:
        self.size = 0
        self._edge: list[bytes] = []

    def append(self, leaf: bytes) -> None:
        """Add one leaf hash on the right."""
        bits = self.size
        while bits & 1:
            leaf = node_hash(self._edge.pop(), leaf)
            bits >>= 1
        self._edge.append(leaf)
        self.size += 1

    def root(self) -> bytes:
        """Give the root at the present size; the hash of nothing for an empty tree."""
        if not self._edge:
            return EMPTY_ROOT
        value = self._edge[-1]
        for left in reversed(self._edge[:-1]):
            value = node_hash(left, value)
        return value

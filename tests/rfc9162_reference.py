"""A second, plain implementation of RFC 9162 proofs, written from the RFC's text, to judge others by."""

import hashlib
from collections.abc import Sequence


def leaf_hash(entry: bytes) -> bytes:
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


def split(size: int) -> int:
    """The largest power of two below size (RFC 9162 section 2.1.1)."""
    return 1 << ((size - 1).bit_length() - 1)


class SparseTree:
    """A tree of up to 2^64 leaves: complete subtrees that no `cut` falls into have made-up hashes."""

    def __init__(self, cuts: Sequence[int], leaves: Sequence[bytes] | None = None, seed: bytes = b"seed") -> None:
        self._cuts, self._leaves, self._seed = cuts, leaves, seed
        self._known: dict[tuple[int, int], bytes] = {}

    def range_root(self, start: int, end: int) -> bytes:
        known = self._known.get((start, end))
        if known is not None:
            return known
        width = end - start
        if self._leaves is not None and width == 1:
            root = self._leaves[start]
        elif self._leaves is None and self._is_made_up(start, end):
            root = hashlib.sha256(self._seed + start.to_bytes(8, "big") + end.to_bytes(9, "big")).digest()
        else:
            middle = start + split(width)
            root = node_hash(self.range_root(start, middle), self.range_root(middle, end))
        self._known[start, end] = root
        return root

    def _is_made_up(self, start: int, end: int) -> bool:
        width = end - start
        aligned = width & (width - 1) == 0 and start % width == 0
        return aligned and (width == 1 or not any(start < cut < end for cut in self._cuts))

    def root(self, size: int) -> bytes:
        return self.range_root(0, size) if size else hashlib.sha256(b"").digest()

    def inclusion(self, index: int, size: int) -> list[bytes]:
        """RFC 9162 section 2.1.3.1."""
        path: list[bytes] = []
        start, end = 0, size
        while end - start > 1:
            middle = start + split(end - start)
            if index < middle:
                path.append(self.range_root(middle, end))
                end = middle
            else:
                path.append(self.range_root(start, middle))
                start = middle
        return path[::-1]

    def consistency(self, first: int, second: int) -> list[bytes]:
        """RFC 9162 section 2.1.4.1."""

        def subproof(first: int, start: int, end: int, *, whole: bool) -> list[bytes]:
            if first == end - start:
                return [] if whole else [self.range_root(start, end)]
            middle = split(end - start)
            if first <= middle:
                return [
                    *subproof(first, start, start + middle, whole=whole),
                    self.range_root(start + middle, end),
                ]
            rest = subproof(first - middle, start + middle, end, whole=False)
            return [*rest, self.range_root(start, start + middle)]

        return subproof(first, 0, second, whole=True)


def _climb(fn: int, sn: int) -> tuple[int, int]:
    while fn and not fn & 1:
        fn, sn = fn >> 1, sn >> 1
    return fn, sn


def includes(leaf: bytes, index: int, size: int, path: Sequence[bytes], root: bytes) -> bool:
    """RFC 9162 section 2.1.3.2."""
    if index >= size:
        return False
    fn, sn, computed = index, size - 1, leaf
    for node in path:
        if sn == 0:
            return False
        if fn & 1 or fn == sn:
            computed = node_hash(node, computed)
            fn, sn = _climb(fn, sn)
        else:
            computed = node_hash(computed, node)
        fn, sn = fn >> 1, sn >> 1
    return sn == 0 and computed == root


def is_consistent(first: int, first_root: bytes, second: int, second_root: bytes, proof: Sequence[bytes]) -> bool:
    """RFC 9162 section 2.1.4.2, for 0 < first < second; equal heads agree with an empty proof."""
    if first == second:
        return first != 0 and not proof and first_root == second_root
    if first == 0 or first > second or not proof:
        return False
    nodes = [first_root, *proof] if first & (first - 1) == 0 else list(proof)
    fn, sn = first - 1, second - 1
    while fn & 1:
        fn, sn = fn >> 1, sn >> 1
    fr = sr = nodes[0]
    for node in nodes[1:]:
        if sn == 0:
            return False
        if fn & 1 or fn == sn:
            fr, sr = node_hash(node, fr), node_hash(node, sr)
            fn, sn = _climb(fn, sn)
        else:
            sr = node_hash(sr, node)
        fn, sn = fn >> 1, sn >> 1
    return fr == first_root and sr == second_root and sn == 0

"""The recursive definitions of RFC 6962 and of the subtree draft, written down as they stand: slow, and obvious."""

from functools import cache
from hashlib import sha256


def leaf(entry: bytes) -> bytes:
    return sha256(b"\x00" + entry).digest()


def node(left: bytes, right: bytes) -> bytes:
    return sha256(b"\x01" + left + right).digest()


def split(width: int) -> int:
    power = 1
    while power * 2 < width:
        power *= 2
    return power


class ReferenceTree:
    """Definitions over a fixed list of leaf hashes; ranges are start..end-1."""

    def __init__(self, leaves: list[bytes]) -> None:
        self.leaves = leaves
        self.root = cache(self._root)

    def _root(self, start: int, end: int) -> bytes:
        width = end - start
        if width == 0:
            return sha256(b"").digest()
        if width == 1:
            return self.leaves[start]
        middle = start + split(width)
        return node(self.root(start, middle), self.root(middle, end))

    def path(self, index: int, start: int, end: int) -> list[bytes]:
        if end - start == 1:
            return []
        middle = start + split(end - start)
        if index < middle:
            return [*self.path(index, start, middle), self.root(middle, end)]
        return [*self.path(index, middle, end), self.root(start, middle)]

    def subproof(self, old: int, start: int, end: int, known: bool) -> list[bytes]:
        """SUBPROOF of RFC 9162 2.1.4.1; `old` counts from `start`."""
        if old == end - start:
            return [] if known else [self.root(start, end)]
        half = split(end - start)
        middle = start + half
        if old <= half:
            return [*self.subproof(old, start, middle, known), self.root(middle, end)]
        return [*self.subproof(old - half, middle, end, False), self.root(start, middle)]

    def consistency(self, old: int, size: int) -> list[bytes]:
        return self.subproof(old, 0, size, True)

"""The right edge of a Merkle tree: enough to append and to know the root, in 32 bytes times the height."""

from collections.abc import Sequence

from merkle.hashing import EMPTY_ROOT, HASH_BYTES, node_hash, parent_hashes


class CompactRange:
    """The roots of the perfect subtrees that make up a tree, one for each set bit of its size.

    Made empty, or resumed from `size` and `hashes` (largest subtree first) as an earlier range gave them.
    """

    def __init__(self, size: int = 0, hashes: Sequence[bytes] = ()) -> None:
        """Resume at `size`; ValueError when `hashes` are not one 32-byte hash for each set bit of it."""
        if size < 0 or len(hashes) != size.bit_count() or any(len(each) != HASH_BYTES for each in hashes):
            raise ValueError(f"CompactRange: {len(hashes)} hashes do not make up a tree of {size} leaves")
        self.size = size
        self._at_height: list[bytes] = [b""] * size.bit_length()
        heights = (height for height in range(size.bit_length() - 1, -1, -1) if size >> height & 1)
        for height, subtree in zip(heights, hashes, strict=True):
            self._at_height[height] = subtree

    @property
    def hashes(self) -> list[bytes]:
        """The subtree roots, largest first."""
        return [subtree for subtree in reversed(self._at_height) if subtree]

    def append(self, hashes: bytes) -> None:
        """Add leaf hashes, joined (32 bytes each); costs two hashes a leaf at most."""
        if len(hashes) % HASH_BYTES:
            raise ValueError(f"CompactRange: {len(hashes)} bytes are not whole leaf hashes")
        self.size += len(hashes) // HASH_BYTES
        height = 0
        while hashes:
            if height == len(self._at_height):
                self._at_height.append(b"")
            level = self._at_height[height] + hashes
            paired = len(level) & -2 * HASH_BYTES
            self._at_height[height] = level[paired:]
            hashes = parent_hashes(level[:paired])
            height += 1

    def root(self) -> bytes:
        """The root over all leaves so far (RFC 6962 MTH), EMPTY_ROOT without any."""
        root = b""
        for subtree in self._at_height:
            if subtree:
                root = node_hash(subtree, root) if root else subtree
        return root or EMPTY_ROOT

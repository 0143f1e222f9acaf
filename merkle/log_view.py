"""What is published of a log, for readers in any thread: the last checkpoint and all that it covers."""

from typing import NamedTuple

from merkle.flat_log import FlatLog, OutOfTreeError
from merkle.tiles import TILE_HEIGHT, TILE_WIDTH


class PublishedHead(NamedTuple):
    """The last checkpoint shown: `note` is the whole signed note."""

    size: int
    root: bytes
    note: bytes


class LogView:
    """Checkpoint, proofs and tiles of the published part of a tree; nothing above its size is shown.

    One thread calls `show`; readers never wait. OutOfTreeError answers whatever lies beyond that size.
    """

    def __init__(self) -> None:
        self._shown: tuple[FlatLog, PublishedHead | None] = (FlatLog(), None)

    def show(self, tree: FlatLog, head: PublishedHead | None) -> None:
        """Publish `head` (None: nothing signed yet) of `tree`, which the one writer goes on growing."""
        self._shown = (tree, head)

    @property
    def head(self) -> PublishedHead | None:
        """The last checkpoint shown, None before the first."""
        return self._shown[1]

    @property
    def size(self) -> int:
        """The published size in leaves, 0 before the first checkpoint."""
        head = self.head
        return head.size if head else 0

    def checkpoint(self) -> bytes | None:
        """The signed note of the last checkpoint, None before the first."""
        head = self.head
        return head.note if head else None

    def leaf(self, index: int) -> bytes:
        """The leaf hash at `index` (0-based)."""
        return self._tree_of(index + 1).leaf(index)

    def root(self, size: int) -> bytes:
        """The root at `size`, any size up to the published one."""
        return self._tree_of(size).root(size)

    def inclusion_path(self, index: int, size: int) -> list[bytes]:
        """The audit path of leaf `index` in the tree of `size` leaves, leaf sibling first."""
        return self._tree_of(size).inclusion_path(index, size)

    def consistency(self, old_size: int, size: int) -> list[bytes]:
        """The proof that the tree of `old_size` leaves (1 at least) is a prefix of that of `size`."""
        return self._tree_of(size).consistency_proof(old_size, size)

    def tile(self, level: int, index: int, width: int = TILE_WIDTH) -> bytes:
        """The first `width` hashes of a tile, as far as the published size fills it."""
        last_leaf = (index * TILE_WIDTH + width) << TILE_HEIGHT * level if level >= 0 else -1
        return self._tree_of(last_leaf).tile(level, index, width)

    def _tree_of(self, size: int) -> FlatLog:
        tree, head = self._shown
        published = head.size if head else 0
        if not 0 <= size <= published:
            raise OutOfTreeError(f"size {size}", published)
        return tree

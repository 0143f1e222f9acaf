"""The whole tree in memory as flat, immutable tiles: 64 bytes a leaf, proofs by slicing, no hash twice.

The nodes are kept by tile level (C2SP tlog-tiles: 8 heights a level). A full tile is one `bytes` object: its
256 hashes, then the 128 nodes above them, 64, ... down to 2 (510 hashes, 16,320 bytes); its first 8,192 bytes
are the published tile. The last, open tile of a level is a tuple of nine rows, replaced whole when it grows.

One thread appends; any number may read sizes that were complete before they asked. Nothing that a reader may
hold is ever changed in place, so readers need no lock.
"""

from collections.abc import Callable
from functools import cache
from struct import Struct
from typing import Any

from merkle.hashing import EMPTY_ROOT, HASH_BYTES, node_hash, parent_hashes
from merkle.tiles import TILE_HEIGHT, TILE_WIDTH

_TILE_BYTES = TILE_WIDTH * HASH_BYTES
_NO_ROWS = (b"",) * (TILE_HEIGHT + 1)
_TAILS_KEPT = 1024

# Where each of the eight rows starts inside a full tile, and how long it is (a power of two), in bytes.
_ROW_BYTES = tuple(_TILE_BYTES >> row for row in range(TILE_HEIGHT))
_ROW_START = tuple(sum(_ROW_BYTES[:row]) for row in range(TILE_HEIGHT))

_Picker = Callable[[bytes], tuple[Any, ...]]


class OutOfTreeError(LookupError):
    """Something was asked about leaves, sizes or tiles that the tree does not have (yet)."""

    def __init__(self, asked: str, size: int) -> None:
        """`asked` in words; `size` is what there is, in leaves."""
        super().__init__(f"Merkle log: {asked} is outside of the tree of {size} leaves")
        self.asked = asked
        self.size = size


class FlatLog:
    """An append-only RFC 6962 tree that answers for every size it ever had."""

    def __init__(self) -> None:
        self.size = 0
        self._levels: list[_TileLevel] = []
        self._pickers = _sibling_pickers()
        self._tails: dict[tuple[int, int], list[bytes]] = {}

    def append(self, hashes: bytes) -> None:
        """Add leaf hashes, joined (32 bytes each). ValueError when they are not whole."""
        if len(hashes) % HASH_BYTES:
            raise ValueError(f"FlatLog: {len(hashes)} bytes are not whole leaf hashes")
        size = self.size + len(hashes) // HASH_BYTES
        level = 0
        while hashes:
            if level == len(self._levels):
                self._levels.append(_TileLevel())
            hashes = self._levels[level].append(hashes)
            level += 1
        self.size = size

    def leaf(self, index: int) -> bytes:
        """The leaf hash at `index` (0-based)."""
        if not 0 <= index < self.size:
            raise OutOfTreeError(f"leaf {index}", self.size)
        return self._node(0, index)

    def root(self, size: int | None = None) -> bytes:
        """The root of the first `size` leaves (all by default); EMPTY_ROOT of none."""
        size = self.size if size is None else size
        if not 0 <= size <= self.size:
            raise OutOfTreeError(f"size {size}", self.size)
        return self.subtree_root(0, size) if size else EMPTY_ROOT

    def subtree_root(self, start: int, end: int) -> bytes:
        """The root of the leaves start..end-1, a subtree as `proofs.is_subtree` says."""
        width = end - start
        if not 0 <= start < end <= self.size or start & ((1 << (width - 1).bit_length()) - 1):
            raise OutOfTreeError(f"subtree [{start}, {end})", self.size)
        return self._subtree(start, end)

    def inclusion_path(self, index: int, size: int | None = None) -> list[bytes]:
        """The audit path of leaf `index` in the tree of `size`, leaf sibling first (RFC 9162 2.1.3.1)."""
        size = self.size if size is None else size
        if not 0 <= index < size <= self.size:
            raise OutOfTreeError(f"leaf {index} in size {size}", self.size)
        return self._climb(index, size, 0, [])

    def consistency_proof(self, old_size: int, size: int | None = None) -> list[bytes]:
        """The proof that the tree of `old_size` leaves is a prefix of that of `size` (RFC 9162 2.1.4.1).

        Empty when both are equal; `old_size` is 1 at least.
        """
        size = self.size if size is None else size
        if not 0 < old_size <= size <= self.size:
            raise OutOfTreeError(f"size {old_size} in size {size}", self.size)
        if old_size == size:
            return []
        # The largest perfect subtree that ends at the old size: from there on it climbs like its leaves.
        lowest = old_size & -old_size
        height = lowest.bit_length() - 1
        first = [] if lowest == old_size else [self._node(height, (old_size >> height) - 1)]
        return self._climb(old_size - 1, size, height, first)

    def tile(self, level: int, index: int, width: int = TILE_WIDTH) -> bytes:
        """The first `width` hashes (1..256) of tile `index` at a tile level, joined (C2SP tlog-tiles)."""
        held = self.size >> TILE_HEIGHT * level if 0 <= level < TILE_HEIGHT else 0
        if not 1 <= width <= TILE_WIDTH or index < 0 or index * TILE_WIDTH + width > held:
            raise OutOfTreeError(f"tile {level}/{index} of width {width}", self.size)
        stored = self._levels[level]
        rows = stored.rows  # before the look at `full`, see _node
        hashes = stored.full[index] if index < len(stored.full) else rows[0]
        return hashes[: width * HASH_BYTES]

    def _climb(self, index: int, size: int, height: int, path: list[bytes]) -> list[bytes]:
        """Add to `path` the siblings from `height` up, on the way from leaf `index` to the root of `size`."""
        # `top` is the height of the perfect subtree of `size` that holds the leaf: whole up to there.
        top = (index ^ size).bit_length() - 1
        levels = self._levels
        while height < top:
            tiles = levels[height >> 3].full
            tile = index >> height + TILE_HEIGHT
            if height & 7 or tile >= len(tiles):
                path.append(self._node(height, (index >> height) ^ 1))
                height += 1
            else:
                siblings = self._pickers[index >> height & 255](tiles[tile])
                path += siblings[: top - height]
                height += TILE_HEIGHT
        tail = self._tails.get((size, top))
        path += self._tail(size, top) if tail is None else tail
        return path

    def _tail(self, size: int, top: int) -> list[bytes]:
        """The end of every path in `size` leaves that starts in its perfect subtree of height `top`."""
        above = size >> top + 1 << top + 1
        start = above + (1 << top)
        tail = [self._subtree(start, size)] if start < size else []
        while above:
            lowest = above & -above
            height = lowest.bit_length() - 1
            above ^= lowest
            tail.append(self._node(height, above >> height))
        if len(self._tails) >= _TAILS_KEPT:
            self._tails.clear()
        self._tails[size, top] = tail
        return tail

    def _subtree(self, start: int, end: int) -> bytes:
        """The root over start..end-1, folded from its perfect subtrees, smallest (rightmost) first."""
        root = b""
        width = end - start
        while width:
            lowest = width & -width
            width ^= lowest
            height = lowest.bit_length() - 1
            left = self._node(height, start + width >> height)
            root = node_hash(left, root) if root else left
        return root

    def _node(self, height: int, index: int) -> bytes:
        """The root of the perfect subtree number `index` of 2**height leaves."""
        level, row = self._levels[height >> 3], height & 7
        at = index * HASH_BYTES & _ROW_BYTES[row] - 1
        tile = index >> TILE_HEIGHT - row
        # The rows are taken first: the writer seals a tile into `full` before it empties the rows, so either
        # the tile is found in `full` or these rows are still its own.
        rows = level.rows
        if tile < len(level.full):
            at += _ROW_START[row]
            return level.full[tile][at : at + HASH_BYTES]
        return rows[row][at : at + HASH_BYTES]


class _TileLevel:
    """The tiles of one tile level: the full ones, and the rows (heights 0 to 8) of the open one."""

    __slots__ = ("full", "rows")

    def __init__(self) -> None:
        self.full: list[bytes] = []
        self.rows = _NO_ROWS

    def append(self, hashes: bytes) -> bytes:
        """Add hashes of this level; gives those of the tiles that became full, for the level above."""
        done: list[bytes] = []
        at = 0
        while at < len(hashes):
            rows = self.rows
            stop = at + _TILE_BYTES - len(rows[0])
            rows = _grown(rows, hashes[at:stop])
            at = stop
            if rows[-1]:
                self.full.append(b"".join(rows[:-1]))
                done.append(rows[-1])
                rows = _NO_ROWS
            self.rows = rows
        return b"".join(done)


def _grown(rows: tuple[bytes, ...], hashes: bytes) -> tuple[bytes, ...]:
    """The rows of an open tile with `hashes` added below and every complete pair hashed upwards."""
    grown: list[bytes] = []
    for row, above in zip(rows, (*rows[1:], b""), strict=True):
        # Where `hashes` is empty nothing changes from here up: a copy of the rest is enough.
        if not hashes:
            grown += rows[len(grown) :]
            break
        longer = row + hashes
        grown.append(longer)
        hashes = parent_hashes(longer[2 * len(above) : len(longer) & -2 * HASH_BYTES])
    return tuple(grown)


@cache
def _sibling_pickers() -> tuple[_Picker, ...]:
    """For each of the 256 hashes of a full tile: a call that takes its eight siblings from the tile."""
    pickers = []
    for leaf in range(TILE_WIDTH):
        layout, end = "<", 0
        for row in range(TILE_HEIGHT):
            start = _ROW_START[row] + ((leaf >> row) ^ 1) * HASH_BYTES
            layout += f"{start - end}x{HASH_BYTES}s"
            end = start + HASH_BYTES
        pickers.append(Struct(layout).unpack_from)
    return tuple(pickers)

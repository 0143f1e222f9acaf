"""Hash tiles and entry bundles in the C2SP tlog-tiles layout: path arithmetic, bounded reading, a small cache."""

from collections import OrderedDict

from daicho_verify.errors import DisagreesError, MissingError
from daicho_verify.merkle import HASH_BYTES, inclusion_path, perfect_root, range_root
from daicho_verify.source import Source

WIDTH = 256
_TILE_BITS = 8
_MAX_ENTRY_BYTES = 65_535
_BUNDLE_BYTES = WIDTH * (2 + _MAX_ENTRY_BYTES)
_CACHED_TILES = 256


def path_of(level: int | str, index: int, width: int) -> str:
    """Give a tile's path (level) or a bundle's ("entries"): groups of three digits, all but the last with an x."""
    digits = f"{index:03d}"
    digits = digits.zfill(-(-len(digits) // 3) * 3)
    groups = [digits[i : i + 3] for i in range(0, len(digits), 3)]
    name = "/".join([*(f"x{group}" for group in groups[:-1]), groups[-1]])
    return f"tile/{level}/{name}" + (f".p/{width}" if width < WIDTH else "")


class Tiles:
    """The tiles of one log as they stand at a tree size; nothing read here is trusted until a root agrees."""

    def __init__(self, source: Source, size: int) -> None:
        self._source = source
        self.size = size
        self._cache: OrderedDict[tuple[int, int], list[bytes]] = OrderedDict()

    def width(self, level: int, index: int) -> int:
        """Give how many hashes (1 to 256) the tile holds at this tree size."""
        return min(WIDTH, (self.size >> (_TILE_BITS * level)) - index * WIDTH)

    def _read(self, level: int | str, index: int, width: int, most_bytes: int) -> bytes:
        """Read a tile or bundle; a partial one may have been pruned once its full one is there."""
        secret = level == "entries"
        try:
            return self._source.read(path_of(level, index, width), most_bytes, secret=secret)
        except MissingError:
            if width == WIDTH:
                raise
            return self._source.read(path_of(level, index, WIDTH), most_bytes, secret=secret)

    def tile(self, level: int, index: int) -> list[bytes]:
        """Give a tile's hashes; raises DisagreesError for a wrong length, UnavailableError when it is not served."""
        key = (level, index)
        if key in self._cache:
            self._cache.move_to_end(key)
            return self._cache[key]
        width = self.width(level, index)
        data = self._read(level, index, width, WIDTH * HASH_BYTES)
        if len(data) not in {width * HASH_BYTES, WIDTH * HASH_BYTES}:
            raise DisagreesError(f"{path_of(level, index, width)} has {len(data)} bytes, not {width * HASH_BYTES}")
        hashes = [data[i : i + HASH_BYTES] for i in range(0, width * HASH_BYTES, HASH_BYTES)]
        self._cache[key] = hashes
        if len(self._cache) > _CACHED_TILES:
            self._cache.popitem(last=False)
        return hashes

    def node(self, level: int, index: int) -> bytes:
        """Give the hash of the perfect subtree number `index` of 2^level leaves."""
        tile_level, inner = divmod(level, _TILE_BITS)
        start = index << inner
        hashes = self.tile(tile_level, start // WIDTH)
        return perfect_root(hashes[start % WIDTH : start % WIDTH + (1 << inner)])

    def root(self, size: int, cut: int = 0) -> bytes:
        """Give the root of the first `size` leaves (size > 0); `cut` as in merkle.range_root."""
        return range_root(0, size, self.node, cut)

    def inclusion(self, index: int, size: int) -> list[bytes]:
        """Give the audit path of leaf `index` in the tree of `size`."""
        return inclusion_path(index, size, self.node)

    def bundle(self, index: int) -> list[bytes]:
        """Give the entries of a bundle; raises DisagreesError when its bytes do not add up."""
        width = self.width(0, index)
        data = self._read("entries", index, width, _BUNDLE_BYTES)
        entries: list[bytes] = []
        at = 0
        while len(entries) < width:
            length = int.from_bytes(data[at : at + 2])
            entry = data[at + 2 : at + 2 + length]
            if at + 2 + length > len(data):
                raise DisagreesError(f"{path_of('entries', index, width)} ends inside entry {len(entries)}")
            entries.append(entry)
            at += 2 + length
        return entries

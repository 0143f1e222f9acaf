"""Names and bytes of C2SP tlog-tiles: tile paths, entry bundles, and which of them a size has."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

TILE_HEIGHT = 8
TILE_WIDTH = 256
MAX_LEVEL = 63
MAX_ENTRY_BYTES = 0xFFFF

_LENGTH_BYTES = 2
_INDEX_LIMIT = 1 << 63
_TILE = re.compile(
    r"(?P<level>0|[1-9][0-9]?|entries)/(?P<index>(?:x[0-9]{3}/){0,6}[0-9]{3})(?:\.p/(?P<width>[1-9][0-9]{0,2}))?",
    re.ASCII,
)


class TileError(ValueError):
    """A tile path or an entry bundle is not in the form that tlog-tiles prescribes."""


@dataclass(frozen=True)
class Tile:
    """One hash tile, or one entry bundle when `level` is None; `width` counts hashes or entries (1..256)."""

    level: int | None
    index: int
    width: int = TILE_WIDTH

    @property
    def path(self) -> str:
        """`<L>/<N>[.p/<W>]`, to be put after `tile/`; L is `entries` for a bundle."""
        level = "entries" if self.level is None else str(self.level)
        partial = "" if self.width == TILE_WIDTH else f".p/{self.width}"
        return f"{level}/{index_path(self.index)}{partial}"


def index_path(index: int) -> str:
    """N in groups of three digits, all but the last with an x: 1234067 is x001/x234/067."""
    path = f"{index % 1000:03d}"
    while index := index // 1000:
        path = f"x{index % 1000:03d}/{path}"
    return path


def parse_tile(path: str) -> Tile:
    """Read `<L>/<N>[.p/<W>]` (what follows `tile/`). TileError unless spelt as `Tile.path` spells it."""
    found = _TILE.fullmatch(path)
    if found is None:
        raise TileError(f"tile path {path[:80]!r} is malformed")
    level = None if found["level"] == "entries" else int(found["level"])
    index = int(found["index"].replace("x", "").replace("/", ""))
    tile = Tile(level, index, int(found["width"] or TILE_WIDTH))
    outside = (level or 0) > MAX_LEVEL or index >= _INDEX_LIMIT or tile.width > TILE_WIDTH
    if outside or tile.path != path:
        raise TileError(f"tile path {path[:80]!r} is malformed")
    return tile


def tiles_of(size: int, since: int = 0) -> Iterator[Tile]:
    """The hash tiles of a tree of `size` leaves, level by level: the full ones, then the partial one if any.

    With `since`, only those that a tree of that smaller size does not have: what a mirror still has to fetch.
    """
    level = 0
    while size:
        have, width = divmod(size, TILE_WIDTH)
        for index in range(since // TILE_WIDTH, have):
            yield Tile(level, index)
        if width and size > since:
            yield Tile(level, have, width)
        size, since, level = have, since // TILE_WIDTH, level + 1


def has_tile(size: int, tile: Tile) -> bool:
    """Whether a tree of `size` leaves holds at least `tile.width` hashes (or entries) of that tile."""
    held = size >> TILE_HEIGHT * (tile.level or 0)
    return 0 < tile.width <= TILE_WIDTH and tile.index >= 0 and tile.index * TILE_WIDTH + tile.width <= held


def encode_bundle(entries: Sequence[bytes]) -> bytes:
    """An entry bundle: each entry with its length before it as a big-endian uint16.

    TileError when there are more than 256 entries or one is longer than 65,535 bytes.
    """
    if not 1 <= len(entries) <= TILE_WIDTH:
        raise TileError(f"a bundle holds 1 to {TILE_WIDTH} entries, not {len(entries)}")
    parts: list[bytes] = []
    for entry in entries:
        if len(entry) > MAX_ENTRY_BYTES:
            raise TileError(f"an entry holds {MAX_ENTRY_BYTES} bytes at most, not {len(entry)}")
        parts += (len(entry).to_bytes(_LENGTH_BYTES, "big"), entry)
    return b"".join(parts)


def parse_bundle(bundle: bytes) -> list[bytes]:
    """The entries of a bundle. TileError when it is empty, cut off, or holds more than 256."""
    entries: list[bytes] = []
    at = 0
    while at < len(bundle):
        start = at + _LENGTH_BYTES
        at = start + int.from_bytes(bundle[at:start], "big")
        entries.append(bundle[start:at])
        if at > len(bundle) or start > len(bundle):
            raise TileError(f"bundle entry {len(entries) - 1} is cut off")
    if not 1 <= len(entries) <= TILE_WIDTH:
        raise TileError(f"a bundle holds 1 to {TILE_WIDTH} entries, not {len(entries)}")
    return entries

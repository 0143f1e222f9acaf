"""The public log in C2SP tlog-tiles form: checkpoint, hash tiles, entry bundles.

Tiles never change once visible, so they may be kept for ever; a checkpoint may not be kept at all, nor the word that
a tile is not there (yet). Anybody's browser may read it (CORS). Bundles hold the entries themselves and need
`audit:read`, unless the operator has opened them.
"""

from typing import Any, Final

from api import examples as x
from api.auth import AUDIT_READ, OPERATOR
from api.context import Context
from api.errors import LogNotFound
from api.http import Answer, Call
from api.operations import Operation, Success
from api.params import Param
from merkle.flat_log import OutOfTreeError
from merkle.tiles import TILE_WIDTH, Tile, TileError, encode_bundle, has_tile, parse_tile

_TEXT: Final = b"text/plain; charset=utf-8"
_BYTES: Final = b"application/octet-stream"
_FOR_EVER: Final = b"max-age=31536000, immutable"
_AUDIT: Final = frozenset({AUDIT_READ, OPERATOR})
_MAX_PATH: Final = 100


def _tile(text: str) -> Tile:
    try:
        return parse_tile(text)
    except TileError:
        raise ValueError("<level>/<number>[.p/<width>] as C2SP tlog-tiles spells it") from None


_PATH: Final = Param(
    "tile", _tile, {"type": "string", "maxLength": _MAX_PATH}, "`<L>/<N>[.p/<W>]`, L is `entries` for a bundle",
    "0/000.p/17",
)  # fmt: skip
_BUNDLE: Final = Param(
    "bundle", lambda text: _tile(f"entries/{text}"), {"type": "string", "maxLength": _MAX_PATH}, "`<N>[.p/<W>]`",
    "000.p/17",
)  # fmt: skip


class Log:
    """The log's files."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._view = context.services.log_view
        self._public = context.settings.log_entries_public

    def rows(self) -> list[Operation]:
        """The table."""
        binary = {"type": "string", "format": "binary"}
        shared: dict[str, Any] = {"method": "GET", "tag": "log", "cors": True, "problems": (LogNotFound,)}
        return [
            Operation(
                path="/log/checkpoint", handler=self.checkpoint, summary="Get the newest signed checkpoint",
                scopes=None,
                success=Success("a C2SP tlog-checkpoint", {"type": "string"}, x.CHECKPOINT,
                                media="text/plain"), **shared,
            ),
            Operation(
                path="/log/tile/entries/{bundle:path}", handler=self.bundle, summary="Get an entry bundle",
                description="Each entry behind its length as a big-endian uint16.", path_params=(_BUNDLE,),
                scopes=None if self._public else _AUDIT,
                success=Success("a C2SP entry bundle", binary, "", media="application/octet-stream"), **shared,
            ),
            Operation(
                path="/log/tile/{tile:path}", handler=self.tile, summary="Get a hash tile", scopes=None,
                path_params=(_PATH,),
                success=Success("up to 256 hashes of 32 bytes", binary, "", media="application/octet-stream"), **shared,
            ),
        ]  # fmt: skip

    async def checkpoint(self, _: Call) -> Answer:
        """The newest checkpoint."""
        note = self._view.checkpoint()
        if note is None:
            raise LogNotFound("no checkpoint is published yet")
        return Answer(200, note, _TEXT, [(b"cache-control", b"no-cache")])

    async def tile(self, call: Call) -> Answer:
        """A hash tile."""
        tile: Tile = call.path["tile"]
        try:
            if tile.level is None or not has_tile(self._view.size, tile):
                raise _absent(tile)
            hashes = self._view.tile(tile.level, tile.index, tile.width)
        except OutOfTreeError:
            raise _absent(tile) from None
        return Answer(200, hashes, _BYTES, [(b"cache-control", b"public, " + _FOR_EVER)])

    async def bundle(self, call: Call) -> Answer:
        """An entry bundle."""
        bundle: Tile = call.path["bundle"]
        if not has_tile(self._view.size, bundle):
            raise _absent(bundle)
        first = bundle.index * TILE_WIDTH + 1
        entries = self._context.services.entries
        records = await self._context.reads.run(lambda: entries.read(first, bundle.width))
        body = encode_bundle([entry for _, entry in records])
        keep = b"public, " if self._public else b"private, "
        return Answer(200, body, _BYTES, [(b"cache-control", keep + _FOR_EVER), (b"vary", b"authorization")])


def _absent(tile: Tile) -> LogNotFound:
    return LogNotFound(f"the log has no {tile.path} (yet)", tile=tile.path)

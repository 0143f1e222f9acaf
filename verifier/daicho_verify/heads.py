"""Remembered heads: the last checkpoint seen of each log, which every later one must extend.

A head enters the file only after the log's signature was checked, and is replaced only by one that is proven to extend
it. So whoever keeps this file notices a rewritten or a second history, whatever the operator shows to others.
"""

import json
from collections.abc import Sequence
from pathlib import Path

from daicho_verify import jsontext
from daicho_verify.errors import DisagreesError, MalformedError, NotCheckedError
from daicho_verify.files import read_bounded, write_atomically
from daicho_verify.jsontext import Fields
from daicho_verify.merkle import verify_consistency
from daicho_verify.notes import Checkpoint, parse_checkpoint
from daicho_verify.tiles import Tiles

FORMAT = "daicho-heads/1"
_FILE_NAME = "heads.json"
_MAX_FILE_BYTES = 16 << 20


class Heads:
    """The heads file: origin -> the signed checkpoint last seen."""

    def __init__(self, where: str) -> None:
        path = Path(where)
        self.path = path / _FILE_NAME if path.is_dir() else path

    def _load(self) -> dict[str, Checkpoint]:
        if not self.path.exists():
            return {}
        data = read_bounded(str(self.path), _MAX_FILE_BYTES, "heads")
        fields = Fields(jsontext.parse(data, "heads"), "heads", ("format", "heads"))
        if fields.text("format") != FORMAT:
            raise MalformedError("heads.format", f"must be {FORMAT}")
        notes = fields.get("heads")
        if not isinstance(notes, dict):
            raise MalformedError("heads.heads", "must be an object")
        inner = Fields(notes, "heads.heads", notes.keys())
        heads = {origin: parse_checkpoint(inner.text(origin), inner.at(origin)) for origin in notes}
        for origin, head in heads.items():
            if head.origin != origin:
                raise MalformedError(inner.at(origin), "holds a checkpoint of another log")
        return heads

    def get(self, origin: str) -> Checkpoint | None:
        """Give the remembered head of a log; raises MalformedError for a damaged file, which is never reset here."""
        return self._load().get(origin)

    def put(self, head: Checkpoint) -> None:
        """Remember a head, unless a larger one was put meanwhile (two verifiers on one file).

        A crash here leaves the former heads; the next run proves the same step again.
        """
        heads = self._load()
        current = heads.get(head.origin)
        if current is not None and current.size > head.size:
            return
        heads[head.origin] = head
        value = {"format": FORMAT, "heads": {origin: heads[origin].note.raw for origin in sorted(heads)}}
        write_atomically(self.path, (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode())


def contradiction(old: Checkpoint, new: Checkpoint, why: str) -> DisagreesError:
    """Make the error that carries both signed heads."""
    proof = {
        "kind": "two histories",
        "origin": new.origin,
        "why": why,
        "first": {"checkpoint": old.note.raw},
        "second": {"checkpoint": new.note.raw},
    }
    return DisagreesError(why, proof)


Anchored = tuple[int, bytes, Sequence[bytes]]  # size, root, consistency proof to the shown head


def _proven_root(small: int, large: Checkpoint, anchored: Anchored | None, tiles: Tiles | None) -> bytes | None:
    """Give the true root at size `small` of the tree of `large`; None when nothing at hand proves one."""
    if anchored is not None and anchored[0] == small:
        _, root, proof = anchored
        if verify_consistency(small, large.size, root, large.root, proof):
            return root
    if tiles is None:
        return None
    if tiles.root(large.size, cut=small) != large.root:
        raise NotCheckedError(f"the log's tiles do not hash to the root of size {large.size}")
    return tiles.root(small)


def check_head(
    old: Checkpoint | None,
    new: Checkpoint,
    anchored: Anchored | None,
    tiles: Tiles | None,
) -> str:
    """Check that `new` extends `old`, or is a prefix of it; gives the reason in words.

    `anchored` = (size, root, consistency proof to `new`) from the evidence; `tiles` at the larger of both sizes.
    Raises DisagreesError with both heads for a proven contradiction, NotCheckedError when nothing proves either.
    """
    if old is None or old.size == 0:
        return f"first head of this log seen here: size {new.size} is remembered from now on"
    if old.size == new.size:
        if old.root != new.root:
            raise contradiction(old, new, f"two signed heads of size {new.size} with different roots")
        return f"the same head as remembered (size {new.size})"
    if new.size == 0:
        return f"an empty head is a prefix of the remembered one (size {old.size})"
    small, large = (old, new) if old.size < new.size else (new, old)
    root = _proven_root(small.size, large, anchored if large is new else None, tiles)
    if root is None:
        raise NotCheckedError(
            f"remembered is size {old.size}, shown is {new.size}: no proof between them at hand (name the log: --log)"
        )
    if root != small.root:
        raise contradiction(
            old, new, f"the signed heads of sizes {old.size} and {new.size} belong to different histories"
        )
    if large is old:
        return f"an older head (size {new.size}), proven a prefix of the remembered one (size {old.size})"
    return f"extends the remembered head of size {old.size} (now {new.size})"

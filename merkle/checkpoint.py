"""Checkpoints (C2SP tlog-checkpoint v1): "this log has this many leaves under this root", signed."""

import base64
import re
from collections.abc import Iterable
from dataclasses import dataclass

from merkle.hashing import EMPTY_ROOT, HASH_BYTES
from merkle.notes import NoteError, VerifierKey, decode_base64, open_note
from merkle.proofs import SIZE_LIMIT

_SIZE = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)
_FIXED_LINES = 3


class CheckpointError(ValueError):
    """A checkpoint is malformed, of another log, or not signed as asked."""


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint says. `extensions` are further lines of its body; of them nothing is known here."""

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.origin or not 0 <= self.size < SIZE_LIMIT or len(self.root) != HASH_BYTES:
            raise CheckpointError(f"checkpoint {self.origin!r}: size {self.size}, root of {len(self.root)} bytes")
        if self.size == 0 and self.root != EMPTY_ROOT:
            raise CheckpointError(f"checkpoint {self.origin!r}: a root without leaves")
        if any(not line or "\n" in line for line in (self.origin, *self.extensions)):
            raise CheckpointError(f"checkpoint {self.origin!r}: an origin or extension that is not one line")

    def body(self) -> bytes:
        """The text to sign: origin, size, root, extensions, one a line."""
        root = base64.b64encode(self.root).decode()
        return "".join(f"{line}\n" for line in (self.origin, self.size, root, *self.extensions)).encode()


@dataclass(frozen=True)
class StoredCheckpoint:
    """A checkpoint as signed and stored: `note` is the whole signed note, `signed_at` RFC 3339 in UTC."""

    size: int
    root: bytes
    note: bytes
    signed_at: str


def parse_checkpoint(body: bytes) -> Checkpoint:
    """Read a checkpoint's body (a note's text). CheckpointError unless spelt exactly as `body` spells it."""
    lines = body.decode(errors="replace").split("\n")
    if len(lines) <= _FIXED_LINES or lines[-1]:
        raise CheckpointError("checkpoint: fewer than three whole lines")
    origin, size, root, *extensions = lines[:-1]
    if not _SIZE.fullmatch(size):
        raise CheckpointError(f"checkpoint {origin!r}: {size[:30]!r} is no size")
    try:
        root_hash = decode_base64(root, "root")
    except NoteError as malformed:
        raise CheckpointError(f"checkpoint {origin!r}: {malformed}") from None
    return Checkpoint(origin, int(size), root_hash, tuple(extensions))


def open_checkpoint(data: bytes, origin: str, keys: Iterable[VerifierKey]) -> Checkpoint:
    """Verify a signed checkpoint of the log `origin` by one of `keys` at least.

    NoteError when the note or a signature of it fails, CheckpointError when it is none or of another log.
    """
    text, _ = open_note(data, keys)
    checkpoint = parse_checkpoint(text)
    if checkpoint.origin != origin:
        raise CheckpointError(f"checkpoint {checkpoint.origin!r}: not of {origin!r}")
    return checkpoint

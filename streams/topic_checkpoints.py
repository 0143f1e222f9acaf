"""Signed checkpoints as records of a topic, and the log store as the relay reads them.

The value is the whole signed note, the position its size; when it was signed stands in `ce_time` alone.
"""

from typing import Final, Protocol

from domain.entry import format_time, parse_time
from merkle.checkpoint import Checkpoint, CheckpointError, StoredCheckpoint, parse_checkpoint
from merkle.hashing import leaf_hash
from merkle.notes import NoteError, parse_note
from streams.topic_record import Headers, Raw, TopicRecord, Wire, epoch_ms, refuse, require_headers

_TYPE: Final = b"daicho.Checkpoint.v1"
_NOTE: Final = b"text/plain; charset=utf-8"


class CheckpointRecords:
    """Records of checkpoints. `origin`: the only log accepted; empty for any.

    Signatures are not verified here; whoever builds on a checkpoint compares its root with a tree of its own.
    """

    gapless = False

    def __init__(self, origin: str) -> None:
        self._origin = origin

    def encode(self, position: int, item: StoredCheckpoint) -> Wire:
        """The record of a checkpoint; ValueError when it says another size or root, or is none."""
        said = read_note(item.note)
        if not position == item.size == said.size or item.root != said.root:
            raise ValueError(f"the checkpoint of size {position} says {said.size} and {said.root.hex()}")
        leaf = leaf_hash(item.note)
        headers = _headers(said, item.signed_at, leaf)
        return Wire(said.origin.encode(), item.note, headers, epoch_ms(item.signed_at), leaf)

    def decode(self, raw: Raw) -> TopicRecord:
        """The record with the note as its bytes, checked as by `checkpoint`."""
        checkpoint = self.checkpoint(raw)
        return TopicRecord(checkpoint.size, checkpoint.note, raw.offset, leaf_hash(checkpoint.note))

    def checkpoint(self, raw: Raw) -> StoredCheckpoint:
        """The checkpoint as it was stored. Checks, in this order, or raises RecordRefused.

        1. the value is a signed checkpoint,
        2. of this log;
        3. the key is its origin;
        4. `ce_time` is a time;
        5. the headers are those that follow from the value and that time.
        """
        try:
            said = read_note(raw.value or b"")  # 1
        except ValueError as error:
            refuse(raw, f"not a checkpoint ({error})")
        if self._origin and said.origin != self._origin:  # 2
            refuse(raw, f"a checkpoint of the log {said.origin}, not of {self._origin}")
        if raw.key != said.origin.encode():  # 3
            refuse(raw, "the key is not the checkpoint's origin")
        note = raw.value or b""
        try:
            signed_at = (dict(raw.headers).get("ce_time") or b"").decode()
            exact = format_time(parse_time(signed_at)) == signed_at  # 4
        except ValueError:
            exact = False
        if not exact:
            refuse(raw, "the header ce_time is no time")
        require_headers(raw, _headers(said, signed_at, leaf_hash(note)))  # 5
        return StoredCheckpoint(said.size, said.root, note, signed_at)


class StoredCheckpoints(Protocol):
    """The log store, as far as its checkpoints go."""

    def last_checkpoint(self) -> StoredCheckpoint | None:
        """The newest."""
        ...

    def checkpoint_at_least(self, size: int) -> StoredCheckpoint | None:
        """The first of that size or more."""
        ...


class CheckpointFeed:
    """The stored checkpoints as a feed for the relay: the position is the size."""

    def __init__(self, store: StoredCheckpoints) -> None:
        self._store = store

    def head(self) -> int:
        """The newest checkpoint's size, 0 while there is none."""
        last = self._store.last_checkpoint()
        return last.size if last else 0

    def read(self, start: int, limit: int) -> list[tuple[int, StoredCheckpoint]]:
        """At most `limit` checkpoints of size `start` or more, ascending."""
        found: list[tuple[int, StoredCheckpoint]] = []
        while len(found) < limit and (each := self._store.checkpoint_at_least(start)) is not None:
            found.append((each.size, each))
            start = each.size + 1
        return found


def read_note(note: bytes) -> Checkpoint:
    """What a note says; ValueError when it is no checkpoint of one leaf at least."""
    try:
        checkpoint = parse_checkpoint(parse_note(note).text)
    except (NoteError, CheckpointError) as error:
        raise ValueError(str(error)) from None
    if checkpoint.size < 1:
        raise ValueError("a checkpoint of no leaves")
    return checkpoint


def _headers(said: Checkpoint, signed_at: str, leaf: bytes) -> Headers:
    return [
        ("ce_specversion", b"1.0"),
        ("ce_id", b"checkpoint/%d" % said.size),
        ("ce_source", said.origin.encode()),
        ("ce_type", _TYPE),
        ("ce_subject", said.root.hex().encode()),
        ("ce_time", signed_at.encode()),
        ("content-type", _NOTE),
        ("daicho-position", b"%d" % said.size),
        ("daicho-leaf", leaf.hex().encode()),
    ]

"""Rebuilds what a book keeps from its topics alone: event stores, the log's leaves and checkpoints, read models.

    entries      ─▶ event store (rows and claims), leaves of the log, read models
    checkpoints  ─▶ signed heads, each verified by the log's key and against the tree
    anchors      ─▶ the anchor book

Each step goes on behind what is there already, once that was found to be the same, so it serves an empty installation
and one that came back from a backup, and may be interrupted and run again. What is signed for (the vault's keys) is in
no topic: it has backups of its own.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple, Protocol

import msgspec

from domain.book import BookOpened
from domain.entry import decode_envelope
from domain.restoring import whole_commands
from merkle.checkpoint import CheckpointError, StoredCheckpoint, open_checkpoint
from merkle.flat_log import FlatLog
from merkle.hashing import leaf_hash, leaf_hashes
from merkle.notes import NoteError, parse_verifier_key
from streams.local import EntryLog
from streams.processor import ForkError, Processor, Record

BATCH: Final = 2_000
Progressed = Callable[[str, int, int], None]
"""Told what is being restored, how far it is, and of how much."""


class Restorer(Protocol):
    """An event store that takes whole entries (storage.restore.EventRestorer)."""

    def append(self, records: Sequence[Record]) -> None:
        """Store records that follow the last position, in one transaction."""
        ...


class LogTarget(Protocol):
    """A log store, as far as it is filled here; documented at `storage.log_store`."""

    def position(self) -> tuple[int, bytes]: ...
    def append(self, first_position: int, leaf_hashes: bytes) -> None: ...
    def load(self) -> Iterator[bytes]: ...
    def restore_checkpoints(self, found: Sequence[StoredCheckpoint]) -> int: ...


class RestoredLog(NamedTuple):
    """What a log is after its restoration: its size and root, and how many checkpoints were added."""

    size: int
    root: bytes
    checkpoints: int


def restore_entries(topic: EntryLog, store: EntryLog, target: Restorer, name: str, progressed: Progressed) -> int:
    """Append what the store lacks; how many entries that were.

    ForkError, with nothing changed, when an entry that both have is not the same: all of them are compared.
    """
    head, end = store.head(), topic.head()
    _compare(topic, store, min(head, end), name, progressed)
    at = head
    while at < end:
        records: Sequence[Record] = topic.read(at + 1, min(BATCH, end - at))
        if not records:
            break
        if records[-1][0] < end:  # what one command led to is stored at once, as it was
            records = whole_commands(records)
        target.append(records)
        at = records[-1][0]
        progressed(name, at, end)
    return max(0, at - head)


def restore_log(entries: EntryLog, log: LogTarget, progressed: Progressed) -> FlatLog:
    """Append the leaves that the log lacks; its whole tree. ForkError when it has another leaf than the entries."""
    tree = FlatLog()
    for chunk in log.load():
        tree.append(chunk)
    end, at = entries.head(), 0
    while at < end:
        records = entries.read(at + 1, min(BATCH, end - at))
        if not records:
            break
        hashes = leaf_hashes(entry for _, entry in records)
        _take_leaves(tree, log, records[0][0], hashes)
        at = records[-1][0]
        progressed("log", at, end)
    return tree


def restore_checkpoints(
    found: Sequence[StoredCheckpoint], first_entry: bytes, tree: FlatLog, log: LogTarget
) -> RestoredLog:
    """Add the checkpoints that the log lacks, each with the log's signature and the tree's root, or ForkError.

    `first_entry` opens the book and names the log's key. What is ahead of the tree is a fork, too: the entries that it
    covers are gone.
    """
    envelope = decode_envelope(first_entry)
    key = parse_verifier_key(msgspec.json.decode(envelope.data, type=BookOpened).log_key)
    for checkpoint in found:
        try:
            said = open_checkpoint(checkpoint.note, envelope.log, [key])
        except (NoteError, CheckpointError) as error:
            raise ForkError(f"checkpoint {checkpoint.size}: {error}", b"", checkpoint.root) from error
        ours = tree.root(said.size) if said.size <= tree.size else b""
        if ours != said.root:
            raise ForkError(f"checkpoint {said.size}, the entries end at {tree.size}", ours, said.root)
    added = log.restore_checkpoints(sorted(found, key=lambda each: each.size))
    return RestoredLog(tree.size, tree.root(tree.size) if tree.size else b"", added)


def restore_projection(entries: EntryLog, projector: Processor, progressed: Progressed) -> int:
    """Feed a processor what it lacks; how many entries that were. Raises what it raises."""
    start, end = projector.position()[0], entries.head()
    at = max(0, start - 1)  # the entry that it stands on is shown once more
    while at < end:
        records = entries.read(at + 1, min(BATCH, end - at))
        if not records:
            break
        projector.process(records)
        at = records[-1][0]
        progressed(projector.name, at, end)
    return max(0, at - start)


def _compare(topic: EntryLog, store: EntryLog, up_to: int, name: str, progressed: Progressed) -> None:
    """Every entry that both have, by hash."""
    at = 0
    while at < up_to:
        limit = min(BATCH, up_to - at)
        ours, theirs = store.read(at + 1, limit), topic.read(at + 1, limit)
        for (position, mine), (other, entry) in zip(ours, theirs, strict=False):
            if position != other or mine != entry:
                raise ForkError(f"{name} position {position}", leaf_hash(mine), leaf_hash(entry))
        if len(ours) != limit or len(theirs) != limit:
            raise ForkError(f"{name} after position {at}: an entry is missing", b"", b"")
        at += limit
        progressed(f"{name}, compared", at, up_to)


def _take_leaves(tree: FlatLog, log: LogTarget, first: int, hashes: bytes) -> None:
    """Leaves from position `first` on: those that are there are compared, the others stored."""
    known = max(0, min(tree.size - first + 1, len(hashes) // 32))
    for index in range(known):
        theirs, ours = hashes[32 * index : 32 * index + 32], tree.leaf(first - 1 + index)
        if ours != theirs:
            raise ForkError(f"log position {first + index}", ours, theirs)
    new = hashes[32 * known :]
    if new:
        log.append(first + known, new)
        tree.append(new)

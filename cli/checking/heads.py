"""Parts 2 to 4: the tree equals the log store, every signed checkpoint and every anchor has the tree's root."""

from collections.abc import Iterable, Sequence
from typing import Final, Protocol

from cli.checking.findings import Progress, Report
from merkle.checkpoint import CheckpointError, StoredCheckpoint, open_checkpoint
from merkle.flat_log import FlatLog
from merkle.hashing import HASH_BYTES
from merkle.notes import NoteError, VerifierKey

CHUNK: Final = 1024 * HASH_BYTES


class LogStore(Protocol):
    """What is read of the log store."""

    def load(self) -> Iterable[bytes]:
        """All leaf hashes, joined, in big chunks."""

    def checkpoints(self) -> Iterable[StoredCheckpoint]:
        """Every signed checkpoint, smallest first."""


class AnchorHead(Protocol):
    """A head that was anchored: from the AnchorBook or from the contract's events."""

    @property
    def size(self) -> int:
        """Tree size."""

    @property
    def root(self) -> bytes:
        """Root, 32 bytes."""


def check_tree(tree: FlatLog, store: LogStore, report: Report, progress: Progress) -> None:
    """Compare the log's leaf hashes with the entries', leaf by leaf; the log may lag behind, never lead."""
    index = 0
    for chunk in store.load():
        for start in range(0, len(chunk), CHUNK):
            part = chunk[start : start + CHUNK]
            count = len(part) // HASH_BYTES
            if index >= tree.size:
                return  # entries beyond the pinned position
            wanted = b"".join(tree.leaf(i) for i in range(index, min(index + count, tree.size)))
            if part[: len(wanted)] != wanted:
                _first_difference(part, wanted, index, report)
            index += count
            report.count("tree", min(count, len(wanted) // HASH_BYTES))
            progress("tree", min(index, tree.size), tree.size)


def check_checkpoints(
    tree: FlatLog, checkpoints: Iterable[StoredCheckpoint], origin: str, key: VerifierKey, report: Report
) -> None:
    """Verify every signed checkpoint up to the pinned position against the tree."""
    for stored in checkpoints:
        if stored.size > tree.size:
            continue
        report.count("checkpoints")
        try:
            checkpoint = open_checkpoint(stored.note, origin, [key])
        except (NoteError, CheckpointError) as error:
            report.differs("checkpoints", stored.size, f"checkpoint {stored.size} does not verify: {error}")
            continue
        if (checkpoint.size, checkpoint.root) != (stored.size, stored.root):
            report.differs("checkpoints", stored.size, f"checkpoint {stored.size} is stored under another head")
        if tree.root(stored.size) != checkpoint.root:
            report.differs("checkpoints", stored.size, f"checkpoint {stored.size} has another root than the tree")


def check_anchors(part: str, tree: FlatLog, heads: Sequence[AnchorHead], report: Report) -> None:
    """Compare anchored heads up to the pinned position with the tree."""
    for head in heads:
        if head.size > tree.size:
            continue
        report.count(part)
        if tree.root(head.size) != head.root:
            report.differs(part, head.size, f"the anchor of size {head.size} has another root than the tree")


def _first_difference(part: bytes, wanted: bytes, index: int, report: Report) -> None:
    for offset in range(0, len(wanted), HASH_BYTES):
        if part[offset : offset + HASH_BYTES] != wanted[offset : offset + HASH_BYTES]:
            position = index + offset // HASH_BYTES + 1
            report.differs("tree", position, f"the log's leaf hash is not that of the entry at position {position}")
            return

"""The sequencer: turns entries into leaves of the log and signs its heads, one at a time."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from threading import Lock
from typing import Protocol

from merkle.checkpoint import Checkpoint, StoredCheckpoint, parse_checkpoint
from merkle.flat_log import FlatLog
from merkle.hashing import leaf_hashes
from merkle.log_view import LogView, PublishedHead
from merkle.notes import join_note, parse_note
from merkle.proofs import ProofError, verify_consistency
from streams.processor import ForkError, Record, fresh


class LogStore(Protocol):
    """The durable log. Each write is one transaction and durable when it returns, in doubt when it raises."""

    def position(self) -> tuple[int, bytes]:
        """The last position stored and its leaf hash; (0, b"") in the beginning."""
        ...

    def append(self, first_position: int, leaf_hashes: bytes) -> None:
        """Store joined leaf hashes; refuses unless `first_position` is the one after the last."""
        ...

    def load(self) -> Iterator[bytes]:
        """All leaf hashes, joined, in big chunks; raises when they contradict the position."""
        ...

    def last_checkpoint(self) -> StoredCheckpoint | None:
        """The newest signed checkpoint."""
        ...

    def add_checkpoint(self, previous_size: int, checkpoint: StoredCheckpoint) -> None:
        """Store a checkpoint; refuses unless the last is still that of `previous_size` (0: none)."""
        ...


class NoteSigner(Protocol):
    """The log's key, wherever it is kept. It signs under the log's origin as key name."""

    def sign(self, text: bytes) -> bytes:
        """The note signature line for `text`, with its LF."""
        ...


class Sequencer:
    """Keeps the tree in memory, its leaf hashes in the store, and publishes signed heads.

    `view` is for readers in other threads. Any thread may call; calls wait for each other.
    """

    name = "sequencer"

    def __init__(self, origin: str, store: LogStore, signer: NoteSigner) -> None:
        """Load the tree from `store` and show its last checkpoint.

        ForkError when that checkpoint is of another log or of another tree than the one stored.
        """
        self.view = LogView()
        self._origin = origin
        self._store = store
        self._signer = signer
        self._lock = Lock()
        self._in_doubt = False
        self._load()

    def position(self) -> tuple[int, bytes]:
        """The last position sequenced and its leaf hash; (0, b"") in the beginning."""
        with self._lock:
            self._settle()
            return self._reached()

    def process(self, records: Sequence[Record]) -> None:
        """Add the entries to the log. Repeats are compared with the leaves they became.

        GapError or ForkError when they do not continue the log; nothing is changed then.
        """
        with self._lock:
            self._settle()
            new = fresh(records, self._reached(), lambda position: self._tree.leaf(position - 1))
            if not new:
                return
            hashes = leaf_hashes(entry for _, entry in new)
            # An error from here on may come before or after the commit, so the tree is loaded again before
            # its next use. A crash before the commit: the host feeds the same entries again. After it: they
            # are in the store, the next start loads them, and the host goes on behind them.
            self._in_doubt = True
            self._store.append(new[0][0], hashes)
            self._tree.append(hashes)
            self._in_doubt = False

    def publish(self, now: datetime) -> bytes | None:
        """Sign, store and show the head if the log grew since the last one; its note, or None.

        `now` (with a time zone) is kept beside the note, not signed. ForkError, and nothing signed, when the
        last stored checkpoint is not a prefix of the tree.
        """
        with self._lock:
            self._settle()
            last = self._store.last_checkpoint()
            self._check_extends(last)
            size = self._tree.size
            if size == (last.size if last else 0):
                self._show(last)
                return None
            root = self._tree.root()
            body = Checkpoint(self._origin, size, root).body()
            note = join_note(body, [self._signer.sign(body)])
            if {each.name for each in parse_note(note).signatures} != {self._origin}:
                raise ValueError(f"sequencer: the signer's key is not named {self._origin}")
            signed_at = now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
            stored = StoredCheckpoint(size, root, note, signed_at)
            # A crash before this is durable: nobody saw the signature, the next publish signs the same or a
            # later head. A crash after it: the next start, or the next publish, shows what was stored.
            self._store.add_checkpoint(last.size if last else 0, stored)
            self._show(stored)
            return note

    def _reached(self) -> tuple[int, bytes]:
        size = self._tree.size
        return (size, self._tree.leaf(size - 1)) if size else (0, b"")

    def _settle(self) -> None:
        """Load again after a write whose outcome is not known."""
        if self._in_doubt:
            self._load()
            self._in_doubt = False

    def _load(self) -> None:
        tree = FlatLog()
        for chunk in self._store.load():
            tree.append(chunk)
        self._tree = tree
        last = self._store.last_checkpoint()
        self._check_extends(last)
        self._show(last)

    def _check_extends(self, last: StoredCheckpoint | None) -> None:
        """The signed past must be a prefix of the tree: what was signed counts, not only what is stored.

        1. the note speaks of this log, with the size and root stored beside it;
        2. the tree has that many leaves and had that root;
        3. the proof from there to the tree's root holds.
        """
        if last is None:
            return
        signed = parse_checkpoint(parse_note(last.note).text)
        if (signed.origin, signed.size, signed.root) != (self._origin, last.size, last.root):
            raise ForkError(f"{self._origin} checkpoint {last.size}, note of {signed.origin}", last.root, signed.root)
        tree = self._tree
        ours = tree.root(last.size) if 0 < last.size <= tree.size else b""
        if ours != last.root:
            raise ForkError(f"{self._origin} checkpoint {last.size}, tree of {tree.size}", ours, last.root)
        proof = tree.consistency_proof(last.size)
        try:
            verify_consistency(last.size, tree.size, last.root, tree.root(), proof)
        except ProofError as broken:
            raise ForkError(f"{self._origin} checkpoint {last.size}: {broken}", tree.root(), last.root) from broken

    def _show(self, last: StoredCheckpoint | None) -> None:
        self.view.show(self._tree, PublishedHead(last.size, last.root, last.note) if last else None)

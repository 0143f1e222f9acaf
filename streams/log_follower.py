"""Follows the log that a sequencer of another process writes: its tree in memory, for proofs, tiles and anchors.

It shows a checkpoint only after its own tree, grown from the stored leaves, has that root: a log store that was
changed behind the sequencer's back is found here, too.
"""

from collections.abc import Iterator
from datetime import datetime
from threading import Lock
from typing import Protocol

from merkle.checkpoint import StoredCheckpoint
from merkle.flat_log import FlatLog
from merkle.log_view import LogView, PublishedHead
from streams.processor import ForkError


class StoredLog(Protocol):
    """The log's store, as one who only reads needs it."""

    def position(self) -> tuple[int, bytes]:
        """The last position stored and its leaf hash."""
        ...

    def load_from(self, size: int) -> Iterator[bytes]:
        """All leaf hashes after the first `size`, joined, in big chunks; one consistent state."""
        ...

    def last_checkpoint(self) -> StoredCheckpoint | None:
        """The newest signed checkpoint."""
        ...


class LogFollower:
    """A `streams.publisher.Signs` that signs nothing: it looks for what was signed elsewhere."""

    def __init__(self, origin: str, store: StoredLog) -> None:
        """Nothing is read before the first `publish`."""
        self.view = LogView()
        self._origin, self._store = origin, store
        self._tree = FlatLog()
        self._lock = Lock()

    def position(self) -> tuple[int, bytes]:
        """How far the stored log goes."""
        return self._store.position()

    def publish(self, now: datetime) -> bytes | None:  # noqa: ARG002 the port's signature
        """Show the newest checkpoint if it is new; its note, or None.

        ForkError, and nothing shown, when the stored log is not the one that was shown before or does not have the
        root that was signed. Blocking; raises what the store raises.
        """
        with self._lock:
            last = self._store.last_checkpoint()
            shown = self.view.head
            if last is None or (shown is not None and (shown.size, shown.root) == (last.size, last.root)):
                if last is None and shown is not None:
                    raise ForkError(f"{self._origin} checkpoint {shown.size}", shown.root, b"")
                return None
            if shown is not None and last.size <= shown.size:
                raise ForkError(f"{self._origin} checkpoint {last.size} after {shown.size}", shown.root, last.root)
            self._grow(last.size)
            root = self._tree.root(last.size)
            if root != last.root:
                self._tree = FlatLog()  # the next look reads all of it again
                raise ForkError(f"{self._origin} checkpoint {last.size}", root, last.root)
            self.view.show(self._tree, PublishedHead(last.size, last.root, last.note))
            return last.note

    def _grow(self, size: int) -> None:
        """Read what the tree lacks. ForkError when the store has fewer leaves than were signed."""
        if self._tree.size >= size:
            return
        for chunk in self._store.load_from(self._tree.size):
            self._tree.append(chunk)
        if self._tree.size < size:
            raise ForkError(f"{self._origin} checkpoint {size}, {self._tree.size} leaves are stored", b"", b"")

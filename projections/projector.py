"""The processor that keeps the read models of the log: records in, rows and position out, in one transaction."""

from collections.abc import Callable, Sequence
from typing import Final

from merkle.hashing import leaf_hash
from projections import persist
from projections.events import Head, entry_codec
from projections.fold import Fold, Needs
from projections.position import Accepted, Record, accept
from projections.store import AnyReadStore, Connection, progress, save_progress, transaction


class Projector:
    """Applies entries to the read models. One thread at a time calls `process`; `position` may be asked from any.

    `published` is called with the new position after every commit, in the processing thread (`PositionBoard.publish`).
    """

    name: Final = "projector"

    def __init__(self, store: AnyReadStore, published: Callable[[int], None] | None = None) -> None:
        self._store = store
        self._published = published
        self._codec = entry_codec()
        self._connection: Connection | None = None

    def position(self) -> tuple[int, bytes]:
        """Position and leaf hash of the last applied entry; (0, b"") at the beginning."""
        return progress(self._store.reader(), "entries")[:2]

    def process(self, records: Sequence[Record]) -> None:
        """Apply the records that are new, or raise ProjectionStopped (one of its kinds) with nothing changed."""
        if not records:
            return
        if self._connection is None:
            self._connection = self._store.writer()
        with transaction(self._connection) as connection:
            position, _, log = progress(connection, "entries")
            fresh = accept(records, position, lambda first, last: _known(connection, first, last))
            if fresh:
                self._apply(connection, fresh, log)
        if fresh and self._published is not None:
            self._published(fresh[-1][0])

    def _apply(self, connection: Connection, fresh: list[Accepted], log: str) -> None:
        heads: list[Head] = []
        for position, entry, _ in fresh:
            head = self._codec.head(position, entry, log)
            log = head.log
            heads.append(head)
        fold = Fold(self._codec)
        persist.load(connection, fold, Needs(heads))
        apply = fold.apply
        for head, (_, entry, _) in zip(heads, fresh, strict=True):
            apply(head, entry)
        persist.save(connection, fold, fresh[0][0])
        position, _, leaf = fresh[-1]
        save_progress(connection, "entries", position, leaf, log)


def _known(connection: Connection, first: int, last: int) -> dict[int, bytes]:
    rows = connection.execute("SELECT position, entry FROM entries WHERE position BETWEEN ? AND ?", (first, last))
    return {position: leaf_hash(entry) for position, entry in rows.fetchall()}

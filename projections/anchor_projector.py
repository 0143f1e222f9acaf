"""The processor that keeps the anchors: its source is the anchor book's own log, with a position of its own."""

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, Final

import msgspec

from projections.bulk import read_json, write_rows
from projections.events import Codec, Head, Mined, Submitted, Undone, anchor_codec
from projections.position import Accepted, EntryCorrupt, Record, accept
from projections.rows import AnchorRow
from projections.store import AnyReadStore, Connection, progress, save_progress, transaction

_STATES: Final = {
    "AnchorSubmitted": "pending",
    "AnchorReplaced": "pending",
    "AnchorMined": "mined",
    "AnchorFinal": "final",
    "AnchorReturned": "pending",  # its block was reorganised away; the transaction waits again
    "AnchorFailed": "failed",
}
LOAD_ANCHORS: Final = (
    f"SELECT json_group_array(json_array({', '.join(AnchorRow.__struct_fields__)})) FROM anchors"
    " WHERE id IN (SELECT value FROM json_each(?))"
)
_INSERT_ANCHORS: Final = f"INSERT INTO anchors ({', '.join(AnchorRow.__struct_fields__)})"
_REPLACE_ANCHORS: Final = "ON CONFLICT (id) DO UPDATE SET " + ", ".join(
    f"{name} = excluded.{name}" for name in AnchorRow.__struct_fields__ if name != "id"
)
_anchors = msgspec.json.Decoder(list[AnchorRow]).decode


class AnchorFold:
    """The rows of a batch while events of the anchor book run over them; pure."""

    def __init__(self, codec: Codec, embedded_chain_ids: Collection[int]) -> None:
        self._data = codec.data
        self._embedded = frozenset(embedded_chain_ids)
        self.anchors: dict[str, AnchorRow] = {}
        self.entries: list[tuple[Any, ...]] = []

    def apply(self, head: Head, leaf: bytes) -> None:
        """One event. EntryCorrupt when it is about an anchor never submitted."""
        data: Submitted = self._data(head)
        row = self.anchors.get(head.aggregate_id)
        if row is None:
            if head.type != "AnchorSubmitted":
                raise EntryCorrupt(f"{head.type} at position {head.position} is about an unknown anchor", head.position)
            row = self.anchors[head.aggregate_id] = self._submitted(head, data)
        # Every event says what its transaction carries: after a replacement the earlier one may be the mined one.
        row.size, row.root, row.tx_hash = data.size, data.root, data.tx_hash
        row.state = _STATES[head.type]
        row.reason = data.reason if isinstance(data, Undone) else ""
        if isinstance(data, Mined):
            row.block_number, row.block_hash, row.block_time = data.block_number, data.block_hash, data.block_time
            row.log_index, row.gas_used = data.log_index, data.gas_used
        else:
            row.block_number = row.block_hash = row.block_time = row.log_index = row.gas_used = None
        row.version, row.last_position, row.updated_at = head.version, head.position, head.recorded_at
        self.entries.append((head.position, leaf, head.recorded_at, head.type, head.aggregate_id, data.tx_hash))

    def _submitted(self, head: Head, data: Submitted) -> AnchorRow:
        return AnchorRow(
            head.aggregate_id, data.chain_id, data.contract, data.log_id, data.nonce, data.size, data.root,
            data.tx_hash, "pending", None, None, None, None, None, "", int(data.chain_id not in self._embedded),
            head.version, head.position, head.position, head.recorded_at, head.recorded_at,
        )  # fmt: skip


class AnchorProjector:
    """Applies the anchor book's entries. One thread at a time calls `process`; `position` may be asked from any.

    `embedded_chain_ids` are the chains that this installation runs itself: their anchors are marked as not independent.
    `published` is called with the anchor book's new position after every commit, in the processing thread.
    """

    name: Final = "anchor-projector"

    def __init__(
        self,
        store: AnyReadStore,
        embedded_chain_ids: Collection[int] = (),
        published: Callable[[int], None] | None = None,
    ) -> None:
        self._store = store
        self._embedded = embedded_chain_ids
        self._published = published
        self._codec = anchor_codec()
        self._connection: Connection | None = None

    def position(self) -> tuple[int, bytes]:
        """Position and leaf hash of the last applied entry of the anchor book; (0, b"") at the beginning."""
        return progress(self._store.reader(), "anchors")[:2]

    def process(self, records: Sequence[Record]) -> None:
        """Apply the records that are new, or raise ProjectionStopped with nothing changed."""
        if not records:
            return
        if self._connection is None:
            self._connection = self._store.writer()
        with transaction(self._connection) as connection:
            position, _, log = progress(connection, "anchors")
            fresh = accept(records, position, lambda first, last: _known(connection, first, last))
            if fresh:
                self._apply(connection, fresh, log)
        if fresh and self._published is not None:
            self._published(fresh[-1][0])

    def _apply(self, connection: Connection, fresh: list[Accepted], log: str) -> None:
        fold = AnchorFold(self._codec, self._embedded)
        heads = []
        for position, entry, _ in fresh:
            head = self._codec.head(position, entry, log)
            log = head.log
            heads.append(head)
        load_anchors(connection, fold, {head.aggregate_id for head in heads})
        for head, (_, _, leaf) in zip(heads, fresh, strict=True):
            fold.apply(head, leaf)
        save_anchors(connection, fold)
        position, _, leaf = fresh[-1]
        save_progress(connection, "anchors", position, leaf, log)


def load_anchors(connection: Connection, fold: AnchorFold, ids: Iterable[str]) -> None:
    """Fill the fold with the anchors that earlier batches have stored."""
    for row in _anchors(read_json(connection, LOAD_ANCHORS, ids)):
        fold.anchors[row.id] = row


def save_anchors(connection: Connection, fold: AnchorFold) -> None:
    """Store every anchor of the batch and its events."""
    write_rows(connection, "INSERT INTO anchor_entries", fold.entries)
    write_rows(
        connection,
        _INSERT_ANCHORS,
        [msgspec.structs.astuple(row) for row in fold.anchors.values()],
        _REPLACE_ANCHORS,
    )


def _known(connection: Connection, first: int, last: int) -> dict[int, bytes]:
    return dict(
        connection.execute(
            "SELECT position, leaf FROM anchor_entries WHERE position BETWEEN ? AND ?", (first, last)
        ).fetchall()
    )

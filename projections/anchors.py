"""Questions about anchors, and the receipt of an entry, joined when it is asked for. Anchors are public."""

from collections.abc import Iterable
from typing import Any, Final

from domain.entry import decode_envelope
from merkle.hashing import leaf_hash
from projections.queries import Viewer, bounded_limit, entry
from projections.store import Connection, snapshot
from projections.views import AnchorView, CheckpointRef, Page, ReceiptView

_COLUMNS: Final = ", ".join(AnchorView.__struct_fields__)
_ANCHOR: Final = f"SELECT {_COLUMNS} FROM anchors"
_INDEPENDENT: Final = AnchorView.__struct_fields__.index("independent")


def anchors(
    connection: Connection, *, state: str | None = None, before: int | None = None, limit: int = 100
) -> Page[AnchorView]:
    """Anchors, newest first; `before` is the `next` of the page before."""
    limit = bounded_limit(limit)
    terms = "first_position < ?"
    values: list[Any] = [2**63 - 1 if before is None else min(before, 2**63 - 1)]
    if state is not None:
        terms += " AND state = ?"
        values.append(state)
    rows = connection.execute(
        f"SELECT {_COLUMNS}, first_position FROM anchors WHERE {terms} ORDER BY first_position DESC LIMIT ?",
        (*values, limit + 1),
    ).fetchall()
    items = [_view(row[:-1]) for row in rows[:limit]]
    return Page(items, rows[limit - 1][-1] if len(rows) > limit else None)


def anchor(connection: Connection, anchor_id: str) -> AnchorView | None:
    """The anchor of that id."""
    return _maybe(connection.execute(f"{_ANCHOR} WHERE id = ?", (anchor_id,)).fetchone())


def anchor_by_tx(connection: Connection, tx_hash: str) -> AnchorView | None:
    """The anchor that a transaction carries or carried before it was replaced."""
    return _maybe(
        connection.execute(
            f"{_ANCHOR} WHERE id IN (SELECT anchor FROM anchor_entries WHERE tx_hash = ?) LIMIT 1", (tx_hash,)
        ).fetchone()
    )


def anchor_covering(connection: Connection, at: int) -> AnchorView | None:
    """The first live anchor (any state but failed) of a head that holds the position."""
    return _maybe(
        connection.execute(
            f"{_ANCHOR} WHERE size >= ? AND state <> 'failed' ORDER BY size, nonce LIMIT 1", (min(at, 2**63 - 1),)
        ).fetchone()
    )


def latest_anchor(connection: Connection, *states: str) -> AnchorView | None:
    """The anchor of the largest head in one of the states (all but failed when none is given)."""
    wanted = states or ("pending", "mined", "final")
    marks = ", ".join("?" * len(wanted))
    return _maybe(
        connection.execute(
            f"{_ANCHOR} WHERE state <> 'failed' AND state IN ({marks}) ORDER BY size DESC, nonce DESC LIMIT 1", wanted
        ).fetchone()
    )


def receipt(
    connection: Connection, viewer: Viewer, at: int, checkpoint: CheckpointRef | None = None
) -> ReceiptView | None:
    """The receipt of the entry at a position; None when there is none that the viewer may read.

    `checkpoint` is the newest one that the caller knows; it is shown when it covers the entry.
    """
    with snapshot(connection):
        found = entry(connection, viewer, at)
        if found is None:
            return None
        covering = anchor_covering(connection, at)
    covered = checkpoint if checkpoint is not None and checkpoint.size >= at else None
    head = decode_envelope(found)
    return ReceiptView(at, leaf_hash(found).hex(), head.type, head.recorded_at, covered, covering)


def receipts(
    connection: Connection, viewer: Viewer, positions: Iterable[int], checkpoint: CheckpointRef | None = None
) -> list[ReceiptView]:
    """The receipts of those positions that the viewer may read, all at one moment."""
    with snapshot(connection):
        found = [receipt(connection, viewer, at, checkpoint) for at in positions]
    return [one for one in found if one is not None]


def _maybe(row: Any) -> AnchorView | None:
    return None if row is None else _view(row)


def _view(row: Any) -> AnchorView:
    values = list(row)
    values[_INDEPENDENT] = bool(values[_INDEPENDENT])
    return AnchorView(*values)

"""Questions about trades: one, many by filter, the history of one, one as it was. A company sees its own."""

from typing import Any, Final

import msgspec

from domain.entry import decode_envelope
from merkle.hashing import leaf_hash
from projections.events import entry_codec
from projections.fold import Fold
from projections.queries import Viewer, bounded_limit, position, position_at
from projections.rows import NOTHING_PENDING, Pending, TradeRow
from projections.store import Connection, snapshot
from projections.views import Dispute, HistoryView, Money, Page, ProposedSettlement, TradeView

_ROW: Final = TradeRow.__struct_fields__
_WIDTH: Final = len(_ROW)
_SELECTED: Final = ", ".join(f"t.{name}" for name in _ROW)
_TRADE: Final = f"SELECT {_SELECTED} FROM trades t"
# The first and the latest entry of a trade hold the rest of what is shown.
_WHOLE: Final = (
    f"SELECT {_SELECTED}, first.entry, latest.entry FROM ({{}}) t"
    " JOIN entries first ON first.position = t.position JOIN entries latest ON latest.position = t.last_position"
)
_HISTORY: Final = (
    "SELECT e.position, e.entry, t.seller, t.buyer FROM trades t JOIN entries e ON e.trade = t.position"
    " WHERE t.id = ? AND e.position <= ? ORDER BY e.position"
)
_PENDING: Final = _ROW.index("pending")
AsOf = int | str
_codec = entry_codec()


class _Terms(msgspec.Struct):
    """Of TradeRecorded: what is shown and stands in no column."""

    recorded_by: str
    traded_on: str
    due_on: str
    description: str
    lines: msgspec.Raw
    reference: str
    digest: str


class _Acted(msgspec.Struct):
    """Which company acted; TradeRecorded has another name for it."""

    by: str = ""
    recorded_by: str = ""


_decode_terms = msgspec.json.Decoder(_Terms).decode
_decode_acted = msgspec.json.Decoder(_Acted).decode
_decode_pending = msgspec.json.Decoder(Pending).decode


class TradeFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which trades: every field that is set must hold.

    `company` is one of the two sides (a viewer that is a company is always one of them), `side` which one ("seller" or
    "buyer") and `counterparty` the other. Dates are "YYYY-MM-DD", both ends included. `text` is part of description or
    reference, ASCII letters in any case.
    """

    company: str | None = None
    side: str | None = None
    counterparty: str | None = None
    state: str | None = None
    disputed: bool | None = None
    currency: str | None = None
    traded_from: str | None = None
    traded_until: str | None = None
    reference: str | None = None
    text: str | None = None


ALL_TRADES: Final = TradeFilter()


def trade(connection: Connection, viewer: Viewer, trade_id: str, *, as_of: AsOf | None = None) -> TradeView | None:
    """The trade of that id, now or as it was at a position or time (`domain.entry.format_time`)."""
    with snapshot(connection):
        found = _visible(viewer, connection.execute(_one("t.id = ?"), (trade_id,)).fetchone())
        if found is None or as_of is None:
            return found
        return _trade_at(connection, trade_id, as_of_position(connection, as_of))


def trade_by_reference(connection: Connection, viewer: Viewer, company: str, reference: str) -> TradeView | None:
    """The trade that a company has recorded under its own reference."""
    if not reference:
        return None
    return _visible(
        viewer,
        connection.execute(_one("t.recorded_by = ? AND t.reference = ?"), (company, reference)).fetchone(),
    )


def trades(
    connection: Connection,
    viewer: Viewer,
    wanted: TradeFilter = ALL_TRADES,
    *,
    before: int | None = None,
    limit: int = 100,
) -> Page[TradeView]:
    """Trades, newest first; `before` is the `next` of the page before. New trades never shift later pages."""
    limit = bounded_limit(limit)
    company, counterparty = wanted.company, wanted.counterparty
    if viewer is not None and company not in {None, viewer}:
        if counterparty not in {None, viewer}:
            return Page([], None)
        # Seen from the viewer, whose counterparty is the company asked for; sides are turned likewise.
        side = {"seller": "buyer", "buyer": "seller"}.get(wanted.side or "", wanted.side)
        wanted = msgspec.structs.replace(wanted, side=side)
        counterparty = company
    subject = company if viewer is None else viewer
    terms, values = _conditions(wanted)
    terms.append("position < ?")
    values.append(2**63 - 1 if before is None else min(before, 2**63 - 1))
    selects: list[str] = []
    bound: list[Any] = []
    anyone = subject is None and counterparty is None  # then there is no side to stand on
    for mine, other in (("seller", "buyer"), ("buyer", "seller")):
        own_terms, own_values = list(terms), list(values)
        if subject is not None:
            own_terms.insert(0, f"{mine} = ?")
            own_values.insert(0, subject)
        if counterparty is not None:
            own_terms.append(f"{other} = ?")
            own_values.append(counterparty)
        if anyone or wanted.side in {None, mine}:
            selects.append(f"SELECT * FROM ({_TRADE} WHERE {' AND '.join(own_terms)} ORDER BY position DESC LIMIT ?)")
            bound += [*own_values, limit + 1]
        if anyone:
            break  # both selections would be the same
    sql = f"{_WHOLE.format(' UNION ALL '.join(selects))} ORDER BY t.position DESC LIMIT ?"
    rows = connection.execute(sql, (*bound, limit + 1)).fetchall() if selects else []
    items = [_view(row) for row in rows[:limit]]
    return Page(items, items[-1].position if len(rows) > limit else None)


def history(connection: Connection, viewer: Viewer, trade_id: str, *, as_of: AsOf | None = None) -> list[HistoryView]:
    """Every event of a trade in order, up to a position or time; empty when the viewer is no party or none exists."""
    with snapshot(connection):
        last = position(connection) if as_of is None else as_of_position(connection, as_of)
        rows = connection.execute(_HISTORY, (trade_id, last)).fetchall()
    if not rows or viewer not in {None, *rows[0][2:]}:
        return []
    return [_history_view(entry) for _, entry, _, _ in rows]


def as_of_position(connection: Connection, as_of: AsOf) -> int:
    """The position that an `as_of` means: itself, or the last one recorded at or before the time.

    The caller sees to it that a position has been reached (`PositionBoard.wait`): a later one means "now".
    """
    now = position(connection)
    return min(as_of, now) if isinstance(as_of, int) else position_at(connection, as_of)


def _conditions(wanted: TradeFilter) -> tuple[list[str], list[Any]]:
    terms: list[str] = []
    values: list[Any] = []
    for condition, value in (
        ("state = ?", wanted.state),
        ("currency = ?", wanted.currency),
        ("traded_on >= ?", wanted.traded_from),
        ("traded_on <= ?", wanted.traded_until),
        ("reference = ?", wanted.reference),
    ):
        if value is not None:
            terms.append(condition)
            values.append(value)
    if wanted.disputed is not None:
        terms.append("disputed_by <> ''" if wanted.disputed else "disputed_by = ''")
    if wanted.text is not None:
        pattern = wanted.text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        terms.append("(description LIKE ? ESCAPE '\\' OR reference LIKE ? ESCAPE '\\')")
        values += [f"%{pattern}%"] * 2
    return terms, values


def _one(condition: str) -> str:
    return _WHOLE.format(f"{_TRADE} WHERE {condition}")


def _trade_at(connection: Connection, trade_id: str, last: int) -> TradeView | None:
    rows = connection.execute(_HISTORY, (trade_id, last)).fetchall()
    if not rows:
        return None
    fold = Fold(_codec)
    for at, entry, _, _ in rows:
        fold.apply(_codec.head(at, entry, ""), entry)
    return trade_view(fold.trades[trade_id], rows[0][1], rows[-1][1])


def _visible(viewer: Viewer, row: Any) -> TradeView | None:
    if row is None:
        return None
    view = _view(row)
    return view if viewer in {None, view.seller, view.buyer} else None


def _view(row: Any) -> TradeView:
    *values, first, latest = row
    values[_PENDING] = None if values[_PENDING] is None else _decode_pending(values[_PENDING])
    return trade_view(TradeRow(*values), first, latest)


def _history_view(entry: bytes) -> HistoryView:
    head = decode_envelope(entry)
    acted = _decode_acted(head.data)
    return HistoryView(
        position=head.position,
        version=head.version,
        type=head.type,
        by=acted.by or acted.recorded_by,
        subject=head.actor.subject,
        recorded_at=head.recorded_at,
        leaf_hash=leaf_hash(entry).hex(),
        data=msgspec.Raw(bytes(head.data)),
    )


def trade_view(row: TradeRow, first: bytes, latest: bytes) -> TradeView:
    """The payload of a trade: its row, its first entry and its latest one."""
    recorded, changed = decode_envelope(first), decode_envelope(latest)
    terms = _decode_terms(recorded.data)
    pending = row.pending or NOTHING_PENDING
    proposed = None
    if pending.proposed:
        proposed = ProposedSettlement(pending.proposed_by, Money(row.currency, pending.proposed), pending.proposed_on)
    return TradeView(
        id=row.id,
        state=row.state,
        seller=row.seller,
        buyer=row.buyer,
        recorded_by=terms.recorded_by,
        amount=Money(row.currency, str(row.amount)),
        open=Money(row.currency, str(row.open)),
        traded_on=terms.traded_on,
        due_on=terms.due_on,
        description=terms.description,
        lines=msgspec.Raw(bytes(terms.lines)),
        reference=terms.reference,
        digest=terms.digest,
        dispute=Dispute(row.disputed_by, pending.dispute_reason) if row.disputed_by else None,
        proposed_settlement=proposed,
        reversal_proposed_by=pending.reversal_by or None,
        created_at=recorded.recorded_at,
        updated_at=changed.recorded_at,
        version=changed.version,
        position=row.position,
        last_position=row.last_position,
    )

"""Questions about trades: one, many by filter, the history of one, one as it was. A company sees its own."""

import sqlite3
from typing import Any, Final

import msgspec

from projections.events import Actor, Head, entry_codec
from projections.fold import Fold
from projections.queries import Viewer, bounded_limit, position, position_at
from projections.rows import TradeRow, TradeTerms
from projections.store import snapshot
from projections.views import Dispute, HistoryView, Money, Page, ProposedSettlement, TradeView

_ROW: Final = TradeRow.__struct_fields__
_TERMS: Final = TradeTerms.__struct_fields__
_TRADE: Final = f"SELECT {', '.join(_ROW + _TERMS)} FROM trades"
_WIDTH: Final = len(_ROW)
AsOf = int | str
_codec = entry_codec()


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


def trade(
    connection: sqlite3.Connection, viewer: Viewer, trade_id: str, *, as_of: AsOf | None = None
) -> TradeView | None:
    """The trade of that id, now or as it was at a position or time (`domain.entry.format_time`)."""
    with snapshot(connection):
        found = _visible(viewer, connection.execute(f"{_TRADE} WHERE id = ?", (trade_id,)).fetchone())
        if found is None or as_of is None:
            return found
        return _trade_at(connection, trade_id, as_of_position(connection, as_of))


def trade_by_reference(
    connection: sqlite3.Connection, viewer: Viewer, company: str, reference: str
) -> TradeView | None:
    """The trade that a company has recorded under its own reference."""
    if not reference:
        return None
    return _visible(
        viewer,
        connection.execute(f"{_TRADE} WHERE recorded_by = ? AND reference = ?", (company, reference)).fetchone(),
    )


def trades(
    connection: sqlite3.Connection,
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
    sql = f"{' UNION ALL '.join(selects)} ORDER BY position DESC LIMIT ?"
    rows = connection.execute(sql, (*bound, limit + 1)).fetchall() if selects else []
    items = [_view(row) for row in rows[:limit]]
    return Page(items, items[-1].position if len(rows) > limit else None)


def history(
    connection: sqlite3.Connection, viewer: Viewer, trade_id: str, *, as_of: AsOf | None = None
) -> list[HistoryView]:
    """Every event of a trade in order, up to a position or time; empty when the viewer is no party or none exists."""
    with snapshot(connection):
        last = position(connection) if as_of is None else as_of_position(connection, as_of)
        rows = connection.execute(
            "SELECT position, version, type, by, subject, recorded_at, leaf, data, reader, other_reader FROM entries"
            " WHERE aggregate_id = ? AND data IS NOT NULL AND position <= ? ORDER BY position",
            (trade_id, last),
        ).fetchall()
    if not rows or (viewer is not None and viewer not in rows[0][-2:]):
        return []
    return [
        HistoryView(at, version, kind, by, subject, recorded_at, leaf.hex(), msgspec.Raw(data))
        for at, version, kind, by, subject, recorded_at, leaf, data, _, _ in rows
    ]


def as_of_position(connection: sqlite3.Connection, as_of: AsOf) -> int:
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


def _trade_at(connection: sqlite3.Connection, trade_id: str, last: int) -> TradeView | None:
    fold = Fold(_codec)
    rows = connection.execute(
        "SELECT position, leaf, recorded_at, type, version, by, subject, data FROM entries"
        " WHERE aggregate_id = ? AND data IS NOT NULL AND position <= ? ORDER BY position",
        (trade_id, last),
    ).fetchall()
    for at, leaf, recorded_at, kind, version, by, subject, data in rows:
        head = Head(Actor(by, subject), trade_id, msgspec.Raw(data), "", at, recorded_at, kind, 1, version)
        fold.apply(head, leaf)
    if not rows:
        return None
    return trade_view(fold.trades[trade_id], fold.terms[trade_id])


def _visible(viewer: Viewer, row: Any) -> TradeView | None:
    if row is None:
        return None
    view = _view(row)
    return view if viewer in {None, view.seller, view.buyer} else None


def _view(row: Any) -> TradeView:
    return trade_view(TradeRow(*row[:_WIDTH]), TradeTerms(*row[_WIDTH:]))


def trade_view(row: TradeRow, terms: TradeTerms) -> TradeView:
    """The payload of a trade's row."""
    proposed = None
    if row.proposed:
        proposed = ProposedSettlement(row.proposed_by, Money(row.currency, str(row.proposed)), row.proposed_on)
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
        lines=msgspec.Raw(terms.lines),
        reference=terms.reference,
        digest=terms.digest,
        dispute=Dispute(row.disputed_by, row.dispute_reason) if row.disputed_by else None,
        proposed_settlement=proposed,
        reversal_proposed_by=row.reversal_by or None,
        created_at=terms.created_at,
        updated_at=row.updated_at,
        version=row.version,
        position=row.position,
        last_position=row.last_position,
    )

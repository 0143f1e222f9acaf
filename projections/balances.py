"""Questions about balances: double entry, so what one company is owed its counterparty owes, and all sum to zero."""

from typing import Any

from projections.queries import Viewer
from projections.store import Connection, snapshot
from projections.trades import AsOf, as_of_position
from projections.views import BalanceView, Money


def balances(
    connection: Connection,
    viewer: Viewer,
    company: str,
    *,
    counterparty: str | None = None,
    currency: str | None = None,
    as_of: AsOf | None = None,
) -> list[BalanceView]:
    """A company's balances by counterparty and currency, now or at a position or time; empty for another's viewer.

    A pair that has traded keeps its row when it comes back to zero.
    """
    if viewer not in {None, company}:
        return []
    terms, values = ["company = ?"], [company]
    for name, value in (("counterparty", counterparty), ("currency", currency)):
        if value is not None:
            terms.append(f"{name} = ?")
            values.append(value)
    with snapshot(connection):
        rows = connection.execute(
            f"SELECT counterparty, currency, units, position, pair FROM balances WHERE {' AND '.join(terms)}"
            " ORDER BY counterparty, currency",
            values,
        ).fetchall()
        if as_of is not None:
            last = as_of_position(connection, as_of)
            rows = [row for now in rows if (row := _before(connection, company, now, last)) is not None]
    return [BalanceView(company, other, Money(code, units), at) for other, code, units, at, _ in rows]


def totals(connection: Connection, viewer: Viewer, company: str, *, as_of: AsOf | None = None) -> list[Money]:
    """A company's balance per currency over all counterparties, in order of the currency's code."""
    sums: dict[str, int] = {}
    for row in balances(connection, viewer, company, as_of=as_of):
        sums[row.balance.currency] = sums.get(row.balance.currency, 0) + int(row.balance.units)
    return [Money(currency, str(units)) for currency, units in sorted(sums.items())]


def _before(connection: Connection, company: str, now: tuple[Any, ...], last: int) -> tuple[Any, ...] | None:
    """A balance row as it was at position `last`, None before its first posting: one index look-up."""
    counterparty, currency, _, changed, pair = now
    if changed <= last:
        return now
    row = connection.execute(
        "SELECT balance, position FROM postings WHERE pair = ? AND position <= ? ORDER BY position DESC LIMIT 1",
        (pair, last),
    ).fetchone()
    if row is None:
        return None
    units = int(row[0]) if company < counterparty else -int(row[0])
    return counterparty, currency, str(units), row[1], pair

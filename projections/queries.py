"""Questions about the book, companies, wallets and who may read what. Each takes a read connection and the viewer.

A viewer is a company's code, or None for operators and auditors, who see everything. What a viewer may not see does
not exist for it: None or an empty list. `store.reader()` gives a connection, `store.snapshot()` one for questions that
must be answered at one position.
"""

from typing import Any, Final

import msgspec

from domain.entry import decode_stamp
from projections.store import Connection, progress
from projections.views import BookView, CompanyView, KeyView, Page, WalletView

MAX_LIMIT: Final = 1_000
Viewer = str | None

_COMPANY: Final = (
    "SELECT code, name, state, reason, registered_at, updated_at, version, position, last_position FROM companies"
)
_WALLET: Final = (
    "SELECT id, company, subject, address, custody, state, reason, keys, opened_at, updated_at, version, position,"
    " last_position FROM wallets"
)
_ACCESS: Final = (
    "SELECT e.entry, e.position, e.reader, t.seller, t.buyer FROM entries e LEFT JOIN trades t ON t.position = e.trade"
)
_keys = msgspec.json.Decoder(list[tuple[str, int]]).decode


def position(connection: Connection) -> int:
    """The position that this connection sees now; 0 at the beginning."""
    return progress(connection, "entries")[0]


def position_at(connection: Connection, time: str) -> int:
    """The last position recorded at or before a time (format of `domain.entry.format_time`); 0 when there is none.

    Times never decrease along positions, so bisection finds it in some twenty look-ups.
    """
    low, high = 0, position(connection)
    while low < high:
        middle = (low + high + 1) // 2
        (entry,) = connection.execute("SELECT entry FROM entries WHERE position = ?", (middle,)).fetchone()
        if decode_stamp(entry).recorded_at <= time:
            low = middle
        else:
            high = middle - 1
    return low


def may_read(connection: Connection, viewer: Viewer, at: int) -> bool | None:
    """Whether the viewer may read the entry at a position; None when the read models have no such entry (yet).

    Trade entries are for seller and buyer, wallet and batch entries for their company, company and book entries for
    everybody.
    """
    return None if (row := _access(connection, at)) is None else _may(viewer, row)


def entry(connection: Connection, viewer: Viewer, at: int) -> bytes | None:
    """The exact bytes of the entry at a position; None when there is none that the viewer may read."""
    row = _access(connection, at)
    return row[0] if row is not None and _may(viewer, row) else None


def readable(connection: Connection, viewer: Viewer, first: int, last: int) -> list[int]:
    """The positions from `first` to `last` that the viewer may read, ascending."""
    rows = connection.execute(f"{_ACCESS} WHERE e.position BETWEEN ? AND ? ORDER BY e.position", (first, last))
    return [row[1] for row in rows.fetchall() if _may(viewer, row)]


def _access(connection: Connection, at: int) -> Any:
    """The row of `_ACCESS` at a position, or None; positions beyond 64 bits do not exist."""
    if not 1 <= at < 2**63:
        return None
    return connection.execute(f"{_ACCESS} WHERE e.position = ?", (at,)).fetchone()


def _may(viewer: Viewer, row: Any) -> bool:
    _, _, reader, seller, buyer = row
    if viewer is None:
        return True
    if seller is not None:
        return viewer in {seller, buyer}
    return reader is None or reader == viewer


def book(connection: Connection) -> BookView | None:
    """The opening of the book, the log's first entry; everybody may read it."""
    row = connection.execute(
        "SELECT origin, chain_id, contract, log_key, promise_key, previous, recorded_at, position FROM books"
        " ORDER BY position LIMIT 1"
    ).fetchone()
    if row is None:
        return None
    origin, chain_id, contract, log_key, promise_key, previous, recorded_at, at = row
    head = msgspec.Raw((previous or "null").encode())
    return BookView(origin, chain_id, contract, log_key, promise_key, head, recorded_at, at)


# -- companies: everybody may know who takes part ----------------------------------------------------------------------


def company(connection: Connection, code: str) -> CompanyView | None:
    """The company of that code."""
    row = connection.execute(f"{_COMPANY} WHERE code = ?", (code,)).fetchone()
    return None if row is None else CompanyView(*row)


def companies(connection: Connection, *, after: int | None = None, limit: int = 100) -> Page[CompanyView]:
    """Companies in order of registration; `after` is the `next` of the page before."""
    limit = bounded_limit(limit)
    rows = connection.execute(
        f"{_COMPANY} WHERE position > ? ORDER BY position LIMIT ?", (after or 0, limit + 1)
    ).fetchall()
    items = [CompanyView(*row) for row in rows[:limit]]
    return Page(items, items[-1].position if len(rows) > limit else None)


# -- wallets: a company sees its own -----------------------------------------------------------------------------------


def wallet(connection: Connection, viewer: Viewer, wallet_id: str) -> WalletView | None:
    """The wallet of that id."""
    return _visible(viewer, connection.execute(f"{_WALLET} WHERE id = ?", (wallet_id,)).fetchone())


def wallet_of(connection: Connection, viewer: Viewer, company_code: str, subject: str) -> WalletView | None:
    """The wallet of a company's user, by the user's pseudonym."""
    return _visible(
        viewer,
        connection.execute(f"{_WALLET} WHERE company = ? AND subject = ?", (company_code, subject)).fetchone(),
    )


def wallets(
    connection: Connection, viewer: Viewer, company_code: str, *, after: int | None = None, limit: int = 100
) -> Page[WalletView]:
    """A company's wallets in order of opening; `after` is the `next` of the page before."""
    if viewer not in {None, company_code}:
        return Page([], None)
    limit = bounded_limit(limit)
    rows = connection.execute(
        f"{_WALLET} WHERE company = ? AND position > ? ORDER BY position LIMIT ?",
        (company_code, after or 0, limit + 1),
    ).fetchall()
    items = [_wallet_view(row) for row in rows[:limit]]
    return Page(items, items[-1].position if len(rows) > limit else None)


def _visible(viewer: Viewer, row: Any) -> WalletView | None:
    if row is None or viewer not in {None, row[1]}:
        return None
    return _wallet_view(row)


def _wallet_view(row: Any) -> WalletView:
    keys = _keys(row[7])
    ends = [start for _, start in keys[1:]]
    history = [KeyView(key, start, end) for (key, start), end in zip(keys, [*ends, None], strict=True)]
    values = list(row)
    values[7] = history
    return WalletView(*values)


def bounded_limit(limit: int) -> int:
    """A page's size: at least one, at most `MAX_LIMIT`."""
    return max(1, min(limit, MAX_LIMIT))

"""Loads the rows that a batch changes and stores them again: one statement a table, inside the caller's transaction.

Writes say OR ROLLBACK: a refused row undoes the whole batch, so SQLite keeps no journal to undo the one statement
(copies of the pages that it touches). The gain is small: it lies within the noise of a busy machine.
"""

from operator import itemgetter
from typing import Any, Final

import msgspec

from projections.bulk import read_json, write_rows
from projections.fold import Fold, Needs, Pair, running
from projections.rows import NOTHING_PENDING, BalanceRow, CompanyRow, TradeRow, WalletRow
from projections.store import Connection, together

_TRADE_STATE: Final = ("state", "open", "disputed_by", "pending", "last_position")
_TRADE_KEY: Final = ("position", "id", "seller", "buyer", "currency", "amount")
_TRADE_TERMS: Final = ("recorded_by", "traded_on", "description", "reference")
_COMPANY_STATE: Final = ("state", "reason", "version", "last_position", "updated_at")
_WALLET_STATE: Final = ("address", "state", "reason", "keys", "version", "last_position", "updated_at")

_NESTED: Final = {"keys": "json(keys)", "pending": "json(pending)"}


def _columns(row: type[msgspec.Struct]) -> str:
    return ", ".join(_NESTED.get(name, name) for name in row.__struct_fields__)


def _by_id(row: type[msgspec.Struct], table: str) -> str:
    selected = f"SELECT json_group_array(json_array({_columns(row)})) FROM {table}"
    return f"{selected} WHERE id IN (SELECT value FROM json_each(?))"


LOAD_COMPANIES: Final = _by_id(CompanyRow, "companies")
LOAD_WALLETS: Final = _by_id(WalletRow, "wallets")
LOAD_TRADES: Final = _by_id(TradeRow, "trades")
LOAD_BALANCES: Final = (
    f"SELECT json_group_array(json_array({_columns(BalanceRow)})) FROM balances"
    " WHERE (company, counterparty, currency) IN (SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'),"
    " json_extract(value, '$[2]') FROM json_each(?))"
)


def _update(table: str, columns: tuple[str, ...]) -> tuple[str, str]:
    """An UPDATE of many rows by position as (text before VALUES, text after them)."""
    before = f"WITH new (position, {', '.join(columns)}) AS ("
    changes = ", ".join(f"{name} = new.{name}" for name in columns)
    return before, f") UPDATE OR ROLLBACK {table} SET {changes} FROM new WHERE {table}.position = new.position"


_UPDATE_TRADES: Final = _update("trades", _TRADE_STATE)
_UPDATE_COMPANIES: Final = _update("companies", _COMPANY_STATE)
_UPDATE_WALLETS: Final = _update("wallets", _WALLET_STATE)
_REPLACE_BALANCES: Final = (
    "ON CONFLICT (company, counterparty, currency) DO UPDATE SET units = excluded.units, position = excluded.position"
)
_INSERT_TRADES: Final = f"INSERT OR ROLLBACK INTO trades ({', '.join(_TRADE_KEY + _TRADE_TERMS + _TRADE_STATE)})"
_INSERT_COMPANIES: Final = f"INSERT OR ROLLBACK INTO companies ({', '.join(CompanyRow.__struct_fields__)})"
_INSERT_WALLETS: Final = f"INSERT OR ROLLBACK INTO wallets ({', '.join(WalletRow.__struct_fields__)})"


def load(connection: Connection, fold: Fold, needs: Needs) -> None:
    """Fill the fold with the rows that earlier batches have stored."""
    if needs.trades:
        for trade in _trades(read_json(connection, LOAD_TRADES, needs.trades)):
            fold.trades[trade.id] = trade
    if needs.wallets:
        for wallet in _wallets(read_json(connection, LOAD_WALLETS, needs.wallets)):
            fold.wallets[wallet.id] = wallet
    if needs.companies:
        for company in _companies(read_json(connection, LOAD_COMPANIES, needs.companies)):
            fold.companies[company.id] = company


def save(connection: Connection, fold: Fold, first: int) -> None:
    """Store what the fold has changed. Rows made at `first` or later are new, all others exist."""
    with together(connection):
        save_entries(connection, fold)
        save_companies(connection, fold, first)
        save_wallets(connection, fold, first)
        save_trades(connection, fold, first)
        save_balances(connection, fold)


def save_entries(connection: Connection, fold: Fold) -> None:
    """Every entry of the batch, the opening of the book, and where to look for stores' lines."""
    write_rows(connection, "INSERT OR ROLLBACK INTO entries", fold.entries)
    write_rows(connection, "INSERT OR ROLLBACK INTO books", fold.books)
    write_rows(connection, "INSERT OR ROLLBACK INTO store_index", fold.store_index)


def save_companies(connection: Connection, fold: Fold, first: int) -> None:
    """Companies registered, suspended or resumed."""
    new, old = [], []
    for company_id in fold.changed_companies:
        row = fold.companies[company_id]
        if row.position >= first:
            new.append(msgspec.structs.astuple(row))
        else:
            old.append((row.position, row.state, row.reason, row.version, row.last_position, row.updated_at))
    write_rows(connection, _INSERT_COMPANIES, new)
    write_rows(connection, _UPDATE_COMPANIES[0], old, _UPDATE_COMPANIES[1])


def save_wallets(connection: Connection, fold: Fold, first: int) -> None:
    """Wallets opened, or with another key or state."""
    new, old = [], []
    for wallet_id in fold.changed_wallets:
        row = fold.wallets[wallet_id]
        keys = msgspec.json.encode(row.keys).decode()
        if row.position >= first:
            new.append(
                (
                    row.position, row.id, row.company, row.subject, row.custody, row.opened_at, row.address, row.state,
                    row.reason, keys, row.version, row.last_position, row.updated_at,
                )
            )  # fmt: skip
        else:
            old.append(
                (row.position, row.address, row.state, row.reason, keys, row.version, row.last_position, row.updated_at)
            )
    write_rows(connection, _INSERT_WALLETS, new)
    write_rows(connection, _UPDATE_WALLETS[0], old, _UPDATE_WALLETS[1])


def save_trades(connection: Connection, fold: Fold, first: int) -> None:
    """Trades recorded in this batch whole, of earlier ones what has changed."""
    new, old = [], []
    for trade_id in fold.changed_trades:
        t = fold.trades[trade_id]
        pending = None if t.pending is None or t.pending == NOTHING_PENDING else _encode(t.pending).decode()
        if t.position < first:
            old.append((t.position, t.state, t.open, t.disputed_by, pending, t.last_position))
            continue
        terms = fold.terms[trade_id]
        new.append(
            (
                t.position, t.id, t.seller, t.buyer, t.currency, t.amount,
                terms.recorded_by, terms.traded_on, terms.description, terms.reference,
                t.state, t.open, t.disputed_by, pending, t.last_position,
            )
        )  # fmt: skip
    new.sort(key=_first)  # appended at the end of the table
    old.sort(key=_first)
    write_rows(connection, _INSERT_TRADES, new)
    write_rows(connection, _UPDATE_TRADES[0], old, _UPDATE_TRADES[1])


def save_balances(connection: Connection, fold: Fold) -> None:
    """The batch's postings, each with the balance after it, and both sides of every balance they changed."""
    if not fold.postings:
        return
    balances: dict[Pair, BalanceRow] = {
        (row.company, row.counterparty, row.currency): row
        for row in _balances(read_json(connection, LOAD_BALANCES, fold.postings))
    }
    postings = running(fold.postings, balances)
    postings.sort(key=_first)  # in order of the table: neighbours go to one page
    write_rows(connection, "INSERT OR ROLLBACK INTO postings", postings)
    rows: list[tuple[Any, ...]] = []
    for row in balances.values():
        rows.append((row.company, row.counterparty, row.currency, row.units, row.position, row.pair))
        turned = str(-int(row.units))
        rows.append((row.counterparty, row.company, row.currency, turned, row.position, row.pair))
    write_rows(connection, "INSERT INTO balances", rows, _REPLACE_BALANCES)


_trades = msgspec.json.Decoder(list[TradeRow]).decode
_wallets = msgspec.json.Decoder(list[WalletRow]).decode
_companies = msgspec.json.Decoder(list[CompanyRow]).decode
_balances = msgspec.json.Decoder(list[BalanceRow]).decode
_encode = msgspec.json.encode
_first = itemgetter(0)

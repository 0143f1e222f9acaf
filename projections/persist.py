"""Loads the rows that a batch changes and stores them again: one statement a table, inside the caller's transaction."""

import sqlite3
from typing import Any, Final

import msgspec

from projections.bulk import read_json, write_rows
from projections.fold import Fold, Needs, Pair, pair_of, running
from projections.rows import CompanyRow, TradeRow, WalletRow

_TRADE_STATE: Final = (
    "state", "open", "disputed_by", "dispute_reason", "proposed", "proposed_by", "proposed_on", "reversal_by",
    "version", "last_position", "updated_at",
)  # fmt: skip
_TRADE_KEY: Final = ("position", "id", "seller", "buyer", "currency", "amount")
_TRADE_TERMS: Final = (
    "recorded_by", "traded_on", "due_on", "description", "lines", "reference", "digest", "created_at",
)  # fmt: skip
_COMPANY_STATE: Final = ("state", "reason", "version", "last_position", "updated_at")
_WALLET_STATE: Final = ("address", "state", "reason", "keys", "version", "last_position", "updated_at")

_WALLET_COLUMNS: Final = ", ".join("json(keys)" if name == "keys" else name for name in WalletRow.__struct_fields__)
LOAD_COMPANIES: Final = (
    f"SELECT json_group_array(json_array({', '.join(CompanyRow.__struct_fields__)})) FROM companies"
    " WHERE id IN (SELECT value FROM json_each(?))"
)
LOAD_WALLETS: Final = (
    f"SELECT json_group_array(json_array({_WALLET_COLUMNS})) FROM wallets WHERE id IN (SELECT value FROM json_each(?))"
)
LOAD_TRADES: Final = (
    f"SELECT json_group_array(json_array({', '.join(TradeRow.__struct_fields__)})) FROM trades"
    " WHERE id IN (SELECT value FROM json_each(?))"
)
LOAD_BALANCES: Final = (
    "SELECT json_group_array(json_array(company, counterparty, currency, units)) FROM balances"
    " WHERE (company, counterparty, currency) IN (SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'),"
    " json_extract(value, '$[2]') FROM json_each(?))"
)


def _update(table: str, columns: tuple[str, ...]) -> tuple[str, str]:
    """An UPDATE of many rows by position as (text before VALUES, text after them)."""
    before = f"WITH new (position, {', '.join(columns)}) AS ("
    changes = ", ".join(f"{name} = new.{name}" for name in columns)
    return before, f") UPDATE {table} SET {changes} FROM new WHERE {table}.position = new.position"


_UPDATE_TRADES: Final = _update("trades", _TRADE_STATE)
_UPDATE_COMPANIES: Final = _update("companies", _COMPANY_STATE)
_UPDATE_WALLETS: Final = _update("wallets", _WALLET_STATE)
_INSERT_TRADES: Final = f"INSERT INTO trades ({', '.join(_TRADE_KEY + _TRADE_TERMS + _TRADE_STATE)})"
_INSERT_COMPANIES: Final = f"INSERT INTO companies ({', '.join(CompanyRow.__struct_fields__)})"
_INSERT_WALLETS: Final = f"INSERT INTO wallets ({', '.join(WalletRow.__struct_fields__)})"


def load(connection: sqlite3.Connection, fold: Fold, needs: Needs) -> None:
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


def save(connection: sqlite3.Connection, fold: Fold, first: int) -> None:
    """Store what the fold has changed. Rows made at `first` or later are new, all others exist."""
    save_entries(connection, fold)
    save_companies(connection, fold, first)
    save_wallets(connection, fold, first)
    save_trades(connection, fold, first)
    save_balances(connection, fold)


def save_entries(connection: sqlite3.Connection, fold: Fold) -> None:
    """Every entry of the batch, and the opening of the book."""
    write_rows(connection, "INSERT INTO entries", fold.entries)
    write_rows(connection, "INSERT INTO books", fold.books)


def save_companies(connection: sqlite3.Connection, fold: Fold, first: int) -> None:
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


def save_wallets(connection: sqlite3.Connection, fold: Fold, first: int) -> None:
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


def save_trades(connection: sqlite3.Connection, fold: Fold, first: int) -> None:
    """Trades recorded in this batch whole, of earlier ones what has changed."""
    new, old = [], []
    for trade_id in fold.changed_trades:
        t = fold.trades[trade_id]
        state = (
            t.state, t.open, t.disputed_by, t.dispute_reason, t.proposed, t.proposed_by, t.proposed_on, t.reversal_by,
            t.version, t.last_position, t.updated_at,
        )  # fmt: skip
        if t.position < first:
            old.append((t.position, *state))
            continue
        terms = fold.terms[trade_id]
        new.append(
            (
                t.position, t.id, t.seller, t.buyer, t.currency, t.amount,
                terms.recorded_by, terms.traded_on, terms.due_on, terms.description, terms.lines, terms.reference,
                terms.digest, terms.created_at, *state,
            )
        )  # fmt: skip
    new.sort()  # by position: appended at the end of the table
    old.sort()
    write_rows(connection, _INSERT_TRADES, new)
    write_rows(connection, _UPDATE_TRADES[0], old, _UPDATE_TRADES[1])


def save_balances(connection: sqlite3.Connection, fold: Fold) -> None:
    """The batch's postings, each with the balance after it, and both sides of every balance they changed."""
    if not fold.postings:
        return
    last = {pair_of(posting)[0]: posting.position for posting in fold.postings}
    balances: dict[Pair, int] = dict.fromkeys(last, 0)
    for company, counterparty, currency, stored in _balances(read_json(connection, LOAD_BALANCES, last)):
        balances[company, counterparty, currency] = int(stored)
    write_rows(connection, "INSERT INTO postings", running(fold.postings, balances))
    rows: list[tuple[Any, ...]] = []
    for (company, counterparty, currency), units in balances.items():
        at = last[company, counterparty, currency]
        rows.append((company, counterparty, currency, str(units), at))
        rows.append((counterparty, company, currency, str(-units), at))
    write_rows(connection, "INSERT OR REPLACE INTO balances", rows)


_trades = msgspec.json.Decoder(list[TradeRow]).decode
_wallets = msgspec.json.Decoder(list[WalletRow]).decode
_companies = msgspec.json.Decoder(list[CompanyRow]).decode
_balances = msgspec.json.Decoder(list[tuple[str, str, str, str]]).decode

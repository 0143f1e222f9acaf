"""Entries alone give back the event store, its claims included."""

import sqlite3
from pathlib import Path

from domain import commands as c
from domain.orders import Receipt
from domain.restoring import restored
from tests.ledger_kit import Book, Key, open_book, record, run, trade_id


async def _busy(book: Book) -> None:
    """Every kind of claim: wallets of both custodies, single trades, a batch, an own signature, a rotation."""
    one, other = await book.two_sides()
    own = await book.user("kita", "own", custody="own")
    await book.do(one, record(trade=trade_id(1)))
    await book.do(other, c.ConfirmTrade(trade=trade_id(1)))
    await book.do(own, book.signed(own, c.DisputeTrade(trade=trade_id(1), reason="damaged in transit")))
    await book.do(own, book.rotation(own, Key("the next one")))
    orders = [book.order(one, record(trade=trade_id(n), reference=f"R-{n}")) for n in range(2, 6)]
    answers = await book.ledger.execute_batch(orders, "continue")
    assert all(isinstance(answer, Receipt) for answer in answers)


def test_rows_and_claims_restored_from_the_entries_equal_the_store(tmp_path: Path) -> None:
    book = open_book(tmp_path / "ledger.db")
    run(_busy(book))
    records = book.records()
    book.close()
    with sqlite3.connect(tmp_path / "ledger.db") as database:
        events = database.execute("SELECT * FROM stored_events ORDER BY rowid").fetchall()
        claims = database.execute("SELECT * FROM stored_events_claims ORDER BY key").fetchall()
    commands = list(restored(records))
    assert [row for command in commands for row in command.entries] == events
    found = [(f"cmd|{one.key}", one.first, one.body, len(one.entries)) for one in commands]
    found += [(claim, one.first, "", 0) for one in commands for claim in one.claims]
    assert sorted(found) == claims
    assert {claim.split("|")[0] for claim, *_ in claims} == {"cmd", "nonce", "ref"}


def test_nothing_is_restored_from_nothing() -> None:
    assert list(restored([])) == []

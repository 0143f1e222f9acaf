"""Entries alone give back the event store, its claims included."""

import sqlite3
from pathlib import Path

import pytest

from domain import commands as c
from domain.orders import Receipt
from domain.restoring import restored, whole_commands
from domain.store_commands import ObserveSubscription
from domain.store_notification import (
    Charge,
    Kind,
    Standing,
    State,
    Store,
    StoreEnvironment,
    StoreNotification,
)
from storage.restore import EventRestorer
from streams import restoring
from tests.ledger_kit import OPERATOR, Book, Key, open_book, record, run, trade_id
from tests.projection_support import MemoryLog


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


def test_a_command_that_led_to_several_entries_is_restored_whole_wherever_a_batch_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restoring, "BATCH", 4)
    book = open_book(tmp_path / "ledger.db")
    for number in range(7):
        parts = {"standing": Standing(number, State.ACTIVE), "charges": (Charge(f"c{number}", 1, "monthly"),)}
        said = StoreNotification(
            Store.APPLE, StoreEnvironment.SANDBOX, f"n{number}", Kind.RENEWED, "L", number, line=f"{number % 2}",
            **parts,
        )  # fmt: skip
        run(book.do(OPERATOR, ObserveSubscription(said=said, payload="ab" * 32)))
    records = book.records()
    other = open_book(tmp_path / "other.db")
    topic, store = MemoryLog(records), other.entries
    restored_now = restoring.restore_entries(topic, store, EventRestorer(other.recorder), "entries", lambda *_: None)
    assert restored_now == len(records) == 16, "two lines opened, seven observed and charged"
    book.close()
    other.close()
    found = []
    for name in ("ledger.db", "other.db"):
        with sqlite3.connect(tmp_path / name) as database:
            found.append(database.execute("SELECT * FROM stored_events_claims ORDER BY key").fetchall())
            found.append(database.execute("SELECT * FROM stored_events ORDER BY rowid").fetchall())
    assert found[:2] == found[2:]


def test_whole_commands_are_all_where_there_is_but_one() -> None:
    assert whole_commands([]) == []


def test_nothing_is_restored_from_nothing() -> None:
    assert list(restored([])) == []

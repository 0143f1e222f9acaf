"""The same story gives the same bytes in SQLite and in PostgreSQL, once what is random in it is not."""

import itertools
import random
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from domain import commands as c
from domain.orders import Receipt
from merkle.flat_log import FlatLog
from merkle.hashing import leaf_hashes
from projections.digest import digest
from projections.postgres.store import PostgresReadStore
from projections.projector import Projector
from projections.store import ReadStore
from storage.clock import LedgerClock
from tests import ledger_kit
from tests.ledger_kit import Book, open_book, open_postgres_book, record, run, settle, trade_id
from tests.postgres_server import TestDatabase

BEGAN = datetime(2026, 11, 26, tzinfo=UTC).timestamp()


class Ticking:
    """A clock that goes on by a second each time that it is asked."""

    def __init__(self) -> None:
        self.seconds = BEGAN

    def __call__(self) -> float:
        self.seconds += 1.0
        return self.seconds


def told(open_it: Any, monkeypatch: pytest.MonkeyPatch) -> Book:
    """The story on a fresh book, with the same chance and the same clock each time."""
    with monkeypatch.context() as patch:
        chance, clock = random.Random(7), Ticking()
        patch.setattr("domain.ids._entropy", lambda: (chance.randbytes(16).hex() for _ in itertools.count()))
        patch.setattr("domain.ids.time", SimpleNamespace(time_ns=lambda: int(BEGAN * 10**9)))
        patch.setattr(ledger_kit, "NUMBERS", itertools.count())
        patch.setattr(ledger_kit.WallClock, "__call__", lambda _: BEGAN)
        book: Book = open_it()
        book.recorder.bind(ledger_kit.ORIGIN, LedgerClock(wall=clock, elapsed=clock))
        run(story(book))
    return book


async def story(book: Book) -> None:
    one, other = await book.two_sides()
    for number in range(1, 9):
        await book.do(one, record(trade=trade_id(number), reference=f"R-{number}"))
    for number in range(1, 7):
        await book.do(other, c.ConfirmTrade(trade=trade_id(number)))
    await book.do(one, settle(trade_id(1), 400))
    await book.do(other, c.DisputeTrade(trade=trade_id(2), reason="damaged"))
    orders = [book.order(one, record(trade=trade_id(n), reference=f"B-{n}")) for n in range(20, 40)]
    answers = await book.ledger.execute_batch(orders, "continue")
    assert all(isinstance(answer, Receipt) for answer in answers)
    answers = await book.ledger.execute_atomic([book.order(one, record(trade=trade_id(50), reference="R-1"))])
    assert not isinstance(answers[0], Receipt), "a refusal leaves nothing on either"


def test_the_same_story_gives_equal_entries_roots_and_read_models(
    tmp_path: Path, database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = told(lambda: open_book(tmp_path / "ledger.db"), monkeypatch)
    server = told(lambda: open_postgres_book(database.writer), monkeypatch)
    assert len(file.audit()) > 35
    assert server.records() == file.records()
    roots = []
    for book in (file, server):
        tree = FlatLog()
        tree.append(leaf_hashes(state for _, state in book.records()))
        roots.append(tree.root(tree.size))
    assert roots[0] == roots[1]
    PostgresReadStore.prepare(database.owner.conninfo, "main")
    stores = [ReadStore(tmp_path / "read.db"), PostgresReadStore(database.writer.conninfo, "main")]
    for store, book in zip(stores, (file, server), strict=True):
        Projector(store).process(book.records())
    assert digest(stores[0]) == digest(stores[1])
    for book in (file, server):
        book.close()
    for store in stores:
        store.close()

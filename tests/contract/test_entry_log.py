"""Reading the event store: by position, by aggregate, from any thread, whatever number somebody asks for."""

import re
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from domain import commands as c
from domain.errors import StorageUnavailable
from domain.orders import KnownCommand
from storage.entry_log import SqliteEntryLog
from storage.postgres.database import Session
from tests.event_stores import SqliteStore
from tests.ledger_kit import Book, record, run
from tests.postgres_server import TestDatabase


async def _three_trades(book: Book) -> str:
    a, b = await book.two_sides()
    trades = [(await book.do(a, record(reference=f"R{n}"), f"k{n}")).aggregate_id for n in range(3)]
    await book.do(b, c.ConfirmTrade(trade=trades[0]))
    return trades[0]


def test_records_come_in_order_from_a_position_on_and_no_more_than_asked(store: SqliteStore) -> None:
    book = store.open()
    run(_three_trades(book))
    log = book.entries
    assert log.head() == 8
    assert [position for position, _ in log.read(1, 100)] == list(range(1, 9))
    assert [position for position, _ in log.read(6, 2)] == [6, 7]
    assert log.read(6, 1)[0][1] == log.get(6)
    assert log.read(9, 10) == []
    assert log.read(1, 0) == []


def test_an_empty_store_has_no_head_and_no_entries(store: SqliteStore) -> None:
    log = store.open().entries
    assert (log.head(), log.read(1, 10), log.get(1), log.rows(1, 10)) == (0, [], None, [])


@pytest.mark.parametrize("position", [0, -1, 9, 2**63 - 1, 2**63, 2**64, 10**30, -(2**63)])
def test_a_position_that_is_not_there_is_no_entry_however_large(store: SqliteStore, position: int) -> None:
    book = store.open()
    run(_three_trades(book))
    assert book.entries.get(position) is None
    if position > 8:
        assert book.entries.read(position, 1) == []
        assert book.entries.rows(position, 1) == []


def test_an_aggregate_is_read_in_order_and_as_of_a_position(store: SqliteStore) -> None:
    book = store.open()
    trade = run(_three_trades(book))
    whole = book.entries.of_aggregate(trade)
    assert [position for position, _ in whole] == [5, 8]
    assert book.entries.of_aggregate(trade, up_to=7) == whole[:1]
    assert book.entries.of_aggregate(trade, up_to=2**70) == whole
    assert book.entries.of_aggregate(trade, up_to=0) == []
    assert book.entries.of_aggregate("nobody") == []


def test_rows_say_what_the_table_says_beside_the_bytes(store: SqliteStore) -> None:
    book = store.open()
    trade = run(_three_trades(book))
    row = book.entries.rows(8, 1)[0]
    assert (row.position, row.aggregate_id, row.version, row.topic) == (8, trade, 2, "TradeConfirmed")
    assert row.state == book.entries.get(8)


def test_known_commands_and_their_answers_are_found_by_key(store: SqliteStore) -> None:
    book = store.open()

    async def scenario() -> None:
        a, _ = await book.two_sides()
        order = book.order(a, record(), "k")
        done = await book.ledger.execute(order)
        known = book.entries.known_commands([order.ref.key, "0" * 64])
        assert known == {order.ref.key: KnownCommand(order.ref.body, 5, 1)}
        receipt = book.entries.receipt(known[order.ref.key])
        assert (receipt.aggregate_id, receipt.version, receipt.records) == (done.aggregate_id, 1, done.records)
        assert receipt.hit
        assert book.entries.known_commands([]) == {}
        assert book.entries.taken_claims([*order.claims(), "ref|aozora|free"]) == set(order.claims())
        assert book.entries.taken_claims([]) == set()

    run(scenario())


def test_many_threads_read_at_once_while_somebody_writes(store: SqliteStore) -> None:
    book = store.open()
    run(_three_trades(book))
    readers = 4
    together = Barrier(readers)

    def read(_: int) -> list[int]:
        together.wait()
        heads = []
        while not heads or heads[-1] < 28:
            records = book.entries.read(1, 100)
            assert [position for position, _ in records] == list(range(1, len(records) + 1))
            heads.append(book.entries.head())
        return heads

    async def write() -> None:
        a = (await book.two_more())[0]
        for number in range(18):
            await book.do(a, record("mori", reference=f"S{number}"))

    with ThreadPoolExecutor(readers) as pool:
        done = [pool.submit(read, number) for number in range(readers)]
        run(write())
        heads = [future.result() for future in done]
    assert all(sorted(seen) == seen for seen in heads)


def test_a_log_is_readable_after_every_writer_has_closed(store: SqliteStore) -> None:
    book = store.open()
    run(_three_trades(book))
    book.close()
    alone = store.read_alone()
    assert alone.head() == 8
    alone.close()


def test_reading_never_writes(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path)
    book = store.open()
    run(_three_trades(book))
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        book.entries._connection().execute("DELETE FROM stored_events")
    store.close()


def test_whoever_serves_can_neither_change_nor_delete_what_stands_in_postgresql(database: TestDatabase) -> None:
    session = Session(database.writer, "test")
    for table in ("stored_events", "stored_events_claims", "stored_events_parcels", "anchor_events", "checkpoints"):
        (column,) = session.rows(
            "SELECT column_name FROM information_schema.columns WHERE table_name = %s AND ordinal_position = 1",
            (table,),
        )[0]
        for change in (f"DELETE FROM {table}", f"UPDATE {table} SET {column} = {column}", f"TRUNCATE {table}"):
            with pytest.raises(StorageUnavailable) as refused:
                session.rows(change)
            assert "permission denied" in refused.value.values["reason"]
    session.close()


def test_a_missing_database_is_trouble_and_recovers_when_it_is_there(tmp_path: Path) -> None:
    log = SqliteEntryLog(tmp_path / "ledger.db")
    with pytest.raises(StorageUnavailable, match="cannot be read"):
        log.head()
    store = SqliteStore(tmp_path)
    run(_three_trades(store.open()))
    assert log.head() == 8
    log.close()
    store.close()


def test_a_closed_log_opens_again_when_it_is_asked(store: SqliteStore) -> None:
    book = store.open()
    run(_three_trades(book))
    book.entries.close()
    assert book.entries.head() == 8


def test_a_broken_table_is_trouble_for_every_question_and_recovers(store: SqliteStore) -> None:
    book = store.open()
    run(_three_trades(book))
    log = book.entries
    with store.broken_reads():
        for ask in (log.head, lambda: log.read(1, 1), lambda: log.get(1), lambda: log.of_aggregate("x")):
            with pytest.raises(StorageUnavailable) as trouble:
                ask()
            assert re.search("no such table|does not exist", trouble.value.values["reason"])
    assert log.head() == 8

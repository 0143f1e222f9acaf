"""The read models in PostgreSQL are those in SQLite, row by row, answer by answer; the server's faults cost nothing."""

import random
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from domain.errors import StorageUnavailable
from projections import anchors, balances, queries, trades
from projections.anchor_projector import AnchorProjector
from projections.digest import digest, first_difference
from projections.postgres.store import PostgresReadStore, reads_schema
from projections.projector import Projector
from projections.store import ReadStore, StoreOutdated, progress, together, transaction
from tests.entry_factory import walk
from tests.postgres_server import PostgresServer, TestDatabase
from tests.projection_support import AnchorFactory, projected

RECORDS = walk(19, 400).factory.records
LAST = len(RECORDS)


def _anchor_book() -> list[tuple[int, bytes]]:
    book = AnchorFactory(seed=5)
    for nonce in range(8):
        book.add("AnchorSubmitted", nonce, size=40 * nonce + 40)
        book.add("AnchorMined", nonce)
        book.add("AnchorFailed" if nonce == 3 else "AnchorFinal", nonce)
    return book.records


@pytest.fixture
def store(database: TestDatabase) -> Iterator[PostgresReadStore]:
    PostgresReadStore.prepare(database.owner.conninfo, "main")
    made = PostgresReadStore(database.writer.conninfo, "main")
    yield made
    made.close()


def feed(store: Any, *cuts: int) -> None:
    projector, start = Projector(store), 0
    for end in (*cuts, LAST):
        projector.process(RECORDS[start:end])
        start = end
    AnchorProjector(store).process(_anchor_book())


@pytest.mark.parametrize("seed", range(4))
def test_any_batches_give_the_same_rows_as_in_sqlite(store: PostgresReadStore, tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    feed(store, *sorted(chance.sample(range(1, LAST), chance.randrange(12))))
    file = projected(tmp_path / "read.db", RECORDS)
    AnchorProjector(file).process(_anchor_book())
    for source in ("entries", "anchors"):
        assert digest(store, source=source) == digest(file, source=source)
        with store.snapshot() as ours, file.snapshot() as theirs:
            assert first_difference(ours, theirs, source) is None


def test_every_question_has_the_same_answer_as_in_sqlite(store: PostgresReadStore, tmp_path: Path) -> None:
    feed(store, 100, 101, 250)
    file = projected(tmp_path / "read.db", RECORDS)
    AnchorProjector(file).process(_anchor_book())

    def answers(connection: Any) -> Iterator[Any]:
        codes = [row.code for row in queries.companies(connection).items]
        yield codes
        for viewer in (None, *codes[:3]):
            for wanted in (
                trades.TradeFilter(), trades.TradeFilter(state="confirmed"), trades.TradeFilter(disputed=True),
                trades.TradeFilter(text="A"), trades.TradeFilter(text="%_\\"), trades.TradeFilter(side="seller"),
                trades.TradeFilter(traded_from="2026-01-01", currency="JPY"),
            ):  # fmt: skip
                page = trades.trades(connection, viewer, wanted, limit=20)
                yield page
                for item in page.items[:3]:
                    yield trades.history(connection, viewer, item.id)
                    for moment in (item.position, item.last_position, LAST, item.created_at):
                        yield trades.trade(connection, viewer, item.id, as_of=moment)
            yield queries.readable(connection, viewer, 1, LAST)
            for code in codes:
                yield balances.balances(connection, viewer, code)
                yield balances.totals(connection, viewer, code, as_of=LAST // 2)
        yield anchors.anchors(connection)
        yield anchors.receipts(connection, None, range(1, LAST, 17))
        yield queries.book(connection)

    with store.snapshot() as ours, file.snapshot() as theirs:
        found, expected = list(answers(ours)), list(answers(theirs))
    assert len(found) > 80
    assert found == expected


def test_a_session_ended_in_the_middle_of_a_batch_changes_nothing_and_the_projector_goes_on(
    store: PostgresReadStore, database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    projector = Projector(store)
    projector.process(RECORDS[:100])
    with database.owner.connect("fault") as owner, monkeypatch.context() as patch:
        really = __import__("projections.persist", fromlist=["save"]).save

        def cut_off(connection: Any, *rest: Any) -> None:
            really(connection, *rest)
            owner.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE '%write'")

        patch.setattr("projections.persist.save", cut_off)
        with pytest.raises(StorageUnavailable):
            projector.process(RECORDS[100:200])
    assert projector.position()[0] == 100
    projector.process(RECORDS[100:])
    assert projector.position()[0] == LAST


def test_a_restarted_server_costs_one_failure_and_no_row(tmp_path: Path) -> None:
    with PostgresServer() as server:
        database = server.new_database()
        PostgresReadStore.prepare(database.owner.conninfo, "main")
        store = PostgresReadStore(database.writer.conninfo, "main")
        projector = Projector(store)
        projector.process(RECORDS[:150])
        server.kill9()
        with pytest.raises(StorageUnavailable):
            projector.process(RECORDS[150:])
        server.start()
        assert projector.position()[0] == 150
        projector.process(RECORDS[150:])
        assert digest(store) == digest(projected(tmp_path / "read.db", RECORDS))
        store.close()


def test_two_projectors_at_once_apply_everything_once(store: PostgresReadStore, tmp_path: Path) -> None:
    def follow() -> None:
        projector = Projector(store)
        for start in range(0, LAST, 10):
            projector.process(RECORDS[start : start + 10])

    threads = [threading.Thread(target=follow) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert digest(store) == digest(projected(tmp_path / "read.db", RECORDS))


def test_every_commit_tells_its_position(store: PostgresReadStore, database: TestDatabase) -> None:
    with database.reader.connect("listen") as listener:
        listener.execute('LISTEN "daicho_main.reads"')
        listener.execute('LISTEN "daicho_main.anchor_reads"')
        feed(store, 30)
        told = [(one.channel, one.payload) for one in listener.notifies(timeout=10, stop_after=3)]
    assert told[:2] == [("daicho_main.reads", "30"), ("daicho_main.reads", str(LAST))]
    assert told[2][0] == "daicho_main.anchor_reads"


def test_analysts_read_and_cannot_write(store: PostgresReadStore, database: TestDatabase) -> None:
    feed(store)
    analyst = PostgresReadStore(database.reader.conninfo, "main")
    assert progress(analyst.reader(), "entries")[0] == LAST
    with pytest.raises(StorageUnavailable) as refused:
        analyst.reader().execute("DELETE FROM trades")
    assert "permission denied" in refused.value.values["reason"]
    analyst.close()


def test_a_schema_that_is_missing_or_of_another_version_is_refused(database: TestDatabase) -> None:
    with pytest.raises(StoreOutdated, match="daicho database migrate"):
        PostgresReadStore(database.writer.conninfo, "main")
    assert PostgresReadStore.prepare(database.owner.conninfo, "main")
    assert not PostgresReadStore.prepare(database.owner.conninfo, "main")
    with psycopg.connect(database.owner.conninfo, autocommit=True) as owner:
        owner.execute(f"UPDATE {reads_schema('main')}.read_models SET version = 99")
    with pytest.raises(StoreOutdated, match="schema version 99"):
        PostgresReadStore(database.writer.conninfo, "main")


def test_both_kinds_of_store_say_what_their_errors_are() -> None:
    for kind in (ReadStore, PostgresReadStore):
        assert all(issubclass(error, Exception) for error in kind.DATABASE_ERRORS)
        assert kind.DATABASE_ERRORS


def test_a_refused_row_among_statements_sent_together_takes_the_whole_batch_back(store: PostgresReadStore) -> None:
    connection, row = store.writer(), (1, b"leaf", "today", "AnchorMined", "anchor", "0x00")
    insert, count = "INSERT INTO anchor_entries VALUES (?, ?, ?, ?, ?, ?)", "SELECT count(*) FROM anchor_entries"

    def repeated() -> None:
        with transaction(connection), together(connection):
            for _ in range(2):
                connection.execute(insert, row)

    with pytest.raises(StorageUnavailable, match="cannot be used"):
        repeated()
    assert connection.execute(count).fetchone() == (0,)
    with transaction(connection), together(connection):
        connection.execute(insert, row)
        assert connection.execute(count).fetchone() == (1,), "who asks for rows waits"
    assert connection.execute(count).fetchone() == (1,)

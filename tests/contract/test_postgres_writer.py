"""Several processes on one book in PostgreSQL: one order of things, whatever happens to the server or to a writer."""

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from domain import commands as c
from domain.errors import LedgerReadOnly, StorageUnavailable
from domain.orders import Receipt
from storage.postgres.database import Database
from storage.postgres.entry_log import PostgresEntryLog
from storage.postgres.recorder import PostgresLedgerRecorder, library_environment
from tests.ledger_kit import Book, Custodian, names, open_postgres_book, record, run, settle, trade_id
from tests.postgres_server import PostgresServer, TestDatabase


class Processes:
    """Books of several processes on one database; `waits` bounds how long they wait for each other."""

    def __init__(self, database: Database) -> None:
        self.database, self.custodian, self.books = database, Custodian(), list[Book]()

    def start(self, **timeouts: float) -> Book:
        book = open_postgres_book(replace(self.database, **timeouts), custodian=self.custodian)
        self.books.append(book)
        return book

    def close(self) -> None:
        for book in self.books:
            book.close()


@pytest.fixture
def processes(database: TestDatabase) -> Iterator[Processes]:
    made = Processes(database.writer)
    yield made
    made.close()


# ---- what one process knows and another has changed


def test_a_wallet_frozen_by_another_process_signs_no_more(processes: Processes) -> None:
    async def scenario() -> None:
        one, other = processes.start(), processes.start()
        a, _ = await one.two_sides()
        await one.do(a, record(reference="warm"))  # the wallet is in the first one's cache
        await other.do(a, c.FreezeWallet(wallet=a.wallet, reason="lost"))
        assert names(await one.ledger.execute_each([one.order(a, record(reference="late"))])) == ["WalletNotActive"]
        await other.do(a, c.UnfreezeWallet(wallet=a.wallet, reason="found"))
        assert names(await one.ledger.execute_each([one.order(a, record(reference="again"))])) == ["done"]
        batch = [one.order(a, record(reference=f"batch {n}")) for n in range(3)]
        await other.do(a, c.FreezeWallet(wallet=a.wallet, reason="lost"))
        assert set(names(await one.ledger.execute_batch(batch, "continue"))) == {"WalletNotActive"}
        await other.do(a, c.UnfreezeWallet(wallet=a.wallet, reason="found"))
        assert names(await one.ledger.execute_batch(batch, "continue")) == ["done"] * 3
        one.audit()

    run(scenario())


def test_one_reference_recorded_in_two_processes_is_stored_once(processes: Processes) -> None:
    async def scenario() -> None:
        one, other = processes.start(), processes.start()
        a, _ = await one.two_sides()
        orders = [book.order(a, record(reference="same")) for book in (one, other)]
        answers = await asyncio.gather(one.ledger.execute_each(orders[:1]), other.ledger.execute_each(orders[1:]))
        assert sorted(names([first for (first,) in answers])) == ["ReferenceTaken", "done"]
        one.audit()

    run(scenario())


def test_the_same_command_key_in_two_processes_is_done_once_and_both_get_its_bytes(processes: Processes) -> None:
    async def scenario() -> None:
        one, other = processes.start(), processes.start()
        a, _ = await one.two_sides()
        terms = record(trade=trade_id(1))
        answers = await asyncio.gather(*(book.do(a, terms, "one key") for book in (one, other)))
        assert sorted(answer.hit for answer in answers) == [False, True]
        assert answers[0].records == answers[1].records
        one.audit()

    run(scenario())


def test_four_processes_at_once_leave_no_hole_and_no_lost_update(processes: Processes) -> None:
    """Without the advisory lock two writers would take the same positions, or leave holes where one gave up."""

    async def scenario() -> None:
        first = processes.start()
        a, b = await first.two_sides()
        trade = (await first.do(a, record(units=1_000_000))).aggregate_id
        await first.do(b, c.ConfirmTrade(trade=trade))
        books = [first, *(processes.start() for _ in range(3))]
        for _ in range(5):
            for answers in await asyncio.gather(*(self_settle(book, a, trade) for book in books)):
                assert names(answers) == ["done"] * 4
        entries = first.audit()
        assert sum(entry["type"] == "TradeSettled" for entry in entries) == 80
        settled = sum(int(e["data"]["amount"]["units"]) for e in entries if e["type"] == "TradeSettled")
        assert settled == 80 * 7

    async def self_settle(book: Book, party: Any, trade: str) -> list[Any]:
        return list(await book.ledger.execute_each([book.order(party, settle(trade, 7)) for _ in range(4)]))

    run(scenario())


# ---- a writer that stops in the middle


def test_a_writer_held_in_the_middle_loses_its_lock_to_the_others(processes: Processes) -> None:
    async def scenario() -> None:
        held = processes.start(idle_in_transaction_seconds=0.5)
        a, _ = await held.two_sides()
        other = processes.start(lock_timeout_seconds=10.0)
        held.recorder.begin()  # and nothing more, as when the process is stopped by a signal
        assert names(await other.ledger.execute_each([other.order(a, record(reference="R-2"))])) == ["done"]
        held.recorder.rollback()
        assert names(await held.ledger.execute_each([held.order(a, record(reference="R-3"))])) == ["done"]
        held.audit()

    run(scenario())


def test_a_lock_that_is_kept_too_long_is_trouble_and_no_hang(processes: Processes) -> None:
    async def scenario() -> None:
        keeper = processes.start(idle_in_transaction_seconds=60.0)
        a, _ = await keeper.two_sides()
        other = processes.start(lock_timeout_seconds=0.3)
        keeper.recorder.begin()
        order = other.order(a, record(reference="R-2"))
        assert names(await other.ledger.execute_each([order])) == ["StorageUnavailable"]
        keeper.recorder.rollback()
        assert names(await other.ledger.execute_each([order])) == ["done"]

    run(scenario())


@pytest.mark.parametrize("step", ["head_under_lock", "stored_keys", "stale_versions", "insert_group"])
def test_a_session_ended_in_any_phase_fails_its_group_only(
    processes: Processes, database: TestDatabase, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        book = processes.start()
        a, _ = await book.two_sides()
        order = book.order(a, record())
        with monkeypatch.context() as patch:
            really = getattr(book.recorder, step)

            def cut_off(*arguments: Any) -> Any:
                end_sessions(database, "writer")
                return really(*arguments)

            patch.setattr(book.recorder, step, cut_off)
            assert names(await book.ledger.execute_each([order])) == ["StorageUnavailable"]
        assert names(await book.ledger.execute_each([order])) == ["done"]
        book.audit()

    run(scenario())


# ---- answers that are lost


def test_a_commit_whose_answer_was_lost_is_found_out_and_answered(
    processes: Processes, database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        book = processes.start()
        a, _ = await book.two_sides()
        with monkeypatch.context() as patch:
            really = psycopg.Connection.commit

            def lost(connection: Any) -> None:
                really(connection)
                if not of_the_writer(connection):
                    return
                connection.close()
                raise psycopg.OperationalError("the connection was lost")

            patch.setattr(psycopg.Connection, "commit", lost)
            receipt = await book.do(a, record(reference="lost answer"), "its key")
        assert not receipt.hit
        again = await book.do(a, record(reference="lost answer"), "its key")
        assert (again.hit, again.records) == (True, receipt.records)
        book.audit()

    run(scenario())


def test_a_commit_that_never_arrived_is_found_out_too(
    processes: Processes, database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        book = processes.start()
        a, _ = await book.two_sides()
        order = book.order(a, record())
        with monkeypatch.context() as patch:
            really = psycopg.Connection.commit

            def lost(connection: Any) -> None:
                if not of_the_writer(connection):
                    return really(connection)
                end_sessions(database, "writer")
                raise psycopg.OperationalError("the connection was lost")

            patch.setattr(psycopg.Connection, "commit", lost)
            assert names(await book.ledger.execute_each([order])) == ["StorageUnavailable"]
        answers = await book.ledger.execute_each([order])
        assert names(answers) == ["done"], answers[0].values
        book.audit()

    run(scenario())


def test_a_server_killed_again_and_again_under_load_loses_and_doubles_nothing() -> None:
    with PostgresServer() as server:
        database = server.new_database()
        processes = Processes(database.writer)

        async def scenario() -> None:
            books = [processes.start(), processes.start()]
            a, _ = await books[0].two_sides()
            ending = threading.Event()

            def kill_often() -> None:
                for _ in range(4):
                    ending.wait(0.7)
                    server.kill9()
                    server.start()
                ending.set()

            killer = threading.Thread(target=kill_often)
            killer.start()
            answered: dict[str, Receipt] = {}
            number = 0
            while not ending.is_set() or number < 40:
                number += 1
                await do_until_done(books[number % 2], a, f"R-{number}", answered)
            killer.join()
            stored = {entry["data"]["reference"] for entry in books[0].audit() if entry["type"] == "TradeRecorded"}
            assert stored == set(answered)
            states = dict(books[0].records())
            assert all(states[at] == state for receipt in answered.values() for at, state in receipt.records)

        async def do_until_done(book: Book, party: Any, reference: str, answered: dict[str, Receipt]) -> None:
            while reference not in answered:
                (answer,) = await book.ledger.execute_each([book.order(party, record(reference=reference), reference)])
                if isinstance(answer, Receipt):
                    answered[reference] = answer
                else:
                    assert isinstance(answer, StorageUnavailable), answer
                    await asyncio.sleep(0.05)

        run(scenario())
        processes.close()


# ---- a store that is not what it was


def test_a_store_that_went_back_is_never_written_to_again(processes: Processes, database: TestDatabase) -> None:
    async def scenario() -> None:
        book = processes.start()
        a, _ = await book.two_sides()
        await book.do(a, record())
        head = book.entries.head()
        with database.owner.connect("restore") as owner:  # what a restored backup lacks
            owner.execute("DELETE FROM stored_events WHERE notification_id = %s", (head,))
            owner.execute("DELETE FROM stored_events_claims WHERE position = %s", (head,))
        for number in range(2):
            (answer,) = await book.ledger.execute_each([book.order(a, record(reference=f"later {number}"))])
            assert isinstance(answer, LedgerReadOnly)
            assert answer.values["size"] == head
            assert "went back" in answer.message
        assert book.entries.head() == head - 1

    run(scenario())


def test_readers_wait_for_a_connection_and_say_when_there_is_none(database: TestDatabase) -> None:
    log = PostgresEntryLog(database.reader, max_connections=2)
    assert log.head() == 0
    with log._cursor(), log._cursor(), pytest.MonkeyPatch.context() as patch:
        patch.setattr("storage.postgres.entry_log.WAIT_SECONDS", 0.1)
        with pytest.raises(StorageUnavailable) as trouble:
            log.head()
        assert trouble.value.values["reason"] == "all connections are busy"
    assert log.head() == 0
    log.close()


def test_functions_that_lose_events_are_refused(database: TestDatabase) -> None:
    from domain.ledger import Ledger

    environment = {**library_environment(database.writer, "ledger"), "POSTGRES_ENABLE_DB_FUNCTIONS": "y"}
    with pytest.raises(ValueError, match="POSTGRES_ENABLE_DB_FUNCTIONS"):
        Ledger(environment)


def test_a_recorder_without_a_database_says_so(database: TestDatabase) -> None:
    from domain.ledger import Ledger

    recorder = Ledger(library_environment(database.writer, "ledger")).recorder
    assert isinstance(recorder, PostgresLedgerRecorder)
    with pytest.raises(RuntimeError, match="attach"):
        recorder.begin()
    recorder.close()


def of_the_writer(connection: Any) -> bool:
    """Whether it is the connection that groups are written on."""
    return bool(connection.info.get_parameters().get("application_name") == "daicho main writer")


def end_sessions(database: TestDatabase, purpose: str) -> None:
    """End the sessions that a process has opened for this."""
    with database.owner.connect("fault") as owner:
        owner.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = %s",
            (f"daicho main {purpose}",),
        )


def test_a_look_up_planned_for_a_small_table_uses_the_index_once_it_has_grown(database: TestDatabase) -> None:
    fill = "INSERT INTO stored_events_claims SELECT 'cmd|' || n, n, '', 1 FROM generate_series(%s::int, %s::int) AS n"
    look = "EXECUTE known(ARRAY['cmd|1', 'cmd|2'])"
    with database.writer.connect("test") as session, database.owner.connect("test") as owner:
        owner.execute(fill, (1, 10))
        owner.execute("ANALYZE stored_events_claims")
        session.execute("PREPARE known(text[]) AS SELECT position FROM stored_events_claims WHERE key = ANY($1)")
        for _ in range(10):  # after five executions PostgreSQL may keep the plan
            session.execute(look)
        owner.execute(fill, (11, 20_000))
        plan = "\n".join(row[0] for row in session.execute(f"EXPLAIN {look}").fetchall())
    assert "Seq Scan" not in plan
    assert "stored_events_claims_pkey" in plan

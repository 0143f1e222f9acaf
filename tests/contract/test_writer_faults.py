"""When the machine fails: nothing half done, a clear trouble, and it goes on by itself."""

import asyncio
import logging
from typing import Any

import pytest
from eventsourcing.persistence import OperationalError

from domain import commands as c
from domain.errors import ClockJumped, LedgerReadOnly, StorageUnavailable
from domain.orders import Order, Receipt, Unit
from tests.event_stores import SqliteStore
from tests.ledger_kit import Book, Party, names, record, run, settle, trade_id

BIG = {"lines": tuple(c.TradeLine(item="長" * 200, quantity="1", unit_price="1") for _ in range(80))}  # needs new pages


async def refused_then_done(book: Book, orders: list[Order], fault: Any) -> None:
    """All callers of the group get the trouble, nothing is stored; afterwards the same orders are done."""
    before = book.records()
    with fault:
        answers = await book.ledger.execute_each(orders)
        assert names(answers) == ["StorageUnavailable"] * len(orders)
        again = await book.ledger.execute_each(orders[-1:])
        assert names(again) == ["StorageUnavailable"]
    assert book.records() == before
    for name, cached in book.ledger.cache.cache.items():  # nothing is remembered of what was not stored
        stored = book.ledger.load_at(name)
        assert stored is not None
        assert cached.version == stored.version
    assert names(await book.ledger.execute_each(orders)) == ["done"] * len(orders)
    book.audit()


@pytest.mark.parametrize("fault", ["full_disk", "cut_off", "read_only", "failing_commits"])
def test_a_store_that_refuses_the_write_answers_trouble_and_recovers_alone(store: SqliteStore, fault: str) -> None:
    book = store.open()

    async def scenario() -> None:
        a, b = await book.two_sides()
        trade = (await book.do(a, record())).aggregate_id
        orders = [
            book.order(b, c.ConfirmTrade(trade=trade)),
            book.order(a, settle(trade, 1000)),
            book.order(a, record(reference="big", **BIG)),
        ]
        await refused_then_done(book, orders, getattr(store, fault)(book))

    run(scenario())


def test_a_lock_that_somebody_keeps_is_waited_for_a_moment_only(store: SqliteStore) -> None:
    book = store.open()

    async def scenario() -> None:
        a, _ = await book.two_sides()
        await refused_then_done(book, [book.order(a, record())], store.locked())

    run(scenario())


def test_a_store_that_cannot_be_read_is_trouble_not_a_crash(store: SqliteStore) -> None:
    book, cold = store.open(), store.open()

    async def scenario() -> None:
        a, b = await book.two_sides()
        trade = (await book.do(a, record(), "known")).aggregate_id
        confirm = c.ConfirmTrade(trade=trade)
        with store.broken_reads():
            for at in (book, cold):
                order = at.order(b, confirm)
                assert names(await at.ledger.execute_each([order])) == ["StorageUnavailable"]
                assert names(await at.ledger.execute_atomic([order])) == ["StorageUnavailable"]
                assert names(await at.ledger.execute_batch([order], "continue")) == ["StorageUnavailable"]
                assert names(await at.ledger.dry_run([order], "atomic")) == ["StorageUnavailable"]
            book.custodian.down = True  # no signature, so the answer would have to come from the store
            assert names(await book.ledger.execute_each([book.order(a, record(), "known")])) == ["StorageUnavailable"]
            book.custodian.down = False
            with pytest.raises(StorageUnavailable):
                book.entries.head()
        assert names(await cold.ledger.dry_run([cold.order(b, confirm)], "atomic")) == ["done"]
        assert names(await cold.ledger.execute_each([cold.order(b, confirm)])) == ["done"]

    run(scenario())
    book.audit()


def test_a_commit_whose_answer_was_lost_is_recognised_by_its_command_key(store: SqliteStore) -> None:
    book = store.open()

    async def scenario() -> None:
        a, b = await book.two_sides()
        orders = [book.order(a, record(trade=trade_id())), book.order(b, c.ConfirmTrade(trade=trade_id()))]
        with store.lost_answers(book):
            assert names(await book.ledger.execute_each(orders)) == ["StorageUnavailable"] * 2
        head = book.entries.head()
        assert names(await book.ledger.execute_each(orders)) == ["repeat"] * 2
        assert book.entries.head() == head
        await book.do(a, settle(trade_id(), 1000))  # what is in hand is what is stored

    run(scenario())
    book.audit()


def test_a_batch_whose_answer_was_lost_is_recognised_too(store: SqliteStore) -> None:
    book = store.open()

    async def scenario() -> None:
        a, _ = await book.two_sides()
        orders = [book.order(a, record(reference=f"R{n}")) for n in range(3)]
        with store.lost_answers(book):
            assert names(await book.ledger.execute_batch(orders, "atomic")) == ["StorageUnavailable"] * 3
        assert names(await book.ledger.execute_batch(orders, "atomic")) == ["repeat"] * 3

    run(scenario())
    assert [entry["type"] for entry in book.audit()].count("BatchSigned") == 1


# -- the clock -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("jump_seconds", [3600, -3600])
def test_a_clock_that_jumps_is_refused_until_it_is_right_again(store: SqliteStore, jump_seconds: float) -> None:
    book = store.open()

    async def scenario() -> None:
        a, _ = await book.two_sides()
        head = book.entries.head()
        book.wall.shift = jump_seconds
        with pytest.raises(ClockJumped) as refused:
            await book.do(a, record())
        assert refused.value.values["jump_seconds"] == pytest.approx(jump_seconds, abs=30)
        assert book.entries.head() == head
        book.wall.shift = 0
        await book.do(a, record())

    run(scenario())
    book.audit()


def test_a_clock_set_back_a_little_repeats_the_last_time(store: SqliteStore) -> None:
    book = store.open()

    async def scenario() -> None:
        a, _ = await book.two_sides()
        book.wall.shift = -40
        for number in range(3):
            await book.do(a, record(reference=f"R{number}"))

    run(scenario())
    times = [entry["recorded_at"] for entry in book.audit()]
    assert times[-4] == times[-3] == times[-2] == times[-1]


def test_time_goes_on_where_another_process_with_a_faster_clock_left_it(store: SqliteStore) -> None:
    book, fast = store.open(), store.open()

    async def scenario() -> None:
        a, _ = await book.two_sides()
        fast.wall.shift = 30
        await fast.do(a, record(reference="fast"))
        await book.do(a, record(reference="slow"))

    run(scenario())
    fast_time, slow_time = (entry["recorded_at"] for entry in book.audit()[-2:])
    assert fast_time == slow_time


# -- our own parts ---------------------------------------------------------------------------------------------------


def test_a_read_only_ledger_says_why_and_stores_nothing(store: SqliteStore) -> None:
    book = store.open()

    async def scenario() -> None:
        a, _ = await book.two_sides()
        head = book.entries.head()
        book.writer.refusal = LedgerReadOnly("the store is behind its signed head", size=99)
        with pytest.raises(LedgerReadOnly, match="behind its signed head"):
            await book.do(a, record())
        assert names(await book.ledger.execute_batch([book.order(a, record())], "atomic")) == ["LedgerReadOnly"]
        assert book.entries.head() == head
        book.writer.refusal = None
        await book.do(a, record())

    run(scenario())


def test_a_listener_that_fails_stops_neither_answers_nor_the_ledger(
    store: SqliteStore, caplog: pytest.LogCaptureFixture
) -> None:
    book = store.open()

    def fails(_: int) -> None:
        raise ValueError("a defect of the listener")

    async def scenario() -> None:
        a, _ = await book.two_sides()
        book.writer.on_commit.append(fails)
        with caplog.at_level(logging.ERROR, "daicho.writer"):
            for number in range(3):
                assert (await book.do(a, record(reference=f"R{number}"))).version == 1
        assert "a defect of the listener" in caplog.text

    run(scenario())
    book.audit()


def test_a_defect_while_deciding_fails_the_group_and_not_the_ledger(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    book = store.open()

    async def scenario() -> None:
        a, _ = await book.two_sides()
        orders = [book.order(a, record(reference=f"R{n}")) for n in range(2)]
        with monkeypatch.context() as patch:
            patch.setattr(book.ledger, "open_desk", lambda *_: 1 / 0)
            answers = await book.ledger.execute_each(orders)
        assert names(answers) == ["StorageUnavailable"] * 2
        assert "ZeroDivisionError" in caplog.text
        assert names(await book.ledger.execute_each(orders)) == ["done"] * 2

    run(scenario())
    book.audit()


def test_a_defect_after_the_commit_costs_the_answer_only(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    book = store.open()

    async def scenario() -> None:
        a, _ = await book.two_sides()
        order = book.order(a, record())
        with monkeypatch.context() as patch:
            patch.setattr(book.ledger, "stored", lambda _: 1 / 0)
            assert names(await book.ledger.execute_each([order])) == ["StorageUnavailable"]
        assert names(await book.ledger.execute_each([order])) == ["repeat"]

    run(scenario())
    book.audit()


def test_closing_waits_for_the_commit_in_work_and_answers_whoever_waits(store: SqliteStore) -> None:
    book = store.open(max_group_orders=1)

    async def scenario() -> None:
        a, _ = await book.two_sides()

        async def ask(number: int) -> Any:
            return (await book.ledger.execute_each([book.order(a, record(reference=f"R{number}"))]))[0]

        first = asyncio.ensure_future(ask(0))
        committing = asyncio.Event()
        really, loop = book.writer._commit, asyncio.get_running_loop()

        def commit(*args: Any) -> None:
            loop.call_soon_threadsafe(committing.set)
            really(*args)

        book.writer._commit = commit  # type: ignore[method-assign]
        await committing.wait()
        waiting = asyncio.ensure_future(ask(1))
        await asyncio.sleep(0)
        book.writer.close()
        assert isinstance(await first, Receipt)
        assert names([await waiting, await ask(2)]) == ["StorageUnavailable"] * 2

    run(scenario())
    assert len(book.audit()) == 5


def test_a_ledger_opened_again_goes_on_where_it_stopped(store: SqliteStore) -> None:
    book = store.open()

    async def before() -> tuple[Party, Party, str]:
        a, b = await book.two_sides()
        return a, b, (await book.do(a, record(), "k")).aggregate_id

    a, b, trade = run(before())
    book.close()
    again = store.open()

    async def after() -> None:
        assert (await again.do(a, record(), "k")).hit
        assert (await again.do(b, c.ConfirmTrade(trade=trade))).position == 6

    run(after())
    again.audit()


def test_the_signer_being_away_is_trouble_and_known_commands_are_answered_all_the_same(store: SqliteStore) -> None:
    book = store.open()

    async def scenario() -> None:
        a, _ = await book.two_sides()
        await book.do(a, record(), "k")
        book.custodian.down = True
        known, new, reused = (
            book.order(a, record(), "k"),
            book.order(a, record(reference="S")),
            book.order(a, record(units=7), "k"),
        )
        assert names(await book.ledger.execute_each([known, new, reused])) == [
            "repeat",
            "SignerUnavailable",
            "CommandKeyReused",
        ]
        assert names(await book.ledger.execute_atomic([known, new])) == ["repeat", "SignerUnavailable"]
        assert names(await book.ledger.execute_atomic([known])) == ["repeat"]
        assert names(await book.ledger.execute_batch([known, new], "continue")) == ["repeat", "SignerUnavailable"]

    run(scenario())
    book.audit()


def test_a_defect_in_the_commits_thread_is_trouble_for_its_group_only(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    book = store.open()

    async def scenario() -> None:
        a, _ = await book.two_sides()
        order = book.order(a, record())
        with monkeypatch.context() as patch:
            patch.setattr("storage.group.Group.claims", lambda _: 1 / 0)
            (answer,) = await book.ledger.execute_each([order])
        assert isinstance(answer, StorageUnavailable)
        assert answer.values == {"reason": "ZeroDivisionError"}
        assert names(await book.ledger.execute_each([order])) == ["done"]

    run(scenario())
    book.audit()


def test_an_answer_that_cannot_be_read_again_is_trouble_for_its_caller_only(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    book = store.open()

    async def scenario() -> None:
        a, _ = await book.two_sides()
        await book.do(a, record(), "known")
        orders = [book.order(a, record(), "known"), book.order(a, record(reference="new"))]
        with monkeypatch.context() as patch:

            def unreadable(_: Any) -> Any:
                raise StorageUnavailable("the event store cannot be read for now")

            patch.setattr(book.entries, "receipt", unreadable)
            assert names(await book.ledger.execute_each(orders)) == ["StorageUnavailable", "done"]
            patch.setattr(book.entries, "receipt", lambda _: 1 / 0)
            assert names(await book.ledger.execute_each(orders[:1])) == ["StorageUnavailable"]
        assert names(await book.ledger.execute_each(orders)) == ["repeat", "repeat"]

    run(scenario())
    book.audit()


def test_a_caller_that_went_away_is_no_matter_when_its_group_fails(store: SqliteStore) -> None:
    book = store.open()

    async def scenario() -> None:
        a, _ = await book.two_sides()
        with store.locked():
            order = book.order(a, record(reference="late"))
            assert await book.ledger.authorship.sign([order]) == [None]
            gone = asyncio.ensure_future(book.writer.submit([Unit([order])]))
            await asyncio.sleep(0)
            gone.cancel()
            other = await book.ledger.execute_each([book.order(a, record(reference="other"))])
            assert names(other) == ["StorageUnavailable"]
        await book.do(a, record(reference="and goes on"))

    run(scenario())
    book.audit()


def test_a_dry_run_whose_head_cannot_be_read_is_trouble_too(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    book = store.open()

    def gone() -> int:
        raise OperationalError("the disk is gone")

    async def scenario() -> None:
        a, _ = await book.two_sides()
        order = book.order(a, record())
        monkeypatch.setattr(book.recorder, "max_notification_id", gone)
        assert names(await book.ledger.dry_run([order], "atomic")) == ["StorageUnavailable"]

    run(scenario())

"""A dry run tells what would really happen, and changes nothing."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from domain import commands as c
from domain.entry import MAX_ENTRY_BYTES
from domain.orders import Order, Receipt
from tests.event_stores import EVENT_STORES, SqliteStore
from tests.ledger_kit import Book, Party, names, propose_settlement, record, run, settle, trade_id

TRADES = st.integers(0, 2).map(trade_id)
REFERENCES = st.sampled_from(["r1", "r2", "r3"])
UNITS = st.sampled_from([0, 1, 400, 1000, 1001])
COMMANDS = st.one_of(
    st.builds(
        lambda trade, reference, units: record(reference=reference, trade=trade, units=units), TRADES, REFERENCES, UNITS
    ),
    st.builds(
        lambda seller, reference: record(seller, reference=reference), st.sampled_from(["kita", "nobody"]), REFERENCES
    ),
    st.builds(lambda trade: c.ConfirmTrade(trade=trade), TRADES),
    st.builds(lambda trade: c.DisputeTrade(trade=trade, reason="r"), TRADES),
    st.builds(lambda trade: c.WithdrawDispute(trade=trade, reason="r"), TRADES),
    st.builds(settle, TRADES, UNITS),
    st.builds(propose_settlement, TRADES, UNITS),
    st.builds(lambda trade: c.ProposeReversal(trade=trade, reason="r"), TRADES),
    st.builds(lambda trade: c.ReverseTrade(trade=trade, reason="r"), TRADES),
    st.builds(lambda trade: c.AddNote(trade=trade, note="n"), TRADES),
    st.builds(lambda trade: c.ConfirmTrade(trade=trade, digest="00" * 32), TRADES),
)
LINES = st.lists(st.tuples(COMMANDS, st.integers(0, 7)), min_size=1, max_size=6)
BULKS = st.lists(st.tuples(st.booleans(), st.sampled_from(["atomic", "continue"]), LINES), min_size=1, max_size=5)


def outcome(answers: list[Any]) -> list[Any]:
    """What can be compared of answers: kind, version and, but for what only storing decides, the entries."""
    return [
        (kind, answer.version) if isinstance(answer, Receipt) else (kind, answer.message)
        for kind, answer in zip(names(answers), answers, strict=True)
    ]


def bulk_of(book: Book, party: Party, lines: Any) -> list[Order]:
    """Keys come from a small set, so that repeats and reused keys are among them."""
    return [book.order(party, command, f"k{number}" if number < 3 else "") for command, number in lines]


@pytest.mark.parametrize("kind", EVENT_STORES)
@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
@given(bulks=BULKS)
def test_a_dry_run_says_what_the_real_run_then_does(kind: str, bulks: Any, tmp_path_factory: Any) -> None:
    store = EVENT_STORES[kind](Path(tmp_path_factory.mktemp("dry")))
    book = store.open()

    async def scenario() -> None:
        a, b = await book.two_sides()
        await book.do(a, record(trade=trade_id(), reference="r0"))
        for by_seller, mode, lines in bulks:
            orders = bulk_of(book, a if by_seller else b, lines)
            head = book.entries.head()
            told = outcome(await book.ledger.dry_run(orders, mode))
            assert book.entries.head() == head
            really = outcome(await book.ledger.execute_batch(orders, mode))
            if (
                mode == "atomic"
            ):  # a bulk that cannot be signed is not decided: some reasons are told by the dry run only
                told = [
                    now if now[0] == "BulkRejected" and then[0] != "done" else then
                    for now, then in zip(really, told, strict=True)
                ]
            assert really == told

    try:
        run(scenario())
        book.audit()
    finally:
        store.close()


def test_a_dry_run_shows_the_entry_without_position_and_time_and_uses_nothing_up(store: SqliteStore) -> None:
    book = store.open()

    async def scenario() -> None:
        a, _ = await book.two_sides()
        order = book.order(a, record(), "k")
        (preview,) = await book.ledger.dry_run([order], "atomic")
        assert isinstance(preview, Receipt)
        assert preview.position == 0
        assert b'"position":0,"recorded_at":""' in preview.records[0][1]
        assert book.custodian.signed == []
        done = await book.do(a, record(), "k")
        assert not done.hit
        (again,) = await book.ledger.dry_run([book.order(a, record(), "k")], "atomic")
        assert isinstance(again, Receipt)
        assert (again.hit, again.records) == (True, done.records)

    run(scenario())


@pytest.mark.parametrize("mode", ["atomic", "continue"])
def test_a_dry_run_knows_what_another_process_wrote(store: SqliteStore, mode: Any) -> None:
    book, elsewhere = store.open(), store.open()

    async def scenario() -> None:
        a, b = await book.two_sides()
        trade = (await book.do(a, record())).aggregate_id
        await elsewhere.do(b, c.ConfirmTrade(trade=trade))
        assert names(await book.ledger.dry_run([book.order(a, settle(trade, 1))], mode)) == ["done"]
        await elsewhere.do(a, c.FreezeWallet(wallet=a.wallet, reason="r"))
        assert names(await book.ledger.dry_run([book.order(a, settle(trade, 1))], mode)) == ["WalletNotActive"]

    run(scenario())


def test_a_dry_run_refuses_to_the_byte_what_the_writer_finds_too_large(store: SqliteStore) -> None:
    book = store.open()
    lines = tuple(c.TradeLine("長" * 190, "1", "1") for _ in range(104))

    async def scenario() -> None:
        a, b = await book.two_sides()

        def orders(padding: int) -> list[Order]:
            big = record(trade=trade_id(), lines=lines, description="x" * padding)
            return [book.order(a, big), book.order(b, c.ConfirmTrade(trade=trade_id())), book.order(b, record())]

        async def too_large(padding: int) -> bool:
            return names(await book.ledger.dry_run(orders(padding), "continue")) == [
                "EntryTooLarge",
                "TradeNotFound",
                "done",
            ]

        fits, fails = 0, 4000
        assert not await too_large(fits)
        assert await too_large(fails)
        while fails - fits > 1:
            middle = (fits + fails) // 2
            fits, fails = (fits, middle) if await too_large(middle) else (middle, fails)
        assert names(await book.ledger.execute_each(orders(fails)[:2])) == ["EntryTooLarge", "TradeNotFound"]
        (done,) = await book.ledger.execute_each(orders(fits)[:1])
        assert isinstance(done, Receipt)
        assert len(done.records[0][1]) == MAX_ENTRY_BYTES

    run(scenario())
    book.audit()

"""The writer's contract: what every event store keeps to when many ask at once, from one process or several."""

import asyncio
import random
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from domain import commands as c
from domain.errors import (
    AlreadyExists,
    CommandKeyReused,
    CompanySuspended,
    DaichoError,
    Overloaded,
    ReferenceTaken,
    SignatureReplayed,
    StorageUnavailable,
    Trouble,
    VersionMismatch,
    WalletNotActive,
    WrongState,
)
from domain.orders import Answer, Order, Receipt, Unit
from tests.event_stores import SqliteStore
from tests.ledger_kit import OPERATOR, Book, Key, Party, names, record, run, settle, trade_id

LONG_ITEM = {"item": "長" * 200, "quantity": "1", "unit_price": "1"}
OVERSIZE = {"lines": tuple(c.TradeLine(**LONG_ITEM) for _ in range(120))}  # 74 KB of an allowed 64


async def insist(book: Book, order: Order) -> Receipt:
    """What a client does: our trouble is no answer, the same command is sent again."""
    while True:
        answer = (await book.ledger.execute_each([order]))[0]
        if not isinstance(answer, Trouble):
            assert isinstance(answer, Receipt), answer
            return answer


def acknowledged(book: Book, receipts: list[Receipt]) -> None:
    """Every acknowledged entry stands in the log once, byte for byte; nothing else does."""
    stored = dict(book.records())
    promised = [record for receipt in receipts for record in receipt.records]
    assert len({position for position, _ in promised}) == len(promised)
    assert all(stored[position] == state for position, state in promised)


# -- many at once ----------------------------------------------------------------------------------------------------


def test_processes_and_tasks_lose_double_or_reorder_nothing_and_leave_no_hole(store: SqliteStore) -> None:
    first = store.open()

    async def prepare() -> tuple[Party, Party, str]:
        a, b = await first.two_sides()
        return a, b, (await first.do(a, record())).aggregate_id

    a, b, contended = run(prepare())
    before = first.entries.head()
    processes, tasks, commands = 3, 4, 6

    async def task(book: Book, name: str) -> list[Receipt]:
        receipts = []
        for number in range(commands):
            who = random.Random(f"{name}{number}").choice([a, b])
            note = c.AddNote(trade=contended, note=f"{name} {number}")
            receipts.append(await insist(book, book.order(who, note, f"note {name} {number}")))
            own = record(reference=f"{name}-{number}")
            receipts.append(await insist(book, book.order(a, own, f"own {name} {number}")))
            confirm = c.ConfirmTrade(trade=receipts[-1].aggregate_id)
            receipts.append(await insist(book, book.order(b, confirm, f"confirm {name} {number}")))
        return receipts

    def process(number: int) -> list[Receipt]:
        book = store.open()

        async def work() -> list[Receipt]:
            done = await asyncio.gather(*(task(book, f"{number}.{n}") for n in range(tasks)))
            return [receipt for receipts in done for receipt in receipts]

        return run(work())

    with ThreadPoolExecutor(processes) as pool:
        receipts = [receipt for done in pool.map(process, range(processes)) for receipt in done]

    entries = first.audit()
    assert len(entries) - before == len(receipts) == processes * tasks * commands * 3
    acknowledged(first, receipts)
    notes = [entry["data"]["note"] for entry in entries if entry["type"] == "TradeNoteAdded"]
    for name in {note.split()[0] for note in notes}:  # each task's notes stand in the order in which it wrote them
        assert [note for note in notes if note.split()[0] == name] == [f"{name} {n}" for n in range(commands)]


def test_commands_on_one_trade_queue_up_each_on_the_result_of_the_one_before(store: SqliteStore) -> None:
    book = store.open()

    async def scenario() -> list[str]:
        a, b = await book.two_sides()
        trade = (await book.do(a, record(units=100))).aggregate_id
        await book.do(b, c.ConfirmTrade(trade=trade))
        settlements = [book.ledger.execute_each([book.order(a, settle(trade, 15))]) for _ in range(8)]
        return names([answers[0] for answers in await asyncio.gather(*settlements)])

    assert run(scenario()) == ["done"] * 6 + ["AmountExceedsOpen"] * 2
    book.audit()


def test_waiting_commands_share_one_commit(store: SqliteStore) -> None:
    book = store.open()

    async def scenario() -> None:
        a, _ = await book.two_sides()
        heads: list[int] = []
        groups: list[int] = []
        seconds: list[float] = []
        book.writer.on_commit.append(heads.append)
        book.writer.on_group.append(lambda size, took: (groups.append(size), seconds.append(took)))
        before = book.entries.head()
        await asyncio.gather(*(book.do(a, record(reference=f"R{n}")) for n in range(40)))
        assert (sum(groups), heads[-1]) == (40, before + 40)
        assert len(groups) < 4
        assert all(took > 0 for took in seconds)

    run(scenario())


def test_two_same_references_at_once_one_wins(store: SqliteStore) -> None:
    book, elsewhere = store.open(), store.open()

    async def here() -> tuple[Party, list[str]]:
        a, _ = await book.two_sides()
        both = await book.ledger.execute_each([book.order(a, record(reference="X")) for _ in range(2)])
        return a, names(both)

    a, answers = run(here())
    assert answers == ["done", "ReferenceTaken"]

    def race(at: Book) -> str:
        return names([run(at.ledger.execute_each([at.order(a, record(reference="Y"), f"key of {id(at)}")]))[0]])[0]

    with ThreadPoolExecutor(2) as pool:
        outcome = sorted(pool.map(race, [book, elsewhere]))
    assert outcome == ["ReferenceTaken", "done"]
    book.audit()


def test_the_other_company_may_use_the_same_reference(store: SqliteStore) -> None:
    book = store.open()

    async def scenario() -> list[str]:
        a, b = await book.two_sides()
        return names(await book.ledger.execute_each([book.order(who, record(reference="X")) for who in (a, b)]))

    assert run(scenario()) == ["done", "done"]


# -- only the guilty -------------------------------------------------------------------------------------------------


def test_only_the_guilty_commands_of_a_group_fail(store: SqliteStore) -> None:
    book = store.open()

    async def scenario() -> None:
        a, b = await book.two_sides()
        trade = (await book.do(a, record(reference="taken"))).aggregate_id
        groups: list[int] = []
        book.writer.on_group.append(lambda size, _: groups.append(size))
        asked = [
            book.order(a, record(reference="fine 1")),
            book.order(a, record(reference="taken")),
            book.order(a, c.ConfirmTrade(trade=trade)),
            book.order(b, record(reference="big", **OVERSIZE)),
            book.order(b, record(reference="fine 2")),
            book.order(OPERATOR, c.RegisterCompany(code="kita", name="again")),
            book.order(b, c.ConfirmTrade(trade=trade)),
            book.order(b, settle(trade, 1)),
        ]
        answers = await book.ledger.execute_each(asked)
        assert names(answers) == [
            "done",
            "ReferenceTaken",
            "OtherSideNeeded",
            "EntryTooLarge",
            "done",
            "AlreadyExists",
            "done",
            "CreditorNeeded",
        ]
        assert groups == [len(asked)]

    run(scenario())
    book.audit()


def test_oversize_entries_fail_alone_however_many_there_are(store: SqliteStore) -> None:
    book = store.open()

    async def scenario() -> None:
        a, _ = await book.two_sides()
        big = [book.order(a, record(reference=f"big {n}", **OVERSIZE)) for n in range(12)]
        again = [book.order(a, record(reference="again", **OVERSIZE), "one key") for _ in range(12)]
        fine = [book.order(a, record(reference=f"fine {n}")) for n in range(12)]
        mixed = [order for orders in zip(big, fine, again, strict=True) for order in orders]
        assert names(await book.ledger.execute_each(mixed)) == ["EntryTooLarge", "done", "EntryTooLarge"] * 12

    run(scenario())
    book.audit()


def test_what_depended_on_an_oversize_entry_is_decided_again_without_it(store: SqliteStore) -> None:
    book = store.open()

    async def scenario() -> None:
        a, b = await book.two_sides()
        big = record(reference="X", trade=trade_id(), **OVERSIZE)
        answers = await book.ledger.execute_each(
            [
                book.order(a, big),
                book.order(b, c.ConfirmTrade(trade=trade_id())),
                book.order(a, record(reference="X", trade=trade_id(1))),
            ]
        )
        assert names(answers) == ["EntryTooLarge", "TradeNotFound", "done"]

    run(scenario())
    book.audit()


def test_replayed_signatures_however_many_hurt_nobody_else(store: SqliteStore) -> None:
    book = store.open()

    async def scenario() -> None:
        for code in ("aozora", "kita"):
            await book.company(code)
        a, b = await book.user("aozora", custody="own"), await book.user("kita")
        trade = (await book.do(b, record(reference="T"))).aggregate_id
        used = []
        for _ in range(10):
            used.append(book.signed(a, c.DisputeTrade(trade=trade, reason="number")))
            await book.do(a, used[-1])
            await book.do(a, book.signed(a, c.WithdrawDispute(trade=trade, reason="found")))
        replays = [book.order(a, command, f"another key {n}") for n, command in enumerate(used)]
        innocent = book.order(b, record(reference="fine"))
        answers = await book.ledger.execute_each([*replays, innocent])
        assert names(answers) == ["SignatureReplayed"] * 10 + ["done"]

    run(scenario())
    book.audit()


def test_a_rejected_atomic_bulk_leaves_no_trace_on_those_behind_it(store: SqliteStore) -> None:
    book = store.open()

    async def scenario() -> None:
        a, b = await book.two_sides()
        trade = (await book.do(a, record(reference="T"))).aggregate_id
        bulk = [book.order(b, c.ConfirmTrade(trade=trade)), book.order(a, record(reference="T"))]
        bulk += [book.order(a, record(reference="of the bulk"))]
        rejected, alone, freed = await asyncio.gather(
            book.ledger.execute_atomic(bulk),
            book.ledger.execute_each([book.order(a, c.AddNote(trade=trade, note="still only recorded"))]),
            book.ledger.execute_each([book.order(a, record(reference="of the bulk"))]),
        )
        assert names(rejected) == ["BulkRejected", "ReferenceTaken", "BulkRejected"]
        assert names([*alone, *freed]) == ["done", "done"]
        assert isinstance(alone[0], Receipt)
        assert alone[0].version == 2
        await book.do(b, c.ConfirmTrade(trade=trade))

    run(scenario())
    assert [entry["type"] for entry in book.audit()][-3:] == ["TradeNoteAdded", "TradeRecorded", "TradeConfirmed"]


async def in_turn(book: Book, *calls: Coroutine[Any, Any, list[Answer]]) -> list[list[Answer]]:
    """Run calls side by side so that they reach the writer in this order.

    Where the store is asked in threads, what a call has to read before it gets there takes its own time: so each is
    let go when the one before has got there.
    """
    if book.ledger.writer.alone:
        return await asyncio.gather(*calls)
    submit, arrived = book.ledger.writer.submit, asyncio.Event()

    async def submitting(units: list[Unit]) -> list[list[Answer]]:
        arrived.set()
        return await submit(units)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(book.ledger.writer, "submit", submitting)
        tasks = []
        for call in calls:
            tasks.append(asyncio.create_task(call))
            await asyncio.wait_for(arrived.wait(), 30)
            arrived.clear()
        return await asyncio.gather(*tasks)


def test_a_rejected_bulk_takes_back_only_its_own_part_of_a_trade(store: SqliteStore) -> None:
    book = store.open()

    async def scenario() -> None:
        a, b = await book.two_sides()
        new, old = trade_id(1), (await book.do(a, record(reference="old"))).aggregate_id
        first = [book.order(a, record(reference="new", trade=new), "new"), book.order(b, c.ConfirmTrade(trade=old))]
        doomed = [
            book.order(a, record(reference="new", trade=new), "new"),
            book.order(b, c.ConfirmTrade(trade=new)),
            book.order(a, settle(old, 1)),
            book.order(a, record(reference="gone")),
            book.order(a, record(reference="old")),
        ]
        after = [
            book.order(a, record(reference="new", trade=new), "new"),
            book.order(b, c.ConfirmTrade(trade=new)),
            book.order(a, settle(old, 1000)),
            book.order(a, record(reference="gone")),
        ]
        done = await in_turn(
            book,
            book.ledger.execute_atomic(first),
            book.ledger.execute_atomic(doomed),
            book.ledger.execute_each(after),
        )
        assert [names(answers) for answers in done] == [
            ["done", "done"],
            ["repeat", "BulkRejected", "BulkRejected", "BulkRejected", "ReferenceTaken"],
            ["repeat", "done", "done", "done"],
        ]

    run(scenario())
    book.audit()


# -- stale read sets -------------------------------------------------------------------------------------------------


async def _freeze(at: Book, a: Party, b: Party, trade: str) -> None:
    await at.do(a, c.FreezeWallet(wallet=a.wallet, reason="lost phone"))


async def _suspend(at: Book, a: Party, b: Party, trade: str) -> None:
    await at.do(OPERATOR, c.SuspendCompany(code="aozora", reason="unpaid"))


async def _take_reference(at: Book, a: Party, b: Party, trade: str) -> None:
    await at.do(a, record(reference="next"))


async def _take_id(at: Book, a: Party, b: Party, trade: str) -> None:
    await at.do(b, record(reference="theirs", trade=trade_id(7)))


@pytest.mark.parametrize(
    ("meanwhile", "refusal"),
    [
        (_freeze, WalletNotActive),
        (_suspend, CompanySuspended),
        (_take_reference, ReferenceTaken),
        (_take_id, AlreadyExists),
    ],
)
def test_what_another_process_wrote_since_is_seen_before_deciding(
    store: SqliteStore, meanwhile: Any, refusal: type[DaichoError]
) -> None:
    here, elsewhere = store.open(), store.open()

    async def scenario() -> None:
        a, b = await here.two_sides()
        trade = (await here.do(a, record())).aggregate_id  # wallet, companies and trade are cached here now
        await meanwhile(elsewhere, a, b, trade)
        with pytest.raises(refusal):
            await here.do(a, record(reference="next", trade=trade_id(7)))

    run(scenario())
    here.audit()


def test_a_trade_changed_by_another_process_is_decided_upon_as_it_is_now(store: SqliteStore) -> None:
    here, elsewhere = store.open(), store.open()

    async def scenario() -> None:
        a, b = await here.two_sides()
        trade = (await here.do(a, record())).aggregate_id
        await elsewhere.do(b, c.ConfirmTrade(trade=trade))
        await here.do(a, settle(trade, 400))  # the cache here says recorded, which would refuse it
        with pytest.raises(WrongState):
            await elsewhere.do(b, c.ConfirmTrade(trade=trade))
        assert (await elsewhere.do(a, settle(trade, 600))).version == 4

    run(scenario())
    here.audit()


def test_a_rejected_bulk_on_a_stale_trade_does_not_disturb_its_group(store: SqliteStore) -> None:
    here, elsewhere = store.open(), store.open()

    async def scenario() -> None:
        a, b = await here.two_sides()
        trade = (await here.do(a, record(reference="T"))).aggregate_id
        await here.do(b, c.ConfirmTrade(trade=trade))
        await elsewhere.do(a, settle(trade, 100))  # here the cache still says that 1000 are open
        doomed = [here.order(a, settle(trade, 300)), here.order(a, record(reference="T"))]
        one, rejected, two = await asyncio.gather(
            here.ledger.execute_each([here.order(a, settle(trade, 400))]),
            here.ledger.execute_atomic(doomed),
            here.ledger.execute_each([here.order(a, settle(trade, 600)), here.order(a, settle(trade, 500))]),
        )
        assert names(rejected) == ["BulkRejected", "ReferenceTaken"]
        assert names([*one, *two]) == ["done", "AmountExceedsOpen", "done"]

    run(scenario())
    here.audit()


def test_a_signature_used_in_another_process_is_not_used_again(store: SqliteStore) -> None:
    here, elsewhere = store.open(), store.open()

    async def scenario() -> None:
        for code in ("aozora", "kita"):
            await here.company(code)
        a = await here.user("aozora", custody="own")
        trade = (await here.do(a, here.signed(a, record(trade=trade_id())))).aggregate_id
        command = here.signed(a, c.AddNote(trade=trade, note="once"))
        await elsewhere.do(a, command, "there")
        with pytest.raises(SignatureReplayed):
            await here.do(a, command, "here")

    run(scenario())
    here.audit()


def test_a_group_that_never_meets_the_store_is_given_up_with_nothing_stored(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, elsewhere = store.open(), store.open()

    async def scenario() -> None:
        a, b = await here.two_sides()
        trade = (await here.do(a, record())).aggregate_id
        await elsewhere.do(b, c.ConfirmTrade(trade=trade))
        head = here.entries.head()
        with monkeypatch.context() as patch:
            patch.setattr(here.ledger, "forget", lambda desk: None)  # the cache never learns
            with pytest.raises(StorageUnavailable, match="too many changes"):
                await here.do(a, settle(trade, 1))
        assert here.entries.head() == head
        await here.do(a, settle(trade, 1))

    run(scenario())
    here.audit()


# -- keys, versions, bounds, callers ---------------------------------------------------------------------------------


def test_the_same_key_and_body_is_answered_from_the_store_another_body_is_refused(store: SqliteStore) -> None:
    book = store.open()

    async def scenario() -> None:
        a, b = await book.two_sides()
        first = await book.do(a, record(), "my key")
        await book.do(a, c.FreezeWallet(wallet=a.wallet, reason="whatever became of it"))
        again = await book.do(a, record(), "my key")
        assert (again.records, again.hit, first.hit) == (first.records, True, False)
        assert (again.aggregate_id, again.version) == (first.aggregate_id, 1)
        with pytest.raises(CommandKeyReused):
            await book.do(a, record(units=2), "my key")
        await book.do(b, record(reference="of another subject"), "my key")

    run(scenario())
    book.audit()


def test_repeats_inside_one_group_are_done_once(store: SqliteStore) -> None:
    book = store.open()

    async def scenario() -> list[str]:
        a, _ = await book.two_sides()
        orders = [book.order(a, record(), "k"), book.order(a, record(), "k"), book.order(a, record(units=5), "k")]
        first, second, _ = answers = await book.ledger.execute_each(orders)
        assert isinstance(first, Receipt)
        assert isinstance(second, Receipt)
        assert first.records == second.records
        return names(answers)

    assert run(scenario()) == ["done", "repeat", "CommandKeyReused"]
    book.audit()


def test_an_expected_version_must_be_the_current_one(store: SqliteStore) -> None:
    book = store.open()

    async def scenario() -> None:
        a, b = await book.two_sides()
        trade = (await book.do(a, record())).aggregate_id
        for wrong in (0, 2):
            with pytest.raises(VersionMismatch) as refused:
                await book.do(b, c.ConfirmTrade(trade=trade), expected=wrong)
            assert refused.value.values == {"expected": wrong, "current": 1}
        assert (await book.do(b, c.ConfirmTrade(trade=trade), "c", expected=1)).version == 2
        assert (await book.do(b, c.ConfirmTrade(trade=trade), "c", expected=1)).hit
        with pytest.raises(VersionMismatch):
            await book.do(a, c.FreezeWallet(wallet=a.wallet, reason="r"), expected=9)
        with pytest.raises(VersionMismatch):
            await book.do(OPERATOR, c.SuspendCompany(code="kita", reason="r"), expected=9)
        await book.do(OPERATOR, c.SuspendCompany(code="kita", reason="r"), expected=1)
        with pytest.raises(VersionMismatch):
            await book.do(OPERATOR, c.ResumeCompany(code="kita", reason="r"), expected=1)

    run(scenario())


def test_the_queue_is_bounded_and_says_so(store: SqliteStore) -> None:
    book = store.open(max_waiting_orders=10, max_group_orders=4)

    async def scenario() -> None:
        a, _ = await book.two_sides()
        asked = [book.ledger.execute_each([book.order(a, record(reference=f"R{n}"))]) for n in range(14)]
        answers = [answer for (answer,) in await asyncio.gather(*asked)]
        assert names(answers) == ["done"] * 10 + ["Overloaded"] * 4
        assert isinstance(answers[-1], Overloaded)
        assert answers[-1].values == {"waiting": 10}
        too_many = await book.ledger.execute_each([book.order(a, record(reference=f"S{n}")) for n in range(11)])
        assert names(too_many) == ["Overloaded"] * 11
        await book.do(a, record(reference="and goes on"))

    run(scenario())
    book.audit()


def test_a_caller_that_goes_away_hurts_nobody_and_finds_its_answer_later(store: SqliteStore) -> None:
    book = store.open()

    async def scenario() -> None:
        a, _ = await book.two_sides()
        orders = [book.order(a, record(reference=f"R{n}"), f"k{n}") for n in range(5)]
        assert await book.ledger.authorship.sign(orders) == [None] * 5
        asked = [asyncio.ensure_future(book.writer.submit([Unit([order])])) for order in orders]
        await asyncio.sleep(0)  # they wait now
        asked[2].cancel()
        done = await asyncio.gather(*asked, return_exceptions=True)
        assert [isinstance(answer, list) for answer in done] == [True, True, False, True, True]
        assert isinstance(done[2], asyncio.CancelledError)
        assert (await book.do(a, record(reference="R2"), "k2")).hit

    run(scenario())
    book.audit()


def test_a_key_rotated_between_signing_and_deciding_is_signed_with_again(store: SqliteStore) -> None:
    book, elsewhere = store.open(), store.open()
    next_keys = iter([Key(f"new {n}") for n in range(3)])

    async def scenario() -> None:
        a, _ = await book.two_sides()
        really = book.custodian.sign

        async def rotate_after(messages: Any) -> Any:
            signed = await really(messages)
            book.custodian.sign = really  # type: ignore[method-assign]
            party, key = Party(a.actor, book.custodian.keys[a.wallet]), next(next_keys)
            await elsewhere.do(party, elsewhere.rotation(party, key))
            book.custodian.keys[a.wallet] = key
            return signed

        for bulk in ("a", "bc", "de"):
            book.custodian.sign = rotate_after  # type: ignore[method-assign]
            orders = [book.order(a, record(reference=reference)) for reference in bulk]
            if bulk == "a":
                assert names(await book.ledger.execute_each(orders)) == ["done"]
            elif bulk == "bc":
                assert names(await book.ledger.execute_atomic(orders)) == ["done", "done"]
            else:
                assert names(await book.ledger.execute_batch(orders, "continue")) == ["done", "done"]

    run(scenario())
    assert [entry["type"] for entry in book.audit()].count("WalletKeyRotated") == 3

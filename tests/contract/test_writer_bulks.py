"""Bulks: all or none, or each on its own, under one signature that stands before its lines."""

import asyncio
import hashlib
from collections.abc import Sequence
from typing import Any

import pytest

from domain import commands as c
from domain.authorship import batch_root
from domain.errors import DaichoError, Overloaded, SignatureInvalid
from domain.orders import Order, Receipt
from domain.typed_data import signed_content
from tests.event_stores import SqliteStore
from tests.ledger_kit import Book, Key, Party, names, record, run, settle, trade_id


def types(book: Book) -> list[str]:
    return [entry["type"] for entry in book.audit()]


async def client_batch(
    book: Book, party: Party, orders: Sequence[Order], key: Key | None = None, number: int = 900
) -> c.ClientBatch:
    """What a client with its own key does: root over its lines, one signature."""
    contents = []
    for order in orders:
        message = book.ledger.authorship.message_of(book.order(party, order.command), "0x" + "00" * 32, 0)
        contents.append(signed_content(message.event_type, message.aggregate_id, message.data))
    root, batch = batch_root(contents).hex(), trade_id(number)
    data = {"wallet": party.wallet, "company": party.code, "root": root, "count": len(orders)}
    proof = book.proof(key or party.key, "BatchSigned", party.wallet, batch, data)
    return c.ClientBatch(batch=batch, root=root, count=len(orders), signature=proof)


async def own_custody(book: Book) -> tuple[Party, Party]:
    for code in ("aozora", "kita"):
        await book.company(code)
    return await book.user("aozora", custody="own"), await book.user("kita")


def own_lines(book: Book, party: Party, *numbers: int) -> list[Order]:
    return [book.order(party, record(reference=f"R{n}", trade=trade_id(n))) for n in numbers]


# -- without a signature of the whole --------------------------------------------------------------------------------


def test_record_confirm_and_settle_of_one_trade_inside_one_bulk_of_two_companies(store: SqliteStore) -> None:
    book = store.open()

    async def scenario() -> None:
        a, b = await book.two_sides()
        bulk = [
            book.order(a, record(trade=trade_id())),
            book.order(b, c.ConfirmTrade(trade=trade_id())),
            book.order(a, settle(trade_id(), 300)),
            book.order(a, settle(trade_id(), 700)),
        ]
        answers = await book.ledger.execute_atomic(bulk)
        assert names(answers) == ["done"] * 4
        assert [answer.version for answer in answers if isinstance(answer, Receipt)] == [1, 2, 3, 4]
        positions = [answer.position for answer in answers if isinstance(answer, Receipt)]
        assert positions == list(range(positions[0], positions[0] + 4))

    run(scenario())
    assert types(book)[-4:] == ["TradeRecorded", "TradeConfirmed", "TradeSettled", "TradeSettled"]


def test_an_atomic_bulk_with_one_refused_line_stores_nothing(store: SqliteStore) -> None:
    book = store.open()

    async def scenario() -> None:
        a, b = await book.two_sides()
        head = book.entries.head()
        bulk = [
            book.order(a, record(trade=trade_id())),
            book.order(a, c.ConfirmTrade(trade=trade_id())),
            book.order(b, c.ConfirmTrade(trade=trade_id())),
        ]
        assert names(await book.ledger.execute_atomic(bulk)) == ["BulkRejected", "OtherSideNeeded", "BulkRejected"]
        assert book.entries.head() == head
        assert names(await book.ledger.execute_atomic([bulk[0], bulk[2]])) == ["done", "done"]

    run(scenario())
    book.audit()


def test_a_confirmation_is_only_stored_over_the_terms_that_were_signed(store: SqliteStore) -> None:
    """The bulk "records" other terms under the id of a stored trade and confirms: that digest is not the stored one."""
    book = store.open()

    async def scenario() -> None:
        a, b = await book.two_sides()
        await book.do(a, record(units=1, trade=trade_id()))
        swapped = record(units=999, trade=trade_id(), reference="other terms")
        answers = await book.ledger.execute_each(
            [book.order(b, swapped), book.order(b, c.ConfirmTrade(trade=trade_id()))]
        )
        assert names(answers) == ["AlreadyExists", "DigestMismatch"]
        bulk = [book.order(b, swapped), book.order(b, c.ConfirmTrade(trade=trade_id()))]
        assert names(await book.ledger.execute_batch(bulk, "continue")) == ["AlreadyExists", "DigestMismatch"]

    run(scenario())
    book.audit()


# -- signed by the custodian -----------------------------------------------------------------------------------------


def test_a_batch_stands_before_its_lines_which_it_counts_and_covers(store: SqliteStore) -> None:
    book = store.open()

    async def scenario() -> tuple[list[Any], int]:
        a, b = await book.two_sides()
        signed_before = len(book.custodian.signed)
        answers = await book.ledger.execute_batch(
            [book.order(a, record(reference=f"R{n}")) for n in range(7)], "atomic"
        )
        assert len(book.custodian.signed) == signed_before + 1  # one signature for all
        trades = [answer.aggregate_id for answer in answers if isinstance(answer, Receipt)]
        confirms = [book.order(b, c.ConfirmTrade(trade=trade)) for trade in trades]
        assert names(await book.ledger.execute_batch(confirms, "continue")) == ["done"] * 7
        return [answer.position for answer in answers if isinstance(answer, Receipt)], len(trades)

    positions, count = run(scenario())
    entries = book.audit()  # recomputes the root from the stored lines
    head = entries[positions[0] - 2]
    assert head["type"] == "BatchSigned"
    assert (head["data"]["count"], head["data"]["company"]) == (count, "aozora")
    assert positions == [head["position"] + 1 + index for index in range(count)]
    signatures = [entries[position - 1]["data"]["signature"] for position in positions]
    assert signatures == [
        {"batch": head["aggregate_id"], "index": index, "wallet": head["data"]["wallet"]} for index in range(count)
    ]


def test_an_atomic_batch_stores_all_or_nothing(store: SqliteStore) -> None:
    book = store.open()

    async def scenario() -> None:
        a, _ = await book.two_sides()
        await book.do(a, record(reference="taken"))
        head = book.entries.head()
        bulk = [book.order(a, record(reference=r)) for r in ("x", "taken", "y", "x")]
        answers = await book.ledger.execute_batch(bulk, "atomic")
        assert names(answers) == ["BulkRejected", "ReferenceTaken", "BulkRejected", "ReferenceTaken"]
        unsigned = [book.order(a, record(reference="x")), book.order(a, settle(trade_id(5), 1))]
        assert names(await book.ledger.execute_batch(unsigned, "atomic")) == ["BulkRejected", "TradeNotFound"]
        assert book.entries.head() == head

    run(scenario())


def test_a_continued_batch_leaves_the_refused_lines_out_and_counts_the_rest(store: SqliteStore) -> None:
    book = store.open()

    async def scenario() -> None:
        a, _ = await book.two_sides()
        await book.do(a, record(reference="taken"))
        big = record(reference="big", lines=tuple(c.TradeLine("長" * 200, "1", "1") for _ in range(120)))
        bulk = [
            book.order(a, record(reference="x", trade=trade_id())),
            book.order(a, record(reference="taken")),
            book.order(a, settle(trade_id(5), 1)),
            book.order(a, big),
            book.order(a, c.ConfirmTrade(trade=trade_id())),
            book.order(a, c.AddNote(trade=trade_id(), note="on a line of the same bulk")),
            book.order(a, record(reference="x")),
        ]
        assert names(await book.ledger.execute_batch(bulk, "continue")) == [
            "done",
            "ReferenceTaken",
            "TradeNotFound",
            "EntryTooLarge",
            "OtherSideNeeded",
            "done",
            "ReferenceTaken",
        ]

    run(scenario())
    assert types(book)[-3:] == ["BatchSigned", "TradeRecorded", "TradeNoteAdded"]


def test_a_batch_of_which_nothing_is_allowed_stores_no_signature(store: SqliteStore) -> None:
    book = store.open()

    async def scenario() -> None:
        a, _ = await book.two_sides()
        await book.do(a, record(reference="taken"))
        head = book.entries.head()
        bulk = [book.order(a, record(reference="taken")), book.order(a, settle(trade_id(5), 1))]
        assert names(await book.ledger.execute_batch(bulk, "continue")) == ["ReferenceTaken", "TradeNotFound"]
        assert names(await book.ledger.execute_batch([], "atomic")) == []
        assert book.entries.head() == head

    run(scenario())


def test_a_suspended_company_and_a_frozen_wallet_sign_no_batch(store: SqliteStore) -> None:
    book, elsewhere = store.open(), store.open()

    async def scenario() -> None:
        a, _ = await book.two_sides()
        bulk = [book.order(a, record(reference=r)) for r in "xy"]
        await elsewhere.do(a, c.FreezeWallet(wallet=a.wallet, reason="lost"))
        assert names(await book.ledger.execute_batch(bulk, "continue")) == ["WalletNotActive"] * 2

    run(scenario())
    assert "BatchSigned" not in types(book)


def test_repeats_inside_a_batch_are_answered_once_done_and_counted_once(store: SqliteStore) -> None:
    book = store.open()

    async def scenario() -> None:
        a, _ = await book.two_sides()
        bulk = [
            book.order(a, record(reference="x"), "k"),
            book.order(a, record(reference="y")),
            book.order(a, record(reference="x"), "k"),
        ]
        answers = await book.ledger.execute_batch(bulk, "atomic")
        assert names(answers) == ["done", "done", "repeat"]
        assert isinstance(answers[0], Receipt)
        assert isinstance(answers[2], Receipt)
        assert answers[0].records == answers[2].records

    run(scenario())
    assert book.audit()[-3]["data"]["count"] == 2


@pytest.mark.parametrize("first_is_stored", [False, True])
def test_a_key_reused_for_another_body_is_refused_and_rejects_an_atomic_bulk(
    store: SqliteStore, first_is_stored: bool
) -> None:
    book = store.open()

    async def scenario() -> None:
        a, _ = await book.two_sides()
        if first_is_stored:
            await book.do(a, record(reference="x"), "k")
        else:
            head = book.entries.head()
        bulk = [book.order(a, record(reference="x", units=5), "k"), book.order(a, record(reference="y"), "fresh")]
        if not first_is_stored:
            bulk.append(book.order(a, record(reference="z"), "k"))
            assert names(await book.ledger.execute_batch(bulk, "atomic")) == [
                "BulkRejected",
                "BulkRejected",
                "CommandKeyReused",
            ]
            assert book.entries.head() == head
            assert names(await book.ledger.dry_run(bulk, "atomic")) == [
                "BulkRejected",
                "BulkRejected",
                "CommandKeyReused",
            ]
            assert names(await book.ledger.execute_batch(bulk, "continue")) == ["done", "done", "CommandKeyReused"]
            return
        assert names(await book.ledger.execute_batch(bulk, "atomic")) == ["CommandKeyReused", "BulkRejected"]
        assert names(await book.ledger.execute_batch(bulk, "continue")) == ["CommandKeyReused", "done"]

    run(scenario())
    book.audit()


def test_a_whole_batch_sent_again_is_answered_from_the_store(store: SqliteStore) -> None:
    book = store.open()

    async def scenario() -> None:
        a, _ = await book.two_sides()

        def bulk() -> list[Order]:
            return [book.order(a, record(reference=f"R{n}"), f"bulk:{n}") for n in range(5)]

        first = await book.ledger.execute_batch(bulk(), "atomic")
        head = book.entries.head()
        second = await book.ledger.execute_batch(bulk(), "atomic")
        assert (names(first), names(second)) == (["done"] * 5, ["repeat"] * 5)
        for one, two in zip(first, second, strict=True):
            assert isinstance(one, Receipt)
            assert isinstance(two, Receipt)
            assert one.records == two.records
        assert book.entries.head() == head
        longer = [*bulk(), book.order(a, record(reference="R5"), "bulk:5")]
        assert names(await book.ledger.execute_batch(longer, "continue")) == ["repeat"] * 5 + ["done"]

    run(scenario())
    assert types(book).count("BatchSigned") == 2


def test_one_batch_sent_twice_at_once_is_done_once(store: SqliteStore) -> None:
    book = store.open()

    async def scenario() -> None:
        a, _ = await book.two_sides()

        def bulk() -> Any:
            return book.ledger.execute_batch(
                [book.order(a, record(reference=f"R{n}"), f"bulk:{n}") for n in range(4)], "atomic"
            )

        answers = await asyncio.gather(*(bulk() for _ in range(3)))
        # whichever of them comes first: on a store that is asked in threads that is not the order of the calls
        assert sorted(names(answer) for answer in answers) == [["done"] * 4, ["repeat"] * 4, ["repeat"] * 4]

    run(scenario())
    assert types(book).count("BatchSigned") == 1


def test_lines_of_two_wallets_and_lines_that_need_no_wallet_have_no_place_in_one_batch(store: SqliteStore) -> None:
    book = store.open()

    async def scenario() -> None:
        a, _ = await book.two_sides()
        other = await book.user("aozora", "second clerk")
        bulk = [
            book.order(a, record(reference="x")),
            book.order(a, record(reference="y", wallet=other.wallet)),
            book.order(a, c.FreezeWallet(wallet=a.wallet, reason="r")),
            book.order(a, book.signed(a, record(reference="z", trade=trade_id()))),
        ]
        assert names(await book.ledger.execute_batch(bulk, "continue")) == [
            "done",
            "Malformed",
            "Malformed",
            "Malformed",
        ]

    run(scenario())
    book.audit()


def test_a_batch_that_always_meets_a_new_key_is_given_up_as_trouble(store: SqliteStore) -> None:
    book = store.open()

    async def scenario() -> None:
        a, _ = await book.two_sides()
        book.custodian.keys[a.wallet] = Key("never recorded")
        assert names(await book.ledger.execute_batch([book.order(a, record())], "atomic")) == ["Overloaded"]
        assert names(await book.ledger.execute_each([book.order(a, record())])) == ["WrongSigner"]
        assert names(await book.ledger.execute_atomic([book.order(a, record())])) == ["WrongSigner"]

    run(scenario())
    book.audit()


# -- signed by the client --------------------------------------------------------------------------------------------


def test_a_client_signs_its_own_bulk_once(store: SqliteStore) -> None:
    book = store.open()

    async def scenario() -> None:
        a, _ = await own_custody(book)
        lines = own_lines(book, a, 1, 2, 3)
        assert names(await book.ledger.execute_batch(lines, "atomic")) == [
            "SignatureMissing",
            "SignatureMissing",
            "SignatureMissing",
        ]
        given = await client_batch(book, a, lines)
        assert names(await book.ledger.execute_batch(lines, "continue", given)) == ["done"] * 3
        assert names(await book.ledger.execute_batch(lines, "continue", given)) == ["repeat"] * 3

    run(scenario())
    head = book.audit()[-4]
    assert (head["type"], head["aggregate_id"]) == ("BatchSigned", trade_id(900))


@pytest.mark.parametrize("mode", ["atomic", "continue"])
def test_a_bulk_signed_by_another_key_is_the_signers_fault_not_our_trouble(store: SqliteStore, mode: Any) -> None:
    book = store.open()

    async def scenario() -> None:
        a, _ = await own_custody(book)
        lines = own_lines(book, a, 1, 2)
        forged = await client_batch(book, a, lines, Key("somebody else's"))
        assert names(await book.ledger.execute_batch(lines, mode, forged)) == ["WrongSigner"] * 2

    run(scenario())
    assert "BatchSigned" not in types(book)


def test_a_bulk_that_is_not_the_signed_one_is_refused(store: SqliteStore) -> None:
    book = store.open()

    async def scenario() -> None:
        a, _ = await own_custody(book)
        lines = own_lines(book, a, 1, 2)
        given = await client_batch(book, a, lines)
        for other in (own_lines(book, a, 1), own_lines(book, a, 2, 1), own_lines(book, a, 1, 2, 3)):
            answers = await book.ledger.execute_batch(other, "atomic", given)
            assert names(answers) == ["SignatureInvalid"] * len(other)
            assert isinstance(answers[0], SignatureInvalid)

    run(scenario())
    assert "BatchSigned" not in types(book)


def test_a_refused_line_of_a_client_signed_bulk_says_its_own_reason(store: SqliteStore) -> None:
    book = store.open()

    async def scenario() -> None:
        a, b = await own_custody(book)
        await book.do(b, record(reference="taken", trade=trade_id(50)))
        lines = [*own_lines(book, a, 1, 2), book.order(a, settle(trade_id(50), 1))]
        given = await client_batch(book, a, lines)
        assert names(await book.ledger.execute_batch(lines, "atomic", given)) == [
            "BulkRejected",
            "BulkRejected",
            "WrongState",
        ]
        answers = await book.ledger.execute_batch(lines, "continue", given)
        assert names(answers) == ["SignatureInvalid", "SignatureInvalid", "WrongState"]
        unknown = [*own_lines(book, a, 1), book.order(a, settle(trade_id(77), 1)), book.order(a, record())]
        answers = await book.ledger.execute_batch(unknown, "continue", given)
        assert names(answers) == ["SignatureInvalid", "TradeNotFound", "Malformed"]

    run(scenario())
    assert "BatchSigned" not in types(book)


def test_a_bulks_signature_is_used_once(store: SqliteStore) -> None:
    book = store.open()

    async def scenario() -> None:
        a, b = await own_custody(book)
        trade = (await book.do(b, record())).aggregate_id

        def notes() -> list[Order]:
            return [book.order(a, c.AddNote(trade=trade, note=note)) for note in ("one", "two")]

        given = await client_batch(book, a, notes())
        assert names(await book.ledger.execute_batch(notes(), "atomic", given)) == ["done", "done"]
        assert names(await book.ledger.execute_batch(notes(), "atomic", given)) == ["SignatureReplayed"] * 2
        moved = c.ClientBatch(batch=trade_id(901), root=given.root, count=2, signature=given.signature)
        assert names(await book.ledger.execute_batch(notes(), "continue", moved)) == ["SignatureReplayed"] * 2
        again = await client_batch(book, a, notes())  # another nonce, the same batch id
        assert names(await book.ledger.execute_batch(notes(), "atomic", again)) == ["AlreadyExists"] * 2

    run(scenario())
    assert types(book).count("TradeNoteAdded") == 2


def test_an_expired_bulk_signature_is_refused(store: SqliteStore) -> None:
    book = store.open()

    async def scenario() -> None:
        a, _ = await own_custody(book)
        lines = own_lines(book, a, 1)
        given = await client_batch(book, a, lines)
        book.ledger.authorship.clock = lambda: given.signature.deadline + 1
        assert names(await book.ledger.execute_batch(lines, "atomic", given)) == ["SignatureExpired"]

    run(scenario())


def test_answers_keep_the_order_of_the_lines(store: SqliteStore) -> None:
    book = store.open()

    async def scenario() -> None:
        a, _ = await book.two_sides()
        orders = [book.order(a, record(reference=hashlib.sha256(b"%d" % n).hexdigest()[:8])) for n in range(60)]
        answers = await book.ledger.execute_batch(orders, "continue")
        for order, answer in zip(orders, answers, strict=True):
            assert isinstance(answer, Receipt)
            assert order.ref.key.encode() in answer.records[0][1]

    run(scenario())


def test_all_that_a_bulk_refuses_are_values_of_the_error_tree(store: SqliteStore) -> None:
    book = store.open(max_waiting_orders=3)

    async def scenario() -> None:
        a, _ = await book.two_sides()
        answers = await book.ledger.execute_batch([book.order(a, record(reference=r)) for r in "abcd"], "continue")
        assert all(isinstance(answer, Overloaded) for answer in answers)
        assert all(isinstance(answer, DaichoError) for answer in answers)

    run(scenario())

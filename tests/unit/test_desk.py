"""The desk and its handlers: one for each command, none acts without a signature, all on their group's results."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from domain import commands as c
from domain import errors
from domain import purchase_commands as p
from domain.company import Company
from domain.desk import Desk
from domain.entry import Actor
from domain.erasure import Erasure
from domain.handlers import HANDLERS, follow_up
from domain.ids import company_id, erasure_id, is_uuid7
from domain.ledger import AggregateCache, Ledger
from domain.orders import Decided, Order, Repeat, Unit
from domain.signature import Signature
from domain.store_commands import STORE_COMMANDS
from tests.event_stores import SqliteStore
from tests.ledger_kit import CONTRACT, OPERATOR, ORIGIN, Book, Key, names, record, run, trade_id


@pytest.fixture
def book(tmp_path: Path) -> Iterator[Book]:
    store = SqliteStore(tmp_path)
    yield store.open()
    store.close()


def desk_of(book: Book, **more: Any) -> Desk:
    ledger = book.ledger
    return Desk(ledger.load, ledger.load_at, ledger._entries, HANDLERS, book.wall(), **{"taken": set(), **more})


def decide(desk: Desk, *orders: Order, strict: bool = False) -> list[Any]:
    return desk.decide(Unit(list(orders), strict), {}, {})


def test_every_command_has_a_handler() -> None:
    commands = {*c.CLIENT_COMMANDS, c.OpenWallet, c.OpenBook, c.SignBatch, *STORE_COMMANDS}
    assert set(HANDLERS) == commands


def test_a_handler_that_is_given_anothers_command_says_so(book: Book) -> None:
    suspend = book.order(OPERATOR, c.SuspendCompany(code="aozora", reason="r"))
    with pytest.raises(TypeError, match="SuspendCompany is not a RegisterCompany"):
        HANDLERS[c.RegisterCompany](desk_of(book), suspend)
    with pytest.raises(TypeError, match="SuspendCompany is not about a recorded trade"):
        follow_up(lambda *_: None)(desk_of(book), suspend)


OPEN_BOOK = c.OpenBook(chain_id=20260, contract=CONTRACT, log_key=f"{ORIGIN}+00000000+AA", promise_key="p+00000000+AA")


def test_the_operator_opens_the_book_once(book: Book) -> None:
    async def scenario() -> None:
        with pytest.raises(errors.OperatorOnly):
            await book.do(Actor("aozora", "ab" * 16), OPEN_BOOK)
        assert (await book.do(OPERATOR, OPEN_BOOK, "open")).position == 1
        assert (await book.do(OPERATOR, OPEN_BOOK, "open")).hit
        with pytest.raises(errors.AlreadyExists, match="the book is open already"):
            await book.do(OPERATOR, OPEN_BOOK, "again")

    run(scenario())
    entry = book.audit()[0]
    assert (entry["type"], entry["data"]["previous"], entry["data"]["chain_id"]) == ("BookOpened", None, 20260)


def test_nothing_that_needs_a_signature_is_decided_without_one(book: Book) -> None:
    async def scenario() -> None:
        a, b = await book.two_sides()
        trade = (await book.do(a, record())).aggregate_id
        rotation = book.rotation(a, Key("new"))
        half = book.order(a, rotation)
        assert await book.ledger.authorship.sign([half]) == [None]
        half.new_signature = None
        fields = {"subject": "ee" * 16, "company": "kita", "address": Key("x").address, "custody": "own"}
        opening = c.OpenWallet(**fields, signature=rotation.signature)
        unsigned = [
            book.order(a, record(reference="unsigned")),
            book.order(b, c.ConfirmTrade(trade=trade)),
            book.order(b, opening),
            book.order(a, rotation),
            half,
        ]
        answers = await book.writer.submit([Unit([order]) for order in unsigned])
        assert names([answer for (answer,) in answers]) == ["SignatureMissing"] * len(unsigned)
        in_batch = book.order(b, opening)  # a place in a batch is no proof of possession
        in_batch.signature = Signature(b.wallet, batch=trade_id(), index=0)
        assert names((await book.writer.submit([Unit([in_batch])]))[0]) == ["SignatureMissing"]

    run(scenario())
    assert len(book.audit()) == 5


def test_a_follow_up_is_decided_only_over_the_digest_that_was_signed(book: Book) -> None:
    async def scenario() -> None:
        a, b = await book.two_sides()
        trade = (await book.do(a, record())).aggregate_id
        order = book.order(b, c.ConfirmTrade(trade=trade))
        assert await book.ledger.authorship.sign([order]) == [None]
        order.digest = "00" * 32
        assert names((await book.writer.submit([Unit([order])]))[0]) == ["DigestMismatch"]

    run(scenario())


def test_a_batch_takes_no_id_that_is_in_use(book: Book) -> None:
    async def scenario() -> None:
        a, _ = await book.two_sides()
        trade = (await book.do(a, record())).aggregate_id
        first, refusals = await book.ledger.authorship.sign_batch([book.order(a, record(reference="x"))])
        assert refusals == [None]
        assert first is not None
        command = first.command
        assert isinstance(command, c.SignBatch)
        assert is_uuid7(command.batch)
        taken = c.SignBatch(batch=trade, company="aozora", root=command.root, count=1, signature=command.signature)
        (refused,) = decide(desk_of(book), Order(taken, a.actor, first.ref, signature=command.signature))
        assert isinstance(refused, errors.AlreadyExists)

    run(scenario())


def test_units_of_a_group_see_each_other_and_a_rejected_one_is_seen_by_nobody(book: Book) -> None:
    def register(code: str, key: str) -> Order:
        return book.order(OPERATOR, c.RegisterCompany(code=code, name=code), key)

    desk = desk_of(book)
    first, again = register("aozora", "k1"), register("aozora", "k2")
    assert isinstance(decide(desk, first)[0], Decided)
    assert isinstance(decide(desk, again)[0], errors.AlreadyExists)
    rejected = decide(desk, register("kita", "k3"), register("aozora", "k4"), register("kita", "k3"))
    assert [type(line).__name__ for line in rejected] == ["BulkRejected", "AlreadyExists", "BulkRejected"]
    assert isinstance(decide(desk, register("kita", "k3"))[0], Decided)
    assert isinstance(decide(desk, first)[0], Repeat)
    assert {aggregate.id for aggregate in desk.in_hand()} == {company_id("aozora"), company_id("kita")}
    assert desk.loaded == {company_id("aozora"): 0, company_id("kita"): 0}


def test_a_repeat_rejects_only_a_unit_that_counts_its_lines(book: Book) -> None:
    desk = desk_of(book)
    one = book.order(OPERATOR, c.RegisterCompany(code="aozora", name="a"), "k1")
    two = book.order(OPERATOR, c.RegisterCompany(code="kita", name="k"), "k2")
    assert isinstance(decide(desk, one)[0], Decided)
    strict = decide(desk, two, one, strict=True)
    assert [type(line).__name__ for line in strict] == ["BulkRejected", "Repeat"]
    assert [type(line).__name__ for line in decide(desk, two, one)] == ["Decided", "Repeat"]


def test_what_the_store_is_known_not_to_hold_is_not_looked_up(book: Book) -> None:
    desk = desk_of(book, absent={company_id("aozora")})
    order = book.order(OPERATOR, c.RegisterCompany(code="aozora", name="a"))
    assert isinstance(decide(desk, order)[0], Decided)
    assert desk.loaded == {}
    bad = book.order(OPERATOR, c.SuspendCompany(code="kita", reason="r"))
    other = book.order(OPERATOR, c.SuspendCompany(code="aozora", reason="r"))
    assert [type(line).__name__ for line in decide(desk, other, bad)] == ["BulkRejected", "CompanyNotFound"]
    assert [aggregate.version for aggregate in desk.in_hand()] == [1]


def test_a_claims_refusal_names_what_was_taken(book: Book) -> None:
    async def scenario() -> None:
        a, _ = await book.two_sides()
        await book.do(a, record(reference="2026/11|x".replace("|", "-")))
        with pytest.raises(errors.ReferenceTaken) as refused:
            await book.do(a, record(reference="2026/11-x"))
        assert refused.value.values == {"company": "aozora", "reference": "2026/11-x"}
        note = book.signed(a, c.AddNote(trade=book.audit()[-1]["aggregate_id"], note="n"))
        await book.do(a, note)
        with pytest.raises(errors.SignatureReplayed) as replayed:
            await book.do(a, note)
        assert note.signature
        assert replayed.value.values == {"wallet": a.wallet, "nonce": note.signature.nonce}

    run(scenario())


def test_a_small_cache_forgets_the_oldest_and_the_ledger_goes_on(book: Book) -> None:
    cache = AggregateCache(max_size=2)
    for number in range(3):
        cache.put(str(number), number)
    cache.put("2", "again")
    assert cache.cache == {"1": 1, "2": "again"}
    cache.drop("1")
    cache.drop("1")
    assert cache.cache == {"2": "again"}

    async def scenario() -> None:
        book.ledger.repository.cache = book.ledger.cache = AggregateCache(max_size=1)
        a, b = await book.two_sides()
        bulk = [book.order(a, record(reference=f"R{n}")) for n in range(5)]
        trades = [answer.aggregate_id for answer in await book.ledger.execute_batch(bulk, "atomic")]  # type: ignore[union-attr]
        confirms = [book.order(b, c.ConfirmTrade(trade=trade)) for trade in trades]
        assert names(await book.ledger.execute_batch(confirms, "atomic")) == ["done"] * 5
        assert len(book.ledger.cache.cache) == 1

    run(scenario())
    book.audit()


def test_the_librarys_own_save_stores_sealed_entries_of_the_system(book: Book) -> None:
    (recording,) = book.ledger.save(Company.register("aozora", "Aozora"))  # type: ignore[arg-type]
    assert recording.notification.id == 1
    (entry,) = book.audit()
    assert (entry["actor"], entry["command"]) == ({"company": "", "subject": "system"}, {"body": "", "key": ""})
    assert book.ledger.repository.get(company_id("aozora")).version == 1


def test_a_recorder_that_nobody_bound_stores_no_entries(tmp_path: Path) -> None:
    ledger = Ledger({"SQLITE_DBNAME": str(tmp_path / "ledger.db")})
    with pytest.raises(RuntimeError, match="bind the recorder"):
        ledger.save(Company.register("aozora", "Aozora"))  # type: ignore[arg-type]
    assert ledger.recorder.max_notification_id() is None
    ledger.close()


def test_an_erasure_is_asked_for_once_and_again_when_there_is_more_to_forget(book: Book) -> None:
    user, first, second = "ab" * 16, company_id("a"), company_id("b")

    async def scenario() -> None:
        def asked(*owners: str) -> c.Command:
            return p.AskErasure(user=user, owners=owners, reason="asked by letter")

        with pytest.raises(errors.OperatorOnly):
            await book.do(Actor("aozora", "ab" * 16), asked(first))
        await book.do(OPERATOR, asked(first), "one")
        with pytest.raises(errors.NothingNew):
            await book.do(OPERATOR, asked(first), "two")
        await book.do(OPERATOR, asked(first, second), "three")
        found = book.ledger.load(erasure_id(user))
        assert isinstance(found, Erasure)
        assert (found.user, found.owners) == (user, {first, second})

    run(scenario())

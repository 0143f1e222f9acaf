"""The error tree: drawn as it is, and every refusal of the ledger is produced by what really causes it."""

import datetime as dt
import inspect
import re
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from domain import commands as c
from domain import errors
from domain.authorship import batch_root
from domain.case import CaseKind
from domain.errors import DaichoError
from domain.ids import case_id, purchase_id
from domain.money import Money
from domain.purchase import Origin
from domain.purchase_commands import (
    AcceptPurchase,
    ApproveCaseAction,
    CloseCase,
    EndPurchase,
    OpenCase,
    ProposeCaseAction,
    ReleaseIdentity,
    ReportStep,
    RequestContract,
)
from domain.purchase_table import Action, EndReason, Outcome, Step
from domain.store_commands import JudgeNotification, ObserveSubscription, SupersedeSubscription
from domain.store_notification import Kind, Standing, State, Store, StoreEnvironment, StoreNotification
from domain.typed_data import signed_content
from tests.event_stores import SqliteStore
from tests.ledger_kit import OPERATOR, Book, Key, Party, names, propose_settlement, record, run, settle, trade_id

TREE: dict[str, type[DaichoError]] = {
    name: value
    for name, value in vars(errors).items()
    if inspect.isclass(value) and issubclass(value, DaichoError) and value.__module__ == errors.__name__
}
INNER = {base.__name__ for kind in TREE.values() for base in kind.__bases__}
ELSEWHERE = {
    "EntryNotFound": "a question about entries, asked of the API",
    "AnchorNotFound": "a question about anchors, asked of the API",
    "ChainUnavailable": "the anchor lane's and the API's, whose chain does not answer",
    "NotYetVisible": "a question of read-your-writes, asked of the API",
}
RAISED_INNER = {"Malformed", "OtherSideNeeded", "WrongState"}  # classes with subclasses that are raised themselves
Scenario = Callable[[Book, Party, Party], Awaitable[Any]]


def test_the_docstring_draws_the_tree_as_it_is() -> None:
    drawn: dict[str, str] = {}
    above: list[tuple[int, str]] = []
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r"([│├└─ ]*)(.*)", line)
        assert found
        depth, text = len(found[1]), found[2]
        if not re.match(r"[A-Z][A-Za-z]+( ·|  |$)", text):
            continue
        listed = re.findall(r"[A-Z][A-Za-z]+", text) if "·" in text else [text.split()[0]]
        while above and above[-1][0] >= depth:
            above.pop()
        for name in listed:
            drawn[name] = above[-1][1] if above else "Exception"
        above.append((depth, listed[-1]))
    assert drawn == {name: kind.__bases__[0].__name__ for name, kind in TREE.items()}


@pytest.mark.parametrize("name", sorted(TREE))
def test_every_class_of_the_tree_says_what_it_means_and_carries_values(name: str) -> None:
    error = TREE[name]("in words", field="x", number=7)
    assert TREE[name].__doc__
    assert (str(error), error.message, error.values) == ("in words", "in words", {"field": "x", "number": 7})


# -- each refusal, by what causes it ---------------------------------------------------------------------------------


async def operator_only(book: Book, a: Party, b: Party) -> None:
    await book.do(a, c.RegisterCompany(code="new", name="New"))


async def not_your_company(book: Book, a: Party, b: Party) -> None:
    await book.do(a, c.FreezeWallet(wallet=b.wallet, reason="r"))


async def not_a_party(book: Book, a: Party, b: Party) -> None:
    trade = (await book.do(a, record())).aggregate_id
    stranger, _ = await book.two_more()
    await book.do(stranger, c.AddNote(trade=trade, note="n"))


async def other_side_needed(book: Book, a: Party, b: Party) -> None:
    trade = (await book.do(a, record())).aggregate_id
    await book.do(a, c.ConfirmTrade(trade=trade))


async def creditor_needed(book: Book, a: Party, b: Party) -> None:
    await book.do(b, settle(await confirmed(book, a, b), 1))


async def both_sides_needed(book: Book, a: Party, b: Party) -> None:
    await book.do(a, c.ReverseTrade(trade=await confirmed(book, a, b), reason="r"))


async def company_not_found(book: Book, a: Party, b: Party) -> None:
    await book.do(a, record(buyer="nobody"))


async def wallet_not_found(book: Book, a: Party, b: Party) -> None:
    await book.do(a, c.FreezeWallet(wallet=trade_id(), reason="r"))


async def trade_not_found(book: Book, a: Party, b: Party) -> None:
    await book.do(a, c.AddNote(trade=trade_id(), note="n"))


async def command_key_reused(book: Book, a: Party, b: Party) -> None:
    await book.do(a, record(), "k")
    await book.do(a, record(reference="other"), "k")


async def already_exists(book: Book, a: Party, b: Party) -> None:
    await book.company("aozora")


async def reference_taken(book: Book, a: Party, b: Party) -> None:
    await book.do(a, record())
    await book.do(a, record())


async def version_mismatch(book: Book, a: Party, b: Party) -> None:
    trade = (await book.do(a, record())).aggregate_id
    await book.do(b, c.ConfirmTrade(trade=trade), expected=2)


async def wrong_state(book: Book, a: Party, b: Party) -> None:
    await book.do(b, c.ConfirmTrade(trade=await confirmed(book, a, b)))


async def company_suspended(book: Book, a: Party, b: Party) -> None:
    await book.do(OPERATOR, c.SuspendCompany(code="kita", reason="r"))
    await book.do(a, record())


async def wallet_not_active(book: Book, a: Party, b: Party) -> None:
    await book.do(a, c.CloseWallet(wallet=a.wallet, reason="r"))
    await book.do(a, record())


async def trade_partly_settled(book: Book, a: Party, b: Party) -> None:
    trade = await confirmed(book, a, b)
    await book.do(a, settle(trade, 1))
    await book.do(a, c.ProposeReversal(trade=trade, reason="r"))


async def amount_exceeds_open(book: Book, a: Party, b: Party) -> None:
    await book.do(b, propose_settlement(await confirmed(book, a, b), 1001))


async def currency_mismatch(book: Book, a: Party, b: Party) -> None:
    await book.do(a, settle(await confirmed(book, a, b), 1, "EUR"))


async def digest_mismatch(book: Book, a: Party, b: Party) -> None:
    trade = (await book.do(a, record())).aggregate_id
    await book.do(b, c.ConfirmTrade(trade=trade, digest="00" * 32))


async def bulk_rejected(book: Book, a: Party, b: Party) -> None:
    fine, bad = book.order(a, record()), book.order(a, record(buyer="nobody"))
    raise next(answer for answer in await book.ledger.execute_atomic([fine, bad]) if isinstance(answer, DaichoError))


async def malformed(book: Book, a: Party, b: Party) -> None:
    await book.do(a, record(buyer="aozora"))


async def entry_too_large(book: Book, a: Party, b: Party) -> None:
    await book.do(a, record(lines=tuple(c.TradeLine("長" * 200, "1", "1") for _ in range(150))))


async def signature_missing(book: Book, a: Party, b: Party) -> None:
    own = await book.user("kita", "own", custody="own")
    await book.do(own, record())


async def signature_invalid(book: Book, a: Party, b: Party) -> None:
    signed = book.signed(a, record(trade=trade_id()))
    assert signed.signature
    malleable = c.ClientSignature(signed.signature.deadline, signed.signature.nonce, "0x" + "ff" * 64 + "1b")
    await book.do(a, record(trade=trade_id(), signature=malleable))


async def signature_expired(book: Book, a: Party, b: Party) -> None:
    await book.do(a, book.signed(a, record(trade=trade_id()), deadline=int(book.wall()) - 1))


async def signature_replayed(book: Book, a: Party, b: Party) -> None:
    trade = (await book.do(a, record())).aggregate_id
    note = book.signed(a, c.AddNote(trade=trade, note="n"))
    await book.do(a, note, "first")
    await book.do(a, note, "second")


async def wrong_signer(book: Book, a: Party, b: Party) -> None:
    await book.do(a, book.signed(a, record(trade=trade_id()), Key("somebody else's")))


async def ledger_read_only(book: Book, a: Party, b: Party) -> None:
    book.writer.refusal = errors.LedgerReadOnly("behind")
    await book.do(a, record())


async def storage_unavailable(book: Book, a: Party, b: Party) -> None:
    with SqliteStore(book.path.parent).locked():
        await book.do(a, record())


async def clock_jumped(book: Book, a: Party, b: Party) -> None:
    book.wall.shift = 3600
    await book.do(a, record())


async def overloaded(book: Book, a: Party, b: Party) -> None:
    answers = await book.ledger.execute_each([book.order(a, record()) for _ in range(6)])
    assert len(set(names(answers))) == 1
    raise answers[0] if isinstance(answers[0], DaichoError) else AssertionError(answers)


async def signer_unavailable(book: Book, a: Party, b: Party) -> None:
    book.custodian.down = True
    await book.do(a, record())


async def message_not_found(book: Book, a: Party, b: Party) -> None:
    await book.do(OPERATOR, JudgeNotification(message=trade_id(), verdict="valid"))


async def subscription_not_found(book: Book, a: Party, b: Party) -> None:
    await book.do(OPERATOR, SupersedeSubscription(subscription=trade_id(), by=trade_id(1)))


async def nothing_new(book: Book, a: Party, b: Party) -> None:
    said = StoreNotification(
        Store.APPLE, StoreEnvironment.SANDBOX, "n", Kind.RENEWED, "L", 1, line="1", standing=Standing(1, State.ACTIVE)
    )
    for _ in range(2):
        await book.do(OPERATOR, ObserveSubscription(said=said, payload="ab" * 32))


LINE, USER, HASH = trade_id(7), "ab" * 16, "ab" * 32
PURCHASE, CASE = purchase_id(LINE), case_id("deadline", LINE, 1)


async def told_of(book: Book, user: str = USER) -> None:
    await book.do(
        OPERATOR,
        AcceptPurchase(
            subscription=LINE, store=Store.GOOGLE, environment=StoreEnvironment.SANDBOX, user=user, product="p",
            payload=HASH, origin=Origin.CLIENT,
        ),
    )  # fmt: skip


async def identity_not_found(book: Book, a: Party, b: Party) -> None:
    await book.do(OPERATOR, ReleaseIdentity(subscription=LINE, user=USER, reason="r"))


async def purchase_not_found(book: Book, a: Party, b: Party) -> None:
    await book.do(OPERATOR, EndPurchase(purchase=PURCHASE, reason=EndReason.EXPIRED))


async def case_not_found(book: Book, a: Party, b: Party) -> None:
    await book.do(OPERATOR, CloseCase(case=CASE, action=None))


async def line_taken(book: Book, a: Party, b: Party) -> None:
    await told_of(book)
    await told_of(book, "cd" * 16)


async def outcome_not_allowed(book: Book, a: Party, b: Party) -> None:
    await told_of(book)
    conflict = ReportStep(purchase=PURCHASE, round=1, step=Step.VERIFY, outcome=Outcome.CONFLICT)
    await book.do(OPERATOR, conflict)


async def ask_first(book: Book, a: Party, b: Party) -> None:
    await told_of(book)
    for step in (Step.VERIFY, Step.BIND):
        await book.do(OPERATOR, ReportStep(purchase=PURCHASE, round=1, step=step, outcome=Outcome.OK))
    for attempt in (1, 2):
        await book.do(OPERATOR, RequestContract(purchase=PURCHASE, round=1, attempt=attempt))


async def person_needed(book: Book, a: Party, b: Party) -> None:
    await book.do(OPERATOR, ApproveCaseAction(case=CASE, action=Action.RETRY))


async def second_person_needed(book: Book, a: Party, b: Party) -> None:
    await book.do(OPERATOR, OpenCase(kind=CaseKind.DEADLINE, about=LINE, number=1, reason="late"))
    person = c_actor(USER, "")
    await book.do(person, ProposeCaseAction(case=CASE, action=Action.RETRY))
    await book.do(person, ApproveCaseAction(case=CASE, action=Action.RETRY))


async def confirmed(book: Book, a: Party, b: Party) -> str:
    trade = (await book.do(a, record())).aggregate_id
    await book.do(b, c.ConfirmTrade(trade=trade))
    return trade


SCENARIOS: dict[str, Scenario] = {
    "".join(word.title() for word in scenario.__name__.split("_")): scenario
    for scenario in (
        operator_only, not_your_company, not_a_party, other_side_needed, creditor_needed, both_sides_needed,
        company_not_found, wallet_not_found, trade_not_found, command_key_reused, already_exists, reference_taken,
        version_mismatch, wrong_state, company_suspended, wallet_not_active, trade_partly_settled, amount_exceeds_open,
        currency_mismatch, digest_mismatch, bulk_rejected, malformed, entry_too_large, signature_missing,
        signature_invalid, signature_expired, signature_replayed, wrong_signer, ledger_read_only, storage_unavailable,
        clock_jumped, overloaded, signer_unavailable, message_not_found, subscription_not_found, nothing_new,
        identity_not_found, purchase_not_found, case_not_found, line_taken, outcome_not_allowed, ask_first,
        person_needed, second_person_needed,
    )
}  # fmt: skip


@pytest.fixture
def book(tmp_path: Path) -> Iterator[Book]:
    store = SqliteStore(tmp_path)
    yield store.open(max_waiting_orders=5)
    store.close()


@pytest.mark.parametrize("name", sorted(SCENARIOS))
def test_the_ledger_refuses_in_words_of_its_own(book: Book, name: str) -> None:
    async def scenario() -> None:
        a, b = await book.two_sides()
        with pytest.raises(DaichoError) as refused:
            await SCENARIOS[name](book, a, b)
        assert type(refused.value) is TREE[name]
        assert refused.value.message

    run(scenario())
    book.audit()


def test_no_refusal_of_the_tree_is_left_out() -> None:
    leaves = set(TREE) - INNER
    assert set(SCENARIOS) | set(ELSEWHERE) == leaves | RAISED_INNER


# -- more ways to the same refusals ----------------------------------------------------------------------------------


def test_a_signature_of_another_book_chain_or_contract_is_by_nobody_we_know(book: Book) -> None:
    async def scenario() -> None:
        for code in ("aozora", "kita"):
            await book.company(code)
        own = await book.user("aozora", custody="own")
        unsigned = record(trade=trade_id())
        message = book.ledger.authorship.message_of(book.order(own, unsigned), "0x" + "11" * 32, int(book.wall()) + 60)
        value = own.key.sign(message, origin="daicho.invalid/another")
        foreign = c.ClientSignature(message.deadline, message.nonce, value)
        with pytest.raises(errors.WrongSigner):
            await book.do(own, record(trade=trade_id(), signature=foreign))
        with pytest.raises(errors.WrongSigner):  # signed for another trade
            await book.do(own, record(trade=trade_id(1), signature=book.signed(own, unsigned).signature))
        with pytest.raises(errors.SignatureMissing):
            book.ledger.authorship.message_of(book.order(own, c.FreezeWallet(wallet=own.wallet, reason="r")), "", 0)

    run(scenario())


def test_a_wallet_of_another_company_signs_nothing_for_us(book: Book) -> None:
    async def scenario() -> None:
        a, b = await book.two_sides()
        with pytest.raises(errors.NotYourCompany):
            await book.do(a, record(wallet=b.wallet))
        with pytest.raises(errors.WalletNotFound):
            await book.do(OPERATOR, record())
        with pytest.raises(errors.NotYourCompany):  # a third company's trade
            await book.do((await book.two_more())[0], record())

    run(scenario())


def test_a_rotated_away_key_and_a_replayed_rotation_are_refused(book: Book) -> None:
    async def scenario() -> None:
        for code in ("aozora", "kita"):
            await book.company(code)
        own = await book.user("aozora", custody="own")
        old_signature = book.signed(own, record(trade=trade_id()))
        rotation = book.rotation(own, Key("new"))
        await book.do(own, rotation, "rotate")
        assert (await book.do(own, rotation, "rotate")).hit
        with pytest.raises(errors.WrongSigner):
            await book.do(own, rotation, "again")
        with pytest.raises(errors.WrongSigner):
            await book.do(own, old_signature)
        renewed = Party(own.actor, Key("new"))
        await book.do(renewed, book.signed(renewed, record(trade=trade_id())))
        forged = book.rotation(renewed, Key("third"))
        proofs: dict[str, Any] = {"signature": forged.signature, "new_signature": forged.new_signature}
        with pytest.raises(errors.WrongSigner):  # the new key did not sign its own rotation
            await book.do(renewed, c.RotateKey(wallet=own.wallet, new=Key("x").address, **proofs))
        with pytest.raises(errors.WrongState, match="the new key is the current one"):
            await book.do(renewed, book.rotation(renewed, Key("new")))
        with pytest.raises(errors.WalletNotFound):
            await book.do(renewed, c.RotateKey(wallet=trade_id(), new=forged.new, **proofs))

    run(scenario())
    book.audit()


def test_a_proof_of_possession_is_by_the_wallets_key_and_in_time(book: Book) -> None:
    async def scenario() -> None:
        await book.company("aozora")
        key, subject = Key("a"), "ab" * 16
        party = Party(c_actor(subject), key)
        data = {"company": "aozora", "custody": "own", "address": key.address}

        def opening(proof: c.ClientSignature) -> c.OpenWallet:
            return c.OpenWallet(subject=subject, company="aozora", address=key.address, custody="own", signature=proof)

        by_other = book.proof(Key("other"), "WalletOpened", party.wallet, party.wallet, data)
        with pytest.raises(errors.WrongSigner):
            await book.do(party, opening(by_other))
        expired = book.proof(key, "WalletOpened", party.wallet, party.wallet, data, deadline=1)
        with pytest.raises(errors.SignatureExpired):
            await book.do(party, opening(expired))
        proof = book.proof(key, "WalletOpened", party.wallet, party.wallet, data)
        with pytest.raises(errors.NotYourCompany):
            await book.do(Party(c_actor(subject, "kita"), key), opening(proof))
        await book.do(OPERATOR, opening(proof))
        with pytest.raises(errors.AlreadyExists):
            await book.do(party, opening(proof))

    run(scenario())
    book.audit()


def test_an_address_is_the_same_in_upper_and_lower_case(book: Book) -> None:
    async def scenario() -> None:
        for code in ("aozora", "kita"):
            await book.company(code)
        key, subject = Key("lower"), "cd" * 16
        party = Party(c_actor(subject), key)
        address = key.address.lower()
        data = {"company": "aozora", "custody": "own", "address": address}
        proof = book.proof(key, "WalletOpened", party.wallet, party.wallet, data)
        opening = c.OpenWallet(subject=subject, company="aozora", address=address, custody="own", signature=proof)
        await book.do(party, opening)
        await book.do(party, book.signed(party, record(trade=trade_id())))

    run(scenario())


def test_a_deadline_that_passes_between_signing_and_storing_is_still_refused(book: Book) -> None:
    async def scenario() -> None:
        for code in ("aozora", "kita"):
            await book.company(code)
        own = await book.user("aozora", custody="own")
        signed = book.signed(own, record(trade=trade_id()))
        assert signed.signature
        book.wall.shift = 30
        book.ledger.authorship.clock = lambda: 0.0
        late = book.signed(own, record(trade=trade_id()), deadline=int(book.wall()) - 10)
        with pytest.raises(errors.SignatureExpired):
            await book.do(own, late)

    run(scenario())


def test_the_batch_signature_of_one_bulk_covers_no_other(book: Book) -> None:
    async def scenario() -> None:
        for code in ("aozora", "kita"):
            await book.company(code)
        own = await book.user("aozora", custody="own")
        line = record(trade=trade_id())
        message = book.ledger.authorship.message_of(book.order(own, line), "0x" + "00" * 32, 0)
        root = batch_root([signed_content(message.event_type, message.aggregate_id, message.data)]).hex()
        data = {"wallet": own.wallet, "company": "aozora", "root": root, "count": 1}
        proof = book.proof(own.key, "BatchSigned", own.wallet, trade_id(9), data)
        other = c.ClientBatch(batch=trade_id(9), root="11" * 32, count=1, signature=proof)
        assert names(await book.ledger.execute_batch([book.order(own, line)], "atomic", other)) == ["SignatureInvalid"]

    run(scenario())


def test_days_and_amounts_of_a_settlement_are_those_of_the_command(book: Book) -> None:
    async def scenario() -> None:
        a, b = await book.two_sides()
        trade = await confirmed(book, a, b)
        day = dt.date(2027, 2, 28)
        await book.do(a, c.SettleTrade(trade=trade, amount=Money("JPY", "999"), settled_on=day))

    run(scenario())
    data = book.audit()[-1]["data"]
    assert (data["amount"], data["settled_on"], data["by"]) == (
        {"currency": "JPY", "units": "999"},
        "2027-02-28",
        "aozora",
    )


def c_actor(subject: str, company: str = "aozora") -> Any:
    return type(OPERATOR)(company, subject)

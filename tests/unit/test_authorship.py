"""Authorship: what is signed is what is stored; whoever has no right to sign is told so before anybody signs."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from domain import commands as c
from domain import errors
from domain.authorship import CONTENTS, CUSTODIAL_SECONDS, batch_root, terms_of
from domain.orders import Order
from domain.signature import Signature, require_live, same_address
from domain.typed_data import PRIMARY_TYPES, signed_content, terms_digest
from merkle.hashing import EMPTY_ROOT
from tests.event_stores import SqliteStore
from tests.ledger_kit import OPERATOR, Book, Key, record, run, settle, trade_id
from tests.merkle_reference import ReferenceTree
from tests.merkle_reference import leaf as reference_leaf


@pytest.fixture
def book(tmp_path: Path) -> Iterator[Book]:
    store = SqliteStore(tmp_path)
    yield store.open()
    store.close()


def test_every_trade_command_but_the_first_has_a_signed_content() -> None:
    assert set(CONTENTS) == set(c.TRADE_COMMANDS) - {c.RecordTrade}
    assert {event for event, _ in CONTENTS.values()} | {"TradeRecorded"} == {
        event for event in PRIMARY_TYPES if event.startswith("Trade")
    }


def test_each_event_is_signed_as_it_is_then_stored(book: Book) -> None:
    """The audit recovers every signature from the stored entry; here each kind of command is among them."""

    async def scenario() -> None:
        for code in ("aozora", "kita"):
            await book.company(code)
        a, b = await book.user("aozora", custody="own"), await book.user("kita")
        await book.do(a, book.signed(a, record(trade=trade_id(), lines=(c.TradeLine("品", "1.5", "600"),))))
        attached = (c.TradeAttachment("a.pdf", "00" * 32),)
        await book.do(b, c.AddNote(trade=trade_id(), note="届いた", attachments=attached))
        await book.do(a, book.signed(a, c.DisputeTrade(trade=trade_id(), reason="r")))
        await book.do(a, book.signed(a, c.WithdrawDispute(trade=trade_id(), reason="r")))
        await book.do(b, c.ConfirmTrade(trade=trade_id()))
        await book.do(b, c.ProposeReversal(trade=trade_id(), reason="r"))
        await book.do(a, book.signed(a, c.ReverseTrade(trade=trade_id(), reason="r")))
        await book.do(b, record("kita", "aozora", reference="back", trade=trade_id(1)))
        await book.do(a, book.signed(a, c.ConfirmTrade(trade=trade_id(1))))
        amount = settle(trade_id(1), 5).amount
        proposal = c.ProposeSettlement(trade=trade_id(1), amount=amount, settled_on=settle(trade_id(1), 5).settled_on)
        await book.do(a, book.signed(a, proposal))
        await book.do(b, settle(trade_id(1), 5))

    run(scenario())
    stored = {entry["type"] for entry in book.audit()}
    assert {event for event in PRIMARY_TYPES if event.startswith("Trade")} <= stored


def test_a_custodial_signature_names_the_wallets_key_and_lives_for_an_hour(book: Book) -> None:
    async def scenario() -> None:
        a, _ = await book.two_sides()
        await book.do(a, record())
        (message,) = book.custodian.signed
        assert (message.wallet, message.address) == (a.wallet, a.key.address)
        assert abs(message.deadline - book.wall() - CUSTODIAL_SECONDS) < 60

    run(scenario())


def test_nothing_is_asked_of_the_signer_that_is_refused_anyway(book: Book) -> None:
    async def scenario() -> None:
        a, b = await book.two_sides()
        own = await book.user("kita", "own", custody="own")
        refused = [
            book.order(OPERATOR, record()),
            book.order(a, record(wallet=trade_id())),
            book.order(a, record(wallet=b.wallet)),
            book.order(a, c.ConfirmTrade(trade=trade_id())),
            book.order(own, record()),
        ]
        answers = await book.ledger.authorship.sign(refused)
        assert [type(answer).__name__ for answer in answers] == [
            "WalletNotFound",
            "WalletNotFound",
            "NotYourCompany",
            "TradeNotFound",
            "SignatureMissing",
        ]
        assert "sign the user up first" in str(answers[0])
        assert book.custodian.signed == []

    run(scenario())


def test_a_wallet_of_the_company_may_be_named(book: Book) -> None:
    async def scenario() -> None:
        a, _ = await book.two_sides()
        other = await book.user("aozora", "second")
        await book.do(a, record(wallet=other.wallet))
        assert book.audit()[-1]["data"]["signature"]["wallet"] == other.wallet

    run(scenario())


def test_a_trade_command_nobody_knows_is_a_defect_and_says_so(book: Book) -> None:
    class Bless(c.TradeCommand, frozen=True, kw_only=True, tag=True):
        """A command that was forgotten in the table."""

    async def scenario() -> None:
        a, _ = await book.two_sides()
        with pytest.raises(TypeError, match="Bless"):
            await book.ledger.authorship.sign([book.order(a, Bless())])

    run(scenario())


def test_an_order_signed_again_keeps_its_trade_and_changes_its_nonce(book: Book) -> None:
    async def scenario() -> None:
        a, _ = await book.two_sides()
        order: Order = book.order(a, record())
        seen = set()
        for _ in range(3):
            assert await book.ledger.authorship.sign([order]) == [None]
            assert order.signature is not None
            seen.add((order.trade_id, order.signature.nonce))
        assert len({trade for trade, _ in seen}) == 1
        assert len({nonce for _, nonce in seen}) == 3

    run(scenario())


def test_the_terms_that_are_signed_are_those_of_the_command() -> None:
    command = record(lines=(c.TradeLine("品", "1", "2"),))
    terms = terms_of(command, "aozora")
    data = {
        "seller": "aozora", "buyer": "kita", "recorded_by": "aozora", "amount": {"currency": "JPY", "units": "1000"},
        "traded_on": "2026-11-20", "due_on": "2026-12-31", "description": "りんご 20 箱",
        "lines": [{"item": "品", "quantity": "1", "unit_price": "2"}], "reference": "R-1",
    }  # fmt: skip
    assert terms.digest() == terms_digest(data)


@pytest.mark.parametrize("count", [1, 2, 3, 7, 8, 130])
def test_a_batchs_root_is_that_of_rfc_6962(count: int) -> None:
    contents = [signed_content("TradeConfirmed", str(number), {"by": "a"}) for number in range(count)]
    leaves = [reference_leaf(content) for content in contents]
    assert batch_root(contents) == ReferenceTree(leaves).root(0, count)
    assert batch_root([]) == EMPTY_ROOT


def test_a_deadline_counts_to_its_last_second() -> None:
    require_live(100, 100.0)
    with pytest.raises(errors.SignatureExpired) as refused:
        require_live(100, 100.001)
    assert refused.value.values == {"deadline": 100}


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [("0xAb", "0xab", True), ("0xab", "0xab", True), ("0xab", "0xac", False), (None, "0xab", False)],
)
def test_addresses_differ_in_more_than_case(one: Any, other: str, same: bool) -> None:
    assert same_address(one, other) is same


def test_a_signature_is_of_its_own_or_a_place_in_a_batch() -> None:
    assert Signature("w").own
    assert not Signature("w", batch="b", index=0).own


def test_keys_of_tests_are_real_keys() -> None:
    assert Key("a").address != Key("b").address

"""Companies, wallets, batches and the book: their states, and events that follow each other without a gap."""

from typing import Any

import pytest

from domain.aggregate import Aggregate, Event, event_of
from domain.batch import Batch
from domain.book import Book, PreviousHead
from domain.company import Company
from domain.errors import CompanySuspended, NotYourCompany, VersionMismatch, WalletNotActive, WrongSigner, WrongState
from domain.ids import anchor_id, book_id, company_id, wallet_id
from domain.signature import Signature
from domain.wallet import Wallet

ADDRESS, OTHER = "0x" + "aB" * 20, "0x" + "cD" * 20
SIGNED = Signature("w", address=ADDRESS, deadline=1, nonce="0x" + "00" * 32, value="0x" + "00" * 65)


def replayed(aggregate: Aggregate) -> Any:
    copy: Any = None
    for event in aggregate.collect_events():
        copy = event.mutate(copy)
    return copy


def slots(aggregate: Any) -> dict[str, Any]:
    found = [name for kind in type(aggregate).__mro__ for name in getattr(kind, "__slots__", ()) if name != "_pending"]
    return {name: getattr(aggregate, name) for name in found}


def test_a_company_is_suspended_and_resumed_and_not_twice() -> None:
    company = Company.register("aozora", "Aozora Foods")
    company.require_active()
    with pytest.raises(WrongState):
        company.resume("why")
    company.suspend("unpaid")
    with pytest.raises(CompanySuspended):
        company.require_active()
    with pytest.raises(WrongState):
        company.suspend("again")
    company.resume("paid")
    company.require_active()
    assert (company.id, company.version, company.name) == (company_id("aozora"), 3, "Aozora Foods")
    assert slots(replayed(company)) == slots(company)


def open_wallet() -> Wallet:
    return Wallet.open("ab" * 16, "aozora", ADDRESS, "own", SIGNED)


def test_a_wallet_is_frozen_unfrozen_and_closed_for_good() -> None:
    wallet = open_wallet()
    with pytest.raises(WrongState):
        wallet.unfreeze("why")
    wallet.freeze("lost")
    for refused in (
        wallet.require_active,
        lambda: wallet.freeze("again"),
        lambda: wallet.rotate(OTHER, SIGNED, SIGNED),
    ):
        with pytest.raises(WalletNotActive):
            refused()
    wallet.unfreeze("found")
    wallet.require_signer("aozora", SIGNED)
    wallet.freeze("lost")
    wallet.close("gone")
    with pytest.raises(WrongState):
        wallet.close("again")
    with pytest.raises(WrongState):
        wallet.unfreeze("please")
    assert (wallet.id, wallet.state, wallet.version) == (wallet_id("aozora", "ab" * 16), "closed", 5)
    assert slots(replayed(wallet)) == slots(wallet)


def test_after_a_rotation_only_the_new_key_signs() -> None:
    wallet = open_wallet()
    with pytest.raises(WrongState, match="current one"):
        wallet.rotate(ADDRESS.lower(), SIGNED, SIGNED)
    wallet.rotate(OTHER, SIGNED, SIGNED)
    with pytest.raises(WrongSigner) as refused:
        wallet.require_signer("aozora", SIGNED)
    assert refused.value.values == {"wallet": wallet.id, "expected": OTHER, "given": ADDRESS}
    wallet.require_signer("aozora", Signature("w", address=OTHER.lower()))
    wallet.require_signer("aozora", Signature("w", batch="b", index=0))
    with pytest.raises(NotYourCompany):
        wallet.require_signer("kita", SIGNED)
    assert slots(replayed(wallet)) == slots(wallet)


def test_a_signature_without_an_address_is_nobodys() -> None:
    with pytest.raises(WrongSigner):
        open_wallet().require_signer("aozora", Signature("w"))


def test_a_batch_and_a_book_are_what_their_first_event_says() -> None:
    batch = Batch.sign("b", "aozora", "00" * 32, 3, SIGNED)
    assert (batch.wallet, batch.root, batch.count, batch.version) == ("w", "00" * 32, 3, 1)
    assert slots(replayed(batch)) == slots(batch)
    head = PreviousHead("old", 7, "00" * 32)
    book = Book.open("log", chain_id=5, contract=ADDRESS, log_key="k", promise_key="p", previous=head)
    assert (book.id, book.chain_id, book.contract) == (book_id("log"), 5, ADDRESS)
    event: Any = book.collect_events()[0]
    assert event.previous == head


def test_ids_of_natural_keys_never_change() -> None:
    """Fixed by the entry format: a reader finds a company by its code in any log."""
    assert company_id("aozora") == "2282f712-cd56-5fd4-938d-7f3e4d90a5cc"
    assert wallet_id("aozora", "ab" * 16) == "45039139-b776-58a2-a1b2-ce7e0e7b10d0"
    assert book_id("daicho.invalid/x") == "61555c80-3c76-592a-8e16-13b24f9a1838"
    assert anchor_id(1, ADDRESS, OTHER, 7) == anchor_id(1, ADDRESS.lower(), OTHER.lower(), 7)


def test_a_version_may_be_expected() -> None:
    company = Company.register("aozora", "A")
    company.expect_version(None)
    company.expect_version(1)
    with pytest.raises(VersionMismatch):
        company.expect_version(2)


@pytest.mark.parametrize(("aggregate_id", "version"), [("other", 2), ("", 1), ("", 3), ("", 4)])
def test_an_event_that_does_not_follow_is_refused(aggregate_id: str, version: int) -> None:
    company = Company.register("aozora", "A")
    company.suspend("r")
    _, suspended = company.collect_events()
    stands_at_one: Any = Company.register("aozora", "A")
    suspended.place(aggregate_id or company.id, version)
    if (aggregate_id, version) == ("", 2):
        suspended.mutate(stands_at_one)
        return
    with pytest.raises(ValueError, match="does not follow"):
        suspended.mutate(stands_at_one)


def test_a_first_event_has_version_one() -> None:
    (registered,) = Company.register("aozora", "A").collect_events()
    registered.place(registered.aggregate_id, 2)
    with pytest.raises(ValueError, match="does not follow"):
        registered.mutate(None)


def test_an_event_type_is_defined_once_and_says_what_it_changes() -> None:
    with pytest.raises(TypeError, match="CompanyRegistered is defined twice"):

        @event_of(Company)
        class CompanyRegistered(Event):
            """Another one of that name."""

    with pytest.raises(NotImplementedError):
        Event().apply(None)


def test_collected_events_are_handed_out_once() -> None:
    company = Company.register("aozora", "A")
    assert [event.TYPE for event in company.collect_events()] == ["CompanyRegistered"]
    assert company.collect_events() == []

"""Purchases, bindings and cases in the ledger, on both stores: two processes meet in one saga, two persons decide."""

from typing import Any

import pytest

from domain import purchase_commands as p
from domain.case import CaseKind, CaseState
from domain.entry import Actor
from domain.errors import (
    AskFirst,
    IdentityNotFound,
    LineTaken,
    NothingNew,
    OperatorOnly,
    OutcomeNotAllowed,
    PersonNeeded,
    SecondPersonNeeded,
    VersionMismatch,
    WrongState,
)
from domain.ids import case_id, identity_id, purchase_id, subscription_id
from domain.purchase import Origin
from domain.purchase_table import Action, EndReason, Outcome, Step
from domain.store_identity import Binding
from domain.store_notification import Store, StoreEnvironment
from tests.event_stores import SqliteStore
from tests.ledger_kit import OPERATOR, Book, names, run

GOOGLE, PRODUCTION = Store.GOOGLE, StoreEnvironment.PRODUCTION
LINE = subscription_id(GOOGLE, PRODUCTION, "token")
PURCHASE, IDENTITY = purchase_id(LINE), identity_id(LINE)
CASE = case_id("saga_parked", PURCHASE, 1)
ANN, BOB = "aa" * 16, "bb" * 16
FIRST, SECOND = Actor("", "11" * 16), Actor("", "22" * 16)
OPEN = p.OpenCase(kind=CaseKind.SAGA_PARKED, about=PURCHASE, number=1, reason="no answer", evidence=("ab" * 32, "17"))


def told(user: str | None = ANN, payload: str = "ab" * 32, origin: Origin = Origin.CLIENT) -> p.AcceptPurchase:
    return p.AcceptPurchase(
        subscription=LINE, store=GOOGLE, environment=PRODUCTION, user=user, product="monthly", payload=payload,
        origin=origin,
    )  # fmt: skip


def reported(step: Step, outcome: Outcome = Outcome.OK, **more: Any) -> p.ReportStep:
    return p.ReportStep(purchase=PURCHASE, round=1, step=step, outcome=outcome, **more)


def do(book: Book, *commands: Any, by: Actor = OPERATOR) -> None:
    for command in commands:
        run(book.do(by, command))


def loaded(book: Book, aggregate_id: str) -> Any:
    return book.ledger.load_at(aggregate_id)


@pytest.fixture
def book(store: SqliteStore) -> Book:
    return store.open()


def test_a_client_and_a_notification_meet_in_one_purchase(store: SqliteStore, book: Book) -> None:
    another = store.open()
    do(book, told(None, origin=Origin.NOTIFICATION))
    do(another, told())
    with pytest.raises(NothingNew):
        do(book, told())
    with pytest.raises(LineTaken):
        do(book, told(BOB))
    assert loaded(book, PURCHASE).user == loaded(another, PURCHASE).user == ANN
    assert [entry["type"] for entry in book.audit()] == ["PurchaseAccepted", "PurchaseUserNamed"]
    assert b"token" not in b"".join(state for _, state in book.records()), "no id of a store's is in the log"


def test_two_that_begin_at_once_begin_one_purchase(store: SqliteStore, book: Book) -> None:
    orders = [book.order(OPERATOR, told(payload=digit * 64)) for digit in "abc"]
    assert names(run(book.ledger.execute_each(orders))) == ["done", "NothingNew", "NothingNew"]
    assert names(run(store.open().ledger.execute_each([book.order(OPERATOR, told())]))) == ["NothingNew"]


def test_of_workers_in_two_processes_one_may_post(store: SqliteStore, book: Book) -> None:
    another = store.open()
    do(book, told(), reported(Step.VERIFY), reported(Step.BIND))
    assert loaded(another, PURCHASE).state is Step.START
    request = p.RequestContract(purchase=PURCHASE, round=1, attempt=1)
    do(book, request)
    with pytest.raises(NothingNew):
        do(another, request)
    again = p.RequestContract(purchase=PURCHASE, round=1, attempt=2)
    with pytest.raises(AskFirst):
        do(another, again)
    do(another, p.RequestContract(purchase=PURCHASE, round=1, attempt=2, asked=True))
    do(book, reported(Step.START, contract="K-1"))
    with pytest.raises(NothingNew):
        do(another, reported(Step.START, contract="K-1"))
    assert (loaded(another, PURCHASE).state, loaded(another, PURCHASE).contract) == (Step.ACTIVATE, "K-1")


def test_the_end_of_a_line_is_recorded_once(book: Book) -> None:
    do(book, told(), reported(Step.VERIFY))
    over = p.EndPurchase(purchase=PURCHASE, reason=EndReason.REFUNDED)
    do(book, over)
    with pytest.raises(NothingNew):
        do(book, over)
    assert loaded(book, PURCHASE).state is Step.UNBIND


def test_a_line_is_the_first_users_until_people_say_otherwise(store: SqliteStore, book: Book) -> None:
    another = store.open()
    release = p.ReleaseIdentity(subscription=LINE, user=ANN, reason="compensated")
    with pytest.raises(IdentityNotFound):
        do(book, release)
    do(book, p.ClaimIdentity(subscription=LINE, user=ANN))
    do(another, p.ClaimIdentity(subscription=LINE, user=BOB))
    for command in (
        p.ClaimIdentity(subscription=LINE, user=ANN),
        p.ProveIdentity(subscription=LINE, user=BOB),
        p.ReleaseIdentity(subscription=LINE, user=BOB, reason="r"),
    ):
        with pytest.raises(NothingNew):
            do(another, command)
    do(book, p.ProveIdentity(subscription=LINE, user=ANN))
    assert (loaded(another, IDENTITY).user, loaded(another, IDENTITY).binding) == (ANN, Binding.PROVEN)
    transfer = p.TransferIdentity(subscription=LINE, before=ANN, after=BOB, reason="one family")
    with pytest.raises(VersionMismatch):
        run(book.do(OPERATOR, transfer, expected=1))
    do(book, transfer)
    with pytest.raises(NothingNew):
        do(another, transfer)
    do(another, p.ReleaseIdentity(subscription=LINE, user=BOB, reason="r"))
    assert [entry["type"] for entry in book.audit()] == [
        "IdentityClaimed", "IdentityConflicted", "IdentityProven", "IdentityTransferred", "IdentityReleased",
    ]  # fmt: skip


def test_a_proof_of_a_line_that_nobody_has_claimed_binds_it(book: Book) -> None:
    do(book, p.ProveIdentity(subscription=LINE, user=ANN))
    assert (loaded(book, IDENTITY).user, loaded(book, IDENTITY).subscription) == (ANN, LINE)


def test_what_is_parked_goes_on_when_two_persons_have_decided(store: SqliteStore, book: Book) -> None:
    another = store.open()
    do(book, told(), reported(Step.VERIFY, Outcome.GIVE_UP, detail="the store did not answer"), OPEN)
    with pytest.raises(NothingNew):
        do(another, OPEN)
    decide = p.DecidePurchase(purchase=PURCHASE, case=CASE, action=Action.RETRY)
    retry = p.ApproveCaseAction(case=CASE, action=Action.RETRY)
    do(book, p.ProposeCaseAction(case=CASE, action=Action.SKIP, reason="seen by hand"), by=FIRST)
    do(book, p.WithdrawCaseAction(case=CASE), by=SECOND)
    do(book, p.ProposeCaseAction(case=CASE, action=Action.RETRY), by=FIRST)
    with pytest.raises(SecondPersonNeeded):
        do(another, retry, by=FIRST)
    with pytest.raises(VersionMismatch):
        run(another.do(SECOND, retry, expected=2))
    with pytest.raises(WrongState):
        do(book, decide)
    do(another, retry, by=SECOND)
    with pytest.raises(WrongState, match="not what was approved"):
        do(book, p.DecidePurchase(purchase=PURCHASE, case=CASE, action=Action.COMPENSATE))
    do(book, decide)
    with pytest.raises(OutcomeNotAllowed):
        do(another, decide)
    do(another, p.CloseCase(case=CASE, action=Action.RETRY))
    with pytest.raises(NothingNew):
        do(book, p.CloseCase(case=CASE, action=None))
    assert loaded(book, PURCHASE).state is Step.VERIFY
    assert (loaded(book, CASE).state, loaded(book, CASE).proposed_by) == (CaseState.CLOSED, FIRST.subject)


@pytest.mark.parametrize("subject", ["0" * 32, "system", "AA" * 16])
def test_no_program_speaks_for_a_person(book: Book, subject: str) -> None:
    do(book, OPEN)
    for command in (
        p.ProposeCaseAction(case=CASE, action=Action.RETRY),
        p.ApproveCaseAction(case=CASE, action=Action.RETRY),
        p.WithdrawCaseAction(case=CASE),
    ):
        with pytest.raises(PersonNeeded):
            do(book, command, by=Actor("", subject))


@pytest.mark.parametrize(
    "command",
    [
        told(),
        reported(Step.VERIFY),
        p.RequestContract(purchase=PURCHASE, round=1, attempt=1),
        p.EndPurchase(purchase=PURCHASE, reason=EndReason.EXPIRED),
        p.DecidePurchase(purchase=PURCHASE, case=CASE, action=Action.RETRY),
        p.ClaimIdentity(subscription=LINE, user=ANN),
        p.ProveIdentity(subscription=LINE, user=ANN),
        p.TransferIdentity(subscription=LINE, before=ANN, after=BOB, reason="r"),
        p.ReleaseIdentity(subscription=LINE, user=ANN, reason="r"),
        OPEN,
        p.ProposeCaseAction(case=CASE, action=Action.RETRY),
        p.ApproveCaseAction(case=CASE, action=Action.RETRY),
        p.WithdrawCaseAction(case=CASE),
        p.CloseCase(case=CASE, action=None),
    ],
    ids=lambda command: type(command).__name__,
)
def test_no_company_asks_for_any_of_it(book: Book, command: Any) -> None:
    with pytest.raises(OperatorOnly):
        do(book, command, by=Actor("aozora", "11" * 16))
    assert book.records() == []

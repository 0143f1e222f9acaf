"""A purchase: one saga a line, whoever tells of it; rounds; one worker posts; people decide on what is parked."""

from typing import Any

import pytest

from domain.errors import AskFirst, LineTaken, Malformed, OutcomeNotAllowed
from domain.ids import purchase_id, subscription_id
from domain.purchase import Origin, PurchaseSaga, Request
from domain.purchase_table import Action, EndReason, Outcome, Step
from domain.store_notification import Store, StoreEnvironment

LINE = subscription_id("google", "production", "token")
ANN, BOB = "aa" * 16, "bb" * 16
OK = Outcome.OK
FORWARD = (Step.VERIFY, Step.BIND, Step.START, Step.ACTIVATE, Step.ACKNOWLEDGE, Step.PUBLISH)


def by_client(payload: str = "p1", user: str | None = ANN, product: str = "monthly") -> Request:
    return Request(Origin.CLIENT, user, product, payload)


def by_store(payload: str = "n1", user: str | None = None, product: str = "monthly") -> Request:
    return Request(Origin.NOTIFICATION, user, product, payload)


def new(request: Request | None = None, at: Step = Step.VERIFY) -> PurchaseSaga:
    """A purchase that has come as far as the step `at`."""
    purchase = PurchaseSaga.accept(LINE, Store.GOOGLE, StoreEnvironment.PRODUCTION, request or by_client())
    for step in FORWARD[: (*FORWARD, Step.DONE).index(at)]:
        if step is Step.START:
            assert purchase.request_contract(purchase.round, 1, asked=False)
        assert say(purchase, step)
    return purchase


def say(purchase: PurchaseSaga, step: Step, outcome: Outcome = OK, number: int = 0) -> bool:
    contract = f"K{number or purchase.round}" if (step, outcome) == (Step.START, OK) else None
    return purchase.report(number or purchase.round, step, outcome, "", contract)


def types(purchase: PurchaseSaga) -> list[str]:
    return [event.TYPE for event in purchase.collect_events()]


def undone(purchase: PurchaseSaga) -> PurchaseSaga:
    for step in (Step.CANCEL_CONTRACT, Step.UNBIND, Step.GIVE_BACK):
        say(purchase, step)
    assert purchase.state is Step.COMPENSATED
    return purchase


def ended(purchase: PurchaseSaga) -> PurchaseSaga:
    assert purchase.end(EndReason.EXPIRED)
    assert say(purchase, Step.END_CONTRACT)
    assert purchase.state is Step.ENDED
    return purchase


# -- who tells of it -------------------------------------------------------------------------------------------------


def test_a_line_has_one_purchase_whoever_tells_of_it_first() -> None:
    purchase = new(by_store())
    assert purchase.id == purchase_id(LINE)
    assert (purchase.subscription, purchase.store, purchase.environment) == (
        LINE, Store.GOOGLE, StoreEnvironment.PRODUCTION,
    )  # fmt: skip
    assert (purchase.round, purchase.state, purchase.origin, purchase.user) == (
        1, Step.VERIFY, Origin.NOTIFICATION, None,
    )  # fmt: skip
    assert purchase.contract_key == f"{purchase.id}:1"


@pytest.mark.parametrize("at", [Step.VERIFY, Step.START, Step.PUBLISH, Step.DONE])
def test_the_same_again_is_nothing_new(at: Step) -> None:
    purchase = new(at=at)
    purchase.collect_events()
    assert not purchase.join(by_client())
    assert not purchase.join(by_client("p2"))
    assert types(purchase) == []


def test_a_client_brings_the_user_whom_the_store_did_not_know() -> None:
    purchase = new(by_store())
    purchase.collect_events()
    assert purchase.join(by_client())
    assert not purchase.join(by_client())
    assert purchase.user == ANN
    assert types(purchase) == ["PurchaseUserNamed"]


def test_a_purchase_that_was_parked_for_want_of_a_user_goes_on_when_he_is_named() -> None:
    purchase = new(by_store(), at=Step.BIND)
    with pytest.raises(OutcomeNotAllowed, match="nobody is known"):
        say(purchase, Step.BIND)
    say(purchase, Step.BIND, Outcome.GIVE_UP)
    purchase.collect_events()
    assert purchase.join(by_client())
    assert (purchase.state, purchase.waiting, purchase.times_parked) == (Step.BIND, None, 1)
    assert types(purchase) == ["PurchaseUserNamed", "PurchaseMoved"]


@pytest.mark.parametrize("at", [Step.VERIFY, Step.START, Step.DONE])
def test_nobody_else_joins_a_purchase_that_is_going_on(at: Step) -> None:
    purchase = new(at=at)
    for request in (by_client("p2", BOB), by_store("n2", BOB), by_client("p1", BOB)):
        with pytest.raises(LineTaken) as refused:
            purchase.join(request)
        assert ANN not in str(refused.value.values), "who it is stays between him and us"
    assert purchase.user == ANN


def test_a_stores_word_is_not_lost_by_what_a_client_has_made_up() -> None:
    purchase = new(by_client("forged", BOB))
    assert not purchase.join(by_client("forged again", BOB))
    assert purchase.join(by_store("n1"))
    assert not purchase.join(by_store("n2"))
    assert say(purchase, Step.VERIFY, Outcome.REFUSED)
    assert (purchase.round, purchase.state, purchase.payload) == (2, Step.VERIFY, "n1")


def test_what_the_store_said_meanwhile_of_a_verified_purchase_was_said_of_it() -> None:
    purchase = new()
    assert purchase.join(by_store("n1"))
    say(purchase, Step.VERIFY)
    assert purchase.revival is None
    undone(stopped(purchase, Step.BIND))
    assert purchase.round == 1
    assert not purchase.join(by_store("n1"))


def stopped(purchase: PurchaseSaga, step: Step, action: Action = Action.COMPENSATE) -> PurchaseSaga:
    """Parked at a step, then decided on by people."""
    assert say(purchase, step, Outcome.GIVE_UP)
    purchase.decide(action, "decided")
    return purchase


# -- its steps -------------------------------------------------------------------------------------------------------


def test_a_purchase_goes_step_by_step_to_its_end() -> None:
    purchase = new(at=Step.DONE)
    assert purchase.contract == "K1"
    assert types(purchase) == [
        "PurchaseAccepted", "PurchaseMoved", "PurchaseMoved", "ContractRequested", "ContractFound", "PurchaseMoved",
        "PurchaseMoved", "PurchaseMoved", "PurchaseMoved",
    ]  # fmt: skip


@pytest.mark.parametrize("step", Step)
def test_a_report_of_another_step_or_round_changes_nothing(step: Step) -> None:
    purchase = new(at=Step.ACTIVATE)
    version = purchase.version
    assert not say(purchase, step, number=2)
    assert step is Step.ACTIVATE or not say(purchase, step)
    assert purchase.version == version


def test_a_report_twice_is_one() -> None:
    purchase = new(at=Step.ACTIVATE)
    assert say(purchase, Step.ACTIVATE)
    assert not say(purchase, Step.ACTIVATE)
    assert purchase.state is Step.ACKNOWLEDGE


def test_a_contract_is_named_where_start_is_ok_and_nowhere_else() -> None:
    purchase = new(at=Step.START)
    for outcome, contract in ((OK, None), (Outcome.REFUSED, "K")):
        with pytest.raises(Malformed):
            purchase.report(1, Step.START, outcome, "", contract)
    with pytest.raises(Malformed):
        new().report(1, Step.VERIFY, OK, "", "K")
    assert (purchase.state, purchase.contract) == (Step.START, None)


def test_people_decide_only_on_what_is_parked_and_machines_only_on_what_is_not() -> None:
    purchase = new(at=Step.START)
    with pytest.raises(OutcomeNotAllowed):
        purchase.decide(Action.SKIP, "")
    with pytest.raises(OutcomeNotAllowed):
        say(purchase, Step.START, Outcome.SKIP)
    say(purchase, Step.START, Outcome.GIVE_UP)
    for outcome in Outcome:
        with pytest.raises(OutcomeNotAllowed):
            purchase.report(1, Step.PARKED, outcome, "", None)
    assert (purchase.state, purchase.waiting, purchase.times_parked) == (Step.PARKED, Step.START, 1)


@pytest.mark.parametrize(
    ("step", "action", "after"),
    [
        (Step.VERIFY, Action.COMPENSATE, Step.UNBIND),
        (Step.BIND, Action.SKIP, Step.START),
        (Step.START, Action.RETRY, Step.START),
        (Step.START, Action.ADOPT, Step.ACTIVATE),
        (Step.PUBLISH, Action.COMPENSATE, Step.CANCEL_CONTRACT),
    ],
)
def test_a_parked_purchase_goes_where_people_send_it(step: Step, action: Action, after: Step) -> None:
    purchase = stopped(new(at=step), step, action)
    assert (purchase.state, purchase.waiting) == (after, None)
    event: Any = purchase.collect_events()[-1]
    assert (event.before, event.outcome, event.after, event.detail) == (Step.PARKED, Outcome(action), after, "decided")


def test_a_cancelled_contract_is_forgotten_and_a_skipped_cancellation_is_not() -> None:
    purchase = stopped(new(at=Step.ACKNOWLEDGE), Step.ACKNOWLEDGE)
    say(purchase, Step.CANCEL_CONTRACT)
    assert purchase.contract is None
    left = stopped(stopped(new(at=Step.ACKNOWLEDGE), Step.ACKNOWLEDGE), Step.CANCEL_CONTRACT, Action.SKIP)
    assert left.contract == "K1"


# -- one worker posts ------------------------------------------------------------------------------------------------


def test_of_two_workers_one_may_post() -> None:
    purchase = new(at=Step.START)
    assert purchase.request_contract(1, 1, asked=False)
    assert not purchase.request_contract(1, 1, asked=False)
    assert not purchase.request_contract(1, 1, asked=True)
    assert purchase.request_contract(1, 2, asked=True)
    assert not purchase.request_contract(1, 2, asked=True)
    assert purchase.attempt == 2


def test_nobody_posts_again_without_asking() -> None:
    purchase = new(at=Step.START)
    purchase.request_contract(1, 1, asked=False)
    with pytest.raises(AskFirst):
        purchase.request_contract(1, 2, asked=False)
    assert purchase.attempt == 1


def test_nobody_posts_for_another_round_or_step_or_leaves_an_attempt_out() -> None:
    purchase = new(at=Step.START)
    assert not purchase.request_contract(2, 1, asked=True)
    assert not purchase.request_contract(1, 2, asked=True)
    assert not new(at=Step.BIND).request_contract(1, 1, asked=True)
    assert not new(at=Step.ACTIVATE).request_contract(1, 2, asked=True)


@pytest.mark.parametrize("how", ["requested", "found", "adopted", "skipped"])
def test_a_reopened_purchase_asks_before_it_posts(how: str) -> None:
    purchase = new(at=Step.START)
    assert not purchase.asked_before
    if how == "requested":
        purchase.request_contract(1, 1, asked=False)
        say(purchase, Step.START, Outcome.REFUSED)
    elif how == "found":
        say(purchase, Step.START)
        say(purchase, Step.ACTIVATE, Outcome.REFUSED)
    else:
        stopped(purchase, Step.START, Action.ADOPT if how == "adopted" else Action.SKIP)
        say(purchase, Step.ACTIVATE, Outcome.REFUSED)
    undone(purchase)
    assert purchase.join(by_store("renewed"))
    for step in (Step.VERIFY, Step.BIND):
        assert say(purchase, step)
    assert (purchase.round, purchase.attempt, purchase.asked_before) == (2, 0, True)
    assert (purchase.contract_key, purchase.earlier_keys) == (f"{purchase.id}:2", (f"{purchase.id}:1",))
    with pytest.raises(AskFirst):
        purchase.request_contract(2, 1, asked=False)
    assert purchase.request_contract(2, 1, asked=True)


# -- the line ends, and lives again ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("at", "after"),
    [
        (Step.VERIFY, Step.VERIFY),
        (Step.BIND, Step.UNBIND),
        (Step.START, Step.CANCEL_CONTRACT),
        (Step.ACTIVATE, Step.CANCEL_CONTRACT),
        (Step.ACKNOWLEDGE, Step.ACKNOWLEDGE),
        (Step.PUBLISH, Step.PUBLISH),
        (Step.DONE, Step.END_CONTRACT),
    ],
)
def test_a_line_that_is_over_turns_its_purchase_back_or_ends_it(at: Step, after: Step) -> None:
    purchase = new(at=at)
    assert purchase.end(EndReason.REVOKED)
    assert (purchase.state, purchase.ending) == (after, EndReason.REVOKED)
    assert not purchase.end(EndReason.EXPIRED)


@pytest.mark.parametrize("at", [Step.ACKNOWLEDGE, Step.PUBLISH])
def test_past_the_pivot_an_end_waits_for_the_purchase_to_be_done(at: Step) -> None:
    purchase = new(at=at)
    purchase.end(EndReason.EXPIRED)
    for step in FORWARD[FORWARD.index(at) :]:
        say(purchase, step)
    assert purchase.state is Step.END_CONTRACT
    assert say(purchase, Step.END_CONTRACT)
    assert (purchase.state, purchase.contract) == (Step.ENDED, None)


def test_a_line_that_was_over_before_it_was_verified_gets_no_contract() -> None:
    purchase = new()
    purchase.end(EndReason.EXPIRED)
    say(purchase, Step.VERIFY)
    undone(purchase)
    assert not purchase.asked_before


def test_an_end_of_what_is_parked_waits_for_people() -> None:
    purchase = new(at=Step.START)
    say(purchase, Step.START, Outcome.GIVE_UP)
    assert purchase.end(EndReason.EXPIRED)
    assert (purchase.state, purchase.waiting) == (Step.PARKED, Step.START)
    with pytest.raises(OutcomeNotAllowed, match="no contract is adopted"):
        purchase.decide(Action.ADOPT, "")
    purchase.decide(Action.RETRY, "")
    assert purchase.state is Step.CANCEL_CONTRACT


def test_an_end_is_remembered_on_the_way_back_too() -> None:
    purchase = new(at=Step.START)
    say(purchase, Step.START, Outcome.REFUSED)
    assert purchase.end(EndReason.REFUNDED)
    assert (purchase.state, purchase.ending) == (Step.CANCEL_CONTRACT, EndReason.REFUNDED)


@pytest.mark.parametrize("over", [Step.ENDED, Step.COMPENSATED, Step.REJECTED])
def test_what_is_over_is_opened_again_by_something_new_and_not_by_a_repeat(over: Step) -> None:
    if over is Step.ENDED:
        purchase = ended(new(at=Step.DONE))
    elif over is Step.COMPENSATED:
        purchase = undone(stopped(new(at=Step.START), Step.START))
    else:
        purchase = new()
        say(purchase, Step.VERIFY, Outcome.REFUSED)
    assert purchase.state is over
    assert not purchase.end(EndReason.EXPIRED)
    assert not purchase.join(by_client())
    purchase.collect_events()
    assert purchase.join(by_store("n2", product="yearly"))
    assert not purchase.join(by_store("n2", product="yearly"))
    (event,) = purchase.collect_events()
    assert (event.reason, event.state) == (over, Step.VERIFY)  # type: ignore[attr-defined]
    assert (purchase.round, purchase.state, purchase.user, purchase.product) == (2, Step.VERIFY, ANN, "yearly")
    assert (purchase.ending, purchase.contract, purchase.payload) == (None, None, "n2")


def test_the_next_round_may_be_another_users_whom_binding_will_judge() -> None:
    purchase = ended(new(at=Step.DONE))
    with pytest.raises(LineTaken):
        purchase.join(by_client("p1", BOB))
    assert purchase.join(by_client("p2", BOB))
    assert purchase.user == BOB
    say(purchase, Step.VERIFY)
    assert say(purchase, Step.BIND, Outcome.CONFLICT)
    assert (purchase.state, purchase.waiting) == (Step.PARKED, Step.BIND)


def test_a_line_that_lives_again_while_its_contract_is_being_ended_gets_its_next_round() -> None:
    purchase = new(at=Step.DONE)
    purchase.end(EndReason.EXPIRED)
    purchase.collect_events()
    assert purchase.join(by_client("p2"))
    assert not purchase.join(by_client("p2"))
    assert not purchase.join(by_client("p3"))
    assert purchase.join(by_store("n1"))
    assert not purchase.join(by_store("n2"))
    assert not purchase.join(by_client("p1"))
    say(purchase, Step.END_CONTRACT)
    assert (purchase.round, purchase.state, purchase.payload) == (2, Step.VERIFY, "n1")
    assert types(purchase) == ["PurchaseReopening", "PurchaseReopening", "PurchaseMoved", "PurchaseReopened"]


def test_a_line_that_is_over_again_gets_no_next_round() -> None:
    purchase = new(at=Step.DONE)
    purchase.end(EndReason.EXPIRED)
    purchase.join(by_store("n1"))
    assert purchase.end(EndReason.REVOKED)
    assert not purchase.end(EndReason.REVOKED)
    say(purchase, Step.END_CONTRACT)
    assert (purchase.round, purchase.state) == (1, Step.ENDED)


def test_nothing_is_given_back_for_a_line_that_lives_again() -> None:
    purchase = new(at=Step.START)
    say(purchase, Step.START, Outcome.REFUSED)
    assert purchase.join(by_store("renewed"))
    say(purchase, Step.CANCEL_CONTRACT)
    say(purchase, Step.UNBIND)
    assert (purchase.round, purchase.state) == (2, Step.VERIFY)

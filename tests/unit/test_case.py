"""A case is settled by two persons: one proposes, another one approves, and only what was approved is done."""

from typing import Any

import pytest

from domain.case import Case, CaseKind, CaseState
from domain.errors import Malformed, SecondPersonNeeded, WrongState
from domain.ids import case_id
from domain.purchase_table import Action

ABOUT = "01938a5e-7c00-7aaa-aaaa-000000000001"
ANN, BOB = "aa" * 16, "bb" * 16


def opened() -> Case:
    return Case.open(CaseKind.GIVE_BACK, ABOUT, 1, "no way to", ("17",))


def proposed(action: Action = Action.COMPENSATE, reason: str = "") -> Case:
    case = opened()
    case.propose(action, reason, ANN)
    return case


def test_a_case_says_what_it_is_about_and_has_a_name_of_its_own() -> None:
    case = opened()
    assert (case.kind, case.about, case.opened_because, case.evidence, case.state) == (
        CaseKind.GIVE_BACK, ABOUT, "no way to", ("17",), CaseState.OPEN,
    )  # fmt: skip
    ids = {case_id(kind, ABOUT, number) for kind in CaseKind for number in (1, 2)}
    assert case.id in ids
    assert len(ids) == 2 * len(CaseKind)


def test_what_one_proposes_another_approves() -> None:
    case = proposed()
    with pytest.raises(SecondPersonNeeded):
        case.approve(Action.COMPENSATE, ANN)
    with pytest.raises(WrongState, match="what was proposed is compensate"):
        case.approve(Action.RETRY, BOB)
    case.approve(Action.COMPENSATE, BOB)
    case.require_approved(Action.COMPENSATE, ABOUT)
    for action, about in ((Action.RETRY, ABOUT), (Action.COMPENSATE, case.id)):
        with pytest.raises(WrongState, match="not what was approved"):
            case.require_approved(action, about)


def test_a_step_is_skipped_for_a_reason_only() -> None:
    for reason in ("", "  "):
        with pytest.raises(Malformed):
            proposed(Action.SKIP, reason)
    assert proposed(Action.SKIP, "done by hand").reason == "done by hand"


def test_a_proposal_that_is_withdrawn_cannot_be_approved() -> None:
    case = proposed()
    case.withdraw(BOB)
    assert (case.state, case.action, case.reason, case.proposed_by) == (CaseState.OPEN, None, "", "")
    with pytest.raises(WrongState):
        case.approve(Action.COMPENSATE, BOB)
    case.propose(Action.RETRY, "", BOB)
    case.approve(Action.RETRY, ANN)


@pytest.mark.parametrize("state", CaseState)
def test_every_move_belongs_to_one_state(state: CaseState) -> None:
    case = opened()
    if state in {CaseState.PROPOSED, CaseState.APPROVED}:
        case.propose(Action.RETRY, "", ANN)
    if state is CaseState.APPROVED:
        case.approve(Action.RETRY, BOB)
    if state is CaseState.CLOSED:
        assert case.close(None)
    assert case.state is state
    moves: list[tuple[CaseState, Any]] = [
        (CaseState.OPEN, lambda: case.propose(Action.RETRY, "", ANN)),
        (CaseState.PROPOSED, lambda: case.approve(Action.RETRY, BOB)),
        (CaseState.PROPOSED, lambda: case.withdraw(ANN)),
        (CaseState.APPROVED, lambda: case.require_approved(Action.RETRY, ABOUT)),
    ]
    for at, move in moves:
        if at is not state:
            version = case.version
            with pytest.raises(WrongState):
                move()
            assert case.version == version


def test_only_what_was_approved_is_closed_as_done() -> None:
    case = proposed()
    with pytest.raises(WrongState):
        case.close(Action.COMPENSATE)
    case.approve(Action.COMPENSATE, BOB)
    with pytest.raises(WrongState):
        case.close(Action.RETRY)
    assert case.close(Action.COMPENSATE)
    assert not case.close(Action.COMPENSATE)
    assert not case.close(None)


def test_the_replay_of_a_case_is_what_it_was() -> None:
    case = proposed()
    case.withdraw(ANN)
    case.propose(Action.SKIP, "by hand", ANN)
    case.approve(Action.SKIP, BOB)
    case.close(Action.SKIP)
    replayed: Any = None
    for event in case.collect_events():
        replayed = event.mutate(replayed)
    for field in (*Case.__slots__, "id", "version"):
        assert getattr(replayed, field) == getattr(case, field)

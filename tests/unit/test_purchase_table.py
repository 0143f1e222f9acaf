"""The table of the purchase saga is complete: each pair of the enums is in it, or refused by name."""

from itertools import product

import pytest

from domain.errors import OutcomeNotAllowed
from domain.purchase_table import (
    DECISIONS,
    ENDINGS,
    OVER,
    REPORTS,
    WAY_BACK,
    WORK,
    Action,
    Outcome,
    Step,
    next_step,
)

MACHINE = {Outcome.OK, Outcome.REFUSED, Outcome.CONFLICT, Outcome.GIVE_UP}
PEOPLE = {Outcome(action) for action in Action}
FORWARD = [Step.VERIFY, Step.BIND, Step.START, Step.ACTIVATE, Step.ACKNOWLEDGE, Step.PUBLISH, Step.DONE]
BACK = [Step.CANCEL_CONTRACT, Step.UNBIND, Step.GIVE_BACK, Step.COMPENSATED]
BEFORE_PIVOT = FORWARD[:4]


def ends(step: Step, outcome: Outcome) -> Step:
    """Where a machine gets to that reports the same of every step."""
    while step in WORK:
        step = next_step(step, outcome)
    return step


def test_an_outcome_is_a_machines_or_peoples() -> None:
    assert set(Outcome) == MACHINE | PEOPLE
    assert not MACHINE & PEOPLE


def test_a_step_is_work_or_the_end_of_it() -> None:
    assert set(Step) == WORK | OVER | {Step.DONE, Step.PARKED}
    assert set(FORWARD) | set(BACK) | {Step.END_CONTRACT, Step.ENDED, Step.REJECTED, Step.PARKED} == set(Step)


@pytest.mark.parametrize(("step", "outcome"), list(product(Step, Outcome)))
def test_every_pair_is_in_the_table_or_refused_by_name(step: Step, outcome: Outcome) -> None:
    if (step, outcome) in REPORTS:
        assert step in WORK
        assert outcome in MACHINE
        assert next_step(step, outcome) is REPORTS[step, outcome]
    else:
        with pytest.raises(OutcomeNotAllowed, match=f"{outcome} is no outcome of {step}"):
            next_step(step, outcome)


@pytest.mark.parametrize(("waiting", "outcome"), list(product(Step, Outcome)))
def test_every_decision_on_what_is_parked_is_in_the_table_or_refused_by_name(waiting: Step, outcome: Outcome) -> None:
    if (waiting, outcome) in DECISIONS:
        assert waiting in WORK
        assert outcome in PEOPLE
        assert next_step(Step.PARKED, outcome, waiting) is DECISIONS[waiting, outcome]
    else:
        with pytest.raises(OutcomeNotAllowed, match=f"{outcome} is no outcome of {waiting}"):
            next_step(Step.PARKED, outcome, waiting)


@pytest.mark.parametrize("step", sorted(WORK))
def test_every_step_can_succeed_and_be_given_up_and_people_can_try_again_or_skip_it(step: Step) -> None:
    assert next_step(step, Outcome.GIVE_UP) is Step.PARKED
    assert next_step(Step.PARKED, Outcome.RETRY, step) is step
    assert next_step(Step.PARKED, Outcome.SKIP, step) is next_step(step, Outcome.OK)
    assert ends(step, Outcome.OK) is {**dict.fromkeys(FORWARD, Step.DONE), **dict.fromkeys(BACK, Step.COMPENSATED)}.get(
        step, Step.ENDED
    )


def test_a_refusal_turns_back_before_the_pivot_and_parks_after_it() -> None:
    found = {step: next_step(step, Outcome.REFUSED) for step in FORWARD[:-1]}
    assert found == {
        Step.VERIFY: Step.REJECTED, Step.BIND: Step.UNBIND, Step.START: Step.CANCEL_CONTRACT,
        Step.ACTIVATE: Step.CANCEL_CONTRACT, Step.ACKNOWLEDGE: Step.PARKED, Step.PUBLISH: Step.PARKED,
    }  # fmt: skip
    assert {next_step(step, Outcome.REFUSED) for step in WAY_BACK} == {Step.PARKED}


def test_a_conflict_of_identity_is_for_people_and_of_binding_only() -> None:
    assert {step: after for (step, outcome), after in REPORTS.items() if outcome is Outcome.CONFLICT} == {
        Step.BIND: Step.PARKED
    }


def test_the_way_back_cancels_wherever_a_contract_may_exist() -> None:
    where = {step for (step, outcome), after in DECISIONS.items() if outcome is Outcome.COMPENSATE}
    assert where == set(FORWARD[:-1])
    entries = {
        (step, outcome): after
        for table in (REPORTS, DECISIONS)
        for (step, outcome), after in table.items()
        if step in FORWARD and after in BACK
    }
    assert all(
        (after is Step.CANCEL_CONTRACT) == (step not in {Step.VERIFY, Step.BIND})
        for (step, _), after in entries.items()
    )


def test_only_a_contract_is_adopted() -> None:
    assert {step: after for (step, outcome), after in DECISIONS.items() if outcome is Outcome.ADOPT} == {
        Step.START: Step.ACTIVATE, Step.CANCEL_CONTRACT: Step.ACTIVATE, Step.END_CONTRACT: Step.ENDED,
    }  # fmt: skip


@pytest.mark.parametrize(("step", "outcome"), sorted(REPORTS))
def test_nothing_new_is_begun_for_a_line_that_is_over(step: Step, outcome: Outcome) -> None:
    after = next_step(step, outcome, over=True)
    assert after is ENDINGS.get(REPORTS[step, outcome], REPORTS[step, outcome])
    assert after not in {Step.BIND, Step.START, Step.ACTIVATE, Step.DONE}


@pytest.mark.parametrize(("waiting", "outcome"), sorted(DECISIONS))
def test_people_begin_nothing_new_for_a_line_that_is_over(waiting: Step, outcome: Outcome) -> None:
    after = DECISIONS[waiting, outcome]
    if (outcome, after) == (Outcome.ADOPT, Step.ACTIVATE):
        with pytest.raises(OutcomeNotAllowed, match="no contract is adopted"):
            next_step(Step.PARKED, outcome, waiting, over=True)
    else:
        found = next_step(Step.PARKED, outcome, waiting, over=True)
        assert found is ENDINGS.get(after, after)
        assert found not in {Step.BIND, Step.START, Step.ACTIVATE, Step.DONE}


def test_nothing_is_given_back_for_a_line_that_lives_again() -> None:
    assert next_step(Step.UNBIND, Outcome.OK, lives=True) is Step.COMPENSATED
    assert next_step(Step.PARKED, Outcome.SKIP, Step.UNBIND, lives=True) is Step.COMPENSATED
    assert next_step(Step.CANCEL_CONTRACT, Outcome.OK, lives=True) is Step.UNBIND

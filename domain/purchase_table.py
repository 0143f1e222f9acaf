"""The purchase saga as a pure table: (step, outcome) gives the next step, or there is no such outcome.

    VERIFY ─▶ BIND ─▶ START ─▶ ACTIVATE ═▶ ACKNOWLEDGE ─▶ PUBLISH ─▶ DONE ─▶ END_CONTRACT ─▶ ENDED
      ▼         ▼        ▼         ▼       (the pivot: from here on only forward)
    REJECTED  UNBIND ◀─ CANCEL_CONTRACT
                └─▶ GIVE_BACK ─▶ COMPENSATED

A step names what is to be done next. Trouble that may pass is no outcome at all: the step is tried again. When attempts
or time are used up the purchase is PARKED, remembers the step, and waits for people. The way back is entered at
CANCEL_CONTRACT from wherever a contract may exist: the billing system is asked there, and there may be none.
"""

from enum import StrEnum
from typing import Final

from domain.errors import OutcomeNotAllowed


class Step(StrEnum):
    """What is to be done next; the last five of them: nothing, by the machine."""

    VERIFY = "verify"  # ask the store whether there is such a purchase
    BIND = "bind"  # bind the line to the user
    START = "start"  # a contract at the billing system; not idempotent there: ask before retry
    ACTIVATE = "activate"  # the subscription is ours from here on: the pivot
    ACKNOWLEDGE = "acknowledge"  # tell the store that it is delivered
    PUBLISH = "publish"
    CANCEL_CONTRACT = "cancel_contract"
    UNBIND = "unbind"
    GIVE_BACK = "give_back"  # the customer's money, as far as the store lets a merchant
    END_CONTRACT = "end_contract"  # the line is over at the store
    DONE = "done"
    ENDED = "ended"
    COMPENSATED = "compensated"
    REJECTED = "rejected"  # the store says that there is no such purchase
    PARKED = "parked"  # waits for people


class Outcome(StrEnum):
    """What has come of a step; the last four: what people have decided on one that is parked."""

    OK = "ok"
    REFUSED = "refused"  # for good
    CONFLICT = "conflict"  # the line is another user's
    GIVE_UP = "give_up"  # attempts or time are used up
    RETRY = "retry"
    SKIP = "skip"
    COMPENSATE = "compensate"
    ADOPT = "adopt"


class Action(StrEnum):
    """What people may decide. Each is an `Outcome` of the same name."""

    RETRY = "retry"
    SKIP = "skip"  # it has been done by hand, or need not be
    COMPENSATE = "compensate"
    ADOPT = "adopt"  # there is a contract at the billing system, and it counts as it is


class EndReason(StrEnum):
    """Why a line is over at its store."""

    EXPIRED = "expired"
    REVOKED = "revoked"
    REFUNDED = "refunded"
    SUPERSEDED = "superseded"


_OK: Final = {
    Step.VERIFY: Step.BIND,
    Step.BIND: Step.START,
    Step.START: Step.ACTIVATE,
    Step.ACTIVATE: Step.ACKNOWLEDGE,
    Step.ACKNOWLEDGE: Step.PUBLISH,
    Step.PUBLISH: Step.DONE,
    Step.CANCEL_CONTRACT: Step.UNBIND,
    Step.UNBIND: Step.GIVE_BACK,
    Step.GIVE_BACK: Step.COMPENSATED,
    Step.END_CONTRACT: Step.ENDED,
}
WORK: Final = frozenset(_OK)
"""The steps at which a machine has something to do."""
OVER: Final = frozenset({Step.ENDED, Step.COMPENSATED, Step.REJECTED})
"""Where a round has come to its end; what is heard of the line from then on may open the next one."""
WAY_BACK: Final = frozenset({Step.CANCEL_CONTRACT, Step.UNBIND, Step.GIVE_BACK, Step.END_CONTRACT})
"""The steps that undo or end."""
ENDINGS: Final[dict[Step, Step]] = {
    Step.BIND: Step.UNBIND,
    Step.START: Step.CANCEL_CONTRACT,
    Step.ACTIVATE: Step.CANCEL_CONTRACT,
    Step.DONE: Step.END_CONTRACT,
}
"""Where a purchase turns whose line is over at the store. Elsewhere that is remembered: VERIFY is about to ask the
store anyway, what is past the pivot goes on to DONE, and what is parked waits for people."""

REPORTS: Final[dict[tuple[Step, Outcome], Step]] = {
    **{(step, Outcome.OK): after for step, after in _OK.items()},
    **{(step, Outcome.GIVE_UP): Step.PARKED for step in _OK},
    (Step.VERIFY, Outcome.REFUSED): Step.REJECTED,
    (Step.BIND, Outcome.REFUSED): Step.UNBIND,
    (Step.BIND, Outcome.CONFLICT): Step.PARKED,
    (Step.START, Outcome.REFUSED): Step.CANCEL_CONTRACT,
    (Step.ACTIVATE, Outcome.REFUSED): Step.CANCEL_CONTRACT,
    **{(step, Outcome.REFUSED): Step.PARKED for step in (Step.ACKNOWLEDGE, Step.PUBLISH, *sorted(WAY_BACK))},
}
"""(step, what was reported of it): the next step."""

DECISIONS: Final[dict[tuple[Step, Outcome], Step]] = {
    **{(step, Outcome.RETRY): step for step in _OK},
    **{(step, Outcome.SKIP): after for step, after in _OK.items()},
    (Step.VERIFY, Outcome.COMPENSATE): Step.UNBIND,
    (Step.BIND, Outcome.COMPENSATE): Step.UNBIND,
    (Step.START, Outcome.COMPENSATE): Step.CANCEL_CONTRACT,
    (Step.ACTIVATE, Outcome.COMPENSATE): Step.CANCEL_CONTRACT,
    (Step.ACKNOWLEDGE, Outcome.COMPENSATE): Step.CANCEL_CONTRACT,
    (Step.PUBLISH, Outcome.COMPENSATE): Step.CANCEL_CONTRACT,
    (Step.START, Outcome.ADOPT): Step.ACTIVATE,
    (Step.CANCEL_CONTRACT, Outcome.ADOPT): Step.ACTIVATE,
    (Step.END_CONTRACT, Outcome.ADOPT): Step.ENDED,
}
"""(the step that waits, what people have decided): the next step."""


def next_step(
    step: Step, outcome: Outcome, waiting: Step | None = None, *, over: bool = False, lives: bool = False
) -> Step:
    """Where a purchase goes from `step`; OutcomeNotAllowed when that step knows no such outcome.

    `waiting` is the step that a parked purchase has stopped at. `over`: the line is over at the store, so nothing new
    is begun for it: what has not passed the pivot turns back, what is done is ended. `lives`: the line was heard of
    again since then, so that nothing is given back for it: what is paid is delivered by the next round.
    """
    after = REPORTS.get((step, outcome)) if waiting is None else DECISIONS.get((waiting, outcome))
    if after is None:
        raise OutcomeNotAllowed(
            f"{outcome} is no outcome of {waiting or step}", step=step, waiting=waiting, outcome=outcome
        )
    if over and outcome is Outcome.ADOPT and after is Step.ACTIVATE:
        raise OutcomeNotAllowed("no contract is adopted for a line that is over at the store", waiting=waiting)
    if over:
        after = ENDINGS.get(after, after)
    return Step.COMPENSATED if lives and after is Step.GIVE_BACK else after

"""Saga walks: whatever comes of the steps, in whatever order, repeated and late, a line never has two contracts.

The billing system of these walks does what the real one does: it starts a contract twice when asked twice, answers or
does not, and may do what it was asked to after we have stopped waiting. The executor is the one that the real one must
be: it waits the settle time, asks, takes the right to post, posts, reports; and dies anywhere between.
"""

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from domain.errors import LineTaken, OutcomeNotAllowed
from domain.ids import subscription_id
from domain.purchase import Origin, PurchaseSaga, Request
from domain.purchase_table import OVER, WORK, Action, EndReason, Outcome, Step
from domain.store_notification import Store, StoreEnvironment

LINE = subscription_id("apple", "production", "100")
USERS = ("aa" * 16, "bb" * 16)
AT_BILLING = {Step.START, Step.CANCEL_CONTRACT, Step.END_CONTRACT}
Report = tuple[int, Step, Outcome, str, str | None]


class Billing:
    """Contracts by key, one more for every post: `late` are posts that have not arrived yet."""

    def __init__(self) -> None:
        self.live: list[str] = []
        self.late: list[str] = []

    def settle(self) -> None:
        """The time after which nothing is under way any more."""
        self.live += self.late
        self.late = []

    def cancel(self, key: str) -> None:
        self.live = [each for each in self.live if each != key]


class PurchaseWalk(RuleBasedStateMachine):
    """`left`: keys of contracts that people have left to the billing system; `helped`, `bound`: rounds.

    Those in which people have done a step, and those in which the line was bound.
    """

    def __init__(self) -> None:
        super().__init__()
        self.billing = Billing()
        self.reports: list[Report] = []
        self.events: list[Any] = []
        self.left: set[str] = set()
        self.helped: set[int] = set()
        self.bound: set[int] = set()

    @initialize(origin=st.sampled_from(Origin), user=st.sampled_from([None, USERS[0]]))
    def begin(self, origin: Origin, user: str | None) -> None:
        request = Request(origin, user, "monthly", "0")
        self.purchase = PurchaseSaga.accept(LINE, Store.APPLE, StoreEnvironment.PRODUCTION, request)

    # -- what happens to it --------------------------------------------------------------------------------------------

    @rule(origin=st.sampled_from(Origin), user=st.sampled_from([None, *USERS]), payload=st.integers(0, 40))
    def told(self, origin: Origin, user: str | None, payload: int) -> None:
        request = Request(origin, user, "monthly", str(payload))
        try:
            self.purchase.join(request)
        except LineTaken:
            assert None not in {user, self.purchase.user}
            return
        version = self.purchase.version
        if self.purchase.user in {None, user}:
            assert not self.purchase.join(request), "told twice is told once"
        assert self.purchase.version == version

    @rule(reason=st.sampled_from(EndReason))
    def line_over(self, reason: EndReason) -> None:
        known = self.purchase.end(reason)
        assert not self.purchase.end(reason)
        assert known or self.purchase.ending or self.purchase.state in OVER

    @rule(steps=st.integers(1, 4))
    def all_goes_well(self, steps: int) -> None:
        """Without this few walks would come far."""
        for _ in range(steps):
            if self.purchase.state is Step.START:
                self.start("ok")
            elif self.purchase.state in AT_BILLING:
                self.cancel("ok")
            elif self.purchase.state in WORK:
                self.step(Outcome.OK)

    @precondition(lambda self: self.purchase.state in WORK - AT_BILLING)
    @rule(outcome=st.sampled_from([Outcome.OK, Outcome.REFUSED, Outcome.CONFLICT, Outcome.GIVE_UP]))
    def step(self, outcome: Outcome) -> None:
        step = self.purchase.state
        if self.report(step, outcome) and (step, outcome) == (Step.BIND, Outcome.OK):
            self.bound.add(self.purchase.round)

    @precondition(lambda self: self.purchase.state in AT_BILLING)
    @rule()
    def no_answer_for_too_long(self) -> None:
        self.report(self.purchase.state, Outcome.GIVE_UP)

    @precondition(lambda self: self.purchase.state is Step.START)
    @rule(fate=st.sampled_from(["ok", "unheard", "late", "lost", "refused", "die", "give up"]))
    def start(self, fate: str) -> None:
        purchase, billing = self.purchase, self.billing
        asked = purchase.asked_before
        if asked:
            billing.settle()
            if purchase.contract_key in billing.live:
                self.report(Step.START, Outcome.OK, purchase.contract_key)
                return
            if set(purchase.earlier_keys) & set(billing.live):  # people have left it there, so people decide
                self.report(Step.START, Outcome.GIVE_UP)
                return
        number, attempt = purchase.round, purchase.attempt + 1
        assert purchase.request_contract(number, attempt, asked=asked)
        assert not purchase.request_contract(number, attempt, asked=asked), "two workers posted"
        if fate in {"ok", "unheard"}:
            billing.live.append(purchase.contract_key)
        elif fate == "late":
            billing.late.append(purchase.contract_key)
        if fate == "ok":
            self.report(Step.START, Outcome.OK, purchase.contract_key)
        elif fate in {"refused", "give up"}:
            self.report(Step.START, Outcome.REFUSED if fate == "refused" else Outcome.GIVE_UP)

    @precondition(lambda self: self.purchase.state is Step.START)
    @rule(fate=st.sampled_from(["unheard", "late"]), how=st.sampled_from(["over", "refused", "given up", "activated"]))
    def turned_back_after_a_post(self, fate: str, how: str) -> None:
        """The worst moment: nobody knows whether there is a contract."""
        self.start(fate)
        if self.purchase.state is not Step.START:
            return
        if how == "over":
            self.line_over(EndReason.REFUNDED)
        elif how == "refused":
            self.report(Step.START, Outcome.REFUSED)
        elif how == "given up":
            self.report(Step.START, Outcome.GIVE_UP)
            self.people(Action.COMPENSATE)
        else:
            self.start("die")
            self.report(Step.ACTIVATE, Outcome.REFUSED)
        self.all_goes_well(3)

    @precondition(lambda self: self.purchase.state is Step.PUBLISH)
    @rule()
    def taken_back_by_people(self) -> None:
        self.report(Step.PUBLISH, Outcome.REFUSED)
        self.people(Action.COMPENSATE)
        self.all_goes_well(3)

    @precondition(lambda self: self.purchase.state in {Step.CANCEL_CONTRACT, Step.END_CONTRACT})
    @rule(fate=st.sampled_from(["ok", "ok", "unheard", "die", "refused", "give up"]))
    def cancel(self, fate: str) -> None:
        self.billing.settle()
        if fate in {"ok", "unheard"}:
            self.billing.cancel(self.purchase.contract_key)
        reported = {"ok": Outcome.OK, "refused": Outcome.REFUSED, "give up": Outcome.GIVE_UP}.get(fate)
        if reported is not None:
            self.report(self.purchase.state, reported)

    @precondition(lambda self: self.purchase.state is Step.PARKED)
    @rule(action=st.sampled_from(Action))
    def people(self, action: Action) -> None:
        number, waiting, key = self.purchase.round, self.purchase.waiting, self.purchase.contract_key
        try:
            self.purchase.decide(action, "decided")
        except OutcomeNotAllowed:
            return
        if action in {Action.SKIP, Action.ADOPT}:
            self.helped.add(number)
            if self.purchase.state is not Step.ACTIVATE and waiting in {Step.CANCEL_CONTRACT, Step.END_CONTRACT}:
                self.left.add(key)

    @precondition(lambda self: self.reports)
    @rule(data=st.data())
    def late_report(self, data: st.DataObject) -> None:
        """A worker that nobody has waited for says again what it said: of another step that changes nothing."""
        said = data.draw(st.sampled_from(self.reports))
        number, step = said[:2]
        before = self.purchase.version
        if (number, step) != (self.purchase.round, self.purchase.state):
            assert not self.purchase.report(*said)
            assert self.purchase.version == before

    def report(self, step: Step, outcome: Outcome, contract: str | None = None) -> bool:
        said: Report = (self.purchase.round, step, outcome, "", contract)
        try:
            assert self.purchase.report(*said)
        except OutcomeNotAllowed:
            return False
        self.reports.append(said)
        version = self.purchase.version
        assert not self.purchase.report(*said), "said twice is said once"
        assert self.purchase.version == version
        return True

    # -- what holds ----------------------------------------------------------------------------------------------------

    @invariant()
    def a_line_has_one_contract(self) -> None:
        assert len(self.billing.live + self.billing.late) <= 1

    @invariant()
    def nothing_is_left_behind(self) -> None:
        if self.purchase.state in OVER:
            assert {*self.billing.live, *self.billing.late} <= self.left

    @invariant()
    def what_is_done_is_bound_and_has_a_contract(self) -> None:
        if self.purchase.state is Step.DONE and self.purchase.round not in self.helped:
            assert self.purchase.round in self.bound
            assert self.billing.live == [self.purchase.contract_key]
            assert self.purchase.contract == self.purchase.contract_key

    @invariant()
    def a_replay_is_what_was_lived(self) -> None:
        self.events += self.purchase.collect_events()
        replayed: Any = None
        for event in self.events:
            replayed = event.mutate(replayed)
        for name in (*PurchaseSaga.__slots__, "id", "version"):
            assert getattr(replayed, name) == getattr(self.purchase, name), name

    @invariant()
    def billing_is_asked_before_every_request_but_the_first(self) -> None:
        requests = [event for event in self.events if event.TYPE == "ContractRequested"]
        assert all(event.asked for event in requests[1:])
        moved = [event for event in self.events if event.TYPE == "PurchaseMoved"]
        parked = [event for event in moved if event.after is Step.PARKED]
        assert len(parked) == self.purchase.times_parked


PurchaseWalk.TestCase.settings = settings(max_examples=300, stateful_step_count=80, deadline=None)
TestPurchaseWalk = PurchaseWalk.TestCase


@pytest.mark.parametrize("fate", ["unheard", "late"])
@pytest.mark.parametrize("how", ["over", "refused", "given up", "activated"])
def test_what_is_turned_back_while_nobody_knows_of_a_contract_leaves_none(fate: str, how: str) -> None:
    """The moments that a walk might miss, one by one."""
    walk = PurchaseWalk()
    walk.begin(Origin.CLIENT, USERS[0])
    walk.all_goes_well(2)
    walk.turned_back_after_a_post(fate, how)
    assert walk.purchase.state is Step.COMPENSATED
    walk.nothing_is_left_behind()
    walk.told(Origin.NOTIFICATION, None, 1)
    walk.all_goes_well(6)
    assert (walk.purchase.state, walk.purchase.round) == (Step.DONE, 2)
    for holds in (walk.a_line_has_one_contract, walk.what_is_done_is_bound_and_has_a_contract):
        holds()
    walk.a_replay_is_what_was_lived()
    walk.billing_is_asked_before_every_request_but_the_first()

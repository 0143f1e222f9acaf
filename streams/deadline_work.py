"""Due work `deadline`: which messages set one, and what is looked at when two thirds of its time are over."""

import time
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

import msgspec

from domain.case import Case, CaseState
from domain.ids import purchase_id, subscription_id
from domain.purchase import PurchaseSaga
from domain.purchase_commands import CloseCase
from domain.purchase_table import WAY_BACK, WORK, Step
from domain.store_notification import Kind, State, Store
from domain.subscription import Subscription
from storage.due_work import Lease, Work
from stores.errors import PurchaseGone, StoreError
from stores.reading import NotSetUp, Said
from stores.receive import OwnerErased
from stores.verdict import MessageRefused
from streams.deadlines import ACKNOWLEDGE, CONSUMPTION, REVIEW, STUCK, Deadline
from streams.executors import Verdict as Done
from streams.executors import one_by_one
from streams.ledger_bridge import Bridge
from streams.store_tasks import MOVES, Task

LOOK_AGAIN_SECONDS: Final = 3_600.0
_WAITS_FOR_A_USER: Final = frozenset({Step.VERIFY, Step.BIND})


def told(task: Task, said: Said) -> list[Work]:
    """The deadlines that a message sets."""
    about = said.notification
    if about.kind is Kind.REFUND_INPUT_REQUESTED:
        # Google names an order and no purchase: what is waited for is the message itself
        named = task.message if about.line is None else subscription_id(about.store, about.environment, about.line)
        name = CONSUMPTION if about.store is Store.APPLE else REVIEW
        return [Deadline(name, named, about.signed_at / 1000, task.payload).work()]
    if about.line is None:
        return []
    line = subscription_id(about.store, about.environment, about.line)
    standing = about.standing
    if said.acknowledged is False and standing is not None and standing.state is State.ACTIVE:
        # what an app has handed in has no time of its own; the store's answer has
        bought_at = (None if about.plan is None else about.plan.since) or about.signed_at or standing.at
        return [Deadline(ACKNOWLEDGE, line, bought_at / 1000, task.payload).work()]
    return []


class PlayPort(Protocol):
    """`stores.google.client.PlayClient`."""

    def subscription(self, purchase_token: str) -> dict[str, Any]: ...


class MessagesPort(Protocol):
    """`streams.store_work.Messages`."""

    def said(self, task: Task) -> Said: ...


class DeadlineWork:
    """Looks at deadlines at two thirds of their time, and every hour from then on until they are settled."""

    def __init__(
        self,
        bridge: Bridge,
        messages: MessagesPort,
        play: PlayPort | None,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._bridge, self._messages, self._play, self._clock = bridge, messages, play, clock

    def run(self, leases: Sequence[Lease], hold: Callable[[], None]) -> Done:
        """Look at each."""
        return one_by_one(leases, hold, lambda lease: self._look(Deadline.of(lease.payload)))

    def _look(self, deadline: Deadline) -> float | None:
        """After how many seconds to look again; None when nothing is left to be looked at."""
        opening = deadline.case()
        case = self._bridge.load(Case, opening.case)
        if self._settled(deadline):
            if case is not None and case.state is not CaseState.CLOSED:
                self._bridge.do([(f"settled {case.id} v{case.version}", CloseCase(case=case.id, action=None))])
            return None
        if case is None:
            now = self._since_its_last_move(deadline)
            if now.alarm_at > self._clock():
                return now.alarm_at - self._clock()
            opening = msgspec.structs.replace(opening, reason=now.case().reason, evidence=(now.evidence,))
            # A crash after this finds the case at the next look.
            self._bridge.do([(f"open {opening.case}", opening)])
            return LOOK_AGAIN_SECONDS
        return None if case.state is CaseState.CLOSED else LOOK_AGAIN_SECONDS  # people have seen to it

    def _since_its_last_move(self, deadline: Deadline) -> Deadline:
        """A purchase's time begins anew with each of its moves."""
        last = self._bridge.last_entry(deadline.about, *MOVES) if deadline.name == STUCK else None
        return deadline if last is None else deadline._replace(since=last.at, evidence=str(last.position))

    def _settled(self, deadline: Deadline) -> bool:
        if deadline.name == STUCK:
            return self._nothing_to_do(deadline)
        line = self._bridge.load(Subscription, deadline.about)
        if deadline.name == ACKNOWLEDGE:
            return line is None or line.history.state is not State.ACTIVE or self._acknowledged(deadline)
        return line is not None and _given_back(line, int(deadline.since * 1000))

    def _nothing_to_do(self, deadline: Deadline) -> bool:
        """Whether no machine has to do anything: it is over, before people, or waits to hear whose it is."""
        purchase = self._bridge.load(PurchaseSaga, deadline.about)
        if purchase is None or purchase.state not in WORK:
            return True
        return purchase.user is None and purchase.state in _WAITS_FOR_A_USER

    def _acknowledged(self, deadline: Deadline) -> bool:
        """Google's word on it, since an acknowledgement leaves no message; False where Google cannot be asked."""
        purchase = self._bridge.load(PurchaseSaga, purchase_id(deadline.about))
        if purchase is not None and (purchase.waiting or purchase.state) in {*WAY_BACK, Step.COMPENSATED}:
            return True  # it is given back, and must not be acknowledged
        try:
            token = self._messages.said(Task(deadline.evidence, "", "", "")).token
            if self._play is None or token is None:
                return False
            found = self._play.subscription(token)
        except (OwnerErased, PurchaseGone):
            return True
        except (StoreError, NotSetUp, MessageRefused):
            return False
        return bool(found.get("acknowledgementState") == "ACKNOWLEDGEMENT_STATE_ACKNOWLEDGED")


def _given_back(line: Subscription, since_ms: int) -> bool:
    """Whether the store has given money back since: what it asked about is decided."""
    return any(refund.at >= since_ms for refund in line.history.refunds)

"""What stores have said and we have never heard: asked for again and again, so that nothing depends on one delivery.

    apple-history   every hour the last 26 hours, every day what failed in 180 days       (Apple keeps a history)
    voided          every six hours what was voided in the last 48                        (Google keeps 30 days)
    sweep           each Google line near its end, on hold or pending: how does it stand? (Google keeps no history)
    acknowledge     each Google line that nobody has acknowledged for six hours

What is found goes in as every message does, labelled as pulled; what is known already changes nothing.
"""

import json
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, Protocol

from domain.ids import payload_owner, purchase_id, subscription_id
from domain.purchase import PurchaseSaga
from domain.purchase_table import WAY_BACK, Step
from domain.store_message import StoreMessage
from domain.store_notification import Kind, Refund, State, Store, StoreEnvironment, StoreNotification
from domain.subscription import Subscription
from storage.due_work import DueWorkStore, Lease, Work
from stores.apple.client import Missed
from stores.errors import PurchaseGone, StoreAway
from stores.fields import long_of
from stores.google.envelope import line_of
from stores.intake import AppleIntake
from stores.parcel_format import FetchedFromStore, ParcelHeaders
from stores.reading import Said
from stores.receive import OwnerErased, arrived, fetched
from stores.verdict import Verdict
from streams.executors import Failure, one_by_one
from streams.executors import Verdict as Done
from streams.faults import one_line
from streams.ledger_bridge import Bridge
from streams.store_tasks import FETCH, Task

APPLE_HISTORY: Final = "apple-history"
VOIDED: Final = "voided"
SWEEP: Final = "sweep"
ACKNOWLEDGE: Final = "acknowledge"
HOUR: Final = 3_600.0
DAY: Final = 24 * HOUR
HISTORY_SECONDS: Final = 26 * HOUR
FAILURES_SECONDS: Final = 179 * DAY
VOIDED_EVERY_SECONDS: Final = 6 * HOUR
VOIDED_SECONDS: Final = 48 * HOUR
SWEEP_AFTER_SECONDS: Final = 600.0
SWEEP_DAILY: Final = frozenset({State.HOLD, State.PAUSED, State.PENDING})
ACKNOWLEDGE_SECONDS: Final = 6 * HOUR
logger = logging.getLogger("daicho.reconcilers")


class HistoryPort(Protocol):
    """`stores.apple.client.AppleClient`."""

    def history(self, start_ms: int, end_ms: int, *, only_failures: bool = False) -> Iterator[Missed]: ...


class PlayPort(Protocol):
    """`stores.google.client.PlayClient`."""

    def voided(self, since_ms: int) -> Iterator[dict[str, Any]]: ...
    def acknowledge(self, product: str, purchase_token: str) -> None: ...


class MessagesPort(Protocol):
    """`store_work.Messages`."""

    def said(self, task: Task) -> Said: ...


def recurring(kind: str, now: float) -> Work:
    """The one piece of work of a kind that is done again and again."""
    return Work(kind, kind, "{}", now)


class AppleHistoryWork:
    """Due work `apple-history`. `found` hears of how many messages had never arrived."""

    def __init__(
        self,
        bridge: Bridge,
        apple: HistoryPort,
        intake: AppleIntake,
        *,
        every_seconds: float = HOUR,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.found: Callable[[Store, int], None] = lambda _store, _count: None
        self._bridge, self._apple, self._intake = bridge, apple, intake
        self._every, self._clock, self._failures_at = every_seconds, clock, float("-inf")

    def run(self, leases: Sequence[Lease], hold: Callable[[], None]) -> Done:
        """Read the history, and once a day what failed."""
        try:
            self._pass(hold)
        except StoreAway as away:
            return Done(failed=[Failure(each, str(away), away.retry_after_seconds or 0.0) for each in leases])
        return Done(later=[(each, self._every) for each in leases])

    def _pass(self, hold: Callable[[], None]) -> None:
        now = self._clock()
        count = self._take(self._apple.history(_ms(now - HISTORY_SECONDS), _ms(now)), hold)
        if now - self._failures_at >= DAY:
            failed = self._apple.history(_ms(now - FAILURES_SECONDS), _ms(now), only_failures=True)
            count += self._take(failed, hold)
            self._failures_at = now
        if count:
            logger.warning("apple: %d messages had never arrived and were found in its history", count)
        self.found(Store.APPLE, count)

    def _take(self, history: Iterable[Missed], hold: Callable[[], None]) -> int:
        count = 0
        for number, missed in enumerate(history):
            if number % 20 == 0:
                hold()
            count += self._one(json.dumps({"signedPayload": missed.signed_payload}).encode())
        return count

    def _one(self, body: bytes) -> bool:
        """Record a message unless its id is known; True when it was new."""
        name = self._intake.name_of(body)
        if name is not None and self._bridge.load(StoreMessage, name) is not None:
            return False
        judged = self._intake.judge({}, body)
        if judged.verdict is not Verdict.VALID:
            return False
        headers = ParcelHeaders(_ms(self._clock()), judged.verdict, origin="pull", label=judged.label)
        received = self._bridge.wait(self._bridge.receiver.record(arrived(judged, headers)))
        return received.outcome == "stored"


class VoidedWork:
    """Due work `voided`: refunds and chargebacks that were never announced."""

    def __init__(
        self,
        bridge: Bridge,
        play: PlayPort,
        work: DueWorkStore,
        *,
        every_seconds: float = VOIDED_EVERY_SECONDS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.found: Callable[[Store, int], None] = lambda _store, _count: None
        self._bridge, self._play, self._work, self._every, self._clock = bridge, play, work, every_seconds, clock

    def run(self, leases: Sequence[Lease], hold: Callable[[], None]) -> Done:
        """Read the list."""
        try:
            count = 0
            for number, voided in enumerate(self._play.voided(_ms(self._clock() - VOIDED_SECONDS))):
                if number % 20 == 0:
                    hold()
                count += self._one(voided)
        except StoreAway as away:
            return Done(failed=[Failure(each, str(away), away.retry_after_seconds or 0.0) for each in leases])
        self.found(Store.GOOGLE, count)
        return Done(later=[(each, self._every) for each in leases])

    def _one(self, voided: dict[str, Any]) -> bool:
        token, order, at = voided.get("purchaseToken"), voided.get("orderId"), long_of(voided.get("voidedTimeMillis"))
        if not isinstance(token, str) or not isinstance(order, str) or at is None:
            return False
        line = line_of(token)
        said = StoreNotification(
            Store.GOOGLE, StoreEnvironment.PRODUCTION, f"voided:{order}", Kind.REFUNDED, "voided", at, line=line,
            refunds=(Refund(order, at),),
        )  # fmt: skip
        message = fetched(FetchedFromStore(said, {"voidedPurchase": voided}, at, token), payload_owner("google", line))
        if self._bridge.load(StoreMessage, message.message) is not None:
            return False
        received = self._bridge.wait(self._bridge.receiver.record(message))
        task = Task(received.payload, message.message, Store.GOOGLE, message.owner)
        self._work.put(task.work(FETCH, self._clock()))
        return received.outcome == "stored"


class Sweeps:
    """When each line of Google's is to be looked at again, whatever is announced meanwhile: deadlines as data."""

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock

    def works(self, task: Task, said: Said) -> list[Work]:
        """What an answer of Google's asks for later."""
        about, now = said.notification, self._clock()
        if about.store is not Store.GOOGLE or about.standing is None or said.token is None:
            return []
        works: list[Work] = []
        state, plan = about.standing.state, about.plan
        if state in SWEEP_DAILY:
            works.append(task.work(SWEEP, now + DAY))
        elif state in {State.ACTIVE, State.GRACE} and plan is not None and plan.expires_at is not None:
            works.append(task.work(SWEEP, max(now, plan.expires_at / 1000) + SWEEP_AFTER_SECONDS))
        if said.acknowledged is False and state is State.ACTIVE:
            works.append(task.work(ACKNOWLEDGE, now + ACKNOWLEDGE_SECONDS))
        return works


class SweepWork:
    """Due work `sweep`: asks how a line stands, unless it was heard of since."""

    def __init__(
        self, bridge: Bridge, messages: MessagesPort, work: DueWorkStore, *, clock: Callable[[], float] = time.time
    ) -> None:
        self.on_fetch: list[Callable[[], None]] = []
        self._bridge, self._messages, self._work, self._clock = bridge, messages, work, clock

    def run(self, leases: Sequence[Lease], hold: Callable[[], None]) -> Done:
        """Put a question for each line that is silent."""
        verdict = one_by_one(leases, hold, self._one)
        for notify in self.on_fetch:
            notify()
        return verdict

    def _one(self, lease: Lease) -> None:
        task = Task.of(lease.payload)
        try:
            silent = self._silent(self._messages.said(task))
        except OwnerErased:
            return
        if silent:
            key = f"{FETCH}:{task.payload}:{int(self._clock())}"
            self._work.put(Work(FETCH, key, lease.payload, self._clock(), f"{FETCH}:{task.owner}"))

    def _silent(self, said: Said) -> bool:
        line = self._bridge.load(Subscription, _subscription(said))
        standing = None if line is None else line.history.standing
        return standing is None or standing == said.notification.standing


class AcknowledgeWork:
    """Due work `acknowledge`: a purchase that nobody has delivered to a user in six hours is acknowledged all the same.

    Else Google takes the user's money back after three days for what is stored here; not where it is being undone.
    """

    def __init__(self, bridge: Bridge, messages: MessagesPort, play: PlayPort) -> None:
        self._bridge, self._messages, self._play = bridge, messages, play

    def run(self, leases: Sequence[Lease], hold: Callable[[], None]) -> Done:
        """Acknowledge one after the other."""
        done: list[Lease] = []
        failed: list[Failure] = []
        for lease in leases:
            try:
                self._one(self._messages.said(Task.of(lease.payload)))
                done.append(lease)
            except (OwnerErased, PurchaseGone):
                done.append(lease)
            except StoreAway as away:
                failed.append(Failure(lease, str(away), away.retry_after_seconds or 0.0))
            except Exception as error:  # noqa: BLE001 the others go on
                failed.append(Failure(lease, one_line(error)))
            hold()
        return Done(done=done, failed=failed)

    def _one(self, said: Said) -> None:
        line = self._bridge.load(Subscription, _subscription(said))
        purchase = self._bridge.load(PurchaseSaga, purchase_id(_subscription(said)))
        if line is None or line.history.state is not State.ACTIVE or line.history.plan is None:
            return
        undone = purchase is not None and (purchase.waiting or purchase.state) in {*WAY_BACK, Step.COMPENSATED}
        if not undone and said.token is not None:
            self._play.acknowledge(line.history.plan.product, said.token)


def _subscription(said: Said) -> str:
    about = said.notification
    return subscription_id(about.store, about.environment, about.line or "")


def _ms(seconds: float) -> int:
    return max(0, int(seconds * 1000))

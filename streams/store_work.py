"""What is done about stores' messages: observe what they say, ask the store, judge what could not be judged.

    observe ─▶ ObserveSubscription, SupersedeSubscription        (into the ledger)
       └─▶ fetch ─▶ the store's answer, recorded as a message ─▶ observe …
    judge ─▶ NotificationJudged ─▶ observe …

Each piece may be done twice: commands carry keys that are made from the message, so the second time changes nothing.
"""

import hashlib
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from domain.commands import Command
from domain.errors import DaichoError, SubscriptionNotFound
from domain.ids import subscription_id
from domain.orders import Answer
from domain.store_commands import JudgeNotification, ObserveSubscription, SupersedeSubscription
from domain.store_notification import Kind, Store, StoreNotification
from domain.subscription_history import about_this_line
from storage.due_work import DueWorkStore, Lease, Work
from stores.apple.verify import AppleVerifier
from stores.errors import PurchaseGone, StoreAway, StoreError
from stores.parcel_format import FetchedFromStore
from stores.reading import NotSetUp, Reader, Said
from stores.receive import OwnerErased, fetched
from stores.verdict import MessageRefused, Verdict
from streams.executors import Failure
from streams.executors import Verdict as Done
from streams.faults import one_line
from streams.ledger_bridge import DONE_BEFORE, Bridge
from streams.store_tasks import FETCH, Task

JUDGE_AGAIN_SECONDS: Final = 300.0
MAX_REMEMBERED: Final = 10_000
logger = logging.getLogger("daicho.stores")


class Parcels(Protocol):
    """`storage.parcels.SqliteParcels`."""

    def of_payload(self, payload: str) -> Any:
        """The (first) parcel with that hash."""
        ...


class Opener(Protocol):
    """Opens what was sealed. Raises OwnerErased."""

    def open(self, owner: str, sealed: bytes) -> bytes: ...


class PlayPort(Protocol):
    """`stores.google.client.PlayClient`."""

    def subscription(self, purchase_token: str) -> dict[str, Any]: ...


class Missing(Exception):
    """A message that the log tells of is not in the inbox: it must be restored from the archive."""


class Messages:
    """Messages by their hash, opened and read."""

    def __init__(self, parcels: Parcels, opener: Opener, reader: Reader) -> None:
        self._parcels, self._opener, self._reader = parcels, opener, reader

    def plain(self, payload: str) -> bytes:
        """The bytes of a message, which are those that the log names. Raises Missing, OwnerErased."""
        parcel = self._parcels.of_payload(payload)
        if parcel is None or hashlib.sha256(parcel.sealed).hexdigest() != payload:
            raise Missing(f"payload {payload} is not in the inbox")
        return self._opener.open(parcel.owner, parcel.sealed)

    def owner(self, payload: str) -> str:
        """The name of the key that a message is sealed under. Raises Missing."""
        parcel = self._parcels.of_payload(payload)
        if parcel is None:
            raise Missing(f"payload {payload} is not in the inbox")
        owner: str = parcel.owner
        return owner

    def said(self, task: Task) -> Said:
        """What it says. Raises as `plain`, MessageRefused, NotSetUp."""
        return self._reader.read(self.plain(task.payload))


class ObserveWork:
    """Due work `observe`: what messages say of subscriptions goes into the ledger."""

    def __init__(
        self,
        bridge: Bridge,
        messages: Messages,
        work: DueWorkStore,
        *,
        then: Callable[[Task, Said], Sequence[tuple[str, Command]]] = lambda _task, _said: (),
        later: Callable[[Task, Said], Sequence[Work]] = lambda _task, _said: (),
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.on_fetch: list[Callable[[], None]] = []
        self._bridge, self._messages, self._work, self._then, self._clock = bridge, messages, work, then, clock
        self._later = later

    def run(self, leases: Sequence[Lease], hold: Callable[[], None]) -> Done:
        """Observe all of them in one go; each stands for itself."""
        done: list[Lease] = []
        failed: list[Failure] = []
        read: list[tuple[Lease, Task, Said, list[tuple[str, Command]]]] = []
        for lease in leases:
            task = Task.of(lease.payload)
            try:
                said = self._messages.said(task)
                read.append((lease, task, said, [*self._commands(task, said.notification), *self._then(task, said)]))
            except OwnerErased:
                done.append(lease)  # nobody may know any more what it said
            except Exception as error:  # noqa: BLE001 the others go on
                failed.append(Failure(lease, one_line(error)))
        hold()
        answers = iter(self._bridge.execute([command for *_, commands in read for command in commands]))
        fetches: list[Work] = []
        for lease, task, said, commands in read:
            troubles = [trouble for _, command in commands if (trouble := _trouble(command, next(answers)))]
            if troubles:
                failed.append(Failure(lease, one_line(troubles[0])))
                continue
            done.append(lease)
            fetches += self._later(task, said)
            if said.notification.needs_fetch and said.token is not None:
                fetches.append(task.work(FETCH, self._clock()))
        self._put(fetches)
        return Done(done=done, failed=failed)

    def _put(self, fetches: Sequence[Work]) -> None:
        """What the store is to be asked. A crash before this observes all of it again, which changes nothing then."""
        if fetches:
            self._work.put(*fetches)
            for notify in self.on_fetch:
                notify()

    def now(self, task: Task) -> None:
        """Observe one message at once. Raises whatever keeps it from being observed."""
        said = self._messages.said(task)
        commands = [*self._commands(task, said.notification), *self._then(task, said)]
        for (_, command), answer in zip(commands, self._bridge.execute(commands), strict=True):
            if (trouble := _trouble(command, answer)) is not None:
                raise trouble

    @staticmethod
    def _commands(task: Task, said: StoreNotification) -> list[tuple[str, Command]]:
        if not about_this_line(said) or said.line is None:
            return []
        commands: list[tuple[str, Command]] = []
        if not said.says_nothing:
            observed = ObserveSubscription(said=said, payload=task.payload)
            commands.append((f"observe {task.payload}", observed))
        if said.replaces is not None and said.replaces != said.line:
            old = subscription_id(said.store, said.environment, said.replaces)
            new = subscription_id(said.store, said.environment, said.line)
            commands.append((f"supersede {old} {new}", SupersedeSubscription(subscription=old, by=new)))
        return commands


def _trouble(command: Command, answer: Answer) -> DaichoError | None:
    """What keeps a command from having been done; None when it is done, or nothing is left to do."""
    if isinstance(answer, SubscriptionNotFound) and isinstance(command, SupersedeSubscription):
        return None  # never heard of: there is nothing that could still give access
    return answer if isinstance(answer, DaichoError) and not isinstance(answer, DONE_BEFORE) else None


class FetchWork:
    """Due work `fetch`: the store is asked how a purchase stands, and its answer recorded as a message."""

    def __init__(
        self, bridge: Bridge, messages: Messages, play: PlayPort | None, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._bridge, self._messages, self._play, self._clock = bridge, messages, play, clock
        self._asked: OrderedDict[str, float] = OrderedDict()

    def run(self, leases: Sequence[Lease], hold: Callable[[], None]) -> Done:
        """Ask for one after the other; a store that is away holds up all of them."""
        done: list[Lease] = []
        for number, lease in enumerate(leases):
            try:
                self._fetch(Task.of(lease.payload))
                done.append(lease)
            except StoreAway as away:
                later = [Failure(each, str(away), away.retry_after_seconds or 0.0) for each in leases[number:]]
                return Done(done=done, failed=later)
            except (OwnerErased, PurchaseGone) as over:
                logger.warning("fetch: %s", type(over).__name__)
                done.append(lease)
            except (StoreError, MessageRefused, NotSetUp, Missing, DaichoError) as error:
                return Done(done=done, failed=[Failure(lease, one_line(error))], again=leases[number + 1 :])
            hold()
        return Done(done=done)

    def _fetch(self, task: Task) -> None:
        if self._play is None:
            raise NotSetUp("the Google Play API is not set up here: set DAICHO_GOOGLE_KEY_FILE")
        said = self._messages.said(task)
        if self._asked.get(task.owner, 0.0) > task.at > 0 and said.notification.kind is not Kind.REVOKED:
            return  # an answer given after this came holds what it says; that it is revoked is only announced
        asked_at = self._clock()
        token = said.token or ""
        resource = self._play.subscription(token)
        at = int(self._clock() * 1000)
        # A crash before this asks once more: an answer that nobody has stored has changed nothing.
        answer = FetchedFromStore(said.notification, resource, at, token)
        self._bridge.wait(self._bridge.receiver.record(fetched(answer, task.owner)))
        self._asked[task.owner] = asked_at
        if len(self._asked) > MAX_REMEMBERED:
            self._asked.popitem(last=False)


class JudgeWork:
    """Due work `judge`: a message that could not be judged when it came is judged now."""

    def __init__(self, bridge: Bridge, messages: Messages, apple: AppleVerifier | None) -> None:
        self._bridge, self._messages, self._apple = bridge, messages, apple

    def run(self, leases: Sequence[Lease], hold: Callable[[], None]) -> Done:
        """Judge one after the other; what still cannot be judged is looked at again later."""
        done: list[Lease] = []
        again: list[Lease] = []
        failed: list[Failure] = []
        for lease in leases:
            try:
                (done if self._judge(Task.of(lease.payload)) else again).append(lease)
            except OwnerErased:
                done.append(lease)
            except Exception as error:  # noqa: BLE001 the others go on
                failed.append(Failure(lease, one_line(error)))
            hold()
        return Done(done=done, again=again, again_after_seconds=JUDGE_AGAIN_SECONDS, failed=failed)

    def _judge(self, task: Task) -> bool:
        if Store(task.store) is not Store.APPLE or self._apple is None:
            raise NotSetUp("only messages of an App Store that is set up can be judged later")
        found = self._apple.verify(self._messages.plain(task.payload))
        if found.verdict is Verdict.UNVERIFIED:
            return False
        command = JudgeNotification(message=task.message, verdict=str(found.verdict))
        (answer,) = self._bridge.execute([(f"judge {task.payload}", command)])
        if (trouble := _trouble(command, answer)) is not None:
            raise trouble
        return True

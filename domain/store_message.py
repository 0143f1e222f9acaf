"""StoreMessage: that a store (or somebody in its name) has sent something, and which bytes, for ever.

The bytes themselves are ciphertext in the inbox and in the archive; the ledger has their hash. One id of a store's
stands for one message: other bytes under the same id are kept as well, and are a matter for people.
"""

from domain.aggregate import Aggregate, Event, event_of
from domain.store_notification import Store, StoreEnvironment


class StoreMessage(Aggregate):
    """`payloads` are the hashes of all bodies that came under this id, in order; `verdict` is of the first."""

    __slots__ = ("environment", "payloads", "store", "verdict")

    def __init__(self, aggregate_id: str) -> None:
        super().__init__(aggregate_id)
        self.store = Store.APPLE
        self.environment: StoreEnvironment | None = None
        self.payloads: list[str] = []
        self.verdict = ""

    @property
    def contradicted(self) -> bool:
        """True when several bodies came under one id."""
        return len(self.payloads) > 1

    @classmethod
    def receive(
        cls, message: str, store: Store, environment: StoreEnvironment | None, verdict: str, payload: str, size: int
    ) -> "StoreMessage":
        """A message that was never heard of before; `message` is its aggregate id (`message_id`)."""
        received = cls(message)
        received.trigger(NotificationReceived(store, environment, verdict, payload, size))
        return received

    def contradict(self, verdict: str, payload: str, size: int) -> bool:
        """Another body under the same id; False when this body is known."""
        if payload in self.payloads:
            return False
        self.trigger(NotificationContradicted(verdict, payload, size))
        return True

    def judge(self, verdict: str) -> bool:
        """What could not be judged when it came has been judged; False when nothing changes."""
        if verdict == self.verdict:
            return False
        self.trigger(NotificationJudged(self.payloads[0], verdict))
        return True


@event_of(StoreMessage)
class NotificationReceived(Event):
    """A message has come. `payload` is the SHA-256 of its ciphertext, `size` that one's length in bytes."""

    store: Store
    environment: StoreEnvironment | None
    verdict: str
    payload: str
    size: int

    def apply(self, message: StoreMessage) -> None:
        message.store, message.environment, message.verdict = self.store, self.environment, self.verdict
        message.payloads.append(self.payload)


@event_of(StoreMessage)
class NotificationContradicted(Event):
    """Other bytes have come under an id that was taken. Nothing follows from them by itself."""

    verdict: str
    payload: str
    size: int

    def apply(self, message: StoreMessage) -> None:
        message.payloads.append(self.payload)


@event_of(StoreMessage)
class NotificationJudged(Event):
    """A message that could not be verified when it came has been verified since, or found wanting."""

    payload: str
    verdict: str

    def apply(self, message: StoreMessage) -> None:
        message.verdict = self.verdict

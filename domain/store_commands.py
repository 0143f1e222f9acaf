"""What the ledger is asked to do about stores' messages: by its own parts, never by a client."""

from typing import Annotated

from msgspec import Meta

from domain.commands import Command, Digest, Uuid
from domain.ids import subscription_id
from domain.purchase_commands import PURCHASE_COMMANDS
from domain.store_notification import Store, StoreEnvironment, StoreNotification

Verdict = Annotated[str, Meta(pattern=r"\A[a-z_]{1,32}\Z")]


class ReceiveNotification(Command, frozen=True, kw_only=True, tag=True):
    """Record that a message has come. `message` is its aggregate id, `payload` the hash of its ciphertext."""

    message: Uuid
    store: Store
    environment: StoreEnvironment | None
    verdict: Verdict
    payload: Digest
    size: Annotated[int, Meta(ge=0, lt=2**31)]


class JudgeNotification(Command, frozen=True, kw_only=True, tag=True):
    """Record what a message that could not be judged when it came has turned out to be."""

    message: Uuid
    verdict: Verdict


class ObserveSubscription(Command, frozen=True, kw_only=True, tag=True):
    """Record what a message says of a subscription. `payload` is the hash of the ciphertext of the message."""

    said: StoreNotification
    payload: Digest

    @property
    def subscription(self) -> str:
        """The aggregate that it is about."""
        return subscription_id(self.said.store, self.said.environment, self.said.line or "")


class SupersedeSubscription(Command, frozen=True, kw_only=True, tag=True):
    """Record that one subscription has taken another one's place."""

    subscription: Uuid
    by: Uuid


STORE_COMMANDS: tuple[type[Command], ...] = (
    ReceiveNotification,
    JudgeNotification,
    ObserveSubscription,
    SupersedeSubscription,
    *PURCHASE_COMMANDS,
)

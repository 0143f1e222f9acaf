"""How a line stands at its store, asked now: the line's own name is opened out of the newest message about it."""

import time
from typing import Any

import msgspec

from domain.entry import decode_envelope
from domain.store_notification import State, Store, StoreEnvironment
from domain.subscription import Subscription
from stores.apple.client import AppleClient
from stores.apple.translate import state_of_status
from stores.errors import PurchaseGone
from stores.google.client import PlayClient
from stores.google.observe import observe
from stores.reading import NotSetUp, Said
from stores.receive import OwnerErased
from stores.verdict import MessageRefused
from streams.store_tasks import Task
from streams.store_work import Messages, Missing


class _About(msgspec.Struct):
    payload: str | None = None


_about = msgspec.json.Decoder(_About).decode


class StoreAnswers:
    """Either client None: that store's API is not set up here. `apple_environment`: whom the client of Apple's asks."""

    def __init__(
        self,
        entries: Any,
        messages: Messages,
        apple: AppleClient | None,
        play: PlayClient | None,
        apple_environment: StoreEnvironment,
    ) -> None:
        self._entries, self._messages = entries, messages
        self._apple, self._play, self._environment = apple, play, apple_environment

    def __call__(self, line: Subscription) -> State | None:
        """How it stands; None where it cannot be asked about. Raises StoreError."""
        said = self._newest(line)
        if said is None:
            return None
        return self._of_apple(line, said) if line.store is Store.APPLE else self._of_google(said)

    def _of_apple(self, line: Subscription, said: Said) -> State | None:
        name = said.notification.line
        if self._apple is None or line.environment is not self._environment or name is None:
            return None
        status = next((each.status for each in self._apple.statuses(name) if each.line == name), None)
        if status is None:
            raise PurchaseGone("statuses: none of this line")
        return state_of_status(status)

    def _of_google(self, said: Said) -> State | None:
        if self._play is None or said.token is None:
            return None
        answer = observe(said.notification, self._play.subscription(said.token), int(time.time() * 1000))
        return None if answer.said.standing is None else answer.said.standing.state

    def _newest(self, line: Subscription) -> Said | None:
        """The newest message about a line that can be read, and at Google one with the purchase's token."""
        for _, entry in reversed(self._entries.of_aggregate(line.id)):
            payload = _about(decode_envelope(entry).data).payload
            if payload is None:
                continue
            try:
                said = self._messages.said(Task(payload, "", "", ""))
            except (OwnerErased, NotSetUp, Missing, MessageRefused):
                continue
            if line.store is Store.APPLE or said.token is not None:
                return said
        return None

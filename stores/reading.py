"""What a stored message says: out of the plain bytes of a parcel, in our own words."""

from typing import NamedTuple

from domain.store_notification import Store, StoreNotification
from stores.apple.translate import translate
from stores.apple.verify import already_judged
from stores.fields import text_of, token_of
from stores.google.announce import announce
from stores.google.envelope import read_push
from stores.google.observe import observe
from stores.google.push import GoogleApp
from stores.parcel_format import (
    HandedIn,
    is_fetched,
    is_google,
    is_handed_in,
    unpack_fetched,
    unpack_google,
    unpack_handed_in,
)
from stores.purchases import of_apple, of_google
from stores.verdict import MessageRefused, Verdict


class Said(NamedTuple):
    """What a message says. `token` is the store's own name of the purchase, to ask it or to tell it something.

    `transaction`: Apple's name of the charge. `acknowledged`: False when the store waits to hear that the user has what
    he paid for, None when it did not say.
    """

    notification: StoreNotification
    token: str | None = None
    acknowledged: bool | None = None
    transaction: str | None = None

    def __repr__(self) -> str:
        return f"Said({self.notification.store}, {self.notification.label})"


class NotSetUp(Exception):
    """A message of a store that is not set up here (any more)."""


class Reader:
    """Reads the plain bytes of messages that were found VALID before. `google` None: Google Play is not set up."""

    def __init__(self, google: GoogleApp | None) -> None:
        self._google = google

    def read(self, plain: bytes) -> Said:
        """What a message says. Raises MessageRefused, NotSetUp."""
        if is_fetched(plain):
            answer = unpack_fetched(plain)
            observed = observe(answer.announced, answer.resource, answer.at)
            return Said(observed.said, answer.token, observed.acknowledged)
        if is_handed_in(plain):
            return self._handed_in(unpack_handed_in(plain))
        if is_google(plain):
            return self._of_google(plain)
        message = already_judged(plain)
        return Said(translate(message), transaction=text_of(message.transaction or {}, "transactionId"))

    @staticmethod
    def _handed_in(handed_in: HandedIn) -> Said:
        if handed_in.store is Store.GOOGLE:
            return Said(of_google(handed_in), handed_in.text)
        said, transaction = of_apple(handed_in)
        return Said(said, transaction=transaction)

    def _of_google(self, plain: bytes) -> Said:
        if self._google is None:
            raise NotSetUp("Google Play is not set up here")
        message = read_push(self._google, unpack_google(plain).body)
        if message.verdict is not Verdict.VALID:
            raise MessageRefused(f"{message.verdict}: {message.reason}")
        return Said(announce(message), token_of(message.fields, "purchaseToken"))

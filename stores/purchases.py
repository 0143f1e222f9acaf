"""What a user's app hands in at a purchase, judged: a signed transaction of Apple's, a purchase token of Google's.

A transaction proves itself. A token proves nothing: Google is asked about it, as the first step of the purchase.
"""

import hashlib
from typing import Final

from domain.ids import subscription_id
from domain.store_notification import Kind, Store, StoreNotification
from stores.apple.translate import translate_transaction
from stores.apple.verify import AppleMessage, AppleVerifier, read_jws
from stores.fields import TEXT_LIMIT, text_of
from stores.google.envelope import line_of
from stores.intake import Judged
from stores.parcel_format import HandedIn, pack_handed_in, proof_json
from stores.verdict import MessageRefused, Verdict

MAX_TRANSACTION_CHARACTERS: Final = 65_536
MAX_TOKEN_CHARACTERS: Final = 4_096


class Handed:
    """A purchase that was handed in and may be genuine: the message of it, and what it says so far."""

    def __init__(self, judged: Judged, said: StoreNotification, product: str) -> None:
        self.judged, self.said, self.product = judged, said, product
        self.subscription = subscription_id(said.store, said.environment, said.line or "")


class HandIn:
    """Judges what apps hand in. `apple` verifies offline; None, and `google` False, where that store is not set up."""

    def __init__(self, apple: AppleVerifier | None, *, google: bool) -> None:
        self._apple, self._google = apple, google

    def serves(self, store: Store) -> bool:
        """Whether an app of that store is set up here."""
        return self._google if store is Store.GOOGLE else self._apple is not None

    def judge(self, handed_in: HandedIn) -> Handed:
        """Judge it. Blocking for some milliseconds. Raises MessageRefused, naming the rule that it breaks."""
        return self._of_google(handed_in) if handed_in.store is Store.GOOGLE else self._of_apple(handed_in)

    def _of_apple(self, handed_in: HandedIn) -> Handed:
        if self._apple is None or len(handed_in.text) > MAX_TRANSACTION_CHARACTERS:
            raise MessageRefused("longer than a signed transaction can be")
        found = self._apple.judge_transaction(handed_in.text)
        if found.verdict is not Verdict.VALID:
            raise MessageRefused(found.reason)
        said = translate_transaction(found)
        judged = _judged(handed_in, said, proof_json(chain=found.chain))
        return Handed(judged, said, said.plan.product if said.plan is not None else "")

    def _of_google(self, handed_in: HandedIn) -> Handed:
        said = of_google(handed_in)
        return Handed(_judged(handed_in, said, b"{}"), said, handed_in.product)


def of_apple(handed_in: HandedIn) -> tuple[StoreNotification, str | None]:
    """What a transaction that was judged before says, and Apple's name of the charge. Raises MessageRefused."""
    transaction = read_jws(handed_in.text)
    message = AppleMessage(Verdict.VALID, "", handed_in.environment, None, transaction)
    return translate_transaction(message), text_of(transaction, "transactionId")


def of_google(handed_in: HandedIn) -> StoreNotification:
    """What a token says: that there may be a purchase. Raises MessageRefused."""
    token = handed_in.text
    if not 0 < len(token) <= MAX_TOKEN_CHARACTERS or not token.isascii() or not token.isprintable() or " " in token:
        raise MessageRefused("not a purchase token")
    if not 0 < len(handed_in.product) <= TEXT_LIMIT:
        raise MessageRefused("product is missing")
    line = line_of(token)
    return StoreNotification(
        Store.GOOGLE, handed_in.environment, f"client:{line}", Kind.STARTED, "client", 0, line=line
    )


def _judged(handed_in: HandedIn, said: StoreNotification, proof: bytes) -> Judged:
    """The same for the same purchase, whenever it is handed in. Its environment is the one that was found."""
    plain = pack_handed_in(HandedIn(said.store, handed_in.text, handed_in.product, said.environment))
    content = hashlib.sha256(plain).hexdigest()
    return Judged(
        said.store, Verdict.VALID, "", True, plain, content, said.environment, f"client:{content}", said.line, proof,
        label="client",
    )  # fmt: skip

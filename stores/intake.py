"""What arrives at a store's endpoint, judged: the one shape in which both stores' messages go on to be stored.

Nothing is stored here and nothing raised for what a stranger may send.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final, Protocol

from domain.ids import message_id
from domain.store_notification import Store, StoreEnvironment
from stores.apple.kinds import is_known as apple_knows
from stores.apple.translate import translate
from stores.apple.verify import AppleMessage, AppleVerifier, already_judged, signed_content
from stores.fields import text_of, token_of
from stores.google.announce import announce
from stores.google.announce import is_known as google_knows
from stores.google.envelope import GoogleMessage, line_of, read_push
from stores.google.push import GoogleApp, PushVerifier
from stores.parcel_format import pack_google, proof_json, read_proof
from stores.verdict import MessageRefused, Verdict

_LINE: Final = "originalTransactionId"
_KEPT: Final = frozenset({Verdict.VALID, Verdict.UNVERIFIED, Verdict.FOREIGN})


@dataclass(frozen=True, slots=True, repr=False)
class Judged:
    """A message with what was found out about it.

    `kept`: whether it is worth storing, since it does come from the store. `notification` is the store's id of it, ""
    where it has none that can be read; `content` is the SHA-256 (hex) of what the store has said, which stays the same
    when it says it again. `plain` is what is sealed, `proof` what verifies it once more. `known`: False for a kind of
    message that this release has never heard of; `label` is the store's own name of its kind, for people.
    """

    store: Store
    verdict: Verdict
    reason: str
    kept: bool
    plain: bytes
    content: str
    environment: StoreEnvironment | None = None
    notification: str = ""
    line: str | None = None
    proof: bytes = b"{}"
    known: bool = True
    label: str = ""

    @classmethod
    def unjudged(cls, store: Store, headers: Mapping[bytes, bytes], body: bytes, reason: str) -> "Judged":
        """A message that a defect of ours has kept from being judged: sealed as it would have been, for later."""
        plain = body if store is Store.APPLE else pack_google(_authorization(headers), body)
        return cls(store, Verdict.UNVERIFIED, reason, True, plain, _sha256(body))

    def __repr__(self) -> str:
        return f"Judged({self.store}, {self.verdict}, {self.label or 'unnamed'})"


class Intake(Protocol):
    """One store's way in. Both methods may block and may be called from any thread.

    `confirms`: whether `confirm` has anything to ask.
    """

    store: Store
    confirms: bool

    def judge(self, headers: Mapping[bytes, bytes], body: bytes) -> Judged:
        """Verify a request (names of headers in lower case)."""
        ...

    def confirm(self, judged: Judged, body: bytes) -> Judged:
        """Ask others what `judge` could not tell by itself; may take long. The same again where there is nothing."""
        ...


class AppleIntake:
    """App Store Server Notifications V2."""

    store = Store.APPLE

    def __init__(self, verifier: AppleVerifier) -> None:
        self._verifier = verifier
        self.confirms = verifier.online

    def judge(self, headers: Mapping[bytes, bytes], body: bytes) -> Judged:  # noqa: ARG002 Apple signs bodies alone
        """All that needs nobody else."""
        return self._judged(body, self._verifier.judge(body))

    @staticmethod
    def name_of(body: bytes) -> str | None:
        """The aggregate id that a message would have, not verified; None for one without an id."""
        try:
            message = already_judged(body)
        except MessageRefused:
            return None
        id_ = text_of(message.payload or {}, "notificationUUID")
        return None if id_ is None else message_id(Store.APPLE, message.environment or "", id_)

    def confirm(self, judged: Judged, body: bytes) -> Judged:
        """Whether Apple has revoked a certificate."""
        if judged.verdict is not Verdict.VALID:
            return judged
        found = self._verifier.confirm(body, AppleMessage(Verdict.VALID, "", judged.environment, chain=_chain(judged)))
        return replace(judged, verdict=found.verdict, reason=found.reason)

    def _judged(self, body: bytes, message: AppleMessage) -> Judged:
        payload, transaction, renewal = message.payload or {}, message.transaction or {}, message.renewal or {}
        type_, subtype = text_of(payload, "notificationType") or "", text_of(payload, "subtype") or ""
        judged = Judged(
            Store.APPLE,
            message.verdict,
            message.reason,
            message.verdict in _KEPT,
            body,
            _sha256(signed_content(body)),
            message.environment,
            text_of(payload, "notificationUUID") or "",
            text_of(transaction, _LINE) or text_of(renewal, _LINE),
            proof_json(chain=message.chain),
            message.payload is None or apple_knows(type_, subtype),
            f"{type_}/{subtype}".rstrip("/"),
        )
        return _readable(judged, lambda: translate(message))


class GoogleIntake:
    """Real-time developer notifications, pushed by Pub/Sub."""

    store = Store.GOOGLE
    confirms = False

    def __init__(self, app: GoogleApp, verifier: PushVerifier) -> None:
        self._app, self._verifier = app, verifier

    def judge(self, headers: Mapping[bytes, bytes], body: bytes) -> Judged:
        """The token first: nothing of the body counts before it is known who speaks."""
        authorization = _authorization(headers)
        push = self._verifier.verify(authorization)
        if push.verdict is not Verdict.VALID:
            return Judged(Store.GOOGLE, push.verdict, push.reason, False, b"", _sha256(body))
        return self._judged(authorization, body, read_push(self._app, body), proof_json(key=push.key))

    def confirm(self, judged: Judged, body: bytes) -> Judged:  # noqa: ARG002 the port's signature
        """There is nothing more to ask."""
        return judged

    @staticmethod
    def _judged(authorization: str, body: bytes, message: GoogleMessage, proof: bytes) -> Judged:
        token = token_of(message.fields, "purchaseToken")
        judged = Judged(
            Store.GOOGLE,
            message.verdict,
            message.reason,
            True,
            pack_google(authorization, body),
            # each delivery has a token and a count of its own around the same message
            _sha256(message.data or body),
            None,
            message.message,
            None if token is None else line_of(token),
            proof,
            message.verdict is not Verdict.VALID or google_knows(message),
            message.kind,
        )
        return _readable(judged, lambda: announce(message))


def _readable(judged: Judged, read: Callable[[], object]) -> Judged:
    """A message by the store that lacks what every message has is kept, and applied by nobody."""
    if judged.verdict is not Verdict.VALID:
        return judged
    try:
        read()
    except MessageRefused as refused:
        return replace(judged, verdict=Verdict.MALFORMED, reason=refused.rule)
    return judged


def _authorization(headers: Mapping[bytes, bytes]) -> str:
    return headers.get(b"authorization", b"").decode("latin-1")


def _chain(judged: Judged) -> tuple[bytes, ...]:
    return read_proof(judged.proof).chain


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()

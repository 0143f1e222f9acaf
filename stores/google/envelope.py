"""The body of a push: Pub/Sub's envelope around a developer notification.

https://cloud.google.com/pubsub/docs/push
https://developer.android.com/google/play/billing/rtdn-reference
"""

import base64
import binascii
import hashlib
from typing import Any, Final, NamedTuple

from stores.fields import long_of
from stores.google.push import GoogleApp
from stores.strict_json import read_object
from stores.verdict import MessageRefused, Verdict

KINDS: Final = (
    "subscriptionNotification",
    "oneTimeProductNotification",
    "voidedPurchaseNotification",
    "pendingRefundReviewNotification",
    "testNotification",
)
_UNNAMED: Final = ""
_MAX_ID: Final = 256


class GoogleMessage(NamedTuple):
    """What a push holds. `kind` is one of KINDS, or "" for one that this release does not know.

    `fields` are those of the notification itself, `at` is when the event happened (milliseconds since 1970-01-01 UTC).
    """

    verdict: Verdict
    reason: str = ""
    message: str = ""
    at: int = 0
    kind: str = _UNNAMED
    fields: dict[str, Any] = {}  # noqa: RUF012 never changed
    data: bytes = b""


def read_push(app: GoogleApp, body: bytes) -> GoogleMessage:
    """The message of a push whose token was verified. Never raises: VALID, FOREIGN or MALFORMED."""
    try:
        envelope = read_object(body)
        inner = _object(envelope, "message")
        message = _id_of(inner)
        data = _decoded(inner.get("data"))
        notification = read_object(data)
        at = _millis(notification.get("eventTimeMillis"))
    except MessageRefused as refused:
        return GoogleMessage(Verdict.MALFORMED, refused.rule)
    if envelope.get("subscription") != app.subscription:
        return GoogleMessage(Verdict.FOREIGN, "of another subscription", message, at, data=data)
    if notification.get("packageName") != app.package:
        return GoogleMessage(Verdict.FOREIGN, "about another package", message, at, data=data)
    for kind in KINDS:
        if isinstance(notification.get(kind), dict):
            return GoogleMessage(Verdict.VALID, "", message, at, kind, notification[kind], data)
    return GoogleMessage(Verdict.VALID, "of a kind that is not known", message, at, data=data)


def line_of(purchase_token: str) -> str:
    """Our name of a purchase: the token itself opens it to whoever has it, and is kept encrypted only."""
    return hashlib.sha256(purchase_token.encode()).hexdigest()


def _object(fields: dict[str, Any], name: str) -> dict[str, Any]:
    value = fields.get(name)
    if not isinstance(value, dict):
        raise MessageRefused(f"{name} is no object")
    return value


def _id_of(message: dict[str, Any]) -> str:
    for name in ("messageId", "message_id"):
        value = message.get(name)
        if isinstance(value, str) and 0 < len(value) <= _MAX_ID and value.isascii() and value.isalnum():
            return value
    raise MessageRefused("the message has no id")


def _decoded(data: Any) -> bytes:
    if not isinstance(data, str):
        raise MessageRefused("data is no text")
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        raise MessageRefused("data is not base64") from None


def _millis(value: Any) -> int:
    found = long_of(value)
    if found is None:
        raise MessageRefused("eventTimeMillis is no time")
    return found

"""What a notification of Google's announces: that something changed. How things stand, Google has to be asked."""

from typing import Final

from domain.store_notification import (
    WHOLE,
    Kind,
    Refund,
    Store,
    StoreEnvironment,
    StoreNotification,
)
from stores.fields import integer_of, text_of, token_of
from stores.google.envelope import GoogleMessage, line_of
from stores.verdict import MessageRefused

SUBSCRIPTION: Final[dict[int, Kind]] = {
    1: Kind.RECOVERED,
    2: Kind.RENEWED,
    3: Kind.RENEWAL_TURNED_OFF,
    4: Kind.STARTED,
    5: Kind.HOLD_ENTERED,
    6: Kind.GRACE_ENTERED,
    7: Kind.RENEWAL_TURNED_ON,
    8: Kind.PRICE_CONSENT_GIVEN,
    9: Kind.DATE_EXTENDED,
    10: Kind.PAUSED,
    11: Kind.PAUSE_SCHEDULED,
    12: Kind.REVOKED,
    13: Kind.EXPIRED,
    17: Kind.PLAN_CHANGED_NOW,
    18: Kind.RENEWAL_TURNED_OFF,
    19: Kind.PRICE_CONSENT_ASKED,
    20: Kind.PENDING_CANCELLED,
    22: Kind.PRICE_CONSENT_ASKED,
}
"""https://developer.android.com/google/play/billing/rtdn-reference#sub"""
ONE_TIME: Final[dict[int, Kind]] = {1: Kind.BOUGHT_ONCE, 2: Kind.PENDING_CANCELLED}
PART: Final = 1  # of a refund by quantity only that it is not the whole is known
_FULL_REFUND: Final = 1
_ONE_TIME_PRODUCT: Final = 2
_FETCHED: Final = {"subscriptionNotification", "oneTimeProductNotification", "voidedPurchaseNotification"}


def announce(message: GoogleMessage) -> StoreNotification:
    """The notification of a message whose verdict is VALID. Raises MessageRefused when it names no purchase.

    Its environment is taken for production until Google, asked about the purchase, says that it was a test.
    """
    token = token_of(message.fields, "purchaseToken")
    if message.kind in _FETCHED and token is None:
        raise MessageRefused("purchaseToken is missing")
    kind, label = _kind(message)
    return StoreNotification(
        Store.GOOGLE,
        StoreEnvironment.PRODUCTION,
        message.message,
        kind,
        label,
        message.at,
        line=None if token is None else line_of(token),
        account=text_of(message.fields, "obfuscatedAccountId"),
        refunds=_refunds(message),
        needs_fetch=message.kind in _FETCHED and not _is_one_time_void(message),
    )


def _is_one_time_void(message: GoogleMessage) -> bool:
    """What was bought once has no state to ask for: that it was voided is all there is."""
    return message.kind == "voidedPurchaseNotification" and message.fields.get("productType") == _ONE_TIME_PRODUCT


def is_known(message: GoogleMessage) -> bool:
    """False when Google has introduced something that this release has never heard of."""
    return _kind(message)[0] is not Kind.UNKNOWN


def _kind(message: GoogleMessage) -> tuple[Kind, str]:
    code = integer_of(message.fields, "notificationType") or 0
    match message.kind:
        case "subscriptionNotification":
            return SUBSCRIPTION.get(code, Kind.UNKNOWN), f"subscription/{code}"
        case "oneTimeProductNotification":
            return ONE_TIME.get(code, Kind.UNKNOWN), f"one-time/{code}"
        case "voidedPurchaseNotification":
            return Kind.REFUNDED, "voided"
        case "pendingRefundReviewNotification":
            return Kind.REFUND_INPUT_REQUESTED, "pending-refund-review"
        case "testNotification":
            return Kind.NOT_ABOUT_US, "test"
    return Kind.UNKNOWN, "unknown"


def _refunds(message: GoogleMessage) -> tuple[Refund, ...]:
    order = text_of(message.fields, "orderId")
    if message.kind != "voidedPurchaseNotification" or order is None:
        return ()
    whole = message.fields.get("refundType", _FULL_REFUND) == _FULL_REFUND
    return (Refund(order, message.at, WHOLE if whole else PART),)

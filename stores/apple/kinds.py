"""Apple's notification types and subtypes, as our kinds: one table.

Types are compared as the text that Apple sends, never as the library's enumerations: those lag behind Apple's pages.
A subtype that is not in the table counts as its type does; a type that is not in it is UNKNOWN, kept and counted.

https://developer.apple.com/documentation/appstoreservernotifications/notificationtype
https://developer.apple.com/documentation/appstoreservernotifications/subtype
"""

from typing import Final

from domain.store_notification import Kind

_RENEWAL_STATUS: Final = "DID_CHANGE_RENEWAL_STATUS"
_RENEWAL_PREFERENCE: Final = "DID_CHANGE_RENEWAL_PREF"

BY_SUBTYPE: Final[dict[tuple[str, str], Kind]] = {
    ("SUBSCRIBED", "INITIAL_BUY"): Kind.STARTED,
    ("SUBSCRIBED", "RESUBSCRIBE"): Kind.RESTARTED,
    ("DID_RENEW", "BILLING_RECOVERY"): Kind.RECOVERED,
    (_RENEWAL_PREFERENCE, "UPGRADE"): Kind.PLAN_CHANGED_NOW,
    (_RENEWAL_PREFERENCE, "DOWNGRADE"): Kind.PLAN_CHANGE_SCHEDULED,
    (_RENEWAL_STATUS, "AUTO_RENEW_ENABLED"): Kind.RENEWAL_TURNED_ON,
    (_RENEWAL_STATUS, "AUTO_RENEW_DISABLED"): Kind.RENEWAL_TURNED_OFF,
    ("DID_FAIL_TO_RENEW", "GRACE_PERIOD"): Kind.GRACE_ENTERED,
    ("OFFER_REDEEMED", "INITIAL_BUY"): Kind.STARTED,
    ("OFFER_REDEEMED", "RESUBSCRIBE"): Kind.RESTARTED,
    ("OFFER_REDEEMED", "UPGRADE"): Kind.PLAN_CHANGED_NOW,
    ("OFFER_REDEEMED", "DOWNGRADE"): Kind.PLAN_CHANGE_SCHEDULED,
    ("PRICE_INCREASE", "ACCEPTED"): Kind.PRICE_CONSENT_GIVEN,
}

BY_TYPE: Final[dict[str, Kind]] = {
    "SUBSCRIBED": Kind.STARTED,
    "DID_RENEW": Kind.RENEWED,
    _RENEWAL_PREFERENCE: Kind.PLAN_CHANGE_CANCELLED,
    _RENEWAL_STATUS: Kind.RENEWAL_TURNED_OFF,
    "DID_FAIL_TO_RENEW": Kind.HOLD_ENTERED,
    "GRACE_PERIOD_EXPIRED": Kind.HOLD_ENTERED,
    "EXPIRED": Kind.EXPIRED,
    "OFFER_REDEEMED": Kind.RENEWED,
    "PRICE_INCREASE": Kind.PRICE_CONSENT_ASKED,
    "REFUND": Kind.REFUNDED,
    "REFUND_DECLINED": Kind.REFUND_DECLINED,
    "REFUND_REVERSED": Kind.REFUND_REVERSED,
    "CONSUMPTION_REQUEST": Kind.REFUND_INPUT_REQUESTED,
    "REVOKE": Kind.REVOKED,
    "RENEWAL_EXTENDED": Kind.DATE_EXTENDED,
    "ONE_TIME_CHARGE": Kind.BOUGHT_ONCE,
    # about no purchase of a user of ours
    "RENEWAL_EXTENSION": Kind.NOT_ABOUT_US,
    "EXTERNAL_PURCHASE_TOKEN": Kind.NOT_ABOUT_US,
    "RESCIND_CONSENT": Kind.NOT_ABOUT_US,
    "METADATA_UPDATE": Kind.NOT_ABOUT_US,
    "MIGRATION": Kind.NOT_ABOUT_US,
    "PRICE_CHANGE": Kind.NOT_ABOUT_US,
    "TEST": Kind.NOT_ABOUT_US,
}

SUBTYPES: Final = frozenset(
    {
        "INITIAL_BUY", "RESUBSCRIBE", "BILLING_RECOVERY", "UPGRADE", "DOWNGRADE", "AUTO_RENEW_ENABLED",
        "AUTO_RENEW_DISABLED", "GRACE_PERIOD", "VOLUNTARY", "BILLING_RETRY", "PRICE_INCREASE", "PRODUCT_NOT_FOR_SALE",
        "PENDING", "ACCEPTED", "SUMMARY", "FAILURE", "UNREPORTED", "CREATED", "ACTIVE_TOKEN_REMINDER",
    }
)  # fmt: skip
"""All that Apple's page names; another one is kept and counted."""


def kind_of(type_: str, subtype: str) -> Kind:
    """Why Apple wrote."""
    return BY_SUBTYPE.get((type_, subtype)) or BY_TYPE.get(type_, Kind.UNKNOWN)


def is_known(type_: str, subtype: str) -> bool:
    """False when Apple has introduced something that this release has never heard of."""
    return type_ in BY_TYPE and (not subtype or subtype in SUBTYPES)

"""A verified message of Apple's in our own words.

A field of another type than Apple documents is treated as absent: the message is rightly signed and is kept whole in
the archive, so nothing is lost by not understanding all of it.

https://developer.apple.com/documentation/appstoreserverapi/jwstransactiondecodedpayload
https://developer.apple.com/documentation/appstoreserverapi/jwsrenewalinfodecodedpayload
"""

import re
from typing import Final

from domain.store_notification import (
    WHOLE,
    Charge,
    Kind,
    Ownership,
    Phase,
    Plan,
    PriceConsent,
    Refund,
    RefundReversal,
    Renewal,
    Standing,
    State,
    Store,
    StoreNotification,
)
from stores.apple.kinds import kind_of
from stores.apple.verify import AppleMessage
from stores.fields import TEXT_LIMIT, Fields, integer_of, object_of, text_of
from stores.verdict import MessageRefused

_STATES: Final = {1: State.ACTIVE, 2: State.EXPIRED, 3: State.HOLD, 4: State.GRACE, 5: State.REVOKED}
_NO_CONSENT_GIVEN: Final = 3  # expirationIntent: the user did not agree to a higher price
_CONSENT: Final[dict[int | None, PriceConsent]] = {0: PriceConsent.PENDING, 1: PriceConsent.ACCEPTED}
_CURRENCY: Final = re.compile(r"[A-Z]{3}\Z")


def translate(message: AppleMessage) -> StoreNotification:
    """The notification of a message whose verdict is VALID or UNVERIFIED.

    Raises MessageRefused when it lacks what every notification has: an id, a type, a date.
    """
    payload = message.payload or {}
    notification, type_ = text_of(payload, "notificationUUID"), text_of(payload, "notificationType")
    signed_at = _millis(payload, "signedDate")
    if notification is None or type_ is None or signed_at is None or message.environment is None:
        raise MessageRefused("notificationUUID, notificationType or signedDate is missing")
    subtype = text_of(payload, "subtype") or ""
    kind = kind_of(type_, subtype)
    transaction, renewal = message.transaction or {}, message.renewal or {}
    line = text_of(transaction, "originalTransactionId") or text_of(renewal, "originalTransactionId")
    return StoreNotification(
        Store.APPLE,
        message.environment,
        notification,
        kind,
        f"{type_}/{subtype}"[:TEXT_LIMIT] if subtype else type_,
        signed_at,
        line=line,
        account=_account(transaction, renewal),
        standing=_standing(payload, signed_at),
        plan=_plan(transaction),
        renewal=_renewal(renewal),
        charges=_charges(transaction),
        refunds=_refunds(transaction, kind, signed_at),
        reversals=_reversals(transaction, kind, signed_at),
    )


def translate_transaction(message: AppleMessage) -> StoreNotification:
    """What a signed transaction says by itself: that it was paid, and until when, as of the day it was signed.

    Raises MessageRefused for what is no subscription.
    """
    transaction = message.transaction or {}
    line, id_ = text_of(transaction, "originalTransactionId"), text_of(transaction, "transactionId")
    signed_at, expires_at = _millis(transaction, "signedDate"), _millis(transaction, "expiresDate")
    plan = _plan(transaction)
    if line is None or id_ is None or signed_at is None or plan is None or message.environment is None:
        raise MessageRefused("originalTransactionId, transactionId, productId or signedDate is missing")
    if expires_at is None:
        raise MessageRefused("not a subscription: it has no expiresDate")
    revoked = _millis(transaction, "revocationDate") is not None or transaction.get("isUpgraded") is True
    return StoreNotification(
        Store.APPLE,
        message.environment,
        f"client:{id_}",
        Kind.STARTED,
        "client",
        signed_at,
        line=line,
        account=_account(transaction, {}),
        standing=Standing(signed_at, State.ACTIVE) if signed_at < expires_at and not revoked else None,
        plan=plan,
        charges=_charges(transaction),
        refunds=_refunds(transaction, Kind.STARTED, signed_at),
    )


def state_of_status(status: int) -> State | None:
    """A subscription's state by Apple's number of it; None for one that this release does not know.

    https://developer.apple.com/documentation/appstoreserverapi/status
    """
    return _STATES.get(status)


def _standing(payload: Fields, signed_at: int) -> Standing | None:
    """The status is as of the signed date of the whole message."""
    state = state_of_status(integer_of(object_of(payload, "data"), "status") or 0)
    return None if state is None else Standing(signed_at, state)


def _plan(transaction: Fields) -> Plan | None:
    signed_at, product = _millis(transaction, "signedDate"), text_of(transaction, "productId")
    if signed_at is None or product is None:
        return None
    return Plan(
        signed_at,
        product,
        since=_millis(transaction, "purchaseDate") or 0,
        expires_at=_millis(transaction, "expiresDate"),
        phase=_phase(transaction),
        ownership=_ownership(transaction),
    )


def _phase(transaction: Fields) -> Phase:
    if transaction.get("offerDiscountType") == "FREE_TRIAL":
        return Phase.TRIAL
    if transaction.get("type") == "Non-Renewing Subscription":
        return Phase.PREPAID
    return Phase.INTRO if isinstance(transaction.get("offerType"), int) else Phase.REGULAR


def _ownership(transaction: Fields) -> Ownership:
    return Ownership.FAMILY if transaction.get("inAppOwnershipType") == "FAMILY_SHARED" else Ownership.OWN


def _renewal(renewal: Fields) -> Renewal | None:
    signed_at, status = _millis(renewal, "signedDate"), integer_of(renewal, "autoRenewStatus")
    if signed_at is None or status is None:
        return None
    product = text_of(renewal, "autoRenewProductId")
    consent = _CONSENT.get(integer_of(renewal, "priceIncreaseStatus"), PriceConsent.NONE)
    if renewal.get("expirationIntent") == _NO_CONSENT_GIVEN:
        consent = PriceConsent.DECLINED
    return Renewal(
        signed_at,
        renews=status == 1,
        next_product=None if product == renewal.get("productId") else product,
        price_consent=consent,
        grace_expires_at=_millis(renewal, "gracePeriodExpiresDate"),
    )


def _charge_key(transaction: Fields) -> str | None:
    """One charge, whatever transaction ids devices and notifications have for it."""
    return text_of(transaction, "webOrderLineItemId") or text_of(transaction, "transactionId")


def _charges(transaction: Fields) -> tuple[Charge, ...]:
    """What this user has paid; what a family shares was paid by somebody else."""
    key, at, product = _charge_key(transaction), _millis(transaction, "purchaseDate"), text_of(transaction, "productId")
    if key is None or at is None or product is None or _ownership(transaction) is Ownership.FAMILY:
        return ()
    currency, price = text_of(transaction, "currency"), integer_of(transaction, "price")
    if currency is None or price is None or price < 0 or not _CURRENCY.match(currency):
        return (Charge(key, at, product),)
    return (Charge(key, at, product, currency, price),)


def _refunds(transaction: Fields, kind: Kind, signed_at: int) -> tuple[Refund, ...]:
    """A revocation date without a family's end is a refund, in whatever message it stands."""
    key, revoked_at = _charge_key(transaction), _millis(transaction, "revocationDate")
    how = transaction.get("revocationType")
    if key is None or how == "FAMILY_REVOKE" or _ownership(transaction) is Ownership.FAMILY:
        return ()
    if revoked_at is None and kind is not Kind.REFUNDED:
        return ()
    share = integer_of(transaction, "revocationPercentage") if how == "REFUND_PRORATED" else None
    if share is None or not 0 <= share <= WHOLE:
        share = WHOLE
    return (Refund(key, signed_at if revoked_at is None else revoked_at, share),)


def _reversals(transaction: Fields, kind: Kind, signed_at: int) -> tuple[RefundReversal, ...]:
    key = _charge_key(transaction)
    return (RefundReversal(key, signed_at),) if kind is Kind.REFUND_REVERSED and key is not None else ()


def _account(transaction: Fields, renewal: Fields) -> str | None:
    """The token that we gave Apple; after it was set anew the two parts may differ, and the newer one counts."""
    found = [
        (_millis(part, "signedDate") or 0, token)
        for part in (transaction, renewal)
        if (token := text_of(part, "appAccountToken")) is not None
    ]
    return max(found)[1] if found else None


def _millis(fields: Fields, name: str) -> int | None:
    value = integer_of(fields, name)
    return value if value is not None and value >= 0 else None

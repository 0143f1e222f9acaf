"""How a subscription stands, out of Google's answer about it: `purchases.subscriptionsv2.get`.

An answer is a snapshot as of the moment it was given. A field of another type than Google documents is treated as
absent; the answer is kept whole in the archive.

https://developers.google.com/android-publisher/api-ref/rest/v3/purchases.subscriptionsv2
"""

from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

import msgspec

from domain.store_notification import (
    Charge,
    Kind,
    Phase,
    Plan,
    PriceConsent,
    Renewal,
    Standing,
    State,
    StoreEnvironment,
    StoreNotification,
)
from stores.fields import Fields, object_of, text_of, token_of
from stores.google.envelope import line_of

_PREFIX: Final = "SUBSCRIPTION_STATE_"
_STATES: Final = {
    "PENDING": State.PENDING,
    "ACTIVE": State.ACTIVE,
    "PAUSED": State.PAUSED,
    "IN_GRACE_PERIOD": State.GRACE,
    "ON_HOLD": State.HOLD,
    "CANCELED": State.ACTIVE,  # not to be renewed, paid until it expires
    "EXPIRED": State.EXPIRED,
    "PENDING_PURCHASE_CANCELED": State.EXPIRED,
}
_CONSENT: Final = {
    "OUTSTANDING": PriceConsent.PENDING,
    "PENDING": PriceConsent.PENDING,
    "CONFIRMED": PriceConsent.ACCEPTED,
    "APPLIED": PriceConsent.ACCEPTED,
    "COMPLETED": PriceConsent.ACCEPTED,
}
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)


class Observed(NamedTuple):
    """What Google answered: the notification completed, and what the next call to Google needs.

    `acknowledged` None: Google did not say.
    """

    said: StoreNotification
    etag: str | None
    acknowledged: bool | None


def observe(announced: StoreNotification, resource: Fields, at: int) -> Observed:
    """The announcement with what Google answered at `at` (milliseconds since 1970-01-01 UTC)."""
    items = [item for item in _list(resource, "lineItems") if isinstance(item, dict)]
    current = max(items, key=lambda item: _moment(item, "expiryTime") or 0, default={})
    named = (text_of(resource, "subscriptionState") or "").removeprefix(_PREFIX)
    state = _state(resource, named, announced.kind)
    said = msgspec.structs.replace(
        announced,
        environment=environment_of(resource),
        account=_account(resource) or announced.account,
        standing=None if state is None else Standing(at, state),
        plan=_plan(current, at),
        renewal=_renewal(current, state, named, at),
        charges=_charges(items, at),
        replaces=_replaced(resource, state, named),
        needs_fetch=False,
    )
    return Observed(said, text_of(resource, "etag"), _acknowledged(resource))


def environment_of(resource: Fields) -> StoreEnvironment:
    """Whether money has moved for a purchase."""
    return StoreEnvironment.SANDBOX if "testPurchase" in resource else StoreEnvironment.PRODUCTION


def _state(resource: Fields, named: str, kind: Kind) -> State | None:
    """A purchase that another one has replaced is over for good, whatever else it says."""
    if "replacementCancellation" in object_of(resource, "canceledStateContext"):
        return State.SUPERSEDED
    state = _STATES.get(named)
    return State.REVOKED if state is State.EXPIRED and kind is Kind.REVOKED else state


def _plan(item: Fields, at: int) -> Plan | None:
    product = text_of(item, "productId")
    if product is None:
        return None
    details = object_of(object_of(item, "autoRenewingPlan"), "installmentDetails")
    return Plan(
        at,
        product,
        expires_at=_moment(item, "expiryTime"),
        phase=_phase(item),
        commitment=_commitment(details),
    )


def _phase(item: Fields) -> Phase:
    offer = item.get("offerPhase")
    names = offer if isinstance(offer, dict) else {offer} if isinstance(offer, str) else ()
    if "freeTrial" in names:
        return Phase.TRIAL
    if "introductoryPrice" in names:
        return Phase.INTRO
    return Phase.PREPAID if "prepaidPlan" in item else Phase.REGULAR


def _commitment(details: Fields) -> tuple[int, int] | None:
    """Which payment this is, of how many that the user has committed to."""
    total, left = details.get("initialCommittedPaymentsCount"), details.get("remainingCommittedPaymentsCount")
    if type(total) is not int or type(left) is not int or not 0 <= left <= total:
        return None
    return total - left, total


def _renewal(item: Fields, state: State | None, named: str, at: int) -> Renewal | None:
    product = text_of(item, "productId")
    if product is None:
        return None
    plan = object_of(item, "autoRenewingPlan")
    ended = named == "CANCELED" or state in {State.EXPIRED, State.REVOKED, State.SUPERSEDED}
    return Renewal(
        at,
        renews=plan.get("autoRenewEnabled") is True and not ended,
        next_product=text_of(object_of(item, "deferredItemReplacement"), "productId"),
        price_consent=_consent(plan),
        grace_expires_at=_moment(item, "expiryTime") if state is State.GRACE else None,
    )


def _consent(plan: Fields) -> PriceConsent:
    for name in ("priceStepUpConsentDetails", "priceChangeDetails"):
        found = _CONSENT.get(text_of(object_of(plan, name), "state") or "")
        if found is not None:
            return found
    return PriceConsent.NONE


def _charges(items: list[Fields], at: int) -> tuple[Charge, ...]:
    """The last order of each item. What it cost is not said: an item has the price of the plan, not of the period."""
    found: dict[str, Charge] = {}
    for item in items:
        order, product = text_of(item, "latestSuccessfulOrderId"), text_of(item, "productId")
        if order is not None and product is not None:
            found.setdefault(order, Charge(order, at, product))
    return tuple(found.values())


def _account(resource: Fields) -> str | None:
    """The id that we gave Google; of a purchase made in the Play Store alone, the one of the subscription before it."""
    name = "obfuscatedExternalAccountId"
    before = object_of(object_of(resource, "outOfAppPurchaseContext"), "expiredExternalAccountIdentifiers")
    return text_of(object_of(resource, "externalAccountIdentifiers"), name) or text_of(before, name)


def _acknowledged(resource: Fields) -> bool | None:
    named = (text_of(resource, "acknowledgementState") or "").removeprefix("ACKNOWLEDGEMENT_STATE_")
    return {"ACKNOWLEDGED": True, "PENDING": False}.get(named)


def _replaced(resource: Fields, state: State | None, named: str) -> str | None:
    """The purchase before this one; it goes on as long as this one is not paid, and if it never was."""
    token = token_of(resource, "linkedPurchaseToken")
    if token is None or state is State.PENDING or named == "PENDING_PURCHASE_CANCELED":
        return None
    return line_of(token)


# -- fields ------------------------------------------------------------------------------------------------------------


def _list(fields: Fields, name: str) -> list[Any]:
    value = fields.get(name)
    return value if isinstance(value, list) else []


def _moment(fields: Fields, name: str) -> int | None:
    """A timestamp (RFC 3339) in milliseconds since 1970-01-01 UTC."""
    text = text_of(fields, name)
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    if moment.tzinfo is None or moment < _EPOCH:
        return None
    return (moment - _EPOCH) // _MILLISECOND

"""Apple's payloads as its pages describe them, whole, for one subscription of one app."""

import json
from typing import Any

from simulator.authority import Issued, StoreCa

BUNDLE = "com.example.daily"
APP_ID = 1_234_567
LINE = "400000000000001"
ACCOUNT = "7e3fb20b-4cdb-47cc-936d-99d65f608138"
DAY_MS = 86_400_000


def transaction(signed_at: int, **more: Any) -> dict[str, Any]:
    """A month of a subscription, bought ten days before it was signed."""
    return {
        "originalTransactionId": LINE, "transactionId": "400000000000009", "webOrderLineItemId": "400000000000123",
        "bundleId": BUNDLE, "productId": "daily.monthly", "subscriptionGroupIdentifier": "20", "quantity": 1,
        "purchaseDate": signed_at - 10 * DAY_MS, "originalPurchaseDate": signed_at - 70 * DAY_MS,
        "expiresDate": signed_at + 20 * DAY_MS, "type": "Auto-Renewable Subscription", "appAccountToken": ACCOUNT,
        "inAppOwnershipType": "PURCHASED", "signedDate": signed_at, "environment": "Production", "storefront": "JPN",
        "storefrontId": "143462", "transactionReason": "RENEWAL", "price": 980_000, "currency": "JPY",
        "appTransactionId": "704289572311513293", **more,
    }  # fmt: skip


def renewal(signed_at: int, **more: Any) -> dict[str, Any]:
    """It renews as it is."""
    return {
        "originalTransactionId": LINE, "productId": "daily.monthly", "autoRenewProductId": "daily.monthly",
        "autoRenewStatus": 1, "signedDate": signed_at, "environment": "Production", "renewalPrice": 980_000,
        "currency": "JPY", "renewalDate": signed_at + 20 * DAY_MS,
        "recentSubscriptionStartDate": signed_at - 70 * DAY_MS,
        "appTransactionId": "704289572311513293", "appAccountToken": ACCOUNT, **more,
    }  # fmt: skip


def notification(signed_at: int, type_: str = "DID_RENEW", subtype: str = "", **data: Any) -> dict[str, Any]:
    """The outer payload; `data` replaces fields of its data (None takes one away)."""
    found = {
        "environment": "Production", "appAppleId": APP_ID, "bundleId": BUNDLE, "bundleVersion": "7", "status": 1,
        **data,
    }  # fmt: skip
    return {
        "notificationType": type_, **({"subtype": subtype} if subtype else {}),
        "notificationUUID": "002e14d5-51f5-4503-b5a8-c3a1af68eb20", "version": "2.0", "signedDate": signed_at,
        "data": {name: value for name, value in found.items() if value is not None},
    }  # fmt: skip


def body(ca: StoreCa, outer: Any, leaf: Issued | None = None, **header: Any) -> bytes:
    """What Apple posts."""
    return json.dumps({"signedPayload": ca.sign(outer, leaf=leaf, **header)}).encode()


def whole(ca: StoreCa, signed_at: int, type_: str = "DID_RENEW", subtype: str = "", **data: Any) -> bytes:
    """What Apple posts, with both inner parts."""
    inner = {
        "signedTransactionInfo": ca.sign(transaction(signed_at)), "signedRenewalInfo": ca.sign(renewal(signed_at)),
        **data,
    }  # fmt: skip
    return body(ca, notification(signed_at, type_, subtype, **inner))

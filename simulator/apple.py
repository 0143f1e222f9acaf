"""The App Store: lines, signed notifications, and the App Store Server API over them.

https://developer.apple.com/documentation/appstoreservernotifications
https://developer.apple.com/documentation/appstoreserverapi
"""

import json
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from simulator.authority import StoreCa
from simulator.clock import Clock
from simulator.lines import GRACE, Charge, Line, Standing, digits

WHOLE: Final = 100_000
_STATUS: Final = {
    Standing.ACTIVE: 1, Standing.EXPIRED: 2, Standing.HOLD: 3, Standing.GRACE: 4, Standing.REVOKED: 5,
}  # fmt: skip


@dataclass
class AppleNotification:
    """A notification and what became of sending it. `body` is what is posted."""

    id: str
    type: str
    subtype: str
    signed_at: int
    line: str | None
    body: bytes
    attempts: list[tuple[int, str]] = field(default_factory=list)

    @property
    def signed_payload(self) -> str:
        """The JWS."""
        found: str = json.loads(self.body)["signedPayload"]
        return found

    @property
    def delivered(self) -> bool:
        """Whether it was ever answered with success."""
        return any(result == "SUCCESS" for _, result in self.attempts)


class AppleStore:
    """Every verb changes a line and hands its notification to `notify`. From any thread."""

    def __init__(
        self, authority: StoreCa, bundle: str, app_id: int, clock: Clock, *, environment: str = "Production"
    ) -> None:
        self.authority, self.bundle, self.app_id, self.clock = authority, bundle, app_id, clock
        self.environment = environment
        self.lines: dict[str, Line] = {}
        self.sent: list[AppleNotification] = []
        self.consumption: list[tuple[str, dict[str, Any]]] = []
        self.notify: Callable[[AppleNotification], None] = lambda _: None
        self._lock = threading.RLock()

    # -- what happens to lines ---------------------------------------------------------------------------------------

    def buy(self, product: str, account: str | None = None, *, trial: bool = False, quiet: bool = False) -> Line:
        """A user subscribes; `quiet`: and the notification of it is never sent."""
        with self._lock:
            now = self.clock.now()
            line = Line(digits(15), product, account, now, trial=trial)
            line.charge(now, digits(15))
            self.lines[line.name] = line
            self._say(line, "SUBSCRIBED", "INITIAL_BUY", quiet=quiet)
            return line

    def renew(self, line: Line, *, quiet: bool = False) -> None:
        """The next period is paid."""
        with self._lock:
            recovered = line.standing in {Standing.HOLD, Standing.GRACE}
            line.trial = False
            line.product, line.next_product = line.next_product or line.product, None
            line.charge(self.clock.now(), digits(15))
            self._say(line, "DID_RENEW", "BILLING_RECOVERY" if recovered else "", quiet=quiet)

    def fail(self, line: Line, *, grace: bool) -> None:
        """The payment fails: access goes on for a while, or not."""
        with self._lock:
            now = self.clock.now()
            line.standing, line.expires_at = (Standing.GRACE if grace else Standing.HOLD), now
            line.grace_until = now + GRACE if grace else None
            self._say(line, "DID_FAIL_TO_RENEW", "GRACE_PERIOD" if grace else "")

    def end_grace(self, line: Line) -> None:
        """The grace period is over, Apple still tries."""
        with self._lock:
            line.standing, line.grace_until = Standing.HOLD, None
            self._say(line, "GRACE_PERIOD_EXPIRED")

    def expire(self, line: Line, why: str = "VOLUNTARY") -> None:
        """It is over."""
        with self._lock:
            line.standing, line.expires_at, line.renews = Standing.EXPIRED, self.clock.now(), False
            self._say(line, "EXPIRED", why)

    def resubscribe(self, line: Line) -> None:
        """The user comes back."""
        with self._lock:
            line.renews, line.expires_at = True, 0
            line.charge(self.clock.now(), digits(15))
            self._say(line, "SUBSCRIBED", "RESUBSCRIBE")

    def renewal(self, line: Line, *, on: bool) -> None:
        """The user turns the renewal off, or on again."""
        with self._lock:
            line.renews = on
            self._say(line, "DID_CHANGE_RENEWAL_STATUS", "AUTO_RENEW_ENABLED" if on else "AUTO_RENEW_DISABLED")

    def upgrade(self, line: Line, product: str) -> Line:
        """Another plan at once, under the same line."""
        with self._lock:
            line.product, line.expires_at = product, 0
            line.charge(self.clock.now(), digits(15), 1_980_000)
            self._say(line, "DID_CHANGE_RENEWAL_PREF", "UPGRADE")
            return line

    def downgrade(self, line: Line, product: str) -> None:
        """Another plan at the next renewal."""
        with self._lock:
            line.next_product = product
            self._say(line, "DID_CHANGE_RENEWAL_PREF", "DOWNGRADE")

    def refund(self, line: Line, share: int = WHOLE, *, charge: int = -1, quiet: bool = False) -> None:
        """Money is given back: of the last charge the line ends, of an earlier one it does not."""
        with self._lock:
            found = line.charges[charge]
            found.refunded, found.refunded_at = share, self.clock.now()
            if found is line.charges[-1] and share == WHOLE:
                line.standing, line.expires_at, line.renews = Standing.REVOKED, found.refunded_at, False
            self._say(line, "REFUND", about=found, quiet=quiet)

    def reverse_refund(self, line: Line) -> None:
        """A refund is undone."""
        with self._lock:
            found = line.charges[-1]
            found.refunded, found.refunded_at = 0, None
            line.standing, line.expires_at = Standing.ACTIVE, self.clock.now() + GRACE
            self._say(line, "REFUND_REVERSED")

    def ask_consumption(self, line: Line) -> None:
        """A user asks for his money, and Apple asks us."""
        with self._lock:
            self._say(line, "CONSUMPTION_REQUEST")

    def revoke(self, line: Line) -> None:
        """Family sharing ends."""
        with self._lock:
            line.standing = Standing.REVOKED
            self._say(line, "REVOKE")

    def say(self, line: Line | None, type_: str, subtype: str = "") -> None:
        """A notification of any type, about a line or about none."""
        with self._lock:
            self._say(line, type_, subtype)

    # -- formats -----------------------------------------------------------------------------------------------------

    def signed_transaction(self, line: Line) -> str:
        """What StoreKit hands to the app."""
        with self._lock:
            return self.authority.sign(self._transaction(line, self.clock.now(), line.charges[-1]))

    def signed_renewal(self, line: Line) -> str:
        """What is going to happen to it, signed."""
        with self._lock:
            return self.authority.sign(self._renewal(line, self.clock.now()))

    def status_of(self, line: Line) -> int:
        """Apple's number for it."""
        return _STATUS.get(line.standing, 2)

    def _say(
        self, line: Line | None, type_: str, subtype: str = "", *, about: Charge | None = None, quiet: bool = False
    ) -> None:
        now = self.clock.now()
        data: dict[str, Any] = {
            "environment": self.environment, "appAppleId": self.app_id, "bundleId": self.bundle, "bundleVersion": "7",
        }  # fmt: skip
        if line is not None:
            charge = about or line.charges[-1]
            data |= {
                "status": self.status_of(line),
                "signedTransactionInfo": self.authority.sign(self._transaction(line, now, charge)),
                "signedRenewalInfo": self.authority.sign(self._renewal(line, now)),
            }
        outer = {
            "notificationType": type_, "notificationUUID": str(uuid.uuid4()), "version": "2.0", "signedDate": now,
            "data": data, **({"subtype": subtype} if subtype else {}),
        }  # fmt: skip
        body = json.dumps({"signedPayload": self.authority.sign(outer)}).encode()
        id_ = str(outer["notificationUUID"])
        sent = AppleNotification(id_, type_, subtype, now, line.name if line else None, body)
        self.sent.append(sent)
        if quiet:
            sent.attempts.append((now, "TIMED_OUT"))
        else:
            self.notify(sent)

    def _transaction(self, line: Line, now: int, charge: Charge) -> dict[str, Any]:
        last = charge is line.charges[-1]
        found: dict[str, Any] = {
            "originalTransactionId": line.name, "transactionId": charge.key, "webOrderLineItemId": charge.key,
            "bundleId": self.bundle, "productId": charge.product, "subscriptionGroupIdentifier": "20", "quantity": 1,
            "purchaseDate": charge.at, "originalPurchaseDate": line.bought_at,
            "expiresDate": line.expires_at if last else charge.at + 30 * 86_400_000,
            "type": "Auto-Renewable Subscription", "inAppOwnershipType": "PURCHASED", "signedDate": now,
            "environment": self.environment, "storefront": "JPN", "storefrontId": "143462",
            "transactionReason": "PURCHASE" if charge is line.charges[0] else "RENEWAL", "price": charge.milliunits,
            "currency": "JPY", "appTransactionId": f"7{line.name}",
        }  # fmt: skip
        if line.account is not None:
            found["appAccountToken"] = line.account
        if line.trial:
            found |= {"offerType": 1, "offerDiscountType": "FREE_TRIAL"}
        if charge.refunded_at is not None:
            how = "REFUND_FULL" if charge.refunded == WHOLE else "REFUND_PRORATED"
            found |= {"revocationDate": charge.refunded_at, "revocationReason": 0, "revocationType": how}
            found |= {"revocationPercentage": charge.refunded} if charge.refunded != WHOLE else {}
        return found

    def _renewal(self, line: Line, now: int) -> dict[str, Any]:
        found: dict[str, Any] = {
            "originalTransactionId": line.name, "productId": line.product,
            "autoRenewProductId": line.next_product or line.product, "autoRenewStatus": int(line.renews),
            "signedDate": now, "environment": self.environment, "renewalPrice": 980_000, "currency": "JPY",
            "renewalDate": line.expires_at, "recentSubscriptionStartDate": line.bought_at,
            "isInBillingRetryPeriod": line.standing in {Standing.HOLD, Standing.GRACE},
        }  # fmt: skip
        if line.account is not None:
            found["appAccountToken"] = line.account
        if line.grace_until is not None:
            found["gracePeriodExpiresDate"] = line.grace_until
        return found

"""Google Play: purchases by token, developer notifications, and the parts of the Play API that we use.

https://developer.android.com/google/play/billing/rtdn-reference
https://developers.google.com/android-publisher/api-ref/rest/v3/purchases.subscriptionsv2
"""

import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from simulator.clock import Clock
from simulator.lines import GRACE, Line, Standing, digits

_CODES: Final = {
    "recovered": 1, "renewed": 2, "canceled": 3, "purchased": 4, "on_hold": 5, "in_grace": 6, "restarted": 7,
    "paused": 10, "revoked": 12, "expired": 13,
}  # fmt: skip
_STATES: Final = {
    Standing.PENDING: "PENDING", Standing.ACTIVE: "ACTIVE", Standing.GRACE: "IN_GRACE_PERIOD", Standing.HOLD: "ON_HOLD",
    Standing.PAUSED: "PAUSED", Standing.EXPIRED: "EXPIRED", Standing.REVOKED: "EXPIRED",
}  # fmt: skip


@dataclass
class GoogleNotification:
    """A notification and what became of pushing it. `data` is what the envelope carries."""

    id: str
    at: int
    data: dict[str, Any]
    line: str | None
    attempts: list[tuple[int, str]] = field(default_factory=list)
    dead: bool = False

    @property
    def delivered(self) -> bool:
        """Whether it was ever acknowledged."""
        return any(result == "SUCCESS" for _, result in self.attempts)


class GooglePlay:
    """Every verb changes a line and hands its notification to `notify`. From any thread."""

    def __init__(self, package: str, clock: Clock) -> None:
        self.package, self.clock = package, clock
        self.lines: dict[str, Line] = {}
        self.sent: list[GoogleNotification] = []
        self.voided: list[dict[str, Any]] = []
        self.reviewed: list[tuple[str, dict[str, Any]]] = []
        self.notify: Callable[[GoogleNotification], None] = lambda _: None
        self._lock = threading.RLock()

    def buy(
        self, product: str, account: str | None = None, *, trial: bool = False, quiet: bool = False,
        linked: Line | None = None,
    ) -> Line:  # fmt: skip
        """A user subscribes, or replaces another purchase."""
        with self._lock:
            now = self.clock.now()
            line = Line(secrets.token_urlsafe(72), product, account, now, trial=trial)
            line.charge(now, f"GPA.{digits(4)}-{digits(4)}-{digits(4)}-{digits(5)}")
            if linked is not None:
                line.linked, linked.replaced, linked.standing, linked.renews = (
                    linked.name, True, Standing.EXPIRED, False,
                )  # fmt: skip
                linked.changed()
            self.lines[line.name] = line
            self._say(line, "purchased", quiet=quiet)
            return line

    def renew(self, line: Line, *, quiet: bool = False) -> None:
        """The next period is paid."""
        with self._lock:
            recovered = line.standing in {Standing.HOLD, Standing.GRACE, Standing.PAUSED}
            line.trial = False
            line.charge(self.clock.now(), f"{line.charges[0].key}..{len(line.charges) - 1}")
            self._say(line, "recovered" if recovered else "renewed", quiet=quiet)

    def fail(self, line: Line, *, grace: bool) -> None:
        """The payment fails: access goes on for a while, or not."""
        with self._lock:
            now = self.clock.now()
            line.standing, line.expires_at = (Standing.GRACE if grace else Standing.HOLD), now + (GRACE if grace else 0)
            line.changed()
            self._say(line, "in_grace" if grace else "on_hold")

    def end_grace(self, line: Line) -> None:
        """The grace period is over: the account is on hold."""
        with self._lock:
            line.standing, line.expires_at = Standing.HOLD, self.clock.now()
            line.changed()
            self._say(line, "on_hold")

    def pause(self, line: Line) -> None:
        """The user pauses it."""
        with self._lock:
            line.standing, line.expires_at = Standing.PAUSED, self.clock.now()
            line.changed()
            self._say(line, "paused")

    def expire(self, line: Line, why: str = "") -> None:  # noqa: ARG002 as at Apple
        """It is over."""
        with self._lock:
            line.standing, line.expires_at, line.renews = Standing.EXPIRED, self.clock.now(), False
            line.changed()
            self._say(line, "expired")

    def resubscribe(self, line: Line) -> Line:
        """The user comes back: at Google that is a purchase of its own, linked to the old one."""
        return self.buy(line.product, line.account, linked=line)

    def renewal(self, line: Line, *, on: bool) -> None:
        """The user turns the renewal off, or on again."""
        with self._lock:
            line.renews = on
            line.changed()
            self._say(line, "restarted" if on else "canceled")

    def upgrade(self, line: Line, product: str) -> Line:
        """Another plan at once: a purchase of its own."""
        return self.buy(product, line.account, linked=line)

    def downgrade(self, line: Line, product: str) -> None:
        """Another plan at the next renewal."""
        with self._lock:
            line.next_product = product
            line.changed()
            self._raw(line, {"notificationType": 17})

    def refund(self, line: Line, share: int = 100_000, *, charge: int = -1, quiet: bool = False) -> None:
        """Money is given back: of the last charge the line ends, of an earlier one it does not."""
        with self._lock:
            now, found = self.clock.now(), line.charges[charge]
            found.refunded, found.refunded_at = share, now
            whole = share == 100_000  # noqa: PLR2004 all of it
            if found is line.charges[-1] and whole:
                line.standing, line.expires_at, line.renews = Standing.EXPIRED, now, False
                line.changed()
            self._void(line, found.key, now, whole=whole, quiet=quiet)

    def revoke(self, line: Line) -> None:
        """Access ends at once, with the money given back."""
        with self._lock:
            now = self.clock.now()
            line.standing, line.expires_at, line.renews = Standing.REVOKED, now, False
            line.changed()
            self._say(line, "revoked")
            self._void(line, line.charges[-1].key, now, whole=True, quiet=False)

    def say_test(self) -> None:
        """The console's test notification."""
        with self._lock:
            self._send({"testNotification": {"version": "1.0"}}, None)

    def abandon(self, line: Line) -> None:
        """Three days have gone by without an acknowledgement."""
        with self._lock:
            if line.acknowledged or line.standing is Standing.REVOKED:
                return
            now = self.clock.now()
            line.standing, line.expires_at, line.renews = Standing.REVOKED, now, False
            line.changed()
            self.voided.append(self._voided(line, line.charges[-1].key, now, reason=8))
            self._say(line, "revoked")

    # -- formats -----------------------------------------------------------------------------------------------------

    def resource(self, line: Line) -> dict[str, Any]:
        """What `purchases.subscriptionsv2.get` answers."""
        with self._lock:
            state = _STATES[line.standing]
            if state == "ACTIVE" and not line.renews:
                state = "CANCELED"
            item: dict[str, Any] = {
                "productId": line.product, "expiryTime": _time(line.expires_at),
                "latestSuccessfulOrderId": line.charges[-1].key,
                "autoRenewingPlan": {"autoRenewEnabled": line.renews},
                "offerPhase": {"freeTrial": {}} if line.trial else {"basePrice": {}},
            }  # fmt: skip
            if line.next_product:
                item["deferredItemReplacement"] = {"productId": line.next_product}
            found: dict[str, Any] = {
                "kind": "androidpublisher#subscriptionPurchaseV2", "subscriptionState": f"SUBSCRIPTION_STATE_{state}",
                "acknowledgementState": f"ACKNOWLEDGEMENT_STATE_{'ACKNOWLEDGED' if line.acknowledged else 'PENDING'}",
                "startTime": _time(line.bought_at), "regionCode": "JP", "etag": f'"{line.etag}"', "lineItems": [item],
            }  # fmt: skip
            if line.account is not None:
                found["externalAccountIdentifiers"] = {"obfuscatedExternalAccountId": line.account}
            if line.linked is not None:
                found["linkedPurchaseToken"] = line.linked
            if line.replaced:
                found["canceledStateContext"] = {"replacementCancellation": {}}
            return found

    def _say(self, line: Line, what: str, *, quiet: bool = False) -> None:
        self._raw(line, {"notificationType": _CODES[what]}, quiet=quiet)

    def _raw(self, line: Line, fields: dict[str, Any], *, quiet: bool = False) -> None:
        inner = {"version": "1.0", **fields, "purchaseToken": line.name, "subscriptionId": line.product}
        self._send({"subscriptionNotification": inner}, line, quiet=quiet)

    def _void(self, line: Line, order: str, now: int, *, whole: bool, quiet: bool) -> None:
        self.voided.append(self._voided(line, order, now, reason=0))
        inner = {"purchaseToken": line.name, "orderId": order, "productType": 1, "refundType": 1 if whole else 2}
        self._send({"voidedPurchaseNotification": inner}, line, quiet=quiet)

    @staticmethod
    def _voided(line: Line, order: str, now: int, reason: int) -> dict[str, Any]:
        return {
            "kind": "androidpublisher#voidedPurchase", "purchaseToken": line.name, "orderId": order,
            "purchaseTimeMillis": str(line.bought_at), "voidedTimeMillis": str(now), "voidedSource": 0,
            "voidedReason": reason,
        }  # fmt: skip

    def _send(self, fields: dict[str, Any], line: Line | None, *, quiet: bool = False) -> None:
        now = self.clock.now()
        data = {"version": "1.0", "packageName": self.package, "eventTimeMillis": str(now), **fields}
        sent = GoogleNotification(digits(16), now, data, line.name if line else None)
        self.sent.append(sent)
        if quiet:
            sent.attempts.append((now, "LOST"))
        else:
            self.notify(sent)


def _time(millis: int) -> str:
    return datetime.fromtimestamp(millis / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

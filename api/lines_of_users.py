"""What a user may use, and why: the chain from a store's bytes to access, out of the aggregates as stored.

payload (hash) ▶ entry (position) ▶ what it says ▶ rule ▶ access
"""

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any, Final, NamedTuple

import msgspec

from domain.access import DAY_MILLIS, AccessReason, access_of
from domain.aggregate import Aggregate
from domain.entry import Envelope, decode_envelope
from domain.ids import identity_id, purchase_id
from domain.purchase import Origin, PurchaseSaga
from domain.purchase_table import Step
from domain.store_identity import StoreIdentity
from domain.store_notification import StoreEnvironment
from domain.subscription import Subscription
from domain.subscription_history import History

Load = Callable[[str], Awaitable[Aggregate | None]]
TEMPORARY: Final = "temporary"
SANDBOX: Final = "sandbox"
NOT_YOURS: Final = "bound_to_another_user"
TEMPORARY_MILLIS: Final = DAY_MILLIS
RULES: Final = {
    AccessReason.PAID: "active gives access until the end of the period that was paid",
    AccessReason.GRACE: "a failed payment keeps access until the end of the grace period",
    AccessReason.SOFT_GAP: "what is going to renew keeps access for a while when its store is late to report",
    AccessReason.NOT_STARTED: "what is not paid yet gives no access",
    AccessReason.UNKNOWN_PERIOD: "without the end of the period nothing is given",
    AccessReason.RAN_OUT: "the period has ended and nothing says that it goes on",
    AccessReason.HOLD: "a failed payment without a grace period gives no access",
    AccessReason.PAUSED: "what its user has paused gives no access",
    AccessReason.EXPIRED: "what has expired gives no access",
    AccessReason.REVOKED: "what was revoked gives no access",
    AccessReason.SUPERSEDED: "another purchase has taken its place",
    TEMPORARY: "a purchase that is being verified gives access for a day at most",
    SANDBOX: "a sandbox purchase gives no access in production",
    NOT_YOURS: "the line belongs to another user",
}


class Because(msgspec.Struct, frozen=True, kw_only=True):
    """A link of the chain: the payload (SHA-256 of its ciphertext), the entry that records it, and what it says."""

    payload: str
    position: int
    type: str
    says: Any


class LineAccess(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Access by one line. Times are milliseconds since 1970-01-01 UTC."""

    subscription: str
    store: str
    environment: str
    state: str
    product: str | None
    granted: bool
    reason: str
    until: int | None
    rule: str | None = None
    because: list[Because] | None = None


class UserAccess(msgspec.Struct, frozen=True, kw_only=True):
    """What a user may use now: granted when any of the lines grants it."""

    granted: bool
    at: int
    lines: list[LineAccess]


class Decision(NamedTuple):
    """What was decided of a line."""

    granted: bool
    reason: str
    until: int | None


def decide(
    line: Subscription | None, bound_to: str | None, purchase: PurchaseSaga | None, begun_at: int | None, user: str,
    now: int, soft_gap: int,
) -> Decision:  # fmt: skip
    """Access by a line, for a user, at `now`. `begun_at` is when the purchase's round began."""
    temporary = (
        purchase is not None and purchase.user == user and purchase.state is Step.VERIFY
        and purchase.origin is Origin.CLIENT and begun_at is not None and now < begun_at + TEMPORARY_MILLIS
    )  # fmt: skip
    if bound_to != user:
        if temporary and begun_at is not None and bound_to is None:
            return Decision(granted=True, reason=TEMPORARY, until=begun_at + TEMPORARY_MILLIS)
        return Decision(granted=False, reason=NOT_YOURS if bound_to else AccessReason.NOT_STARTED, until=None)
    if line is None:
        return Decision(granted=False, reason=AccessReason.NOT_STARTED, until=None)
    if line.environment is StoreEnvironment.SANDBOX:
        return Decision(granted=False, reason=SANDBOX, until=None)
    return Decision(*access_of(line.history, now, soft_gap))


class Lines:
    """Reads lines. `of_aggregate` gives an aggregate's entries; `run` does blocking work in a reading thread."""

    def __init__(
        self, load: Load, of_aggregate: Callable[[str], list[tuple[int, bytes]]], run: Callable[..., Any], soft_gap: int
    ) -> None:
        self._load, self._of_aggregate, self._run, self._soft_gap = load, of_aggregate, run, soft_gap

    async def access(self, subscription: str, user: str, now: int, *, explain: bool) -> LineAccess:
        """One line's access for a user."""
        line, purchase, identity = await self._three(subscription)
        begun = None if purchase is None else await self._begun_at(purchase)
        decision = decide(line, None if identity is None else identity.user, purchase, begun, user, now, self._soft_gap)
        because = None
        if explain and line is not None:
            because = await self._run(lambda: self._because(line))
        plan = None if line is None else line.history.plan
        about = line or purchase
        return LineAccess(
            subscription=subscription,
            store="" if about is None else about.store,
            environment="" if about is None else about.environment,
            state="unknown" if line is None else line.history.state,
            product=None if plan is None else plan.product,
            granted=decision.granted,
            reason=decision.reason,
            until=decision.until,
            rule=RULES[decision.reason] if explain else None,
            because=because,
        )

    async def _three(self, subscription: str) -> tuple[Subscription | None, PurchaseSaga | None, StoreIdentity | None]:
        line = await self._load(subscription)
        purchase = await self._load(purchase_id(subscription))
        identity = await self._load(identity_id(subscription))
        return (
            line if isinstance(line, Subscription) else None,
            purchase if isinstance(purchase, PurchaseSaga) else None,
            identity if isinstance(identity, StoreIdentity) else None,
        )

    async def _begun_at(self, purchase: PurchaseSaga) -> int | None:
        def find() -> int | None:
            for _, entry in reversed(self._of_aggregate(purchase.id)):
                envelope = decode_envelope(entry)
                if envelope.type in {"PurchaseAccepted", "PurchaseReopened"}:
                    return millis_of(envelope)
            return None

        found: int | None = await self._run(find)
        return found

    def _because(self, line: Subscription) -> list[Because]:
        """The entries that say what counts now: the standing, the plan, the renewal, what has replaced it."""
        history, found = line.history, dict[str, Because]()
        for position, entry in self._of_aggregate(line.id):
            envelope = decode_envelope(entry)
            data = msgspec.json.decode(envelope.data)
            for part in ("standing", "plan", "renewal"):
                counts = getattr(history, part)
                if data.get(part) is not None and counts is not None and data[part] == msgspec.to_builtins(counts):
                    found[part] = Because(
                        payload=data["payload"], position=position, type=envelope.type, says={part: data[part]}
                    )
            if envelope.type == "SubscriptionSuperseded":
                found["superseded"] = Because(payload="", position=position, type=envelope.type, says=data)
        return sorted(found.values(), key=lambda each: each.position)


def millis_of(envelope: Envelope) -> int:
    """When an entry was recorded, in milliseconds since 1970-01-01 UTC."""
    return int(datetime.fromisoformat(envelope.recorded_at).timestamp() * 1000)


def access_after(history: History, at: int, soft_gap: int) -> tuple[bool, str]:
    """Whether a history gave access at a moment, and why."""
    found = access_of(history, at, soft_gap)
    return found.granted, found.reason

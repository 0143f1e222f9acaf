"""What an app store says, in our own words: the one shape that both stores are translated to (in `stores/`).

A notification tells two kinds of things, and they are treated apart for ever after:

- *snapshots*: how something was at a moment (`Standing`, `Plan`, `Renewal`). Each carries the moment it was signed or
  fetched; of two, the later one counts. The three parts are dated separately, as Apple signs them.
- *facts*: what has happened once and stays true (`Charge`, `Refund`, `RefundReversal`). They have keys, are never
  dropped for being late, and repeating one changes nothing.

`kind` says why the store wrote. It is for people and counters; access follows from snapshots alone.

Times are milliseconds since 1970-01-01 UTC.
"""

from enum import StrEnum
from typing import Annotated, Final

import msgspec
from msgspec import Meta

Millis = Annotated[int, Meta(ge=0, lt=2**53, description="milliseconds since 1970-01-01 UTC")]
StoreText = Annotated[str, Meta(max_length=256, pattern=r"\A[\x21-\x7e][\x20-\x7e]*\Z")]
"""An identifier or a name as a store writes it: printable ASCII."""
Permille = Annotated[int, Meta(ge=0, le=100_000)]
"""Thousandths of a percent, as a store gives a share."""
WHOLE: Final = 100_000


class Store(StrEnum):
    """Who speaks."""

    APPLE = "apple"
    GOOGLE = "google"


class StoreEnvironment(StrEnum):
    """Whether money moves. A sandbox purchase never grants access in production."""

    PRODUCTION = "production"
    SANDBOX = "sandbox"


class State(StrEnum):
    """The life cycle of a subscription, as a store has it."""

    PENDING = "pending"
    ACTIVE = "active"
    GRACE = "grace"  # payment failed, access goes on
    HOLD = "hold"  # payment failed, no access
    PAUSED = "paused"
    EXPIRED = "expired"
    REVOKED = "revoked"
    SUPERSEDED = "superseded"  # another purchase has replaced this one, for good


class Phase(StrEnum):
    """What kind of period is running."""

    TRIAL = "trial"
    INTRO = "intro"
    REGULAR = "regular"
    PREPAID = "prepaid"


class Ownership(StrEnum):
    """Who has paid."""

    OWN = "own"
    FAMILY = "family"


class PriceConsent(StrEnum):
    """What a user has said to a higher price."""

    NONE = "none"  # nobody asked
    PENDING = "pending"
    ACCEPTED = "accepted"
    DECLINED = "declined"


class Kind(StrEnum):
    """Why a store wrote."""

    STARTED = "started"
    RESTARTED = "restarted"
    RENEWED = "renewed"
    RENEWAL_TURNED_OFF = "renewal_turned_off"
    RENEWAL_TURNED_ON = "renewal_turned_on"
    GRACE_ENTERED = "grace_entered"
    HOLD_ENTERED = "hold_entered"
    RECOVERED = "recovered"
    PAUSE_SCHEDULED = "pause_scheduled"
    PAUSED = "paused"
    PLAN_CHANGED_NOW = "plan_changed_now"
    PLAN_CHANGE_SCHEDULED = "plan_change_scheduled"
    PLAN_CHANGE_CANCELLED = "plan_change_cancelled"
    PRICE_CONSENT_ASKED = "price_consent_asked"
    PRICE_CONSENT_GIVEN = "price_consent_given"
    DATE_EXTENDED = "date_extended"
    EXPIRED = "expired"
    REFUNDED = "refunded"
    REFUND_DECLINED = "refund_declined"
    REFUND_REVERSED = "refund_reversed"
    REFUND_INPUT_REQUESTED = "refund_input_requested"
    REVOKED = "revoked"
    PENDING_CANCELLED = "pending_cancelled"
    BOUGHT_ONCE = "bought_once"
    NOT_ABOUT_US = "not_about_us"  # tests, mass jobs, programmes that this ledger takes no part in
    UNKNOWN = "unknown"  # a type that this release does not know: kept, counted, alarmed


class Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A snapshot: true at `at`, when the store signed it or answered it."""

    at: Millis


class Standing(Part, frozen=True, forbid_unknown_fields=True):
    """The state of the life cycle."""

    state: State


class Plan(Part, frozen=True, forbid_unknown_fields=True):
    """What has been bought and until when it is paid. `expires_at` is absent for what does not expire.

    `since` is when the paid period began, where the store says so: a later period counts before an earlier one, however
    late something is said of the earlier one (its refund, say).
    """

    product: StoreText
    since: Millis = 0
    expires_at: Millis | None = None
    phase: Phase = Phase.REGULAR
    ownership: Ownership = Ownership.OWN
    commitment: tuple[int, int] | None = None  # the payment of a commitment that this is, of how many


class Renewal(Part, frozen=True, forbid_unknown_fields=True):
    """What is going to happen at the end of the period."""

    renews: bool
    next_product: StoreText | None = None
    price_consent: PriceConsent = PriceConsent.NONE
    grace_expires_at: Millis | None = None


class Charge(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Money was taken, once. `key` names the charge whatever else is said of it; the amount is known or not."""

    key: StoreText
    at: Millis
    product: StoreText
    currency: Annotated[str, Meta(pattern=r"\A[A-Z]{3}\Z")] | None = None
    milliunits: Annotated[int, Meta(ge=0, lt=2**53)] | None = None


class Refund(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Money of a charge was given back. It may be heard of before the charge itself."""

    charge: StoreText
    at: Millis
    share: Permille = WHOLE


class RefundReversal(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A refund was undone."""

    charge: StoreText
    at: Millis


class StoreNotification(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One message of a store, translated.

    `notification` is the store's own id of the message, the same on its retries. `line` names the subscription (or the
    purchase) at that store, None where the message is about none; `account` is the opaque token that we gave the store
    at purchase, if it came back. `label` is the store's own type, for people. `replaces` names the line that this one
    takes the place of. `needs_fetch`: the message says only that something changed, and the store has to be asked.
    """

    store: Store
    environment: StoreEnvironment
    notification: StoreText
    kind: Kind
    label: StoreText
    signed_at: Millis
    line: StoreText | None = None
    account: StoreText | None = None
    standing: Standing | None = None
    plan: Plan | None = None
    renewal: Renewal | None = None
    charges: tuple[Charge, ...] = ()
    refunds: tuple[Refund, ...] = ()
    reversals: tuple[RefundReversal, ...] = ()
    replaces: StoreText | None = None
    needs_fetch: bool = False

    @property
    def semantic_key(self) -> str:
        """The same for two messages that say the same of the same moment, whatever ids they carry."""
        return f"{self.store}|{self.environment}|{self.line or ''}|{self.kind}|{self.label}|{self.signed_at}"

    @property
    def says_nothing(self) -> bool:
        """True when it holds neither a snapshot nor a fact."""
        parts = (self.standing, self.plan, self.renewal)
        return parts == (None, None, None) and not (self.charges or self.refunds or self.reversals)

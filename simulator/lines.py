"""What a user has bought, as a store sees it: one neutral line, which each store renders in its own format.

Times are milliseconds since 1970-01-01 UTC. A line only ever moves forward: what happened stays in `charges`.
"""

import secrets
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

DAY: Final = 86_400_000
MONTH: Final = 30 * DAY
GRACE: Final = 16 * DAY


class Standing(StrEnum):
    """How a line stands."""

    PENDING = "pending"
    ACTIVE = "active"
    GRACE = "grace"
    HOLD = "hold"
    PAUSED = "paused"
    EXPIRED = "expired"
    REVOKED = "revoked"


@dataclass
class Charge:
    """Money that was taken; `refunded` in thousandths of a percent."""

    key: str
    at: int
    product: str
    milliunits: int
    refunded: int = 0
    refunded_at: int | None = None


@dataclass
class Line:
    """One subscription of one user. `name` is the store's own (an original transaction id, or a purchase token)."""

    name: str
    product: str
    account: str | None
    bought_at: int
    standing: Standing = Standing.ACTIVE
    since: int = 0
    expires_at: int = 0
    renews: bool = True
    next_product: str | None = None
    trial: bool = False
    grace_until: int | None = None
    charges: list[Charge] = field(default_factory=list)
    acknowledged: bool = False
    linked: str | None = None
    replaced: bool = False
    finished: bool = False
    etag: int = 1

    def charge(self, at: int, key: str, milliunits: int = 980_000) -> None:
        """A new period is paid."""
        self.since, self.expires_at = at, max(at, self.expires_at if self.standing is Standing.ACTIVE else 0) + MONTH
        self.standing, self.grace_until = Standing.ACTIVE, None
        self.charges.append(Charge(key, at, self.product, 0 if self.trial else milliunits))
        self.changed()

    def changed(self) -> None:
        """Something about it is new."""
        self.etag += 1


def digits(count: int) -> str:
    """A number as stores make them."""
    return str(secrets.randbelow(9 * 10 ** (count - 1)) + 10 ** (count - 1))

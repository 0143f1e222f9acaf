"""Due work `follow`: what a subscription has come to, held against its purchase: does one begin, is it joined, over?

It looks at what the ledger knows by now, never at the message that asked for the look: a late message of a line that
lives on ends nothing, and one of a line that is over begins nothing.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from domain.commands import Command
from domain.ids import identity_id, purchase_id
from domain.purchase import Origin, PurchaseSaga
from domain.purchase_commands import AcceptPurchase, ClaimIdentity, EndPurchase
from domain.purchase_table import OVER, EndReason, Step
from domain.store_identity import StoreIdentity
from domain.store_notification import Ownership, State
from domain.subscription import Subscription
from storage.due_work import DueWorkStore, Lease
from streams.executors import Verdict as Done
from streams.executors import one_by_one
from streams.ledger_bridge import Bridge
from streams.store_tasks import PURCHASE, About

ACCESS: Final = frozenset({State.ACTIVE, State.GRACE})
ENDINGS: Final = {
    State.EXPIRED: EndReason.EXPIRED,
    State.REVOKED: EndReason.REVOKED,
    State.SUPERSEDED: EndReason.SUPERSEDED,
}
"""HOLD and PAUSED are no ending: the store still tries, or the user comes back, and the contract waits."""
Named = tuple[str, Command]


class FollowWork:
    """Keeps purchases in step with what is known of their lines."""

    def __init__(self, bridge: Bridge, work: DueWorkStore, *, clock: Callable[[], float] = time.time) -> None:
        self.on_purchase: list[Callable[[], None]] = []
        self._bridge, self._work, self._clock = bridge, work, clock

    def run(self, leases: Sequence[Lease], hold: Callable[[], None]) -> Done:
        """Look at all of them; each stands for itself."""
        return one_by_one(leases, hold, lambda lease: self._follow(About.of(lease.payload)))

    def _follow(self, about: About) -> None:
        self._bridge.do(list(self._commands(about)))
        self._wake(about)

    def _wake(self, about: About) -> None:
        """A purchase that waits for the store's word looks again."""
        purchase = self._bridge.load(PurchaseSaga, purchase_id(about.aggregate))
        if purchase is None or purchase.state is not Step.VERIFY:
            return
        self._work.put(about._replace(aggregate=purchase.id).work(PURCHASE, self._clock()))
        for notify in self.on_purchase:
            notify()

    def _commands(self, about: About) -> Iterator[Named]:
        line = self._bridge.load(Subscription, about.aggregate)
        if line is None:
            return
        purchase = self._bridge.load(PurchaseSaga, purchase_id(line.id))
        user = self._user(line)
        key = f"{line.id} {about.position}"
        ending = ENDINGS.get(line.history.state)
        if ending is not None:
            if purchase is not None and purchase.state not in OVER:
                yield f"end {key}", EndPurchase(purchase=purchase.id, reason=ending)
            yield from self._inherit(line, key)
        elif line.history.state in ACCESS:
            yield from self._alive(line, purchase, user, about.payload, key)

    def _user(self, line: Subscription) -> str | None:
        identity = self._bridge.load(StoreIdentity, identity_id(line.id))
        return None if identity is None else identity.user

    @staticmethod
    def _alive(
        line: Subscription, purchase: PurchaseSaga | None, user: str | None, payload: str, key: str
    ) -> Iterator[Named]:
        plan = line.history.plan
        if plan is None or plan.ownership is Ownership.FAMILY:
            return  # what a family shares is somebody else's purchase
        known = purchase.payload if purchase is not None else ""
        accept = AcceptPurchase(
            subscription=line.id,
            store=line.store,
            environment=line.environment,
            user=user,
            product=plan.product,
            payload=payload or known,
            origin=Origin.NOTIFICATION,
        )
        if purchase is None:
            if payload:
                yield f"accept {key}", accept
        elif purchase.state is Step.DONE and plan.product != purchase.product and payload:
            # another plan under the same line: its contract ends, and the next round makes the new one's
            yield f"end {key}", EndPurchase(purchase=purchase.id, reason=EndReason.SUPERSEDED)
            yield f"accept {key}", accept
        elif purchase.state in OVER or purchase.ending is not None:
            if payload:
                yield f"accept {key}", accept
        elif purchase.user is None and user is not None:
            yield f"name {key}", accept

    def _inherit(self, line: Subscription, key: str) -> Iterator[Named]:
        """A line that has replaced this one is the same user's, unless it is known to be somebody's."""
        user = self._user(line)
        if user is None:
            return
        for heir in sorted(line.history.replaced_by):
            identity = self._bridge.load(StoreIdentity, identity_id(heir))
            if identity is None or identity.user is None:
                yield f"inherit {heir} {key}", ClaimIdentity(subscription=heir, user=user)

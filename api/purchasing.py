"""Purchases that a user's app hands in: recorded with their proof, begun, and waited for as long as the caller likes.

    judge (thread) ▶ record the message ▶ observe what it says ▶ AcceptPurchase ▶ wait for the saga

Each step may be repeated under the same keys: a crash between two of them is repaired by the same request again, by the
executors, or by the store's own notification.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple, Protocol

from api.errors import PurchaseNotGenuine, StoreNotServed
from api.pulse import Pulse
from domain.aggregate import Aggregate
from domain.commands import Command
from domain.errors import CommandKeyReused, NothingNew, PurchaseNotFound
from domain.ids import purchase_id
from domain.orders import Order, Receipt
from domain.purchase import Origin, PurchaseSaga
from domain.purchase_commands import AcceptPurchase
from domain.purchase_table import OVER, Step
from domain.store_commands import ObserveSubscription
from stores.parcel_format import HandedIn, ParcelHeaders
from stores.purchases import Handed, HandIn
from stores.receive import Receiver, arrived
from stores.verdict import MessageRefused

PAST_PIVOT: Final = frozenset({Step.ACKNOWLEDGE, Step.PUBLISH, Step.DONE})
"""The subscription is the user's: what is left is to tell the store, which nobody has to wait for."""
Load = Callable[[str], Awaitable[Aggregate | None]]
SETTLED: Final = PAST_PIVOT | OVER | {Step.PARKED}


class LedgerPort(Protocol):
    """`domain.ledger.Ledger`."""

    async def execute(self, order: Order) -> Receipt: ...


class Accepted(NamedTuple):
    """A purchase after it was waited for. `hit`: the same request was made before."""

    purchase: PurchaseSaga
    hit: bool


class Purchasing:
    """`load` gives an aggregate as stored; `hurried` is True while waiting is known to be in vain (billing is away)."""

    def __init__(
        self,
        origin: str,
        company: str,
        ledger: LedgerPort,
        load: Load,
        receiver: Receiver,
        hand_in: HandIn,
        pulse: Pulse,
        *,
        hurried: Callable[[], bool] = lambda: False,
    ) -> None:
        self.company = company
        self._origin, self._ledger, self._load = origin, ledger, load
        self._receiver, self._hand_in, self._pulse, self._hurried = receiver, hand_in, pulse, hurried

    async def accept(self, handed_in: HandedIn, user: str, key: str, wait_seconds: float) -> Accepted:
        """Begin a purchase for a user (a pseudonym), or join it; wait for it.

        Raises PurchaseNotGenuine, StoreNotServed, LineTaken, CommandKeyReused, and the ledger's trouble.
        """
        if not self._hand_in.serves(handed_in.store):
            raise StoreNotServed(f"no app of {handed_in.store} is set up here", field="store")
        try:
            handed = await asyncio.to_thread(self._hand_in.judge, handed_in)
        except MessageRefused as refused:
            raise PurchaseNotGenuine(f"not a purchase at this store: {refused.rule}", rule=refused.rule) from None
        payload = await self._record(handed)
        hit = await self._begin(handed, user, payload, key)
        purchase = await self.wait(purchase_id(handed.subscription), wait_seconds)
        return Accepted(purchase, hit)

    async def get(self, purchase: str) -> PurchaseSaga:
        """A purchase as stored; PurchaseNotFound."""
        found = await self._load(purchase)
        if not isinstance(found, PurchaseSaga):
            raise PurchaseNotFound(f"no purchase {purchase}", purchase=purchase)
        return found

    async def wait(self, purchase: str, seconds: float) -> PurchaseSaga:
        """The purchase as soon as there is nothing left to wait for, at the latest after so many seconds."""
        deadline = time.monotonic() + (0.0 if self._hurried() else seconds)
        while True:
            beaten = self._pulse.listen()
            found = await self.get(purchase)
            left = deadline - time.monotonic()
            if found.state in SETTLED or left <= 0:
                return found
            try:
                async with asyncio.timeout(left):
                    await beaten.wait()
            except TimeoutError:
                return await self.get(purchase)

    # -- inside ------------------------------------------------------------------------------------------------------

    async def _record(self, handed: Handed) -> str:
        """The message of it is stored, and what it says by itself is known; the hash of its ciphertext."""
        headers = ParcelHeaders(time.time_ns() // 1_000_000, "valid", origin="client", label="client")
        received = await self._receiver.record(arrived(handed.judged, headers))
        if not handed.said.says_nothing:
            observed = ObserveSubscription(said=handed.said, payload=received.payload)
            await self._do(observed, f"observe {received.payload}")  # the executor's key: whoever is first does it
        return received.payload

    async def _begin(self, handed: Handed, user: str, payload: str, key: str) -> bool:
        said = handed.said
        accept = AcceptPurchase(
            subscription=handed.subscription,
            store=said.store,
            environment=said.environment,
            user=user,
            product=handed.product,
            payload=payload,
            origin=Origin.CLIENT,
        )
        order = Order.of(self._origin, accept, await self._receiver.actor(), key)
        try:
            return (await self._ledger.execute(order)).hit
        except NothingNew:
            return False

    async def _do(self, command: Command, key: str) -> None:
        try:
            await self._ledger.execute(Order.of(self._origin, command, await self._receiver.actor(), key))
        except (NothingNew, CommandKeyReused):
            return

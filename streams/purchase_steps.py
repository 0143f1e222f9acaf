"""The steps of a purchase, one by one: what each does with the outside, and what may come of it.

A step is told the purchase as stored and answers with a `Report`, or with a `Wait` when there is nothing to report yet.
Whatever it raises is trouble that may pass. Each step may be run again after a crash at any point: it looks first.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, Protocol

from domain.case import CaseKind
from domain.ids import identity_id
from domain.purchase import Origin, PurchaseSaga
from domain.purchase_commands import ClaimIdentity, OpenCase, ReleaseIdentity
from domain.purchase_table import Outcome, Step
from domain.store_identity import StoreIdentity
from domain.store_notification import State, Store
from domain.subscription import Subscription
from stores.errors import PurchaseGone, StoreRefused
from stores.google.observe import environment_of
from stores.parcel_format import FetchedFromStore
from stores.reading import NotSetUp, Said
from stores.receive import OwnerErased, fetched
from stores.verdict import MessageRefused
from streams.billing_steps import BillingSteps
from streams.ledger_bridge import Bridge
from streams.purchase_outcomes import Report, Wait
from streams.store_tasks import Task

UNKNOWN_SECONDS: Final = 1.0
_OF_STATE: Final = {
    State.ACTIVE: Outcome.OK,
    State.GRACE: Outcome.OK,
    State.HOLD: Outcome.OK,
    State.PAUSED: Outcome.OK,
    State.EXPIRED: Outcome.REFUSED,
    State.REVOKED: Outcome.REFUSED,
    State.SUPERSEDED: Outcome.REFUSED,
}


class PlayPort(Protocol):
    """`stores.google.client.PlayClient`."""

    def subscription(self, purchase_token: str) -> dict[str, Any]: ...
    def acknowledge(self, product: str, purchase_token: str) -> None: ...
    def revoke(self, purchase_token: str) -> None: ...


class ApplePort(Protocol):
    """`stores.apple.client.AppleClient`."""

    def finish(self, transaction_id: str) -> None: ...


class MessagesPort(Protocol):
    """`store_work.Messages`."""

    def said(self, task: Task) -> Said: ...
    def owner(self, payload: str) -> str: ...


class _Bought(NamedTuple):
    """What the payload of a purchase holds: its store's own names."""

    said: Said
    task: Task


@dataclass(slots=True)
class PurchaseSteps:
    """`play` and `apple` are None where their store's API is not set up."""

    bridge: Bridge
    messages: MessagesPort
    billing: BillingSteps
    play: PlayPort | None = None
    apple: ApplePort | None = None
    clock: Callable[[], float] = time.time
    table: Mapping[Step, Callable[[PurchaseSaga], Report | Wait]] = field(init=False)

    def __post_init__(self) -> None:
        self.table = {
            Step.VERIFY: self.verify,
            Step.BIND: self.bind,
            Step.START: self.billing.start,
            Step.ACTIVATE: self.activate,
            Step.ACKNOWLEDGE: self.acknowledge,
            Step.PUBLISH: lambda _: Report(Outcome.OK),
            Step.CANCEL_CONTRACT: self.billing.cancel,
            Step.UNBIND: self.unbind,
            Step.GIVE_BACK: self.give_back,
            Step.END_CONTRACT: self.billing.cancel,
        }

    def run(self, purchase: PurchaseSaga) -> Report | Wait:
        """Do the step that is to be done."""
        return self.table[purchase.state](purchase)

    # -- forward -----------------------------------------------------------------------------------------------------

    def verify(self, purchase: PurchaseSaga) -> Report | Wait:
        """Does the store say that it is paid? Google is asked about what a client has handed in."""
        if purchase.store is Store.GOOGLE and purchase.origin is Origin.CLIENT:
            try:
                self._ask_google(purchase)
            except PurchaseGone:
                return Report(Outcome.REFUSED, "the store does not know this purchase")
            except StoreRefused as refused:
                return Report(Outcome.REFUSED, str(refused))
            except (OwnerErased, MessageRefused):
                return Report(Outcome.REFUSED, "what was handed in cannot be read any more")
        line = self.bridge.load(Subscription, purchase.subscription)
        if line is None:
            return Wait(UNKNOWN_SECONDS, "the store's word has not been read yet")
        plan = line.history.plan
        if plan is not None and purchase.origin is Origin.CLIENT and plan.product != purchase.product:
            return Report(Outcome.REFUSED, "it is another product than was named")
        outcome = _OF_STATE.get(line.history.state)
        if outcome is None:
            return Wait(None, "the store waits for the payment")  # its next word about the line wakes us
        return Report(outcome, f"at the store it is {line.history.state}")

    def bind(self, purchase: PurchaseSaga) -> Report | Wait:
        """The line becomes the user's, unless it is somebody else's."""
        if purchase.user is None:
            return Wait(None, "nobody is known yet whose purchase it is")
        claim = ClaimIdentity(subscription=purchase.subscription, user=purchase.user)
        self.bridge.do([(f"claim {purchase.subscription} {purchase.id} v{purchase.version}", claim)])
        identity = self.bridge.load(StoreIdentity, identity_id(purchase.subscription))
        if identity is None or identity.user != purchase.user:
            return Report(Outcome.CONFLICT, "the line is bound to another user")
        return Report(Outcome.OK, f"bound: {identity.binding}")

    def activate(self, purchase: PurchaseSaga) -> Report | Wait:
        """The pivot: the subscription is in the ledger, and the store has not ended it meanwhile."""
        line = self.bridge.load(Subscription, purchase.subscription)
        if line is None:
            return Wait(UNKNOWN_SECONDS, "the store's word has not been read yet")
        return Report(Outcome.OK)

    def acknowledge(self, purchase: PurchaseSaga) -> Report | Wait:
        """Tell the store that it is delivered: else Google gives the money back after three days."""
        try:
            bought = self._bought(purchase)
            if purchase.store is Store.GOOGLE:
                if self.play is None:
                    raise NotSetUp("the Google Play API is not set up here")
                self.play.acknowledge(purchase.product, bought.said.token or "")
            elif self.apple is not None and bought.said.transaction is not None:
                self.apple.finish(bought.said.transaction)
        except PurchaseGone:
            return Report(Outcome.REFUSED, "the store does not know this purchase any more")
        except StoreRefused as refused:
            return Report(Outcome.REFUSED, str(refused))
        except OwnerErased:
            return Report(Outcome.REFUSED, "what was handed in was erased")
        return Report(Outcome.OK)

    # -- back --------------------------------------------------------------------------------------------------------

    def unbind(self, purchase: PurchaseSaga) -> Report | Wait:
        """The line is nobody's again."""
        if purchase.user is not None:
            release = ReleaseIdentity(
                subscription=purchase.subscription, user=purchase.user, reason="the purchase is undone"
            )
            identity = self.bridge.load(StoreIdentity, identity_id(purchase.subscription))
            if identity is not None:
                self.bridge.do([(f"release {purchase.subscription} {purchase.id} v{purchase.version}", release)])
        return Report(Outcome.OK)

    def give_back(self, purchase: PurchaseSaga) -> Report | Wait:
        """Google lets a merchant give the money back; Apple does not, so people tell the customer how to ask."""
        if purchase.store is Store.APPLE or self.play is None:
            case = OpenCase(
                kind=CaseKind.GIVE_BACK,
                about=purchase.id,
                number=purchase.round,
                reason="the store lets no program give this customer's money back",
                evidence=(purchase.payload,),
            )
            self.bridge.do([(f"case {case.case}", case)])
            return Report(Outcome.OK, "put before people")
        try:
            self.play.revoke(self._bought(purchase).said.token or "")
        except (PurchaseGone, OwnerErased):
            return Report(Outcome.OK, "the store does not know this purchase any more")
        except StoreRefused as refused:
            return Report(Outcome.REFUSED, str(refused))
        return Report(Outcome.OK)

    # -- inside ------------------------------------------------------------------------------------------------------

    def _bought(self, purchase: PurchaseSaga) -> _Bought:
        task = Task(purchase.payload, "", purchase.store, self.messages.owner(purchase.payload))
        return _Bought(self.messages.said(task), task)

    def _ask_google(self, purchase: PurchaseSaga) -> None:
        """Google's answer becomes a message like every other; a crash before it is stored asks once more."""
        if self.play is None:
            raise NotSetUp("the Google Play API is not set up here")
        said, task = self._bought(purchase)
        token = said.token or ""
        resource = self.play.subscription(token)
        answer = FetchedFromStore(said.notification, resource, int(self.clock() * 1000), token)
        if environment_of(resource) is not purchase.environment:
            raise StoreRefused(f"the purchase is of the {environment_of(resource)} environment")
        received = self.bridge.wait(self.bridge.receiver.record(fetched(answer, task.owner)))
        self.observed(Task(received.payload, "", purchase.store, task.owner))

    observed: Callable[[Task], None] = field(default=lambda _: None)
    """Observes an answer at once, rather than when its turn comes."""

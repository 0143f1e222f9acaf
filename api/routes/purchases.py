"""Purchases: handed in by the company's app, waited for, looked up."""

import re
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from api import examples as x
from api.auth import OPERATOR, PURCHASE_WRITE, SUPPORT_READ, Caller
from api.commanding import HIT, Commanding
from api.context import Context
from api.errors import NoSuchResource, PurchaseNotGenuine, StoreNotServed
from api.http import JSON, Answer, Call, json_answer
from api.operations import Body, Operation, Success
from api.params import ID, bad, command_key
from api.purchasing import PAST_PIVOT, Purchasing
from api.routes.users import MAX_USER_CHARACTERS
from api.shapes import PurchaseAnswer
from api.strict import Strict
from api.text import json_bytes
from domain import errors as e
from domain.purchase import PurchaseSaga
from domain.purchase_table import OVER
from domain.store_notification import Store, StoreEnvironment
from stores.parcel_format import HandedIn
from stores.purchases import MAX_TRANSACTION_CHARACTERS

MAX_WAIT_SECONDS: Final = 10
_SECONDS: Final = re.compile(rb"[0-9]|10")


class HandInPurchase(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A purchase that a user has made in the app. `user` is his subject (`sub`); the log never holds it.

    Of Apple: `signed_transaction`, as StoreKit gives it. Of Google: `purchase_token` and the `product` it was made for.
    """

    user: Annotated[str, Meta(min_length=1, max_length=MAX_USER_CHARACTERS, examples=["user-4711"])]
    store: Store
    signed_transaction: Annotated[str, Meta(max_length=MAX_TRANSACTION_CHARACTERS)] | None = None
    purchase_token: Annotated[str, Meta(max_length=4096)] | None = None
    product: Annotated[str, Meta(max_length=256, pattern=r"\A[\x21-\x7e]+\Z")] | None = None
    environment: StoreEnvironment = StoreEnvironment.PRODUCTION

    def __post_init__(self) -> None:
        if not self.user.isprintable():
            raise ValueError("user must be printable")
        apple = self.store is Store.APPLE
        if apple != (self.signed_transaction is not None) or apple == (self.purchase_token is not None):
            raise ValueError("a purchase of apple has a signed_transaction, one of google a purchase_token")
        if apple == (self.product is not None):
            raise ValueError("product is named for a purchase of google, and for no other one")

    @property
    def handed_in(self) -> HandedIn:
        """What is judged."""
        text = self.signed_transaction or self.purchase_token or ""
        return HandedIn(self.store, text, self.product or "", self.environment)


class Purchases:
    """The operations on purchases."""

    def __init__(self, context: Context, commanding: Commanding) -> None:
        self._context, self._commanding = context, commanding
        self._hand_in: Strict[HandInPurchase] = Strict(HandInPurchase)

    def rows(self) -> list[Operation]:
        """The table."""
        body = {"user": "user-4711", "store": "google", "purchase_token": "AEuhp4…", "product": "daily.monthly"}
        answer = {
            "id": x.PURCHASE, "subscription": x.SUBSCRIPTION, "store": "google", "environment": "production",
            "product": "daily.monthly", "state": "done", "round": 1, "waiting": None,
        }  # fmt: skip
        waiting = {**answer, "state": "start"}
        scopes = frozenset({PURCHASE_WRITE, OPERATOR})
        return [
            Operation(
                method="POST", path="/v1/purchases", handler=self.hand_in, tag="purchases", scopes=scopes,
                summary="Hand in a purchase that a user has made at a store",
                description="201 when the subscription is the user's within the time that the caller waits "
                "(`Prefer: wait=0` to `wait=10`, 2.5 s otherwise), else 202 with the place to look at: it goes on by "
                "itself. A purchase that the store does not know ends as `rejected`.",
                headers=("Idempotency-Key", "Prefer"), body=Body((HandInPurchase,), body),
                success=Success("the purchase, with a subscription that is the user's", PurchaseAnswer, answer, 201),
                also=(Success("it goes on: look again at its place", PurchaseAnswer, waiting, 202),),
                problems=(PurchaseNotGenuine, StoreNotServed, e.LineTaken, e.NotYourCompany, e.CommandKeyReused,
                          NoSuchResource),
            ),
            Operation(
                method="GET", path="/v1/purchases/{purchase}", handler=self.get, tag="purchases", scopes=scopes,
                summary="Get a purchase", path_params=(ID.named("purchase", "the purchase's id"),),
                success=Success("the purchase", PurchaseAnswer, answer),
                problems=(e.PurchaseNotFound, NoSuchResource, e.NotYourCompany),
            ),
        ]  # fmt: skip

    async def hand_in(self, call: Call) -> Answer:
        """Begin a purchase, or join it."""
        purchasing, caller = self._purchasing(call), call.caller
        wanted = self._hand_in.decode(await self._commanding.body(call))
        key = command_key(call.headers.get(b"idempotency-key"))
        seconds = _wait(call.headers.get(b"prefer"), self._context.settings.purchase_wait_seconds)
        user = await self._context.services.users.pseudonym(purchasing.company, wanted.user)
        own_key = f"purchase {caller.actor.company} {caller.actor.subject} {key}"
        accepted = await purchasing.accept(wanted.handed_in, user, own_key, seconds)
        purchase = accepted.purchase
        headers = [(b"location", f"/v1/purchases/{purchase.id}".encode()), *([HIT] if accepted.hit else [])]
        done = purchase.state in PAST_PIVOT
        if not done and purchase.state not in OVER:
            headers.append((b"retry-after", b"2"))
        return Answer(201 if done else 202, json_bytes(shown(purchase)), JSON, headers)

    async def get(self, call: Call) -> Answer:
        """One purchase."""
        return json_answer(shown(await self._purchasing(call).get(call.path["purchase"])))

    def _purchasing(self, call: Call) -> Purchasing:
        """Whoever takes purchases here, for a caller of the company that the stores sell for."""
        purchasing, caller = self._context.services.purchasing, call.caller
        if purchasing is None:
            raise NoSuchResource("no store is set up here")
        assert_company(caller, purchasing.company)
        return purchasing


def assert_company(caller: Caller, company: str) -> None:
    """Raise NotYourCompany unless the caller is of the company that the stores sell for, support, or the operator."""
    support = SUPPORT_READ in caller.scopes and not caller.company
    if caller.company != company and not caller.is_operator and not support:
        raise e.NotYourCompany(f"{caller.company or 'nobody'} may not act for {company}", company=caller.company)


def shown(purchase: PurchaseSaga) -> PurchaseAnswer:
    """A purchase as it is answered."""
    return PurchaseAnswer(
        id=purchase.id,
        subscription=purchase.subscription,
        store=purchase.store,
        environment=purchase.environment,
        product=purchase.product,
        state=purchase.state,
        round=purchase.round,
        waiting=purchase.waiting,
    )


def _wait(header: bytes | None, default: float) -> float:
    """The seconds of `Prefer: wait=…` (RFC 7240 section 4.3)."""
    for part in (header or b"").split(b","):
        name, _, value = part.strip().partition(b"=")
        if name.strip().lower() == b"wait":
            text = value.strip().strip(b'"')
            if not _SECONDS.fullmatch(text):
                raise bad("Prefer", f"wait is 0 to {MAX_WAIT_SECONDS} seconds")
            return float(text)
    return default

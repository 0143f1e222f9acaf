"""Answering customers: access and why, the timeline, raw payloads; account tokens; erasure."""

from typing import Any, Final

import msgspec

from api import examples as x
from api.auth import OPERATOR, PURCHASE_WRITE, SUPPORT_READ, Caller
from api.commanding import Commanding
from api.context import Context
from api.errors import NoSuchResource, PayloadErased
from api.http import Answer, Call, json_answer
from api.lines_of_users import LineAccess, UserAccess
from api.operations import Body, Operation, Success
from api.params import ID, LIMIT, MIN_POSITION, POSITION, Param, bad, command_key, flag
from api.routes.purchases import assert_company
from api.routes.users import _USER
from api.strict import Strict
from api.support import PayloadAnswer, Support
from api.timeline import Item
from domain import errors as e
from domain.accounts import account_of
from domain.commands import Reason
from domain.store_notification import Store, StoreEnvironment


class TimelinePage(msgspec.Struct, frozen=True, kw_only=True):
    """A part of a story. `next_after` is the position to go on behind, null at the end."""

    items: list[Item]
    next_after: int | None


class AccountAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What the app hands to a store at purchase: `appAccountToken` or `obfuscatedExternalAccountId`."""

    store: Store
    account: str


class AskForErasure(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Forget a user: destroy the keys of the payloads about him and of his name."""

    reason: Reason


class ErasureAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """`position` is that of the entry; null when there is nothing to forget (any more)."""

    position: int | None


def _one_of(kind: Any) -> Any:
    def parse(text: str) -> Any:
        try:
            return kind(text)
        except ValueError:
            raise ValueError(f"one of {', '.join(kind)}") from None

    return parse


def _name(text: str) -> str:
    if not 0 < len(text) <= 4_096 or not text.isascii() or not text.isprintable():  # noqa: PLR2004 of a purchase token
        raise ValueError("1 to 4096 printable ASCII characters")
    return text


def _digest(text: str) -> str:
    if len(text) != 64 or not set(text) <= set("0123456789abcdef"):  # noqa: PLR2004 SHA-256 in hex
        raise ValueError("64 lower-case hex digits")
    return text


_STORE: Final = Param("store", _one_of(Store), {"type": "string", "enum": list(Store)}, "which store", "apple")
_ENVIRONMENT: Final = Param(
    "environment", _one_of(StoreEnvironment), {"type": "string", "enum": list(StoreEnvironment)},
    "production unless it says otherwise", "production", StoreEnvironment.PRODUCTION,
)  # fmt: skip
_LINE: Final = Param(
    "line",
    _name,
    {"type": "string", "maxLength": 4096},
    "original transaction id, or purchase token",
    "400000000000001",
)
_ORDER: Final = Param(
    "order",
    _name,
    {"type": "string", "maxLength": 4096},
    "order id, or Apple's web order line item id",
    "GPA.3345-1234",
)
_EXPLAIN: Final = flag("explain", "with the payloads, entries and rules that it follows from", default=False)
_AFTER: Final = POSITION.named("after", "go on behind this position")
_HASH: Final = Param(
    "payload", _digest, {"type": "string", "pattern": "^[0-9a-f]{64}$"}, "SHA-256 of its ciphertext",
    "9f" * 32,
)  # fmt: skip


class SupportRoutes:
    """The operations."""

    def __init__(self, context: Context, commanding: Commanding) -> None:
        self._context, self._commanding = context, commanding
        self._support = Support(context)
        self._erasure: Strict[AskForErasure] = Strict(AskForErasure)

    def rows(self) -> list[Operation]:
        """The table."""
        line: dict[str, Any] = {
            "subscription": x.SUBSCRIPTION, "store": "apple", "environment": "production", "state": "active",
            "product": "daily.monthly", "granted": True, "reason": "paid", "until": 1795324952000,
        }  # fmt: skip
        access = {"granted": True, "at": 1795000000000, "lines": [line]}
        story = {"items": [{"position": 17, "at": 1795000000000, "kind": "access", "subscription": x.SUBSCRIPTION,
                            "granted": True, "reason": "paid"}], "next_after": None}  # fmt: skip
        payload = {"payload": "9f" * 32, "position": 17, "received_at": 1795000000000, "origin": "push",
                   "verdict": "valid", "label": "DID_RENEW", "headers": {}, "form": "apple-notification",
                   "body": '{"signedPayload":"eyJ…"}'}  # fmt: skip
        readers, support = frozenset({PURCHASE_WRITE, SUPPORT_READ, OPERATOR}), frozenset({SUPPORT_READ, OPERATOR})
        shared: dict[str, Any] = {"method": "GET", "tag": "support"}
        missing = (NoSuchResource, e.NotYourCompany)
        return [
            Operation(
                path="/v1/users/{user}/access", handler=self.access, scopes=readers, path_params=(_USER,),
                summary="What may a user use, and why?", query=(_EXPLAIN, MIN_POSITION),
                success=Success("access, line by line", UserAccess, access), problems=(*missing, e.NotYetVisible),
                **shared,
            ),
            Operation(
                path="/v1/subscriptions/{id}/access", handler=self.line, scopes=readers, path_params=(ID,),
                summary="What does a line give to whom it is bound?", query=(_EXPLAIN,),
                success=Success("access", LineAccess, line), problems=missing, **shared,
            ),
            Operation(
                path="/v1/users/{user}/timeline", handler=self.user_timeline, scopes=support, path_params=(_USER,),
                summary="Everything that happened to a user's purchases", query=(_AFTER, LIMIT, MIN_POSITION),
                description="Each read is written down.",
                success=Success("in order of positions", TimelinePage, story), problems=(*missing, e.NotYetVisible),
                **shared,
            ),
            Operation(
                path="/v1/timeline", handler=self.timeline, scopes=support,
                summary="Everything that happened to a purchase, by its store's own id",
                query=(_STORE, _ENVIRONMENT, _LINE, _ORDER, _AFTER, LIMIT, MIN_POSITION),
                description="Each read is written down.",
                success=Success("in order of positions", TimelinePage, story), problems=(*missing, e.NotYetVisible),
                **shared,
            ),
            Operation(
                path="/v1/payloads/{payload}", handler=self.payload, scopes=support, path_params=(_HASH,),
                summary="Get a payload as it came", description="Each read is written down.",
                success=Success("the payload", PayloadAnswer, payload),
                problems=(*missing, e.MessageNotFound, PayloadErased), **shared,
            ),
            Operation(
                path="/v1/users/{user}/store-account", handler=self.account,
                scopes=frozenset({PURCHASE_WRITE, OPERATOR}),
                path_params=(_USER,), query=(_STORE,), summary="Get the account token that the app hands to a store",
                success=Success("the token", AccountAnswer, {"store": "apple", "account": x.SUBSCRIPTION}),
                problems=missing, **shared,
            ),
            Operation(
                method="POST", path="/v1/users/{user}/erasure", handler=self.erase, tag="support",
                scopes=frozenset({OPERATOR}), path_params=(_USER,), headers=("Idempotency-Key",),
                summary="Forget a user", body=Body((AskForErasure,), {"reason": "asked for by the user"}),
                description="Records that it was asked for, and destroys the keys of all payloads about the user's "
                "purchases and of his name: copies, archive and backups of the data are noise from then on, and every "
                "proof still verifies.",
                success=Success("the keys are being destroyed", ErasureAnswer, {"position": 17}, 202),
                problems=(*missing, e.CommandKeyReused),
            ),
        ]  # fmt: skip

    async def access(self, call: Call) -> Answer:
        """What a user may use."""
        self._allow(call)
        await self._context.reads.reach(call.args["min_position"])
        return json_answer(await self._support.access(call.path["user"], explain=call.args["explain"]))

    async def line(self, call: Call) -> Answer:
        """What a line gives."""
        self._allow(call)
        return json_answer(await self._support.line_access(call.path["id"], explain=call.args["explain"]))

    async def user_timeline(self, call: Call) -> Answer:
        """A user's story."""
        self._allow(call)
        await self._context.reads.reach(call.args["min_position"])
        subject = await self._context.services.users.known(self._support.company, call.path["user"])
        await self._support.note(call.caller, "read timeline", subject or "nobody")
        return _page(await self._support.story_of_user(call.path["user"]), call)

    async def timeline(self, call: Call) -> Answer:
        """A purchase's story."""
        self._allow(call)
        store, line, order = call.args["store"], call.args["line"], call.args["order"]
        if store is None:
            raise bad("store", "required")
        if (line is None) == (order is None):
            raise bad("line", "either line or order")
        await self._context.reads.reach(call.args["min_position"])
        found = await self._support.found(store, call.args["environment"], line, order)
        await self._support.note(call.caller, "read timeline", ",".join(found)[:200] or "nothing")
        return _page(await self._support.story(found), call)

    async def payload(self, call: Call) -> Answer:
        """A payload."""
        self._allow(call)
        await self._support.note(call.caller, "read payload", call.path["payload"])
        return json_answer(await self._support.payload(call.path["payload"]))

    async def account(self, call: Call) -> Answer:
        """A user's account token, made on first use."""
        self._allow(call)
        store = call.args["store"]
        if store is None:
            raise bad("store", "required")
        subject = await self._context.services.users.pseudonym(self._support.company, call.path["user"])
        return json_answer(AccountAnswer(store=store, account=account_of(subject, store)))

    async def erase(self, call: Call) -> Answer:
        """Forget a user."""
        self._allow(call)
        wanted = self._erasure.decode(await self._commanding.body(call))
        key = command_key(call.headers.get(b"idempotency-key"))
        receipt = await self._support.erase(call.caller, call.path["user"], wanted.reason, key)
        return json_answer(ErasureAnswer(position=None if receipt is None else receipt.position), 202)

    def _allow(self, call: Call) -> None:
        caller: Caller = call.caller
        self._support.ports  # noqa: B018 raises where no store is set up
        assert_company(caller, self._support.company)


def _page(story: list[Item], call: Call) -> Answer:
    """The part of a story behind a position; all items of one position stay together."""
    after, limit = call.args["after"] or 0, call.args["limit"]
    rest = [item for item in story if item.position > after]
    page = rest[:limit]
    while len(page) < len(rest) and rest[len(page)].position == page[-1].position:
        page.append(rest[len(page)])
    more = len(page) < len(rest)
    return json_answer(TimelinePage(items=page, next_after=page[-1].position if more else None))

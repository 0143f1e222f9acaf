"""What wallets in own custody are asked to sign: any trade command, and a wallet's own opening and rotation.

Nothing is written and nothing is promised: nonce and deadline become binding only when the signed command arrives.
"""

import time
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from api import examples as x
from api.auth import OPERATOR, TRADE_WRITE, WALLET_WRITE, Caller
from api.commanding import Commanding, as_seen
from api.context import Context
from api.errors import BadParameter
from api.http import Answer, Call, json_answer
from api.operations import Body, Operation, Success
from api.params import ID, choice, integer, text
from api.shapes import TypedDataAnswer
from api.strict import Strict
from domain import commands as c
from domain import errors as e
from domain.ids import IdSource, wallet_id
from domain.orders import Order
from domain.signature import Address
from projections import queries

_VALID: Final = integer(
    "valid_seconds", "how long the signature may be used", 60, 7 * 86_400, default=3600, example=3600
)
_PLAIN: Final[dict[str, type[c.TradeFollowUp]]] = {
    "ConfirmTrade": c.ConfirmTrade,
    "DisputeTrade": c.DisputeTrade,
    "WithdrawDispute": c.WithdrawDispute,
    "ProposeReversal": c.ProposeReversal,
    "ReverseTrade": c.ReverseTrade,
}


class OpenWallet(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="command", tag=True):
    """Ask for the typed data that proves possession of a user's own key (for POST /v1/users)."""

    user: Annotated[str, Meta(min_length=1, max_length=255)]
    address: Address
    company: c.Code | None = None


class RotateKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="command", tag=True):
    """Ask for the typed data that the old and the new key of a wallet sign (for POST /v1/wallets/{id}:rotate)."""

    wallet: c.Uuid
    new: Address


_Asked = c.union_of(c.TRADE_COMMANDS) | OpenWallet | RotateKey


class TypedData:
    """The operations on typed data."""

    def __init__(self, context: Context, commanding: Commanding) -> None:
        self._context = context
        self._commanding = commanding
        self._ids = IdSource()
        self._asked: Strict[Any] = Strict(_Asked)

    def rows(self) -> list[Operation]:
        """The table."""
        done = Success("the document, its nonce and its deadline", TypedDataAnswer, x.TYPED_DATA)
        kinds = (*c.TRADE_COMMANDS, OpenWallet, RotateKey)
        plain = choice("command", "what is to be done with the trade", *_PLAIN, default="ConfirmTrade")
        reason = text("reason", "the reason, for all but ConfirmTrade", "wrong quantity")
        return [
            Operation(
                method="POST", path="/v1/typed-data", handler=self.post, tag="typed data",
                summary="Get what a command's wallet has to sign",
                scopes=frozenset({TRADE_WRITE, WALLET_WRITE, OPERATOR}), query=(_VALID,),
                body=Body(kinds, {"command": "ConfirmTrade", "trade": x.TRADE, "digest": x.DIGEST}), success=done,
                problems=(e.TradeNotFound, e.WalletNotFound, e.DigestMismatch),
            ),
            Operation(
                method="GET", path="/v1/trades/{id}/typed-data", handler=self.of_trade,
                summary="Get what confirming (or another act on) this trade has to sign", tag="typed data",
                scopes=frozenset({TRADE_WRITE}), path_params=(ID,), query=(plain, reason, _VALID), success=done,
                problems=(e.TradeNotFound, e.WalletNotFound),
            ),
        ]  # fmt: skip

    async def post(self, call: Call) -> Answer:
        """Typed data for any command."""
        asked = self._asked.decode(await self._commanding.body(call))
        if isinstance(asked, OpenWallet):
            return await self._open_wallet(call, asked)
        if isinstance(asked, RotateKey):
            return await self._rotate_key(call, asked)
        call.caller.require(frozenset({TRADE_WRITE}))
        return self._trade(call, asked)

    async def of_trade(self, call: Call) -> Answer:
        """Typed data for what needs no more than a reason."""
        kind, reason = _PLAIN[call.args["command"]], call.args["reason"]
        if (reason is None) != (kind is c.ConfirmTrade):
            raise BadParameter("reason: for all but ConfirmTrade", field="reason", rule="for all but ConfirmTrade")
        fields = {"trade": call.path["id"]} | ({"reason": reason} if reason is not None else {})
        return self._trade(call, self._asked.decode(msgspec.json.encode({"command": kind.__name__, **fields})))

    def _trade(self, call: Call, command: c.TradeCommand) -> Answer:
        caller: Caller = call.caller
        caller.require_company()
        order = Order.of(self._context.origin, command, caller.actor, "typed data")
        nonce, deadline = self._once(call)
        try:
            document = self._context.services.typed_data.of_order(order, nonce, deadline)
        except e.DaichoError as refusal:
            raise as_seen(refusal, command) from None
        wallet = command.wallet or wallet_id(caller.company, caller.actor.subject)
        trade = command.trade if isinstance(command, c.TradeFollowUp) else order.trade_id
        return _answer(document, nonce, deadline, wallet, trade)

    async def _open_wallet(self, call: Call, asked: OpenWallet) -> Answer:
        caller: Caller = call.caller
        caller.require(frozenset({WALLET_WRITE, OPERATOR}))
        company = asked.company or caller.company
        if not company:
            raise e.Malformed("company: required, since the token names none", field="company", rule="required")
        if caller.company not in {"", company}:
            raise e.NotYourCompany(f"{caller.company} may not act for {company}", company=caller.company)
        wallet = wallet_id(company, await self._context.services.users.pseudonym(company, asked.user))
        data = {"company": company, "custody": "own", "address": asked.address}
        return self._wallet(call, "WalletOpened", wallet, data)

    async def _rotate_key(self, call: Call, asked: RotateKey) -> Answer:
        caller: Caller = call.caller
        caller.require(frozenset({WALLET_WRITE, OPERATOR}))
        viewer = caller.viewer
        found = await self._context.reads.ask(lambda store: queries.wallet(store, viewer, asked.wallet))
        if found is None:
            raise e.WalletNotFound(f"no wallet {asked.wallet}", wallet=asked.wallet)
        return self._wallet(call, "WalletKeyRotated", found.id, {"old": found.address, "new": asked.new})

    def _wallet(self, call: Call, event_type: str, wallet: str, data: dict[str, str]) -> Answer:
        nonce, deadline = self._once(call)
        document = self._context.services.typed_data.of_wallet(event_type, wallet, data, nonce, deadline)
        return _answer(document, nonce, deadline, wallet, None)

    def _once(self, call: Call) -> tuple[str, int]:
        return self._ids.nonce(), int(time.time()) + int(call.args["valid_seconds"])


def _answer(document: dict[str, Any], nonce: str, deadline: int, wallet: str, trade: str | None) -> Answer:
    return json_answer(TypedDataAnswer(typed_data=document, nonce=nonce, deadline=deadline, wallet=wallet, trade=trade))

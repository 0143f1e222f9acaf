"""Wallets: read, rotated, frozen and closed by their company (or the operator)."""

from functools import partial
from typing import Any

import msgspec

from api import examples as x
from api.auth import AUDIT_READ, OPERATOR, TRADE_READ, WALLET_WRITE, Caller
from api.commanding import Commanding, as_seen
from api.context import Context
from api.http import Answer, Call, json_answer
from api.operations import Body, Operation, Success
from api.params import CODE, CURSOR, DRY_RUN, ID, LIMIT, MIN_POSITION, bad, command_key, etag, expected_version
from api.shapes import CommandAnswer, PageOf
from api.strict import CommandBody, Strict, build
from domain import commands as c
from domain import errors as e
from domain.signature import Address, ClientSignature
from projections import queries
from projections.views import WalletView

_WRITE = frozenset({WALLET_WRITE, OPERATOR})
_READ = frozenset({WALLET_WRITE, TRADE_READ, OPERATOR, AUDIT_READ})
_CHANGES = (
    ("freeze", c.FreezeWallet, "Stop a wallet from signing for the time being", "device lost"),
    ("unfreeze", c.UnfreezeWallet, "Let a frozen wallet sign again", "device found"),
    ("close", c.CloseWallet, "Stop a wallet from signing for good", "left the company"),
)


class Rotation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Replace a wallet's key; empty for a custodial wallet.

    In own custody: the new address, and the same typed data (POST /v1/typed-data with RotateKey) signed by the old key
    (`signature`) and by the new one (`new_signature`).
    """

    new: Address | None = None
    signature: ClientSignature | None = None
    new_signature: ClientSignature | None = None

    def __post_init__(self) -> None:
        given = [part is not None for part in (self.new, self.signature, self.new_signature)]
        if any(given) != all(given):
            raise ValueError("new, signature and new_signature belong together")


class Wallets:
    """The operations on wallets."""

    def __init__(self, context: Context, commanding: Commanding) -> None:
        self._context = context
        self._commanding = commanding
        self._rotation: Strict[Rotation] = Strict(Rotation)

    def rows(self) -> list[Operation]:
        """The table."""
        one = "/v1/wallets/{id}"
        done = Success("done; the entry and its promise", CommandAnswer, {**x.COMMAND_ANSWER, "id": x.WALLET})
        change: dict[str, Any] = {
            "method": "POST", "tag": "wallets", "scopes": _WRITE, "path_params": (ID,),
            "headers": ("Idempotency-Key", "If-Match"), "success": done,
            "problems": (e.WalletNotFound, e.WrongState, e.WalletNotActive, e.VersionMismatch, e.CommandKeyReused),
        }  # fmt: skip
        rows = [
            Operation(
                method="GET", path="/v1/wallets", handler=self.list, summary="List a company's wallets", tag="wallets",
                scopes=_READ, query=(CODE.named("company", "whose (needed unless the token names one)"), LIMIT, CURSOR,
                                     MIN_POSITION),
                success=Success("in order of opening", PageOf[WalletView], {"items": [x.WALLET_VIEW], "next": None}),
                problems=(e.NotYetVisible,),
            ),
            Operation(
                method="GET", path=one, handler=self.get, summary="Get a wallet", tag="wallets", scopes=_READ,
                path_params=(ID,), query=(MIN_POSITION,), success=Success("the wallet", WalletView, x.WALLET_VIEW),
                problems=(e.WalletNotFound, e.NotYetVisible),
            ),
            Operation(
                path=f"{one}:rotate", handler=self.rotate, summary="Replace a wallet's key",
                body=Body((Rotation,), {}, required=False), **change,
            ),
        ]  # fmt: skip
        for verb, command, summary, reason in _CHANGES:
            body: CommandBody[Any] = CommandBody(command, "wallet")
            rows.append(
                Operation(
                    path=f"{one}:{verb}", handler=partial(self._change, body), summary=summary, query=(DRY_RUN,),
                    body=Body((body.kind,), {"reason": reason}), **change,
                )
            )  # fmt: skip
        return rows

    async def _change(self, body: CommandBody[Any], call: Call) -> Answer:
        command = body.decode(await self._commanding.body(call), wallet=call.path["id"])
        return await self._commanding.execute(call, command)

    async def rotate(self, call: Call) -> Answer:
        """A new key: made by the signer for a custodial wallet, given and signed by the client otherwise."""
        wallet = call.path["id"]
        wanted = self._rotation.decode(await self._commanding.body(call, may_be_empty=True))
        if wanted.new is not None:
            fields = {name: getattr(wanted, name) for name in Rotation.__struct_fields__}
            return await self._commanding.execute(call, build(c.RotateKey, {"wallet": wallet, **fields}))
        caller: Caller = call.caller
        key = command_key(call.headers.get(b"idempotency-key"))
        version = expected_version(call.headers.get(b"if-match"))
        try:
            receipt = await self._context.services.users.rotate(caller.actor, wallet, key=key, expected_version=version)
        except e.DaichoError as refusal:
            self._context.metrics.command("RotateKey", refusal)
            raise as_seen(refusal, c.FreezeWallet(wallet=wallet, reason="-")) from None
        self._context.metrics.command("RotateKey", None, repeated=receipt.hit)
        return await self._commanding.answer(receipt)

    async def list(self, call: Call) -> Answer:
        """List a company's wallets."""
        viewer, args, cursors = call.caller.viewer, call.args, self._context.cursors
        company = args["company"] or viewer
        if company is None:
            raise bad("company", "required, since the token names no company")
        await self._context.reads.reach(args["min_position"])
        context = ("wallets", viewer, company)
        after = cursors.take(args["cursor"], *context)
        page = await self._context.reads.ask(
            lambda store: queries.wallets(store, viewer, company, after=after, limit=args["limit"])
        )
        return json_answer(PageOf(page.items, cursors.give(page.next, *context)))

    async def get(self, call: Call) -> Answer:
        """Get one wallet."""
        viewer, wallet = call.caller.viewer, call.path["id"]
        await self._context.reads.reach(call.args["min_position"])
        found = await self._context.reads.ask(lambda store: queries.wallet(store, viewer, wallet))
        if found is None:
            raise e.WalletNotFound(f"no wallet {wallet}", wallet=wallet)
        return json_answer(found, headers=[(b"etag", etag(found.version))])

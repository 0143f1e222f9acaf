"""What a company does with trades: record one, and everything that follows."""

from functools import partial
from typing import Any, Final

import msgspec

from api import examples as x
from api.auth import TRADE_WRITE
from api.commanding import Commanding
from api.http import Answer, Call
from api.operations import Body, Operation, Success
from api.params import DRY_RUN, ID
from api.shapes import CommandAnswer
from api.strict import CommandBody
from domain import commands as c
from domain import errors as e

WRITE: Final = frozenset({TRADE_WRITE})
_SIGNING: Final = (
    e.WalletNotFound, e.CompanySuspended, e.WalletNotActive, e.SignatureMissing, e.SignatureInvalid, e.SignatureExpired,
    e.SignatureReplayed, e.WrongSigner, e.SignerUnavailable, e.CommandKeyReused, e.EntryTooLarge,
)  # fmt: skip
_FOLLOWING: Final = (e.TradeNotFound, e.DigestMismatch, e.VersionMismatch, e.WrongState, *_SIGNING)
_SETTLEMENT: Final = {"amount": x.MONEY, "settled_on": "2026-12-28"}
_REASON: Final = {"reason": "wrong quantity"}
_NOTE: Final = {"note": "delivered to dock 4", "attachments": [{"name": "delivery-note.pdf", "sha256": x.DIGEST}]}
_ACTS: Final[tuple[tuple[str, type[c.TradeFollowUp], str, dict[str, Any], tuple[type[e.DaichoError], ...]], ...]] = (
    ("confirm", c.ConfirmTrade, "Agree to the terms that the other side recorded", {"digest": x.DIGEST},
     (e.OtherSideNeeded,)),
    ("dispute", c.DisputeTrade, "Contest a trade", _REASON, ()),
    ("withdraw-dispute", c.WithdrawDispute, "No longer contest a trade", _REASON, (e.OtherSideNeeded,)),
    ("propose-settlement", c.ProposeSettlement, "As the debtor, say that it is paid", _SETTLEMENT,
     (e.OtherSideNeeded, e.AmountExceedsOpen, e.CurrencyMismatch)),
    ("settle", c.SettleTrade, "As the creditor, say that (part of) it is received", _SETTLEMENT,
     (e.CreditorNeeded, e.AmountExceedsOpen, e.CurrencyMismatch)),
    ("propose-reversal", c.ProposeReversal, "Ask the other side to undo a confirmed trade", _REASON,
     (e.TradePartlySettled,)),
    ("reverse", c.ReverseTrade, "Undo a trade: alone before confirmation, else after the other side's proposal",
     _REASON, (e.OtherSideNeeded, e.BothSidesNeeded, e.TradePartlySettled)),
    ("note", c.AddNote, "Add a remark, with the hashes of documents kept elsewhere", _NOTE, ()),
)  # fmt: skip
_SIGNED: Final = (
    "Signed by the caller's own wallet, or by `wallet`. A custodial wallet signs by itself; one in own custody needs "
    "`signature` over the typed data of this command (POST /v1/typed-data)."
)


class TradeCommands:
    """The commands on trades."""

    def __init__(self, commanding: Commanding) -> None:
        self._commanding = commanding
        self._record: CommandBody[c.RecordTrade] = CommandBody(c.RecordTrade)

    def rows(self) -> list[Operation]:
        """The table; recording first, for it is the hot one."""
        shared: dict[str, Any] = {"method": "POST", "tag": "trades", "scopes": WRITE, "query": (DRY_RUN,)}
        rows = [
            Operation(
                path="/v1/trades", handler=self.record, summary="Record a trade with another company",
                description=_SIGNED, headers=("Idempotency-Key",), body=Body((self._record.kind,), x.RECORD),
                success=Success("recorded; the entry and its promise", CommandAnswer,
                                {**x.COMMAND_ANSWER, "version": 1}, 201),
                problems=(e.NotYourCompany, e.CompanyNotFound, e.AlreadyExists, e.ReferenceTaken, *_SIGNING), **shared,
            )
        ]  # fmt: skip
        for verb, command, summary, example, problems in _ACTS:
            body: CommandBody[Any] = CommandBody(command, "trade")
            optional = not any(field.required for field in msgspec.structs.fields(body.kind))
            rows.append(
                Operation(
                    path=f"/v1/trades/{{id}}:{verb}", handler=partial(self._follow, body, optional), summary=summary,
                    description=_SIGNED, path_params=(ID,), headers=("Idempotency-Key", "If-Match"),
                    body=Body((body.kind,), example, required=not optional),
                    success=Success("done; the entry and its promise", CommandAnswer, x.COMMAND_ANSWER),
                    problems=(*problems, *_FOLLOWING), **shared,
                )
            )  # fmt: skip
        return rows

    async def record(self, call: Call) -> Answer:
        """Record a trade."""
        call.caller.require_company()
        command = self._record.decode(await self._commanding.body(call))
        return await self._commanding.execute(call, command, location="/v1/trades", versioned=False)

    async def _follow(self, body: CommandBody[Any], optional: bool, call: Call) -> Answer:
        call.caller.require_company()
        raw = await self._commanding.body(call, may_be_empty=optional)
        return await self._commanding.execute(call, body.decode(raw, trade=call.path["id"]))

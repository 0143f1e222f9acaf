"""Trades as they are read: one (now or as it was), many by filter, the history of one."""

from typing import Any

import msgspec

from api import examples as x
from api.auth import AUDIT_READ, OPERATOR, TRADE_READ, Caller
from api.context import Context
from api.http import Answer, Call, json_answer
from api.operations import Operation, Success
from api.params import AS_OF, CODE, CURRENCY, CURSOR, DAY, ID, LIMIT, MIN_POSITION, choice, etag, flag, text
from api.shapes import History, HistoryItem, PageOf, TradeAnswer
from domain import errors as e
from merkle.log_view import LogView
from projections import anchors, trades
from projections.views import CheckpointRef, TradeView

READ = frozenset({TRADE_READ, OPERATOR, AUDIT_READ})
_FILTERS = (
    CODE.named("company", "one of the two sides (for operators and auditors; a company sees its own trades only)"),
    choice("side", "which side the company is", "seller", "buyer"),
    CODE.named("counterparty", "the other side"),
    choice("state", "the trade's state", "recorded", "confirmed", "settled", "reversed"),
    flag("disputed", "only disputed, or only undisputed ones"),
    CURRENCY,
    DAY.named("traded_from", "traded on this day or later"),
    DAY.named("traded_until", "traded on this day or earlier"),
    text("reference", "the recording company's reference, exactly", "AF-2026-00017"),
    text("text", "part of description or reference (ASCII letters in any case)", "matcha"),
)


class Trades:
    """The queries on trades."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def rows(self) -> list[Operation]:
        """The table."""
        shared: dict[str, Any] = {"method": "GET", "tag": "trades", "scopes": READ}
        return [
            Operation(
                path="/v1/trades/{id}/history", handler=self.history, summary="Get every event of a trade",
                path_params=(ID,), query=(AS_OF, MIN_POSITION),
                success=Success("oldest first, each with its place in log and chain", History,
                                {"items": [x.HISTORY_ITEM]}),
                problems=(e.TradeNotFound, e.NotYetVisible), **shared,
            ),
            Operation(
                path="/v1/trades/{id}", handler=self.get, summary="Get a trade, now or as it was", path_params=(ID,),
                query=(AS_OF, MIN_POSITION),
                success=Success("the trade", TradeAnswer, {**x.TRADE_VIEW, "receipt": x.RECEIPT}),
                problems=(e.TradeNotFound, e.NotYetVisible), **shared,
            ),
            Operation(
                path="/v1/trades", handler=self.list, summary="List trades by filter",
                query=(*_FILTERS, LIMIT, CURSOR, MIN_POSITION),
                success=Success("newest first", PageOf[TradeView], {"items": [x.TRADE_VIEW], "next": None}),
                problems=(e.NotYetVisible,), **shared,
            ),
        ]  # fmt: skip

    async def get(self, call: Call) -> Answer:
        """One trade."""
        caller: Caller = call.caller
        viewer, trade_id, as_of = caller.viewer, call.path["id"], call.args["as_of"]
        await self._reach(call)
        checkpoint = checkpoint_ref(self._context.services.log_view)

        def question(connection: Any) -> TradeAnswer | None:
            with self._context.services.read_store.snapshot():
                found = trades.trade(connection, viewer, trade_id, as_of=as_of)
                if found is None:
                    return None
                receipt = anchors.receipt(connection, viewer, found.last_position, checkpoint)
                return TradeAnswer(**msgspec.structs.asdict(found), receipt=receipt)

        found = await self._context.reads.ask(question)
        if found is None:
            raise e.TradeNotFound(f"no trade {trade_id}", trade=trade_id)
        return json_answer(found, headers=[(b"etag", etag(found.version))])

    async def list(self, call: Call) -> Answer:
        """Trades by filter."""
        caller: Caller = call.caller
        viewer, args, cursors = caller.viewer, call.args, self._context.cursors
        await self._context.reads.reach(args["min_position"])
        wanted = trades.TradeFilter(**{param.name: args[param.name] for param in _FILTERS})
        context = ("trades", viewer, wanted)
        before = cursors.take(args["cursor"], *context)
        page = await self._context.reads.ask(
            lambda store: trades.trades(store, viewer, wanted, before=before, limit=args["limit"])
        )
        return json_answer(PageOf(page.items, cursors.give(page.next, *context)))

    async def history(self, call: Call) -> Answer:
        """Every event of a trade."""
        caller: Caller = call.caller
        viewer, trade_id, as_of = caller.viewer, call.path["id"], call.args["as_of"]
        await self._reach(call)
        checkpoint = checkpoint_ref(self._context.services.log_view)

        def question(connection: Any) -> list[HistoryItem]:
            with self._context.services.read_store.snapshot():
                events = trades.history(connection, viewer, trade_id, as_of=as_of)
                found = anchors.receipts(connection, viewer, [event.position for event in events], checkpoint)
            receipts = {receipt.position: receipt for receipt in found}
            return [
                HistoryItem(**msgspec.structs.asdict(event), receipt=receipts.get(event.position)) for event in events
            ]

        items = await self._context.reads.ask(question)
        if not items:
            raise e.TradeNotFound(f"no trade {trade_id}", trade=trade_id)
        return json_answer(History(items))

    async def _reach(self, call: Call) -> None:
        await self._context.reads.reach(call.args["min_position"])
        await self._context.reads.reach_moment(call.args["as_of"])


def checkpoint_ref(view: LogView) -> CheckpointRef | None:
    """The published head, as receipts name it."""
    head = view.head
    return CheckpointRef(head.size, head.root.hex()) if head is not None else None

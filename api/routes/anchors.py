"""Anchors: the log's heads on a chain. They are public, for they stand on the chain anyway."""

from typing import Any

from api import examples as x
from api.auth import ANCHOR_NOW, OPERATOR
from api.context import Context
from api.http import Answer, Call, json_answer
from api.operations import Operation, Success
from api.params import CURSOR, ID, LIMIT, choice
from api.shapes import PageOf
from domain import errors as e
from projections import anchors
from projections.views import AnchorView

_STATUS_SCHEMA: dict[str, Any] = {"type": "object", "description": "what was asked for, and the head it is for"}


class Anchors:
    """The operations on anchors."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def rows(self) -> list[Operation]:
        """The table."""
        state = choice("state", "only those in this state", "pending", "mined", "final", "failed")
        return [
            Operation(
                method="POST", path="/v1/anchors:now", handler=self.now, summary="Ask for an anchor at once",
                tag="anchors", scopes=frozenset({ANCHOR_NOW, OPERATOR}),
                success=Success("asked for", _STATUS_SCHEMA, {"status": "requested", "size": 17}, 202),
                problems=(e.ChainUnavailable, e.SignerUnavailable),
            ),
            Operation(
                method="GET", path="/v1/anchors", handler=self.list, summary="List the anchors", tag="anchors",
                scopes=None, query=(state, LIMIT, CURSOR),
                success=Success("newest first", PageOf[AnchorView], {"items": [x.ANCHOR_VIEW], "next": None}),
            ),
            Operation(
                method="GET", path="/v1/anchors/{id}", handler=self.get, summary="Get an anchor", tag="anchors",
                scopes=None, path_params=(ID,), success=Success("the anchor", AnchorView, x.ANCHOR_VIEW),
                problems=(e.AnchorNotFound,),
            ),
        ]  # fmt: skip

    async def now(self, call: Call) -> Answer:
        """Ask for an anchor of the present head."""
        return json_answer(await self._context.services.anchoring.request_now(call.caller.actor), 202)

    async def list(self, call: Call) -> Answer:
        """List anchors."""
        args, cursors = call.args, self._context.cursors
        before = cursors.take(args["cursor"], "anchors", args["state"])
        page = await self._context.reads.ask(
            lambda store: anchors.anchors(store, state=args["state"], before=before, limit=args["limit"])
        )
        return json_answer(PageOf(page.items, cursors.give(page.next, "anchors", args["state"])))

    async def get(self, call: Call) -> Answer:
        """Get one anchor."""
        anchor_id = call.path["id"]
        found = await self._context.reads.ask(lambda store: anchors.anchor(store, anchor_id))
        if found is None:
            raise e.AnchorNotFound(f"no anchor {anchor_id}", anchor=anchor_id)
        return json_answer(found)

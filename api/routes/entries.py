"""Entries of the log: the bytes, their place in the tree, and all that proves them to a stranger."""

from typing import Any

from api import examples as x
from api.auth import Caller
from api.context import Context
from api.evidence import EvidenceMaker
from api.http import Answer, Call, json_answer
from api.operations import Operation, Success
from api.params import MAX_POSITION, POSITION, bad, integer
from api.routes.trades import READ, checkpoint_ref
from api.shapes import EntryAnswer, ProofAnswer
from api.text import b64
from domain import errors as e
from domain.entry import entry_leaf_hash
from merkle.flat_log import OutOfTreeError
from projections import anchors, queries

_EVIDENCE_SCHEMA: dict[str, Any] = {"type": "object", "description": "daicho-evidence/1 (docs/evidence.md)"}


class Entries:
    """The queries on entries. A company reads those that it is a party to, an auditor all of them."""

    def __init__(self, context: Context) -> None:
        self._context = context
        services = context.services
        self._entries = services.entries
        self._evidence = EvidenceMaker(services.origin, services.entries, services.log_view)

    def rows(self) -> list[Operation]:
        """The table."""
        shared: dict[str, Any] = {"method": "GET", "tag": "entries", "scopes": READ, "path_params": (POSITION,)}
        entry = {
            "position": 17, "leaf_hash": x.LEAF, "entry": x.ENTRY, "checkpoint": {"size": 40, "root": "d4" * 32},
            "anchor": x.ANCHOR_VIEW,
        }  # fmt: skip
        proof = {
            "position": 17, "leaf_hash": x.LEAF, "size": 40, "root": x.LEAF, "inclusion": [x.LEAF, x.LEAF],
            "checkpoint": x.CHECKPOINT,
        }  # fmt: skip
        evidence = {
            "format": "daicho-evidence/1", "origin": x.ORIGIN, "entry": {"position": 17, "bytes": "eyJhY3RvciI6…"},
            "checkpoint": x.CHECKPOINT, "inclusion": [x.LEAF], "author": None, "anchor": None,
        }  # fmt: skip
        size = integer("size", "prove it in the tree of this size (default: the checkpoint's)", 1, MAX_POSITION)
        problems = (e.EntryNotFound, e.NotYetVisible)
        return [
            Operation(
                path="/v1/entries/{position}", handler=self.get, summary="Get an entry with its receipt",
                success=Success("the entry", EntryAnswer, entry), problems=problems, **shared,
            ),
            Operation(
                path="/v1/entries/{position}/proof", handler=self.proof, query=(size,),
                summary="Get an entry's inclusion proof", success=Success("the proof", ProofAnswer, proof),
                problems=problems, **shared,
            ),
            Operation(
                path="/v1/entries/{position}/evidence", handler=self.evidence,
                summary="Get the file that proves an entry to a stranger",
                description="Save it and run `daicho-verify FILE` (docs/evidence.md).",
                success=Success("the evidence", _EVIDENCE_SCHEMA, evidence), problems=problems, **shared,
            ),
        ]  # fmt: skip

    async def get(self, call: Call) -> Answer:
        """An entry with its receipt."""
        position, entry = await self._readable(call)
        await self._context.reads.reach(position)
        checkpoint = checkpoint_ref(self._context.services.log_view)
        receipt = await self._context.reads.ask(lambda store: anchors.receipt(store, None, position, checkpoint))
        covered = receipt.checkpoint if receipt is not None else None
        anchor = receipt.anchor if receipt is not None else None
        return json_answer(EntryAnswer(position, b64(entry_leaf_hash(entry)), entry.decode(), covered, anchor))

    async def proof(self, call: Call) -> Answer:
        """An inclusion proof in the published tree."""
        position, entry = await self._readable(call)
        view = self._context.services.log_view
        head, wanted = view.head, call.args["size"]
        if head is None or head.size < position:
            raise e.NotYetVisible(f"position {position} is not published yet", position=position, size=view.size)
        size = wanted or head.size
        if not position <= size <= head.size:
            raise bad("size", f"from {position} to {head.size}, the published size", str(size))
        try:
            path, root = view.inclusion_path(position - 1, size), view.root(size)
        except OutOfTreeError:
            raise e.NotYetVisible("the log is not published that far", size=view.size) from None
        shown = [b64(step) for step in path]
        note = head.note.decode()
        return json_answer(ProofAnswer(position, b64(entry_leaf_hash(entry)), size, b64(root), shown, note))

    async def evidence(self, call: Call) -> Answer:
        """The evidence file."""
        position, _ = await self._readable(call)
        answer = await self._context.reads.ask(lambda store: self._evidence.make(store, position))
        name = f'attachment; filename="daicho-entry-{position}.json"'.encode()
        return json_answer(answer, headers=[(b"content-disposition", name)])

    async def _readable(self, call: Call) -> tuple[int, bytes]:
        """The entry, if the caller may read it; what it may not read does not exist."""
        caller: Caller = call.caller
        viewer, position, reads = caller.entry_viewer, call.path["position"], self._context.reads
        if viewer is not None:
            await reads.reach_stored(position)
            if not await reads.ask(lambda store: queries.may_read(store, viewer, position)):
                raise _missing(position)
        entry = await reads.run(lambda: self._entries.get(position))
        if entry is None:
            raise _missing(position)
        return position, entry


def _missing(position: int) -> e.EntryNotFound:
    return e.EntryNotFound(f"no entry at position {position}", position=position)

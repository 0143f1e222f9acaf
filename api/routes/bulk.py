"""Many commands in one request: NDJSON in, one line of answer for each in order, one promise at the end.

`mode=atomic` does all or none, `mode=continue` what the rules allow. `sign=batch` has the actor's wallet sign the whole
bulk once (`BatchSigned` stands before its entries), `sign=each` signs every command on its own.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from api import examples as x
from api.auth import OPERATOR, TRADE_WRITE, WALLET_WRITE
from api.commanding import Commanding, as_seen, require_media, shown
from api.context import Context
from api.errors import BodyTooLarge, Header, problem_headers, problem_of, rule_of
from api.http import Answer, Call
from api.lines import LINES, BatchLine, Line, LineReader
from api.operations import Body, Operation, Success
from api.params import DRY_RUN, bad, choice, command_key
from api.shapes import BulkEnd, EntryShown, LineAnswer
from api.text import b64, json_bytes
from domain import errors as e
from domain.commands import ClientBatch
from domain.desk import bulk_rejected
from domain.entry import entry_leaf_hash
from domain.errors import DaichoError
from domain.orders import Answer as Outcome
from domain.orders import Order, Receipt

MEDIA: Final = (b"application/x-ndjson", b"application/ndjson")


class _Batched(msgspec.Struct):
    batch: str | None = None
    index: int = 0


class _Signature(msgspec.Struct):
    signature: _Batched | None = None


class _Data(msgspec.Struct):
    data: _Signature


_signature = msgspec.json.Decoder(_Data).decode


class Bulk:
    """The bulk operation."""

    def __init__(self, context: Context, commanding: Commanding) -> None:
        self._context = context
        self._commanding = commanding
        self._ledger = context.services.ledger
        self._reader = LineReader(context.origin, context.settings.max_bulk_lines)

    def rows(self) -> list[Operation]:
        """The table."""
        mode = choice("mode", "all or none, or those that are allowed", "atomic", "continue", default="atomic")
        sign = choice("sign", "one signature for each, or one for all", "each", "batch", default="each")
        line = {"command": "ConfirmTrade", "trade": x.TRADE, "key": "confirm-17"}
        answer = {"line": 0, "status": 200, **{k: v for k, v in x.COMMAND_ANSWER.items() if k != "promise"}}
        return [
            Operation(
                method="POST", path="/v1/commands", handler=self.post, summary="Give many commands at once",
                tag="commands", scopes=frozenset({TRADE_WRITE, WALLET_WRITE, OPERATOR}), query=(mode, sign, DRY_RUN),
                headers=("Idempotency-Key",),
                description="Each line is a command with its name in `command`. Line n, counted from 0, has the "
                "command key `<Idempotency-Key>:n` unless it names its own in `key`. With `sign=batch` all lines are "
                'of one wallet and carry no signatures; in own custody the first line is `{"batch": …}`. The answer '
                "has a line for each command, then one with the promise over all of them. 200 when something was done "
                "or nothing had to be; an atomic bulk that was refused has the status of its first refusal.",
                body=Body((*LINES.values(), BatchLine), line, media="application/x-ndjson"),
                success=Success("one line a command, then the promise", LineAnswer, answer,
                                media="application/x-ndjson"),
                problems=(BodyTooLarge, e.BulkRejected, e.CommandKeyReused, e.SignatureInvalid),
            )
        ]  # fmt: skip

    async def post(self, call: Call) -> Answer:
        """Do the commands of a bulk."""
        settings, args = self._context.settings, call.args
        require_media(call.headers.get(b"content-type"), *MEDIA)
        stem = command_key(call.headers.get(b"idempotency-key"))
        if b"if-match" in call.headers:
            raise bad("If-Match", "not for a bulk")
        raw = await call.body(settings.max_bulk_bytes, settings.body_timeout_seconds)
        lines, given = await self._reader.read(raw, call.caller, stem)
        del raw
        if given is not None and args["sign"] != "batch":
            raise bad("sign", "batch, since the first line signs one", args["sign"])
        outcomes = await self._outcomes(lines, args, given)
        return await self._answer(lines, outcomes, args)

    async def _outcomes(self, lines: Sequence[Line], args: dict[str, Any], given: ClientBatch | None) -> list[Outcome]:
        """An outcome per line, in order."""
        refused = [line for line in lines if isinstance(line, DaichoError)]
        orders = [line for line in lines if isinstance(line, Order)]
        if refused and (args["mode"] == "atomic" or given is not None):
            return [line if isinstance(line, DaichoError) else bulk_rejected() for line in lines]
        done = iter(await self._execute(orders, args, given) if orders else [])
        return [line if isinstance(line, DaichoError) else next(done) for line in lines]

    async def _execute(self, orders: Sequence[Order], args: dict[str, Any], given: ClientBatch | None) -> list[Outcome]:
        if args["dry_run"]:
            return await self._ledger.dry_run(orders, args["mode"])
        if args["sign"] == "batch":
            return await self._ledger.execute_batch(orders, args["mode"], given)
        if args["mode"] == "atomic":
            return await self._ledger.execute_atomic(orders)
        return await self._ledger.execute_each(orders)

    async def _answer(self, lines: Sequence[Line], outcomes: Sequence[Outcome], args: dict[str, Any]) -> Answer:
        leaves, out = dict[int, bytes](), list[bytes]()
        done: Counter[tuple[str, bool]] = Counter()
        for number, (line, outcome) in enumerate(zip(lines, outcomes, strict=True)):
            kind = type(line.command).__name__ if isinstance(line, Order) else "unreadable"
            if isinstance(outcome, DaichoError):
                self._context.metrics.command(kind, outcome)
                seen = as_seen(outcome, line.command) if isinstance(line, Order) else outcome
                problem = problem_of(seen)
                out.append(json_bytes(LineAnswer(line=number, status=problem.status, problem=problem)))
                continue
            done[kind, outcome.hit] += 1
            out.append(json_bytes(_line_answer(number, outcome, leaves)))
        for (kind, repeated), count in done.items():
            if not args["dry_run"]:
                self._context.metrics.command(kind, None, repeated=repeated, count=count)
        receipts = [outcome for outcome in outcomes if isinstance(outcome, Receipt)]
        batch = await self._batch(receipts, leaves) if args["sign"] == "batch" else None
        promise = await self._context.promiser.promise(leaves) if not args["dry_run"] else None
        out.append(
            json_bytes(
                BulkEnd(
                    done=len(receipts),
                    refused=len(outcomes) - len(receipts),
                    batch=batch,
                    promise=promise,
                    dry_run=args["dry_run"],
                )
            )
        )
        status, headers = _status(outcomes, args["mode"])
        return Answer(status, b"\n".join(out) + b"\n", MEDIA[0], headers)

    async def _batch(self, receipts: Sequence[Receipt], leaves: dict[int, bytes]) -> EntryShown | None:
        """The entry that signs those done now; it stands right before the first of them and is promised with them."""
        for receipt in receipts:
            if receipt.hit or not receipt.position:
                continue
            position, entry = receipt.records[0]
            signature = _signature(entry).data.signature
            if signature is None or signature.batch is None:
                return None
            at = position - 1 - signature.index
            signed = await self._context.reads.run(lambda: self._context.services.entries.get(at))  # noqa: B023
            if signed is None:
                return None
            leaves[at] = leaf = entry_leaf_hash(signed)
            return EntryShown(at, b64(leaf), signed.decode())
        return None


def _line_answer(number: int, receipt: Receipt, leaves: dict[int, bytes]) -> LineAnswer:
    return LineAnswer(
        line=number,
        status=200,
        id=receipt.aggregate_id,
        version=receipt.version,
        position=receipt.position,
        entries=shown(receipt.records, leaves),
        hit=receipt.hit,
    )


def _status(outcomes: Sequence[Outcome], mode: str) -> tuple[int, list[Header]]:
    """200 when something was done; else that of our trouble or, for an atomic bulk, of what made it fail."""
    refusals = [outcome for outcome in outcomes if isinstance(outcome, DaichoError)]
    if len(refusals) < len(outcomes):
        return 200, []
    trouble = next((refusal for refusal in refusals if isinstance(refusal, e.Trouble)), None)
    if trouble is not None:
        return rule_of(type(trouble)).status, problem_headers(trouble)
    if mode == "continue":
        return 200, []
    guilty = next((refusal for refusal in refusals if not isinstance(refusal, e.BulkRejected)), refusals[0])
    return rule_of(type(guilty)).status, []

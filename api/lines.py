"""The lines of a bulk: NDJSON to orders. A line that is refused here keeps its place and its problem."""

import asyncio
from collections.abc import Mapping
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from api.auth import OPERATOR, TRADE_WRITE, WALLET_WRITE, Caller
from api.errors import BodyTooLarge
from api.strict import Strict, build, require_distinct_keys
from domain import commands as c
from domain.entry import CommandRef, body_hash, command_key_hash
from domain.errors import DaichoError, Malformed
from domain.orders import Order

_NUMBER_DIGITS: Final = 8  # hex digits of a line's number in the hash of its key
PAUSE_LINES: Final = 500  # decoded at a stretch, before others get their turn
_OPERATOR: Final = frozenset({OPERATOR})
_WALLET: Final = frozenset({WALLET_WRITE, OPERATOR})
_TRADE: Final = frozenset({TRADE_WRITE})
Key = Annotated[
    str, Meta(pattern=r"\A[\x21-\x7e]{1,255}\Z", description="in place of the Idempotency-Key", examples=["AF-17"])
]
Line = Order | DaichoError


class BatchLine(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The first line of a bulk that a wallet in own custody has signed as one batch."""

    batch: c.ClientBatch


def _with_key(command: type[c.Command]) -> type[msgspec.Struct]:
    """The type of a command's line that names a key of its own."""
    return msgspec.defstruct(
        f"{command.__name__}Line",
        [("key", Key | None, None)],
        bases=(command,),
        namespace={"__doc__": command.__doc__, "__post_init__": lambda _: None},
        frozen=True,
        kw_only=True,
        forbid_unknown_fields=True,
        tag=command.__name__,
        tag_field="command",
    )


LINES: Final[Mapping[type[c.Command], type[msgspec.Struct]]] = {kind: _with_key(kind) for kind in c.CLIENT_COMMANDS}
_COMMANDS: Final = {line: command for command, line in LINES.items()}


class LineReader:
    """Reads the lines of one book's bulks."""

    def __init__(self, origin: str, max_lines: int) -> None:
        self._origin = origin
        self._max_lines = max_lines
        self._plain: Strict[c.Command] = Strict(c.union_of(c.CLIENT_COMMANDS))
        self._keyed: Strict[Any] = Strict(c.union_of(tuple(_COMMANDS)))  # type: ignore[arg-type]
        self._batch: Strict[BatchLine] = Strict(BatchLine)

    async def read(self, raw: bytes, caller: Caller, stem: str) -> tuple[list[Line], c.ClientBatch | None]:
        """An order or a refusal for each line, and the batch that the client has signed.

        Line `n`, counted from 0 without the batch's line, has the command key `<stem>:<n>` unless it names its own.
        Raises BodyTooLarge, and Malformed for no line at all.
        """
        lines = raw.split(b"\n")
        if lines and not lines[-1].strip():
            lines.pop()
        given = None
        if lines and lines[0].lstrip().startswith(b'{"batch"'):
            given = self._batch.decode(lines.pop(0)).batch
        if len(lines) > self._max_lines:
            raise BodyTooLarge(f"a bulk has at most {self._max_lines} lines", limit_lines=self._max_lines)
        if not lines:
            raise Malformed("a bulk has one line at least", field="$", rule="one line at least")
        orders: list[Line] = []
        refusals: dict[type[c.Command], DaichoError | None] = {}  # by type: whether the caller may give such commands
        # a numbered key differs from its neighbours in the number alone (domain.entry.command_key_hash)
        numbered = command_key_hash(self._origin, caller.actor, f"{stem}:0")[:-_NUMBER_DIGITS]
        for number, line in enumerate(lines):
            try:
                orders.append(self._order(line, caller, refusals, f"{numbered}{number:0{_NUMBER_DIGITS}x}"))
            except DaichoError as refusal:
                orders.append(refusal)
            if number % PAUSE_LINES == PAUSE_LINES - 1:
                await asyncio.sleep(0)
        return orders, given

    def _order(
        self, line: bytes, caller: Caller, refusals: dict[type[c.Command], DaichoError | None], key: str
    ) -> Order:
        """The order of a line under the hash of its numbered key, or of the one that it names. Raises refusals."""
        if b'"key"' in line or b"\\" in line:  # a key may be spelt with escapes: let the slower decoder see to it
            command, named = _split(self._keyed.decode(line))
            body = c.body_bytes(command)
            if named is not None:
                key = command_key_hash(self._origin, caller.actor, named)
        else:
            command = self._plain.read(line)
            body = c.body_bytes(command)
            require_distinct_keys(line, command, body)
        kind = type(command)
        if kind not in refusals:
            refusals[kind] = _refusal(caller, command)
        refusal = refusals[kind]
        if refusal is not None:
            raise refusal
        return Order(command, caller.actor, CommandRef(body=body_hash(body), key=key))


def _refusal(caller: Caller, command: c.Command) -> DaichoError | None:
    """MissingScope or MissingCompany where the caller may not give such commands."""
    try:
        if isinstance(command, c.TradeCommand):
            caller.require(_TRADE)
            caller.require_company()
        else:
            caller.require(_WALLET if isinstance(command, c.WALLET_COMMANDS) else _OPERATOR)
    except DaichoError as refusal:
        return refusal
    return None


def _split(line: Any) -> tuple[c.Command, str | None]:
    """The command itself and the key that its line names."""
    command = _COMMANDS[type(line)]
    return build(command, {name: getattr(line, name) for name in command.__struct_fields__}), line.key

"""The lines of a bulk: NDJSON to orders. A line that is refused here keeps its place and its problem."""

import asyncio
from collections.abc import Mapping
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from api.auth import OPERATOR, TRADE_WRITE, WALLET_WRITE, Caller
from api.errors import BodyTooLarge
from api.strict import Strict, build
from domain import commands as c
from domain.errors import DaichoError, Malformed
from domain.orders import Order

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
        for number, line in enumerate(lines):
            orders.append(self._line(line, caller, stem, number))
            if number % PAUSE_LINES == PAUSE_LINES - 1:
                await asyncio.sleep(0)
        return orders, given

    def _line(self, line: bytes, caller: Caller, stem: str, number: int) -> Line:
        key = f"{stem}:{number}"
        try:
            if b'"key"' in line or b"\\" in line:  # a key may be spelt with escapes: let the slower decoder see to it
                command, named = _split(self._keyed.decode(line))
                key = named or key
            else:
                command = self._plain.decode(line)
            require_scope(caller, command)
        except DaichoError as refusal:
            return refusal
        return Order.of(self._origin, command, caller.actor, key)


def require_scope(caller: Caller, command: c.Command) -> None:
    """Raise MissingScope or MissingCompany unless the caller may give such commands."""
    if isinstance(command, c.TradeCommand):
        caller.require(_TRADE)
        caller.require_company()
    elif isinstance(command, c.WALLET_COMMANDS):
        caller.require(_WALLET)
    else:
        caller.require(_OPERATOR)


def _split(line: Any) -> tuple[c.Command, str | None]:
    """The command itself and the key that its line names."""
    command = _COMMANDS[type(line)]
    return build(command, {name: getattr(line, name) for name in command.__struct_fields__}), line.key

"""From an executor's thread to the ledger, which lives on the event loop."""

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Any, Final, Protocol, TypeVar

import msgspec

from domain.aggregate import Aggregate
from domain.commands import Command
from domain.entry import decode_envelope, parse_time
from domain.errors import CommandKeyReused, DaichoError, NothingNew
from domain.orders import Answer, Order
from stores.receive import Receiver

A = TypeVar("A", bound=Aggregate)
T = TypeVar("T")
LEDGER_SECONDS: Final = 60.0
DONE_BEFORE: Final = (NothingNew, CommandKeyReused)
"""Refusals of a command that has been done, or that there is nothing left to do for."""


class LedgerPort(Protocol):
    """`domain.ledger.Ledger`."""

    async def execute_each(self, orders: Sequence[Order]) -> list[Answer]: ...
    def load_at(self, aggregate_id: str) -> Aggregate | None: ...


class EntriesPort(Protocol):
    """`storage.entry_log.SqliteEntryLog`."""

    def of_aggregate(self, aggregate_id: str) -> list[tuple[int, bytes]]: ...


class Bridge:
    """Executes commands as the ledger itself, and reads what is stored. Set `loop` before it is used."""

    def __init__(self, origin: str, ledger: LedgerPort, entries: EntriesPort, receiver: Receiver) -> None:
        self._origin, self._ledger, self._entries, self.receiver = origin, ledger, entries, receiver
        self.loop: asyncio.AbstractEventLoop | None = None

    def wait(self, coroutine: Awaitable[T]) -> T:
        """The result of a coroutine of the event loop. Raises TimeoutError when it takes too long."""

        async def run() -> T:
            return await coroutine

        if self.loop is None:
            raise RuntimeError("the bridge has no event loop yet")
        return asyncio.run_coroutine_threadsafe(run(), self.loop).result(LEDGER_SECONDS)

    def execute(self, commands: Sequence[tuple[str, Command]]) -> list[Answer]:
        """Do commands (each under its key); an answer each, in order."""
        if not commands:
            return []
        actor = self.wait(self.receiver.actor())
        return self.wait(
            self._ledger.execute_each([Order.of(self._origin, each, actor, key) for key, each in commands])
        )

    def do(self, commands: Sequence[tuple[str, Command]]) -> bool:
        """Do commands one after the other; False when none of them changed anything. Raises the first trouble."""
        changed = False
        for named in commands:
            (answer,) = self.execute([named])
            if isinstance(answer, DaichoError):
                if not isinstance(answer, DONE_BEFORE):
                    raise answer
            else:
                changed = changed or not answer.hit
        return changed

    def load(self, kind: type[A], aggregate_id: str) -> A | None:
        """An aggregate as stored, None when there is none of that kind and id."""
        found = self._ledger.load_at(aggregate_id)
        return found if isinstance(found, kind) else None

    def last_entry(self, aggregate_id: str, *types: str) -> "Told | None":
        """The last entry of one of these types of an aggregate (of any type without)."""
        for position, entry in reversed(self._entries.of_aggregate(aggregate_id)):
            envelope = decode_envelope(entry)
            if not types or envelope.type in types:
                moment = parse_time(envelope.recorded_at).timestamp()
                return Told(position, envelope.type, moment, envelope.data)
        return None


class Told(msgspec.Struct, frozen=True):
    """An entry: where, what, when (Unix seconds), and its data as stored."""

    position: int
    type: str
    at: float
    data: Any

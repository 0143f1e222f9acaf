"""The second durable medium behind the stores' endpoints: messages wait in a spool until the ledger takes them."""

import asyncio
import logging
from collections.abc import Callable
from typing import Final, Protocol

import msgspec

from domain.errors import Refusal
from stores.receive import Arrived, Received, Receiver

DRAIN_SECONDS: Final = 2.0
logger = logging.getLogger("daicho.intake")


class SpoolPort(Protocol):
    """`storage.spool.Spool`. Blocking, raises StorageUnavailable."""

    def put(self, record: bytes) -> None: ...
    def names(self) -> list[str]: ...
    def read(self, name: str) -> bytes: ...
    def remove(self, name: str) -> None: ...
    def set_aside(self, name: str) -> None: ...


class LocalSeal(Protocol):
    """Seals what lies on this machine's disk with nothing but the master key. `open` raises ValueError."""

    def seal(self, plain: bytes) -> bytes: ...
    def open(self, sealed: bytes) -> bytes: ...


class Reserve:
    """Puts messages into the spool, and drains it into the ledger. `on_drained` hears of each that has got there."""

    def __init__(
        self, spool: SpoolPort, seal: LocalSeal, receiver: Receiver, *, drain_seconds: float = DRAIN_SECONDS
    ) -> None:
        self.seal = seal
        self._spool, self._receiver, self._drain_seconds = spool, receiver, drain_seconds
        self._draining: asyncio.Task[None] | None = None
        self.on_drained: Callable[[Arrived, Received], None] = lambda _message, _received: None

    async def start(self) -> None:
        """Begin to drain, also what an earlier process has left."""
        self._draining = asyncio.create_task(self._drain(), name="spool drain")

    async def stop(self) -> None:
        """What is in the spool stays there."""
        if self._draining is not None:
            self._draining.cancel()
            await asyncio.gather(self._draining, return_exceptions=True)

    async def put(self, message: Arrived) -> None:
        """Keep a message; it is on disk on return. Raises StorageUnavailable."""
        await asyncio.to_thread(self._put, message)

    def _put(self, message: Arrived) -> None:
        self._spool.put(self.seal.seal(msgspec.msgpack.encode(message)))

    async def _drain(self) -> None:
        """From the spool into the ledger, oldest first, for ever."""
        while True:
            try:
                for name in await asyncio.to_thread(self._spool.names):
                    await self._drain_one(name)
            except Exception as error:  # noqa: BLE001 the ledger is still away: they wait where they are
                logger.debug("the spool waits: %s", type(error).__name__)
            await asyncio.sleep(self._drain_seconds)

    async def _drain_one(self, name: str) -> None:
        try:
            message = await asyncio.to_thread(self._read, name)
            received = await self._receiver.record(message)
        except (ValueError, msgspec.DecodeError, Refusal) as error:
            logger.critical("a spooled record cannot be recorded and was set aside: %s", type(error).__name__)
            await asyncio.to_thread(self._spool.set_aside, name)
            return
        # A crash before this leaves the record to be drained again, and found to be there.
        await asyncio.to_thread(self._spool.remove, name)
        self.on_drained(message, received)

    def _read(self, name: str) -> Arrived:
        return msgspec.msgpack.decode(self.seal.open(self._spool.read(name)), type=Arrived)

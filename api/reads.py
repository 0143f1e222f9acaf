"""Reading the read models and the event store: in a few threads of their own, each with its own connection.

The event loop also decides commands, so whatever may take longer than a look-up by key runs beside it.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from api.errors import BadParameter
from api.services import BoardPort, EntriesPort, ReadStorePort
from api.settings import ApiSettings
from domain.errors import EntryNotFound, NotYetVisible, Overloaded, StorageUnavailable
from storage.sqlite_recorder import LedgerRecorder

T = TypeVar("T")


class Reads:
    """Questions to the read models, one thread a question."""

    def __init__(self, store: ReadStorePort, entries: EntriesPort, board: BoardPort, settings: ApiSettings) -> None:
        self._store = store
        self._entries = entries
        self._board = board
        self._settings = settings
        self._pool = ThreadPoolExecutor(settings.read_threads, "api-read")
        self._waiting = 0
        self._errors = (*LedgerRecorder.DATABASE_ERRORS, *store.DATABASE_ERRORS)

    async def ask(self, question: Callable[[Any], T]) -> T:
        """The answer of `question(connection)`. Raises what it raises, StorageUnavailable, Overloaded."""
        return await self.run(lambda: question(self._store.reader()))

    async def run(self, work: Callable[[], T]) -> T:
        """The result of blocking work, in a reading thread."""
        if self._waiting >= self._settings.reads_waiting:
            raise Overloaded(f"{self._waiting} questions are waiting", waiting=self._waiting)
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, work)
        except self._errors as error:
            raise StorageUnavailable("the database cannot be read for now", reason=type(error).__name__) from error
        finally:
            self._waiting -= 1

    async def reach(self, position: int | None) -> None:
        """Wait until the read models show this position. Raises NotYetVisible, Overloaded."""
        if position is None or self._board.position >= position:
            return
        if not await self._board.wait(position, self._settings.wait_seconds):
            raise NotYetVisible(
                f"the read models are at position {self._board.position}, not yet at {position}",
                position=self._board.position,
                wanted=position,
            )

    async def reach_stored(self, position: int) -> None:
        """Wait for the position of a stored entry. Raises EntryNotFound when there is none, NotYetVisible."""
        if self._board.position >= position:
            return
        head = await self.run(self._entries.head)
        if position > head:
            raise EntryNotFound(f"no entry at position {position}", position=position)
        await self.reach(position)

    async def reach_moment(self, as_of: int | str | None) -> None:
        """Wait until an `as_of` has one answer for ever.

        That is the position that it names or, where it is a time, every entry that is stored by now. Raises
        BadParameter for a position that the log has not reached, NotYetVisible.
        """
        if as_of is None:
            return
        if isinstance(as_of, str):
            await self.reach(await self.run(self._entries.head))
            return
        try:
            await self.reach_stored(as_of)
        except EntryNotFound:
            raise BadParameter(
                f"the log has no position {as_of} yet", field="as_of", rule="a position that exists"
            ) from None

    def close(self) -> None:
        """Let running questions end and take no more."""
        self._pool.shutdown(wait=True, cancel_futures=True)

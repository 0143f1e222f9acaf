"""Group commit: all units that wait share one write lock, one transaction and one fsync; each keeps its own answer.

    1  take the lock, fix the group's time, look up which command keys are known, which claims are taken, which of the
       ids to be given are free
    2  decide every unit in order, on the event loop, each on the result of those before it
    3  check under the lock what the decisions assumed: the versions they read, entries small enough
    4  where an assumption was wrong, forget what was in hand and decide the whole group again (back to 2)
    5  store what is left and commit in a thread; then answer

Losers are removed in 2 and 3, before anything is stored, so a guilty command never takes others with it.

A store whose calls may wait for another machine (`GroupStore.WAITS`) is asked in the writer's thread in every step, and
what the orders name is read there before they are decided: the event loop waits for no database.
"""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from time import perf_counter
from typing import Any, Final, Protocol, TypeVar, cast

from domain.aggregate import Aggregate
from domain.desk import Desk
from domain.errors import DaichoError, EntryTooLarge, Overloaded, StorageUnavailable
from domain.orders import Answer, Decided, KnownCommand, Line, Order, Receipt, Unit
from storage.group import Group, Waiting
from storage.group_store import Entries, GroupStore
from storage.sealing import EventRow
from storage.sqlite_recorder import unavailable

MAX_GROUP_ORDERS: Final = 1024
MAX_WAITING_ORDERS: Final = 20_000
MAX_ROUNDS: Final = 8
T = TypeVar("T")
logger = logging.getLogger("daicho.writer")


class Decider(Protocol):
    """Whoever decides: the ledger."""

    def open_desk(self, now_seconds: float, taken: set[str], absent: Collection[str]) -> Desk:
        """A desk for one group at its time (Unix seconds).

        `taken` are claims that the store holds already, `absent` ids of which it holds nothing.
        """

    def stored(self, desk: Desk) -> None:
        """The desk's group is durable."""

    def forget(self, desk: Desk) -> None:
        """The desk's group was not stored."""

    def unknown(self, orders: Sequence[Order]) -> list[str]:
        """The aggregates that these orders name and that would have to be read to decide them."""

    def read(self, ids: Sequence[str]) -> list[Aggregate]:
        """Those of these aggregates that are stored, as they are stored. From any thread; raises StorageUnavailable."""

    def keep(self, aggregates: Sequence[Aggregate]) -> None:
        """Aggregates just read, to decide upon."""


class GroupWriter:
    """The one writer of a ledger's event store. Use it from one event loop.

    `on_commit` are called with the new head after each commit, `on_group` with the number of orders in the group and
    the seconds from its begin until it was durable; `refusal`, when set, answers every command instead.
    """

    def __init__(
        self,
        recorder: GroupStore,
        entries: Entries,
        decider: Decider,
        *,
        max_group_orders: int = MAX_GROUP_ORDERS,
        max_waiting_orders: int = MAX_WAITING_ORDERS,
    ) -> None:
        self._recorder = recorder
        self._entries = entries
        self._decider = decider
        self._max_group = max_group_orders
        self._max_waiting = max_waiting_orders
        self._waiting: deque[Waiting] = deque()
        self._waiting_orders = 0
        self._busy = False
        self._task: asyncio.Task[None] | None = None  # the loop itself keeps no reference to it
        self._thread = ThreadPoolExecutor(1, "ledger-commit")
        self.refusal: DaichoError | None = None
        self.on_commit: list[Callable[[int], None]] = []
        self.on_group: list[Callable[[int, float], None]] = []

    # -- the Writer port ---------------------------------------------------------------------------------------------

    async def submit(self, units: list[Unit]) -> list[list[Answer]]:
        """Answers per unit and order, in order; refusals and troubles are answers."""
        if not units:
            return []
        count = sum(len(unit.orders) for unit in units)
        trouble = self.refusal
        if trouble is None and self._waiting_orders + count > self._max_waiting:
            trouble = Overloaded(f"{self._waiting_orders} commands are waiting", waiting=self._waiting_orders)
        if trouble is not None:
            return [[trouble] * len(unit.orders) for unit in units]
        loop = asyncio.get_running_loop()
        waiting = Waiting(units, loop.create_future())
        self._waiting.append(waiting)
        self._waiting_orders += count
        if not self._busy:
            self._busy = True
            self._task = loop.create_task(self._run(loop), name="group writer")
        # shielded: a caller that goes away must not take the group's other callers with it
        return await asyncio.shield(waiting.future)

    async def known(self, keys: list[str]) -> dict[str, KnownCommand]:
        """What is stored about these command key hashes."""
        return await self._call(asyncio.get_running_loop(), self._entries.known_commands, keys)

    async def taken(self, claims: list[str]) -> set[str]:
        """Those of the claims that are stored."""
        return await self._call(asyncio.get_running_loop(), self._entries.taken_claims, claims)

    async def receipt_of(self, known: KnownCommand) -> Receipt:
        """The stored answer of a known command."""
        return await self._call(asyncio.get_running_loop(), self._entries.receipt, known)

    @property
    def alone(self) -> bool:
        """True when no other process writes to the same store."""
        return not self._recorder.WAITS

    async def warm(self, orders: Sequence[Order]) -> None:
        """Read what the orders name in a thread, where reading may wait; otherwise it is read when it is needed.

        What an order is to create is not read: whether it is there already is asked for the whole group at once. A
        store that cannot be read is found out by whoever needs what is missing.
        """
        if not self._recorder.WAITS:
            return
        created = {order.creates() for order in orders}
        if ids := [name for name in self._decider.unknown(orders) if name not in created]:
            with contextlib.suppress(StorageUnavailable):
                self._decider.keep(await asyncio.get_running_loop().run_in_executor(None, self._decider.read, ids))

    def close(self) -> None:
        """Wait for the commit in work and stop. Whoever waits or comes later is answered StorageUnavailable."""
        self.refusal = StorageUnavailable("the ledger is closed", reason="shutdown")
        self._thread.shutdown(wait=True)

    # -- a group -----------------------------------------------------------------------------------------------------

    async def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        """Group after group, until nobody waits."""
        while (group := self._take_group()).waiting:
            await self._do(group, loop)
            await asyncio.sleep(0)  # whoever was answered may send the next command before the next group is taken
        self._busy = False

    async def _do(self, group: Group, loop: asyncio.AbstractEventLoop) -> None:
        """One group; every caller is answered, whatever happens."""
        try:
            if self.refusal is not None:
                self._fail(group, self.refusal)
            elif await self._stage(group, loop):
                await self._store(group, loop)
            else:
                self._settle(group)
        except DaichoError as trouble:
            self._fail(group, trouble)
        except Exception as error:  # a defect of ours must not leave callers waiting for ever
            logger.exception("a group could not be decided")
            self._fail(group, StorageUnavailable("the group could not be stored", reason=type(error).__name__))

    async def _store(self, group: Group, loop: asyncio.AbstractEventLoop) -> None:
        await loop.run_in_executor(self._thread, self._commit, group)
        try:
            self._settle(group)
            self._notify(group)
        except Exception:  # a defect of ours must not stop the ledger
            logger.exception("a stored group could not be answered, or its listeners told")
            self._fail(group, StorageUnavailable("stored, but the answer was lost: send the command again"))

    async def _call(self, loop: asyncio.AbstractEventLoop, work: Callable[..., T], *arguments: Any) -> T:
        """Ask the store: in the thread where that may take time, at once otherwise."""
        if self._recorder.WAITS:
            return await loop.run_in_executor(None, partial(work, *arguments))
        return work(*arguments)

    async def _step(self, loop: asyncio.AbstractEventLoop, work: Callable[..., T], *arguments: Any) -> T:
        """A step of the open transaction: as `_call`, in the thread that it belongs to."""
        if self._recorder.WAITS:
            return await loop.run_in_executor(self._thread, partial(work, *arguments))
        return work(*arguments)

    def _take_group(self) -> Group:
        group = Group([])
        while self._waiting:
            size = sum(len(unit.orders) for unit in self._waiting[0].units)
            if group.waiting and group.size + size > self._max_group:
                break
            group.waiting.append(self._waiting.popleft())
            group.size += size
        self._waiting_orders -= group.size
        return group

    async def _stage(self, group: Group, loop: asyncio.AbstractEventLoop) -> bool:
        """Steps 1 to 4. False when there is nothing to store: the lock is given back."""
        recorder = self._recorder
        group.started = perf_counter()
        unknown = self._decider.unknown(group.orders()) if recorder.WAITS else []
        head, read = await self._step(loop, self._open, group, unknown)
        try:
            self._decider.keep(read)
            await self._decide(group, loop, head)
            recorder.remember_time(head + len(group.rows), group.moment)
        except BaseException as error:
            await self._step(loop, recorder.rollback, error)
            if isinstance(error, recorder.DATABASE_ERRORS):
                raise unavailable(error) from error
            raise
        if not group.rows:
            await self._step(loop, recorder.rollback)
        return bool(group.rows)

    def _open(self, group: Group, unknown: Sequence[str]) -> tuple[int, list[Aggregate]]:
        """Step 1: the head under the lock, and the aggregates that are to be read before deciding."""
        recorder = self._recorder
        cursor = group.cursor = recorder.begin()
        try:
            head = recorder.head_under_lock(cursor)
            group.moment = recorder.time_under_lock(cursor, head)
            orders = group.orders()
            claims = [key for order in orders for key in order.claims()]
            group.known, group.taken = recorder.stored_keys(cursor, [order.ref.key for order in orders], claims)
            new = [name for order in orders if (name := order.creates())]
            group.absent = recorder.absent_aggregates(cursor, new)
            read = self._decider.read([name for name in unknown if name not in group.absent]) if unknown else []
        except BaseException as error:
            recorder.rollback(error)
            if isinstance(error, recorder.DATABASE_ERRORS):
                raise unavailable(error) from error
            raise
        return head, read

    async def _decide(self, group: Group, loop: asyncio.AbstractEventLoop, head: int) -> None:
        """Decide until all assumptions hold under the lock; fills in the rows of the events table."""
        now = self._recorder.seconds_of(group.moment)
        for _ in range(MAX_ROUNDS):
            desk = self._decider.open_desk(now, group.taken, group.absent)
            group.desk = desk
            group.lines = [desk.decide(unit, group.known, group.forced) for unit in group.units()]
            group.first.clear()
            group.decided = [line for lines in group.lines for line in lines if isinstance(line, Decided)]
            if not await self._step(loop, self._recorder.stale_versions, group.cursor, desk.loaded):
                rows = self._seal(group, head)
                if rows is not None:
                    group.rows = rows
                    return
            self._decider.forget(desk)
            if self._recorder.WAITS:
                unknown = [name for name in self._decider.unknown(group.orders()) if name not in group.absent]
                self._decider.keep(await self._step(loop, self._decider.read, unknown))
        raise StorageUnavailable("the group met too many changes by other writers", reason="contention")

    def _seal(self, group: Group, head: int) -> list[EventRow] | None:
        """The rows to store; None when entries were too large: their orders are forced to be refused."""
        rows: list[EventRow] = []
        origin, position, forced = self._recorder.origin, head, group.forced
        found = len(forced)
        for decided in group.decided:
            group.first[id(decided)] = position + 1
            try:
                for entry in decided.entries:
                    position += 1
                    state = entry.seal(origin, position, group.moment)
                    rows.append((position, entry.aggregate_id, entry.version, entry.type, state))
            except EntryTooLarge as too_large:
                forced[decided.order.ref] = too_large
        return rows if len(forced) == found else None

    def _commit(self, group: Group) -> None:
        """In the thread, which holds no interpreter lock for most of it: the inserts and the fsync.

        A crash here leaves the whole group stored or nothing of it; a client that got no answer repeats its command
        key and is told which. A commit whose answer was lost is looked for. Raises StorageUnavailable.
        """
        recorder = self._recorder
        try:
            recorder.insert_group(group.cursor, group.rows, group.claims())
            if parcels := group.parcels():
                recorder.insert_parcels(group.cursor, parcels)
        except BaseException as error:
            recorder.rollback(error)
            if isinstance(error, recorder.DATABASE_ERRORS):
                raise unavailable(error) from error
            raise StorageUnavailable("the commit failed", reason=type(error).__name__) from error
        try:
            recorder.commit()
        except StorageUnavailable:
            first = group.decided[0]
            if not recorder.stored_after_all(first.order.ref.key, group.first[id(first)]):
                raise
        except Exception as error:
            raise StorageUnavailable("the commit failed", reason=type(error).__name__) from error

    def _settle(self, group: Group) -> None:
        """What was decided is stored (or nothing was to be): later groups decide upon it, callers are answered."""
        self._decider.stored(cast("Desk", group.desk))
        self._answer(group)

    def _notify(self, group: Group) -> None:
        seconds = perf_counter() - group.started
        head = max(group.first[id(line)] + len(line.entries) - 1 for line in group.decided)
        for committed in self.on_commit:
            committed(head)
        for measured in self.on_group:
            measured(group.size, seconds)

    def _fail(self, group: Group, trouble: DaichoError) -> None:
        if group.desk is not None:
            self._decider.forget(group.desk)
        for request in group.waiting:
            if not request.future.done():
                request.future.set_result([[trouble] * len(unit.orders) for unit in request.units])

    def _answer(self, group: Group) -> None:
        lines = iter(group.lines)
        for request in group.waiting:
            request.future.set_result([[self._answer_of(line, group) for line in next(lines)] for _ in request.units])

    def _answer_of(self, line: Line, group: Group) -> Answer:
        if isinstance(line, DaichoError):
            return line
        if isinstance(line, Decided):
            return self._receipt(line, group, hit=False)
        if isinstance(line.source, Decided):
            return self._receipt(line.source, group, hit=True)
        try:
            return self._entries.receipt(line.source)
        except StorageUnavailable as trouble:
            return trouble

    @staticmethod
    def _receipt(decided: Decided, group: Group, *, hit: bool) -> Receipt:
        first = group.first[id(decided)]
        records = [(first + i, entry.state) for i, entry in enumerate(decided.entries)]
        return Receipt(decided.aggregate_id, decided.version, records, hit=hit)

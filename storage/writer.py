"""Group commit: all units that wait share one write lock, one transaction and one fsync; each keeps its own answer.

    1  take the lock, fix the group's time, look up which command keys are known, which claims are taken, which of the
       ids to be given are free
    2  decide every unit in order, on the event loop, each on the result of those before it
    3  check under the lock what the decisions assumed: the versions they read, entries small enough
    4  where an assumption was wrong, forget what was in hand and decide the whole group again (back to 2)
    5  store what is left and commit in a thread; then answer

Losers are removed in 2 and 3, before anything is stored, so a guilty command never takes others with it.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from time import perf_counter
from typing import Final, Protocol, cast

from eventsourcing.sqlite import SQLiteCursor

from domain.desk import Desk
from domain.entry import CommandRef
from domain.errors import DaichoError, EntryTooLarge, Overloaded, StorageUnavailable
from domain.orders import Answer, Decided, KnownCommand, Line, Order, Receipt, Unit
from storage.bulk_insert import insert_rows
from storage.claims import (
    ClaimRow,
    Rows,
    absent_aggregates,
    claim_rows,
    claims_table,
    command_row,
    stale_versions,
    stored_keys,
)
from storage.entry_log import SqliteEntryLog
from storage.sqlite_recorder import EventRow, LedgerRecorder, unavailable

MAX_GROUP_ORDERS: Final = 1024
MAX_WAITING_ORDERS: Final = 20_000
MAX_ROUNDS: Final = 8
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


@dataclass(slots=True)
class _Waiting:
    units: list[Unit]
    future: asyncio.Future[list[list[Answer]]]


@dataclass(slots=True)
class _Group:
    """A group in work: the requests it answers, the desk it was decided at, the lines per unit."""

    waiting: list[_Waiting]
    desk: Desk | None = None
    lines: list[list[Line]] = field(default_factory=list)
    first: dict[int, int] = field(default_factory=dict)
    decided: list[Decided] = field(default_factory=list)
    size: int = 0
    started: float = 0.0
    rows: list[EventRow] = field(default_factory=list)
    cursor: SQLiteCursor | None = None

    def units(self) -> list[Unit]:
        return [unit for request in self.waiting for unit in request.units]

    def orders(self) -> list[Order]:
        return [order for unit in self.units() for order in unit.orders]


class GroupWriter:
    """The one writer of a ledger's event store. Use it from one event loop.

    `on_commit` are called with the new head after each commit, `on_group` with the number of orders in the group and
    the seconds from its begin until it was durable; `refusal`, when set, answers every command instead.
    """

    def __init__(
        self,
        recorder: LedgerRecorder,
        entries: SqliteEntryLog,
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
        self._waiting: deque[_Waiting] = deque()
        self._waiting_orders = 0
        self._busy = False
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
        waiting = _Waiting(units, loop.create_future())
        self._waiting.append(waiting)
        self._waiting_orders += count
        if not self._busy:
            self._busy = True
            loop.call_soon(self._next_group, loop)
        # shielded: a caller that goes away must not take the group's other callers with it
        return await asyncio.shield(waiting.future)

    async def known(self, keys: list[str]) -> dict[str, KnownCommand]:
        """What is stored about these command key hashes."""
        return self._entries.known_commands(keys)

    async def taken(self, claims: list[str]) -> set[str]:
        """Those of the claims that are stored."""
        return self._entries.taken_claims(claims)

    async def receipt_of(self, known: KnownCommand) -> Receipt:
        """The stored answer of a known command."""
        return self._entries.receipt(known)

    def close(self) -> None:
        """Wait for the commit in work and stop. Whoever waits or comes later is answered StorageUnavailable."""
        self.refusal = StorageUnavailable("the ledger is closed", reason="shutdown")
        self._thread.shutdown(wait=True)

    # -- a group -----------------------------------------------------------------------------------------------------

    def _next_group(self, loop: asyncio.AbstractEventLoop) -> None:
        group = self._take_group()
        if not group.waiting:
            self._busy = False
            return
        try:
            if self.refusal is not None:
                self._fail(group, self.refusal)
            elif self._stage(group):
                self._thread.submit(self._commit, group, loop)
                return
            else:
                self._settle(group)
        except DaichoError as trouble:
            self._fail(group, trouble)
        except Exception as error:  # a defect of ours must not leave callers waiting for ever
            logger.exception("a group could not be decided")
            self._fail(group, StorageUnavailable("the group could not be stored", reason=type(error).__name__))
        loop.call_soon(self._next_group, loop)

    def _take_group(self) -> _Group:
        group = _Group([])
        while self._waiting:
            size = sum(len(unit.orders) for unit in self._waiting[0].units)
            if group.waiting and group.size + size > self._max_group:
                break
            group.waiting.append(self._waiting.popleft())
            group.size += size
        self._waiting_orders -= group.size
        return group

    def _stage(self, group: _Group) -> bool:
        """Steps 1 to 5 without the commit. False when there is nothing to store: the lock is given back."""
        recorder = self._recorder
        group.started = perf_counter()
        cursor = recorder.begin()
        try:
            head = recorder.head_under_lock(cursor)
            moment = recorder.time_under_lock(cursor, head)
            group.rows = self._decide(group, cursor, head, moment)
            recorder.remember_time(head + len(group.rows), moment)
        except BaseException as error:
            recorder.rollback(error)
            if isinstance(error, recorder.DATABASE_ERRORS):
                raise unavailable(error) from error
            raise
        if not group.rows:
            recorder.rollback()
        group.cursor = cursor
        return bool(group.rows)

    def _decide(self, group: _Group, cursor: Rows, head: int, moment: str) -> list[EventRow]:
        """Decide until all assumptions hold under the lock; the rows of the events table."""
        table, now = self._recorder.events_table_name, self._recorder.seconds_of(moment)
        orders = group.orders()
        claims = [key for order in orders for key in order.claims()]
        known, taken = stored_keys(cursor, table, [order.ref.key for order in orders], claims)
        absent = absent_aggregates(cursor, table, [name for order in orders if (name := order.creates())])
        forced: dict[CommandRef, DaichoError] = {}
        for _ in range(MAX_ROUNDS):
            desk = self._decider.open_desk(now, taken, absent)
            group.desk = desk
            group.lines = [desk.decide(unit, known, forced) for unit in group.units()]
            group.first.clear()
            group.decided = [line for lines in group.lines for line in lines if isinstance(line, Decided)]
            if not stale_versions(cursor, table, desk.loaded):
                rows = self._seal(group, head, moment, forced)
                if rows is not None:
                    return rows
            self._decider.forget(desk)
        raise StorageUnavailable("the group met too many changes by other writers", reason="contention")

    def _seal(
        self, group: _Group, head: int, moment: str, forced: dict[CommandRef, DaichoError]
    ) -> list[EventRow] | None:
        """The rows to store; None when entries were too large: their orders are forced to be refused."""
        rows: list[EventRow] = []
        origin, position = self._recorder.origin, head
        found = len(forced)
        for decided in group.decided:
            group.first[id(decided)] = position + 1
            try:
                for entry in decided.entries:
                    position += 1
                    state = entry.seal(origin, position, moment)
                    rows.append((position, entry.aggregate_id, entry.version, entry.type, state))
            except EntryTooLarge as too_large:
                forced[decided.order.ref] = too_large
        return rows if len(forced) == found else None

    def _insert(self, group: _Group) -> None:
        """Put a group's rows into the open transaction, or take it back. Raises StorageUnavailable."""
        recorder, cursor = self._recorder, cast("SQLiteCursor", group.cursor)
        try:
            insert_rows(cursor, recorder.events_table_name, group.rows)
            insert_rows(cursor, claims_table(recorder.events_table_name), _claims(group))
        except BaseException as error:
            recorder.rollback(error)
            if isinstance(error, recorder.DATABASE_ERRORS):
                raise unavailable(error) from error
            raise

    def _commit(self, group: _Group, loop: asyncio.AbstractEventLoop) -> None:
        """In the thread, which holds no interpreter lock for most of it: the inserts and the fsync.

        A crash here leaves the whole group stored or nothing of it; a client that got no answer repeats its command
        key and is told which.
        """
        try:
            self._insert(group)
            self._recorder.commit()
        except StorageUnavailable as trouble:
            loop.call_soon_threadsafe(self._finish, group, loop, trouble)
        except BaseException as error:  # noqa: BLE001 the callers must be answered whatever happens
            failed = StorageUnavailable("the commit failed", reason=type(error).__name__)
            loop.call_soon_threadsafe(self._finish, group, loop, failed)
        else:
            loop.call_soon_threadsafe(self._finish, group, loop, None)

    def _finish(self, group: _Group, loop: asyncio.AbstractEventLoop, trouble: DaichoError | None) -> None:
        try:
            if trouble is not None:
                self._fail(group, trouble)
            else:
                self._settle(group)
                self._notify(group)
        except Exception:  # a defect of ours must not stop the ledger
            logger.exception("a stored group could not be answered, or its listeners told")
            self._fail(group, StorageUnavailable("stored, but the answer was lost: send the command again"))
        finally:
            loop.call_soon(self._next_group, loop)

    def _settle(self, group: _Group) -> None:
        """What was decided is stored (or nothing was to be): later groups decide upon it, callers are answered."""
        self._decider.stored(cast("Desk", group.desk))
        self._answer(group)

    def _notify(self, group: _Group) -> None:
        seconds = perf_counter() - group.started
        head = max(group.first[id(line)] + len(line.entries) - 1 for line in group.decided)
        for committed in self.on_commit:
            committed(head)
        for measured in self.on_group:
            measured(group.size, seconds)

    def _fail(self, group: _Group, trouble: DaichoError) -> None:
        if group.desk is not None:
            self._decider.forget(group.desk)
        for request in group.waiting:
            if not request.future.done():
                request.future.set_result([[trouble] * len(unit.orders) for unit in request.units])

    def _answer(self, group: _Group) -> None:
        lines = iter(group.lines)
        for request in group.waiting:
            request.future.set_result([[self._answer_of(line, group) for line in next(lines)] for _ in request.units])

    def _answer_of(self, line: Line, group: _Group) -> Answer:
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
    def _receipt(decided: Decided, group: _Group, *, hit: bool) -> Receipt:
        first = group.first[id(decided)]
        records = [(first + i, entry.state) for i, entry in enumerate(decided.entries)]
        return Receipt(decided.aggregate_id, decided.version, records, hit=hit)


def _claims(group: _Group) -> list[ClaimRow]:
    rows: list[ClaimRow] = []
    for decided in group.decided:
        first, ref = group.first[id(decided)], decided.order.ref
        rows.append(command_row(ref.key, ref.body, first, len(decided.entries)))
        rows += claim_rows(decided.claims, first)
    return rows

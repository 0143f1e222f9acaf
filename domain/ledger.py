"""The ledger: an eventsourcing application whose commands go through one writer.

    order ── sign (authorship.py) ──▶ unit ── writer ──▶ desk.decide (handlers.py) ──▶ entries, stored ──▶ receipt

Decisions are made on the event loop against cached aggregates; the cache is only a hint, since the writer checks under
its lock that the store holds the very versions that were decided upon. Nothing else but `anchor_book.py` stores events.
"""

from collections import OrderedDict
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from typing import Any, Final, cast

from eventsourcing.application import AggregateNotFoundError, Application, Cache, Repository
from eventsourcing.persistence import PersistenceError

from domain.aggregate import Aggregate
from domain.authorship import Authorship
from domain.bulk import Bulk
from domain.commands import ClientBatch
from domain.desk import Desk, bulk_rejected, key_reused
from domain.entry import CommandRef, format_time
from domain.errors import (
    AlreadyExists,
    BulkRejected,
    CommandKeyReused,
    DaichoError,
    EntryTooLarge,
    Overloaded,
    SignatureReplayed,
    StorageUnavailable,
    WrongSigner,
)
from domain.handlers import HANDLERS
from domain.mapper import EntryMapper
from domain.orders import Answer, BulkMode, Decided, Line, Order, Receipt, Unit, Writer

_SOME_TIME: Final = format_time(datetime.fromtimestamp(0, UTC))  # as long as any other
_LATEST: Final = 2**62  # asking the repository for a version passes its cache by
MAX_CACHED_AGGREGATES: Final = 20_000
MAX_SIGNING_ROUNDS: Final = 4  # a key rotated, or lines refused, between signing and deciding: sign what is left again


class AggregateCache(Cache[str, Any]):
    """First in, first out, bounded. Only the event loop uses it, so it takes no lock and keeps no order of use."""

    def __init__(self, max_size: int = MAX_CACHED_AGGREGATES) -> None:
        super().__init__()
        self.max_size = max_size
        # an OrderedDict forgets its oldest at once; a plain dict looks through all that was deleted before
        self.cache: OrderedDict[str, Any] = OrderedDict()

    def put(self, key: str, value: Any) -> None:
        """Keep an aggregate, dropping the oldest beyond the limit."""
        if len(self.cache) >= self.max_size and key not in self.cache:
            self.cache.popitem(last=False)
        self.cache[key] = value

    def drop(self, key: str) -> None:
        """Forget an aggregate."""
        self.cache.pop(key, None)


class Ledger(Application[str]):
    """Companies, wallets and trades of one book. `connect` it to its writer and its authorship before use."""

    env = {  # noqa: RUF012 the library declares it as a class variable
        "PERSISTENCE_MODULE": "eventsourcing.sqlite",
        "APPLICATION_RECORDER_TOPIC": "storage.sqlite_recorder:LedgerRecorder",
        "MAPPER_TOPIC": "domain.mapper:EntryMapper",
        "ORIGINATOR_ID_TYPE": "text",
        "AGGREGATE_CACHE_FASTFORWARD": "n",
        "DEEPCOPY_FROM_AGGREGATE_CACHE": "n",
    }

    writer: Writer
    authorship: Authorship

    def connect(self, writer: Writer, authorship: Authorship) -> None:
        """Give the ledger the writer that stores for it and the authorship that signs for it."""
        self.writer, self.authorship = writer, authorship

    def construct_repository(self) -> Repository[str]:
        """Library hook: the repository with our cache."""
        repository = super().construct_repository()
        repository.cache = self.cache = AggregateCache()
        return repository

    # -- for the writer ----------------------------------------------------------------------------------------------

    def open_desk(self, now_seconds: float, taken: set[str], absent: Collection[str]) -> Desk:
        """A desk for one group at its time (Unix seconds).

        `taken` are claims that the store holds already, `absent` ids of which it holds nothing.
        """
        return Desk(self.load, self.load_at, self._entries, HANDLERS, now_seconds, taken, absent)

    def load(self, aggregate_id: str) -> Aggregate | None:
        """The aggregate as stored (by the cache's word), or None. Raises StorageUnavailable."""
        cached: Aggregate | None = self.cache.cache.get(aggregate_id)
        return cached if cached is not None else self._get(aggregate_id, None)

    def load_at(self, aggregate_id: str, version: int = _LATEST) -> Aggregate | None:
        """The aggregate replayed from the store up to a version, apart from the cache. Raises StorageUnavailable."""
        return self._get(aggregate_id, version)

    def stored(self, desk: Desk) -> None:
        """The desk's group is durable: its aggregates are what later groups decide upon."""
        for aggregate in desk.in_hand():
            self.cache.put(aggregate.id, aggregate)

    def forget(self, desk: Desk) -> None:
        """The desk's group was not stored: drop every aggregate it held, the next look reads the store."""
        for aggregate_id in desk.loaded:
            self.cache.drop(aggregate_id)

    def unknown(self, orders: Sequence[Order]) -> list[str]:
        """The aggregates that these orders name and that the cache does not hold."""
        cached = self.cache.cache
        return [
            name for name in dict.fromkeys(name for order in orders for name in order.names()) if name not in cached
        ]

    def read(self, ids: Sequence[str]) -> list[Aggregate]:
        """Those of these aggregates that are stored, replayed. From any thread; raises StorageUnavailable."""
        return [found for name in ids if (found := self._get(name, _LATEST)) is not None]

    def keep(self, aggregates: Sequence[Aggregate]) -> None:
        """Put aggregates that were just read into the cache."""
        for aggregate in aggregates:
            self.cache.put(aggregate.id, aggregate)

    # -- commands ----------------------------------------------------------------------------------------------------

    async def execute(self, order: Order) -> Receipt:
        """Do one command; its refusal or our trouble is raised."""
        answer = (await self.execute_each([order]))[0]
        if isinstance(answer, DaichoError):
            raise answer
        return answer

    async def execute_each(self, orders: Sequence[Order]) -> list[Answer]:
        """Do commands independently of each other, each signed on its own; an answer per order, in order."""
        answers: dict[int, Answer] = {}
        pending = list(range(len(orders)))
        for _ in range(MAX_SIGNING_ROUNDS):
            refusals = await self._signed([orders[i] for i in pending])
            ready = [i for i, refusal in zip(pending, refusals, strict=True) if refusal is None]
            for i, refusal in zip(pending, refusals, strict=True):
                if refusal is not None:
                    answers[i] = await self._repeat_or(orders[i], refusal)
            results = await self.writer.submit([Unit([orders[i]]) for i in ready])
            answers.update((i, result[0]) for i, result in zip(ready, results, strict=True))
            pending = [i for i in ready if self._sign_again(orders[i], answers[i])]
            if not pending:
                break
        return [answers[i] for i in range(len(orders))]

    async def execute_atomic(self, orders: Sequence[Order]) -> list[Answer]:
        """Do commands all or none, each signed on its own."""
        answers: list[Answer] = []
        for _ in range(MAX_SIGNING_ROUNDS):
            refusals = await self._signed(orders)
            if any(refusals):
                answers = [
                    await self._repeat_or(order, refusal) if refusal else bulk_rejected()
                    for order, refusal in zip(orders, refusals, strict=True)
                ]
                if any(isinstance(answer, DaichoError) and not isinstance(answer, BulkRejected) for answer in answers):
                    break
            answers = (await self.writer.submit([Unit(list(orders))]))[0]
            if not any(self._sign_again(order, answer) for order, answer in zip(orders, answers, strict=True)):
                break
        return answers

    async def execute_batch(
        self, orders: Sequence[Order], mode: BulkMode, given: ClientBatch | None = None
    ) -> list[Answer]:
        """Do commands of one actor as one bulk under one signature: of the actor's custodial wallet, or `given`.

        `atomic`: all or none. `continue`: those that the rules allow; the refused ones are left out of the batch.
        """
        bulk = Bulk(orders, mode)
        try:
            for _ in range(MAX_SIGNING_ROUNDS):
                bulk.take_known(await self._receipts(bulk))
                if bulk.left:
                    bulk.take(await self._batch_round(bulk.orders_left(), mode, given))
                if not bulk.left:
                    break
            bulk.give_up(Overloaded("the bulk met too many changes by others; send it again"))
        except StorageUnavailable as trouble:
            bulk.give_up(trouble)
        return bulk.answers()

    async def dry_run(self, orders: Sequence[Order], mode: BulkMode) -> list[Answer]:
        """What the commands would lead to: decided by the same rules on fresh aggregates, nothing stored or signed.

        A receipt's records are the entries that would be written, at position 0 and without time.
        """
        bulk = Bulk(orders, mode)
        try:
            bulk.take_known(await self._receipts(bulk))
            if bulk.left:
                bulk.take(await self._preview(bulk.orders_left(), mode))
        except StorageUnavailable as trouble:
            bulk.give_up(trouble)
        return bulk.answers()

    # -- inside ------------------------------------------------------------------------------------------------------

    async def _signed(self, orders: Sequence[Order], *, preview: bool = False) -> list[DaichoError | None]:
        """Sign each order; its refusal where it cannot be.

        Where other processes write, too, a refusal may come from what the cache no longer has right: such orders are
        looked at once more on what is stored now. (What the cache wrongly allows, the writer finds under its lock.)
        """
        await self.writer.warm(orders)
        refusals = await self.authorship.sign(orders, preview=preview)
        refused = [order for order, refusal in zip(orders, refusals, strict=True) if refusal is not None]
        if self.writer.alone or not refused:
            return refusals
        await self._read_again(refused)
        again = iter(await self.authorship.sign(refused, preview=preview))
        return [None if refusal is None else next(again) for refusal in refusals]

    async def _signed_batch(
        self, orders: Sequence[Order], given: ClientBatch | None
    ) -> tuple[Order | None, list[DaichoError | None]]:
        """As `_signed`, for a batch signed once."""
        await self.writer.warm(orders)
        try:
            first, refusals = await self.authorship.sign_batch(orders, given)
            if self.writer.alone or not any(refusals):
                return first, refusals
        except DaichoError:
            if self.writer.alone:
                raise
        await self._read_again(orders)
        return await self.authorship.sign_batch(orders, given)

    async def _read_again(self, orders: Sequence[Order]) -> None:
        """Read what the orders name from the store, whatever the cache holds."""
        for name in {name for order in orders for name in order.names()}:
            self.cache.drop(name)
        await self.writer.warm(orders)

    async def _batch_round(
        self, orders: Sequence[Order], mode: BulkMode, given: ClientBatch | None
    ) -> list[Answer | None]:
        """Sign and submit once; None for what must be signed again without the refused ones."""
        try:
            first, refusals = await self._signed_batch(orders, given)
        except DaichoError as refusal:
            return [refusal] * len(orders)
        answers: list[Answer | None] = list(refusals)
        if first is None or (mode == "atomic" and any(refusals)):
            return answers
        ready = [i for i, refusal in enumerate(refusals) if refusal is None]
        head, *lines = (await self.writer.submit([Unit([first, *(orders[i] for i in ready)], strict=True)]))[0]
        if isinstance(head, WrongSigner) and given is None:
            return answers
        if isinstance(head, CommandKeyReused):  # the batch's id is its command key
            head = AlreadyExists("a batch of this id stands in the log already")
        if isinstance(head, DaichoError) and not isinstance(head, BulkRejected):
            return [refusal or head for refusal in refusals]
        for i, answer in zip(ready, lines, strict=True):
            answers[i] = answer
            if isinstance(head, Receipt) and isinstance(answer, BulkRejected):
                answers[i] = SignatureReplayed("this batch's signature stands in the log already")
        return answers

    async def _receipts(self, bulk: Bulk) -> dict[str, Receipt | None]:
        known = await self.writer.known(bulk.keys())
        bodies = {order.ref.key: order.ref.body for order in bulk.orders_left()}
        return {
            key: await self.writer.receipt_of(stored) if stored.body == bodies[key] else None
            for key, stored in known.items()
        }

    async def _repeat_or(self, order: Order, refusal: DaichoError) -> Answer:
        """A repeated command is answered from what is stored, whatever has become of its wallet or trade since."""
        try:
            known = (await self.writer.known([order.ref.key])).get(order.ref.key)
            if known is None:
                return refusal
            return await self.writer.receipt_of(known) if known.body == order.ref.body else key_reused()
        except StorageUnavailable as trouble:
            return trouble

    def _sign_again(self, order: Order, answer: Answer) -> bool:
        """True when our own signature came too late: the wallet's key was rotated between signing and deciding."""
        return isinstance(answer, WrongSigner) and self.authorship.signs_for(order)

    async def _preview(self, orders: Sequence[Order], mode: BulkMode) -> list[Answer | None]:
        """Decide new commands apart from the writer, as it would."""
        refusals = await self._signed(orders, preview=True)
        forced = {order.ref: refusal for order, refusal in zip(orders, refusals, strict=True) if refusal is not None}
        units = [Unit(list(orders))] if mode == "atomic" else [Unit([order]) for order in orders]
        taken = await self.writer.taken([key for order in orders for key in order.claims()])
        refused = -1
        lines: list[Line] = []
        while refused < len(forced):  # once more without those that were found to be too large
            refused = len(forced)
            desk = Desk(self.load_at, self.load_at, self._entries, HANDLERS, self.authorship.clock(), taken)
            lines = [line for unit in units for line in desk.decide(unit, {}, forced)]
            forced |= self._too_large(lines)
        return [_previewed(line) for line in lines]

    def _too_large(self, lines: Sequence[Line]) -> dict[CommandRef, DaichoError]:
        """The refusals of those entries that would be too large at the positions that come next."""
        position = self._get_head()
        refusals: dict[CommandRef, DaichoError] = {}
        for line in lines:
            if isinstance(line, Decided):
                try:
                    for entry in line.entries:
                        position += 1
                        entry.seal(self.authorship.origin, position, _SOME_TIME)
                except EntryTooLarge as too_large:
                    refusals[line.order.ref] = too_large
        return refusals

    def _get_head(self) -> int:
        try:
            return self.recorder.max_notification_id() or 0
        except PersistenceError as error:
            raise StorageUnavailable("the event store cannot be read for now", reason=str(error)) from error

    def _get(self, aggregate_id: str, version: int | None) -> Aggregate | None:
        try:
            return self.repository.get(aggregate_id, version=version)
        except AggregateNotFoundError:
            return None
        except (PersistenceError, TimeoutError) as error:
            raise StorageUnavailable("the event store cannot be read for now", reason=str(error)) from error

    @property
    def _entries(self) -> EntryMapper:
        return cast("EntryMapper", self.mapper)


def _previewed(line: Line) -> Answer:
    if isinstance(line, DaichoError):
        return line
    decided = cast("Decided", line)  # repeats were answered before
    records = [(0, entry.seal("", 0, "")) for entry in decided.entries]
    return Receipt(decided.aggregate_id, decided.version, records)

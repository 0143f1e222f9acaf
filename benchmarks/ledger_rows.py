"""The ledger without HTTP, beside the library's `app.save`, one trade a call."""

import asyncio
import cProfile
import platform
import sqlite3
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.naive import NaiveLedger, NaiveTrade, trade_fields
from benchmarks.rig import Rig
from benchmarks.rows import Budget, Goal, Row, make_row, rate, significant, take_turns
from benchmarks.samples import SELLER, confirm_body, record_body, user_of
from cli.wiring.stores import SqliteStores
from domain.entry import Actor, CommandRef, body_hash
from domain.ids import IdSource, wallet_id
from domain.money import Money
from domain.orders import Receipt
from domain.signature import Signature
from domain.trade import Trade
from domain.trade_events import Terms
from storage.folder import DataFolder

GROUP = 256
SAVES = 400
CONDITIONS = (
    f"CPython {platform.python_version()}, SQLite {sqlite3.sqlite_version} WAL synchronous FULL on both sides;"
    " ours with sequencer and projector following in threads and each answer's promise signed"
)
_SAVE = "app.save one by one (eventsourcing 9.5.6, default Aggregate, JSON transcoder)"


@contextmanager
def both() -> Iterator[tuple[NaiveLedger, Rig, Path]]:
    """The two ledgers, each in its own files."""
    with TemporaryDirectory(prefix="daicho-bench-") as name:
        folder = Path(name)
        naive, rig = NaiveLedger.at(folder / "naive.db"), Rig(SqliteStores(DataFolder(folder)))
        try:
            yield naive, rig, folder
        finally:
            rig.close()
            naive.close()


def recorder_row(budget: Budget) -> Row:
    """From decided events to stored entries, 256 a transaction."""
    goal = Goal("recorder-256", "events ready to entries stored and promised, 256 a group (events/s)", _SAVE, 12, 40)
    with both() as (naive, rig, _):
        groups = budget.count(20)

        def ours() -> float:
            batches = [decided_trades(GROUP) for _ in range(groups)]
            figure = rate(groups * GROUP, lambda: rig.run(store_all(rig, batches)))
            rig.run(rig.drain())
            return figure

        base, mine = take_turns(budget.rounds, lambda: save_new(naive, budget), ours)
    return make_row(goal, base, mine, f"{CONDITIONS}; aggregates made outside the measured time on both sides")


def raw_row(budget: Budget) -> Row:
    """The same path beside bare SQLite: the same rows, ready, into the same table."""
    goal = Goal(
        "recorder-raw", "events ready to entries stored and promised, 256 a group (events/s)",
        "raw executemany of the same finished rows, same schema, same groups", 0.4, 0.75,
    )  # fmt: skip
    with both() as (_, rig, folder):
        groups = budget.count(20)

        def ours() -> float:
            batches = [decided_trades(GROUP) for _ in range(groups)]
            figure = rate(groups * GROUP, lambda: rig.run(store_all(rig, batches)))
            rig.run(rig.drain())
            return figure

        def baseline() -> float:
            batches = raw.ready(groups)
            return rate(groups * GROUP, lambda: [raw.insert(batch) for batch in batches])

        ours()  # the baseline copies what ours has stored
        raw = RawTable(rig, folder / "raw.db")
        base, mine = take_turns(budget.rounds, baseline, ours)
        raw.close()
    return make_row(goal, base, mine, CONDITIONS)


def command_rows(budget: Budget) -> list[Row]:
    """Whole commands: JSON bytes to receipt and promise, 256 in flight, signed as one batch."""
    with both() as (naive, rig, _):
        commands = _Commands(rig, budget.count(20))
        sides = take_turns(
            budget.rounds,
            lambda: save_new(naive, budget),
            commands.record,
            lambda: save_confirmed(naive, budget),
            commands.confirm,
        )
    new = Goal("ledger-new-256", "trades recorded, 256 in flight, signed as one batch (commands/s)", _SAVE, 6, 20)
    known = Goal(
        "ledger-confirm-256", "trades confirmed, 256 in flight, signed as one batch (commands/s)", _SAVE, 6, 20
    )
    return [
        make_row(new, sides[0], sides[1], _conditions(commands.drained["record"])),
        make_row(known, sides[2], sides[3], _conditions(commands.drained["confirm"])),
    ]


class _Commands:
    """Our side of the command rows: bursts of so many groups; the processors catch up between them."""

    def __init__(self, rig: Rig, groups: int) -> None:
        self._rig = rig
        self._groups = groups
        self._trades: list[str] = []
        self.drained: dict[str, list[float]] = {"record": [], "confirm": []}

    def record(self) -> float:
        """Commands a second, new trades."""
        count = self._groups * GROUP
        figure, self._trades = self._burst(
            "record", [record_body(i, "buyer-00") for i in range(count)], user_of(SELLER)
        )
        return figure

    def confirm(self) -> float:
        """Commands a second, the trades of the last burst."""
        figure, _ = self._burst("confirm", [confirm_body(trade) for trade in self._trades], user_of("buyer-00"))
        return figure

    def _burst(self, name: str, bodies: list[bytes], actor: Actor) -> tuple[float, list[str]]:
        start = time.perf_counter()
        receipts = self._rig.run(self._submit(bodies, actor))
        answered = time.perf_counter() - start
        self._rig.run(self._rig.drain())
        self.drained[name].append(len(bodies) / (time.perf_counter() - start))
        return len(bodies) / answered, [receipt.aggregate_id for receipt in receipts]

    async def _submit(self, bodies: list[bytes], actor: Actor) -> list[Receipt]:
        receipts: list[Receipt] = []
        for at in range(0, len(bodies), GROUP):
            orders = self._rig.orders(bodies[at : at + GROUP], actor)
            receipts += await self._rig.answer(await self._rig.ledger.execute_batch(orders, "continue"))
        return receipts


def _conditions(drained: list[float]) -> str:
    sustained = significant(statistics.median(drained[1:]))
    return f"{CONDITIONS}; bursts of some thousand commands; {sustained}/s with the processors' catching up counted in"


# -- for profiles ---------------------------------------------------------------------------------------------------


def recorder_burst(profile: cProfile.Profile) -> None:
    """The recorder's path once, under a profile."""
    with both() as (_, rig, _):
        batches = [decided_trades(GROUP) for _ in range(20)]
        profile.runcall(lambda: rig.run(store_all(rig, batches)))


def command_burst(profile: cProfile.Profile, kind: str) -> None:
    """A burst of commands under a profile: `record`, or `confirm` what was recorded."""
    with both() as (_, rig, _):
        commands = _Commands(rig, 20)
        if kind == "confirm":
            commands.record()
        profile.runcall(getattr(commands, kind))


# -- the library's side ----------------------------------------------------------------------------------------------


def save_new(naive: NaiveLedger, budget: Budget) -> float:
    """Saves a second of new trades, made beforehand."""
    trades = [NaiveTrade(**trade_fields(number)) for number in range(budget.count(SAVES))]
    return rate(len(trades), lambda: [naive.save(trade) for trade in trades])


def save_confirmed(naive: NaiveLedger, budget: Budget) -> float:
    """Saves a second of confirmations; the trades are in hand, nothing is read."""
    trades = [NaiveTrade(**trade_fields(number)) for number in range(budget.count(SAVES))]
    naive.save(*trades)

    def confirm() -> None:
        for trade in trades:
            trade.confirm("buyer-00", "5d0a5b8e-9a35-5d0f-8a4f-1c7e52f03e8b", "0x" + "cd" * 65)
            naive.save(trade)

    return rate(len(trades), confirm)


# -- the recorder's side ---------------------------------------------------------------------------------------------

_ids = IdSource()


def decided_trades(count: int) -> list[Trade]:
    """Trades that the rules have allowed, with their pending events."""
    wallet, batch = wallet_id(SELLER, user_of(SELLER).subject), _ids.uuid7()
    trades = []
    for index in range(count):
        terms = Terms(
            SELLER, "buyer-00", SELLER, Money("JPY", "123450"), "2026-10-22", "2026-12-31",
            "10 pallets of cement, delivered", (), f"INV-{_ids.uuid7()}",
        )  # fmt: skip
        signature = Signature(wallet, batch=batch, index=index)
        trades.append(Trade.record(_ids.uuid7(), terms, terms.digest(), signature))
    return trades


async def store_all(rig: Rig, batches: list[list[Trade]]) -> None:
    """Events to entries, a transaction a batch, each promised; the processors are told."""
    actor, command = user_of(SELLER), CommandRef(body=body_hash(b"benchmark"), key=body_hash(b"key"))
    draft = rig.ledger.mapper.draft
    for trades in batches:
        drafts = [draft(event, actor, command) for trade in trades for event in trade.collect_events()]
        positions = rig.recorder.insert_events(drafts)
        await rig.promise((position, draft.state) for position, draft in zip(positions, drafts, strict=True))
        rig.source.wake(positions[-1])
        await asyncio.sleep(0)  # as the event loop of the service would, see to the others


class RawTable:
    """The events table alone, filled by SQLite's own means with rows that ours has stored."""

    def __init__(self, rig: Rig, path: Path) -> None:
        self._rows = [(name, version, topic, state) for _, name, version, topic, state in rig.entries.rows(1, 2**62)]
        table = rig.recorder.events_table_name
        self._statement = f"INSERT INTO {table} VALUES (?,?,?,?,?)"
        self._connection = sqlite3.connect(path, isolation_level=None)
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "cache_size=-65536"):
            self._connection.execute(f"PRAGMA {pragma}")
        self._connection.execute(rig.recorder.create_table_statements[0])
        self._position = 0

    def ready(self, groups: int) -> list[list[tuple[Any, ...]]]:
        """Groups of finished rows; ids are given anew, in time order as ours are."""
        batches = []
        for _ in range(groups):
            rows = []
            for _, version, topic, state in self._rows[-GROUP:]:
                self._position += 1
                rows.append((self._position, _ids.uuid7(), version, topic, state))
            batches.append(rows)
        return batches

    def insert(self, rows: list[tuple[Any, ...]]) -> None:
        """One transaction."""
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.executemany(self._statement, rows)
        self._connection.execute("COMMIT")

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

"""The read models beside the eventsourcing library's ProjectionRunner: alternating runs in one process, medians.

The baseline is written as the library's manual shows it: one view transaction an event, `view.wait()` for
read-your-writes. It keeps the same tables and indexes with the same rows, but computes no leaf hash and checks no
position. SQLite has no subscriptions in the library; `NotifyingRecorder` adds one inside the process.
"""

import asyncio
import json
import queue
import sqlite3
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from eventsourcing.application import Application
from eventsourcing.dispatch import singledispatchmethod
from eventsourcing.domain import Aggregate, event
from eventsourcing.persistence import ListenNotifySubscription, Tracking
from eventsourcing.projection import Projection, ProjectionRunner
from eventsourcing.sqlite import SQLiteApplicationRecorder, SQLiteTrackingRecorder

sys.path.insert(0, str(Path(__file__).parent.parent))

from projections.position import Record
from projections.projector import Projector
from projections.rebuild import replay
from projections.schema import STATEMENTS
from projections.store import ReadStore
from projections.waiting import PositionBoard
from tests.entry_factory import EntryFactory, Walk, WalkTrade

Row = dict[str, Any]
ROUNDS = 5
OURS_TRADES = 10_000
BASELINE_TRADES = 400
WAITS = 15
BASELINE_LIMIT_SECONDS = 60
PYTHON = f"CPython {sys.version.split()[0]}, SQLite {sqlite3.sqlite_version} WAL synchronous FULL on both sides"


def rows() -> list[Row]:
    """All rows of this file."""
    return [catch_up_row(), read_your_writes_row()]


def catch_up_row() -> Row:
    """Row 10: entries a second from the event store's file into the read models, from nothing to the head."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        walk = trades_of(OURS_TRADES)
        log = FileLog(folder / "log.db", walk.factory.records)
        base_count = _fill_baseline(folder, walk.factory.records[: len(walk.companies) + 1 + 3 * BASELINE_TRADES])
        runs = iter(range(1_000))

        def ours() -> float:
            store = ReadStore(folder / f"ours-{next(runs)}.db")
            start = time.perf_counter()
            replay(Projector(store), log, 0, log.head())
            seconds = time.perf_counter() - start
            store.close()
            return log.head() / seconds

        def baseline() -> float:
            start = time.perf_counter()
            with _runner(folder, f"view-{next(runs)}.db") as runner:
                while not runner.view.has_tracking_id("LibraryLedger", base_count):
                    assert time.perf_counter() < start + BASELINE_LIMIT_SECONDS, "the baseline does not come to its end"
                    time.sleep(0.002)
                return base_count / (time.perf_counter() - start)

        theirs, mine = _alternate(baseline, ours)
    return {
        "id": "projection-catch-up",
        "measure": "projection catch-up, all read models (entries/s)",
        "baseline": "eventsourcing 9.5.6 ProjectionRunner, same rows, one view transaction an event",
        "ours": mine,
        "base": theirs,
        "ratio": mine / theirs,
        "gate": 50,
        "goal": 250,
        "lower_is_better": False,
        "conditions": f"{PYTHON}; trades recorded, confirmed and settled; {log.mean_bytes} bytes an entry; ours"
        f" {log.head():,} entries, baseline {base_count:,}; median of {ROUNDS}, alternating",
    }


def read_your_writes_row() -> Row:
    """Row 13: from the end of a save until a waiter is told that the read models hold it (milliseconds)."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ledger = _ledger(folder, "events.db")
        theirs_ms: list[float] = []
        mine_ms: list[float] = []
        walk = trades_of(0)
        with _runner(folder, "view.db") as runner, _Following(folder / "read.db", walk.factory.records) as following:
            for _ in range(WAITS):
                theirs_ms.append(_library_wait(ledger, runner, walk))
                mine_ms.append(following.wait_for(ledger, walk))
        ledger.close()
    mine, theirs = statistics.median(mine_ms), statistics.median(theirs_ms)
    return {
        "id": "read-your-writes",
        "measure": "save to visible in the read models (ms)",
        "baseline": "eventsourcing 9.5.6 view.wait(), which polls",
        "ours": mine,
        "base": theirs,
        "ratio": mine / theirs,
        "gate": 0.05,
        "goal": 0.01,
        "lower_is_better": True,
        "conditions": f"{PYTHON}; both save with the library, ours wakes by PositionBoard from the projector's thread;"
        f" median of {WAITS}, alternating",
    }


def trades_of(count: int) -> Walk:
    """A log of twenty companies and `count` trades, each recorded, confirmed and settled, interleaved."""
    walk = Walk(EntryFactory(seed=10))
    walk.open_book()
    for _ in range(20):
        walk.register()
    waiting: list[WalkTrade] = []
    for number in range(count):
        waiting.append(walk.record())
        if number >= 50:
            walk.confirm(waiting[number - 50])
        if number >= 100:
            _settle(walk, waiting[number - 100])
    for trade in waiting[-50:]:
        walk.confirm(trade)
    for trade in waiting[-100:]:
        _settle(walk, trade)
    return walk


def _settle(walk: Walk, trade: WalkTrade) -> None:
    walk.settle(trade, units=trade.open)


def _alternate(baseline: Callable[[], float], ours: Callable[[], float]) -> tuple[float, float]:
    pairs = [(baseline(), ours()) for _ in range(ROUNDS)]
    return statistics.median(pair[0] for pair in pairs), statistics.median(pair[1] for pair in pairs)


class FileLog:
    """An EntryLog in a SQLite file, as an event store keeps it."""

    def __init__(self, path: Path, records: list[Record]) -> None:
        self._connection = sqlite3.connect(path)
        self._connection.execute("CREATE TABLE entries (position INTEGER PRIMARY KEY, entry BLOB NOT NULL)")
        self._connection.executemany("INSERT INTO entries VALUES (?, ?)", records)
        self._connection.commit()
        self._head = len(records)
        self.mean_bytes = sum(len(entry) for _, entry in records) // len(records)

    def head(self) -> int:
        return self._head

    def read(self, start: int, limit: int) -> list[Record]:
        return self._connection.execute(
            "SELECT position, entry FROM entries WHERE position >= ? ORDER BY position LIMIT ?", (start, limit)
        ).fetchall()


class _Following:
    """Our side of row 13: a projector in its own thread, fed as a host feeds it, and a waiting event loop."""

    def __init__(self, path: Path, records: list[Record]) -> None:
        self._store = ReadStore(path)
        self._board = PositionBoard()
        self._projector = Projector(self._store, self._board.publish)
        self._queue: queue.SimpleQueue[list[Record] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run)
        self._loop = asyncio.new_event_loop()
        self._queue.put(list(records))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._queue.put(None)
        self._thread.join()
        self._loop.close()
        self._store.close()

    def _run(self) -> None:
        while (records := self._queue.get()) is not None:
            self._projector.process(records)

    def wait_for(self, ledger: "LibraryLedger", walk: Walk) -> float:
        """Milliseconds from the end of a save until the waiter goes on and has read the trade."""
        trade = walk.record()
        record = walk.factory.records[-1]
        made = _aggregate(json.loads(record[1]))

        async def scene() -> float:
            ledger.save(made)
            start = time.perf_counter()
            self._queue.put([record])
            assert await self._board.wait(record[0], 30.0)
            seconds = time.perf_counter() - start
            found = self._store.reader().execute("SELECT 1 FROM trades WHERE id = ?", (trade.id,)).fetchone()
            assert found is not None
            return seconds * 1_000

        return self._loop.run_until_complete(scene())


def _library_wait(ledger: "LibraryLedger", runner: Any, walk: Walk) -> float:
    walk.record()
    record = walk.factory.records.pop()  # our side does not get it: its position is taken back
    walk.factory.position -= 1
    saved = ledger.save(_aggregate(json.loads(record[1])))
    start = time.perf_counter()
    runner.view.wait("LibraryLedger", saved[-1].notification.id, timeout=30.0)
    return (time.perf_counter() - start) * 1_000


# -- the baseline: the library as its manual shows it ------------------------------------------------------------------


class NotifyingRecorder(SQLiteApplicationRecorder):
    """The library's SQLite recorder with the subscription that it lacks, inside one process."""

    listeners: dict[str, set[threading.Event]] = {}  # noqa: RUF012 -- by database: saver and runner have own recorders

    def insert_events(self, *args: Any, **kwargs: Any) -> Any:
        stored = super().insert_events(*args, **kwargs)
        for listener in list(self.listeners.get(self.datastore.pool.db_name, ())):
            listener.set()
        return stored

    def subscribe(self, gt: int | None = None, topics: Any = ()) -> "NotifiedSubscription":
        return NotifiedSubscription(self, gt, topics)


class NotifiedSubscription(ListenNotifySubscription):  # type: ignore[type-arg]
    """Wakes when a recorder of the same database has inserted."""

    def __init__(self, recorder: NotifyingRecorder, gt: int | None, topics: Any) -> None:
        super().__init__(recorder=recorder, gt=gt, topics=topics)
        recorder.listeners.setdefault(recorder.datastore.pool.db_name, set()).add(self._has_been_notified)

    def stop(self) -> None:
        super().stop()
        for listeners in NotifyingRecorder.listeners.values():
            listeners.discard(self._has_been_notified)


class LibraryTrade(Aggregate):
    """A trade as the library's users write one."""

    class Recorded(Aggregate.Created):
        """One side has recorded it."""

        terms: dict[str, Any]
        by: str

    class Changed(Aggregate.Event):
        """Something else has happened to it."""

        data: dict[str, Any]
        by: str

    class Confirmed(Changed):
        """The other side agrees."""

    class Settled(Changed):
        """The creditor has been paid."""

    @event(Recorded)
    def __init__(self, terms: dict[str, Any], by: str) -> None:
        self.terms, self.by = terms, by
        self.open = int(terms["amount"]["units"])
        self.state = "recorded"

    @event(Confirmed)
    def confirm(self, data: dict[str, Any], by: str) -> None:  # noqa: ARG002 -- the event keeps them
        self.state = "confirmed"

    @event(Settled)
    def settle(self, data: dict[str, Any], by: str) -> None:  # noqa: ARG002 -- the event keeps them
        self.open -= int(data["amount"]["units"])
        self.state = "confirmed" if self.open else "settled"


class LibraryLedger(Application):
    """The library's application over `NotifyingRecorder`."""


class View(SQLiteTrackingRecorder):
    """Our tables, written one event a transaction together with the library's tracking."""

    def construct_create_table_statements(self) -> list[str]:
        ours = [statement.replace("CREATE TABLE", "CREATE TABLE IF NOT EXISTS") for statement in STATEMENTS]
        ours = [statement.replace("INDEX ", "INDEX IF NOT EXISTS ", 1) for statement in ours]
        return super().construct_create_table_statements() + ours

    def apply(self, tracking: Tracking, write: Callable[[Any, int], None]) -> None:
        with self.datastore.transaction(commit=True) as cursor:
            self._insert_tracking(cursor, tracking)
            write(cursor, tracking.notification_id)


class TradesProjection(Projection[View]):
    """The same rows as ours for the three events of the measure."""

    name = "trades"

    @singledispatchmethod
    def process_event(self, domain_event: Any, tracking: Tracking) -> None:  # noqa: ARG002
        self.view.insert_tracking(tracking)

    @process_event.register
    def recorded(self, domain_event: LibraryTrade.Recorded, tracking: Tracking) -> None:
        self.view.apply(tracking, lambda cursor, at: _write_recorded(cursor, at, domain_event))

    @process_event.register
    def confirmed(self, domain_event: LibraryTrade.Confirmed, tracking: Tracking) -> None:
        self.view.apply(tracking, lambda cursor, at: _write_change(cursor, at, domain_event, "confirmed"))

    @process_event.register
    def settled(self, domain_event: LibraryTrade.Settled, tracking: Tracking) -> None:
        self.view.apply(tracking, lambda cursor, at: _write_change(cursor, at, domain_event, "settled"))


def _write_recorded(cursor: Any, at: int, made: LibraryTrade.Recorded) -> None:
    terms = made.terms
    units = int(terms["amount"]["units"])
    cursor.execute("INSERT INTO entries VALUES (?, ?, NULL, ?)", (at, at, json.dumps(terms)))
    cursor.execute(
        "INSERT INTO trades (position, id, seller, buyer, currency, amount, recorded_by, traded_on, description,"
        " reference, state, open, disputed_by, last_position) VALUES (?,?,?,?,?,?,?,?,?,?,'recorded',?,'',?)",
        (
            at, str(made.originator_id), terms["seller"], terms["buyer"], terms["amount"]["currency"], units,
            terms["recorded_by"], terms["traded_on"], terms["description"], terms["reference"], units, at,
        ),
    )  # fmt: skip


def _write_change(cursor: Any, at: int, change: LibraryTrade.Changed, kind: str) -> None:
    cursor.execute(
        "SELECT position, seller, buyer, currency, amount, open FROM trades WHERE id = ?", (str(change.originator_id),)
    )
    trade, seller, buyer, currency, amount, still_open = cursor.fetchone()
    units = amount if kind == "confirmed" else -int(change.data["amount"]["units"])
    still_open += 0 if kind == "confirmed" else units
    cursor.execute("INSERT INTO entries VALUES (?, ?, NULL, ?)", (at, trade, json.dumps(change.data)))
    cursor.execute(
        "UPDATE trades SET state = ?, open = ?, last_position = ? WHERE position = ?",
        ("confirmed" if still_open else "settled", still_open, at, trade),
    )
    for company, other, signed in ((seller, buyer, units), (buyer, seller, -units)):
        cursor.execute(
            "SELECT units, pair FROM balances WHERE company = ? AND counterparty = ? AND currency = ?",
            (company, other, currency),
        )
        before, pair = cursor.fetchone() or ("0", at)
        balance = str(signed + int(before))
        cursor.execute(
            "INSERT OR REPLACE INTO balances VALUES (?, ?, ?, ?, ?, ?)", (company, other, currency, balance, at, pair)
        )
        if company < other:
            cursor.execute("INSERT INTO postings VALUES (?, ?, ?)", (pair, at, balance))


def _aggregate(entry: dict[str, Any]) -> LibraryTrade:
    return LibraryTrade(entry["data"], by=entry["actor"]["company"])


def _environment(folder: Path, events: str, view: str = "") -> dict[str, str]:
    return {
        "APPLICATION_RECORDER_TOPIC": f"{__name__}:NotifyingRecorder",
        "PERSISTENCE_MODULE": "eventsourcing.sqlite",
        "SQLITE_DBNAME": str(folder / events),
        "TRADES_SQLITE_DBNAME": str(folder / view),
    }


def _ledger(folder: Path, events: str) -> LibraryLedger:
    return LibraryLedger(_environment(folder, events))


def _runner(folder: Path, view: str) -> Any:
    return ProjectionRunner(
        application_class=LibraryLedger,
        projection_class=TradesProjection,
        view_class=View,
        env=_environment(folder, "events.db", view),
    )


def _fill_baseline(folder: Path, records: list[Record]) -> int:
    """Save the trade events of these records with the library; the last notification's id."""
    ledger = _ledger(folder, "events.db")
    made: dict[str, LibraryTrade] = {}
    last = 0
    for _, entry in records:
        fact = json.loads(entry)
        trade, data, by = fact["aggregate_id"], fact["data"], fact["actor"]["company"]
        if fact["type"] == "TradeRecorded":
            made[trade] = _aggregate(fact)
        elif fact["type"] == "TradeConfirmed":
            made[trade].confirm(data, by=by)
        elif fact["type"] == "TradeSettled":
            made[trade].settle(data, by=by)
        else:
            continue
        last = ledger.save(made[trade])[-1].notification.id
    ledger.close()
    return last


if __name__ == "__main__":
    for row in rows():
        print(json.dumps(row, indent=1))

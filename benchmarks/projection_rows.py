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

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.projection_baseline import LibraryLedger, aggregate_of, fill_baseline, open_ledger, open_runner
from projections.position import Record
from projections.projector import Projector
from projections.rebuild import replay
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
        base_count = fill_baseline(folder, walk.factory.records[: len(walk.companies) + 1 + 3 * BASELINE_TRADES])
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
            with open_runner(folder, f"view-{next(runs)}.db") as runner:
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
        ledger = open_ledger(folder, "events.db")
        theirs_ms: list[float] = []
        mine_ms: list[float] = []
        walk = trades_of(0)
        with (
            open_runner(folder, "view.db") as runner,
            _Following(folder / "read.db", walk.factory.records) as following,
        ):
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
        made = aggregate_of(json.loads(record[1]))

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
    saved = ledger.save(aggregate_of(json.loads(record[1])))
    start = time.perf_counter()
    runner.view.wait("LibraryLedger", saved[-1].notification.id, timeout=30.0)
    return (time.perf_counter() - start) * 1_000


# -- the baseline: the library as its manual shows it ------------------------------------------------------------------


if __name__ == "__main__":
    for row in rows():
        print(json.dumps(row, indent=1))

"""The ledger on PostgreSQL beside the library on PostgreSQL: appends, commands that share commits, projections."""

import contextlib
import itertools
import platform
import time
from collections.abc import Iterator
from typing import Any, Final

import psycopg
from eventsourcing.persistence import Tracking
from eventsourcing.postgres import PostgresTrackingRecorder
from eventsourcing.projection import ProjectionRunner
from psycopg.rows import tuple_row

from benchmarks.group_commit_rows import CALLERS, company_row
from benchmarks.ledger_rows import decided_trades, save_new, store_all
from benchmarks.naive import NaiveLedger, postgres_environment
from benchmarks.projection_baseline import LibraryLedger, TradesProjection, save_all
from benchmarks.projection_rows import trades_of
from benchmarks.rig import Rig
from benchmarks.rows import Budget, Goal, Row, make_row, rate, take_turns
from cli.wiring.postgres_stores import PostgresStores
from domain.entry import decode_envelope
from projections.position import Record
from projections.postgres.dialect import definition, translated
from projections.postgres.store import PostgresReadStore
from projections.projector import Projector
from projections.rebuild import replay
from projections.schema import STATEMENTS
from storage.postgres.database import Database
from storage.postgres.entry_log import PostgresEntryLog
from tests.postgres_server import PostgresServer, TestDatabase

GROUP: Final = 1_024
SAVES: Final = 640
OURS_TRADES: Final = 10_000
BASELINE_TRADES: Final = 200
BASELINE_LIMIT_SECONDS: Final = 120.0
CONDITIONS: Final = (
    f"CPython {platform.python_version()}, PostgreSQL 18 on the same machine, synchronous_commit on, on both sides"
)


@contextlib.contextmanager
def database_of(server: PostgresServer) -> Iterator[TestDatabase]:
    """A fresh database with a book and its read models."""
    made = server.new_database()
    PostgresReadStore.prepare(made.owner.conninfo, made.owner.book)
    try:
        yield made
    finally:
        made.drop()


@contextlib.contextmanager
def both(server: PostgresServer) -> Iterator[tuple[NaiveLedger, Rig]]:
    """The two ledgers, each in a database of its own. Ours without processors: on a cluster they are not in the API."""
    with database_of(server) as theirs, database_of(server) as mine:
        naive, rig = NaiveLedger.on(theirs.owner.conninfo), Rig(PostgresStores(mine.writer), following=False)
        try:
            yield naive, rig
        finally:
            rig.close()
            naive.close()


def append_row(server: PostgresServer, budget: Budget) -> Row:
    """Row 3: from decided events to stored and promised entries."""
    goal = Goal(
        "postgres-append-1024", f"events ready to entries stored and promised, {GROUP} a group (events/s)",
        "app.save one by one (eventsourcing 9.5.6, default Aggregate, PostgreSQL recorder)", 30, 100,
    )  # fmt: skip
    with both(server) as (naive, rig):
        groups = budget.count(10)

        def ours() -> float:
            batches = [decided_trades(GROUP) for _ in range(groups)]
            return rate(groups * GROUP, lambda: rig.run(store_all(rig, batches)))

        base, mine = take_turns(budget.rounds, lambda: save_new(naive, budget), ours)
    return make_row(goal, base, mine, f"{CONDITIONS}; aggregates made outside the measured time on both sides")


def group_commit_row(server: PostgresServer, budget: Budget) -> Row:
    """Row 4: companies registered by many callers at once, one command at a time each."""
    goal = Goal(
        "postgres-group-commit", f"{CALLERS} callers (tasks) registering companies, one at a time each (commands/s)",
        f"{CALLERS} callers (threads) of app.save (eventsourcing 9.5.6, default Aggregate, PostgreSQL recorder)",
        3.5, 15,
    )  # fmt: skip
    with both(server) as (naive, rig):
        return company_row(goal, naive, rig, budget, SAVES, CONDITIONS)


def catch_up_row(server: PostgresServer, budget: Budget) -> Row:
    """Row 10: entries a second from the event store into the read models, from nothing to the head."""
    goal = Goal(
        "postgres-catch-up", "projection catch-up, all read models (entries/s)",
        "eventsourcing 9.5.6 ProjectionRunner, same rows, one view transaction an event", 50, 250,
    )  # fmt: skip
    walk = trades_of(OURS_TRADES)
    with contextlib.ExitStack() as stack:
        theirs, mine = (stack.enter_context(database_of(server)) for _ in range(2))
        fill(mine.writer, walk.factory.records)
        log = stack.enter_context(contextlib.closing(PostgresEntryLog(mine.writer)))
        sample = walk.factory.records[: len(walk.companies) + 1 + 3 * budget.count(BASELINE_TRADES)]
        with contextlib.closing(LibraryLedger(_environment(theirs.owner.conninfo))) as ledger:
            count = save_all(ledger, sample)

        def ours() -> float:
            with database_of(server) as fresh:
                store = PostgresReadStore(fresh.writer.conninfo, "main")
                began = time.perf_counter()
                replay(Projector(store), log, 0, log.head())
                lasted = time.perf_counter() - began
                store.close()
                return log.head() / lasted

        def baseline() -> float:
            with database_of(server) as view:
                return _run(theirs.owner.conninfo, view.owner.conninfo, count)

        base, found = take_turns(budget.rounds, baseline, ours)
    conditions = f"{CONDITIONS}; trades recorded, confirmed and settled; ours {log_size(walk.factory.records)}"
    return make_row(goal, base, found, f"{conditions}, baseline {count:,}")


def log_size(records: list[Record]) -> str:
    """How many entries of how many bytes."""
    return f"{len(records):,} entries of {sum(len(entry) for _, entry in records) // len(records)} bytes"


def fill(database: Database, records: list[Record]) -> None:
    """Put records into an empty event store, as a backup that is read back does."""
    versions: dict[str, Iterator[int]] = {}
    with database.connect("benchmark") as connection, connection.cursor() as cursor:
        rows = []
        for position, entry in records:
            aggregate = decode_envelope(entry).aggregate_id
            version = next(versions.setdefault(aggregate, itertools.count(1)))
            rows.append((position, aggregate, version, "topic", entry))
        cursor.executemany(f"INSERT INTO {database.schema}.stored_events VALUES (%s, %s, %s, %s, %s)", rows)
        connection.commit()


# -- the library's side ----------------------------------------------------------------------------------------------


class PostgresView(PostgresTrackingRecorder):
    """Our tables, written one event a transaction together with the library's tracking."""

    def create_table(self) -> None:
        super().create_table()
        with self.datastore.transaction(commit=True) as cursor:
            for statement in STATEMENTS:
                cursor.execute(definition(statement))

    def apply(self, tracking: Tracking, write: Any) -> None:
        """Tracking and rows in one transaction."""
        with self.datastore.transaction(commit=True) as cursor:
            self._insert_tracking(cursor, tracking)
            write(_Translated(cursor), tracking.notification_id)


class _Translated(psycopg.RawCursor[tuple[Any, ...]]):
    """A cursor inside the library's transaction, spoken to as SQLite's is."""

    def __init__(self, cursor: Any) -> None:
        super().__init__(cursor.connection, row_factory=tuple_row)

    def execute(self, statement: Any, values: Any = (), **options: Any) -> Any:
        return super().execute(translated(statement), values, **options)


def _environment(events: str, view: str = "") -> dict[str, str]:
    return {
        **postgres_environment(events),
        **(postgres_environment(view, "TRADES_") if view else {}),
    }


def _run(events: str, view: str, count: int) -> float:
    """Events a second of the library's runner, from its start to its last event."""
    began = time.perf_counter()
    with ProjectionRunner(
        application_class=LibraryLedger,
        projection_class=TradesProjection,
        view_class=PostgresView,
        env=_environment(events, view),
    ) as runner:
        while not runner.view.has_tracking_id("LibraryLedger", count):
            assert time.perf_counter() < began + BASELINE_LIMIT_SECONDS, "the baseline does not come to its end"
            time.sleep(0.002)
        return count / (time.perf_counter() - began)

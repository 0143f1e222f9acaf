"""The baseline of the projection rows: the eventsourcing library's ProjectionRunner, as its manual shows it."""

import contextlib
import json
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from eventsourcing.application import Application
from eventsourcing.dispatch import singledispatchmethod
from eventsourcing.domain import Aggregate, event
from eventsourcing.persistence import ListenNotifySubscription, Tracking
from eventsourcing.projection import Projection, ProjectionRunner
from eventsourcing.sqlite import SQLiteApplicationRecorder, SQLiteTrackingRecorder

sys.path.insert(0, str(Path(__file__).parent.parent))

from projections.position import Record
from projections.schema import STATEMENTS


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
    cursor.execute("INSERT INTO entries VALUES (?, ?, NULL, ?)", (at, at, json.dumps(terms).encode()))
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
    cursor.execute("INSERT INTO entries VALUES (?, ?, NULL, ?)", (at, trade, json.dumps(change.data).encode()))
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
            "INSERT INTO balances VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (company, counterparty, currency) DO UPDATE"
            " SET units = excluded.units, position = excluded.position, pair = excluded.pair",
            (company, other, currency, balance, at, pair),
        )
        if company < other:
            cursor.execute("INSERT INTO postings VALUES (?, ?, ?)", (pair, at, balance))


def aggregate_of(entry: dict[str, Any]) -> LibraryTrade:
    """The library's aggregate of a recorded trade."""
    return LibraryTrade(entry["data"], by=entry["actor"]["company"])


def _environment(folder: Path, events: str, view: str = "") -> dict[str, str]:
    return {
        "APPLICATION_RECORDER_TOPIC": f"{__name__}:NotifyingRecorder",
        "PERSISTENCE_MODULE": "eventsourcing.sqlite",
        "SQLITE_DBNAME": str(folder / events),
        "TRADES_SQLITE_DBNAME": str(folder / view),
    }


def open_ledger(folder: Path, events: str) -> LibraryLedger:
    """The library's application over one file."""
    return LibraryLedger(_environment(folder, events))


def open_runner(folder: Path, view: str) -> Any:
    """The library's runner of the projection into a view file."""
    return ProjectionRunner(
        application_class=LibraryLedger,
        projection_class=TradesProjection,
        view_class=View,
        env=_environment(folder, "events.db", view),
    )


def fill_baseline(folder: Path, records: list[Record]) -> int:
    """Save the trade events of these records with the library; the last notification's id."""
    with contextlib.closing(open_ledger(folder, "events.db")) as ledger:
        return save_all(ledger, records)


def save_all(ledger: LibraryLedger, records: list[Record]) -> int:
    """Save the trade events of these records; the last notification's id."""
    made: dict[str, LibraryTrade] = {}
    last = 0
    for _, entry in records:
        fact = json.loads(entry)
        trade, data, by = fact["aggregate_id"], fact["data"], fact["actor"]["company"]
        if fact["type"] == "TradeRecorded":
            made[trade] = aggregate_of(fact)
        elif fact["type"] == "TradeConfirmed":
            made[trade].confirm(data, by=by)
        elif fact["type"] == "TradeSettled":
            made[trade].settle(data, by=by)
        else:
            continue
        last = ledger.save(made[trade])[-1].notification.id
    return last

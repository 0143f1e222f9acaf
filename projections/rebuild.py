"""Makes read models again from the logs: beside the live file, to replace it or to say whether it is right."""

import os
import sqlite3
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Final, Protocol

from domain.errors import StorageUnavailable
from projections.anchor_projector import AnchorProjector
from projections.digest import Difference, first_difference
from projections.position import PositionGap, Record
from projections.projector import Projector
from projections.store import AnyReadStore, ReadStore, Source, progress

BATCH: Final = 5_000
Progress = Callable[[int, int], None]


class EntryLog(Protocol):
    """Where entries come from: the event store, a log file, a topic."""

    def head(self) -> int:
        """The last position, 0 when empty."""

    def read(self, start: int, limit: int) -> list[Record]:
        """At most `limit` records from position `start` on, ascending and without gaps."""


class ReadModelsDamaged(Exception):
    """The file of the read models is no whole database any more; it is derived data: delete it."""


class Follower(Protocol):
    """A projector, as far as a replay needs it."""

    def process(self, records: Sequence[Record]) -> None:
        """Apply records."""


def replay(projector: Follower, log: EntryLog, start: int, up_to: int, progressed: Progress | None = None) -> None:
    """Feed the entries after `start` up to `up_to`; `progressed(done, total)` is called after each batch.

    Raises PositionGap when the log ends before.
    """
    at = start
    while at < up_to:
        records = log.read(at + 1, min(BATCH, up_to - at))
        if not records:
            raise PositionGap(f"the log ends at {at}, {up_to} was asked for", at + 1)
        projector.process(records)
        at = records[-1][0]
        if progressed is not None:
            progressed(at - start, up_to - start)


def rebuild(
    path: Path,
    entries: EntryLog,
    anchors: EntryLog | None = None,
    *,
    embedded_chain_ids: Collection[int] = (),
    up_to: int | None = None,
    anchors_up_to: int | None = None,
    progressed: Progress | None = None,
) -> ReadStore:
    """A fresh read model at `path`, which is overwritten; up to the heads of the logs when no position is given.

    `progressed` counts the positions of both logs together. The file is not durable before `finish` or `swap`: an
    interrupted rebuild is started again.
    """
    remove(path)
    store = ReadStore(path, durable=False)
    try:
        last = entries.head() if up_to is None else up_to
        anchored = 0
        if anchors is not None:
            anchored = anchors.head() if anchors_up_to is None else anchors_up_to

        def report(done: int) -> None:
            if progressed is not None:
                progressed(done, last + anchored)

        replay(Projector(store), entries, 0, last, lambda done, _: report(done))
        if anchors is not None:
            projector = AnchorProjector(store, embedded_chain_ids)
            replay(projector, anchors, 0, anchored, lambda done, _: report(last + done))
    except BaseException:
        store.close()
        raise
    return store


def swap(store: ReadStore, live: Path) -> None:
    """Put a rebuilt store in the place of the live file, durably. The service must be stopped; closes `store`.

    Raises sqlite3.OperationalError when the live file is in use.
    """
    store.close()
    _fold_wal(store.path)
    if live.exists():
        # A write-ahead log of the old file beside the new one would be replayed into it: it must be gone first.
        _fold_wal(live)
    with store.path.open("rb") as file:
        os.fsync(file.fileno())
    # A crash before this line leaves the old file, one after it the new one; both are whole.
    store.path.replace(live)
    directory = os.open(live.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def check(
    live: AnyReadStore,
    scratch: Path,
    entries: EntryLog,
    anchors: EntryLog | None = None,
    *,
    embedded_chain_ids: Collection[int] = (),
    progressed: Progress | None = None,
) -> Difference | None:
    """Compare the live read models with a full replay at their present position; None when they agree.

    May run beside the service: the live file is read at one moment, the replay is written to `scratch` and removed.
    """
    with live.snapshot() as connection:
        at, anchored = progress(connection, "entries")[0], progress(connection, "anchors")[0]
        replayed = rebuild(
            scratch,
            entries,
            anchors,
            embedded_chain_ids=embedded_chain_ids,
            up_to=at,
            anchors_up_to=anchored,
            progressed=progressed,
        )
        try:
            sources: list[Source] = ["entries"] if anchors is None else ["entries", "anchors"]
            for source in sources:
                difference = first_difference(connection, replayed.reader(), source)
                if difference is not None:
                    return difference
            return None
        finally:
            replayed.close()
            remove(scratch)


def check_file(
    path: Path,
    scratch: Path,
    entries: EntryLog,
    anchors: EntryLog | None = None,
    *,
    embedded_chain_ids: Collection[int] = (),
    progressed: Progress | None = None,
) -> Difference | None:
    """`check` of a live file by its path. Raises ReadModelsDamaged, StoreOutdated, StorageUnavailable."""
    try:
        store = ReadStore(path)
        try:
            return check(store, scratch, entries, anchors, embedded_chain_ids=embedded_chain_ids, progressed=progressed)
        finally:
            store.close()
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError) and hasattr(error, "sqlite_errorcode"):
            raise StorageUnavailable("the read models cannot be read for now", reason=str(error)) from error
        # without a code of SQLite's own it is Python that finds no UTF-8 in a text
        raise ReadModelsDamaged(f"{path.name} is damaged, delete it and it is made again: {error}") from error


def remove(path: Path) -> None:
    """Delete a database file and what SQLite keeps beside it."""
    for suffix in ("", "-wal", "-shm", "-journal"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _fold_wal(path: Path) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.execute("PRAGMA journal_mode = DELETE")
    finally:
        connection.close()

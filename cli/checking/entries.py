"""Part 1: every entry says what its row says and follows the one before."""

import datetime as dt
import re
from collections.abc import Callable, Iterator
from typing import Any, Final, Protocol

import msgspec

from cli.checking.findings import Progress, Report
from domain.entry import Envelope, canonical, decode_envelope
from domain.event_types import EVENT_TYPES
from merkle.flat_log import FlatLog
from merkle.hashing import leaf_hashes
from storage.entry_log import StoredRow

BATCH: Final = 2000
TIME_CHARACTERS: Final = len("2026-11-22T05:02:32.123456Z")
Each = Callable[[int, bytes, Envelope], None]
"""Called with the position, the bytes and the envelope of every entry that is well formed, in order."""


class EntryLog(Protocol):
    """Entries, to read by position."""

    def read(self, start: int, limit: int) -> list[tuple[int, bytes]]: ...


def marked(log: EntryLog, up_to: int, mark: re.Pattern[bytes], progress: Progress) -> Iterator[tuple[int, Envelope]]:
    """Position and envelope of the entries up to a position in which `mark` is found; only these are decoded."""
    at = 1
    while at <= up_to and (records := log.read(at, min(BATCH, up_to - at + 1))):
        for position, entry in records:
            if mark.search(entry):
                yield position, decode_envelope(entry)
        at = records[-1][0] + 1
        progress("log", at - 1, up_to)


class RowLog(Protocol):
    """An event store whose rows can be looked at."""

    def rows(self, start: int, limit: int) -> list[StoredRow]:
        """At most `limit` whole rows from position `start` on."""
        ...


class EntriesCheck:
    """Follows the rows; after a hole nothing more can be said about what lies behind it."""

    def __init__(self, origin: str, report: Report, each: Each) -> None:
        self.tree = FlatLog()
        self._origin, self._report, self._each = origin, report, each
        self._last_time = ""
        self._versions: dict[str, int] = {}

    def run(self, log: RowLog, up_to: int, progress: Progress) -> None:
        """Check every row up to a position; `tree` is then the tree over them, up to the first hole."""
        position = 0
        while position < up_to:
            rows = log.rows(position + 1, min(BATCH, up_to - position))
            whole = next((i for i, row in enumerate(rows) if row.position != position + 1 + i), len(rows))
            self.tree.append(leaf_hashes([row.state for row in rows[:whole]]))
            for row in rows[:whole]:
                position += 1
                self._take(position, row)
            self._report.count("entries", whole)
            progress("entries", position, up_to)
            if whole < len(rows) or not rows:
                after = f"the next one there is {rows[whole].position}" if rows else "and so are all after it"
                self._report.differs("entries", position + 1, f"it is missing, {after}")
                return

    def _take(self, position: int, row: StoredRow) -> None:
        found = self._report.findings
        before = len(found)
        envelope = check_row(row, position, self._origin, self._report)
        if envelope is None:
            return
        if envelope.recorded_at < self._last_time:
            self._report.differs("entries", position, f"its time {envelope.recorded_at} precedes the entry before")
        self._last_time = max(self._last_time, envelope.recorded_at)
        expected = self._versions.get(row.aggregate_id, 0) + 1
        if envelope.version != expected:
            self._report.differs(
                "entries", position, f"version {envelope.version} of its aggregate, expected {expected}"
            )
        self._versions[row.aggregate_id] = row.version
        if len(found) == before:
            self._each(position, row.state, envelope)


def check_row(row: StoredRow, position: int, origin: str, report: Report) -> Envelope | None:
    """One row against its own bytes; None when these are no entry."""
    try:
        envelope = decode_envelope(row.state)
        value: Any = msgspec.json.decode(row.state)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError, ValueError) as error:
        report.differs("entries", position, f"not an entry: {error}")
        return None
    if canonical(value) != row.state:
        report.differs("entries", position, "its bytes are not canonical")
    if envelope.position != position:
        report.differs("entries", position, f"its bytes say position {envelope.position}")
    if envelope.log != origin:
        report.differs("entries", position, f"its bytes say log {envelope.log!r}")
    if (row.aggregate_id, row.version, row.topic) != (envelope.aggregate_id, envelope.version, envelope.type):
        report.differs("entries", position, "its row names another aggregate, version or type than its bytes")
    if not _is_time(envelope.recorded_at):
        report.differs("entries", position, f"its time {envelope.recorded_at!r} is none")
    kind = EVENT_TYPES.get(envelope.type)
    if kind is None or envelope.v != kind.VERSION:
        report.differs("entries", position, f"unknown event type {envelope.type!r} version {envelope.v}")
        return envelope
    try:
        msgspec.json.decode(envelope.data, type=kind)
    except (msgspec.MsgspecError, ValueError) as error:
        report.differs("entries", position, f"its data is not that of {envelope.type}: {error}")
    return envelope


def _is_time(text: str) -> bool:
    """UTC with microseconds and `Z`, as every entry has it."""
    try:
        return len(text) == TIME_CHARACTERS and text[10] == "T" and bool(dt.datetime.fromisoformat(text))
    except ValueError:
        return False

"""The archive held against inbox and log: every payload that the log names is in both, once, with its own hash.

log      the hash of each message that has come            (NotificationReceived, NotificationContradicted)
inbox    its ciphertext, by a gapless number
archive  a copy of that row, by the same number
"""

import hashlib
import re
from collections.abc import Callable, Iterator
from typing import Any, Final, Protocol

import msgspec

from cli.checking.entries import marked
from cli.checking.findings import Progress, Report
from storage.parcels import StoredParcel

BATCH: Final = 500
RECEIVED: Final = frozenset({"NotificationReceived", "NotificationContradicted"})
_MARK: Final = re.compile(rb'"type":"Notification')


class Rows(Protocol):
    """Inbox or archive, to read by number."""

    def head(self) -> int: ...
    def read(self, start: int, limit: int) -> list[StoredParcel]: ...


class _Payload(msgspec.Struct):
    payload: str


_payload: Final = msgspec.json.Decoder(_Payload).decode


def check_archive(entries: Any, inbox: Rows, archive: Rows, progress: Progress) -> Report:
    """Compare all three. What the archive does not have yet, behind its last number, is its lag, no difference."""
    report = Report(pinned=entries.head())
    archived, head = archive.head(), inbox.head()
    named = _named_by_the_log(entries, report, progress)
    seen: dict[str, int] = {}
    copies = _Copies(archive, report)
    for row in _rows(inbox, "inbox", report):
        progress("inbox", row.number, max(row.number, head))
        _look_at(row, named, seen, report)
        if row.number > archived:
            report.count("still to be archived")
        else:
            copies.compare(row)
    if archived > inbox.head():
        report.differs("archive", 0, f"it goes on to number {archived}, the inbox to {inbox.head()}")
    for payload, position in named.items():
        if position <= report.pinned:
            report.differs("inbox", position, f"payload {payload} is missing")
    return report


def _look_at(row: StoredParcel, named: dict[str, int], seen: dict[str, int], report: Report) -> None:
    """One row of the inbox by itself, and against the log."""
    report.count("inbox")
    if hashlib.sha256(row.sealed).hexdigest() != row.payload:
        report.differs("inbox", row.position, f"number {row.number}: the ciphertext has another hash")
    if row.payload in seen:
        report.differs("inbox", row.position, f"number {row.number} doubles number {seen[row.payload]}")
    seen[row.payload] = row.number
    if named.pop(row.payload, None) is None and row.position <= report.pinned:
        report.differs("inbox", row.position, f"number {row.number}: the log names no such payload")


class _Copies:
    """The archive on its way beside the inbox."""

    def __init__(self, archive: Rows, report: Report) -> None:
        self._rows, self._report = _rows(archive, "archive", report), report
        self._next = next(self._rows, None)

    def compare(self, row: StoredParcel) -> None:
        """The copy of a row, which must be there and the same."""
        while self._next is not None and self._next.number < row.number:
            self._next = next(self._rows, None)
        if self._next is None or self._next.number != row.number:
            self._report.differs("archive", row.position, f"number {row.number} is missing")
        elif self._next != row:
            changed = _changed(row, self._next)
            self._report.differs("archive", row.position, f"number {row.number} is changed: {changed}")
        self._report.count("archive")


def _named_by_the_log(entries: Any, report: Report, progress: Progress) -> dict[str, int]:
    """The position of the entry that names each payload."""
    named = {
        _payload(envelope.data).payload: position
        for position, envelope in marked(entries, report.pinned, _MARK, progress)
        if envelope.type in RECEIVED
    }
    report.count("log", len(named))
    return named


def _rows(source: Rows, name: str, report: Report) -> Iterator[StoredParcel]:
    """All rows in order; a number that is missing or comes twice is named."""
    due = 1
    while rows := source.read(due, BATCH):
        for row in rows:
            if row.number > due:
                report.differs(name, row.position, f"numbers {due} to {row.number - 1} are missing")
            elif row.number < due:
                report.differs(name, row.position, f"number {row.number} comes twice")
                continue
            due = row.number + 1
            yield row


def _changed(row: StoredParcel, copy: StoredParcel) -> str:
    names = [name for name, ours, theirs in zip(row._fields, row, copy, strict=True) if ours != theirs]
    return ", ".join(names)


Open = Callable[[str, bytes], bytes]
"""Opens a ciphertext of an owner. Raises `stores.receive.OwnerErased`."""


def reverify_archive(archive: Rows, opened: Open, reverifier: Any, progress: Progress) -> Report:
    """Verify every signature in the archive once more, offline, by what lies beside it."""
    from stores.parcel_format import read_headers, read_proof
    from stores.receive import OwnerErased
    from stores.verdict import MessageRefused

    head = archive.head()
    report = Report(pinned=head)
    for row in _rows(archive, "archive", report):
        progress("signatures", row.number, head)
        try:
            plain = opened(row.owner, row.sealed)
            again = reverifier.judge(plain, read_headers(row.headers), read_proof(row.proof))
        except OwnerErased:
            report.count("erased")
            continue
        except MessageRefused as refused:
            report.differs("signatures", row.position, f"number {row.number}: {refused.rule}")
            continue
        except Exception as error:  # noqa: BLE001 altered, or sealed under another key: a finding like every other
            report.differs("signatures", row.position, f"number {row.number}: {type(error).__name__}")
            continue
        if again.holds is None:
            report.count("without a signature")
        elif again.holds:
            report.count("signatures")
        else:
            report.differs("signatures", row.position, f"number {row.number}: {again.reason}")
    return report

"""Reconciliation: every record of a topic of entries compared with the event store, byte for byte.

    missing   an entry that the topic skipped and has nowhere behind
    order     a record that came after one it should precede
    changed   a record with another entry than the store's at its position
    ahead     a record of a position that the store does not have
    foreign   a record that our relay did not write
    repeated  a record that was there before: allowed, and counted

What was compared is not compared again: a `Report` is all that a later run needs to go on.
"""

from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any, Final

import msgspec

from streams.feeds import Feed, items_at
from streams.topic_partition import Partition
from streams.topic_record import Format, Raw, RecordRefused, TopicRecord

READ_RECORDS: Final = 2_000
MAX_NAMED: Final = 100  # what is wrong is counted without limit and named up to here
Progressed = Callable[[int, int], None]
"""Told after each batch how many offsets are done, of how many."""


class Report(msgspec.Struct):
    """What was found up to offset `next_offset`; `due` is the position that comes next.

    `end_offset` is where the topic ended and `store_head` where the store did when the run began. `skipped` are the
    stretches of positions (first, last) that are missing. `findings` say what is wrong, one line each.
    """

    topic: str
    next_offset: int = 0
    end_offset: int = 0
    store_head: int = 0
    due: int = 1
    records: int = 0
    repeated: int = 0
    changed: int = 0
    foreign: int = 0
    ahead: int = 0
    order: int = 0
    skipped: list[tuple[int, int]] = msgspec.field(default_factory=list)
    findings: list[str] = msgspec.field(default_factory=list)

    @property
    def missing(self) -> int:
        """How many entries are in the store, but in no record, though later ones are."""
        return sum(last - first + 1 for first, last in self.skipped)

    @property
    def to_come(self) -> int:
        """How many entries the store has beyond the topic's end: the relay's lag, no fault."""
        return max(0, self.store_head - self.due + 1)

    @property
    def finished(self) -> bool:
        """Whether the topic has been compared up to where it ended when the run began."""
        return self.next_offset >= self.end_offset

    @property
    def agrees(self) -> bool:
        """Whether nothing is wrong so far."""
        return not (self.missing or self.changed or self.foreign or self.ahead or self.order)

    def encode(self) -> bytes:
        """As JSON, for the file that a later run goes on from."""
        return msgspec.json.encode(self)

    @classmethod
    def decode(cls, data: bytes) -> "Report":
        """What `encode` gave; ValueError for anything else."""
        try:
            return msgspec.json.decode(data, type=cls)
        except msgspec.MsgspecError as error:
            raise ValueError(f"not the state of a reconciliation: {error}") from None


def verify(
    partition: Partition,
    records: Format,
    store: Feed,
    progressed: Progressed = lambda _done, _all: None,
    resume_from: Report | None = None,
) -> Report:
    """Compare all of a topic, or what is left of it, with the store; as `Reconciliation`."""
    return Reconciliation(partition, records, store, resume_from).run(progressed)


class Reconciliation:
    """One run. `report` is whole at any time: after an interruption, too, a later run goes on from it.

    ValueError when `resume_from` is about another topic, or about more than this one has: then begin anew.
    """

    def __init__(self, partition: Partition, records: Format, store: Feed, resume_from: Report | None = None) -> None:
        if not records.gapless:
            raise ValueError(f"{partition.topic} has no gapless positions")
        first, end = partition.bounds()
        report = deepcopy(resume_from) if resume_from else Report(partition.topic)
        if report.topic != partition.topic or report.next_offset > end:
            raise ValueError(f"{partition.topic} ends at {end}, the state is of {report.topic} {report.next_offset}")
        report.next_offset, report.end_offset = max(first, report.next_offset), end
        report.store_head = store.head()
        self.report = report
        self._partition, self._format, self._store = partition, records, store

    def run(self, progressed: Progressed = lambda _done, _all: None) -> Report:
        """Up to where the topic ended in the beginning. Raises what the partition and the store raise."""
        while not self.report.finished:
            self._step()
            progressed(self.report.next_offset, self.report.end_offset)
        return self.report

    def _step(self) -> None:
        report = deepcopy(self.report)
        try:
            fetched = self._partition.fetch(report.next_offset, READ_RECORDS)
        except RecordRefused as refused:  # a whole batch that cannot be read: one offset after the other
            _note(report, "foreign", str(refused))
            report.next_offset += 1
        else:
            self._compare(report, [raw for raw in fetched if raw.offset < report.end_offset])
            report.next_offset = fetched[-1].offset + 1 if fetched else report.end_offset
        self.report = report

    def _compare(self, report: Report, fetched: Sequence[Raw]) -> None:
        found: list[TopicRecord] = []
        for raw in fetched:
            try:
                found.append(self._format.decode(raw))
            except RecordRefused as refused:
                _note(report, "foreign", str(refused))
        stored = items_at(self._store, {record.position for record in found})
        report.records += len(fetched)
        for record in found:
            _compare_one(report, record, stored.get(record.position))


def _compare_one(report: Report, record: TopicRecord, stored: Any) -> None:
    position, where = record.position, f"{report.topic} offset {record.offset}"
    if stored is None:
        _note(report, "ahead", f"{where}: position {position} is not in the store")
        return
    if position == report.due:
        report.due += 1
    elif position > report.due:
        stretch = (report.due, position - 1)
        _name(report, f"{where}: position {position} where {report.due} was due")
        report.skipped.append(stretch)
        report.due = position + 1
    elif _came_late(report.skipped, position):
        _note(report, "order", f"{where}: position {position} came late")
    elif stored == record.entry:
        report.repeated += 1
    if stored != record.entry:
        _note(report, "changed", f"{where}: position {position} is another entry than the store's")


def _came_late(skipped: list[tuple[int, int]], position: int) -> bool:
    """Take a position out of the stretches that were skipped; False when it is in none."""
    for index, (first, last) in enumerate(skipped):
        if first <= position <= last:
            rest = [(first, position - 1), (position + 1, last)]
            skipped[index : index + 1] = [(low, high) for low, high in rest if low <= high]
            return True
    return False


def _note(report: Report, kind: str, line: str) -> None:
    setattr(report, kind, getattr(report, kind) + 1)
    _name(report, line)


def _name(report: Report, line: str) -> None:
    if len(report.findings) < MAX_NAMED:
        report.findings.append(line)

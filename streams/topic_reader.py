"""Reading a topic by position: its end, the place of a position, everything from a position on.

A topic may repeat records: a relay that is not sure whether some arrived sends them again. So positions go up by one
from record to record, or fall back to an earlier one and go up again; never do they skip one. A repeat is told by its
leaf hash and dropped; another hash at a position is a fork, a missing position a gap.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import Lock
from typing import Final, NamedTuple

from streams.local import LogBehindError
from streams.processor import ForkError, GapError, Record
from streams.topic_partition import KafkaPartition, Partition, RecordsGone
from streams.topic_record import Format, Raw, RecordRefused, TopicRecord

READ_RECORDS: Final = 2_000
TAIL_RECORDS: Final = 2_500  # the highest position is among the last so many: a relay has fewer on their way at once
_FIND_RECORDS: Final = 100
_REMEMBERED: Final = 65_536  # leaf hashes, to tell repeats
Known = Callable[[int], bytes]
"""The leaf hash at a position, as one's own database has it."""


class Batch(NamedTuple):
    """Records in order without gaps or repeats; none, if there were only repeats. `next_offset` follows the last."""

    records: list[Record]
    next_offset: int


class TopicReader:
    """One topic. For one thread at a time; every method may raise what its partition and its format raise."""

    def __init__(self, partition: Partition, records: Format) -> None:
        self._partition, self._format = partition, records
        self.topic = partition.topic

    def close(self) -> None:
        """Close the partition."""
        self._partition.close()

    def bounds(self) -> tuple[int, int]:
        """The first offset and the one behind the last."""
        return self._partition.bounds()

    def tail(self) -> TopicRecord | None:
        """The last record, None in an empty topic."""
        last = self.last_records(1)
        return last[-1] if last else None

    def last_records(self, count: int = TAIL_RECORDS) -> list[TopicRecord]:
        """At most `count` records up to the end, in order; none in an empty topic only."""
        first, end = self._partition.bounds()
        reach = count
        while first < end:
            start = max(first, end - reach)
            found = [self._format.decode(raw) for raw in self._between(start, end)]
            if found or start == first:
                return found[-count:]
            reach *= 4  # offsets without a record: of transactions, or compacted away
        return []

    def find(self, position: int, leaf: bytes = b"") -> int:
        """The offset of the first record of a position; where positions have gaps, of any record of it.

        `leaf`, if given, is the hash it must have. LogBehindError when the topic ends before the position, RecordsGone
        when it begins behind it, ForkError when another record stands there, GapError when none does.
        """
        found = self._jump(position) if self._format.gapless else self._search(position)
        if leaf and found.leaf != leaf:
            raise ForkError(f"{self.topic} position {position}", leaf, found.leaf)
        return found.offset

    def read(
        self,
        from_position: int,
        max_records: int = READ_RECORDS,
        *,
        before: bytes = b"",
        known: Known | None = None,
    ) -> Iterator[Batch]:
        """Everything from a position on, up to where the topic ends now, in batches of at most `max_records`.

        `before` is the leaf hash that the position before must have. A repeat of a record of this reading is compared
        by hash, one from before it where `known` has its hash. LogBehindError, RecordsGone, ForkError and GapError as
        for `find`; RecordRefused for a repeat from so far back that nothing is known of it. Gapless topics only.
        """
        cursor = self.cursor(from_position, before=before, known=known)
        end = self._partition.bounds()[1]
        while cursor.offset < end:
            batch = cursor.next_batch(max_records)
            if batch is None:
                return
            yield batch

    def cursor(self, from_position: int, *, before: bytes = b"", known: Known | None = None) -> "Cursor":
        """A place to read on from; as `read`."""
        if not self._format.gapless:
            raise ValueError(f"{self.topic} has no gapless positions")
        offset = self._partition.bounds()[0] if from_position == 1 else self.find(from_position - 1, before) + 1
        return Cursor(self._partition, self._format, from_position, offset, known)

    def _between(self, start: int, end: int) -> Iterator[Raw]:
        while start < end:
            fetched = self._partition.fetch(start, READ_RECORDS)
            if not fetched:
                return
            for raw in fetched:
                if raw.offset >= end:
                    return
                yield raw
            start = fetched[-1].offset + 1

    def _jump(self, position: int) -> TopicRecord:
        """Forward by what is missing to the position: positions grow by one a record at most, so it cannot be nearer.

        Repeats only make the way longer. Offsets without records, too.
        """
        first, end = self._partition.bounds()
        offset, begun = first, False
        while offset < end:
            fetched = self._partition.fetch(offset, _FIND_RECORDS)
            for raw in fetched:
                found = self._format.decode(raw)
                if found.position == position:
                    return found
                if found.position > position and not begun:
                    raise RecordsGone(f"{self.topic} begins at position {found.position}, {position} is gone")
                if found.position > position:
                    raise GapError(position, found.position)
                begun = True
                offset = raw.offset + position - found.position
            if not fetched:
                break
        raise LogBehindError(f"{self.topic} ends before position {position}")

    def _search(self, position: int) -> TopicRecord:
        """Backward in growing steps: who asks is near the end."""
        first, end = self._partition.bounds()
        until, step, highest = end, _FIND_RECORDS, 0
        while until > first:
            start = max(first, until - step)
            for record in map(self._format.decode, self._between(start, until)):
                highest = max(highest, record.position)
                if record.position == position:
                    return record
            until, step = start, step * 4
        if highest < position:
            raise LogBehindError(f"{self.topic} ends before position {position}")
        raise RecordsGone(f"{self.topic} has no position {position}")


class Cursor:
    """A place in a topic. `due` is the position that comes next, `offset` where to look for it."""

    def __init__(self, partition: Partition, records: Format, due: int, offset: int, known: Known | None) -> None:
        self.due, self.offset = due, offset
        self._partition, self._format, self._known = partition, records, known
        self._first, self._begun = due, due > 1
        self._leaves: deque[bytes] = deque(maxlen=_REMEMBERED)

    def next_batch(self, max_records: int) -> Batch | None:
        """What comes next, None at the end of the topic. Raises as `TopicReader.read`, and stays where it was."""
        fetched = self._partition.fetch(self.offset, max_records)
        if not fetched:
            return None
        records: list[Record] = []
        decode, keep, remember, due = self._format.decode, records.append, self._leaves.append, self.due
        try:
            for raw in fetched:
                position, entry, _, leaf = decode(raw)
                if position == due:
                    keep((position, entry))
                    remember(leaf)
                    due += 1
                else:
                    self._repeat(raw, position, leaf, due)
        except BaseException:
            for _ in range(min(len(records), len(self._leaves))):
                self._leaves.pop()
            raise
        self.due, self.offset = due, fetched[-1].offset + 1
        self._begun = True
        return Batch(records, self.offset)

    def _repeat(self, raw: Raw, position: int, leaf: bytes, due: int) -> None:
        """Not the position that is due: fine if it repeats what was there before."""
        if position > due:
            if not self._begun and due == self._first:
                raise RecordsGone(f"{raw.topic} begins at position {position}, {due} is gone")
            raise GapError(due, position)
        back = due - position
        if back <= len(self._leaves):
            ours = self._leaves[-back]
        elif self._known is not None:
            ours = self._known(position)
        elif position < self._first:
            return  # whoever began behind it has nothing to compare it with
        else:
            raise RecordRefused(raw.topic, raw.offset, f"repeats position {position} when {due} is due")
        if ours != leaf:
            raise ForkError(f"{raw.topic} position {position}", ours, leaf)


class TopicLog:
    """A topic of entries as a log (`streams.local.EntryLog`), for whoever is built anew from Kafka. From any thread."""

    def __init__(self, reader: TopicReader) -> None:
        self._reader = reader
        self._cursor: Cursor | None = None
        self._lock = Lock()

    def head(self) -> int:
        """The last position, 0 in an empty topic."""
        with self._lock:
            return max((record.position for record in self._reader.last_records()), default=0)

    def read(self, start: int, limit: int) -> list[Record]:
        """At most `limit` records from position `start` on, ascending. Fast where each call goes on from the last."""
        with self._lock:
            if self._cursor is None or self._cursor.due != start:
                try:
                    self._cursor = self._reader.cursor(start)
                except LogBehindError:
                    return []
            cursor, found = self._cursor, list[Record]()
            self._cursor = None  # until it is certain that nothing was missed
            end = self._reader.bounds()[1]
            while len(found) < limit and cursor.offset < end:
                batch = cursor.next_batch(limit - len(found))
                if batch is None:
                    break
                found += batch.records
            self._cursor = cursor
            return found

    def close(self) -> None:
        """Close the reader."""
        with self._lock:
            self._reader.close()


@contextmanager
def open_topic(bootstrap: str, topic: str, records: Format) -> Iterator[TopicReader]:
    """A reader of a topic; TopicUnavailable when Kafka does not answer, TopicsRefused for more than one partition."""
    reader = TopicReader(KafkaPartition(bootstrap, topic), records)
    try:
        yield reader
    finally:
        reader.close()


def highest(records: Sequence[TopicRecord]) -> TopicRecord | None:
    """The record of the highest position, the last of several."""
    return max(records, key=lambda record: (record.position, record.offset), default=None)

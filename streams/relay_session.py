"""One session of a relay: from the topic's tail on, with one producer, as long as nothing is in doubt."""

from collections import deque
from collections.abc import Callable, Sequence
from threading import Event
from time import monotonic
from typing import Any, Final

import msgspec

from streams.faults import one_line
from streams.feeds import Feed, items_at
from streams.processor import ForkError, GapError, ProcessorError
from streams.topic_partition import KafkaPartition, RecordsGone
from streams.topic_reader import TAIL_RECORDS, TopicReader, highest
from streams.topic_record import Format, TopicRecord, Wire
from streams.topic_writer import TopicChanged, TopicWriter, WriteFailed

READ_RECORDS: Final = 1_000
MAX_TAIL_RECORDS: Final = 64 * TAIL_RECORDS  # a gap that is still seen so far back is one
SAFETY_POLL_SECONDS: Final = 1.0  # nobody should have to be woken by it; a lost wake-up costs this much
LOOK_SECONDS: Final = 1.0  # how old the knowledge of the topic's end may be when something is sent
SAVE_SECONDS: Final = 1.0
STALL_SECONDS: Final = 15.0
FLUSH_SECONDS: Final = 10.0
ANSWER_SECONDS: Final = 5.0


class NotLeading(Exception):
    """Another process copies now: this one must not send anything more."""


class RelaySession:
    """`begin`, then `step` again and again, `finish` at a good end, `end` always. Whatever it raises ends it.

    `position` is the last one known to be in the topic, `head` the last one known to be in the store; `trouble` is what
    does not work, though copying goes on.
    """

    def __init__(
        self,
        bootstrap: str,
        topic: str,
        records: Format,
        feed: Feed,
        *,
        save: Callable[[int, bytes], None],
        still_leader: Callable[[], bool],
        woken: Event,
    ) -> None:
        self.position, self.head, self.trouble = 0, 0, ""
        self._bootstrap, self._topic, self._format, self._feed = bootstrap, topic, records, feed
        self._save, self._still_leader, self._woken = save, still_leader, woken
        self._leaf, self._saved, self._saved_at = b"", 0, 0.0
        self._sent, self._looked_at = 0, 0.0
        self._ready: deque[tuple[int, Wire]] = deque()
        self._reader: TopicReader | None = None
        self._writer: TopicWriter | None = None

    def begin(self) -> None:
        """Compare the topic's tail with the store, and make a producer that goes on behind it.

        ForkError when the topic holds what the store does not, GapError or RecordsGone when it misses something.
        """
        self._require_leader()
        partition = KafkaPartition(self._bootstrap, self._topic, answer_seconds=ANSWER_SECONDS)
        reader = self._reader = TopicReader(partition, self._format)
        first, end = reader.bounds()
        records = self._tail(reader, first)
        self._look_at_end(end)  # else something would lie unseen between them and what is sent
        self._require_ours(records)
        last = highest(records)
        if last is not None:
            self.position, self._leaf, self._sent = last.position, last.leaf, last.position
        self.head = max(self._feed.head(), self.position)
        self._writer = TopicWriter(self._bootstrap, self._topic, end, self._woken.set)

    def step(self) -> None:
        """Take acknowledgements and send what there is, or wait for either."""
        writer = self._open_writer()
        self._woken.clear()  # before looking: what comes in between is not lost
        moved = self._take(writer)
        if len(self._ready) < READ_RECORDS:  # also while there is no room: what comes next is at hand then
            self._refill()
        sendable = bool(self._ready) and writer.has_room(self._ready[0][1])
        if not writer.in_flight and monotonic() - self._looked_at > LOOK_SECONDS:
            self._look_at_end(writer.next_offset)
        if sendable:
            self._send(writer)
        elif writer.stalled_seconds() > STALL_SECONDS:
            raise WriteFailed(f"{self._topic}: nothing was acknowledged for {STALL_SECONDS:.0f} s")
        elif not moved:  # else it is told first
            self._woken.wait(SAFETY_POLL_SECONDS)

    def finish(self) -> None:
        """Wait, within a bound, for what is on its way."""
        writer = self._open_writer()
        writer.flush(FLUSH_SECONDS)
        self._take(writer)

    def end(self) -> None:
        """Give up producer and reader. WriteFailed when the producer cannot be ended: then no new one may be made."""
        if self._reader is not None:
            self._reader.close()
        if self._writer is not None:
            self._writer.kill()

    # -- the tail ----------------------------------------------------------------------------------------------------

    def _tail(self, reader: TopicReader, first_offset: int) -> list[TopicRecord]:
        """The last records, as many as it takes to see that they skip none.

        Two relays that both believed to lead repeat each other. A tail that begins in what one of them repeated then
        seems to skip what the other had sent before: further back it is seen to be there.
        """
        count = TAIL_RECORDS
        while True:
            records = reader.last_records(count)
            try:
                self._require_whole(records, first_offset, all_of_them=len(records) < count)
            except GapError:
                if len(records) < count or count >= MAX_TAIL_RECORDS:
                    raise
                count *= 4
            else:
                return records

    def _require_whole(self, records: Sequence[TopicRecord], first_offset: int, *, all_of_them: bool) -> None:
        """Positions that skip none, from 1 on where the topic's beginning is among the records."""
        if not self._format.gapless or not records:
            return
        begins = records[0].position
        if all_of_them and begins != 1:
            raise RecordsGone(f"{self._topic} begins at offset {first_offset} with position {begins}, not with 1")
        reached = begins
        for record in records:
            if record.position > reached + 1:
                raise GapError(reached + 1, record.position)
            reached = max(reached, record.position)

    def _require_ours(self, records: Sequence[TopicRecord]) -> None:
        """Every record is the store's."""
        items = items_at(self._feed, {record.position for record in records})
        for record in records:
            position = record.position
            ours = self._encode(position, items[position]).leaf if position in items else b""
            if ours != record.leaf:
                raise ForkError(f"{self._topic} position {position}", ours, record.leaf)

    # -- on the way --------------------------------------------------------------------------------------------------

    def _take(self, writer: TopicWriter) -> bool:
        """What was acknowledged since; whether anything was."""
        acknowledged = writer.collect()
        if acknowledged is not None:
            self.position, self._leaf = acknowledged
            self._looked_at = monotonic()
        waited = monotonic() - self._saved_at > SAVE_SECONDS
        if self.position != self._saved and (waited or not (writer.in_flight or self.trouble)):
            self._save_position()
        return acknowledged is not None

    def _save_position(self) -> None:
        """After a crash before this, or a failure, the saved position is too low; nothing follows from it."""
        self._saved_at = monotonic()
        try:
            self._save(self.position, self._leaf)
        except Exception as error:  # noqa: BLE001 the tail of the topic decides: copying goes on
            self.trouble = f"the position is not saved: {one_line(error)}"
        else:
            self._saved, self.trouble = self.position, ""

    def _refill(self) -> None:
        for position, item in self._feed.read(self._sent + 1, READ_RECORDS):
            due = self._sent + 1
            if position < due or (self._format.gapless and position != due):
                raise GapError(due, position)
            self._ready.append((position, self._encode(position, item)))
            self._sent = position
        self.head = max(self.head, self._sent)

    def _send(self, writer: TopicWriter) -> None:
        """As much of what is ready as may be on its way. A crash here: the tail says what has arrived."""
        self._require_leader()
        while self._ready and writer.has_room(self._ready[0][1]):
            position, wire = self._ready.popleft()
            writer.send(position, wire)
        writer.end_of_burst()

    def _look_at_end(self, expected: int) -> None:
        """Nothing is on its way: the topic must end where we know it to end, else somebody has had a hand in it."""
        if self._reader is not None:
            end = self._reader.bounds()[1]
            if end != expected:
                raise TopicChanged(f"{self._topic} ends at offset {end}, not at {expected}")
            self._looked_at = monotonic()

    def _encode(self, position: int, item: Any) -> Wire:
        try:
            return self._format.encode(position, item)
        except (ValueError, msgspec.MsgspecError) as error:
            raise ProcessorError(f"what the store has at position {position} cannot be sent: {error}") from error

    def _require_leader(self) -> None:
        if not self._still_leader():
            raise NotLeading(f"{self._topic}: another process copies into it")

    def _open_writer(self) -> TopicWriter:
        if self._writer is None:
            raise RuntimeError("a session begins before it steps")
        return self._writer

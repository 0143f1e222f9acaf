"""Catching up: a plain consumer feeds a processor in big batches until it is near the end of its topic.

It begins with the record that the processor stands on, so that another entry there is found before anything is built on
it, and it reads from the processor's own position alone. It also has the last word on what Faust found wrong: a gap or
a fork counts when it stands in the topic, not when a rebalance has torn a buffer.
"""

from collections.abc import Callable
from typing import Final

from streams.local import LogBehindError
from streams.processor import Processor
from streams.topic_reader import TopicReader, open_topic
from streams.topic_record import Format

BATCH_RECORDS: Final = 2_000
NEAR_RECORDS: Final = 1_000  # so near to the end Faust takes over


class CatchUp:
    """One processor and its topic. `run` blocks; `stop` may be called from any thread.

    `moved(position, records, lag)` hears of every batch, in the calling thread.
    """

    def __init__(
        self,
        bootstrap: str,
        topic: str,
        records: Format,
        processor: Processor,
        moved: Callable[[int, int, int], None],
        *,
        near_records: int = NEAR_RECORDS,
    ) -> None:
        self._bootstrap, self._topic, self._records = bootstrap, topic, records
        self._processor, self._moved = processor, moved
        self._near = near_records
        self._stopping = False

    def stop(self) -> None:
        """Let `run` return after the batch in work."""
        self._stopping = True

    def run(self) -> int:
        """Feed until near the end; the position then. Raises what topic, format and processor raise.

        LogBehindError when the topic ends before the processor's position.
        """
        with open_topic(self._bootstrap, self._topic, self._records) as reader:
            position, _ = self._processor.position()
            while not self._stopping:
                reached, offset = self._pass(reader, position)
                if reached < position:
                    raise LogBehindError(f"{self._topic} ends at {reached}, before position {position}")
                position = reached
                if reader.bounds()[1] - offset <= self._near:
                    break
            return position

    def place(self) -> int:
        """The offset of the record that the processor stands on; the topic's beginning before the first."""
        position, leaf = self._processor.position()
        with open_topic(self._bootstrap, self._topic, self._records) as reader:
            return reader.find(position, leaf) if position else reader.bounds()[0]

    def _pass(self, reader: TopicReader, position: int) -> tuple[int, int]:
        """Everything up to where the topic ends now: the last position, the offset behind it."""
        reached, offset = 0, reader.bounds()[0]
        end = reader.bounds()[1]
        for batch in reader.read(max(1, position), BATCH_RECORDS):
            offset = batch.next_offset
            if batch.records:
                self._processor.process(batch.records)
                reached = batch.records[-1][0]
                self._moved(reached, len(batch.records), max(0, end - offset))
            if self._stopping:
                break
        return (reached, offset) if not self._stopping else (max(reached, position), end)

"""What Kafka knows of a log: the last entry and the last checkpoint in its topics (`streams.fork_guard.Topics`)."""

from streams.topic_checkpoints import CheckpointRecords, read_note
from streams.topic_reader import highest, open_topic
from streams.topic_record import EntryRecords, Format, TopicRecord
from streams.topics import topic_name

ANY_LOG = ""  # whose entries they are shows when they are compared with the store's


class TopicHeads:
    """Asks Kafka anew each time. Raises what the readers raise: TopicUnavailable, RecordRefused, TopicsRefused."""

    def __init__(self, bootstrap: str, book: str) -> None:
        self._bootstrap, self._book = bootstrap, book

    def last_entry(self) -> tuple[int, bytes]:
        """The highest position in the topic of the entries and its leaf hash; (0, b"") when it is empty."""
        last = self._last("entries", EntryRecords(ANY_LOG))
        return (last.position, last.leaf) if last else (0, b"")

    def last_checkpoint(self) -> tuple[int, bytes]:
        """Size and root of the largest head in the topic of the checkpoints; (0, b"") when it is empty."""
        last = self._last("checkpoints", CheckpointRecords(ANY_LOG))
        return (last.position, read_note(last.entry).root) if last else (0, b"")

    def _last(self, suffix: str, records: Format) -> TopicRecord | None:
        with open_topic(self._bootstrap, topic_name(self._book, suffix), records) as reader:
            return highest(reader.last_records())

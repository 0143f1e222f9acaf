"""The one partition of a topic, read by offset with a plain consumer: no group, no commits, no reset by itself."""

from collections.abc import Sequence
from contextlib import suppress
from time import monotonic
from typing import Any, Final, Protocol, Self

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import (
    CorruptRecordError,
    KafkaError,
    LogTruncationError,
    OffsetOutOfRangeError,
    UnsupportedCodecError,
)

from streams.processor import ProcessorError
from streams.topic_record import Raw, RecordRefused
from streams.topics import TopicsRefused

ANSWER_SECONDS: Final = 10.0
FETCH_BYTES: Final = 4_194_304
_POLL_MS: Final = 200
_CLOSE_MS: Final = 1_000


class TopicUnavailable(Exception):
    """Kafka does not answer, or has no such topic. Passes when it is there again."""


class RecordsGone(ProcessorError):
    """The topic does not have any more what it once had: its beginning was deleted, or it is another one."""


class Partition(Protocol):
    """What a reader needs of a topic. Offsets grow, with or without gaps."""

    @property
    def topic(self) -> str:
        """The topic's full name."""
        ...

    def bounds(self) -> tuple[int, int]:
        """The first offset and the one behind the last."""
        ...

    def fetch(self, offset: int, limit: int) -> Sequence[Raw]:
        """1 to `limit` records from `offset` on, in order; none when there are none up to the end."""
        ...

    def close(self) -> None:
        """Give up what it holds."""
        ...


class KafkaPartition:
    """A topic's only partition. For one thread at a time.

    Every method raises TopicUnavailable within about `answer_seconds`, RecordsGone for an offset that is not there any
    more, RecordRefused for a batch that is damaged or packed in a way that is not ours. TopicsRefused when the topic
    has another number of partitions.
    """

    def __init__(self, bootstrap: str, topic: str, *, answer_seconds: float = ANSWER_SECONDS) -> None:
        self.topic = topic
        self._seconds, self._next = answer_seconds, -1
        self._partition = TopicPartition(topic, 0)
        answer_ms = int(answer_seconds * 1000)
        try:
            self._consumer: Any = KafkaConsumer(
                bootstrap_servers=bootstrap.split(","),
                client_id=f"daicho-reader-{topic}",
                group_id=None,
                enable_auto_commit=False,
                auto_offset_reset="none",
                allow_auto_create_topics=False,
                max_partition_fetch_bytes=FETCH_BYTES,
                bootstrap_timeout_ms=answer_ms,
                request_timeout_ms=answer_ms,
                reconnect_backoff_max_ms=500,
                metrics_enabled=False,
            )
        except KafkaError as error:
            raise TopicUnavailable(f"{topic}: {error}") from error
        try:
            self._assign()
        except BaseException:
            self.close()
            raise

    def bounds(self) -> tuple[int, int]:
        """The first offset and the one behind the last."""
        asked, timeout_ms = [self._partition], int(self._seconds * 1000)
        try:
            first = self._consumer.beginning_offsets(asked, timeout_ms=timeout_ms)[self._partition]
            end = self._consumer.end_offsets(asked, timeout_ms=timeout_ms)[self._partition]
        except (KafkaError, KeyError) as error:
            raise TopicUnavailable(f"{self.topic}: {error}") from error
        return first, end

    def fetch(self, offset: int, limit: int) -> Sequence[Raw]:
        """1 to `limit` records from `offset` on, in order; none when there are none up to the end."""
        if offset != self._next:
            self._consumer.seek(self._partition, offset)
            self._next = offset
        deadline = monotonic() + self._seconds
        while True:
            records = self._poll(limit)
            if records:
                self._next = records[-1].offset + 1
                return records
            if self._passed() >= self.bounds()[1]:
                return []
            if monotonic() > deadline:
                raise TopicUnavailable(f"{self.topic}: nothing came within {self._seconds:.0f} s")

    def close(self) -> None:
        """Close the connections."""
        with suppress(KafkaError):
            self._consumer.close(autocommit=False, timeout_ms=_CLOSE_MS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _assign(self) -> None:
        try:
            found = self._consumer.partitions_for_topic(self.topic)
        except KafkaError as error:
            raise TopicUnavailable(f"{self.topic}: {error}") from error
        if not found:
            raise TopicUnavailable(f"{self.topic}: there is no such topic")
        if found != {0}:
            raise TopicsRefused([f"{self.topic}: {len(found)} partitions, must be 1"])
        self._consumer.assign([self._partition])

    def _poll(self, limit: int) -> list[Raw]:
        try:
            polled: dict[Any, list[Raw]] = self._consumer.poll(timeout_ms=_POLL_MS, max_records=limit)
        except (OffsetOutOfRangeError, LogTruncationError) as error:
            raise RecordsGone(f"{self.topic}: there is no offset {self._next} any more") from error
        except (CorruptRecordError, UnsupportedCodecError) as error:
            raise RecordRefused(self.topic, self._passed(), f"cannot be read ({error})") from error
        except KafkaError as error:
            raise TopicUnavailable(f"{self.topic}: {error}") from error
        return polled.get(self._partition, [])

    def _passed(self) -> int:
        """The next offset that the consumer would return: also behind records that are none, as of transactions."""
        try:
            position: int | None = self._consumer.position(self._partition, timeout_ms=int(self._seconds * 1000))
        except KafkaError as error:
            raise TopicUnavailable(f"{self.topic}: {error}") from error
        return self._next if position is None else position

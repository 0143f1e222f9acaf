"""Writing into a topic so that an order once begun is kept: one idempotent producer, bounded, given up at any doubt.

The producer repeats by itself whatever may not have arrived, and never has two batches on the way at once. What it can
not do is go on after a batch was refused for good: the next ones would follow a hole. So the first failure ends it
before it sends anything more, and whoever makes the next one looks at the topic first.
"""

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import Any, Final, NamedTuple

from kafka import KafkaProducer
from kafka.errors import KafkaError

from streams.faults import one_line
from streams.topic_record import Wire

BATCH_BYTES: Final = 524_288  # below every topic's max.message.bytes; the largest entry with its headers fits
MAX_REQUEST_BYTES: Final = 4 * 1024 * 1024  # the largest message of a store's, sealed, and what is around it
MAX_IN_FLIGHT_RECORDS: Final = 2_000
# One batch on its way and one being filled: with a third in the queue every `send` would wake the producer's thread.
MAX_IN_FLIGHT_BYTES: Final = 2 * BATCH_BYTES + BATCH_BYTES // 4
_HEADERS_BYTES: Final = 450  # key, headers and framing of a record, roughly
LINGER_MS: Final = 5
REQUEST_TIMEOUT_MS: Final = 10_000
RECONNECT_MS: Final = 500
KILL_SECONDS: Final = 10.0
_TELL_EVERY: Final = 64  # records; acknowledgements come a batch at a time


class WriteFailed(Exception):
    """A record may have arrived or not: this writer is done for, and the topic has to be looked at."""


class TopicChanged(WriteFailed):
    """The topic does not end where it must: somebody else has written into it, or it is another one now."""


class _Sent(NamedTuple):
    position: int
    leaf: bytes
    size_bytes: int
    future: Any


class TopicWriter:
    """Sends records behind offset `next_offset`, which must be the topic's end. For one thread.

    `on_event` is called from another thread when records have been acknowledged or one has failed. Raises KafkaError
    when Kafka does not answer within `REQUEST_TIMEOUT_MS`.
    """

    def __init__(self, bootstrap: str, topic: str, next_offset: int, on_event: Callable[[], None]) -> None:
        self.next_offset = next_offset
        self._topic, self._on_event = topic, on_event
        self._sent: deque[_Sent] = deque()
        self._bytes, self._number, self._advanced = 0, 0, monotonic()
        self._error: BaseException | None = None
        self._producer: Any = KafkaProducer(
            bootstrap_servers=bootstrap.split(","),
            client_id=f"daicho-relay-{topic}",
            enable_idempotence=True,
            acks="all",
            linger_ms=LINGER_MS,
            batch_size=BATCH_BYTES,
            max_request_size=MAX_REQUEST_BYTES,
            # When this runs out for a batch that was sent once, the producer never completes anything any more.
            delivery_timeout_ms=float("inf"),
            request_timeout_ms=REQUEST_TIMEOUT_MS,
            max_block_ms=REQUEST_TIMEOUT_MS,
            bootstrap_timeout_ms=REQUEST_TIMEOUT_MS,
            reconnect_backoff_max_ms=RECONNECT_MS,
            allow_auto_create_topics=False,
            metrics_enabled=False,
        )

    @property
    def in_flight(self) -> int:
        """Records sent and not yet acknowledged."""
        return len(self._sent)

    def has_room(self, wire: Wire) -> bool:
        """Whether that record may be sent now. One is always let in when there is none."""
        if not self._sent:
            return True
        size_bytes = len(wire.value) + _HEADERS_BYTES
        return len(self._sent) < MAX_IN_FLIGHT_RECORDS and self._bytes + size_bytes <= MAX_IN_FLIGHT_BYTES

    def send(self, position: int, wire: Wire) -> None:
        """Send a record behind the last one. WriteFailed when that cannot even begin."""
        if self._error is not None:
            self._raise()
        if not self._sent:
            self._advanced = monotonic()
        key, value, headers, timestamp_ms, leaf = wire
        try:
            future = self._producer.send(
                self._topic, value=value, key=key, headers=headers, partition=0, timestamp_ms=timestamp_ms
            )
        except (KafkaError, ValueError) as error:
            raise WriteFailed(f"{self._topic} position {position}: {one_line(error)}") from error
        future.add_errback(self._fail)
        self._number += 1
        if self._number % _TELL_EVERY == 0:
            future.add_callback(self._acknowledged)
        size_bytes = len(value) + _HEADERS_BYTES
        self._sent.append(_Sent(position, leaf, size_bytes, future))
        self._bytes += size_bytes

    def end_of_burst(self) -> None:
        """Nothing more is sent for now: `on_event` is called when what was sent last is acknowledged."""
        if self._sent:
            self._sent[-1].future.add_callback(self._acknowledged)

    def collect(self) -> tuple[int, bytes] | None:
        """Position and leaf hash of the last record acknowledged since, or None. WriteFailed, TopicChanged."""
        last = None
        while self._sent and self._sent[0].future.is_done:
            sent = self._sent[0]
            if sent.future.failed():
                self._fail(sent.future.exception)
                self._raise()
            offset = sent.future.value.offset
            if offset not in (self.next_offset, -1):  # -1: it was there already, the answer had been lost
                raise TopicChanged(f"{self._topic}: offset {offset} where {self.next_offset} was due")
            self._sent.popleft()
            self._bytes -= sent.size_bytes
            self.next_offset += 1
            last = (sent.position, sent.leaf)
        if last is not None:
            self._advanced = monotonic()
        return last

    def stalled_seconds(self) -> float:
        """For how long nothing has been acknowledged of what is on its way; 0 when nothing is."""
        return monotonic() - self._advanced if self._sent else 0.0

    def flush(self, timeout_seconds: float) -> None:
        """Wait until everything is acknowledged or failed, at most so long."""
        with suppress(KafkaError):
            self._producer.flush(timeout_seconds)

    def kill(self) -> None:
        """End the producer without sending anything more. WriteFailed when it will not end.

        `close` gives up before it stops the thread as long as something is on its way, and the thread would send that
        as soon as Kafka is back, behind what the next producer has sent. Hence the sender itself is stopped.
        """
        sender = self._producer._sender  # noqa: SLF001 the version is pinned and a test looks whether the thread ends
        sender.force_close()
        sender.join(KILL_SECONDS)
        if sender.is_alive():
            raise WriteFailed(f"{self._topic}: the old producer does not end")
        with suppress(KafkaError):
            self._producer.close(timeout=0)

    def _acknowledged(self, _: object) -> None:
        self._on_event()

    def _fail(self, error: BaseException) -> None:
        """In the producer's thread, before it sends another batch: nothing may follow what is not there."""
        if self._error is None:
            self._error = error
            self._producer._sender.force_close()  # noqa: SLF001 as in `kill`
            self._on_event()

    def _raise(self) -> None:
        error = self._error or RuntimeError("no reason")
        raise WriteFailed(f"{self._topic}: {one_line(error)}") from error

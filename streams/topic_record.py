"""What a record of a topic looks like: the exact bytes as the value, and headers that are derived from them.

A CloudEvents 1.0 event in the binary mode of its Kafka binding, and two headers of ours: `daicho-position` and
`daicho-leaf` (the RFC 6962 leaf hash of the value, hex). All of it follows from the value, so a record whose headers
disagree with its bytes is not one that our relay wrote.
"""

from binascii import hexlify
from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, Final, NamedTuple, NoReturn, Protocol

import msgspec

from domain.entry import MAX_ENTRY_BYTES, Envelope, decode_envelope
from merkle.hashing import leaf_hash
from streams.faults import printable
from streams.processor import ProcessorError

Headers = list[tuple[str, bytes]]
_VERSION: Final = ("ce_specversion", b"1.0")
_JSON: Final = ("content-type", b"application/json")
_OURS: Final = ("ce_", "daicho-", "content-type")


class RecordRefused(ProcessorError):
    """A record of a topic is not one that our relay wrote: foreign, truncated or edited.

    `offset` says where, `rule` which rule it breaks.
    """

    def __init__(self, topic: str, offset: int, rule: str) -> None:
        super().__init__(printable(f"{topic} offset {offset}: {rule}"))
        self.topic, self.offset, self.rule = topic, offset, printable(rule)


class Raw(Protocol):
    """A record as Kafka's client hands it over."""

    topic: str
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]


class TopicRecord(NamedTuple):
    """A record whose headers agree with its bytes: `entry` is the value, `leaf` its RFC 6962 leaf hash."""

    position: int
    entry: bytes
    offset: int
    leaf: bytes


class Wire(NamedTuple):
    """What is handed to Kafka's producer. `timestamp_ms` is the time that the value tells of."""

    key: bytes
    value: bytes
    headers: Headers
    timestamp_ms: int
    leaf: bytes


class Format(Protocol):
    """How the values of one topic are written and read."""

    @property
    def gapless(self) -> bool:
        """Whether each position is one more than the last; else it is only higher."""
        ...

    def encode(self, position: int, item: Any) -> Wire:
        """The record of an item at a position; ValueError when the item says another."""
        ...

    def decode(self, raw: Raw) -> TopicRecord:
        """The record as read; RecordRefused when it is not one of ours."""
        ...


class EntryRecords:
    """Records of entries: of the log, or of the anchor book.

    `origin`: the only log whose entries are accepted; empty for any, while it is not known yet which log it is.
    """

    gapless = True

    def __init__(self, origin: str) -> None:
        self._origin = origin

    def encode(self, position: int, item: bytes) -> Wire:
        """The record of an entry; ValueError when it says another position or is none."""
        envelope = decode_envelope(item)
        if envelope.position != position:
            raise ValueError(f"the entry at position {position} says {envelope.position}")
        leaf = leaf_hash(item)
        key = envelope.aggregate_id.encode()
        return Wire(key, item, _entry_headers(envelope, key, leaf), epoch_ms(envelope.recorded_at), leaf)

    def decode(self, raw: Raw) -> TopicRecord:
        """Check, in this order, or raise RecordRefused.

        1. there is a value, not longer than an entry may be;
        2. it is an entry,
        3. of this log,
        4. at a position;
        5. the key is its aggregate id;
        6. the headers are those that follow from the value.
        """
        value = raw.value
        if value is None or len(value) > MAX_ENTRY_BYTES:  # 1
            refuse(raw, f"no value of at most {MAX_ENTRY_BYTES} bytes")
        try:
            envelope = decode_envelope(value)  # 2
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            refuse(raw, f"not an entry ({error})")
        if self._origin and envelope.log != self._origin:  # 3
            refuse(raw, f"an entry of the log {envelope.log}, not of {self._origin}")
        if envelope.position < 1:  # 4
            refuse(raw, f"an entry at position {envelope.position}")
        key = envelope.aggregate_id.encode()
        if raw.key != key:  # 5
            refuse(raw, "the key is not the entry's aggregate id")
        leaf = leaf_hash(value)
        require_headers(raw, _entry_headers(envelope, key, leaf))  # 6
        return TopicRecord(envelope.position, value, raw.offset, leaf)


def epoch_ms(recorded_at: str) -> int:
    """Milliseconds since 1970 of a time as entries and checkpoints spell it; ValueError when it is none."""
    return int(datetime.fromisoformat(recorded_at).timestamp() * 1000)


def require_headers(raw: Raw, wanted: Headers) -> None:
    """RecordRefused unless the record has exactly these headers; those of other names are nobody's business."""
    if raw.headers == wanted:
        return
    ours = [(name, value) for name, value in raw.headers if name.startswith(_OURS)]
    if ours == wanted:
        return
    names = [name for name, _ in ours]
    for name, value in wanted:
        if names.count(name) != 1:
            refuse(raw, f"the header {name} is there {names.count(name)} times")
        if (name, value) not in ours:
            refuse(raw, f"the header {name} is not that of these bytes")
    if len(ours) != len(wanted):
        refuse(raw, f"a header of a name of ours: {next(name for name in names if name not in dict(wanted))}")
    refuse(raw, "the headers are in another order")


def refuse(raw: Raw, rule: str) -> NoReturn:
    """Raise RecordRefused for this record."""
    raise RecordRefused(raw.topic, raw.offset, rule) from None


def _entry_headers(entry: Envelope, key: bytes, leaf: bytes) -> Headers:
    return [
        _VERSION,
        ("ce_id", entry.id.encode()),
        _source(entry.log),
        _type(entry.type, entry.v),
        ("ce_subject", key),
        ("ce_time", entry.recorded_at.encode()),
        _JSON,
        ("daicho-position", b"%d" % entry.position),
        ("daicho-leaf", hexlify(leaf)),
    ]


@lru_cache(maxsize=16)
def _source(log: str) -> tuple[str, bytes]:
    """Nearly always the same; asked for with each record."""
    return ("ce_source", log.encode())


@lru_cache(maxsize=256)
def _type(name: str, version: int) -> tuple[str, bytes]:
    """One of few; asked for with each record."""
    return ("ce_type", f"daicho.{name}.v{version}".encode())

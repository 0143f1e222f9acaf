"""The archive as a topic: rows of the inbox as records, and the inbox as the relay reads it."""

import hashlib
import json
from typing import Final, Protocol

from merkle.hashing import leaf_hash
from storage.archive import MAX_RECORD_BYTES, decode_parcel, encode_parcel
from storage.parcels import StoredParcel
from streams.topic_reader import TopicLog
from streams.topic_record import Headers, Raw, TopicRecord, Wire, refuse, require_headers

_TYPE: Final = b"daicho.Notification.v1"


class Inbox(Protocol):
    """`storage.parcels.SqliteParcels`."""

    def head(self) -> int: ...
    def read(self, start: int, limit: int) -> list[StoredParcel]: ...


class InboxFeed:
    """The inbox as a feed: its own gapless numbers are the positions."""

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox

    def head(self) -> int:
        """The last number."""
        return self._inbox.head()

    def read(self, start: int, limit: int) -> list[tuple[int, StoredParcel]]:
        """At most `limit` rows from a number on, ascending."""
        return [(row.number, row) for row in self._inbox.read(start, limit)]


class ParcelRecords:
    """Records of the notifications topic: the position is the number in the inbox, the key its owner."""

    gapless = True

    def encode(self, position: int, item: StoredParcel) -> Wire:
        """The record of a row; ValueError when it says another number."""
        if item.number != position:
            raise ValueError(f"the row at number {position} says {item.number}")
        value = encode_parcel(item)
        leaf = leaf_hash(value)
        return Wire(item.owner.encode(), value, _headers(item, leaf), _received_at(item), leaf)

    def decode(self, raw: Raw) -> TopicRecord:
        """Check, in this order, or raise RecordRefused.

        1. there is a value, not longer than a record may be;
        2. it is a row of the inbox,
        3. whose hash is that of its ciphertext;
        4. the key is its owner;
        5. the headers are those that follow from the value.
        """
        value = raw.value
        if value is None or len(value) > MAX_RECORD_BYTES:  # 1
            refuse(raw, f"no value of at most {MAX_RECORD_BYTES} bytes")
        try:
            row = decode_parcel(value)  # 2
        except ValueError as error:
            refuse(raw, str(error))
        if hashlib.sha256(row.sealed).hexdigest() != row.payload:  # 3
            refuse(raw, "the ciphertext has another hash")
        if raw.key != row.owner.encode():  # 4
            refuse(raw, "the key is not the owner")
        leaf = leaf_hash(value)
        require_headers(raw, _headers(row, leaf))  # 5
        return TopicRecord(row.number, value, raw.offset, leaf)


class TopicArchive:
    """The topic as an archive to read: `storage.archive.SegmentArchive` without `append`, which the relay does."""

    def __init__(self, log: TopicLog) -> None:
        self._log = log

    def head(self) -> int:
        """The number of the last record, 0 in an empty archive."""
        return self._log.head()

    def read(self, start: int, limit: int) -> list[StoredParcel]:
        """At most so many rows from a number on, ascending."""
        return [decode_parcel(value) for _, value in self._log.read(start, limit)]

    def close(self) -> None:
        """Close the reader."""
        self._log.close()


def _headers(row: StoredParcel, leaf: bytes) -> Headers:
    return [
        ("ce_specversion", b"1.0"),
        ("ce_id", row.payload.encode()),
        ("ce_source", b"daicho/inbox"),
        ("ce_type", _TYPE),
        ("ce_subject", row.owner.encode()),
        ("content-type", b"application/vnd.msgpack"),
        ("daicho-position", b"%d" % row.number),
        ("daicho-entry", b"%d" % row.position),
        ("daicho-leaf", leaf.hex().encode()),
    ]


def _received_at(row: StoredParcel) -> int:
    """When it came, as its headers say; Kafka wants a time of each record."""
    found = json.loads(row.headers or b"{}").get("received_at")
    return found if type(found) is int and found >= 0 else 0

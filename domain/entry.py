"""The entry format: one event as canonical JSON bytes, encoded once (docs/entry.md).

The same bytes are the stored state, the record on the topic, the Merkle leaf and the exported line. The profile is
RFC 8785 (JSON Canonicalization Scheme) restricted to sorted ASCII keys, UTF-8, strings, booleans, null and integers
below 2^53: in that profile msgspec's sorted encoding and RFC 8785 agree byte for byte.
"""

import hashlib
import re
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final

import msgspec

from domain.errors import EntryTooLarge
from merkle.hashing import leaf_hash

MAX_ENTRY_BYTES: Final = 65_535  # C2SP tlog-tiles: an entry bundle prefixes each entry with a uint16 length
_LINE_NUMBER: Final = re.compile(r"(?:0|[1-9][0-9]{0,7})\Z")
_UUID7_KEY: Final = re.compile(r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-7.{3}-.{4}-.{12}\Z", re.DOTALL)
_STEM_DIGITS: Final = 56  # of 64, the other 8 are the line's number
_REMEMBERED_STEMS: Final = 1_024
_AFTER_TIME_DIGITS: Final = 52  # of 64, the other 12 are the UUIDv7's milliseconds
_encode = msgspec.json.Encoder(order="sorted").encode


def canonical(value: Any) -> bytes:
    """Canonical JSON bytes of a value of the profile (never of a float)."""
    return _encode(value)


class Actor(msgspec.Struct, frozen=True):
    """Who acted: a company's code ("" for the operator) and a user's pseudonym (32 hex digits)."""

    company: str
    subject: str

    @property
    def is_operator(self) -> bool:
        """True for the operator of the ledger, who belongs to no company."""
        return not self.company


class CommandRef(msgspec.Struct, frozen=True):
    """Which command caused it: hash of its body and salted hash of its key, 64 hex digits each."""

    body: str
    key: str


class Entry(msgspec.Struct, dict=True):
    """Draft and final form in one. The library takes it for its StoredEvent: id, version, topic and state.

    `log`, `position` and `recorded_at` are set by `seal`, under the write lock.
    """

    actor: Actor
    aggregate: str
    aggregate_id: str
    command: CommandRef
    data: Any
    id: str
    log: str
    position: int
    recorded_at: str
    salt: str
    type: str
    v: int
    version: int

    @property
    def originator_id(self) -> str:
        """Library's name for the aggregate id."""
        return self.aggregate_id

    @property
    def originator_version(self) -> int:
        """Library's name for the aggregate's version."""
        return self.version

    @property
    def topic(self) -> str:
        """Library's name for the event type."""
        return self.type

    def seal(self, log: str, position: int, recorded_at: str) -> bytes:
        """Complete the entry and return its bytes; EntryTooLarge when they are too many.

        May be called again with other values: the last sealing counts.
        """
        self.log, self.position, self.recorded_at = log, position, recorded_at
        state = _encode(self)
        if len(state) > MAX_ENTRY_BYTES:
            raise EntryTooLarge(
                f"the entry would have {len(state)} bytes, at most {MAX_ENTRY_BYTES} are allowed",
                field="$",
                rule=f"at most {MAX_ENTRY_BYTES} bytes",
                size_bytes=len(state),
            )
        self.state = state
        return state


class Envelope(msgspec.Struct):
    """What every reader needs of a stored entry; `data` stays undecoded bytes."""

    actor: Actor
    aggregate: str
    aggregate_id: str
    command: CommandRef
    data: msgspec.Raw
    id: str
    log: str
    position: int
    recorded_at: str
    salt: str
    type: str
    v: int
    version: int


class Stamp(msgspec.Struct):
    """The narrow part of an entry that says where and when it stands."""

    log: str
    position: int
    recorded_at: str


decode_envelope = msgspec.json.Decoder(Envelope).decode
decode_stamp = msgspec.json.Decoder(Stamp).decode


def entry_leaf_hash(state: bytes) -> bytes:
    """RFC 6962 section 2.1 leaf hash of an entry's bytes, 32 bytes."""
    return leaf_hash(state)


def format_time(moment: datetime) -> str:
    """The one time format of entries: UTC, microseconds, `Z`."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parse_time(text: str) -> datetime:
    """The moment that `format_time` wrote."""
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC)


def command_key_hash(origin: str, actor: Actor, key: str) -> str:
    """The salted hash of a command key, 64 hex digits: unique per (company, subject), unguessable from the outside.

    A key of the form `<stem>:<line>` (a line of a bulk) keeps its line number in clear behind the hash of its stem, and
    a UUIDv7 keeps its 48-bit time in front: neighbours in time stay neighbours in the index (random keys cost a page
    write each), and nothing is told that the entry does not tell anyway.
    """
    stem, colon, line = key.rpartition(":")
    if colon and _LINE_NUMBER.match(line):
        return f"{_stem_hash(origin, actor, stem)}{int(line):08x}"
    return _whole_key_hash(origin, actor, key)


@lru_cache(maxsize=_REMEMBERED_STEMS)
def _stem_hash(origin: str, actor: Actor, stem: str) -> str:
    """Asked for once a line of a bulk, always with the same values."""
    return _whole_key_hash(origin, actor, stem)[:_STEM_DIGITS]


def _whole_key_hash(origin: str, actor: Actor, key: str) -> str:
    digest = hashlib.sha256(_encode(["daicho command key", origin, actor.company, actor.subject, key])).hexdigest()
    if _UUID7_KEY.match(key):
        return (key[:8] + key[9:13]).lower() + digest[:_AFTER_TIME_DIGITS]
    return digest


def body_hash(body: bytes) -> str:
    """SHA-256 of a command's canonical body, 64 hex digits."""
    return hashlib.sha256(body).hexdigest()

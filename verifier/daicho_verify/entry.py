"""Log entries: their canonical bytes, their envelope, and the shape of every event type this version knows."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from daicho_verify import jsontext
from daicho_verify.errors import DisagreesError, MalformedError
from daicho_verify.jsontext import Fields
from daicho_verify.merkle import leaf_hash

MAX_ENTRY_BYTES = 65_535
_ENVELOPE = (
    *("actor", "aggregate", "aggregate_id", "command", "data", "id", "log"),
    *("position", "recorded_at", "salt", "type", "v", "version"),
)
_UUID = r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_HEX64 = r"[0-9a-f]{64}"
_TIME = r"[0-9]{4}(-[0-9]{2}){2}T[0-9]{2}(:[0-9]{2}){2}\.[0-9]{6}Z"
_MAX_LINES = 10_000


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of the log; `known` says whether this version may interpret `data`."""

    raw: bytes
    origin: str
    position: int
    type: str
    aggregate_id: str
    version: int
    recorded_at: str
    data: Mapping[str, object]
    known: bool

    @property
    def leaf(self) -> bytes:
        """The leaf hash of the entry's bytes."""
        return leaf_hash(self.raw)


def micros(time: str) -> int:
    """Give the microseconds since 1970 of a time in the entry's format; raises ValueError."""
    moment = datetime.strptime(time, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC)
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def _money(data: Fields, key: str) -> None:
    money = Fields(data.get(key), data.at(key), ("currency", "units"))
    money.text("currency", r"[A-Z]{3}", "three capital letters")
    money.text("units", r"0|[1-9][0-9]{0,76}", "a decimal integer without leading zeros")


def _lines(data: Fields, key: str) -> None:
    for i, item in enumerate(data.items(key, _MAX_LINES)):
        line = Fields(item, f"{data.at(key)}[{i}]", ("item", "quantity", "unit_price"))
        for name in ("item", "quantity", "unit_price"):
            line.text(name)


def _attachments(data: Fields, key: str) -> None:
    for i, item in enumerate(data.items(key, _MAX_LINES)):
        attachment = Fields(item, f"{data.at(key)}[{i}]", ("name", "sha256"))
        attachment.text("name")
        attachment.text("sha256", _HEX64, "64 lower-case hexadecimal digits")


def _previous(data: Fields, key: str) -> None:
    if data.get(key) is not None:
        head = Fields(data.get(key), data.at(key), ("origin", "size", "root"))
        head.text("origin")
        head.integer("size")
        head.text("root")


def _single(data: Fields, key: str) -> None:
    own = Fields(data.get(key), data.at(key), ("address", "deadline", "nonce", "value", "wallet"))
    own.hex("address", 20)
    own.integer("deadline")
    own.hex("nonce", 32)
    own.hex("value", 65)
    own.text("wallet", _UUID, "a lower-case UUID")


def _signature(data: Fields, key: str) -> None:
    value = data.get(key)
    if not isinstance(value, dict) or "batch" not in value:
        _single(data, key)
        return
    batch = Fields(value, data.at(key), ("batch", "index", "wallet"))
    batch.text("batch", _UUID, "a lower-case UUID")
    batch.integer("index")
    batch.text("wallet", _UUID, "a lower-case UUID")


_KINDS: Mapping[str, Callable[[Fields, str], object]] = {
    "text": lambda data, key: data.text(key),
    "integer": lambda data, key: data.integer(key),
    "address": lambda data, key: data.hex(key, 20),
    "hash": lambda data, key: data.text(key, _HEX64, "64 lower-case hexadecimal digits"),
    "uuid": lambda data, key: data.text(key, _UUID, "a lower-case UUID"),
    "custody": lambda data, key: data.text(key, "custodial|own", "custodial or own"),
    "money": _money,
    "lines": _lines,
    "attachments": _attachments,
    "previous": _previous,
    "single": _single,
    "signature": _signature,
}

_BY = {"by": "text", "digest": "hash", "signature": "signature"}
_BY_REASON = {**_BY, "reason": "text"}
_BY_AMOUNT = {**_BY, "amount": "money", "settled_on": "text"}
_TERMS = {
    **dict.fromkeys(("seller", "buyer", "recorded_by", "traded_on", "due_on", "description", "reference"), "text"),
    "amount": "money",
    "lines": "lines",
}
_WALLET_OPENED = {
    "subject": "text",
    "company": "text",
    "address": "address",
    "custody": "custody",
    "signature": "single",
}
_ROTATED = {"old": "address", "new": "address", "signature": "single", "new_signature": "single"}
_BATCH = {"wallet": "uuid", "company": "text", "root": "hash", "count": "integer", "signature": "single"}
_BOOK = {
    "chain_id": "integer",
    "contract": "address",
    "log_key": "text",
    "promise_key": "text",
    "previous": "previous",
}

# event type -> (aggregate, kind of each field of `data`)
SHAPES: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "BookOpened": ("Book", _BOOK),
    "CompanyRegistered": ("Company", {"code": "text", "name": "text"}),
    "CompanySuspended": ("Company", {"code": "text", "reason": "text"}),
    "CompanyResumed": ("Company", {"code": "text", "reason": "text"}),
    "WalletOpened": ("Wallet", _WALLET_OPENED),
    "WalletKeyRotated": ("Wallet", _ROTATED),
    "WalletFrozen": ("Wallet", {"reason": "text"}),
    "WalletUnfrozen": ("Wallet", {"reason": "text"}),
    "WalletClosed": ("Wallet", {"reason": "text"}),
    "BatchSigned": ("Batch", _BATCH),
    "TradeRecorded": ("Trade", {**_TERMS, "digest": "hash", "signature": "signature"}),
    "TradeConfirmed": ("Trade", _BY),
    "TradeDisputed": ("Trade", _BY_REASON),
    "TradeDisputeWithdrawn": ("Trade", _BY_REASON),
    "TradeSettlementProposed": ("Trade", _BY_AMOUNT),
    "TradeSettled": ("Trade", _BY_AMOUNT),
    "TradeReversalProposed": ("Trade", _BY_REASON),
    "TradeReversed": ("Trade", _BY_REASON),
    "TradeNoteAdded": ("Trade", {**_BY, "note": "text", "attachments": "attachments"}),
}


def _check_safe_integers(value: object) -> None:
    if type(value) is int and abs(value) > jsontext.MAX_SAFE_INT:
        raise MalformedError("entry", "holds an integer of 2^53 or more")
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for child in children:
        _check_safe_integers(child)


def _envelope(raw: bytes, value: object) -> Entry:
    """Check the fields that every entry has, and `data` where the type is known; raises MalformedError."""
    fields = Fields(value, "entry", _ENVELOPE)
    actor = Fields(fields.get("actor"), "entry.actor", ("company", "subject"))
    actor.text("company")
    actor.text("subject")
    command = Fields(fields.get("command"), "entry.command", ("body", "key"))
    command.text("body", _HEX64, "64 lower-case hexadecimal digits")
    command.text("key", _HEX64, "64 lower-case hexadecimal digits")
    fields.text("id", _UUID, "a lower-case UUID")
    fields.text("salt", r"[0-9a-f]{32}", "32 lower-case hexadecimal digits")
    recorded_at = fields.text("recorded_at", _TIME, "a UTC time with six decimals")
    try:
        micros(recorded_at)
    except ValueError:
        raise MalformedError("entry.recorded_at", "must be a time that exists") from None
    kind, aggregate = fields.text("type"), fields.text("aggregate")
    data = fields.get("data")
    known = fields.integer("v", 1) == 1 and kind in SHAPES
    if not isinstance(data, dict):
        raise MalformedError("entry.data", "must be an object")
    if known:
        expected_aggregate, shape = SHAPES[kind]
        if aggregate != expected_aggregate:
            raise MalformedError("entry.aggregate", f"must be {expected_aggregate} for a {kind}")
        data_fields = Fields(data, "entry.data", shape)
        for name, field_kind in shape.items():
            _KINDS[field_kind](data_fields, name)
    return Entry(
        raw,
        fields.text("log"),
        fields.integer("position", 1, jsontext.MAX_SAFE_INT),
        kind,
        fields.text("aggregate_id", _UUID, "a lower-case UUID"),
        fields.integer("version", 1),
        recorded_at,
        data,
        known,
    )


def parse_entry(raw: bytes, position: int, origin: str) -> Entry:
    """Check the bytes of the entry at `position` (1-based) of log `origin`; raises DisagreesError.

    Size, strict JSON without duplicate keys, bytes equal to their canonical form, every field of the envelope, the
    shape of `data` for known types, position and origin as expected.
    """
    if len(raw) > MAX_ENTRY_BYTES:
        raise DisagreesError(f"the entry has {len(raw)} bytes, more than {MAX_ENTRY_BYTES}")
    try:
        value = jsontext.parse(raw, "entry")
        _check_safe_integers(value)
        entry = _envelope(raw, value)
    except MalformedError as error:
        raise DisagreesError(str(error)) from None
    if jsontext.canonical(value) != raw or not _keys(value).isascii():
        raise DisagreesError("the entry's bytes are not their own canonical form")
    if entry.position != position:
        raise DisagreesError(f"the entry says position {entry.position}, the proof is for {position}")
    if entry.origin != origin:
        raise DisagreesError(f"the entry belongs to the log {entry.origin}, not to {origin}")
    return entry


def _keys(value: object) -> str:
    """Join all object keys: they must be ASCII, or sorting by code point would not be RFC 8785's order."""
    if isinstance(value, dict):
        return "".join(key + _keys(child) for key, child in value.items())
    return "".join(_keys(child) for child in value) if isinstance(value, list) else ""

"""What an anchor lane tells: one frozen class an event, kept as JSON in the outbox until it is acknowledged."""

import json
from dataclasses import asdict, dataclass, fields
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneEvent:
    """`seq` grows along the lane and names the event for `acknowledge`; hashes are 32 bytes, times Unix seconds."""

    seq: int
    size: int
    root: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Submitted(LaneEvent):
    """A transaction for this head is signed, stored and on its way. `previous_size` is the anchored size before."""

    tx_hash: bytes
    nonce: int
    previous_size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Replaced(LaneEvent):
    """The nonce's transaction was replaced by a dearer one, maybe for a newer head."""

    tx_hash: bytes
    nonce: int
    previous_size: int
    replaced_tx_hash: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Mined(LaneEvent):
    """The anchor is in a block that may still go away. `log_index` is that of its Anchored event in the block."""

    tx_hash: bytes
    nonce: int
    block_number: int
    block_hash: bytes
    log_index: int
    block_time: int
    gas_used: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Final(LaneEvent):
    """The anchor's block is final by the lane's rule."""

    tx_hash: bytes
    nonce: int
    block_number: int
    block_hash: bytes
    log_index: int
    block_time: int
    gas_used: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Returned(LaneEvent):
    """The block of a mined or final anchor is no longer part of the chain; the anchor is pending again."""

    tx_hash: bytes
    nonce: int
    block_number: int
    block_hash: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed(LaneEvent):
    """The nonce is used up without this anchor: the transaction reverted, or a foreign one took its place."""

    nonce: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Forked(LaneEvent):
    """The contract holds a head that this log never had. The lane stands still. `size` and `root` are the contract's.

    `own_size` is the log's size now, `own_root` its root at the contract's size, empty when it never got that far.
    """

    own_size: int
    own_root: bytes


KINDS: dict[str, type[LaneEvent]] = {
    kind.__name__: kind for kind in (Submitted, Replaced, Mined, Final, Returned, Failed, Forked)
}


def encode(event: LaneEvent) -> tuple[str, str]:
    """Kind and JSON body without the sequence number, which the outbox gives."""
    values = {name: _plain(value) for name, value in asdict(event).items() if name != "seq"}
    return type(event).__name__, json.dumps(values)


def decode(seq: int, kind: str, body: str) -> LaneEvent:
    """The event of an outbox row."""
    wanted = KINDS[kind]
    stored = json.loads(body)
    values: dict[str, Any] = {"seq": seq}
    for field in fields(wanted):
        if field.name != "seq":
            value = stored[field.name]
            values[field.name] = bytes.fromhex(value) if field.type is bytes else value
    return wanted(**values)


def _plain(value: Any) -> Any:
    return value.hex() if isinstance(value, bytes) else value

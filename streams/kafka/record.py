"""A record as Faust hands it over, in the shape that our formats read."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(slots=True)
class FaustRecord:
    """streams.topic_record.Raw."""

    topic: str
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]


def of_message(message: Any) -> FaustRecord:
    """The record of a Faust message."""
    headers = message.headers or ()
    pairs = headers.items() if isinstance(headers, dict) else headers
    return FaustRecord(message.topic, message.offset, message.key, message.value, [(n, v) for n, v in pairs])

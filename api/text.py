"""Small spellings that every part of the API shares: JSON out, base64, class names in problems."""

import base64
import re
from typing import Any, Final

import msgspec

MAX_QUOTED_CHARACTERS: Final = 200
_CAPITAL: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_encoder = msgspec.json.Encoder(enc_hook=str)


def json_bytes(value: Any) -> bytes:
    """Compact JSON; what JSON does not know is written as text."""
    return _encoder.encode(value)


def b64(data: bytes) -> str:
    """Standard base64 with padding."""
    return base64.b64encode(data).decode()


def kebab(name: str) -> str:
    """A class name in lower case with hyphens."""
    return _CAPITAL.sub("-", name).lower()


def quoted(text: str) -> str:
    """What a caller sent, short enough to be sent back."""
    return text if len(text) <= MAX_QUOTED_CHARACTERS else f"{text[:MAX_QUOTED_CHARACTERS]}…"

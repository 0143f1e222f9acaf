"""Fields of a rightly signed message, read leniently: what is of another type than documented counts as absent."""

import re
from typing import Any, Final

Fields = dict[str, Any]
TEXT_LIMIT: Final = 256  # of `domain.store_notification.StoreText`
_MAX_DIGITS: Final = 15
_PRINTABLE: Final = re.compile(r"[\x21-\x7e]+\Z")


def object_of(fields: Fields, name: str) -> Fields:
    """An object; an empty one for anything else."""
    value = fields.get(name)
    return value if isinstance(value, dict) else {}


def text_of(fields: Fields, name: str) -> str | None:
    """An identifier or a name: printable ASCII without spaces, at most TEXT_LIMIT characters."""
    value = token_of(fields, name)
    return value if value is not None and len(value) <= TEXT_LIMIT else None


def token_of(fields: Fields, name: str) -> str | None:
    """The same of any length: only what is kept hashed or encrypted may be so long."""
    value = fields.get(name)
    return value if isinstance(value, str) and _PRINTABLE.match(value) else None


def integer_of(fields: Fields, name: str) -> int | None:
    """An integer that JSON carries without loss (RFC 8259 section 6)."""
    value = fields.get(name)
    return value if type(value) is int and abs(value) < 2**53 else None


def digits_of(text: str) -> int | None:
    """A number that is written in digits; None for what is none, or is out of all proportion."""
    if not text.isascii() or not text.isdigit() or len(text) > _MAX_DIGITS:
        return None
    return int(text)


def long_of(value: Any) -> int | None:
    """A long, which Google writes as a text or as a number; None for anything else."""
    if isinstance(value, str):
        return digits_of(value)
    return value if type(value) is int and 0 <= value < 2**53 else None

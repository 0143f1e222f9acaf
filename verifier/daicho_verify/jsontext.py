"""Strict JSON: no duplicate keys, no floats, bounded numbers and depth; and the canonical form (RFC 8785 subset)."""

import base64
import binascii
import json
import re
from collections import Counter
from collections.abc import Collection, Iterable
from typing import NoReturn

from daicho_verify.errors import MalformedError
from daicho_verify.merkle import HASH_BYTES

MAX_INT = 2**63 - 1
MAX_SAFE_INT = 2**53 - 1
MAX_DEPTH = 32
MAX_PROOF_HASHES = 64
_MAX_DIGITS = 20
_MAX_TEXT = 1 << 20
# An unterminated string counts to the end of the text, so that each byte is looked at once only.
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)', re.DOTALL)
_BRACKET = re.compile(rb"[\[\]{}]")


class _RuleError(ValueError):
    """A rule of ours that the JSON text breaks."""


def _pairs(pairs: list[tuple[str, object]]) -> dict[str, object]:
    result = dict(pairs)
    if len(result) != len(pairs):
        twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise _RuleError(f"has the key {twice!a} twice")
    return result


def _integer(text: str) -> int:
    if len(text) > _MAX_DIGITS:
        raise _RuleError("holds a number of more than 20 characters")
    return int(text)


def _refuse_float(text: str) -> NoReturn:
    raise _RuleError(f"holds {text[:40]}, which is not an integer")


def _check_depth(data: bytes) -> None:
    """Refuse deep nesting before the parser sees it: its recursion could exhaust the stack and end the process."""
    depth = 0
    for bracket in _BRACKET.finditer(_STRING.sub(b"", data)):
        depth += 1 if bracket[0] in b"[{" else -1
        if depth > MAX_DEPTH:
            raise _RuleError("is nested too deeply")


def _check_text(value: object) -> None:
    """Refuse lone surrogates, which no UTF-8 can hold: UnicodeEncodeError."""
    if isinstance(value, str):
        value.encode()
    elif isinstance(value, list):
        for item in value:
            _check_text(item)
    elif isinstance(value, dict):
        for key, item in value.items():
            key.encode()
            _check_text(item)


def parse(data: bytes, field: str) -> object:
    """Parse one JSON text; raises MalformedError naming `field` and the broken rule."""
    try:
        _check_depth(data)
        value: object = json.loads(
            data.decode(),
            object_pairs_hook=_pairs,
            parse_int=_integer,
            parse_float=_refuse_float,
            parse_constant=_refuse_float,
        )
        _check_text(value)
    except _RuleError as error:
        raise MalformedError(field, str(error)) from None
    except UnicodeError:
        raise MalformedError(field, "must be UTF-8 without lone surrogates") from None
    except ValueError as error:
        raise MalformedError(field, f"must be one whole JSON text ({error})") from None
    return value


def canonical(value: object) -> bytes:
    """Encode as canonical JSON: keys sorted, no spaces, UTF-8 unescaped (RFC 8785 for ASCII keys and integers)."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


class Fields:
    """One JSON object whose fields are taken by name and kind; every refusal names the path and the rule."""

    def __init__(self, value: object, path: str, keys: Collection[str], optional: Collection[str] = ()) -> None:
        whole = path or "evidence"
        if not isinstance(value, dict):
            raise MalformedError(whole, "must be an object")
        missing = sorted(set(keys) - value.keys())
        unknown = sorted(value.keys() - set(keys) - set(optional))
        if missing:
            raise MalformedError(whole, f"lacks the field {missing[0]!r}")
        if unknown:
            raise MalformedError(whole, f"has the unknown field {unknown[0][:80]!a}")
        self._value: dict[str, object] = value
        self.path = path

    def at(self, key: str) -> str:
        """Give the path of a field, for messages."""
        return f"{self.path}.{key}" if self.path else key

    def get(self, key: str) -> object:
        """Give a field as it is; None when it is absent."""
        return self._value.get(key)

    def text(self, key: str, pattern: str | None = None, rule: str = "", most: int = _MAX_TEXT) -> str:
        """Give a string of at most `most` characters that matches `pattern` wholly."""
        value = self.get(key)
        if not isinstance(value, str):
            raise MalformedError(self.at(key), "must be a string")
        if len(value) > most:
            raise MalformedError(self.at(key), f"must have at most {most} characters")
        if pattern is not None and not re.fullmatch(pattern, value):
            raise MalformedError(self.at(key), f"must be {rule}")
        return value

    def integer(self, key: str, low: int = 0, high: int = MAX_INT) -> int:
        """Give an integer between `low` and `high`, both included."""
        value = self.get(key)
        if type(value) is not int:
            raise MalformedError(self.at(key), "must be an integer")
        if not low <= value <= high:
            raise MalformedError(self.at(key), f"must be between {low} and {high}")
        return value

    def flag(self, key: str) -> bool:
        """Give a boolean."""
        value = self.get(key)
        if not isinstance(value, bool):
            raise MalformedError(self.at(key), "must be true or false")
        return value

    def items(self, key: str, most: int) -> list[object]:
        """Give a list of at most `most` items."""
        value = self.get(key)
        if not isinstance(value, list):
            raise MalformedError(self.at(key), "must be a list")
        if len(value) > most:
            raise MalformedError(self.at(key), f"must have at most {most} items")
        return value

    def base64(self, key: str) -> bytes:
        """Give the bytes of a base64 string."""
        return decode_base64(self.text(key, most=_MAX_TEXT), self.at(key))

    def hash(self, key: str) -> bytes:
        """Give a 32-byte hash from base64."""
        return _hash(self.base64(key), self.at(key))

    def hashes(self, key: str) -> tuple[bytes, ...]:
        """Give a proof: base64 hashes of 32 bytes each, at most 64 of them."""
        return tuple(_hash_items(self.items(key, MAX_PROOF_HASHES), self.at(key)))

    def hex(self, key: str, size_bytes: int) -> bytes:
        """Give the bytes of a 0x-hex string of exactly `size_bytes`."""
        rule = f"0x and {2 * size_bytes} hexadecimal digits"
        return bytes.fromhex(self.text(key, f"0x[0-9a-fA-F]{{{2 * size_bytes}}}", rule)[2:])


def _hash(value: bytes, path: str) -> bytes:
    if len(value) != HASH_BYTES:
        raise MalformedError(path, f"must be a hash of 32 bytes, has {len(value)}")
    return value


def _hash_items(items: Iterable[object], path: str) -> Iterable[bytes]:
    for i, item in enumerate(items):
        if not isinstance(item, str):
            raise MalformedError(f"{path}[{i}]", "must be a string")
        yield _hash(decode_base64(item, f"{path}[{i}]"), f"{path}[{i}]")


def decode_base64(text: str, path: str) -> bytes:
    """Decode strict base64: standard alphabet, padded, one form only (RFC 4648 section 3.5)."""
    try:
        value = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise MalformedError(path, "must be base64") from None
    if base64.b64encode(value).decode() != text:
        raise MalformedError(path, "must be base64 in its one canonical form")
    return value

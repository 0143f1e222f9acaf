r"""Strict JSON: bytes to a msgspec struct, or Malformed naming the field and the rule. Duplicate keys are refused.

msgspec refuses unknown fields, wrong types and bad UTF-8 but lets the last of two equal keys win. Two keys would let
what a client signed differ from what it reads, so they are looked for in two steps:

1. quick and exact: without `\u` escapes, the body holds as many quotation marks as its value written canonically
   without defaults if and only if it says each thing once (every further key adds two at least);
2. otherwise slowly: parse it with Python's json and look at every object's keys.
"""

import json
import re
from collections.abc import Mapping
from typing import Any, Final, Generic, TypeVar

import msgspec

from api.text import quoted
from domain.commands import Command
from domain.errors import Malformed

T = TypeVar("T", bound=msgspec.Struct)
C = TypeVar("C", bound=Command)
_encode: Final = msgspec.json.Encoder().encode
_NAMED: Final = re.compile(r"`([^`]{1,100})`")
_WORD: Final = re.compile(r"[a-z_]+")
_QUOTE: Final = b'"'


class Strict(Generic[T]):
    """Decodes one type of body, a struct or a union of them."""

    def __init__(self, kind: Any) -> None:
        self._decode = msgspec.json.Decoder(kind).decode

    def decode(self, raw: bytes) -> T:
        """The value. Raises Malformed."""
        value = self.read(raw)
        if b"\\u" in raw or raw.count(_QUOTE) != _encode(value).count(_QUOTE) - _unsaid(value):
            refuse_duplicates(raw)
        return value

    def read(self, raw: bytes) -> T:
        """The value, not yet looked through for duplicate keys. Raises Malformed."""
        try:
            value: T = self._decode(raw)
        except (ValueError, RecursionError, OverflowError) as error:
            raise malformed(error) from None
        return value


def require_distinct_keys(raw: bytes, command: Command, canonical: bytes) -> None:
    """Raise Malformed when a command's text has a key twice; `canonical` is its `body_bytes`."""
    if b"\\u" in raw or raw.count(_QUOTE) != canonical.count(_QUOTE) - _unsaid(command):
        refuse_duplicates(raw)


def body_type(command: type[Command], *from_path: str) -> type[msgspec.Struct]:
    """The type of a command's body: its fields without its name and those that the path gives."""
    fields: list[Any] = []
    for field in msgspec.structs.fields(command):
        if field.name in from_path:
            continue
        default = field.default
        fields.append((field.name, field.type) if default is msgspec.NODEFAULT else (field.name, field.type, default))
    return msgspec.defstruct(
        f"{command.__name__}Body",
        fields,
        namespace={"__doc__": command.__doc__},
        frozen=True,
        kw_only=True,
        forbid_unknown_fields=True,
        omit_defaults=True,
    )


class CommandBody(Generic[C]):
    """Decodes the body of one command; the path's part of it is given beside."""

    def __init__(self, command: type[C], *from_path: str) -> None:
        self.kind = body_type(command, *from_path)
        self._command = command
        self._strict: Strict[msgspec.Struct] = Strict(self.kind)
        self._names = self.kind.__struct_fields__

    def decode(self, raw: bytes, **from_path: Any) -> C:
        """The command. Raises Malformed."""
        body = self._strict.decode(raw)
        return build(self._command, {name: getattr(body, name) for name in self._names} | from_path)


def build(command: type[C], fields: Mapping[str, Any]) -> C:
    """A command of checked fields; what the command checks by itself is refused as Malformed."""
    try:
        return command(**fields)
    except ValueError as error:
        raise malformed(error) from None


def malformed(error: Exception) -> Malformed:
    """What a decoder or a command's own check says, as field and rule."""
    if isinstance(error, UnicodeDecodeError | UnicodeEncodeError):
        return _malformed("$", "UTF-8")
    if isinstance(error, RecursionError):
        return _malformed("$", "not nested this deeply")
    if isinstance(error, msgspec.DecodeError) and not isinstance(error, msgspec.ValidationError):
        return _malformed("$", f"JSON (RFC 8259): {error}")
    text, at, path = str(error).rpartition(" - at `$")
    rule = text if at else str(error)
    where = path.rstrip("`").lstrip(".") if at else ""
    inner = ""
    if " field `" in rule:  # unknown or missing: the field named inside is the one
        named = _NAMED.search(rule)
        inner = named[1] if named else "?"
    elif not rule.startswith(("Expected", "Invalid")):  # a check of ours begins with the field's name
        word = _WORD.match(rule)
        inner = word[0] if word else ""
    return _malformed(".".join(part for part in (where, inner) if part) or "$", rule)


def refuse_duplicates(raw: bytes) -> None:
    """Raise Malformed when an object in this JSON text has a key twice."""
    try:
        json.loads(raw, object_pairs_hook=_distinct, parse_int=str, parse_float=str)
    except (ValueError, RecursionError) as error:
        raise malformed(error) from None


def _distinct(pairs: list[tuple[str, Any]]) -> None:
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            raise _malformed(key, "given once")
        seen.add(key)


def _malformed(field: str, rule: str) -> Malformed:
    rule = quoted(rule.replace("\\\\A", "^").replace("\\\\Z", "$"))
    field = quoted(field)
    return Malformed(f"{field}: {rule}", field=field, rule=rule)


def _unsaid(value: Any) -> int:
    """How many quotation marks of a value's canonical text belong to what it need not say.

    Body types leave their defaults out by themselves; a command in a line of a bulk (a tagged struct, which must not,
    for its bytes are hashed) writes the fields that still hold their default.
    """
    count = 0
    if isinstance(value, Command):
        for name, default, quotes in _defaults_of(type(value)):
            if getattr(value, name) is default:
                count += quotes
    return count


_DEFAULTS: dict[type, tuple[tuple[str, Any, int], ...]] = {}


def _defaults_of(kind: type[Command]) -> tuple[tuple[str, Any, int], ...]:
    found = _DEFAULTS.get(kind)
    if found is None:
        found = _DEFAULTS[kind] = tuple(
            (field.name, field.default, 2 + _encode(field.default).count(_QUOTE))
            for field in msgspec.structs.fields(kind)
            if field.default is not msgspec.NODEFAULT
        )
    return found

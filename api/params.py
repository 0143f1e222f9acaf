"""Parameters of paths, queries and headers: each one named, described and parsed once; anything else is refused."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import parse_qsl

from api.errors import BadParameter
from api.text import quoted
from domain.entry import format_time
from domain.money import EXPONENTS

MAX_QUERY_BYTES: Final = 8 * 1024
MAX_QUERY_FIELDS: Final = 50
MAX_POSITION: Final = 2**63 - 1
MAX_LIMIT: Final = 1_000
MAX_TEXT: Final = 200
_DIGITS: Final = re.compile(r"0|[1-9][0-9]{0,18}")
_CODE: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,38}[a-z0-9]")
_UUID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_KEY: Final = re.compile(rb"[\x21-\x7e]{1,255}")
_ETAG: Final = re.compile(r'"([0-9]{1,15})"')
EARLIEST: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Param:
    """A parameter: `parse` turns its text into a value or raises ValueError with the rule; `schema` documents it."""

    name: str
    parse: Callable[[str], Any]
    schema: Mapping[str, Any]
    description: str
    example: Any
    default: Any = None

    def value_of(self, text: str) -> Any:
        """The parsed value. Raises BadParameter."""
        try:
            return self.parse(text)
        except ValueError as error:
            raise bad(self.name, str(error), text) from None

    def named(self, name: str, description: str | None = None) -> "Param":
        """The same kind of parameter under another name."""
        return replace(self, name=name, description=description or self.description)


def bad(field: str, rule: str, given: str | None = None) -> BadParameter:
    """The refusal of a parameter."""
    values: dict[str, Any] = {"field": field, "rule": rule}
    if given is not None:
        values["given"] = quoted(given)
    return BadParameter(f"{field}: {rule}", **values)


def parse_query(raw: bytes, known: Mapping[str, Param]) -> dict[str, Any]:
    """The query's parameters. Raises BadParameter for unknown, repeated or ill-formed ones."""
    if len(raw) > MAX_QUERY_BYTES:
        raise bad("query", f"at most {MAX_QUERY_BYTES} bytes")
    try:
        pairs = parse_qsl(raw.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=MAX_QUERY_FIELDS)
    except ValueError:
        raise bad("query", "percent-encoded UTF-8") from None
    values: dict[str, Any] = {}
    for name, text in pairs:
        param = known.get(name)
        if param is None:
            raise bad(quoted(name), f"not a parameter here; known: {', '.join(sorted(known)) or 'none'}")
        if name in values:
            raise bad(name, "given once")
        values[name] = param.value_of(text)
    return values


def command_key(header: bytes | None) -> str:
    """The Idempotency-Key. Raises BadParameter when it is missing or not 1 to 255 visible ASCII characters."""
    if header is None:
        raise bad("Idempotency-Key", "required for commands")
    if not _KEY.fullmatch(header):
        raise bad("Idempotency-Key", "1 to 255 visible ASCII characters")
    return header.decode("ascii")


def expected_version(header: bytes | None) -> int | None:
    """The version in If-Match; None when it is absent or `*`. Raises BadParameter for anything but one strong ETag."""
    if header is None or header.strip() == b"*":
        return None
    found = _ETAG.fullmatch(header.decode("latin-1").strip())
    if found is None:
        raise bad("If-Match", 'one ETag of this resource, such as "3"')
    return int(found[1])


def etag(version: int) -> bytes:
    """The ETag of a version."""
    return b'"%d"' % version


# -- kinds -------------------------------------------------------------------------------------------------------------


def _integer(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not _DIGITS.fullmatch(text) or not low <= int(text) <= high:
            raise ValueError(f"an integer from {low} to {high}")
        return int(text)

    return parse


def _matching(pattern: re.Pattern[str], rule: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if not pattern.fullmatch(text):
            raise ValueError(rule)
        return text

    return parse


def _one_of(values: Mapping[str, Any]) -> Callable[[str], Any]:
    def parse(text: str) -> Any:
        if text not in values:
            raise ValueError(f"one of {', '.join(values)}")
        return values[text]

    return parse


def _date(text: str) -> str:
    try:
        if _DATE.fullmatch(text):
            datetime.strptime(text, "%Y-%m-%d")  # noqa: DTZ007 a day has no time zone
            return text
    except ValueError:
        pass
    raise ValueError("a day, YYYY-MM-DD")


def _text(text: str) -> str:
    if not 0 < len(text) <= MAX_TEXT or "\x00" in text:
        raise ValueError(f"1 to {MAX_TEXT} characters")
    return text


def _currency(text: str) -> str:
    if text not in EXPONENTS:
        raise ValueError("an active ISO 4217 code")
    return text


def _moment(text: str) -> int | str:
    """A position, or a time in the form of entries."""
    if text.isdigit():
        return _integer(1, MAX_POSITION)(text)
    rule = "a position from 1, or a time with its zone (RFC 3339)"
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(rule) from None
    if moment.tzinfo is None or not EARLIEST.year <= moment.year < 9999:  # noqa: PLR2004 the zone may shift the year
        raise ValueError(rule)
    return format_time(moment)


def integer(name: str, description: str, low: int, high: int, *, default: int | None = None, example: int = 1) -> Param:
    """An integer within bounds."""
    schema = {"type": "integer", "minimum": low, "maximum": high, **({} if default is None else {"default": default})}
    return Param(name, _integer(low, high), schema, description, example, default)


def choice(name: str, description: str, *values: str, default: str | None = None) -> Param:
    """One of some words."""
    schema = {"type": "string", "enum": list(values), **({} if default is None else {"default": default})}
    return Param(name, _one_of({value: value for value in values}), schema, description, values[0], default)


def flag(name: str, description: str, *, default: bool | None = None) -> Param:
    """True or false."""
    schema: dict[str, Any] = {"type": "boolean", **({} if default is None else {"default": default})}
    return Param(name, _one_of({"true": True, "false": False}), schema, description, default or False, default)


def text(name: str, description: str, example: str) -> Param:
    """Some characters of any kind."""
    schema = {"type": "string", "minLength": 1, "maxLength": MAX_TEXT}
    return Param(name, _text, schema, description, example)


_EXAMPLE_ID: Final = "01938a5e-7c00-7aaa-aaaa-0123456789ab"
CODE: Final = Param(
    "code",
    _matching(_CODE, "2 to 40 lower-case letters, digits and hyphens"),
    {"type": "string", "pattern": f"^{_CODE.pattern}$"},
    "a company's code",
    "aozora-foods",
)
ID: Final = Param(
    "id",
    _matching(_UUID, "a UUID in lower case"),
    {"type": "string", "pattern": f"^{_UUID.pattern}$"},
    "its id",
    _EXAMPLE_ID,
)
CURRENCY: Final = Param("currency", _currency, {"type": "string", "pattern": "^[A-Z]{3}$"}, "ISO 4217 code", "JPY")
DAY: Final = Param("day", _date, {"type": "string", "format": "date"}, "a day", "2026-11-01")
POSITION: Final = integer("position", "an entry's position in the log", 1, MAX_POSITION, example=17)
LIMIT: Final = integer("limit", "the page's size", 1, MAX_LIMIT, default=100, example=100)
CURSOR: Final = Param("cursor", _text, {"type": "string", "maxLength": MAX_TEXT}, "`next` of the page before", None)
MIN_POSITION: Final = integer(
    "min_position",
    "answer only once the read models have reached this position (read your writes); 503 when they have not in time",
    0,
    MAX_POSITION,
)
AS_OF: Final = Param(
    "as_of",
    _moment,
    {"oneOf": [{"type": "integer", "minimum": 1}, {"type": "string", "format": "date-time"}]},
    "as it was at this position, or at this time (RFC 3339)",
    17,
)
DRY_RUN: Final = flag("dry_run", "decide by the same rules and write nothing", default=False)

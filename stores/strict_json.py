"""JSON from strangers: one object, bounded, no key twice, no NaN, not nested without end."""

import json
from typing import Any, Final, NoReturn

from stores.verdict import MessageRefused

MAX_BYTES: Final = 1_048_576
MAX_DEPTH: Final = 32
_NO_BRACKETS: Final = bytes(set(range(256)) - set(b"{}[]"))


def read_object(data: bytes) -> dict[str, Any]:
    """The JSON object that these bytes are. Raises MessageRefused."""
    if len(data) > MAX_BYTES:
        raise MessageRefused(f"more than {MAX_BYTES} bytes")
    _require_shallow(data)
    try:
        found = json.loads(data.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant)
    except UnicodeDecodeError:
        raise MessageRefused("not UTF-8") from None
    except MessageRefused:
        raise
    except (ValueError, RecursionError):
        raise MessageRefused("not JSON") from None
    if not isinstance(found, dict):
        raise MessageRefused("not a JSON object")
    return found


def _require_shallow(data: bytes) -> None:
    """Brackets in strings count, too: a message with so many of them is none of a store's."""
    depth = deepest = 0
    for bracket in data.translate(None, _NO_BRACKETS):
        depth += 1 if bracket in b"{[" else -1
        deepest = max(deepest, depth)
    if deepest > MAX_DEPTH:
        raise MessageRefused(f"nested more than {MAX_DEPTH} deep")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise MessageRefused("a key stands twice in one object")
    return found


def _no_constant(_: str) -> NoReturn:
    raise MessageRefused("NaN and infinities are not JSON")

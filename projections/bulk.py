"""Many rows in few SQLite steps, so that a writing thread does not fight the event loop for the interpreter lock.

Python's sqlite3 gives the lock away at every step and must win it back from the loop, which costs up to the switch
interval (5 ms). `executemany` steps once a row; one multi-row VALUES statement steps once. Measured with 500 rows of
700 bytes a transaction on two idle cores (rows/s alone and beside a busy loop): executemany 175,000 and 220, one
`INSERT ... FROM json_each(?)` 68,000 and 14,000, multi-row VALUES 176,000 and 20,000. When other processes fill the
cores the first and the last come close (41,000 and 48,000). Reading back is one step too: rows come as one JSON array.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any, Final

import msgspec

from projections.store import Connection

# More rows a step do not make it cheaper: preparing a statement costs 0.7 microseconds a parameter, once a connection
# and size, and the values of a step should stay in the processor's cache.
_MAX_PARAMETERS: Final = 1_024
_encode = msgspec.json.encode


def write_rows(connection: Connection, before: str, rows: Sequence[Sequence[Any]], after: str = "") -> None:
    """Run `before VALUES (...), (...) after` over all rows, which have one width.

    Chunks are powers of two: any number of rows takes few steps, and each table has but a handful of statements.
    """
    if not rows:
        return
    width = len(rows[0])
    size = _chunk(width)
    start = 0
    while start < len(rows):
        while size > len(rows) - start:
            size >>= 1
        values = tuple(chain.from_iterable(rows[start : start + size]))
        connection.execute(_statement(before, width, size, after), values)
        start += size


def read_json(connection: Connection, sql: str, keys: Iterable[Any]) -> bytes:
    """Run a query of one JSON value with the keys as its only parameter, a JSON array."""
    (value,) = connection.execute(sql, (_encode(list(keys)).decode(),)).fetchone()
    return value.encode()  # type: ignore[no-any-return]


def _chunk(width: int) -> int:
    return 1 << (max(1, _MAX_PARAMETERS // width).bit_length() - 1)


@lru_cache(maxsize=256)
def _statement(before: str, width: int, rows: int, after: str) -> str:
    row = f"({', '.join('?' * width)})"
    return f"{before} VALUES {', '.join([row] * rows)} {after}"

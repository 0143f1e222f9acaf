"""Many rows in one statement.

`executemany` gives the interpreter lock away once a row, and beside a busy thread waits for its return each time: 2,600
microseconds a row instead of 4 (docs/benchmarks.md). One statement for many rows gives it away once.
"""

from collections.abc import Sequence
from functools import lru_cache
from itertools import chain
from typing import Final, Protocol

_MAX_ROWS: Final = 1_024  # times the columns below SQLite's 32,766 parameters a statement


class Executor(Protocol):
    """What is needed of a cursor."""

    def execute(self, statement: str, params: Sequence[object] = ()) -> object:
        """Run a statement."""


def insert_rows(cursor: Executor, table: str, rows: Sequence[tuple[object, ...]]) -> None:
    """Store whole rows of a table."""
    for start in range(0, len(rows), _MAX_ROWS):
        part = rows[start : start + _MAX_ROWS]
        cursor.execute(_statement(table, len(part[0]), len(part)), tuple(chain.from_iterable(part)))


@lru_cache(maxsize=2_048)
def _statement(table: str, columns: int, rows: int) -> str:
    row = f"({','.join('?' * columns)})"
    return f"INSERT INTO {table} VALUES {','.join([row] * rows)}"

"""The read models' SQL, written for SQLite, as PostgreSQL understands it.

The statements are few, fixed and our own (values are always bound), so they are translated by their differences instead
of being written twice: marks, upserts' words, JSON functions, and LIKE, which ignores the case of ASCII letters in
SQLite. Text has the collation "C", in which PostgreSQL orders and folds it as SQLite does: by bytes.
"""

import re
from functools import lru_cache
from typing import Final

_PRAGMA: Final = "SELECT name FROM pragma_table_info(?)"
_COLUMNS: Final = (
    "SELECT column_name FROM information_schema.columns WHERE table_schema = current_schema()"
    " AND table_name = ? ORDER BY ordinal_position"
)
_WORDS: Final = (
    (re.compile(r"\bINSERT OR ROLLBACK INTO\b"), "INSERT INTO"),
    (re.compile(r"\bUPDATE OR ROLLBACK\b"), "UPDATE"),
    (
        re.compile(r"json_group_array\(json_array\((.*?)\)\) FROM"),
        r"coalesce(json_agg(json_build_array(\1)), '[]')::text FROM",
    ),
    (re.compile(r"\bjson\((\w+)\)"), r"\1::json"),
    (re.compile(r"json_extract\(value, '\$\[(\d)\]'\)"), r"value->>\1"),
    (re.compile(r"SELECT value FROM json_each\(\?\)"), "SELECT value FROM json_array_elements_text(?::json) AS value"),
    (re.compile(r"FROM json_each\(\?\)"), "FROM json_array_elements(?::json) AS value"),
    (re.compile(r" LIKE "), " ILIKE "),
)


@lru_cache(maxsize=1_024)
def translated(statement: str) -> str:
    """A statement of the read models as the server takes it, its values marked `$1`, `$2` … (`psycopg.RawCursor`).

    psycopg's own marks are not used: it takes a statement of a thousand of them apart again at every execution, which
    costs half of a projector's time.
    """
    statement = _COLUMNS if statement == _PRAGMA else statement
    for pattern, words in _WORDS:
        statement = pattern.sub(words, statement)
    first, *others = statement.split("?")
    return first + "".join(f"${number}{part}" for number, part in enumerate(others, 1))


def definition(statement: str) -> str:
    """A statement of `projections.schema` that creates a table or an index."""
    statement = re.sub(r"\s*--[^\n]*", "", statement)
    statement = re.sub(r"\bINTEGER\b", "BIGINT", statement).replace(" BLOB", " BYTEA")
    statement = re.sub(r"\bTEXT\b", 'TEXT COLLATE "C"', statement)
    return statement.replace(") WITHOUT ROWID", ")")

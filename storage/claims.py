"""Claims: every unique key that the ledger has given away, in the transaction of the entries that took it.

A command key is a claim, too (`cmd|<hash>`): it also keeps the hash of the command's body and how many entries it led
to, so that a repeated command is answered from what is stored. All look-ups are one statement for a whole group.
"""

import json
from collections.abc import Iterable, Sequence
from typing import Protocol, cast

from domain.orders import KnownCommand

_COMMAND = "cmd|"
_STEM_DIGITS = 56  # of a command key's hash: what the lines of a bulk have in common (domain.entry)
_RANGE_FROM_LINES = 8
StoredClaim = tuple[str, str, int, int]
"""A row of the claims as it is looked up: key, body, position, count."""
ClaimRow = tuple[str, int, str, int]
"""Key, position of the first entry, hash of the command's body, number of its entries."""


class Rows(Protocol):
    """What is needed of a cursor."""

    def execute(self, statement: str, params: Sequence[object] = ()) -> object:
        """Run a statement."""

    def fetchall(self) -> list[tuple[object, ...]]:
        """Its rows."""


def claims_schema(table: str) -> list[str]:
    """The statements that create the claims beside an events table."""
    return [
        (
            f"CREATE TABLE IF NOT EXISTS {table}_claims (key TEXT PRIMARY KEY, position INTEGER NOT NULL, "
            "body TEXT NOT NULL DEFAULT '', count INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID"
        )
    ]


def stored_keys(
    cursor: Rows, table: str, commands: Sequence[str], claims: Sequence[str]
) -> tuple[dict[str, KnownCommand], set[str]]:
    """The stored commands among these key hashes and the stored ones of these claims.

    The lines of a bulk stand side by side in the index: they are read as one range, not one by one.
    """
    ranges, keys = ranges_and_keys(commands, claims)
    found: list[StoredClaim] = []
    for lines in ranges:
        found += _between(cursor, table, lines)
    if keys:
        found += _stored(cursor, table, keys)
    return known_and_taken(found)


def ranges_and_keys(commands: Sequence[str], claims: Sequence[str]) -> tuple[list[list[str]], list[str]]:
    """The keys to look up: those of long bulks together, each to be read as a range, and all others."""
    bulks: dict[str, list[str]] = {}
    for key in commands:
        bulks.setdefault(key[:_STEM_DIGITS], []).append(_COMMAND + key)
    ranges, keys = [], list(claims)
    for lines in bulks.values():
        if len(lines) < _RANGE_FROM_LINES:
            keys += lines
        else:
            ranges.append(lines)
    return ranges, keys


def known_and_taken(found: Iterable[StoredClaim]) -> tuple[dict[str, KnownCommand], set[str]]:
    """Rows of the claims (key, body, position, count) as known commands by key hash, and as claims that are taken."""
    known: dict[str, KnownCommand] = {}
    taken: set[str] = set()
    for key, body, position, count in found:
        if key.startswith(_COMMAND):
            known[key.removeprefix(_COMMAND)] = KnownCommand(body, position, count)
        else:
            taken.add(key)
    return known, taken


def absent_aggregates(cursor: Rows, table: str, ids: Sequence[str]) -> set[str]:
    """Those of these aggregates of which nothing is stored."""
    if not ids:
        return set()
    cursor.execute(
        f"SELECT value FROM json_each(?) WHERE NOT EXISTS (SELECT 1 FROM {table} WHERE originator_id=value)",
        (json.dumps(ids),),
    )
    return {str(row[0]) for row in cursor.fetchall()}


def _stored(cursor: Rows, table: str, keys: Sequence[str]) -> list[StoredClaim]:
    cursor.execute(
        f"SELECT key, body, position, count FROM {table}_claims WHERE key IN (SELECT value FROM json_each(?))",
        (json.dumps(keys),),
    )
    return cast("list[StoredClaim]", cursor.fetchall())


def _between(cursor: Rows, table: str, keys: Sequence[str]) -> list[StoredClaim]:
    """The stored ones of these neighbours."""
    cursor.execute(
        f"SELECT key, body, position, count FROM {table}_claims WHERE key BETWEEN ? AND ?", (min(keys), max(keys))
    )
    wanted = set(keys)
    return [row for row in cast("list[StoredClaim]", cursor.fetchall()) if row[0] in wanted]


def known_commands(cursor: Rows, table: str, keys: Sequence[str]) -> dict[str, KnownCommand]:
    """The stored commands among these key hashes."""
    return stored_keys(cursor, table, keys, ())[0]


def taken_claims(cursor: Rows, table: str, claims: Sequence[str]) -> set[str]:
    """Those of the claims that are stored."""
    return stored_keys(cursor, table, (), claims)[1] if claims else set()


def stale_versions(cursor: Rows, table: str, expected: dict[str, int]) -> set[str]:
    """The aggregates (of these versions, 0 for none) that stand at another version in the store."""
    if not expected:
        return set()
    cursor.execute(
        f"SELECT value, (SELECT MAX(originator_version) FROM {table} WHERE originator_id=value) FROM json_each(?)",
        (json.dumps(list(expected)),),
    )
    return {str(name) for name, version in cursor.fetchall() if (version or 0) != expected[str(name)]}


def command_row(key: str, body: str, first: int, count: int) -> ClaimRow:
    """The claim of a command key."""
    return _COMMAND + key, first, body, count


def claim_rows(claims: Iterable[str], position: int) -> list[ClaimRow]:
    """The claims that an entry's position has taken."""
    return [(claim, position, "", 0) for claim in claims]


def claims_table(table: str) -> str:
    """The name of the claims beside an events table."""
    return f"{table}_claims"

"""The look-ups of claims and versions in PostgreSQL: one statement each for a whole group (see storage.claims)."""

from collections.abc import Sequence
from typing import Any

from psycopg import sql
from psycopg.sql import Composed

from domain.orders import KnownCommand
from storage.claims import StoredClaim, known_and_taken, ranges_and_keys


class ClaimQueries:
    """The statements for one events table of one schema, and what they answer. Cursors give tuples."""

    def __init__(self, schema: str, table: str) -> None:
        names = {"events": sql.Identifier(schema, table), "claims": sql.Identifier(schema, f"{table}_claims")}
        selected = "SELECT key, body, position, count FROM {claims} WHERE "
        self._among = sql.SQL(selected + "key = ANY(%b::text[])").format(**names)
        self._between = sql.SQL(selected + "key BETWEEN %b AND %b").format(**names)
        self._absent = sql.SQL(
            "SELECT id FROM unnest(%b::text[]) AS id WHERE NOT EXISTS (SELECT 1 FROM {events} WHERE originator_id = id)"
        ).format(**names)
        self._versions = sql.SQL(
            "SELECT id, (SELECT max(originator_version) FROM {events} WHERE originator_id = id)"
            " FROM unnest(%b::text[]) AS id"
        ).format(**names)

    def stored_keys(
        self, cursor: Any, commands: Sequence[str], claims: Sequence[str]
    ) -> tuple[dict[str, KnownCommand], set[str]]:
        """The stored commands among these key hashes and the stored ones of these claims."""
        ranges, keys = ranges_and_keys(commands, claims)
        found: list[StoredClaim] = []
        for lines in ranges:
            wanted = set(lines)
            rows = self._rows(cursor, self._between, min(lines), max(lines))
            found += [row for row in rows if row[0] in wanted]
        if keys:
            found += self._rows(cursor, self._among, keys)
        return known_and_taken(found)

    def absent_aggregates(self, cursor: Any, ids: Sequence[str]) -> set[str]:
        """Those of these aggregates of which nothing is stored."""
        return {row[0] for row in self._rows(cursor, self._absent, list(ids))} if ids else set()

    def stale_versions(self, cursor: Any, expected: dict[str, int]) -> set[str]:
        """The aggregates (of these versions, 0 for none) that stand at another version in the store."""
        rows = self._rows(cursor, self._versions, list(expected)) if expected else []
        return {name for name, version in rows if (version or 0) != expected[name]}

    @staticmethod
    def _rows(cursor: Any, statement: Composed, *values: object) -> list[Any]:
        cursor.execute(statement, values)
        found: list[Any] = cursor.fetchall()
        return found

"""Due work in PostgreSQL (see storage.due_work): several executors lease at once, nobody leases the same row."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import psycopg

from storage.due_work import MAX_ERROR_CHARS, NOTHING_BEFORE, Lease, LeaseLost, Work, WorkRow
from storage.postgres.database import Database, Row, Session

_LOCK: Final = "due work"
_LEASED: Final = "id, kind, key, payload, due_at, attempts, lease_owner, fence, last_error"
# Materialized: as a plain subquery it may be run again for every row, each time with the next `limit` rows.
_LEASE: Final = f"""
WITH picked AS MATERIALIZED (
    SELECT id FROM due_work WHERE kind = %(kind)s AND dead = 0 AND due_at <= %(now)s AND leased_until <= %(now)s
        AND {NOTHING_BEFORE}
    ORDER BY due_at, id LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
UPDATE due_work SET lease_owner = %(owner)s, leased_until = %(until)s, fence = fence + 1, attempts = attempts + 1
WHERE id IN (SELECT id FROM picked)
RETURNING {_LEASED}
"""
# in the order in which it is given: the numbers say what comes first in a sequence
_PUT: Final = """
INSERT INTO due_work (kind, key, payload, due_at, sequence)
SELECT kind, key, payload, due_at, sequence
FROM unnest(%s::text[], %s::text[], %s::text[], %s::float8[], %s::text[])
    WITH ORDINALITY AS given (kind, key, payload, due_at, sequence, number)
ORDER BY number ON CONFLICT (key) DO NOTHING
"""
_HELD: Final = "WHERE id = %s AND lease_owner = %s AND fence = %s AND dead = 0"
_ROWS: Final = """
SELECT * FROM (SELECT id, kind, key, due_at, attempts, lease_owner, last_error, CASE WHEN dead > 0 THEN 'dead'
    WHEN leased_until > %(now)s THEN 'leased' ELSE 'waiting' END AS state FROM due_work) AS shown
WHERE %(state)s::text IS NULL OR state = %(state)s ORDER BY due_at, id LIMIT %(limit)s
"""


class PostgresWorkTransaction:
    """What may be done in one transaction of `PostgresDueWork.transaction`."""

    def __init__(self, cursor: psycopg.Cursor[Row], channel: str) -> None:
        self._cursor, self._channel = cursor, channel

    def put(self, *works: Work) -> int:
        """Store work whose key is not there yet; how many were new."""
        rows = ((work.kind, work.key, work.payload, work.due_at, work.sequence) for work in works)
        columns = [list(column) for column in zip(*rows, strict=True)]
        if not columns:
            return 0
        self._cursor.execute(_PUT, columns)
        new = self._cursor.rowcount
        self._tell()
        return new

    def untouched(self, kind: str) -> str | None:
        """The key of the earliest work of a kind that nobody has begun, or None."""
        self._cursor.execute(
            "SELECT key FROM due_work WHERE kind = %s AND dead = 0 AND fence = 0 ORDER BY due_at, id LIMIT 1", (kind,)
        )
        row = self._cursor.fetchone()
        return row[0] if row else None

    def hasten(self, key: str, due_at: float) -> None:
        """Make work due at that time unless it is due earlier."""
        self._cursor.execute("UPDATE due_work SET due_at = least(due_at, %s) WHERE key = %s", (due_at, key))
        self._tell()

    def position(self, name: str) -> tuple[int, bytes, str]:
        """A processor's position, leaf hash and own state; (0, b"", "") in the beginning."""
        self._cursor.execute("SELECT position, leaf, state FROM processor_position WHERE name = %s", (name,))
        row = self._cursor.fetchone()
        return (row[0], bytes(row[1]), row[2]) if row else (0, b"", "")

    def save_position(self, name: str, position: int, leaf: bytes, state: str) -> None:
        """Say how far a processor has come, beside the work that it wrote."""
        self._cursor.execute(
            "INSERT INTO processor_position VALUES (%s, %s, %s, %s) ON CONFLICT (name) DO UPDATE"
            " SET position = excluded.position, leaf = excluded.leaf, state = excluded.state",
            (name, position, leaf, state),
        )

    def _tell(self) -> None:
        self._cursor.execute("SELECT pg_notify(%s, '')", (self._channel,))


class PostgresDueWork:
    """Due work of one book. Any thread may call; every method is one transaction, raising StorageUnavailable."""

    def __init__(self, database: Database) -> None:
        self._session = Session(database, "due work")
        self._channel = database.channel("work")

    def close(self) -> None:
        """Close the connection."""
        self._session.close()

    @contextmanager
    def transaction(self) -> Iterator[PostgresWorkTransaction]:
        """Several steps, all or none, under a lock that all processes share."""
        # A crash before the commit leaves nothing of it: processors repeat from their position, leases run out. A crash
        # after it leaves all of it: repeats are recognised by position and key.
        with self._session.transaction(advisory_lock=_LOCK) as cursor:
            yield PostgresWorkTransaction(cursor, self._channel)

    def put(self, *works: Work) -> int:
        """Store work whose key is not there yet; how many were new."""
        with self.transaction() as transaction:
            return transaction.put(*works)

    def position(self, name: str) -> tuple[int, bytes, str]:
        """A processor's position, leaf hash and own state; (0, b"", "") in the beginning."""
        with self._session.transaction() as cursor:
            return PostgresWorkTransaction(cursor, self._channel).position(name)

    # -- leases ------------------------------------------------------------------------------------------------------

    def lease(self, kind: str, owner: str, seconds: float, now: float, limit: int = 1) -> list[Lease]:
        """Take at most `limit` pieces that are due, earliest first, for `seconds` from `now`."""
        # A crash after this leaves the work leased: it can be taken again when the lease has run out.
        values = {"owner": owner, "until": now + seconds, "kind": kind, "now": now, "limit": limit}
        with self._session.transaction() as cursor:
            rows = cursor.execute(_LEASE, values).fetchall()
        return sorted((Lease(*row) for row in rows), key=lambda lease: (lease.due_at, lease.id))

    def extend(self, leases: Sequence[Lease], seconds: float, now: float) -> None:
        """Hold leases for `seconds` from `now`. Raises LeaseLost when one is not ours any more."""
        self._change(leases, "UPDATE due_work SET leased_until = %s", now + seconds)

    def done(self, *leases: Lease) -> None:
        """The work is done: its row goes. Raises LeaseLost, with nothing changed, for one that was taken over."""
        # A crash before this leaves the work to be done again: whoever does it recognises what it did.
        self._change(leases, "DELETE FROM due_work")

    def again(self, *leases: Lease, due_at: float) -> None:
        """Nothing went wrong, but the work is not over: it is due again at `due_at`, its failures forgotten."""
        change = "UPDATE due_work SET leased_until = 0, due_at = %s, attempts = 0, last_error = ''"
        self._change(leases, change, due_at)

    def retry(self, *leases: Lease, error: str, due_at: float, max_attempts: int | None = None) -> list[Lease]:
        """The work failed: try again at `due_at`; what has had `max_attempts` (None: no limit) is dead.

        Returns the dead. They stay and are shown by `rows` until somebody revives them.
        """
        dead = [lease for lease in leases if max_attempts is not None and lease.attempts >= max_attempts]
        change = "UPDATE due_work SET leased_until = 0, due_at = %s, last_error = %s, dead = %s"
        with self._session.transaction() as cursor:
            for lease in leases:
                _held(cursor, lease, change, due_at, error[:MAX_ERROR_CHARS], int(lease in dead))
        return dead

    def revive(self, key: str, now: float) -> bool:
        """Let dead work be tried again, as if for the first time; False when there is none of that key."""
        change = "UPDATE due_work SET dead = 0, attempts = 0, due_at = %s WHERE key = %s AND dead = 1"
        return self._change_dead(change, now, key)

    def skip(self, key: str) -> bool:
        """Give dead work up for good, so that what waits behind it goes on; False when there is none of that key."""
        return self._change_dead("DELETE FROM due_work WHERE key = %s AND dead = 1", key)

    def release(self, kind: str) -> int:
        """End every lease of a kind at once; how many. For a caller who knows that whoever held them is gone."""
        with self._session.transaction() as cursor:
            cursor.execute("UPDATE due_work SET leased_until = 0 WHERE kind = %s AND leased_until > 0", (kind,))
            return cursor.rowcount

    # -- looking -----------------------------------------------------------------------------------------------------

    def next_at(self, kind: str) -> float | None:
        """When there will be something to lease, as far as is known now; None when nothing waits."""
        query = (
            "SELECT min(greatest(due_at, leased_until)) FROM due_work WHERE kind = %s AND dead = 0"
            f" AND {NOTHING_BEFORE}"
        )
        found: float | None = self._session.rows(query, (kind,))[0][0]
        return found

    def rows(self, now: float, *, state: str | None = None, limit: int = 100) -> list[WorkRow]:
        """Work that is not done, the earliest due first."""
        with self._session.transaction() as cursor:
            found = cursor.execute(_ROWS, {"now": now, "state": state, "limit": limit}).fetchall()
        return [WorkRow(*row) for row in found]

    def _change_dead(self, change: str, *values: object) -> bool:
        """An operator decides about dead work, in a process of his own: whoever executes is told."""
        with self._session.transaction() as cursor:
            changed = cursor.execute(change, values).rowcount > 0
            cursor.execute("SELECT pg_notify(%s, '')", (self._channel,))
        return changed

    def _change(self, leases: Sequence[Lease], change: str, *values: object) -> None:
        with self._session.transaction() as cursor:
            for lease in leases:
                _held(cursor, lease, change, *values)


def _held(cursor: psycopg.Cursor[Row], lease: Lease, change: str, *values: Any) -> None:
    cursor.execute(f"{change} {_HELD}", (*values, lease.id, lease.owner, lease.fence))
    if not cursor.rowcount:
        raise LeaseLost(lease)

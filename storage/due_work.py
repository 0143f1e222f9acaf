"""Due work: what must still be done with the outside (a chain, later stores and webhooks), until it is done.

A processor writes work in the transaction of its position; an executor leases it for a limited time, acts, and reports.
Each lease has a fence, a number that grows with every lease of the row: who was overtaken can no longer report. So work
is done at least once, and whoever does it must be able to do it twice.

The same tables lie in the ledger's own file (transactions are not atomic across WAL files) and in `anchors.db`.
"""

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, Final, Protocol

from domain.errors import StorageUnavailable

_BUSY_TIMEOUT_SECONDS: Final = 10.0
MAX_ERROR_CHARS: Final = 500

_SCHEMA: Final = """
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS due_work (
    id INTEGER PRIMARY KEY, kind TEXT NOT NULL, key TEXT NOT NULL UNIQUE, payload TEXT NOT NULL, due_at REAL NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0, leased_until REAL NOT NULL DEFAULT 0, lease_owner TEXT NOT NULL DEFAULT '',
    fence INTEGER NOT NULL DEFAULT 0, last_error TEXT NOT NULL DEFAULT '', dead INTEGER NOT NULL DEFAULT 0,
    sequence TEXT NOT NULL DEFAULT '');
CREATE INDEX IF NOT EXISTS due_work_next ON due_work (kind, due_at) WHERE dead = 0;
CREATE TABLE IF NOT EXISTS processor_position (
    name TEXT PRIMARY KEY, position INTEGER NOT NULL, leaf BLOB NOT NULL, state TEXT NOT NULL) WITHOUT ROWID;
COMMIT;
"""

_SEQUENCED: Final = """
CREATE INDEX IF NOT EXISTS due_work_sequence ON due_work (sequence, id) WHERE sequence <> '';
"""
# Nothing of the same sequence was put before and is still there: waiting, leased or dead. That a sequence is not empty
# is said once more for the index, which is used only where the query says so: else each row reads the whole table.
NOTHING_BEFORE: Final = """(sequence = '' OR NOT EXISTS (
    SELECT 1 FROM due_work AS earlier
    WHERE earlier.sequence <> '' AND earlier.sequence = due_work.sequence AND earlier.id < due_work.id))"""
_LEASE: Final = f"""
UPDATE due_work SET lease_owner = ?1, leased_until = ?2, fence = fence + 1, attempts = attempts + 1
WHERE id IN (SELECT id FROM due_work WHERE kind = ?3 AND dead = 0 AND due_at <= ?4 AND leased_until <= ?4
             AND {NOTHING_BEFORE} ORDER BY due_at, id LIMIT ?5)
RETURNING id, kind, key, payload, due_at, attempts, lease_owner, fence, last_error
"""
_HELD: Final = "WHERE id = ? AND lease_owner = ? AND fence = ? AND dead = 0"


class LeaseLost(Exception):
    """Somebody else has taken the work over (or it is done): what this worker found out does not count."""

    def __init__(self, lease: "Lease") -> None:
        super().__init__(f"due work {lease.key}: the lease {lease.fence} of {lease.owner} was taken over")
        self.lease = lease


@dataclass(frozen=True, slots=True)
class Work:
    """Something to do: `key` is unique among what is not done yet, `payload` JSON text, `due_at` Unix seconds.

    `sequence`: work of one sequence (an aggregate, say) is done in the order in which it was put. Where one piece has
    failed for good, those behind it wait until it is revived or skipped; other sequences go on.
    """

    kind: str
    key: str
    payload: str
    due_at: float
    sequence: str = ""


@dataclass(frozen=True, slots=True)
class Lease:
    """Work in one worker's hands. `attempts` counts this one, `last_error` is why the one before failed."""

    id: int
    kind: str
    key: str
    payload: str
    due_at: float
    attempts: int
    owner: str
    fence: int
    last_error: str


@dataclass(frozen=True, slots=True)
class WorkRow:
    """Work as it lies there, for people: `state` is waiting, leased or dead."""

    id: int
    kind: str
    key: str
    due_at: float
    attempts: int
    lease_owner: str
    last_error: str
    state: str


class Steps(Protocol):
    """What may be done in one transaction of `DueWorkStore.transaction`; documented at `WorkTransaction`."""

    def put(self, *works: Work) -> int: ...
    def untouched(self, kind: str) -> str | None: ...
    def hasten(self, key: str, due_at: float) -> None: ...
    def position(self, name: str) -> tuple[int, bytes, str]: ...
    def save_position(self, name: str, position: int, leaf: bytes, state: str) -> None: ...


class DueWorkStore(Protocol):
    """Due work, whatever database it is in; documented at `DueWork`."""

    def close(self) -> None: ...
    def transaction(self) -> AbstractContextManager[Steps]: ...
    def put(self, *works: Work) -> int: ...
    def position(self, name: str) -> tuple[int, bytes, str]: ...
    def lease(self, kind: str, owner: str, seconds: float, now: float, limit: int = 1) -> list[Lease]: ...
    def extend(self, leases: Sequence[Lease], seconds: float, now: float) -> None: ...
    def done(self, *leases: Lease) -> None: ...
    def again(self, *leases: Lease, due_at: float) -> None: ...
    def retry(self, *leases: Lease, error: str, due_at: float, max_attempts: int | None = None) -> list[Lease]: ...
    def revive(self, key: str, now: float) -> bool: ...
    def skip(self, key: str) -> bool: ...
    def release(self, kind: str) -> int: ...
    def next_at(self, kind: str) -> float | None: ...
    def rows(self, now: float, *, state: str | None = None, limit: int = 100) -> list[WorkRow]: ...


class WorkTransaction:
    """What may be done in one transaction of `DueWork.transaction`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def put(self, *works: Work) -> int:
        """Store work whose key is not there yet; how many were new."""
        before = self._connection.total_changes
        self._connection.execute(
            "INSERT OR IGNORE INTO due_work (kind, key, payload, due_at, sequence) SELECT json_extract(value, '$[0]'), "
            "json_extract(value, '$[1]'), json_extract(value, '$[2]'), json_extract(value, '$[3]'), "
            "json_extract(value, '$[4]') FROM json_each(?)",
            (json.dumps([(work.kind, work.key, work.payload, work.due_at, work.sequence) for work in works]),),
        )
        return self._connection.total_changes - before

    def untouched(self, kind: str) -> str | None:
        """The key of the earliest work of a kind that nobody has begun, or None."""
        row = self._connection.execute(
            "SELECT key FROM due_work WHERE kind = ? AND dead = 0 AND fence = 0 ORDER BY due_at, id LIMIT 1", (kind,)
        ).fetchone()
        return row[0] if row else None

    def hasten(self, key: str, due_at: float) -> None:
        """Make work due at that time unless it is due earlier."""
        self._connection.execute("UPDATE due_work SET due_at = min(due_at, ?) WHERE key = ?", (due_at, key))

    def position(self, name: str) -> tuple[int, bytes, str]:
        """A processor's position, leaf hash and own state; (0, b"", "") in the beginning."""
        row = self._connection.execute(
            "SELECT position, leaf, state FROM processor_position WHERE name = ?", (name,)
        ).fetchone()
        return row or (0, b"", "")

    def save_position(self, name: str, position: int, leaf: bytes, state: str) -> None:
        """Say how far a processor has come, beside the work that it wrote."""
        self._connection.execute(
            "INSERT OR REPLACE INTO processor_position VALUES (?, ?, ?, ?)", (name, position, leaf, state)
        )


class DueWork:
    """Due work in one SQLite file. Any thread may call; every method is one transaction.

    Times are Unix seconds given by the caller. Raises StorageUnavailable when the database refuses.
    """

    def __init__(self, path: Path | str) -> None:
        self._lock = Lock()
        with _translated():
            self._connection = sqlite3.connect(
                path, timeout=_BUSY_TIMEOUT_SECONDS, isolation_level=None, check_same_thread=False
            )
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = FULL")
            # A crash here leaves no tables or all of them; the next start makes what is missing.
            self._connection.executescript(_SCHEMA)
            self._add_sequence()
            self._connection.executescript(_SEQUENCED)

    def _add_sequence(self) -> None:
        """Files of version 0.1 have no sequences. A crash before it leaves such a file; the next start changes it."""
        columns = {row[1] for row in self._connection.execute("PRAGMA table_info(due_work)")}
        if "sequence" not in columns:
            self._connection.execute("ALTER TABLE due_work ADD COLUMN sequence TEXT NOT NULL DEFAULT ''")

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._connection.close()

    @contextmanager
    def transaction(self) -> Iterator[WorkTransaction]:
        """Several steps, all or none, under the write lock."""
        with self._lock, _translated():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield WorkTransaction(self._connection)
                # A crash before this leaves nothing of it: processors repeat from their position, leases run out.
                # A crash after it leaves all of it: repeats are recognised by position and key.
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def put(self, *works: Work) -> int:
        """Store work whose key is not there yet; how many were new."""
        with self.transaction() as transaction:
            return transaction.put(*works)

    def position(self, name: str) -> tuple[int, bytes, str]:
        """A processor's position, leaf hash and own state; (0, b"", "") in the beginning."""
        with self._lock, _translated():
            return WorkTransaction(self._connection).position(name)

    # -- leases ------------------------------------------------------------------------------------------------------

    def lease(self, kind: str, owner: str, seconds: float, now: float, limit: int = 1) -> list[Lease]:
        """Take at most `limit` pieces that are due, earliest first, for `seconds` from `now`."""
        # A crash after this leaves the work leased: it can be taken again when the lease has run out.
        with self._lock, _translated():
            rows = self._connection.execute(_LEASE, (owner, now + seconds, kind, now, limit)).fetchall()
        return sorted((Lease(*row) for row in rows), key=lambda lease: (lease.due_at, lease.id))

    def extend(self, leases: Sequence[Lease], seconds: float, now: float) -> None:
        """Hold leases for `seconds` from `now`. Raises LeaseLost when one is not ours any more."""
        with self.transaction():
            for lease in leases:
                self._held(lease, "SET leased_until = ?", now + seconds)

    def done(self, *leases: Lease) -> None:
        """The work is done: its row goes. Raises LeaseLost, with nothing changed, for one that was taken over."""
        # A crash before this leaves the work to be done again: whoever does it recognises what it did.
        with self.transaction():
            for lease in leases:
                if not self._connection.execute(f"DELETE FROM due_work {_HELD}", _holder(lease)).rowcount:
                    raise LeaseLost(lease)

    def again(self, *leases: Lease, due_at: float) -> None:
        """Nothing went wrong, but the work is not over: it is due again at `due_at`, its failures forgotten."""
        with self.transaction():
            for lease in leases:
                self._held(lease, "SET leased_until = 0, due_at = ?, attempts = 0, last_error = ''", due_at)

    def retry(self, *leases: Lease, error: str, due_at: float, max_attempts: int | None = None) -> list[Lease]:
        """The work failed: try again at `due_at`; what has had `max_attempts` (None: no limit) is dead.

        Returns the dead. They stay and are shown by `rows` until somebody revives them.
        """
        dead = [lease for lease in leases if max_attempts is not None and lease.attempts >= max_attempts]
        with self.transaction():
            for lease in leases:
                change = "SET leased_until = 0, due_at = ?, last_error = ?, dead = ?"
                self._held(lease, change, due_at, error[:MAX_ERROR_CHARS], int(lease in dead))
        return dead

    def revive(self, key: str, now: float) -> bool:
        """Let dead work be tried again, as if for the first time; False when there is none of that key."""
        with self.transaction():
            revived = self._connection.execute(
                "UPDATE due_work SET dead = 0, attempts = 0, due_at = ? WHERE key = ? AND dead = 1", (now, key)
            )
            return revived.rowcount > 0

    def skip(self, key: str) -> bool:
        """Give dead work up for good, so that what waits behind it goes on; False when there is none of that key."""
        with self.transaction():
            return self._connection.execute("DELETE FROM due_work WHERE key = ? AND dead = 1", (key,)).rowcount > 0

    def release(self, kind: str) -> int:
        """End every lease of a kind at once; how many. For a caller who knows that whoever held them is gone."""
        with self.transaction():
            freed = self._connection.execute(
                "UPDATE due_work SET leased_until = 0 WHERE kind = ? AND leased_until > 0", (kind,)
            )
            return freed.rowcount

    # -- looking -----------------------------------------------------------------------------------------------------

    def next_at(self, kind: str) -> float | None:
        """When there will be something to lease, as far as is known now; None when nothing waits."""
        query = f"SELECT min(max(due_at, leased_until)) FROM due_work WHERE kind = ? AND dead = 0 AND {NOTHING_BEFORE}"
        row = self._one(query, kind)
        return row[0] if row else None

    def rows(self, now: float, *, state: str | None = None, limit: int = 100) -> list[WorkRow]:
        """Work that is not done, the earliest due first."""
        with self._lock, _translated():
            found = self._connection.execute(
                "SELECT * FROM (SELECT id, kind, key, due_at, attempts, lease_owner, last_error, CASE WHEN dead THEN "
                "'dead' WHEN leased_until > ?1 THEN 'leased' ELSE 'waiting' END AS state FROM due_work) "
                "WHERE ?2 IS NULL OR state = ?2 ORDER BY due_at, id LIMIT ?3",
                (now, state, limit),
            ).fetchall()
        return [WorkRow(*row) for row in found]

    def _held(self, lease: Lease, change: str, *values: object) -> None:
        held = self._connection.execute(f"UPDATE due_work {change} {_HELD}", (*values, *_holder(lease)))
        if not held.rowcount:
            raise LeaseLost(lease)

    def _one(self, query: str, *bound: object) -> Any:
        with self._lock, _translated():
            return self._connection.execute(query, bound).fetchone()


def _holder(lease: Lease) -> tuple[int, str, int]:
    return lease.id, lease.owner, lease.fence


@contextmanager
def _translated() -> Iterator[None]:
    """SQLite's errors as our trouble."""
    try:
        yield
    except sqlite3.Error as error:
        raise StorageUnavailable("the due work cannot be stored for now", reason=str(error)) from error

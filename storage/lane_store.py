"""The anchor lane's memory: every signed transaction before it is sent, where each was mined, and an outbox.

One file may hold several lanes; a lane is (chain, publisher key), bound to one contract and log. Each change of
state and the events that tell of it are one transaction, so that no event is lost and none is made up.
"""

import fcntl
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import IO, Final, NamedTuple, Protocol

BUSY_TIMEOUT_SECONDS: Final = 10.0
# raw transactions are needed to send them again; so far behind the newest final one nothing is sent again
KEPT_RAW_NONCES: Final = 1000
SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS lanes(
  lane INTEGER PRIMARY KEY, chain_id INTEGER NOT NULL, publisher TEXT NOT NULL, contract TEXT NOT NULL,
  log_id BLOB NOT NULL, fork TEXT NOT NULL DEFAULT '', UNIQUE(chain_id, publisher)) STRICT;
CREATE TABLE IF NOT EXISTS lane_slots(
  lane INTEGER NOT NULL, nonce INTEGER NOT NULL, state TEXT NOT NULL, tx_hash BLOB, size INTEGER NOT NULL,
  root BLOB NOT NULL, block_number INTEGER, block_hash BLOB, log_index INTEGER, block_time INTEGER,
  gas_used INTEGER, sent_at REAL NOT NULL DEFAULT 0, audited_at REAL NOT NULL DEFAULT 0,
  PRIMARY KEY(lane, nonce)) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS lane_slots_state ON lane_slots(lane, state, audited_at);
CREATE TABLE IF NOT EXISTS lane_attempts(
  number INTEGER PRIMARY KEY, lane INTEGER NOT NULL, nonce INTEGER NOT NULL, tx_hash BLOB NOT NULL UNIQUE,
  old_size INTEGER NOT NULL, size INTEGER NOT NULL, root BLOB NOT NULL, raw BLOB NOT NULL,
  max_fee TEXT NOT NULL, tip TEXT NOT NULL, created_at REAL NOT NULL) STRICT;
CREATE INDEX IF NOT EXISTS lane_attempts_nonce ON lane_attempts(lane, nonce);
CREATE TABLE IF NOT EXISTS lane_outbox(
  seq INTEGER PRIMARY KEY AUTOINCREMENT, lane INTEGER NOT NULL, kind TEXT NOT NULL, body TEXT NOT NULL) STRICT;
"""
_SLOT: Final = "nonce, state, tx_hash, size, root, block_number, block_hash, log_index, block_time, gas_used, sent_at"
_ATTEMPT: Final = "nonce, tx_hash, old_size, size, root, raw, max_fee, tip, created_at"

Events = Sequence[tuple[str, str]]


class LaneMismatchError(Exception):
    """The lane of this chain and key anchors another log or another contract."""


class LaneInUseError(Exception):
    """Another process drives the lane: two would use the same nonces."""


class SlotRow(NamedTuple):
    """One nonce: state planned, sent, mined, final or failed; where it was mined, None before that."""

    nonce: int
    state: str
    tx_hash: bytes | None
    size: int
    root: bytes
    block_number: int | None
    block_hash: bytes | None
    log_index: int | None
    block_time: int | None
    gas_used: int | None
    sent_at: float


class AttemptRow(NamedTuple):
    """One signed transaction of a nonce; fees in wei per gas, created_at in Unix seconds."""

    nonce: int
    tx_hash: bytes
    old_size: int
    size: int
    root: bytes
    raw: bytes
    max_fee: int
    tip: int
    created_at: float


class LaneSql(Protocol):
    """An open transaction: statements with `?` for values."""

    def execute(self, statement: str, values: Sequence[object] = (), /) -> object:
        """Run one."""
        ...

    def executemany(self, statement: str, rows: Sequence[Sequence[object]], /) -> object:
        """Run one for every row."""
        ...


class LaneMemory:
    """What a lane remembers, whatever database it is in: the statements are the same for all.

    A subclass sets `_lane` and gives `_transaction` (all or nothing, durable at its end) and `_rows`, whose first value
    is the lane. One process at a time drives a lane.
    """

    _lane: int

    def _transaction(self) -> AbstractContextManager[LaneSql]:
        raise NotImplementedError

    def _rows(self, query: str, *values: object) -> list[tuple[object, ...]]:
        raise NotImplementedError

    def slots(self, *states: str) -> list[SlotRow]:
        """The slots in these states, lowest nonce first."""
        marks = ",".join("?" * len(states))
        query = f"SELECT {_SLOT} FROM lane_slots WHERE lane=? AND state IN ({marks}) ORDER BY nonce"
        return [SlotRow._make(row) for row in self._rows(query, *states)]

    def slot(self, nonce: int) -> SlotRow | None:
        """The slot of a nonce."""
        rows = self._rows(f"SELECT {_SLOT} FROM lane_slots WHERE lane=? AND nonce=?", nonce)
        return SlotRow._make(rows[0]) if rows else None

    def attempts(self, nonce: int) -> list[AttemptRow]:
        """The transactions signed for a nonce, newest first."""
        query = f"SELECT {_ATTEMPT} FROM lane_attempts WHERE lane=? AND nonce=? ORDER BY number DESC"
        found = [AttemptRow._make(row) for row in self._rows(query, nonce)]
        return [row._replace(max_fee=int(row.max_fee), tip=int(row.tip)) for row in found]

    def plan(
        self,
        *,
        nonce: int,
        tx_hash: bytes,
        old_size: int,
        size: int,
        root: bytes,
        raw: bytes,
        max_fee: int,
        tip: int,
        created_at: float,
        events: Events,
    ) -> None:
        """Keeps a signed transaction, as the nonce's first or as a replacement."""
        with self._transaction() as sql:
            sql.execute(
                f"INSERT INTO lane_attempts(lane, {_ATTEMPT}) VALUES(?,?,?,?,?,?,?,?,?,?)",
                (self._lane, nonce, tx_hash, old_size, size, root, raw, str(max_fee), str(tip), created_at),
            )
            sql.execute(
                "INSERT INTO lane_slots(lane, nonce, state, size, root) VALUES(?,?,'planned',?,?)"
                " ON CONFLICT(lane, nonce) DO UPDATE SET state='planned', size=excluded.size, root=excluded.root,"
                " tx_hash=NULL, block_number=NULL, block_hash=NULL, log_index=NULL, block_time=NULL,"
                " gas_used=NULL",
                (self._lane, nonce, size, root),
            )
            # A crash after this commit and before sending leaves a planned slot: the next tick sends it.
            self._tell(sql, events)

    def mark_sent(self, nonce: int, now: float) -> None:
        """The node has this nonce's newest transaction."""
        with self._transaction() as sql:
            sql.execute(
                "UPDATE lane_slots SET state='sent', sent_at=? WHERE lane=? AND nonce=?",
                (now, self._lane, nonce),
            )

    def mark_mined(
        self,
        nonce: int,
        *,
        tx_hash: bytes,
        size: int,
        root: bytes,
        block_number: int,
        block_hash: bytes,
        log_index: int,
        block_time: int,
        gas_used: int,
        events: Events,
    ) -> None:
        """One of the nonce's transactions is in a block."""
        with self._transaction() as sql:
            # A crash here leaves the slot as it was; the next tick finds the same receipt.
            sql.execute(
                "UPDATE lane_slots SET state='mined', tx_hash=?, size=?, root=?, block_number=?, block_hash=?,"
                " log_index=?, block_time=?, gas_used=? WHERE lane=? AND nonce=?",
                (tx_hash, size, root, block_number, block_hash, log_index, block_time, gas_used, self._lane, nonce),
            )
            self._tell(sql, events)

    def mark_final(self, nonce: int, *, now: float, events: Events) -> None:
        """The nonce's block will not go away any more."""
        with self._transaction() as sql:
            # A crash here leaves the slot mined; the next tick makes it final.
            sql.execute(
                "UPDATE lane_slots SET state='final', audited_at=? WHERE lane=? AND nonce=?",
                (now, self._lane, nonce),
            )
            sql.execute(
                "UPDATE lane_attempts SET raw=? WHERE lane=? AND nonce<? AND raw<>?",
                (b"", self._lane, nonce - KEPT_RAW_NONCES, b""),
            )
            self._tell(sql, events)

    def mark_returned(self, nonce: int, *, events: Events) -> None:
        """The nonce's block is gone: it is to be sent again."""
        with self._transaction() as sql:
            # A crash here leaves the slot mined or final; the next tick or audit finds its block gone again.
            sql.execute(
                "UPDATE lane_slots SET state='sent', sent_at=0, tx_hash=NULL, block_number=NULL, block_hash=NULL,"
                " log_index=NULL, block_time=NULL, gas_used=NULL WHERE lane=? AND nonce=?",
                (self._lane, nonce),
            )
            self._tell(sql, events)

    def mark_failed(self, nonce: int, *, events: Events) -> None:
        """The nonce is used up without an anchor."""
        with self._transaction() as sql:
            # A crash here leaves the slot open; the next tick finds the same reason.
            sql.execute("UPDATE lane_slots SET state='failed' WHERE lane=? AND nonce=?", (self._lane, nonce))
            self._tell(sql, events)

    def due_for_audit(self, before: float, limit: int) -> list[SlotRow]:
        """Final slots not looked at since `before`, longest first."""
        query = (
            f"SELECT {_SLOT} FROM lane_slots WHERE lane=? AND state='final' AND audited_at<?"
            " ORDER BY audited_at LIMIT ?"
        )
        return [SlotRow._make(row) for row in self._rows(query, before, limit)]

    def mark_audited(self, nonces: Sequence[int], now: float) -> None:
        """These final slots still stand."""
        marks = ",".join("?" * len(nonces))
        with self._transaction() as sql:
            sql.execute(
                f"UPDATE lane_slots SET audited_at=? WHERE lane=? AND nonce IN ({marks})",
                (now, self._lane, *nonces),
            )

    def largest_size(self, *states: str) -> int:
        """The largest size among the slots in these states, 0 without any."""
        marks = ",".join("?" * len(states))
        query = f"SELECT max(size) FROM lane_slots WHERE lane=? AND state IN ({marks})"
        size: int | None = self._rows(query, *states)[0][0]  # type: ignore[assignment]
        return size or 0

    def fork(self) -> str:
        """Why the lane stands still, empty when it does not."""
        reason: str = self._rows("SELECT fork FROM lanes WHERE lane=?")[0][0]  # type: ignore[assignment]
        return reason

    def set_fork(self, reason: str, *, events: Events) -> None:
        """Stops the lane for this reason, or lets it go on when empty."""
        with self._transaction() as sql:
            # A crash here leaves the lane going; its next plan finds the same fork before anything is sent.
            sql.execute("UPDATE lanes SET fork=? WHERE lane=?", (reason, self._lane))
            self._tell(sql, events)

    def _tell(self, sql: LaneSql, events: Events) -> None:
        sql.executemany(
            "INSERT INTO lane_outbox(lane, kind, body) VALUES(?,?,?)",
            [(self._lane, kind, body) for kind, body in events],
        )

    def pending_events(self, limit: int) -> list[tuple[int, str, str]]:
        """The oldest events not yet acknowledged: (sequence number, kind, JSON body)."""
        query = "SELECT seq, kind, body FROM lane_outbox WHERE lane=? ORDER BY seq LIMIT ?"
        return self._rows(query, limit)  # type: ignore[return-value]

    def acknowledge(self, seq: int) -> None:
        """The events up to this number have been taken over."""
        with self._transaction() as sql:
            # A crash before this leaves the events in the outbox: they come again and are recognised as repeats.
            sql.execute("DELETE FROM lane_outbox WHERE lane=? AND seq<=?", (self._lane, seq))


class SqliteLaneStore(LaneMemory):
    """A lane in one SQLite file (WAL, synchronous FULL). Safe to use from several threads, one call at a time.

    Raises LaneInUseError while another process holds the file's lane lock, LaneMismatchError when this chain and
    key are bound to another contract or log.
    """

    def __init__(self, path: Path, *, chain_id: int, publisher: str, contract: str, log_id: bytes) -> None:
        self._mutex = threading.Lock()
        self._lock = _take_lock(path)
        self._sql = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=BUSY_TIMEOUT_SECONDS)
        try:
            self._sql.execute("PRAGMA journal_mode=WAL")
            self._sql.execute("PRAGMA synchronous=FULL")
            self._sql.executescript(SCHEMA)
            self._lane = self._bind(chain_id, publisher, contract, log_id)
        except BaseException:
            self.close()
            raise

    def _bind(self, chain_id: int, publisher: str, contract: str, log_id: bytes) -> int:
        # A crash here leaves a lane without slots, which the next start finds as it is.
        self._sql.execute(
            "INSERT OR IGNORE INTO lanes(chain_id, publisher, contract, log_id) VALUES(?,?,?,?)",
            (chain_id, publisher, contract, log_id),
        )
        row = self._sql.execute(
            "SELECT lane, contract, log_id FROM lanes WHERE chain_id=? AND publisher=?", (chain_id, publisher)
        ).fetchone()
        lane: int = row[0]
        require_same(publisher, chain_id, (row[1], row[2]), (contract, log_id))
        return lane

    def close(self) -> None:
        """Closes the file and gives up the lane."""
        self._sql.close()
        self._lock.close()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._mutex:
            self._sql.execute("BEGIN IMMEDIATE")
            try:
                yield self._sql
                self._sql.execute("COMMIT")
            except BaseException:
                if self._sql.in_transaction:
                    self._sql.execute("ROLLBACK")
                raise

    def _rows(self, query: str, *values: object) -> list[tuple[object, ...]]:
        with self._mutex:
            return self._sql.execute(query, (self._lane, *values)).fetchall()


def require_same(publisher: str, chain_id: int, bound: tuple[str, bytes], wanted: tuple[str, bytes]) -> None:
    """Raise LaneMismatchError unless a lane is bound to the wanted contract and log."""
    if bound != wanted:
        raise LaneMismatchError(
            f"key {publisher} on chain {chain_id} anchors log 0x{bound[1].hex()} in {bound[0]}, "
            f"not 0x{wanted[1].hex()} in {wanted[0]}"
        )


def _take_lock(path: Path) -> IO[str]:
    lock = path.with_name(path.name + ".lane.lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise LaneInUseError(f"another process drives the anchor lanes of {path}") from None
    return lock

"""The chain's SQLite file: py-evm's key-value pairs, an index of logs, and what was fixed at genesis.

Writes collect in memory and become durable block by block, in one transaction each. Not thread-safe.
"""

import fcntl
import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

from eth.db.atomic import AtomicDBWriteBatch
from eth.db.backends.base import BaseAtomicDB

from chain.node.errors import ChainBusyError, ChainMismatchError

FORMAT: Final = 1
BUSY_TIMEOUT_SECONDS: Final = 10
SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS meta(name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS kv(key BLOB PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS logs(
    block INTEGER NOT NULL, log_index INTEGER NOT NULL, block_hash BLOB NOT NULL, tx_hash BLOB NOT NULL,
    tx_index INTEGER NOT NULL, address BLOB NOT NULL, topic0 BLOB, topic1 BLOB, topic2 BLOB, topic3 BLOB,
    data BLOB NOT NULL, PRIMARY KEY(block, log_index)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS logs_by_topic ON logs(topic0, topic1, block);
CREATE INDEX IF NOT EXISTS logs_by_address ON logs(address, block);
"""


class LogRow(NamedTuple):
    """One event log as stored; topics that it does not have are None."""

    block: int
    log_index: int
    block_hash: bytes
    tx_hash: bytes
    tx_index: int
    address: bytes
    topics: tuple[bytes | None, bytes | None, bytes | None, bytes | None]
    data: bytes


class LogFilter(NamedTuple):
    """Blocks from..to inclusive, any of the addresses, per topic place any of the values (None: all)."""

    from_block: int
    to_block: int
    addresses: Sequence[bytes] | None
    topics: Sequence[Sequence[bytes] | None]


class ChainStore(BaseAtomicDB):
    """py-evm's database over one file. `read_only` takes no lock and writes nothing.

    Raises ChainBusyError when another process writes the file, ChainMismatchError when it is no chain file.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self._dirty: dict[bytes, bytes | None] = {}
        self._lock = None
        if read_only:
            self._sql = _open_read_only(path)
        else:
            self._lock = _take_lock(path)
            self._sql = sqlite3.connect(
                path, isolation_level=None, check_same_thread=False, timeout=BUSY_TIMEOUT_SECONDS
            )
        try:
            if not read_only:
                self._sql.execute("PRAGMA journal_mode=WAL")
                self._sql.execute("PRAGMA synchronous=FULL")
                self._sql.executescript(SCHEMA)
            version = self.meta("format")
        except sqlite3.DatabaseError as error:
            self.close()
            raise ChainMismatchError(f"{path} is not a chain file: {error}") from error
        if version not in {None, FORMAT}:
            self.close()
            raise ChainMismatchError(f"{path} has format {version}, this version reads {FORMAT}")

    def close(self) -> None:
        """Closes the file (its write-ahead log is folded in) and gives up the lock."""
        self._sql.close()
        if self._lock is not None:
            self._lock.close()

    # py-evm's database interface

    def __getitem__(self, key: bytes) -> bytes:
        if key in self._dirty:
            value = self._dirty[key]
            if value is None:
                raise KeyError(key)
            return value
        row = self._sql.execute("SELECT value FROM kv WHERE key=?", (key,)).fetchone()
        if row is None:
            raise KeyError(key)
        stored: bytes = row[0]
        return stored

    def __setitem__(self, key: bytes, value: bytes) -> None:
        self._dirty[key] = value

    def __delitem__(self, key: bytes) -> None:
        self._dirty[key] = None

    def _exists(self, key: bytes) -> bool:
        if key in self._dirty:
            return self._dirty[key] is not None
        return self._sql.execute("SELECT 1 FROM kv WHERE key=?", (key,)).fetchone() is not None

    @contextmanager
    def atomic_batch(self) -> Iterator[Any]:
        """A batch whose writes reach this store all or not at all (py-evm's contract)."""
        with AtomicDBWriteBatch._commit_unless_raises(self) as batch:  # noqa: SLF001 (py-evm's only way to make one)
            yield batch

    # blocks

    def commit(self, logs: Sequence[LogRow], meta: dict[str, Any] | None = None) -> None:
        """Makes everything written since the last commit durable, with these logs, in one transaction.

        On failure (a full disk) nothing of it remains, in memory neither.
        """
        try:
            self._sql.execute("BEGIN IMMEDIATE")
            puts = [(k, v) for k, v in self._dirty.items() if v is not None]
            deletes = [(k,) for k, v in self._dirty.items() if v is None]
            self._sql.executemany("INSERT OR REPLACE INTO kv VALUES(?,?)", puts)
            self._sql.executemany("DELETE FROM kv WHERE key=?", deletes)
            self._sql.executemany(
                "INSERT INTO logs VALUES(?,?,?,?,?,?,?,?,?,?,?)",
                [(*row[:6], *row.topics, row.data) for row in logs],
            )
            for name, value in (meta or {}).items():
                self._sql.execute("INSERT INTO meta VALUES(?,?)", (name, json.dumps(value)))
            # A crash before this line leaves the previous block as the head: the transaction was not
            # acknowledged and its sender sends it again. After it the block stays, even through a power cut.
            self._sql.execute("COMMIT")
        except BaseException:
            if self._sql.in_transaction:
                self._sql.execute("ROLLBACK")
            raise
        finally:
            self._dirty.clear()

    def discard(self) -> None:
        """Forgets everything written since the last commit."""
        self._dirty.clear()

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Reads inside see one state of the file, also when another process mines meanwhile."""
        self._sql.execute("BEGIN")
        try:
            yield
        finally:
            self._sql.execute("COMMIT")

    def meta(self, name: str) -> Any:
        """A value fixed at genesis, None when the file is new."""
        row = self._sql.execute("SELECT value FROM meta WHERE name=?", (name,)).fetchone()
        return None if row is None else json.loads(row[0])

    def logs(self, wanted: LogFilter, limit: int) -> list[LogRow]:
        """At most `limit` logs that pass the filter, in chain order."""
        where = ["block BETWEEN ? AND ?"]
        values: list[int | bytes] = [wanted.from_block, wanted.to_block]
        columns = [("address", wanted.addresses), *((f"topic{n}", t) for n, t in enumerate(wanted.topics))]
        for column, allowed in columns:
            if allowed is not None:
                where.append(f"{column} IN ({','.join('?' * len(allowed))})")
                values.extend(allowed)
        rows = self._sql.execute(
            f"SELECT * FROM logs WHERE {' AND '.join(where)} ORDER BY block, log_index LIMIT ?",
            (*values, limit),
        )
        return [LogRow._make((*row[:6], row[6:10], row[10])) for row in rows]


def _take_lock(path: Path) -> Any:
    lock = path.with_name(path.name + ".lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise ChainBusyError(f"{path} is in use by another node") from None
    return lock


def _open_read_only(path: Path) -> sqlite3.Connection:
    if not path.is_file():
        raise ChainMismatchError(f"{path} does not exist")
    # Without a write-ahead log nobody is writing: `immutable` then spares the -shm file that SQLite would
    # create. With one, the newest blocks are in it and must be read too.
    has_wal = path.with_name(path.name + "-wal").exists()
    mode = "mode=ro" if has_wal else "mode=ro&immutable=1"
    try:
        connection = sqlite3.connect(
            f"{path.resolve().as_uri()}?{mode}",
            uri=True,
            isolation_level=None,
            check_same_thread=False,
            timeout=BUSY_TIMEOUT_SECONDS,
        )
        connection.execute("SELECT count(*) FROM meta")
    except sqlite3.DatabaseError as error:
        raise ChainMismatchError(f"{path} cannot be read as a chain file: {error}") from error
    return connection

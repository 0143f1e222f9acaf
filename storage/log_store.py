"""The truth about the log on disk: leaf hashes in tiles of 256, their position, every signed checkpoint."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Lock
from typing import Any

from merkle.checkpoint import StoredCheckpoint
from merkle.hashing import HASH_BYTES
from merkle.tiles import TILE_WIDTH

__all__ = [
    "LogConflictError",
    "LogDamagedError",
    "LogStoreError",
    "LogUnavailableError",
    "SqliteLogStore",
    "StoredCheckpoint",
]

_TILE_BYTES = TILE_WIDTH * HASH_BYTES
_TILES_PER_CHUNK = 1024
_BUSY_TIMEOUT_SECONDS = 10.0
_SCHEMA_VERSION = 1

_SCHEMA = f"""
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS tile (number INTEGER PRIMARY KEY, hashes BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS reached (
    one INTEGER PRIMARY KEY CHECK (one = 1), position INTEGER NOT NULL, leaf BLOB NOT NULL);
INSERT OR IGNORE INTO reached VALUES (1, 0, x'');
CREATE TABLE IF NOT EXISTS checkpoints (
    size INTEGER PRIMARY KEY, root BLOB NOT NULL, note BLOB NOT NULL, signed_at TEXT NOT NULL);
PRAGMA user_version = {_SCHEMA_VERSION};
COMMIT;
"""

# One statement for any number of tiles: executemany would give up the interpreter lock for each row.
_PUT_TILES = f"""
INSERT INTO tile SELECT value, substr(?2, (value - ?3) * {_TILE_BYTES} + 1, {_TILE_BYTES}) FROM json_each(?1)
WHERE 1 ON CONFLICT (number) DO UPDATE SET hashes = excluded.hashes
"""


class LogStoreError(Exception):
    """The log store refuses: the caller is wrong about the log. Nothing was changed.

    LogStoreError
    ├── LogConflictError      somebody else moved the log on: stop, there is a second sequencer
    ├── LogUnavailableError   locked, full or read-only disk: retry
    └── LogDamagedError       what is on disk contradicts itself: stop, rebuild from the entries
    """


class LogConflictError(LogStoreError):
    """Somebody else has moved the log on: a second sequencer, or our own write whose answer was lost."""


class LogUnavailableError(LogStoreError):
    """The disk is full, read-only or held by another process. Whether a commit took effect is not known."""


class LogDamagedError(LogStoreError):
    """What is on disk contradicts itself; the message names the tile where one is concerned."""


class SqliteLogStore:
    """One SQLite file (WAL, synchronous FULL): a commit that returned survives a power cut.

    One connection writes, another reads; both may be used from any thread.
    """

    def __init__(self, path: Path | str) -> None:
        """Open or create the file. LogStoreError when a newer program wrote it."""
        self._path = str(path)
        self._writing, self._reading = Lock(), Lock()
        with self._translated():
            self._writer = self._connect()
            version = self._writer.execute("PRAGMA user_version").fetchone()[0]
            if version not in {0, _SCHEMA_VERSION}:
                self._writer.close()
                raise LogStoreError(f"log store {self._path}: format {version} instead of {_SCHEMA_VERSION}")
            self._writer.execute("PRAGMA journal_mode = WAL")
            self._writer.execute("PRAGMA synchronous = FULL")
            if version == 0:  # a finished file is opened without a write, so that an audit leaves it as it is
                # A crash here leaves an empty file, which the next start fills: the tables come in one
                # transaction.
                self._writer.executescript(_SCHEMA)
            self._reader = self._connect()

    def close(self) -> None:
        """Close both connections."""
        with self._writing, self._reading:
            self._writer.close()
            self._reader.close()

    def position(self) -> tuple[int, bytes]:
        """The last position stored and its leaf hash; (0, b"") in the beginning."""
        position, leaf = self._read_one("SELECT position, leaf FROM reached")
        return position, leaf

    def append(self, first_position: int, leaf_hashes: bytes) -> None:
        """Store leaf hashes, joined (32 bytes each), from `first_position` on, durably.

        LogConflictError when `first_position` is not the one after the last, LogDamagedError when the last
        tile is not as long as the position says.
        """
        if not leaf_hashes or len(leaf_hashes) % HASH_BYTES:
            raise LogStoreError(f"log store: {len(leaf_hashes)} bytes are not whole leaf hashes")
        with self._transaction() as writer:
            (position,) = writer.execute("SELECT position FROM reached").fetchone()
            if first_position != position + 1:
                raise LogConflictError(f"log store: position {first_position} after {position}")
            tile, filled = divmod(position, TILE_WIDTH)
            # Only the last, partial tile is written again; full tiles never change.
            data = self._partial(tile, filled) + leaf_hashes
            numbers = list(range(tile, tile + -(-len(data) // _TILE_BYTES)))
            writer.execute(_PUT_TILES, (str(numbers), data, tile))
            writer.execute(
                "UPDATE reached SET position = ?, leaf = ?",
                (position + len(leaf_hashes) // HASH_BYTES, leaf_hashes[-HASH_BYTES:]),
            )
            # A crash before this commit leaves the old position: the sequencer is fed the same entries again.
            # A crash after it leaves hashes that no checkpoint covers yet: the next publish does.

    def load(self) -> Iterator[bytes]:
        """All leaf hashes in order, joined, in chunks of 8 MiB at most; one consistent state.

        LogDamagedError, naming the tile, when one is missing or has the wrong length, or when the last hash
        is not that of the position.
        """
        return self.load_from(0)

    def load_from(self, size: int) -> Iterator[bytes]:
        """As `load`, without the first `size` leaves (at most the position)."""
        first, skipped = divmod(size, TILE_WIDTH)
        with self._translated(), closing(self._connect()) as connection:
            connection.execute("BEGIN")
            position, leaf = connection.execute("SELECT position, leaf FROM reached").fetchone()
            tiles = connection.execute("SELECT number, hashes FROM tile WHERE number >= ? ORDER BY number", (first,))
            count, last = first, b""
            while rows := tiles.fetchmany(_TILES_PER_CHUNK):
                for number, hashes in rows:
                    width = min(position - count * TILE_WIDTH, TILE_WIDTH)
                    if number != count or width <= 0:
                        raise self._damaged(min(number, count), f"missing or too many for position {position}")
                    if len(hashes) != width * HASH_BYTES:
                        raise self._damaged(number, f"{len(hashes)} bytes instead of {width * HASH_BYTES}")
                    count += 1
                last = rows[-1][1][-HASH_BYTES:]
                yield b"".join(hashes for _, hashes in rows)[skipped * HASH_BYTES :]
                skipped = 0
            if count != max(first, -(-position // TILE_WIDTH)):
                raise self._damaged(count, f"missing, the log reaches position {position}")
            if (last or not first) and last != leaf:
                raise self._damaged(count - 1, f"its last hash is not that of position {position}")

    def last_checkpoint(self) -> StoredCheckpoint | None:
        """The newest signed checkpoint, None before the first."""
        return self._checkpoint("ORDER BY size DESC LIMIT 1")

    def checkpoints(self) -> Iterator[StoredCheckpoint]:
        """Every signed checkpoint, smallest first, as of now."""
        with self._translated(), self._reading:
            rows = self._reader.execute("SELECT size, root, note, signed_at FROM checkpoints ORDER BY size").fetchall()
        return (StoredCheckpoint(*row) for row in rows)

    def checkpoint_at_least(self, size: int) -> StoredCheckpoint | None:
        """The smallest signed checkpoint that covers `size` leaves, None when none does yet."""
        return self._checkpoint("WHERE size >= ? ORDER BY size LIMIT 1", size)

    def add_checkpoint(self, previous_size: int, checkpoint: StoredCheckpoint) -> None:
        """Store a signed checkpoint, durably, if the last is still that of `previous_size` (0: none).

        LogConflictError when it is not; LogStoreError when the size did not grow or exceeds the stored
        position.
        """
        with self._transaction() as writer:
            last, position = writer.execute(
                "SELECT (SELECT coalesce(max(size), 0) FROM checkpoints), position FROM reached"
            ).fetchone()
            if last != previous_size:
                raise LogConflictError(f"log store: the last checkpoint is {last}, not {previous_size}")
            if not last < checkpoint.size <= position:
                raise LogStoreError(f"log store: checkpoint {checkpoint.size} after {last}, the log reaches {position}")
            writer.execute(
                "INSERT INTO checkpoints VALUES (?, ?, ?, ?)",
                (checkpoint.size, checkpoint.root, checkpoint.note, checkpoint.signed_at),
            )
            # A crash before this commit leaves a signature that nobody saw: the next publish signs again.
            # A crash after it leaves a head that is not shown yet: the next start or publish shows it.

    def restore_checkpoints(self, found: Sequence[StoredCheckpoint]) -> int:
        """Store checkpoints that were lost, of any size up to the position, whatever later ones there are; how many.

        The caller has verified each against the tree.
        """
        with self._transaction() as writer:
            (position,) = writer.execute("SELECT position FROM reached").fetchone()
            if any(each.size > position for each in found):
                raise LogStoreError(f"log store: a checkpoint beyond position {position}")
            before = writer.total_changes
            rows = [(each.size, each.root, each.note, each.signed_at) for each in found]
            writer.executemany("INSERT OR IGNORE INTO checkpoints VALUES (?, ?, ?, ?)", rows)
            # A crash before this commit leaves the log without them: the restoration is run again.
            return writer.total_changes - before

    def _checkpoint(self, which: str, *bound: int) -> StoredCheckpoint | None:
        row = self._read_one(f"SELECT size, root, note, signed_at FROM checkpoints {which}", *bound)
        return StoredCheckpoint(*row) if row else None

    def _read_one(self, query: str, *bound: int) -> Any:
        with self._reading, self._translated():
            return self._reader.execute(query, bound).fetchone()

    def _partial(self, tile: int, filled: int) -> bytes:
        """The hashes of the last tile, none when it is still to begin."""
        row = self._writer.execute("SELECT hashes FROM tile WHERE number = ?", (tile,)).fetchone()
        hashes: bytes = row[0] if row else b""
        if len(hashes) != filled * HASH_BYTES:
            raise self._damaged(tile, f"{len(hashes)} bytes instead of {filled * HASH_BYTES}")
        return hashes

    def _damaged(self, tile: int, what: str) -> LogDamagedError:
        return LogDamagedError(f"log store {self._path}: tile {tile}: {what}")

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self._path, timeout=_BUSY_TIMEOUT_SECONDS, isolation_level=None, check_same_thread=False)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """A write transaction: the lock first, so that what is read in it still holds at the commit."""
        with self._writing, self._translated():
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                yield self._writer
                self._writer.execute("COMMIT")
            except BaseException:
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")
                raise

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """SQLite's errors as ours: what may pass by itself is unavailable, anything else is damage."""
        try:
            yield
        except sqlite3.OperationalError as error:
            raise LogUnavailableError(f"log store {self._path}: {error}") from error
        except sqlite3.DatabaseError as error:
            raise LogDamagedError(f"log store {self._path}: {error}") from error


def whole_tiles(first: int, hashes: bytes) -> list[tuple[int, bytes]]:
    """Joined leaf hashes, from the beginning of tile `first` on, cut into tiles; the last one may be partial."""
    starts = range(0, len(hashes), _TILE_BYTES)
    return [(first + number, hashes[start : start + _TILE_BYTES]) for number, start in enumerate(starts)]

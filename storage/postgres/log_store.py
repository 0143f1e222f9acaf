"""The truth about the log in PostgreSQL: leaf hashes in tiles of 256, their position, every signed checkpoint."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import psycopg

from domain.errors import StorageUnavailable
from merkle.checkpoint import StoredCheckpoint
from merkle.hashing import HASH_BYTES
from merkle.tiles import TILE_WIDTH
from storage.log_store import LogConflictError, LogDamagedError, LogStoreError, LogUnavailableError, whole_tiles
from storage.postgres.database import Database, Row, Session, unavailable

_TILES_PER_CHUNK: Final = 1024
_LOADER_IDLE_MS: Final = 60_000  # whoever loads hashes between two chunks; nobody waits for a lock of his
_LOCK: Final = "log"
_CHECKPOINT: Final = "SELECT size, root, note, signed_at FROM checkpoints"
_PUT_TILES: Final = """
INSERT INTO tile SELECT * FROM unnest(%b::bigint[], %b::bytea[])
ON CONFLICT (number) DO UPDATE SET hashes = excluded.hashes
"""


class PostgresLogStore:
    """One book's log. Any thread may call; errors are those of `storage.log_store`.

    A write that raises LogUnavailableError may have taken effect or not: the sequencer loads the log again.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._writer, self._reader = Session(database, "log"), Session(database, "log reader")

    def close(self) -> None:
        """Close both connections."""
        self._writer.close()
        self._reader.close()

    def position(self) -> tuple[int, bytes]:
        """The last position stored and its leaf hash; (0, b"") in the beginning."""
        position, leaf = self._read("SELECT position, leaf FROM reached")[0]
        return position, bytes(leaf)

    def append(self, first_position: int, leaf_hashes: bytes) -> None:
        """Store leaf hashes, joined (32 bytes each), from `first_position` on, durably.

        LogConflictError when `first_position` is not the one after the last, LogDamagedError when the last tile is not
        as long as the position says.
        """
        if not leaf_hashes or len(leaf_hashes) % HASH_BYTES:
            raise LogStoreError(f"log store: {len(leaf_hashes)} bytes are not whole leaf hashes")
        with self._transaction() as cursor:
            position = self._reached(cursor)
            if first_position != position + 1:
                raise LogConflictError(f"log store: position {first_position} after {position}")
            tile, filled = divmod(position, TILE_WIDTH)
            tiles = whole_tiles(tile, self._partial(cursor, tile, filled) + leaf_hashes)
            # Only the last, partial tile is written again; full tiles never change.
            cursor.execute(_PUT_TILES, ([number for number, _ in tiles], [hashes for _, hashes in tiles]))
            cursor.execute(
                "UPDATE reached SET position = %s, leaf = %s",
                (position + len(leaf_hashes) // HASH_BYTES, leaf_hashes[-HASH_BYTES:]),
            )
            # A crash before the commit leaves the old position: the sequencer is fed the same entries again. A crash
            # after it leaves hashes that no checkpoint covers yet: the next publish does.

    def load(self) -> Iterator[bytes]:
        """All leaf hashes in order, joined, in chunks of 8 MiB at most; one consistent state.

        LogDamagedError, naming the tile, when one is missing or has the wrong length, or when the last hash is not that
        of the position.
        """
        return self.load_from(0)

    def load_from(self, size: int) -> Iterator[bytes]:
        """As `load`, without the first `size` leaves (at most the position)."""
        first, skipped = divmod(size, TILE_WIDTH)
        with self._translated(), self._database.connect("log loader") as connection:
            connection.execute(f"SET idle_in_transaction_session_timeout = {_LOADER_IDLE_MS}")
            connection.execute("BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            position, leaf = connection.execute("SELECT position, leaf FROM reached").fetchall()[0]
            count, last = first, b""
            with connection.cursor("tiles", withhold=False) as tiles:
                tiles.itersize = _TILES_PER_CHUNK
                tiles.execute("SELECT number, hashes FROM tile WHERE number >= %s ORDER BY number", (first,))
                while rows := tiles.fetchmany(_TILES_PER_CHUNK):
                    for number, hashes in rows:
                        self._check_tile(number, len(hashes), count, position)
                        count += 1
                    last = bytes(rows[-1][1][-HASH_BYTES:])
                    chunk = b"".join(hashes for _, hashes in rows)
                    yield chunk[skipped * HASH_BYTES :]
                    skipped = 0
            if count != max(first, -(-position // TILE_WIDTH)):
                raise self._damaged(count, f"missing, the log reaches position {position}")
            if (last or not first) and last != bytes(leaf):
                raise self._damaged(count - 1, f"its last hash is not that of position {position}")

    def last_checkpoint(self) -> StoredCheckpoint | None:
        """The newest signed checkpoint, None before the first."""
        return self._one(f"{_CHECKPOINT} ORDER BY size DESC LIMIT 1")

    def checkpoints(self) -> Iterator[StoredCheckpoint]:
        """Every signed checkpoint, smallest first, as of now."""
        return (_stored(row) for row in self._read(f"{_CHECKPOINT} ORDER BY size"))

    def checkpoint_at_least(self, size: int) -> StoredCheckpoint | None:
        """The smallest signed checkpoint that covers `size` leaves, None when none does yet."""
        return self._one(f"{_CHECKPOINT} WHERE size >= %s ORDER BY size LIMIT 1", size)

    def add_checkpoint(self, previous_size: int, checkpoint: StoredCheckpoint) -> None:
        """Store a signed checkpoint, durably, if the last is still that of `previous_size` (0: none).

        LogConflictError when it is not; LogStoreError when the size did not grow or exceeds the stored position.
        """
        with self._transaction() as cursor:
            position = self._reached(cursor)
            cursor.execute("SELECT coalesce(max(size), 0) FROM checkpoints")
            (last,) = cursor.fetchall()[0]
            if last != previous_size:
                raise LogConflictError(f"log store: the last checkpoint is {last}, not {previous_size}")
            if not last < checkpoint.size <= position:
                raise LogStoreError(f"log store: checkpoint {checkpoint.size} after {last}, the log reaches {position}")
            cursor.execute(
                "INSERT INTO checkpoints VALUES (%s, %s, %s, %s)",
                (checkpoint.size, checkpoint.root, checkpoint.note, checkpoint.signed_at),
            )
            channel = self._database.channel("checkpoints")
            cursor.execute("SELECT pg_notify(%s, %s)", (channel, str(checkpoint.size)))
            # A crash before the commit leaves a signature that nobody saw: the next publish signs again. A crash after
            # it leaves a head that is not shown yet: the next start or publish shows it.

    def restore_checkpoints(self, found: Sequence[StoredCheckpoint]) -> int:
        """Store checkpoints that were lost, of any size up to the position, whatever later ones there are; how many.

        The caller has verified each against the tree.
        """
        restored = 0
        with self._transaction() as cursor:
            position = self._reached(cursor)
            if any(each.size > position for each in found):
                raise LogStoreError(f"log store: a checkpoint beyond position {position}")
            for each in found:
                cursor.execute(
                    "INSERT INTO checkpoints VALUES (%s, %s, %s, %s) ON CONFLICT (size) DO NOTHING",
                    (each.size, each.root, each.note, each.signed_at),
                )
                restored += cursor.rowcount
            # A crash before the commit leaves the log without them: the restoration is run again.
        return restored

    @staticmethod
    def _reached(cursor: psycopg.Cursor[Row]) -> int:
        cursor.execute("SELECT position FROM reached")
        return int(cursor.fetchall()[0][0])

    def _partial(self, cursor: psycopg.Cursor[Row], tile: int, filled: int) -> bytes:
        """The hashes of the last tile, none when it is still to begin."""
        cursor.execute("SELECT hashes FROM tile WHERE number = %s", (tile,))
        row = cursor.fetchone()
        hashes = bytes(row[0]) if row else b""
        if len(hashes) != filled * HASH_BYTES:
            raise self._damaged(tile, f"{len(hashes)} bytes instead of {filled * HASH_BYTES}")
        return hashes

    def _check_tile(self, number: int, size: int, expected: int, position: int) -> None:
        width = min(position - expected * TILE_WIDTH, TILE_WIDTH)
        if number != expected or width <= 0:
            raise self._damaged(min(number, expected), f"missing or too many for position {position}")
        if size != width * HASH_BYTES:
            raise self._damaged(number, f"{size} bytes instead of {width * HASH_BYTES}")

    def _one(self, query: str, *values: object) -> StoredCheckpoint | None:
        rows = self._read(query, *values)
        return _stored(rows[0]) if rows else None

    def _read(self, query: str, *values: object) -> list[Row]:
        with self._translated():
            return self._reader.rows(query, values)

    def _damaged(self, tile: int, what: str) -> LogDamagedError:
        return LogDamagedError(f"log store {self._database.schema}: tile {tile}: {what}")

    @contextmanager
    def _transaction(self) -> Iterator[psycopg.Cursor[Row]]:
        """A write transaction: the lock first, so that what is read in it still holds at the commit."""
        with self._translated(), self._writer.transaction(advisory_lock=_LOCK) as cursor:
            yield cursor

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except StorageUnavailable as error:
            raise LogUnavailableError(f"log store {self._database.schema}: {error.values['reason']}") from error
        except psycopg.Error as error:
            reason = unavailable(error).values["reason"]
            raise LogUnavailableError(f"log store {self._database.schema}: {reason}") from error


def _stored(row: Any) -> StoredCheckpoint:
    size, root, note, signed_at = row
    return StoredCheckpoint(size, bytes(root), bytes(note), signed_at)

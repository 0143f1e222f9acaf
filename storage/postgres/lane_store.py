"""The anchor lane's memory in PostgreSQL (see storage.lane_store). Its process is the leader of the anchorers.

Opening a lane takes it from whoever had it: each opening has a number, and every write looks whether it is still the
newest, under a lock of the lane's row. So a leader that was paused and wakes up writes nothing any more; and since
a lane keeps every transaction before it sends it, it signs and sends nothing new either.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from storage.lane_store import LaneInUseError, LaneMemory, LaneSql, require_same
from storage.postgres.database import Database, MarkedCursor, Session


class PostgresLaneStore(LaneMemory):
    """A lane in one book's schema. Any thread may call.

    Raises LaneMismatchError when this chain and key are bound to another contract or log, StorageUnavailable when the
    database refuses or is away, and LaneInUseError from every write after another process has opened the lane.
    """

    def __init__(self, database: Database, *, chain_id: int, publisher: str, contract: str, log_id: bytes) -> None:
        self._session = Session(database, "anchor lane")
        try:
            self._lane, self._opened = self._bind(chain_id, publisher, contract, log_id)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the connection."""
        self._session.close()

    def _bind(self, chain_id: int, publisher: str, contract: str, log_id: bytes) -> tuple[int, int]:
        """The lane, made where it is missing, and the number of this opening."""
        with self._session.transaction() as cursor:
            cursor.execute(
                "INSERT INTO lanes (chain_id, publisher, contract, log_id) VALUES (%s, %s, %s, %s)"
                " ON CONFLICT (chain_id, publisher) DO NOTHING",
                (chain_id, publisher, contract, log_id),
            )
            found = "SELECT contract, log_id FROM lanes WHERE chain_id = %s AND publisher = %s"
            bound_contract, bound_log = cursor.execute(found, (chain_id, publisher)).fetchall()[0]
            require_same(publisher, chain_id, (bound_contract, bytes(bound_log)), (contract, log_id))
            # A crash here or after the commit leaves a lane that nobody drives: the next opening takes it.
            opened = (
                "UPDATE lanes SET opened = opened + 1 WHERE chain_id = %s AND publisher = %s RETURNING lane, opened"
            )
            lane, number = cursor.execute(opened, (chain_id, publisher)).fetchall()[0]
        return lane, number

    @contextmanager
    def _transaction(self) -> Iterator[LaneSql]:
        with self._session.transaction() as cursor:
            self._require_ours(cursor.execute("SELECT opened FROM lanes WHERE lane = %s FOR UPDATE", (self._lane,)))
            yield MarkedCursor(cursor)

    def _require_ours(self, found: Iterator[tuple[int, ...]]) -> None:
        if [number for (number,) in found] != [self._opened]:
            raise LaneInUseError("another process has opened this anchor lane and drives it now")

    def _rows(self, query: str, *values: object) -> list[tuple[object, ...]]:
        return self._session.rows(query.replace("?", "%s"), (self._lane, *values))

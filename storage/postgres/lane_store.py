"""The anchor lane's memory in PostgreSQL (see storage.lane_store). Its process is the leader of the anchorers."""

from collections.abc import Iterator
from contextlib import contextmanager

from storage.lane_store import LaneMemory, LaneSql, require_same
from storage.postgres.database import Database, MarkedCursor, Session


class PostgresLaneStore(LaneMemory):
    """A lane in one book's schema. Raises LaneMismatchError, StorageUnavailable."""

    def __init__(self, database: Database, *, chain_id: int, publisher: str, contract: str, log_id: bytes) -> None:
        self._session = Session(database, "anchor lane")
        self._lane = self._bind(chain_id, publisher, contract, log_id)

    def close(self) -> None:
        """Close the connection."""
        self._session.close()

    def _bind(self, chain_id: int, publisher: str, contract: str, log_id: bytes) -> int:
        # A crash here leaves a lane without slots, which the next start finds as it is.
        with self._session.transaction() as cursor:
            cursor.execute(
                "INSERT INTO lanes (chain_id, publisher, contract, log_id) VALUES (%s, %s, %s, %s)"
                " ON CONFLICT (chain_id, publisher) DO NOTHING",
                (chain_id, publisher, contract, log_id),
            )
            found = "SELECT lane, contract, log_id FROM lanes WHERE chain_id = %s AND publisher = %s"
            lane, bound_contract, bound_log = cursor.execute(found, (chain_id, publisher)).fetchall()[0]
        require_same(publisher, chain_id, (bound_contract, bytes(bound_log)), (contract, log_id))
        return int(lane)

    @contextmanager
    def _transaction(self) -> Iterator[LaneSql]:
        with self._session.transaction() as cursor:
            yield MarkedCursor(cursor)

    def _rows(self, query: str, *values: object) -> list[tuple[object, ...]]:
        return self._session.rows(query.replace("?", "%s"), (self._lane, *values))

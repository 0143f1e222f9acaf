"""What each worker says of its processor, for readiness and people; nothing is decided by it."""

import time
from typing import Any, Final

from storage.postgres.database import Database, Session

MAX_ERROR_CHARS: Final = 500
_REPORT: Final = """
INSERT INTO processor_status VALUES (%s, %s, %s, %s, %s, %s, %s) ON CONFLICT (name) DO UPDATE
SET position = excluded.position, lag = excluded.lag, state = excluded.state, error = excluded.error,
    worker = excluded.worker, reported_at = excluded.reported_at
"""
_COLUMNS: Final = ("name", "position", "lag", "state", "error", "worker", "reported_at")


class ProcessorStatusTable:
    """One row a processor, overwritten by whoever leads it. Raises StorageUnavailable."""

    def __init__(self, database: Database) -> None:
        self._session = Session(database, "processor status")

    def report(self, name: str, position: int, lag: int, state: str, error: str, worker: str) -> None:
        """Say how a processor is now. `lag` is in entries; `reported_at` is this machine's Unix time."""
        with self._session.transaction() as cursor:
            cursor.execute(_REPORT, (name, position, lag, state, error[:MAX_ERROR_CHARS], worker, time.time()))

    def rows(self) -> list[dict[str, Any]]:
        """Every processor that has ever reported: the columns by name."""
        return [dict(zip(_COLUMNS, row, strict=True)) for row in self._session.rows("SELECT * FROM processor_status")]

    def close(self) -> None:
        """Close the connection."""
        self._session.close()

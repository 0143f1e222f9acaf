"""Holding a database's write lock from outside, as a backup or a stuck process does: for tests of what happens then."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def write_lock(path: Path, timeout_seconds: float = 30.0) -> Iterator[None]:
    """Nobody else writes to this file until the end of the block; nothing is changed."""
    connection = sqlite3.connect(path, timeout=timeout_seconds, isolation_level=None)
    try:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")
    finally:
        connection.close()

"""Leadership: of several processes with one name, one works and the others stand by.

A session's advisory lock is the leadership; a row in `leases`, renewed every second, shows that its holder is alive.

    killed    its connection ends, the lock is free at once, a stand-by has it within `POLL_SECONDS`
    paused    the row grows old; a stand-by ends the holder's session (same login) and takes the lock
    database restarted   the holder takes the lock again; it goes on unless somebody else was faster

Who was paused finds out by its own clock: `held` is false as soon as the last renewal is too old, however long the
process slept. Effects on the database need no more: they check position and leaf hash in their transaction. What leaves
the database (the relay's records) asks `held` before every batch.
"""

import contextlib
import logging
import os
import socket
import threading
import time
from typing import Final

import psycopg

from domain.errors import StorageUnavailable
from storage.postgres.database import Database, Row, unavailable

LEASE_SECONDS: Final = 5.0
RENEW_SECONDS: Final = 1.0
MARGIN_SECONDS: Final = 1.0
POLL_SECONDS: Final = 0.2
logger = logging.getLogger("daicho.leader")

_TAKE: Final = """
INSERT INTO leases VALUES (%(name)s, %(owner)s, 1, clock_timestamp() + %(seconds)s * interval '1 second')
ON CONFLICT (name) DO UPDATE SET owner = excluded.owner, until = excluded.until, epoch = leases.epoch + 1
RETURNING epoch
"""
_RENEW: Final = """
UPDATE leases SET until = clock_timestamp() + %(seconds)s * interval '1 second'
WHERE name = %(name)s AND epoch = %(epoch)s RETURNING epoch
"""
_OVERDUE: Final = "SELECT until < clock_timestamp() FROM leases WHERE name = %s"
_END_HOLDER: Final = """
SELECT pg_terminate_backend(pid) FROM pg_locks
WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND classid = ((%(key)s >> 32) & 4294967295)::oid AND objid = (%(key)s & 4294967295)::oid AND objsubid = 1
    AND pid <> pg_backend_pid()
"""


def _now() -> float:
    """Seconds that go on while the process, and where possible the machine, sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


class Leadership:
    """The leadership of one name in one book. `acquire` it, ask `held` before acting, end when `lost`, `release` it."""

    def __init__(self, database: Database, name: str, *, lease_seconds: float = LEASE_SECONDS) -> None:
        self._database, self._name = database, name
        self._lease_seconds = lease_seconds
        self._key = database.lock_key(f"leader {name}")
        self._owner = f"{socket.gethostname()}:{os.getpid()}"
        self._connection: psycopg.Connection[Row] | None = None
        self._epoch = 0
        self._valid_until = 0.0
        self._lost = False
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def lost(self) -> bool:
        """True once somebody else leads: this process has to end or to stand by."""
        return self._lost

    def held(self) -> bool:
        """True while this process leads for certain."""
        return not self._lost and _now() < self._valid_until

    def acquire(self, timeout_seconds: float) -> bool:
        """Try to lead for so long; blocking. Raises StorageUnavailable when the database cannot be asked."""
        deadline = _now() + timeout_seconds
        while not self._take():
            if _now() >= deadline:
                return False
            time.sleep(min(POLL_SECONDS, max(0.01, deadline - _now())))
        self._lost = False
        self._ending.clear()
        self._thread = threading.Thread(target=self._renew_on, name=f"leader-{self._name}", daemon=True)
        self._thread.start()
        return True

    def release(self) -> None:
        """Give it up: a stand-by takes over at once."""
        self._ending.set()
        if self._thread is not None:
            self._thread.join(RENEW_SECONDS * 2)
            self._thread = None
        self._valid_until = 0.0
        self._drop()

    # -- inside ------------------------------------------------------------------------------------------------------

    def _take(self) -> bool:
        """One try. A crash after it leaves a lock that ends with the connection and a row that grows old."""
        started = _now()
        try:
            if not self._lock():
                return False
            values = {"name": self._name, "owner": self._owner, "seconds": self._lease_seconds}
            row = self._connected().execute(_TAKE, values).fetchone()
        except psycopg.Error as error:
            self._drop()
            raise unavailable(error) from error
        self._epoch = row[0] if row else 0
        self._extend(started)
        return True

    def _lock(self) -> bool:
        """Get the advisory lock, from a holder that does not renew any more by ending its session."""
        connection = self._connected()
        for _ in range(2):
            row = connection.execute("SELECT pg_try_advisory_lock(%s)", (self._key,)).fetchone()
            if row and row[0]:
                return True
            overdue = connection.execute(_OVERDUE, (self._name,)).fetchone()
            if not (overdue and overdue[0]):
                return False
            logger.warning("%s: its leader does not renew any more, its session is ended", self._name)
            connection.execute(_END_HOLDER, {"key": self._key})
        return False

    def _renew_on(self) -> None:
        """In the thread: renew once a second; find out when the leadership went to somebody else."""
        while not self._ending.wait(RENEW_SECONDS):
            started = _now()
            try:
                if not self._renew():
                    self._lost = True
                    logger.critical("%s: another process leads now", self._name)
                    return
                self._extend(started)
            except (psycopg.Error, StorageUnavailable) as error:
                self._drop()
                logger.warning("%s: the leadership is not renewed: %s", self._name, unavailable(error).values["reason"])

    def _renew(self) -> bool:
        """Renew the row; on a new connection after taking the lock again. False when another epoch has begun."""
        fresh = self._connection is None or self._connection.closed
        connection = self._connected()
        if fresh:
            row = connection.execute("SELECT pg_try_advisory_lock(%s)", (self._key,)).fetchone()
            if not (row and row[0]):
                return False
        values = {"name": self._name, "epoch": self._epoch, "seconds": self._lease_seconds}
        return connection.execute(_RENEW, values).fetchone() is not None

    def _extend(self, started: float) -> None:
        self._valid_until = started + self._lease_seconds - MARGIN_SECONDS

    def _connected(self) -> psycopg.Connection[Row]:
        if self._connection is None or self._connection.closed:
            self._connection = self._database.connect(f"leader {self._name}")
        return self._connection

    def _drop(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(psycopg.Error):
                self._connection.close()
            self._connection = None

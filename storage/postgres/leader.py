"""Leadership: of several processes with one name, one works and the others stand by.

A session's advisory lock is the leadership; a row in `leases`, renewed every second, shows that its holder is alive.

    killed    its connection ends, the lock is free at once, a stand-by has it within `POLL_SECONDS`
    paused    the row grows old; a stand-by ends the holder's session (same login) and takes the lock
    cut off   (its session was ended, the database restarted) the holder leads no more at once, and takes the lock
              again unless somebody else was faster
    parted from the database   by a network without a word: as paused, and it knows as soon as its own renewal is old

Who was paused finds out by its own clock: `held` is false as soon as the last renewal is too old, however long the
process slept. Who was cut off finds out by its socket, which `held` looks at every time. What remains are the
milliseconds between the server's giving the lock away and the end of the connection reaching its holder. So `held`
keeps two from working side by side, but it is not what keeps the ledger right: effects on the database check
position and leaf hash in their transaction, lanes and due work have numbers that only grow, and the topics' readers
skip repeats.
"""

import contextlib
import logging
import os
import select
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
_HUNG_UP: Final = getattr(select, "POLLRDHUP", 0)  # the other side's end, where the system can tell it without reading
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
# Only a session that has asked for nothing during a whole lease: the next leader may have taken the lock just now, and
# be about to renew the row.
_END_HOLDER: Final = """
SELECT pg_terminate_backend(pid, 1000) FROM pg_locks JOIN pg_stat_activity USING (pid)
WHERE coalesce(state_change, '-infinity') < clock_timestamp() - %(seconds)s * interval '1 second'
    AND locktype = 'advisory' AND pg_locks.database = (SELECT oid FROM pg_database WHERE datname = current_database())
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
        self._swapping = threading.Lock()  # so that nobody looks at a socket's number that is somebody else's by now
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def lost(self) -> bool:
        """True once somebody else leads: this process has to end or to stand by."""
        return self._lost

    def held(self) -> bool:
        """True while this process leads, as far as it can know (see the module). Asks nobody; microseconds."""
        return not self._lost and _now() < self._valid_until and not self._is_cut_off()

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
        self._valid_until = 0.0
        if self._thread is not None:
            self._thread.join(RENEW_SECONDS * 2)
            self._thread = None  # one that waits for a server that does not answer ends by itself, with its connection
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
            if not connection.execute(_END_HOLDER, {"key": self._key, "seconds": self._lease_seconds}).fetchall():
                return False
            logger.warning("%s: its leader did not renew any more, its session was ended", self._name)
        return False

    def _renew_on(self) -> None:
        """In the thread: renew once a second; find out when the leadership went to somebody else."""
        try:
            self._renew_until_the_end()
        finally:
            self._valid_until = 0.0
            self._drop()  # with a lock that was taken again after `release`, or after somebody else had led

    def _renew_until_the_end(self) -> None:
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
        connection = self._connection
        if connection is None or connection.closed:
            connection = self._connection = self._database.connect(f"leader {self._name}")
        return connection

    def _drop(self) -> None:
        with self._swapping:
            connection, self._connection = self._connection, None
            if connection is not None:
                with contextlib.suppress(psycopg.Error):
                    connection.close()

    def _is_cut_off(self) -> bool:
        """True when the server has ended the session that holds the lock, or when there is none just now."""
        with self._swapping:
            if self._connection is None or self._connection.closed:
                return True
            poller = select.poll()
            poller.register(self._connection.fileno(), _HUNG_UP)
            return bool(poller.poll(0))

"""Wake-ups: what other processes have committed, told by LISTEN/NOTIFY, the newest number of each channel only.

A wake-up is a hint, never the truth: whoever is woken looks for himself, and after the database was away `on_connected`
has him look again, since what was notified meanwhile is gone.
"""

import contextlib
import logging
import random
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import psycopg
from psycopg import sql

from storage.postgres.database import Database, Row

WAIT_SECONDS: Final = 1.0  # how long one look for notifications lasts; also how soon `stop` is heard
FIRST_PAUSE_SECONDS: Final = 0.2
LONGEST_PAUSE_SECONDS: Final = 2.0
logger = logging.getLogger("daicho.wakeups")


class Wakeups:
    """Listens in a thread of its own. Callbacks get the number (0 where none was sent) in that thread.

    `channels` by their names in the book. What a callback raises is logged and goes no further.
    """

    def __init__(
        self,
        database: Database,
        channels: Mapping[str, Callable[[int], object]],
        *,
        on_connected: Sequence[Callable[[], object]] = (),
    ) -> None:
        self._database = database
        self._callbacks = {database.channel(name): callback for name, callback in channels.items()}
        self._on_connected = on_connected
        self._ending = threading.Event()
        self._connected = threading.Event()
        self._thread = threading.Thread(target=self._run, name="wakeups", daemon=True)

    @property
    def alive(self) -> bool:
        """True while the database tells us."""
        return self._connected.is_set()

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()

    def stop(self) -> None:
        """End, within a second or so."""
        self._ending.set()
        if self._thread.is_alive():
            self._thread.join(2 * WAIT_SECONDS)

    def _run(self) -> None:
        pause = FIRST_PAUSE_SECONDS
        while not self._ending.is_set():
            try:
                with self._database.connect("listen") as connection:
                    self._listen(connection)
                    pause = FIRST_PAUSE_SECONDS
                    while not self._ending.is_set():
                        self._take(connection)
            except Exception as error:  # noqa: BLE001 whatever it is, the next connection looks at everything again
                if self._connected.is_set():
                    logger.warning("the database wakes nobody for now: %s", type(error).__name__)
                self._connected.clear()
                self._ending.wait(pause * (0.5 + random.random() / 2))  # noqa: S311 spreads the retries
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
        self._connected.clear()

    def _listen(self, connection: psycopg.Connection[Row]) -> None:
        """Listen first, then look: between the two nothing can be missed."""
        for channel in self._callbacks:
            connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))
        self._connected.set()
        for look in self._on_connected:
            self._call(look)

    def _take(self, connection: psycopg.Connection[Row]) -> None:
        """Wait for notifications; of several on one channel the greatest number counts."""
        newest: dict[str, int] = {}
        for notify in connection.notifies(timeout=WAIT_SECONDS, stop_after=1):
            newest[notify.channel] = max(newest.get(notify.channel, 0), _number(notify.payload))
        for notify in connection.notifies(timeout=0):
            newest[notify.channel] = max(newest.get(notify.channel, 0), _number(notify.payload))
        for channel, number in newest.items():
            callback = self._callbacks[channel]
            self._call(lambda callback=callback, number=number: callback(number))  # type: ignore[misc]
        if not newest:
            connection.execute("SELECT 1")  # a server whose machine is gone does not say so by itself

    @staticmethod
    def _call(look: Callable[[], object]) -> None:
        try:
            look()
        except Exception:  # whoever is woken looks again by himself, at the latest after his own poll
            logger.exception("a listener failed")


def _number(payload: str) -> int:
    with contextlib.suppress(ValueError):
        return int(payload)
    return 0

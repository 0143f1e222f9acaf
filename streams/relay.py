"""The relay: copies what a store has committed into its topic, in the order of positions, nothing left out.

    store ── wake(head) ──▶ look at the topic's tail ─▶ read on behind it ─▶ send ─▶ acknowledged ─▶ save the position

The topic's tail alone says where to go on; the saved position is for people. At every start and after any doubt a new
producer begins behind the tail, once the last records have been compared with the store: a topic that is ahead of its
store or holds something else stops the relay. Records repeat when a batch arrives whose sender was given up; readers
know them by their hash. No request ever waits for this.
"""

import asyncio
import logging
import threading
from collections.abc import Callable
from functools import partial
from typing import Final

from streams.faults import Backoff, one_line
from streams.feeds import Feed
from streams.local import ENDED, FAILED, RUNNING, STOPPED, ProcessorStatus
from streams.processor import ProcessorError
from streams.relay_session import RelaySession
from streams.topic_record import Format
from streams.topics import TopicsRefused

STOP_SECONDS: Final = 30.0
NEVER_PASSES: Final = (ProcessorError, TopicsRefused)
logger = logging.getLogger("daicho.relay")


class Relay:
    """Copies one feed into one topic, in a thread of its own. `start` once; `wake` from any thread.

    `save(position, leaf_hash)` is called after acknowledgements, about once a second under load. `still_leader()` is
    asked before every batch: nothing is sent while it says no. Both are called in the relay's thread and may raise.
    """

    def __init__(
        self,
        name: str,
        bootstrap: str,
        topic: str,
        records: Format,
        feed: Feed,
        *,
        save: Callable[[int, bytes], None],
        still_leader: Callable[[], bool],
        new_backoff: Callable[[], Backoff] = lambda: Backoff(0.1, 2.0),
    ) -> None:
        self.name = name
        self._state, self._error, self._position, self._head = RUNNING, "", 0, 0
        self._woken, self._stopping = threading.Event(), threading.Event()
        self._backoff = new_backoff()
        self._thread: threading.Thread | None = None
        self._left: RelaySession | None = None
        self._new_session = partial(
            RelaySession, bootstrap, topic, records, feed, save=save, still_leader=still_leader, woken=self._woken
        )

    def wake(self, head: int) -> None:
        """The store now goes up to `head`."""
        self._head = max(self._head, head)
        self._woken.set()

    def status(self) -> ProcessorStatus:
        """How it is. `position` is the last one known to be in the topic; the lag is what the store holds beyond it."""
        lag = max(0, self._head - self._position)
        return ProcessorStatus(self.name, self._position, lag, self._state, self._error)

    async def start(self) -> None:
        """Begin to copy."""
        self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)
        self._thread.start()

    async def stop(self, timeout_seconds: float = STOP_SECONDS) -> None:
        """Send what is on its way and end; given up after a while, the topic's tail knows what arrived."""
        self._stopping.set()
        self._woken.set()
        thread, self._thread = self._thread, None
        if thread is not None:
            await asyncio.to_thread(thread.join, timeout_seconds)
            if thread.is_alive():
                logger.error("%s did not end within %.0f s", self.name, timeout_seconds)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._copy()
            except NEVER_PASSES as error:
                self._failed(error, STOPPED)
                self._stopping.wait()
            except Exception as error:  # noqa: BLE001 store, Kafka or leadership away: later, behind the tail as it is then
                self._failed(error, FAILED)
                self._stopping.wait(self._backoff.failed())
        if self._state == RUNNING:
            self._state = ENDED

    def _copy(self) -> None:
        """One session: from the topic's tail until told to stop, or until something is in doubt.

        None begins before the last one has ended for certain: two producers would send the same.
        """
        if self._left is not None:
            self._left.end()
        session = self._left = self._new_session()
        try:
            session.begin()
            self._look(session)
            while not self._stopping.is_set():
                session.step()
                self._look(session)
            session.finish()
            self._look(session)
        finally:
            session.end()
        self._left = None

    def _look(self, session: RelaySession) -> None:
        if session.position > self._position and self._state == RUNNING:
            self._backoff.succeeded()
        self._position = session.position
        self._head = max(self._head, session.head)
        if self._state != RUNNING:
            logger.info("%s goes on from position %d", self.name, self._position)
            self._state, self._error = RUNNING, ""
        if session.trouble != self._error:
            self._error = session.trouble
            logger.warning("%s: %s", self.name, self._error or "the position is saved again")

    def _failed(self, error: BaseException, state: str) -> None:
        reason = one_line(error)
        if (state, reason) != (self._state, self._error):  # one line for a failure, however often it is tried again
            logger.error("%s is %s at position %d: %s", self.name, state, self._position, reason)
        self._state, self._error = state, reason

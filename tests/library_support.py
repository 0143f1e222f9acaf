"""What the eventsourcing package's own test cases need to run beside ours."""

import threading
from typing import Any
from unittest import TestCase


class ClosesAfterItsThreads(TestCase):
    """Closes recorders only when no thread of the test uses them any more.

    Several of the library's cases tell the threads that read to end, and do not wait until they have. Neither SQLite
    nor the pool survives a connection that is closed under a thread: the process dies of a segmentation fault.
    """

    def close_at_the_end(self, recorder: Any) -> None:
        """Have this closed after the test, once the threads that the test starts from here on are done."""
        before = set(threading.enumerate())
        self.addCleanup(recorder.close)
        self.addCleanup(join_threads_since, before)


def join_threads_since(before: set[threading.Thread]) -> None:
    for thread in set(threading.enumerate()) - before:
        thread.join(30)
        assert not thread.is_alive(), f"{thread.name} still runs after the test"

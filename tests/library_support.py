"""What the eventsourcing package's own test cases need to run beside ours."""

import threading
from unittest import TestCase


class JoinsReaders(TestCase):
    """For the library's case that tells its reading threads to end, and does not wait until they have.

    The recorder is closed after the test, and SQLite does not survive that under a thread that reads.
    """

    def join_new_threads(self) -> None:
        """Have the threads that the test starts waited for before everything registered earlier is cleaned up."""
        before = set(threading.enumerate())
        self.addCleanup(lambda: [each.join(30) for each in set(threading.enumerate()) - before])

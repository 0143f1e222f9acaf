"""Two clocks: dates in messages are real, waiting between retries is compressed."""

import threading
import time


class Clock:
    """`speed`: how many of the stores' seconds pass in a real one, for retries and deadlines alone."""

    def __init__(self, speed: float = 1.0) -> None:
        self.speed = speed
        self._last = 0
        self._lock = threading.Lock()

    def now(self) -> int:
        """The date of a message, in milliseconds since 1970-01-01 UTC: each later than the one before."""
        with self._lock:
            self._last = max(self._last + 1, time.time_ns() // 1_000_000)
            return self._last

    def real_seconds(self, store_seconds: float) -> float:
        """How long to wait in reality."""
        return store_seconds / self.speed

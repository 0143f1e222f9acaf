"""Samples of what was refused at the stores' endpoints, for people: few, small, and never more than the disk can bear.

Whoever floods the endpoint fills nothing: a sample is only taken while the hour's share lasts, and the oldest goes when
there are too many. A sample is sealed by whoever puts it: what strangers send may be anybody's data.
"""

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from domain.errors import StorageUnavailable
from storage.spool import Spool

MAX_SAMPLE_BYTES: Final = 64 * 1024
MAX_SAMPLES: Final = 1_000
AN_HOUR: Final = 60
_HOUR_SECONDS: Final = 3_600.0


class Quarantine:
    """Samples in a folder. From one thread at a time."""

    def __init__(
        self,
        folder: Path,
        *,
        max_samples: int = MAX_SAMPLES,
        an_hour: int = AN_HOUR,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._spool = Spool(folder)
        self._max_samples, self._an_hour, self._clock = max_samples, an_hour, clock
        self._since, self._taken = float("-inf"), 0

    def wants(self) -> bool:
        """False while the hour's share is used up: then sealing a sample is not worth it either."""
        if self._clock() - self._since >= _HOUR_SECONDS:
            self._since, self._taken = self._clock(), 0
        return self._taken < self._an_hour

    def keep(self, sealed: bytes) -> None:
        """Keep a sealed sample; a disk that refuses loses it, which harms nobody."""
        self._taken += 1
        with contextlib.suppress(StorageUnavailable):
            names = self._spool.names()
            for old in names[: max(0, len(names) + 1 - self._max_samples)]:
                self._spool.remove(old)
            self._spool.put(sealed)

    def samples(self) -> list[bytes]:
        """All that is kept, oldest first."""
        return [self._spool.read(name) for name in self._spool.names()]

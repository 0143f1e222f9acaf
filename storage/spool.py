"""The second durable medium at intake: files on this machine's disk, for as long as the database refuses.

Each record is a file of its own, there whole or not at all: written aside, synced, renamed, and the folder synced
before anybody is told that it is safe. Whoever puts it has sealed it. Records leave when they are in the inbox.
"""

import contextlib
import os
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from domain.errors import StorageUnavailable

MAX_BYTES: Final = 1 << 30
_SUFFIX: Final = ".record"
_TORN: Final = ".part"
_DAMAGED: Final = ".damaged"


class Spool:
    """Records in a folder, oldest first. From any thread; raises StorageUnavailable when the disk refuses.

    `max_bytes`: beyond that nothing more is taken, so that it cannot fill the disk that the ledger lies on.
    """

    def __init__(self, folder: Path, *, max_bytes: int = MAX_BYTES, clock: Callable[[], int] = time.time_ns) -> None:
        self._folder, self._max_bytes, self._clock = folder, max_bytes, clock
        self._bytes: int | None = None

    def put(self, record: bytes) -> None:
        """Keep a record; it is on disk on return."""
        name = f"{self._clock():020d}-{secrets.token_hex(8)}"
        try:
            self._open()
            if (self._bytes or 0) + len(record) > self._max_bytes:
                raise StorageUnavailable("the spool is full", reason=f"more than {self._max_bytes} bytes")
            self._write(name, record)
        except OSError as error:
            raise StorageUnavailable("the spool cannot be written", reason=error.strerror or "") from error
        self._bytes = (self._bytes or 0) + len(record)

    def names(self) -> list[str]:
        """Of all records, oldest first."""
        try:
            return sorted(each.name for each in self._folder.glob(f"*{_SUFFIX}"))
        except OSError as error:
            raise StorageUnavailable("the spool cannot be read", reason=error.strerror or "") from error

    def read(self, name: str) -> bytes:
        """One record."""
        try:
            return (self._folder / name).read_bytes()
        except OSError as error:
            raise StorageUnavailable("the spool cannot be read", reason=error.strerror or "") from error

    def remove(self, name: str) -> None:
        """A record is safe elsewhere. A crash before this leaves it to be stored again, and found to be there."""
        path = self._folder / name
        with contextlib.suppress(OSError):
            size = path.stat().st_size
            path.unlink()
            self._bytes = max(0, (self._bytes or 0) - size)

    def set_aside(self, name: str) -> None:
        """A record that cannot be read is kept for people, out of the way of the others."""
        with contextlib.suppress(OSError):
            (self._folder / name).rename(self._folder / f"{name}{_DAMAGED}")

    def _open(self) -> None:
        """Make the folder, count what is in it; what a crash left half written was confirmed to nobody."""
        if self._bytes is not None:
            return
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for torn in self._folder.glob(f"*{_TORN}"):
            torn.unlink(missing_ok=True)
        self._bytes = sum(each.stat().st_size for each in self._folder.glob(f"*{_SUFFIX}"))

    def _write(self, name: str, record: bytes) -> None:
        part = self._folder / f"{name}{_TORN}"
        try:
            with open(part, "xb", opener=_private) as file:
                file.write(record)
                file.flush()
                os.fsync(file.fileno())
            part.rename(self._folder / f"{name}{_SUFFIX}")
            sync_folder(self._folder)
        except OSError:
            part.unlink(missing_ok=True)
            raise


def sync_folder(folder: Path) -> None:
    """Make what was created, renamed or removed in a folder survive a crash."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)

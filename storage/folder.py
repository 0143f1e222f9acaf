"""The data folder: where each file lies, and the lock that keeps a second service out of it."""

import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import IO, Self


class FolderInUse(Exception):
    """Another service works on this data folder."""


class DataFolder:
    """Paths under one folder. `lock` it before writing; the kernel gives the lock back however the process ends.

    `secrets`: where development's secrets lie, if not in the folder.
    """

    def __init__(self, path: Path, secrets: Path | None = None) -> None:
        self.path = path.resolve()
        self._secrets = secrets.resolve() if secrets is not None else None
        self._lock: IO[str] | None = None

    @property
    def ledger(self) -> Path:
        """Events, claims and due work: one file, since WAL transactions are not atomic across files."""
        return self.path / "ledger.db"

    @property
    def log(self) -> Path:
        """Leaf hashes and signed checkpoints."""
        return self.path / "log.db"

    @property
    def reads(self) -> Path:
        """Read models; derived, may be deleted."""
        return self.path / "read.db"

    @property
    def anchors(self) -> Path:
        """AnchorBook, anchor lane and its due work."""
        return self.path / "anchors.db"

    @property
    def chain(self) -> Path:
        """The embedded chain."""
        return self.path / "chain.db"

    @property
    def vault(self) -> Path:
        """Sealed keys and pseudonyms."""
        return self.path / "vault.db"

    @property
    def archive(self) -> Path:
        """Folder of the segments that stores' messages are archived in."""
        return self.path / "archive"

    @property
    def spool(self) -> Path:
        """Folder of stores' messages that the database could not take."""
        return self.path / "spool"

    @property
    def quarantine(self) -> Path:
        """Folder of samples of what was refused at the stores' endpoints."""
        return self.path / "quarantine"

    @property
    def secrets(self) -> Path:
        """Folder (mode 0700) of development secrets."""
        return self._secrets or self.path / "secrets"

    def create(self) -> None:
        """Make the folder, readable by its owner alone."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)

    def exists(self) -> bool:
        """True when a ledger has been started here before."""
        return self.ledger.exists()

    def lock(self) -> Self:
        """Take the folder for this process. Raises FolderInUse, naming who holds it."""
        self.create()
        handle = (self.path / "lock").open("a+", encoding="ascii")
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            handle.seek(0)
            holder = handle.read(20).strip()
            handle.close()
            raise FolderInUse(
                f"{self.path} is in use by another service (process {holder or 'unknown'}); stop it first"
            ) from None
        handle.seek(0)
        handle.truncate()
        handle.write(f"{os.getpid()}\n")
        handle.flush()
        self._lock = handle
        return self

    def release(self) -> None:
        """Give the folder back."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

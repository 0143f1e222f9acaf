"""Where a check finds a ledger: the files of a data folder, or a book in PostgreSQL. Nothing is written."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from domain.book import BookOpened
from projections.digest import Difference
from projections.rebuild import check, check_file
from storage.entry_log import SqliteEntryLog
from storage.folder import DataFolder
from storage.log_store import SqliteLogStore

Progressed = Callable[[int, int], None]


class Source(Protocol):
    """One ledger's stores, opened for reading. None stands for what is not there yet."""

    @property
    def name(self) -> str:
        """What it is called in messages."""
        ...

    def exists(self) -> bool:
        """Whether there is anything."""
        ...

    def entries(self) -> Any:
        """The event store's entries."""
        ...

    def log(self) -> Any:
        """The log store."""
        ...

    def anchor_entries(self) -> Any:
        """The anchor book's entries."""
        ...

    def has_reads(self) -> bool:
        """Whether there are read models."""
        ...

    def check_reads(self, scratch: Path, entries: Any, book: BookOpened, progressed: Progressed) -> Difference | None:
        """Compare the read models with a replay, which is written to `scratch`."""
        ...


class FolderSource:
    """A data folder. `independent`: whether its chain is somebody else's (the embedded one never is)."""

    def __init__(self, folder: DataFolder, anchor_table: str, *, independent: bool = False) -> None:
        self._folder, self._anchor_table = folder, anchor_table
        self._independent = independent and not folder.chain.exists()
        self.name = str(folder.path)

    def exists(self) -> bool:
        """Whether a ledger was ever started here."""
        return self._folder.exists()

    def entries(self) -> SqliteEntryLog:
        """The event store's entries."""
        return SqliteEntryLog(self._folder.ledger)

    def log(self) -> SqliteLogStore | None:
        """The log store. Raises what it raises."""
        return SqliteLogStore(self._folder.log) if self._folder.log.exists() else None

    def anchor_entries(self) -> SqliteEntryLog | None:
        """The anchor book's entries."""
        found = self._folder.anchors.exists()
        return SqliteEntryLog(self._folder.anchors, self._anchor_table) if found else None

    def has_reads(self) -> bool:
        """Whether there are read models."""
        return self._folder.reads.exists()

    def check_reads(self, scratch: Path, entries: Any, book: BookOpened, progressed: Progressed) -> Difference | None:
        """Compare the read models with a replay."""
        own = [] if self._independent else [book.chain_id]
        anchors = self.anchor_entries()
        return check_file(self._folder.reads, scratch, entries, anchors, embedded_chain_ids=own, progressed=progressed)


class StoresSource:
    """A book whose stores (`cli.wiring.stores.Stores`) are all there, as those in PostgreSQL are after `daicho init`.

    `independent`: whether its chain is somebody else's.
    """

    def __init__(self, name: str, stores: Any, *, independent: bool) -> None:
        self.name, self._stores, self._independent = name, stores, independent
        self.entries, self.log, self.anchor_entries = stores.entries, stores.log, stores.anchor_entries

    def exists(self) -> bool:
        """Always, once it can be opened."""
        return True

    def has_reads(self) -> bool:
        """Always."""
        return True

    def check_reads(self, scratch: Path, entries: Any, book: BookOpened, progressed: Progressed) -> Difference | None:
        """Compare the read models with a replay."""
        own = [] if self._independent else [book.chain_id]
        reads, anchors = self._stores.reads(), self._stores.anchor_entries()
        try:
            return check(reads, scratch, entries, anchors, embedded_chain_ids=own, progressed=progressed)
        finally:
            reads.close()

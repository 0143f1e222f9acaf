"""What the group writer asks of an event store: one transaction at a time, under a lock that all writers share."""

from collections.abc import Sequence
from typing import Any, ClassVar, Protocol

from domain.orders import KnownCommand, Parcel, Receipt
from storage.claims import ClaimRow
from storage.sealing import EventRow


class GroupStore(Protocol):
    """An event store that groups are written to. Cursors belong to the transaction that `begin` opened.

    Duties: positions are seen and given under the lock; `commit` makes everything durable or raises; after `rollback`
    or an error the lock is free. `WAITS` says that calls may wait for another machine or another writer: then none is
    made on the event loop.
    """

    origin: str
    WAITS: ClassVar[bool]
    DATABASE_ERRORS: ClassVar[tuple[type[BaseException], ...]]

    def begin(self) -> Any:
        """Take the lock and open a transaction. Raises StorageUnavailable."""

    def head_under_lock(self, cursor: Any) -> int:
        """The last position. Raises LedgerReadOnly when it went back."""

    def time_under_lock(self, cursor: Any, head: int) -> str:
        """The time of the entries to be stored now. Raises ClockJumped."""

    def remember_time(self, head: int, moment: str) -> None:
        """The last entry is now `head`, of that time."""

    def seconds_of(self, moment: str) -> float:
        """Unix seconds of an entry's time."""

    def stored_keys(
        self, cursor: Any, commands: Sequence[str], claims: Sequence[str]
    ) -> tuple[dict[str, KnownCommand], set[str]]:
        """The stored commands among these key hashes and the stored ones of these claims."""

    def absent_aggregates(self, cursor: Any, ids: Sequence[str]) -> set[str]:
        """Those of these aggregates of which nothing is stored."""

    def stale_versions(self, cursor: Any, expected: dict[str, int]) -> set[str]:
        """The aggregates (of these versions, 0 for none) that stand at another version."""

    def insert_group(self, cursor: Any, rows: Sequence[EventRow], claims: Sequence[ClaimRow]) -> None:
        """Put a group into the open transaction."""

    def insert_parcels(self, cursor: Any, parcels: Sequence[tuple[int, Parcel]]) -> None:
        """Put what came with the group into the open transaction, each with the position of the entry that tells."""

    def commit(self) -> None:
        """Make it durable and give the lock back. Raises StorageUnavailable."""

    def rollback(self, cause: BaseException | None = None) -> None:
        """Take it back and give the lock back."""

    def stored_after_all(self, key: str, position: int) -> bool:
        """After a commit that raised: whether it took effect, by a command key (hash) and its position.

        Raises StorageUnavailable when that cannot be found out.
        """


class Entries(Protocol):
    """What the writer reads of what is stored. Raises StorageUnavailable."""

    def known_commands(self, keys: Sequence[str]) -> dict[str, KnownCommand]:
        """The stored commands among these key hashes."""

    def taken_claims(self, claims: Sequence[str]) -> set[str]:
        """Those of the claims that are stored."""

    def receipt(self, known: KnownCommand) -> Receipt:
        """The answer that a known command was given."""

"""The intake: follows the entries for what stores have said and what purchases have come to, and writes down the work.

It reads nothing but the log and, for the order in which work is done, the owners of parcels; it asks nobody and decides
nothing. What asks for what stands in `store_tasks`.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, Protocol

from merkle.hashing import leaf_hash
from storage.due_work import DueWorkStore, Work
from streams.deadlines import Deadline
from streams.processor import Record, fresh
from streams.store_tasks import Task, wanted


class Owners(Protocol):
    """`storage.parcels.SqliteParcels`."""

    def owners(self, payloads: Sequence[str]) -> dict[str, str]:
        """The owner of each of these payloads that is here."""
        ...


class StoreIntake:
    """Finds what is to be done. `on_due` is called when there is something."""

    name: Final = "store-intake"

    def __init__(self, work: DueWorkStore, parcels: Owners, *, clock: Callable[[], float] = time.time) -> None:
        self.on_due: list[Callable[[], None]] = []
        self._work, self._parcels, self._clock = work, parcels, clock

    def position(self) -> tuple[int, bytes]:
        """The last position seen and its leaf hash; (0, b"") in the beginning."""
        return self._work.position(self.name)[:2]

    def process(self, records: Sequence[Record]) -> None:
        """Put work for what is new. GapError or ForkError when the records do not follow."""
        new = fresh(records, self.position())
        if not new:
            return
        works = list(self._works(new))
        with self._work.transaction() as transaction:
            fresh(records, transaction.position(self.name)[:2])
            transaction.put(*works)
            # Work and position are one transaction: a crash before it repeats the records, after it skips them.
            transaction.save_position(self.name, new[-1][0], leaf_hash(new[-1][1]), "")
        if works:
            for notify in self.on_due:
                notify()

    def _works(self, records: Sequence[Record]) -> Iterator[Work]:
        found = [each for _, entry in records for each in wanted(entry)]
        payloads = [each.about.payload for each in found if isinstance(each.about, Task)]
        owners: Mapping[str, str] = self._parcels.owners(payloads) if payloads else {}
        now = self._clock()
        for kind, about, after_seconds in found:
            if isinstance(about, Deadline):
                yield about.work()
                continue
            owned = about._replace(owner=owners.get(about.payload, "")) if isinstance(about, Task) else about
            yield owned.work(kind, now + after_seconds)

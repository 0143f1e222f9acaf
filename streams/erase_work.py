"""Due work `erase`: destroys the keys of a user who is to be forgotten, until none of them is left.

The entry that asks for it stands in the log; destroying a key that is gone already changes nothing.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

from domain.erasure import Erasure
from storage.due_work import Lease
from streams.executors import Verdict as Done
from streams.executors import one_by_one
from streams.ledger_bridge import Bridge
from streams.store_tasks import About


class PayloadKeysPort(Protocol):
    """`chain.payload_keys.PayloadKeys`."""

    def erase(self, owner: str, who: str = "service") -> bool: ...


class SubjectsPort(Protocol):
    """`chain.subjects.Subjects`."""

    def erase_subject(self, pseudonym: str, who: str = "service") -> bool: ...


class EraseWork:
    """Forgets users: the payloads about their lines, and their names."""

    def __init__(self, bridge: Bridge, keys: PayloadKeysPort, subjects: SubjectsPort) -> None:
        self._bridge, self._keys, self._subjects = bridge, keys, subjects

    def run(self, leases: Sequence[Lease], hold: Callable[[], None]) -> Done:
        """Destroy what is asked for; each stands for itself."""
        return one_by_one(leases, hold, lambda lease: self._erase(About.of(lease.payload)))

    def _erase(self, about: About) -> None:
        erasure = self._bridge.load(Erasure, about.aggregate)
        if erasure is None:
            return
        # A crash between two of these leaves the rest to be destroyed at the next try.
        for owner in sorted(erasure.owners):
            self._keys.erase(owner, "erasure")
        self._subjects.erase_subject(erasure.user, "erasure")

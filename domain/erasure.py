"""Erasure: that a user was to be forgotten, and which keys were destroyed for it. What they sealed is noise since then.

The entry comes first, the keys are destroyed after it, as often as it takes: a crash between the two forgets nothing.
"""

from domain.aggregate import Aggregate, Event, event_of
from domain.ids import erasure_id


class Erasure(Aggregate):
    """`user` is the pseudonym, `owners` name the keys of the payloads about the user's lines."""

    __slots__ = ("owners", "user")

    def __init__(self, aggregate_id: str) -> None:
        super().__init__(aggregate_id)
        self.user = ""
        self.owners: set[str] = set()

    @classmethod
    def of(cls, user: str) -> "Erasure":
        """The erasure of a user that nobody has asked for yet."""
        return cls(erasure_id(user))

    def ask(self, user: str, owners: tuple[str, ...], reason: str) -> bool:
        """Somebody asks for it (again, when there is more to forget); False when all of that was asked for before."""
        new = tuple(sorted(set(owners) - self.owners))
        if self.user and not new:
            return False
        self.trigger(ErasureAsked(user, new, reason))
        return True


@event_of(Erasure)
class ErasureAsked(Event):
    """A user is to be forgotten: the key of the user's name, and those of the payloads."""

    user: str
    owners: tuple[str, ...]
    reason: str

    def apply(self, erasure: Erasure) -> None:
        erasure.user = self.user
        erasure.owners.update(self.owners)

"""StoreIdentity: to which user a line at a store belongs, and who else has laid claim to it.

Families share devices and people have second accounts, so nobody takes a line from another one by asking for it:
whoever comes first is bound, a claim or a proof for somebody else is recorded as a conflict, and people decide.
"""

from enum import StrEnum

from domain.aggregate import Aggregate, Event, event_of
from domain.errors import WrongState
from domain.ids import identity_id


class Binding(StrEnum):
    """How well a line is known to be somebody's."""

    FREE = "free"
    CLAIMED = "claimed"  # somebody has said so
    PROVEN = "proven"  # the store has: the account token that came back from it is this user's


class StoreIdentity(Aggregate):
    """`user` is the pseudonym of the user bound, None for nobody; `claimants` are those who were turned away since."""

    __slots__ = ("binding", "claimants", "subscription", "user")

    def __init__(self, aggregate_id: str) -> None:
        super().__init__(aggregate_id)
        self.subscription = ""
        self.user: str | None = None
        self.binding = Binding.FREE
        self.claimants: set[str] = set()

    @classmethod
    def of(cls, subscription: str) -> "StoreIdentity":
        """The binding of a line to which nobody has laid claim yet."""
        return cls(identity_id(subscription))

    def claim(self, subscription: str, user: str) -> bool:
        """A user says that the line is his. False when that is known; a conflict when it is somebody else's."""
        if self.user is not None:
            return self._conflict(user)
        self.trigger(IdentityClaimed(subscription, user))
        return True

    def prove(self, subscription: str, user: str) -> bool:
        """The store says that the line is a user's. False when that is known; a conflict when it is somebody else's."""
        if self.user not in {None, user}:
            return self._conflict(user)
        if self.binding is Binding.PROVEN:
            return False
        if self.user is None:
            self.trigger(IdentityClaimed(subscription, user))
        self.trigger(IdentityProven(user))
        return True

    def transfer(self, before: str, after: str, reason: str) -> bool:
        """People have decided that the line is another user's; False when it is his already."""
        if self.user == after:
            return False
        if self.user != before:
            raise WrongState("the line is not bound to the user that it is to be taken from", identity=self.id)
        self.trigger(IdentityTransferred(before, after, reason))
        return True

    def release(self, user: str, reason: str) -> bool:
        """The line is no longer this user's; False when it is not."""
        if self.user != user:
            return False
        self.trigger(IdentityReleased(user, reason))
        return True

    def bind(self, user: str | None, binding: Binding) -> None:
        """Set whose it is (of events, which have decided it)."""
        self.user, self.binding = user, binding
        self.claimants = set()

    def _conflict(self, claimant: str) -> bool:
        if self.user is None or claimant == self.user or claimant in self.claimants:
            return False
        self.trigger(IdentityConflicted(self.user, claimant))
        return True


@event_of(StoreIdentity)
class IdentityClaimed(Event):
    """A line that was nobody's is this user's from here on."""

    subscription: str
    user: str

    def apply(self, identity: StoreIdentity) -> None:
        identity.subscription = self.subscription
        identity.bind(self.user, Binding.CLAIMED)


@event_of(StoreIdentity)
class IdentityProven(Event):
    """The store itself names this user."""

    user: str

    def apply(self, identity: StoreIdentity) -> None:
        identity.binding = Binding.PROVEN


@event_of(StoreIdentity)
class IdentityConflicted(Event):
    """Somebody else has laid claim to the line, or the store has named him. It stays `user`'s."""

    user: str
    claimant: str

    def apply(self, identity: StoreIdentity) -> None:
        identity.claimants.add(self.claimant)


@event_of(StoreIdentity)
class IdentityTransferred(Event):
    """People have decided that the line is another user's."""

    before: str
    after: str
    reason: str

    def apply(self, identity: StoreIdentity) -> None:
        identity.bind(self.after, Binding.CLAIMED)


@event_of(StoreIdentity)
class IdentityReleased(Event):
    """The line is nobody's."""

    user: str
    reason: str

    def apply(self, identity: StoreIdentity) -> None:
        identity.bind(None, Binding.FREE)

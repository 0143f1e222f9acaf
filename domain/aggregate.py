"""What all aggregates and their events share: decide in public methods, change state in `apply`, never refuse there.

The classes satisfy the protocols of the eventsourcing library (`DomainEventProtocol`, `CanMutateProtocol`,
`MutableAggregateProtocol`, `CollectEventsProtocol`), so its repository, event store and recorders work with them.
Events are msgspec structs whose fields are exactly the entry's `data`; the envelope (id and version) rides beside.
"""

from typing import Any, ClassVar, Self

import msgspec

from domain.errors import VersionMismatch

EVENT_TYPES: dict[str, type["Event"]] = {}


class Event(msgspec.Struct, dict=True, forbid_unknown_fields=True):
    """A fact about one aggregate. Subclasses say what it changes in `apply`, which never refuses."""

    VERSION: ClassVar[int] = 1
    TYPE: ClassVar[str] = ""
    AGGREGATE: ClassVar[type["Aggregate"]]

    originator_id: ClassVar[str]
    originator_version: ClassVar[int]

    def apply(self, aggregate: Any) -> None:
        """Change the aggregate's state; runs again on every replay."""
        raise NotImplementedError

    def place(self, aggregate_id: str, version: int) -> Self:
        """Say of which aggregate this is which version. Returns itself."""
        self.__dict__["originator_id"] = aggregate_id
        self.__dict__["originator_version"] = version
        return self

    @property
    def aggregate_id(self) -> str:
        """The aggregate that this event is about."""
        return self.__dict__["originator_id"]  # type: ignore[no-any-return]

    @property
    def version(self) -> int:
        """The aggregate's version after this event, from 1."""
        return self.__dict__["originator_version"]  # type: ignore[no-any-return]

    def mutate(self, aggregate: "Aggregate | None") -> "Aggregate":
        """Library hook: the aggregate with this event applied; ValueError when it does not follow."""
        if aggregate is None:
            aggregate = self.AGGREGATE(self.aggregate_id)
        if self.aggregate_id != aggregate.id or self.version != aggregate.version + 1:
            raise ValueError(
                f"{self.TYPE} {self.aggregate_id} v{self.version} does not follow {aggregate.id} v{aggregate.version}"
            )
        self.apply(aggregate)
        aggregate.version = self.version
        return aggregate


class Aggregate:
    """An event-sourced object: state, version, and the events that were decided but not yet stored."""

    __slots__ = ("_pending", "id", "version")

    def __init__(self, aggregate_id: str) -> None:
        self.id = aggregate_id
        self.version = 0
        self._pending: list[Event] = []

    def trigger(self, event: Event) -> None:
        """Apply a decided event and keep it until it is stored."""
        event.place(self.id, self.version + 1)
        event.apply(self)
        self.version += 1
        self._pending.append(event)

    def collect_events(self) -> list[Event]:
        """Library hook: the events decided since the last call."""
        events, self._pending = self._pending, []
        return events

    def expect_version(self, expected: int | None) -> None:
        """Raise VersionMismatch unless the caller expected none or the current version."""
        if expected is not None and expected != self.version:
            raise VersionMismatch(
                f"expected version {expected}, the current one is {self.version}",
                expected=expected,
                current=self.version,
            )


def event_of(aggregate: type[Aggregate]) -> Any:
    """Class decorator: register an event type under its class name and name its aggregate."""

    def register(event: type[Event]) -> type[Event]:
        event.TYPE = event.__name__
        event.AGGREGATE = aggregate
        if event.TYPE in EVENT_TYPES:
            raise TypeError(f"event type {event.TYPE} is defined twice")
        EVENT_TYPES[event.TYPE] = event
        return event

    return register

"""Between events and entries, as the eventsourcing library's mapper."""

from typing import Any, ClassVar

import msgspec
from eventsourcing.persistence import Mapper, StoredEvent, Transcoder

from domain.aggregate import Event
from domain.entry import Actor, CommandRef, Entry, decode_envelope
from domain.event_types import EVENT_TYPES
from domain.ids import IdSource

NO_COMMAND = CommandRef(body="", key="")


class UnknownEventType(ValueError):
    """A stored entry of a type or version that this release does not know."""


class EntryMapper(Mapper[str]):
    """Turns events into entry drafts and stored entries back into events.

    Compression and ciphers are not used: the stored state is the Merkle leaf, readable by whoever may read it.
    """

    system: ClassVar[Actor] = Actor(company="", subject="system")

    def __init__(self, transcoder: Transcoder, compressor: Any = None, cipher: Any = None) -> None:
        if compressor is not None or cipher is not None:
            raise ValueError("entries are stored as they are: configure neither compressor nor cipher")
        super().__init__(transcoder)
        self.ids = IdSource()
        self._decoders: dict[str, Any] = {}

    def draft(self, event: Event, actor: Actor, command: CommandRef) -> Entry:
        """The entry of an event, complete but for log, position and time."""
        kind = type(event)
        return Entry(
            actor,
            kind.AGGREGATE.__name__,
            event.aggregate_id,
            command,
            event,
            self.ids.uuid7(),
            "",
            0,
            "",
            self.ids.random128(),
            kind.TYPE,
            kind.VERSION,
            event.version,
        )

    def to_stored_event(self, domain_event: Any) -> Any:
        """Library hook for `save`: a draft that the recorder seals, by the system itself."""
        return self.draft(domain_event, self.system, NO_COMMAND)

    def to_domain_event(self, stored_event: StoredEvent) -> Any:
        """Library hook: the event of a stored entry; UnknownEventType for one that this release does not know."""
        return self.event_of(stored_event.state)

    def event_of(self, state: bytes) -> Event:
        """The event of an entry's bytes."""
        envelope = decode_envelope(state)
        decode = self._decoders.get(envelope.type)
        if decode is None:
            kind = EVENT_TYPES.get(envelope.type)
            if kind is None:
                raise UnknownEventType(f"entry {envelope.position} is of the unknown type {envelope.type!r}")
            decode = self._decoders[envelope.type] = msgspec.json.Decoder(kind).decode
        if envelope.v != EVENT_TYPES[envelope.type].VERSION:
            raise UnknownEventType(f"entry {envelope.position}: {envelope.type} has the unknown version {envelope.v}")
        event: Event = decode(envelope.data)
        return event.place(envelope.aggregate_id, envelope.version)

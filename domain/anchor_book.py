"""The anchor book: what happened to the anchors of a log, as an event-sourced application of its own.

It is no part of the log that it is about (an anchor that entered its own log would have to be anchored again), has its
own table, file and origin, and its own gapless positions. The only caller of save but for the ledger.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Protocol, cast

from eventsourcing.application import AggregateNotFoundError, Application, ProcessingEvent
from eventsourcing.persistence import ProcessRecorder, Tracking

from domain.anchor import Anchor, AnchorEvent
from domain.ids import anchor_id
from domain.mapper import EntryMapper

ORIGIN_SUFFIX: Final = "/anchors"
_PAGE: Final = 500


class Clock(Protocol):
    """What the recorder asks for the time of entries."""

    def next_time(self, last: str) -> str:
        """The time of the next entry, given the last one's."""


@dataclass(frozen=True, slots=True)
class LaneReport:
    """One thing that an anchor lane found out about a transaction of its publisher.

    `seq` is its number in the lane's outbox: it grows with every report of the lane and is never used twice.
    """

    lane: str
    seq: int
    publisher: str
    event: AnchorEvent


class AnchorBook(Application[str]):
    """Anchors by chain, contract, publisher and nonce. One thread at a time records; any thread may look."""

    env = {  # noqa: RUF012 the library declares it as a class variable
        "PERSISTENCE_MODULE": "eventsourcing.sqlite",
        "APPLICATION_RECORDER_TOPIC": "storage.anchor_recorder:AnchorRecorder",
        "MAPPER_TOPIC": "domain.mapper:EntryMapper",
        "ORIGINATOR_ID_TYPE": "text",
    }

    on_recorded: list[Callable[[int], None]]

    def connect(self, origin: str, clock: Clock) -> None:
        """Name the log whose anchors these are, and the clock of the entries."""
        self.on_recorded = []
        cast("Any", self.recorder).bind(origin + ORIGIN_SUFFIX, clock)

    def record(self, report: LaneReport) -> None:
        """Take over what the lane found out; a repeated delivery is recognised by its number and skipped.

        `on_recorded` is told the book's new head. Raises AlreadyExists or AnchorNotFound for a report that contradicts
        the book, the library's OperationalError when the database refuses.
        """
        if report.seq <= self.recorded_up_to(report.lane):
            return
        event, tracking = report.event, Tracking(report.lane, report.seq)
        anchor = self._anchor(anchor_id(event.chain_id, event.contract, report.publisher, event.nonce))
        anchor.take(event)
        # Events and number are one transaction. A crash before it: the lane's outbox delivers again. After it, before
        # the acknowledgement: it delivers again, too, and the number is known.
        processed: ProcessingEvent[str] = ProcessingEvent(tracking=tracking)
        processed.collect_events(cast("Any", anchor))
        if not processed.events:
            self._tracking.insert_tracking(tracking)
            return
        recordings = self._record(processed)
        for notify in self.on_recorded:
            notify(recordings[-1].notification.id)

    def recorded_up_to(self, lane: str) -> int:
        """The number of the last report of a lane that was taken over, 0 for none."""
        return self._tracking.max_tracking_id(lane) or 0

    def last_claim(self) -> AnchorEvent | None:
        """The last head that was handed to a chain, whatever became of it: our own signed word about the log.

        Heads only grow from one submission to the next, so it is the largest one.
        """
        return next(self._backwards("AnchorSubmitted", "AnchorReplaced"), None)

    def _anchor(self, name: str) -> Anchor:
        try:
            return cast("Anchor", self.repository.get(name))
        except AggregateNotFoundError:
            return Anchor(name)

    def _backwards(self, *types: str) -> Iterator[AnchorEvent]:
        """The events of these types, newest first."""
        mapper = cast("EntryMapper", self.mapper)
        end = self.recorder.max_notification_id() or 0
        while end > 0:
            start = max(1, end - _PAGE + 1)
            page = self.recorder.select_notifications(start, _PAGE, stop=end, topics=types)
            for notification in reversed(page):
                yield cast("AnchorEvent", mapper.event_of(notification.state))
            end = start - 1

    @property
    def _tracking(self) -> ProcessRecorder:
        return cast("ProcessRecorder", self.recorder)

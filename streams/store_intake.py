"""The intake: follows the entries for stores' messages, and writes down what is to be done about each.

It reads nothing but the log and, for the order in which work is done, the owners of parcels; it asks nobody and decides
nothing about subscriptions. Messages about one purchase are worked on one after the other.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol

import msgspec

from domain.entry import decode_envelope
from merkle.hashing import leaf_hash
from storage.due_work import DueWorkStore, Work
from streams.processor import Record, fresh

OBSERVE: Final = "observe"
FETCH: Final = "fetch"
JUDGE: Final = "judge"
JUDGE_AFTER_SECONDS: Final = 60.0
_MARK: Final = b'"type":"Notification'
"""Stands in every entry that concerns the intake; so others are passed over without being decoded."""


class Owners(Protocol):
    """`storage.parcels.SqliteParcels`."""

    def owners(self, payloads: Sequence[str]) -> dict[str, str]:
        """The owner of each of these payloads that is here."""
        ...


class Task(NamedTuple):
    """What a piece of work is about, as its payload says it."""

    payload: str
    message: str
    store: str
    owner: str

    @classmethod
    def of(cls, payload: str) -> "Task":
        """Out of the payload of work."""
        return cls(**json.loads(payload))

    def work(self, kind: str, due_at: float) -> Work:
        """Work of a kind about this message; there is one of a kind for one payload."""
        return Work(kind, f"{kind}:{self.payload}", json.dumps(self._asdict()), due_at, self.owner)


class _Received(msgspec.Struct):
    payload: str
    verdict: str
    store: str = ""


_data_of: Final = msgspec.json.Decoder(_Received)


class StoreIntake:
    """Finds what is to be observed, and what is to be judged first. `on_due` is called when there is something."""

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
        found = [(kind, task) for _, entry in records if _MARK in entry for kind, task in _tasks(entry)]
        owners: Mapping[str, str] = self._parcels.owners([task.payload for _, task in found]) if found else {}
        now = self._clock()
        for kind, task in found:
            due_at = now + (JUDGE_AFTER_SECONDS if kind == JUDGE else 0.0)
            yield task._replace(owner=owners.get(task.payload, "")).work(kind, due_at)


def _tasks(entry: bytes) -> Iterator[tuple[str, Task]]:
    """What an entry asks for: a message is observed when it is VALID, and judged when it could not be yet."""
    envelope = decode_envelope(entry)
    if envelope.type not in {"NotificationReceived", "NotificationJudged"}:
        return
    data: Any = _data_of.decode(envelope.data)
    kind = {"valid": OBSERVE, "unverified": JUDGE}.get(data.verdict)
    if kind is not None:
        yield kind, Task(data.payload, envelope.aggregate_id, data.store, "")

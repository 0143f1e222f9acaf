"""Which entries ask for work about stores and purchases, and which work: one table, read by the intake.

message received (valid) ─▶ observe      … (unverified) ─▶ judge
something observed, bound ─▶ follow      (does a purchase begin, join, end?)
a purchase has moved ─▶ purchase         (the saga's next step), deadline (does it move on?)
a conflict, a contradiction, a purchase that waits for people ─▶ people       a decision of theirs ─▶ decide
"""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

import msgspec

from domain.case import CaseKind
from domain.entry import Envelope, decode_envelope, parse_time
from storage.due_work import Work
from streams.deadlines import DEADLINE, STUCK, Deadline

OBSERVE: Final = "observe"
FETCH: Final = "fetch"
JUDGE: Final = "judge"
FOLLOW: Final = "follow"
PURCHASE: Final = "purchase"
PEOPLE: Final = "people"
DECIDE: Final = "decide"
ERASE: Final = "erase"
IN_ORDER: Final = frozenset({OBSERVE, FETCH})
JUDGE_AFTER_SECONDS: Final = 60.0
_MARK: Final = re.compile(rb'"type":"(?:Notification|Subscription|Charge|Identity|Purchase|Case|Erasure)')
"""Stands in every entry that may ask for work; the others are passed over without being decoded."""


class Task(NamedTuple):
    """What work about a message is about. `owner` names the key that it is sealed under, `at` is when it came.

    `at` in Unix seconds, by the entry that tells of it.
    """

    payload: str
    message: str
    store: str
    owner: str
    at: float = 0.0

    @classmethod
    def of(cls, payload: str) -> "Task":
        """Out of the payload of work."""
        return cls(**json.loads(payload))

    def work(self, kind: str, due_at: float) -> Work:
        """Work of a kind about this message; there is one of a kind for one payload.

        What stores say of one line is observed in order, and so are questions about it; what is due some day waits for
        nobody and holds up nobody.
        """
        sequence = f"{kind}:{self.owner}" if kind in IN_ORDER else ""
        return Work(kind, f"{kind}:{self.payload}", json.dumps(self._asdict()), due_at, sequence)


class About(NamedTuple):
    """What work about an aggregate is about: the entry that asked for it. `since` is its time (Unix seconds)."""

    aggregate: str
    position: int
    since: float
    payload: str = ""
    case: str = ""

    @classmethod
    def of(cls, payload: str) -> "About":
        """Out of the payload of work."""
        return cls(**json.loads(payload))

    def work(self, kind: str, due_at: float) -> Work:
        """Work of a kind that this entry asks for; that about one aggregate is done in order."""
        key = f"{kind}:{self.aggregate}:{self.position}"
        return Work(kind, key, json.dumps(self._asdict()), due_at, f"{kind}:{self.aggregate}")


class Wanted(NamedTuple):
    """Work that an entry asks for, `after_seconds` from now. A task's owner is still to be looked up."""

    kind: str
    about: Task | About | Deadline
    after_seconds: float = 0.0


class _Received(msgspec.Struct):
    payload: str
    verdict: str = ""
    store: str = ""


class _Of(msgspec.Struct):
    """The parts of entries that matter here; each entry has some of them."""

    payload: str = ""
    subscription: str = ""
    after: str = ""
    outcome: str = ""
    reason: str = ""
    by: str = ""


_received: Final = msgspec.json.Decoder(_Received).decode
_of: Final = msgspec.json.Decoder(_Of, strict=False).decode
Rule = Callable[[Envelope, About], Iterator[Wanted]]


def wanted(entry: bytes) -> Iterator[Wanted]:
    """The work that an entry asks for."""
    if _MARK.search(entry) is None:
        return
    envelope = decode_envelope(entry)
    rule = RULES.get(envelope.type)
    if rule is not None:
        since = parse_time(envelope.recorded_at).timestamp()
        yield from rule(envelope, About(envelope.aggregate_id, envelope.position, since))


def _message(envelope: Envelope, about: About) -> Iterator[Wanted]:
    """A message is observed when it is VALID, and judged when it could not be yet."""
    data = _received(envelope.data)
    task = Task(data.payload, envelope.aggregate_id, data.store, "", about.since)
    if data.verdict == "valid":
        yield Wanted(OBSERVE, task)
    elif data.verdict == "unverified":
        yield Wanted(JUDGE, task, JUDGE_AFTER_SECONDS)


def _follow(envelope: Envelope, about: About) -> Iterator[Wanted]:
    data: Any = _of(envelope.data)
    yield Wanted(FOLLOW, about._replace(payload=data.payload))


def _follow_identity(envelope: Envelope, about: About) -> Iterator[Wanted]:
    data: Any = _of(envelope.data)
    if data.subscription:
        yield Wanted(FOLLOW, about._replace(aggregate=data.subscription))


def _purchase(envelope: Envelope, about: About) -> Iterator[Wanted]:
    data: Any = _of(envelope.data)
    yield Wanted(PURCHASE, about)
    yield Wanted(DEADLINE, Deadline(STUCK, about.aggregate, about.since, str(about.position)))
    if envelope.type == "PurchaseMoved" and data.after == "parked":
        kind = CaseKind.IDENTITY_CONFLICT if data.outcome == "conflict" else CaseKind.SAGA_PARKED
        yield Wanted(PEOPLE, about._replace(case=kind))


def _conflict(_: Envelope, about: About) -> Iterator[Wanted]:
    yield Wanted(PEOPLE, about._replace(case=CaseKind.IDENTITY_CONFLICT))


def _contradiction(envelope: Envelope, about: About) -> Iterator[Wanted]:
    data: Any = _of(envelope.data)
    yield Wanted(PEOPLE, about._replace(case=CaseKind.CONTRADICTION, payload=data.payload))


def _decided(_: Envelope, about: About) -> Iterator[Wanted]:
    yield Wanted(DECIDE, about)


def _erasure(_: Envelope, about: About) -> Iterator[Wanted]:
    yield Wanted(ERASE, about)


RULES: Final[dict[str, Rule]] = {
    "NotificationReceived": _message,
    "NotificationJudged": _message,
    "NotificationContradicted": _contradiction,
    "SubscriptionObserved": _follow,
    "SubscriptionSuperseded": _follow,
    "IdentityClaimed": _follow_identity,
    "IdentityConflicted": _conflict,
    "PurchaseAccepted": _purchase,
    "PurchaseMoved": _purchase,
    "PurchaseEnding": _purchase,
    "PurchaseReopened": _purchase,
    "PurchaseUserNamed": _purchase,
    "CaseActionApproved": _decided,
    "ErasureAsked": _erasure,
}
MOVES: Final = tuple(name for name, rule in RULES.items() if rule is _purchase)
"""The entries with which a purchase moves on."""

"""A line's whole story, for support: every message, entry, decision and change of access, in order of positions."""

from collections.abc import Iterable, Iterator
from typing import Any, Final, Literal

import msgspec

from api.lines_of_users import access_after, millis_of
from api.services import EntriesPort, ParcelsPort
from domain.entry import decode_envelope
from domain.event_types import EVENT_TYPES
from domain.ids import identity_id, purchase_id
from domain.subscription_history import History
from stores.parcel_format import read_headers
from stores.verdict import MessageRefused

MAX_PARCELS: Final = 10_000
_HISTORY: Final = {
    "SubscriptionObserved", "SubscriptionCharged", "ChargeRefunded", "ChargeRefundReversed", "SubscriptionSuperseded",
}  # fmt: skip


class Item(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Something that happened. `at` in milliseconds since 1970-01-01 UTC.

    message: a payload came (`payload` is its hash, `origin` push, pull or client). entry: the ledger recorded `type`.
    access: from here on access was given or not, for a `reason`.
    """

    position: int
    at: int
    kind: Literal["message", "entry", "access"]
    subscription: str
    type: str = ""
    payload: str = ""
    origin: str = ""
    verdict: str = ""
    label: str = ""
    size: int = 0
    data: Any = None
    granted: bool | None = None
    reason: str = ""


class Timeline:
    """Reads the story of lines. Blocking; call it in a reading thread."""

    def __init__(self, entries: EntriesPort, parcels: ParcelsPort, soft_gap: int) -> None:
        self._entries, self._parcels, self._soft_gap = entries, parcels, soft_gap

    def of(self, subscriptions: Iterable[str]) -> list[Item]:
        """All that is known of these lines, in order."""
        items = [item for subscription in subscriptions for item in self._of_line(subscription)]
        return sorted(items, key=lambda item: (item.position, ("message", "entry", "access").index(item.kind)))

    def _of_line(self, subscription: str) -> Iterator[Item]:
        payloads: set[str] = set()
        history, before = History(), (False, "")
        for aggregate in (subscription, identity_id(subscription), purchase_id(subscription)):
            for position, entry in self._entries.of_aggregate(aggregate):
                envelope = decode_envelope(entry)
                data, at = msgspec.json.decode(envelope.data), millis_of(envelope)
                payloads.update(filter(None, [data.get("payload")]))
                yield Item(
                    position=position, at=at, kind="entry", subscription=subscription, type=envelope.type,
                    payload=data.get("payload") or "", data=data,
                )  # fmt: skip
                if envelope.type in _HISTORY:
                    _fold(history, envelope.type, envelope.data)
                    after = access_after(history, at, self._soft_gap)
                    if after != before:
                        yield Item(
                            position=position, at=at, kind="access", subscription=subscription, granted=after[0],
                            reason=after[1],
                        )  # fmt: skip
                    before = after
        yield from self._messages(subscription, payloads)

    def _messages(self, subscription: str, payloads: set[str]) -> Iterator[Item]:
        """Every message about the line, also those that led to nothing: all that was sealed under its key."""
        for owner in sorted(set(self._parcels.owners(sorted(payloads)).values())):
            for parcel in self._parcels.of_owner(owner, 1, MAX_PARCELS):
                try:
                    headers = read_headers(parcel.headers)
                except MessageRefused:
                    continue
                yield Item(
                    position=parcel.position, at=headers.received_at, kind="message", subscription=subscription,
                    payload=parcel.payload, origin=headers.origin, verdict=headers.verdict, label=headers.label,
                    size=len(parcel.sealed),
                )  # fmt: skip


class _Line:
    """What an event about a subscription changes, without the aggregate around it."""

    def __init__(self, history: History) -> None:
        self.history = history


def _fold(history: History, type_: str, data: bytes) -> None:
    event = msgspec.json.decode(data, type=EVENT_TYPES[type_])
    event.apply(_Line(history))

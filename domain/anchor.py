"""Anchor: one head of the log on its way into a block of a chain, and back when the chain is reorganised.

    submitted ──▶ mined ──▶ final          replaced: the same nonce, dearer or with a newer head
        ▲   └──▶ failed  │                 returned: the block that held it is gone, the transaction waits again
        └──── returned ◀─┘

The chain decides, not we: what the lane reports is a fact, so nothing but an impossible beginning is refused.
"""

from typing import Final

from domain.aggregate import Aggregate, Event, event_of
from domain.errors import AlreadyExists, AnchorNotFound

PENDING: Final = "pending"
MINED: Final = "mined"
FINAL: Final = "final"
FAILED: Final = "failed"


class Anchor(Aggregate):
    """What one nonce of a publisher carries, as last reported."""

    __slots__ = ("latest", "state")

    def __init__(self, aggregate_id: str) -> None:
        super().__init__(aggregate_id)
        self.state = ""
        self.latest: AnchorEvent | None = None

    def take(self, event: "AnchorEvent") -> None:
        """Take over what the lane reports; what is known already changes nothing.

        A report that names no transaction is about the last one. A failed one may be submitted again: a reorganisation
        gives its nonce back. AlreadyExists when it is submitted while it lives, AnchorNotFound when it never was.
        """
        if not event.tx_hash and self.latest is not None:
            event.tx_hash = self.latest.tx_hash
        if event == self.latest:
            return
        submitted = isinstance(event, AnchorSubmitted)
        if submitted and self.state not in {"", FAILED}:
            raise AlreadyExists(f"anchor {self.id} was submitted before", anchor=self.id, nonce=event.nonce)
        if not submitted and self.latest is None:
            raise AnchorNotFound(f"anchor {self.id} was never submitted", anchor=self.id, nonce=event.nonce)
        self.trigger(event)


class AnchorEvent(Event):
    """What every event of an anchor says: the head it carries and the transaction that carries it.

    `contract` is checksummed, `log_id` and `tx_hash` are 0x and 64 hex digits, `root` is 64 hex digits.
    """

    chain_id: int
    contract: str
    log_id: str
    nonce: int
    size: int
    root: str
    tx_hash: str

    def apply(self, anchor: Anchor) -> None:
        anchor.latest, anchor.state = self, PENDING


class InBlock(AnchorEvent):
    """The transaction stands in a block; `block_time` is Unix seconds, `block_hash` 0x and 64 hex digits."""

    block_number: int
    block_hash: str
    block_time: int
    log_index: int
    gas_used: int


class Undone(AnchorEvent):
    """The transaction stands in no block (any more), and why."""

    reason: str


@event_of(Anchor)
class AnchorSubmitted(AnchorEvent):
    """A transaction was signed, stored and handed to the chain."""


@event_of(Anchor)
class AnchorReplaced(AnchorEvent):
    """Another transaction of the same nonce took its place."""


@event_of(Anchor)
class AnchorMined(InBlock):
    """The transaction is in a block that may still be reorganised away."""

    def apply(self, anchor: Anchor) -> None:
        anchor.latest, anchor.state = self, MINED


@event_of(Anchor)
class AnchorFinal(InBlock):
    """The block is as final as the settings ask for."""

    def apply(self, anchor: Anchor) -> None:
        anchor.latest, anchor.state = self, FINAL


@event_of(Anchor)
class AnchorReturned(Undone):
    """The block that held it was reorganised away: the transaction waits again."""


@event_of(Anchor)
class AnchorFailed(Undone):
    """It will never carry its head: reverted, or the nonce was used by something else."""

    def apply(self, anchor: Anchor) -> None:
        anchor.latest, anchor.state = self, FAILED

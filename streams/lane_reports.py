"""From the lane's words to the anchor book's: a lane knows nonces and bytes, the book whole facts in text."""

from dataclasses import dataclass
from typing import Any, Protocol

from chain.lane_events import Failed, Final, Forked, LaneEvent, Mined, Replaced, Returned, Submitted
from domain.anchor import AnchorEvent, AnchorFailed, AnchorFinal, AnchorMined, AnchorReplaced, AnchorReturned
from domain.anchor import AnchorSubmitted as SubmittedFact
from domain.anchor_book import LaneReport


class LaneStatus(Protocol):
    """How far a lane is, by its own memory. Sizes are in entries."""

    @property
    def final_size(self) -> int:
        """The largest head that is final."""

    @property
    def mined_size(self) -> int:
        """The largest head that is in a block."""

    @property
    def in_flight(self) -> int:
        """How many transactions are in no block yet."""


class AnchorLane(Protocol):
    """Brings the newest published head onto a chain. Called by one thread at a time."""

    def tick(self, *, may_plan: bool = True) -> list[LaneEvent]:
        """Follow what is under way, begin the next anchor if allowed, and give all events not acknowledged."""
        ...

    def pending_events(self) -> list[LaneEvent]:
        """The oldest events not acknowledged; they come again until they are."""
        ...

    def acknowledge(self, seq: int) -> None:
        """The events up to this number have been taken over."""

    def status(self) -> LaneStatus:
        """From its memory, without asking the chain."""
        ...


@dataclass(frozen=True, slots=True)
class LaneIdentity:
    """Which lane: the chain, the contract and publisher (checksummed addresses) and the log's name there (32 bytes)."""

    chain_id: int
    contract: str
    publisher: str
    log_id: bytes

    @property
    def name(self) -> str:
        """The name under which the book tracks the lane's reports."""
        return f"lane {self.chain_id} {self.publisher.lower()}"

    def report(self, event: LaneEvent) -> LaneReport | None:
        """What the book is told about an event; None for a fork, which is no fact about an anchor."""
        if isinstance(event, Forked):
            return None
        return LaneReport(self.name, event.seq, self.publisher, self._fact(event))

    def _fact(self, event: LaneEvent) -> AnchorEvent:
        match event:
            case Submitted():
                return SubmittedFact(**self._carried(event, event.nonce, event.tx_hash))
            case Replaced():
                return AnchorReplaced(**self._carried(event, event.nonce, event.tx_hash))
            case Mined():
                return AnchorMined(**self._carried(event, event.nonce, event.tx_hash), **_place(event))
            case Final():
                return AnchorFinal(**self._carried(event, event.nonce, event.tx_hash), **_place(event))
            case Returned():
                gone = f"block {event.block_number} (0x{event.block_hash.hex()}) is no longer part of the chain"
                return AnchorReturned(**self._carried(event, event.nonce, event.tx_hash), reason=gone)
            case Failed():
                return AnchorFailed(**self._carried(event, event.nonce, b""), reason=event.reason)
            case _:
                raise TypeError(f"the lane tells of {type(event).__name__}, which this program does not know")

    def _carried(self, event: LaneEvent, nonce: int, tx_hash: bytes) -> dict[str, Any]:
        return {
            "chain_id": self.chain_id,
            "contract": self.contract,
            "log_id": f"0x{self.log_id.hex()}",
            "nonce": nonce,
            "size": event.size,
            "root": event.root.hex(),
            "tx_hash": f"0x{tx_hash.hex()}" if tx_hash else "",
        }


def _place(event: Mined | Final) -> dict[str, Any]:
    return {
        "block_number": event.block_number,
        "block_hash": f"0x{event.block_hash.hex()}",
        "block_time": event.block_time,
        "log_index": event.log_index,
        "gas_used": event.gas_used,
    }

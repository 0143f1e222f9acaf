"""Where the lane's transactions are on the chain: mined, final, returned by a reorganisation, or displaced."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from chain.connection import Block, Receipt
from chain.errors import WrongChainError
from chain.lane_events import Failed, Mined, Returned, encode
from chain.lane_events import Final as FinalEvent
from chain.lane_ports import LaneStore, Slot
from chain.registry import Anchored, Registry

logger = logging.getLogger(__name__)

AUDITS_PER_TICK: Final = 16
GWEI: Final = 10**9


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneSettings:
    """How a lane behaves on its chain. `confirmations` None takes the chain's own `finalized` tag.

    The embedded node mines at once and makes no empty blocks: a number above 1 would never be reached there.
    """

    confirmations: int | None = 1
    resend_after_seconds: float = 15.0
    bump_after_seconds: float = 120.0
    audit_after_seconds: float = 86_400.0
    fee_cap_wei: int = 500 * GWEI


class Alarms:
    """What an operator should look at, by name; each is logged when it is raised or changes."""

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}

    def raise_(self, name: str, text: str) -> None:
        """Raises or changes an alarm."""
        if self._texts.get(name) != text:
            logger.warning("anchor lane: %s: %s", name, text)
        self._texts[name] = text

    def clear(self, name: str) -> None:
        """The reason is gone."""
        self._texts.pop(name, None)

    def raised(self) -> dict[str, str]:
        """The alarms now."""
        return dict(self._texts)


class Follower:
    """Compares the lane's memory with the chain and writes down what changed. Sends nothing."""

    def __init__(
        self,
        registry: Registry,
        address: str,
        store: LaneStore,
        settings: LaneSettings,
        clock: Callable[[], float],
        alarms: Alarms,
    ) -> None:
        self._registry, self._address, self._store = registry, address, store
        self._settings, self._clock, self._alarms = settings, clock, alarms
        self._connection = registry.connection

    def follow(self, head: Block, used: int) -> None:
        """Looks for every open nonce on the chain; `used` is the account's nonce, read after `head`."""
        final_height = self._final_height(head)
        for slot in self._store.slots("planned", "sent", "mined"):
            place = self._place(slot)
            if place is not None:
                self._found(slot, *place, final_height)
            elif slot.state == "mined":
                self._returned(slot)
            elif used > slot.nonce:
                self._check_foreign(slot, final_height)

    def _final_height(self, head: Block) -> int:
        if self._settings.confirmations is not None:
            return head.number - self._settings.confirmations + 1
        block = self._connection.block("finalized")
        return -1 if block is None else block.number

    def _place(self, slot: Slot) -> tuple[Receipt, Block] | None:
        """Receipt and block of any of the nonce's transactions, if that block is part of the chain."""
        for attempt in self._store.attempts(slot.nonce):
            receipt = self._connection.receipt(attempt.tx_hash)
            if receipt is not None:
                block = self._connection.block(receipt.block_number)
                if block is not None and block.block_hash == receipt.block_hash:
                    return receipt, block
        return None

    def _found(self, slot: Slot, receipt: Receipt, block: Block, final_height: int) -> None:
        if not receipt.succeeded:
            self.failed(slot, f"0x{receipt.tx_hash.hex()} reverted in block {receipt.block_number}")
            return
        if slot.state == "mined" and slot.block_hash != receipt.block_hash:
            self._returned(slot)
        anchored = self._registry.anchored_in(receipt)
        if anchored is None:
            raise WrongChainError(f"0x{receipt.tx_hash.hex()} succeeded without an Anchored event")
        if slot.state != "mined" or slot.block_hash != receipt.block_hash:
            self._mined(slot, receipt, block, anchored)
        if receipt.block_number <= final_height:
            self._final(slot.nonce)

    def _mined(self, slot: Slot, receipt: Receipt, block: Block, anchored: Anchored) -> None:
        event = Mined(
            seq=0,
            size=anchored.size,
            root=anchored.root,
            tx_hash=receipt.tx_hash,
            nonce=slot.nonce,
            block_number=receipt.block_number,
            block_hash=receipt.block_hash,
            log_index=anchored.log_index,
            block_time=block.timestamp,
            gas_used=receipt.gas_used,
        )
        self._store.mark_mined(
            slot.nonce,
            tx_hash=event.tx_hash,
            size=event.size,
            root=event.root,
            block_number=event.block_number,
            block_hash=event.block_hash,
            log_index=event.log_index,
            block_time=event.block_time,
            gas_used=event.gas_used,
            events=[encode(event)],
        )

    def _final(self, nonce: int) -> None:
        slot = self._store.slot(nonce)
        if slot is None or slot.state != "mined":
            return
        event = FinalEvent(
            seq=0,
            size=slot.size,
            root=slot.root,
            tx_hash=slot.tx_hash or b"",
            nonce=nonce,
            block_number=slot.block_number or 0,
            block_hash=slot.block_hash or b"",
            log_index=slot.log_index or 0,
            block_time=slot.block_time or 0,
            gas_used=slot.gas_used or 0,
        )
        self._store.mark_final(nonce, now=self._clock(), events=[encode(event)])

    def _returned(self, slot: Slot) -> None:
        logger.warning("anchor of size %d left the chain with block %s", slot.size, slot.block_number)
        event = Returned(
            seq=0,
            size=slot.size,
            root=slot.root,
            tx_hash=slot.tx_hash or b"",
            nonce=slot.nonce,
            block_number=slot.block_number or 0,
            block_hash=slot.block_hash or b"",
        )
        self._store.mark_returned(slot.nonce, events=[encode(event)])

    def failed(self, slot: Slot, reason: str) -> None:
        """Gives the slot up and tells so."""
        logger.error("anchor nonce %d failed: %s", slot.nonce, reason)
        event = Failed(seq=0, size=slot.size, root=slot.root, nonce=slot.nonce, reason=reason)
        self._store.mark_failed(slot.nonce, events=[encode(event)])

    def _check_foreign(self, slot: Slot, final_height: int) -> None:
        """The nonce is used and no receipt is ours: somebody else has the key, or this node lags behind.

        It is believed at the depth that makes anchors final; until then nothing is sent for the nonce.
        """
        if final_height < 0:
            return
        if self._connection.nonce(self._address, final_height) > slot.nonce:
            self._alarms.raise_("foreign transaction", f"nonce {slot.nonce} was used by a transaction of somebody else")
            self.failed(slot, f"nonce {slot.nonce} was used by a transaction that this lane did not send")

    def audit(self, head: Block, *, suspicious: bool) -> None:
        """Looks at final anchors again, each once a day, all of them when something is suspicious.

        Finds a reorganisation deeper than finality, a lost chain, and a node that had lied.
        """
        now = self._clock()
        standing = []
        before = now if suspicious else now - self._settings.audit_after_seconds
        for slot in self._store.due_for_audit(before, AUDITS_PER_TICK):
            number = slot.block_number or 0
            if number > head.number:
                break  # a node that lags behind
            events = self._registry.anchored_events(number, number)
            expected = (slot.size, slot.root, slot.tx_hash, slot.block_hash, slot.log_index)
            if any((e.size, e.root, e.tx_hash, e.block_hash, e.log_index) == expected for e in events):
                standing.append(slot.nonce)
            else:
                self._alarms.raise_("audit", f"the final anchor of size {slot.size} is not where it was")
                self._returned(slot)
        if standing:
            self._store.mark_audited(standing, now)

"""The anchor lane: brings the newest head of a log onto a chain and sees it through to finality.

One lane per (chain, publisher key), driven by one caller. A slot is one nonce:

    planned ──▶ sent ──▶ mined ──▶ final          a reorganisation returns mined and final to sent
        └─────────┴──▶ failed                     reverted, or a foreign transaction took the nonce

1. Every signed transaction is stored before it is sent, so that a crash never loses track of a nonce.
2. At most one nonce is unmined by plan; after a reorganisation several are, and the lowest goes first.
3. Sending the same bytes again is always safe ("already known" is success); a stuck lowest nonce is replaced by
   a dearer transaction, for the newest head where nothing waits behind it.
4. Before signing, the contract's head must be a head that this log had. If not, the lane stands still.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from chain.connection import Block, SendOutcome
from chain.errors import ChainUnavailableError, NodeRefusedError, RefusedError, WrongChainError
from chain.fees import Fees, bumped_fees, first_fees
from chain.lane_events import Forked, LaneEvent, Replaced, Submitted, decode, encode
from chain.lane_follow import Alarms, Follower, LaneSettings
from chain.lane_ports import Attempt, HeadSource, LaneStore, Slot, TxSigner
from chain.registry import Head, Registry
from chain.transactions import AnchorTx

__all__ = ["HeadSource", "Lane", "LaneSettings", "LaneStatus", "LaneStore", "TxSigner"]

logger = logging.getLogger(__name__)

MAX_EVENTS: Final = 1000
# what happens this often in a row is no longer a node that lags behind for a moment
REPEATS_BEFORE_ALARM: Final = 3
ANCHORS_IN_RESERVE: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneStatus:
    """For readiness and metrics: sizes anchored so far, nonces under way, why it stands still, alarms by name."""

    final_size: int
    mined_size: int
    in_flight: int
    fork: str
    alarms: dict[str, str]


class Lane:
    """See the module. `tick` does a round of work; any exception leaves a state from which the next tick goes on."""

    def __init__(
        self,
        registry: Registry,
        source: HeadSource,
        signer: TxSigner,
        store: LaneStore,
        settings: LaneSettings | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._registry, self._source, self._signer, self._store = registry, source, signer, store
        self._settings, self._clock = settings or LaneSettings(), clock
        self._connection = registry.connection
        self._alarms = Alarms()
        self._follower = Follower(registry, signer.address, store, self._settings, clock, self._alarms)
        self._is_checked = False
        self._refusals = self._stale_ticks = 0

    def tick(self, *, may_plan: bool = True) -> list[LaneEvent]:
        """Follows what is under way, plans the next anchor unless `may_plan` is false, and returns `pending_events`.

        Raises ChainUnavailableError (call again later), WrongChainError (stop the process) and other ChainErrors;
        events stored before that are found by `pending_events`.
        """
        try:
            self._work(may_plan=may_plan)
        except ChainUnavailableError:
            self._is_checked = False  # what answers next may be another node
            raise
        return self.pending_events()

    def _work(self, *, may_plan: bool) -> None:
        if not self._is_checked:
            self._registry.check(self._signer.address)
            self._is_checked = True
        head = self._latest()
        used = self._connection.nonce(self._signer.address)
        self._follower.follow(head, used)
        self._send(used)
        if may_plan and not self._store.slots("planned", "sent") and self._plan(head, used):
            # a chain that mines at once has the receipt by now
            self._follower.follow(self._latest(), self._connection.nonce(self._signer.address))
        self._follower.audit(head, suspicious=self._stale_ticks >= REPEATS_BEFORE_ALARM)

    def _latest(self) -> Block:
        block = self._connection.block("latest")
        if block is None:
            raise WrongChainError("the node has no latest block")
        return block

    def pending_events(self) -> list[LaneEvent]:
        """Events not yet acknowledged, oldest first. They come again until they are, also after a crash."""
        return [decode(*row) for row in self._store.pending_events(MAX_EVENTS)]

    def acknowledge(self, seq: int) -> None:
        """The caller has taken over the events up to this number."""
        self._store.acknowledge(seq)

    def status(self) -> LaneStatus:
        """Reads the lane's memory only; no call to the chain."""
        return LaneStatus(
            final_size=self._store.largest_size("final"),
            mined_size=self._store.largest_size("mined", "final"),
            in_flight=len(self._store.slots("planned", "sent")),
            fork=self._store.fork(),
            alarms=self._alarms.raised(),
        )

    # sending

    def _send(self, used: int) -> None:
        """Sends what is due again, lowest nonce first; replaces the lowest when it is stuck."""
        now = self._clock()
        due = [slot for slot in self._store.slots("planned", "sent") if slot.nonce >= used]
        for place, slot in enumerate(due):
            newest = self._store.attempts(slot.nonce)[0]
            if not newest.raw:
                self._follower.failed(slot, "the transaction is too old to be sent again")
            elif place == 0 and now - newest.created_at >= self._settings.bump_after_seconds:
                self._bump(slot, newest, alone=len(due) == 1)
            elif slot.state == "planned" or now - slot.sent_at >= self._settings.resend_after_seconds:
                outcome = self._cast(slot.nonce, newest.raw)
                if outcome is SendOutcome.FEE_TOO_LOW and place == 0:
                    self._bump(slot, newest, alone=len(due) == 1)

    def _cast(self, nonce: int, raw: bytes) -> SendOutcome:
        sent = self._connection.send(raw)
        match sent.outcome:
            case SendOutcome.ACCEPTED | SendOutcome.KNOWN | SendOutcome.UNDERPRICED:
                # underpriced: the node holds another of this nonce's transactions, which is ours as well
                self._store.mark_sent(nonce, self._clock())
                self._alarms.clear("sending")
            case SendOutcome.NONCE_TOO_LOW:
                pass  # mined meanwhile, or foreign: following finds out
            case _:
                self._alarms.raise_("sending", f"nonce {nonce}: {sent.message}")
        return sent.outcome

    def _bump(self, slot: Slot, newest: Attempt, *, alone: bool) -> None:
        head = self._registry.head()
        if self._is_forked(head):
            return
        fees = bumped_fees(
            Fees(newest.max_fee, newest.tip),
            self._latest().base_fee,
            self._connection.tip(),
            self._settings.fee_cap_wei,
        )
        if fees is None:
            self._alarms.raise_(
                "fee cap", f"nonce {slot.nonce} is stuck at {newest.max_fee} wei per gas, under the cap"
            )
            self._cast(slot.nonce, newest.raw)
            return
        # what waits behind builds on this slot's head: only a lone one may move on to the newest
        size, root = self._source.latest() if alone else (newest.size, newest.root)
        try:
            attempt = self._sign(slot.nonce, head, size, root, fees)
        except (RefusedError, NodeRefusedError) as error:
            logger.warning("nonce %d cannot be replaced: %s", slot.nonce, error)
            self._cast(slot.nonce, newest.raw)
            return
        event = Replaced(
            seq=0,
            size=size,
            root=root,
            tx_hash=attempt.tx_hash,
            nonce=slot.nonce,
            previous_size=head.size,
            replaced_tx_hash=newest.tx_hash,
        )
        self._keep(slot.nonce, attempt, event)
        self._alarms.clear("fee cap")
        self._cast(slot.nonce, attempt.raw)

    # planning

    def _plan(self, head_block: Block, used: int) -> bool:
        """Signs, stores and sends the next anchor. Whether there was one."""
        size, root = self._source.latest()
        head = self._registry.head()
        if size == 0 or self._is_forked(head) or self._is_stale(head, used) or size == head.size:
            return False
        fees = first_fees(head_block.base_fee, self._connection.tip(), self._settings.fee_cap_wei)
        if fees is None:
            self._alarms.raise_("fee cap", f"the base fee {head_block.base_fee} is over the cap")
            return False
        self._alarms.clear("fee cap")
        try:
            attempt = self._sign(used, head, size, root, fees)
        except (RefusedError, NodeRefusedError) as error:
            # mostly a node that lags behind the one that answered `head`; read again next time
            self._refusals += 1
            if self._refusals >= REPEATS_BEFORE_ALARM:
                self._alarms.raise_("refused", str(error))
            return False
        self._refusals = 0
        self._alarms.clear("refused")
        event = Submitted(seq=0, size=size, root=root, tx_hash=attempt.tx_hash, nonce=used, previous_size=head.size)
        self._keep(used, attempt, event)
        self._cast(used, attempt.raw)
        return True

    def _is_forked(self, head: Head) -> bool:
        size, _ = self._source.latest()
        own_root = b"" if head.size > size else self._source.root(head.size) if head.size else head.root
        reason = ""
        if head.size > size:
            reason = f"the contract holds size {head.size}, this log ends at {size}"
        elif own_root != head.root:
            reason = f"the contract holds root 0x{head.root.hex()} at size {head.size}, this log 0x{own_root.hex()}"
        if reason == self._store.fork():
            return bool(reason)
        if reason:
            logger.critical("fork: %s", reason)
            event = Forked(seq=0, size=head.size, root=head.root, own_size=size, own_root=own_root)
            self._store.set_fork(reason, events=[encode(event)])
        else:
            self._store.set_fork("", events=())
        return bool(reason)

    def _is_stale(self, head: Head, used: int) -> bool:
        """Whether this node shows an older chain than one this lane has already seen."""
        slot = self._store.slot(used)
        seen = self._store.largest_size("mined", "final")
        stale = head.size < seen or (slot is not None and slot.state in {"mined", "final"})
        self._stale_ticks = self._stale_ticks + 1 if stale else 0
        if stale:
            self._alarms.raise_("stale node", f"the node shows size {head.size}, the lane has seen {seen}")
        else:
            self._alarms.clear("stale node")
        return stale

    def _sign(self, nonce: int, head: Head, size: int, root: bytes, fees: Fees) -> "_Signed":
        proof = tuple(self._source.proof(head.size, size)) if head.size else ()
        gas = self._registry.estimate_anchor(self._signer.address, size, root, proof)
        self._check_balance(gas * fees.max_fee)
        request = AnchorTx(
            chain_id=self._registry.chain_id,
            nonce=nonce,
            gas=gas,
            max_fee_per_gas=fees.max_fee,
            max_priority_fee_per_gas=fees.tip,
            contract=self._registry.contract,
            log_id=self._registry.log_id,
            new_size=size,
            new_root=root,
            proof=proof,
        )
        signed = self._signer.sign_anchor(request)
        return _Signed(head.size, size, root, signed.raw, signed.tx_hash, fees)

    def _keep(self, nonce: int, signed: "_Signed", event: LaneEvent) -> None:
        self._store.plan(
            nonce=nonce,
            tx_hash=signed.tx_hash,
            old_size=signed.old_size,
            size=signed.size,
            root=signed.root,
            raw=signed.raw,
            max_fee=signed.fees.max_fee,
            tip=signed.fees.tip,
            created_at=self._clock(),
            events=[encode(event)],
        )

    def _check_balance(self, cost: int) -> None:
        balance = self._connection.balance(self._signer.address)
        if balance < ANCHORS_IN_RESERVE * cost:
            self._alarms.raise_(
                "low balance", f"{self._signer.address} has {balance} wei, an anchor costs up to {cost}"
            )
        else:
            self._alarms.clear("low balance")


@dataclass(frozen=True, slots=True)
class _Signed:
    """A signed anchor and what it was signed for."""

    old_size: int
    size: int
    root: bytes
    raw: bytes
    tx_hash: bytes
    fees: Fees

"""What the anchor lane asks of others: a log to anchor, a signer, and a memory."""

from collections.abc import Sequence
from typing import Protocol

from chain.transactions import AnchorTx, SignedTx

Events = Sequence[tuple[str, str]]


class HeadSource(Protocol):
    """The log that is anchored, as its signed checkpoints show it."""

    def latest(self) -> tuple[int, bytes]:
        """Size and root of the newest signed checkpoint; size 0 for an empty log."""

    def root(self, size: int) -> bytes:
        """Root over the first `size` leaves, 0 < size <= latest size."""

    def proof(self, old: int, new: int) -> Sequence[bytes]:
        """RFC 9162 consistency proof, 0 < old < new <= latest size."""


class TxSigner(Protocol):
    """Holds the publisher's key."""

    @property
    def address(self) -> str:
        """The publisher's checksummed address."""

    def sign_anchor(self, request: AnchorTx) -> SignedTx:
        """Builds and signs the transaction itself; judges the request by its fields."""


class Slot(Protocol):
    """One nonce of the lane. The place is None until it is mined; `sent_at` is 0 until it is sent."""

    @property
    def nonce(self) -> int: ...
    @property
    def state(self) -> str: ...
    @property
    def tx_hash(self) -> bytes | None: ...
    @property
    def size(self) -> int: ...
    @property
    def root(self) -> bytes: ...
    @property
    def block_number(self) -> int | None: ...
    @property
    def block_hash(self) -> bytes | None: ...
    @property
    def log_index(self) -> int | None: ...
    @property
    def block_time(self) -> int | None: ...
    @property
    def gas_used(self) -> int | None: ...
    @property
    def sent_at(self) -> float: ...


class Attempt(Protocol):
    """One signed transaction of a nonce. `raw` is empty when it is too old ever to be sent again."""

    @property
    def tx_hash(self) -> bytes: ...
    @property
    def old_size(self) -> int: ...
    @property
    def size(self) -> int: ...
    @property
    def root(self) -> bytes: ...
    @property
    def raw(self) -> bytes: ...
    @property
    def max_fee(self) -> int: ...
    @property
    def tip(self) -> int: ...
    @property
    def created_at(self) -> float: ...


class LaneStore(Protocol):
    """Durable memory of one lane. Each method is one transaction, together with the events given to it."""

    def slots(self, *states: str) -> Sequence[Slot]:
        """The slots in these states, lowest nonce first."""

    def slot(self, nonce: int) -> Slot | None:
        """The slot of a nonce."""

    def attempts(self, nonce: int) -> Sequence[Attempt]:
        """The transactions signed for a nonce, newest first."""

    def plan(
        self,
        *,
        nonce: int,
        tx_hash: bytes,
        old_size: int,
        size: int,
        root: bytes,
        raw: bytes,
        max_fee: int,
        tip: int,
        created_at: float,
        events: Events,
    ) -> None:
        """Keeps a signed transaction, as the nonce's first or as a replacement; the slot is `planned`."""

    def mark_sent(self, nonce: int, now: float) -> None:
        """The slot is `sent`."""

    def mark_mined(
        self,
        nonce: int,
        *,
        tx_hash: bytes,
        size: int,
        root: bytes,
        block_number: int,
        block_hash: bytes,
        log_index: int,
        block_time: int,
        gas_used: int,
        events: Events,
    ) -> None:
        """The slot is `mined` at this place."""

    def mark_final(self, nonce: int, *, now: float, events: Events) -> None:
        """The slot is `final`, and audited now."""

    def mark_returned(self, nonce: int, *, events: Events) -> None:
        """The slot is `sent` again, without a place, and due to be sent at once."""

    def mark_failed(self, nonce: int, *, events: Events) -> None:
        """The slot is `failed`."""

    def due_for_audit(self, before: float, limit: int) -> Sequence[Slot]:
        """Final slots not audited since `before`, longest first."""

    def mark_audited(self, nonces: Sequence[int], now: float) -> None:
        """These final slots still stand."""

    def largest_size(self, *states: str) -> int:
        """The largest size among the slots in these states, 0 without any."""

    def fork(self) -> str:
        """Why the lane stands still, empty when it does not."""

    def set_fork(self, reason: str, *, events: Events) -> None:
        """Stops the lane for this reason, or lets it go on when empty."""

    def pending_events(self, limit: int) -> Sequence[tuple[int, str, str]]:
        """The oldest events not acknowledged: (sequence number, kind, JSON body)."""

    def acknowledge(self, seq: int) -> None:
        """The events up to this number are forgotten."""

"""The fork guard: no entry is accepted while somebody may know more of this log than its store does.

A store that came back from a backup looks healthy; what was signed or anchored since then shows that it is not. Before
the writer accepts anything these are compared with the store and its tree:

    1 log         the leaves that were sequenced
    2 checkpoint  the last head that was signed
    3 anchor      the last head that was handed to a chain
    4 topics      where entries flow through Kafka: the last entry and the last checkpoint there
    5 contract    the head that the contract holds

If one is ahead of the store, or has another root than the tree at its size, the ledger stays read-only until a restart
on complete data. Once Kafka and the contract have answered, it does not matter when they go away later.
"""

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from domain.anchor import AnchorEvent
from domain.errors import DaichoError, LedgerReadOnly
from merkle.checkpoint import StoredCheckpoint
from merkle.hashing import leaf_hash
from merkle.log_view import LogView
from streams.faults import Backoff, one_line
from streams.local import EntryLog
from streams.own_thread import OwnThread

FIRST_RETRY_SECONDS: Final = 0.2
LONGEST_RETRY_SECONDS: Final = 5.0
WAITING_FOR_CONTRACT: Final = "waiting for the contract's head"
WAITING_FOR_TOPICS: Final = "waiting for Kafka's word on its last entry"
SetRefusal = Callable[[DaichoError | None], None]
logger = logging.getLogger("daicho.fork-guard")


class Head(Protocol):
    """A size and its root."""

    @property
    def size(self) -> int:
        """In leaves; 0 for no head yet."""

    @property
    def root(self) -> bytes:
        """32 bytes; any when the size is 0."""


class SequencedLog(Protocol):
    """What the log store knows."""

    def position(self) -> tuple[int, bytes]:
        """The last position sequenced and its leaf hash."""
        ...

    def last_checkpoint(self) -> StoredCheckpoint | None:
        """The newest signed checkpoint."""
        ...


class Claims(Protocol):
    """What the anchor book knows."""

    def last_claim(self) -> AnchorEvent | None:
        """The last head handed to a chain."""
        ...


class Topics(Protocol):
    """What Kafka knows. Both may raise anything and take their time."""

    def last_entry(self) -> tuple[int, bytes]:
        """The last position in the topic of the entries and its leaf hash; (0, b"") when it is empty."""
        ...

    def last_checkpoint(self) -> tuple[int, bytes]:
        """Size and root of the last head in the topic of the checkpoints; (0, b"") when it is empty."""
        ...


class Claim(NamedTuple):
    """Somebody's word about the log: `source` says whose."""

    source: str
    size: int
    root: bytes


class _Wait(Exception):
    """Not known yet."""

    def __init__(self, reason: str, source: str, size: int) -> None:
        super().__init__(reason)
        self.refusal = LedgerReadOnly(reason, source=source, size=size)


class _Fork(Exception):
    """The store is not what others know."""

    def __init__(self, reason: str, source: str, size: int) -> None:
        super().__init__(reason)
        self.reason, self.source, self.size = reason, source, size


@dataclass(slots=True)
class _Door:
    """Who may write: changed from the event loop and from executors' threads."""

    lock: threading.Lock
    closed: LedgerReadOnly | None = None
    set_refusal: SetRefusal | None = None


class ForkGuard:
    """Compares what others know with the store. `contract_head` may raise anything and may take its time.

    `on_closed` hears why when the ledger is closed for good, in any thread.
    """

    def __init__(
        self,
        entries: EntryLog,
        view: LogView,
        log: SequencedLog,
        book: Claims,
        contract_head: Callable[[], Head],
        topics: Topics | None = None,
    ) -> None:
        self.on_closed: list[Callable[[LedgerReadOnly], None]] = []
        self._topics = topics
        self._entries, self._view, self._log, self._book = entries, view, log, book
        self._contract_head = contract_head
        self._door = _Door(threading.Lock())
        self._stopping = asyncio.Event()
        self._said = ""

    async def check_until_open(self, set_refusal: SetRefusal) -> bool:
        """Keep the ledger read-only until all agree; True when it is open, False when it stays closed.

        `set_refusal` is given the reason (LedgerReadOnly with `size` and `source`) at every change, and None at last.
        It may also be called later, from any thread, by `forked`.
        """
        self._door.set_refusal = set_refusal
        comparing = LedgerReadOnly("the store is being compared with what was signed and anchored", source="start")
        self._said = comparing.message  # the ordinary way of a start is not worth a warning
        self._refuse(comparing)
        thread, backoff = OwnThread("fork-guard"), Backoff(FIRST_RETRY_SECONDS, LONGEST_RETRY_SECONDS)
        try:
            while not self._stopping.is_set():
                try:
                    await thread.run(self._compare)
                    return self._open()
                except _Fork as fork:
                    self.close(fork.reason, source=fork.source, size=fork.size)
                    return False
                except _Wait as wait:
                    self._refuse(wait.refusal)
                except Exception as error:  # noqa: BLE001 what cannot be read now may be readable later
                    self._refuse(LedgerReadOnly(f"the store cannot be compared: {one_line(error)}", source="store"))
                await self._pause(backoff.failed())
            return False
        finally:
            thread.close()

    def forked(self, head: Head) -> None:
        """At run time: the contract holds a head that this log never had. From any thread."""
        self.close("the contract holds a head that this log never had", source="contract", size=head.size)

    def close(self, reason: str, *, source: str, size: int) -> None:
        """Make the ledger read-only until a restart. From any thread."""
        refusal = LedgerReadOnly(reason, source=source, size=size)
        with self._door.lock:
            if self._door.closed is not None:
                return
            self._door.closed = refusal
            if self._door.set_refusal is not None:
                self._door.set_refusal(refusal)
        logger.critical("the ledger is read-only: %s (%s, size %d)", reason, source, size)
        for notify in self.on_closed:
            notify(refusal)

    def stop(self) -> None:
        """End the waiting; the ledger stays as it is."""
        self._stopping.set()

    # -- inside ------------------------------------------------------------------------------------------------------

    def _open(self) -> bool:
        with self._door.lock:
            if self._door.closed is not None:
                return False
            if self._door.set_refusal is not None:
                self._door.set_refusal(None)
        logger.info("the ledger is open at position %d", self._entries.head())
        return True

    def _refuse(self, refusal: LedgerReadOnly) -> None:
        if refusal.message != self._said:  # one line for each reason, however often it is looked at again
            self._said = refusal.message
            logger.warning("the ledger is read-only for now: %s", refusal.message)
        with self._door.lock:
            if self._door.closed is None and self._door.set_refusal is not None:
                self._door.set_refusal(refusal)

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return

    def _compare(self) -> None:
        """In the thread: raises _Fork or _Wait, returns when all agree. What needs no chain is compared first.

        Each word about the log is heard before the store's end is looked at: other processes write meanwhile, and what
        they have written may be sequenced, in a topic or anchored a moment later.
        """
        self._compare_leaf("log", ("the log was sequenced up to", "was sequenced"), *self._log.position())
        for claim in self._own_claims():
            self._compare_claim(claim)
        if self._topics is not None:
            self._compare_topics(self._topics)
        try:
            contract = self._contract_head()
        except Exception as error:
            reason = f"{WAITING_FOR_CONTRACT} ({one_line(error)})"
            raise _Wait(reason, "contract", self._entries.head()) from error
        if contract.size:
            self._compare_claim(Claim("contract", contract.size, contract.root))

    def _compare_leaf(self, source: str, words: tuple[str, str], position: int, leaf: bytes) -> None:
        head = self._entries.head()
        if position > head:
            raise _Fork(f"{words[0]} {position}, the store ends at {head}", source, position)
        if position:
            ((_, entry),) = self._entries.read(position, 1)
            if leaf_hash(entry) != leaf:
                raise _Fork(f"entry {position} is not the one that {words[1]}", source, position)

    def _compare_topics(self, topics: Topics) -> None:
        try:
            entry, checkpoint = topics.last_entry(), topics.last_checkpoint()
        except Exception as error:
            raise _Wait(f"{WAITING_FOR_TOPICS} ({one_line(error)})", "topic", self._entries.head()) from error
        self._compare_leaf("topic", ("the topic goes up to", "stands in the topic"), *entry)
        if checkpoint[0]:
            self._compare_claim(Claim("topic of checkpoints", *checkpoint))

    def _own_claims(self) -> Iterator[Claim]:
        checkpoint = self._log.last_checkpoint()
        if checkpoint is not None:
            yield Claim("checkpoint", checkpoint.size, checkpoint.root)
        anchor = self._book.last_claim()
        if anchor is not None:
            yield Claim("anchor", anchor.size, bytes.fromhex(anchor.root))

    def _compare_claim(self, claim: Claim) -> None:
        source, size, root = claim
        head = self._entries.head()
        if size > head:
            raise _Fork(f"the {source} has size {size}, the store ends at {head}", source, size)
        if size > self._view.size:
            raise _Wait(f"waiting for the tree to reach size {size} of the {source}", source, size)
        ours = self._view.root(size)
        if ours != root:
            raise _Fork(f"the {source} has root {root.hex()} at size {size}, the store {ours.hex()}", source, size)

"""Stores' notifications, stored for certain before anything else happens to them.

    judge (thread) ▶ confirm (thread, limited) ▶ seal, record in one transaction ─ or, if that fails ─▶ spool ▶ answer

A store is told that all is well only when the ledger or the spool has the message on disk. What the ledger could not
take is drained into it from the spool, as soon as it can.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Final, NamedTuple, Protocol, TypeVar

import msgspec

from api.errors import KeysUnavailable, NotFromStore, NotStored
from api.reserve import Reserve
from domain.errors import Overloaded
from domain.store_notification import Store
from stores.intake import Intake, Judged
from stores.parcel_format import ParcelHeaders, kept_headers
from stores.receive import Arrived, Outcome, Received, Receiver, arrived
from stores.verdict import Verdict

T = TypeVar("T")
JUDGES: Final = 4
CONFIRM_SECONDS: Final = 0.8
MAX_CONFIRMING: Final = 64  # as many wait for others at most: where nobody answers, the rest is kept at once
RECORD_SECONDS: Final = 4.0
MAX_IN_FLIGHT: Final = 512
UNJUDGED_AN_HOUR: Final = 1_000
_HOUR: Final = 3_600.0
logger = logging.getLogger("daicho.intake")


class QuarantinePort(Protocol):
    """`storage.quarantine.Quarantine`."""

    def wants(self) -> bool: ...
    def keep(self, sealed: bytes) -> None: ...


class Taken(NamedTuple):
    """A message that is safe. `outcome` says where it has gone, or that it was known."""

    outcome: Outcome | str
    verdict: Verdict
    known: bool


class Sample(msgspec.Struct, frozen=True):
    """Of a message that was refused: what it began with, and why."""

    store: Store
    received_at: int
    reason: str
    start: bytes


class NotificationIntake:
    """Takes stores' notifications. `start` it and `stop` it on the event loop that serves.

    `count` hears of each message: store, what became of it.
    """

    def __init__(
        self,
        intakes: Mapping[Store, Intake],
        receiver: Receiver,
        reserve: Reserve,
        quarantine: QuarantinePort,
        *,
        confirm_seconds: float = CONFIRM_SECONDS,
        record_seconds: float = RECORD_SECONDS,
    ) -> None:
        self._intakes, self._receiver, self._reserve = dict(intakes), receiver, reserve
        self._quarantine = quarantine
        self._confirm_seconds, self._record_seconds = confirm_seconds, record_seconds
        self._judges = ThreadPoolExecutor(JUDGES, "store-judge")
        self._confirmers = ThreadPoolExecutor(JUDGES, "store-confirm")
        self._confirming = self._in_flight = 0
        self._unjudged_since, self._unjudged = float("-inf"), 0
        self.count: Callable[[Store, str], None] = lambda _store, _outcome: None

    def serves(self, store: Store) -> bool:
        """Whether an app of that store is set up here."""
        return store in self._intakes

    async def start(self) -> None:
        """Begin to drain what an earlier process has spooled."""
        self._reserve.on_drained = self._drained
        await self._reserve.start()

    async def stop(self) -> None:
        """What is in the spool stays there for the next start."""
        await self._reserve.stop()
        self._judges.shutdown(wait=False, cancel_futures=True)
        self._confirmers.shutdown(wait=False, cancel_futures=True)

    async def take(self, store: Store, headers: Mapping[bytes, bytes], body: bytes) -> Taken:
        """Judge and store a message. Raises NotFromStore for a stranger's, and trouble when it is safe nowhere."""
        if self._in_flight >= MAX_IN_FLIGHT:
            raise Overloaded("too many notifications are being stored", waiting=self._in_flight)
        self._in_flight += 1
        try:
            taken = await self._take(store, headers, body)
        except NotFromStore:
            self.count(store, "refused")
            raise
        except Exception:
            self.count(store, "not_stored")
            raise
        finally:
            self._in_flight -= 1
        self.count(store, taken.outcome)
        if taken.verdict is not Verdict.VALID:
            self.count(store, str(taken.verdict))
        if not taken.known:
            self.count(store, "unknown_kind")
        return taken

    async def refuse_large(self, store: Store, start: bytes) -> None:
        """A body that was larger than allowed: a sample of it is kept."""
        self.count(store, "too_large")
        logger.error("%s: a body larger than allowed was refused", store)
        await asyncio.to_thread(self._sample, store, "too large", start)

    # -- one message -------------------------------------------------------------------------------------------------

    async def _take(self, store: Store, headers: Mapping[bytes, bytes], body: bytes) -> Taken:
        received_at = time.time_ns() // 1_000_000
        intake = self._intakes[store]
        judged, sealed = await self._in(self._judges, lambda: self._judge(intake, headers, body))
        if judged.verdict is Verdict.UNAVAILABLE:
            raise KeysUnavailable("the store's keys cannot be had just now: send it again")
        if not judged.kept:
            await asyncio.to_thread(self._sample, store, judged.reason, body)
            raise NotFromStore(f"not by the store: {judged.reason}", given=True)
        judged = await self._confirm(intake, judged, body)
        if judged.verdict is not Verdict.VALID:
            logger.warning("%s: a message is %s: %s", store, judged.verdict, judged.reason)
        about = ParcelHeaders(
            received_at, judged.verdict, judged.reason, label=judged.label[:256], headers=kept_headers(headers)
        )
        outcome = await self._store(arrived(judged, about), sealed)
        return Taken(outcome, judged.verdict, judged.known)

    def _judge(
        self, intake: Intake, headers: Mapping[bytes, bytes], body: bytes
    ) -> tuple[Judged, tuple[str, bytes] | None]:
        """In a thread: the judgement, and the message sealed where its key can be had."""
        try:
            judged = intake.judge(headers, body)
        except Exception as error:  # noqa: BLE001 a defect of ours must not lose a message
            logger.critical("%s: a message could not be judged: %s", intake.store, type(error).__name__)
            judged = self._unjudgeable(intake.store, headers, body, type(error).__name__)
        if not judged.kept:
            return judged, None
        try:
            return judged, self._receiver.seal(arrived(judged, ParcelHeaders(0, judged.verdict)))
        except Exception as error:  # noqa: BLE001 the keys' store is away: the spool needs none of its keys
            logger.warning("%s: no key to seal a message with: %s", intake.store, type(error).__name__)
            return judged, None

    def _unjudgeable(self, store: Store, headers: Mapping[bytes, bytes], body: bytes, reason: str) -> Judged:
        """Kept to be judged later, as long as they are few: anybody might have sent them."""
        now = time.monotonic()
        if now - self._unjudged_since >= _HOUR:
            self._unjudged_since, self._unjudged = now, 0
        self._unjudged += 1
        if self._unjudged > UNJUDGED_AN_HOUR:
            raise NotStored("it cannot be judged just now: send it again")
        return Judged.unjudged(store, headers, body, reason)

    async def _confirm(self, intake: Intake, judged: Judged, body: bytes) -> Judged:
        """What others say of it, as long as they say it soon; else it is kept and asked about again later."""
        if judged.verdict is not Verdict.VALID or not intake.confirms:
            return judged
        late = replace(judged, verdict=Verdict.UNVERIFIED, reason="nobody has confirmed it in time")
        if self._confirming >= MAX_CONFIRMING:
            return late
        self._confirming += 1
        asked = asyncio.get_running_loop().run_in_executor(self._confirmers, intake.confirm, judged, body)
        asked.add_done_callback(self._confirmed)
        try:
            return await asyncio.wait_for(asyncio.shield(asked), self._confirm_seconds)
        except TimeoutError:
            return late
        except Exception as error:  # noqa: BLE001 whatever the library raises, the message is the store's
            logger.warning("%s: a message could not be confirmed: %s", intake.store, type(error).__name__)
            return late

    def _confirmed(self, asked: "asyncio.Future[Judged]") -> None:
        self._confirming -= 1
        if not asked.cancelled():
            asked.exception()  # heard, whoever waits for it

    async def _store(self, message: Arrived, sealed: tuple[str, bytes] | None) -> Outcome | str:
        """In the ledger, else in the spool: where it has gone. Raises NotStored."""
        trouble: BaseException
        if sealed is None:
            trouble = NotStored("no key")
        else:
            try:
                received = await self._within(self._receiver.record(message, sealed))
                return self._told(message, received)
            except Exception as error:  # noqa: BLE001 whatever it is, the spool is the second chance
                trouble = error
        try:
            await self._reserve.put(message)
        except Exception as error:
            logger.critical("a message of %s is stored nowhere: %s", message.store, type(error).__name__)
            raise NotStored("it cannot be stored just now: send it again") from error
        logger.warning("a message of %s has gone to the spool: %s", message.store, type(trouble).__name__)
        return "spooled"

    async def _within(self, recording: Awaitable[Received]) -> Received:
        """A ledger that does not answer in time may have stored it all the same: then the spool's copy is a repeat."""
        task = asyncio.ensure_future(recording)
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        return await asyncio.wait_for(asyncio.shield(task), self._record_seconds)

    def _drained(self, message: Arrived, received: Received) -> None:
        self.count(message.store, f"drained_{self._told(message, received)}")

    def _told(self, message: Arrived, received: Received) -> Outcome:
        if received.outcome == "contradicted":
            logger.error("%s: other bytes under a known id: message %s", message.store, message.message)
        return received.outcome

    def _sample(self, store: Store, reason: str, start: bytes) -> None:
        if self._quarantine.wants():
            sample = Sample(store, time.time_ns() // 1_000_000, reason, start[: 64 * 1024])
            self._quarantine.keep(self._reserve.seal.seal(msgspec.msgpack.encode(sample)))

    async def _in(self, pool: ThreadPoolExecutor, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(pool, work)

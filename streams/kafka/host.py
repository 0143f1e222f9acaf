"""Feeds one processor from one topic: a plain consumer while it is far behind, Faust while it is near.

    position of the processor's own database ─▶ catch up ─▶ near the end ─▶ Faust, from that position on
                        ▲                                                      │ far behind, or anything went wrong
                        └──────────────────────────────────────────────────────┘

Nothing is handed over but the position in the processor's database, so there is neither gap nor overlap, and whatever
went wrong is looked at again from there. The group's committed offsets are never asked.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from typing import Any, Final

from streams.faults import Backoff, one_line
from streams.kafka.app import TopicApp, Unassigned, other_instance, topic_app
from streams.kafka.batches import Batches
from streams.kafka.catch_up import NEAR_RECORDS, CatchUp
from streams.kafka.record import FaustRecord, of_message
from streams.local import ENDED, FAILED, NEVER_PASSES, RUNNING, STOPPED, ProcessorStatus
from streams.own_thread import OwnThread
from streams.processor import Processor, Record
from streams.topic_record import Format
from streams.topics import TopicsRefused

MAX_BATCH: Final = 1_000
FAR_RECORDS: Final = 20_000  # so far behind Faust hands over to the plain consumer
STOP_SECONDS: Final = 10.0
APP_STOP_SECONDS: Final = 5.0
AGAIN_SECONDS: Final = 0.2
logger = logging.getLogger("daicho.streams")


class KafkaHost:
    """Runs one processor on Faust. `start` once, `stop` at the end; `on_change` hears of every step, on the loop."""

    def __init__(
        self,
        processor: Processor,
        bootstrap: str,
        group: str,
        topic: str,
        records: Format,
        *,
        max_batch: int = MAX_BATCH,
        near_records: int = NEAR_RECORDS,
        far_records: int = FAR_RECORDS,
        new_backoff: Callable[[], Backoff] = lambda: Backoff(0.1, 5.0),
    ) -> None:
        self.on_change: list[Callable[[ProcessorStatus], None]] = []
        self._processor, self._records = processor, records
        self._bootstrap, self._group, self._topic = bootstrap, group, topic
        self._max_batch, self._near, self._far = max_batch, near_records, far_records
        self._backoff = new_backoff()
        self._thread = OwnThread(f"processor-{processor.name}")
        self._position, self._lag, self._state, self._error = 0, 0, RUNNING, ""
        self._stopping = asyncio.Event()
        self._leave = asyncio.Event()
        self._failure: BaseException | None = None
        self._instance = group
        self._catching: CatchUp | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None

    def status(self) -> list[ProcessorStatus]:
        """The processor, as LocalHost gives it. The lag is in records."""
        return [ProcessorStatus(self._processor.name, self._position, self._lag, self._state, self._error)]

    async def start(self) -> None:
        """Begin to feed, from the processor's own position."""
        self._loop = asyncio.get_running_loop()
        self._task = self._loop.create_task(self._run(), name=f"follow-{self._processor.name}")

    async def stop(self, timeout_seconds: float = STOP_SECONDS) -> None:
        """Let the batch in work end. One that hangs is left behind: its transaction counts or does not."""
        self._stopping.set()
        self._leave.set()
        if self._catching is not None:
            self._catching.stop()
        if self._task is not None:
            _, hanging = await asyncio.wait([self._task], timeout=timeout_seconds)
            for task in hanging:
                logger.error("%s did not end within %.0f s", task.get_name(), timeout_seconds)
                task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        self._thread.close()

    # -- inside ------------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                await self._catch_up()
                await self._live()
            except (*NEVER_PASSES, TopicsRefused) as error:
                self._failed(error, STOPPED)
                await self._stopping.wait()
            except Exception as error:  # noqa: BLE001 whatever is away comes back, and nothing was lost meanwhile
                self._failed(error, FAILED)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), self._backoff.failed())
        if self._state == RUNNING:
            self._state = ENDED
        self._changed()

    async def _catch_up(self) -> None:
        """With the plain consumer to the end of the topic, or near it."""
        self._catching = self._new_catch_up()
        try:
            self._position = await self._thread.run(self._catching.run)
        finally:
            self._catching = None
        self._lag = 0
        self._succeeded()

    async def _live(self) -> None:
        """With Faust, until told to stop, or far behind (returns), or something went wrong.

        What goes wrong here is only noted: the plain consumer reads on from the processor's own position and has the
        last word on it.
        """
        self._leave.clear()
        self._failure = None
        app = topic_app(self._bootstrap, self._group, self._topic, self._place, instance=self._instance)
        app.agent(app.topic(self._topic, value_type=bytes, key_type=bytes, internal=False), concurrency=1)(self._agent)
        app.finalize()
        try:
            if not self._stopping.is_set():
                await app.start()
                if await app.unassigned_too_long(self._leave):
                    self._instance = other_instance(self._group)
                    self._failure = Unassigned(f"the group {self._group} has not given us {self._topic}")
        finally:
            await self._end(app)
        await self._look_at(self._failure)

    async def _look_at(self, failure: BaseException | None) -> None:
        """Say why Faust was left, and wait a moment: what failed may be about to fail again."""
        if failure is None:
            return
        logger.warning("%s leaves Faust at position %d: %s", self._processor.name, self._position, one_line(failure))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), AGAIN_SECONDS)

    async def _place(self) -> int:
        return await asyncio.to_thread(self._new_catch_up().place)

    async def _agent(self, stream: Any) -> None:
        """In Faust: records are gathered while the batch before them is processed."""
        batches = Batches(self._max_batch)
        working = asyncio.create_task(self._work(batches, stream), name=f"work-{self._processor.name}")
        try:
            async for event in stream.events():
                if self._leave.is_set():
                    return
                await batches.put(event.message)
        finally:
            working.cancel()

    async def _work(self, batches: Batches, stream: Any) -> None:
        """Batch after batch, each processed before the next is taken."""
        try:
            while not self._leave.is_set():
                messages = await batches.take()
                await self._feed([of_message(message) for message in messages])
                self._measure(stream, messages[-1])
        except Exception as error:  # noqa: BLE001 Faust would only log it and go on with the next batch
            self._failure = error
            self._leave.set()

    async def _feed(self, raws: Sequence[FaustRecord]) -> None:
        """Decode and process; a record that repeats earlier ones begins a run of its own."""
        found = [self._records.decode(raw) for raw in raws]
        runs: list[list[Record]] = []
        for record in found:
            if not runs or record.position != runs[-1][-1][0] + 1:
                runs.append([])
            runs[-1].append((record.position, record.entry))
        for run in runs:
            await self._thread.run(lambda run=run: self._processor.process(run))  # type: ignore[misc]
            self._position = max(self._position, run[-1][0])
        self._succeeded()

    def _measure(self, stream: Any, message: Any) -> None:
        """How far behind we are by the broker's word in the last fetch."""
        highwater = stream.app.consumer.highwater(message.tp)
        self._lag = max(0, highwater - message.offset - 1) if highwater is not None else 0
        if self._lag > self._far:
            logger.info("%s is %d records behind: a plain consumer catches up", self._processor.name, self._lag)
            self._leave.set()

    async def _end(self, app: TopicApp) -> None:
        """Leave the group; given up after a while, the session time-out ends the membership."""
        try:
            await asyncio.wait_for(app.stop(), APP_STOP_SECONDS)
        except Exception as error:  # noqa: BLE001 Kafka may be away, and we are leaving anyway
            logger.warning("Faust did not end in order: %s", one_line(error))

    def _new_catch_up(self) -> CatchUp:
        return CatchUp(
            self._bootstrap, self._topic, self._records, self._processor, self._moved, near_records=self._near
        )

    def _moved(self, position: int, count: int, lag: int) -> None:  # noqa: ARG002 told in the thread
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self._progressed, position, lag)

    def _progressed(self, position: int, lag: int) -> None:
        self._position, self._lag = max(self._position, position), lag
        self._succeeded()

    def _succeeded(self) -> None:
        if self._state == FAILED:
            logger.info("processor %s goes on from position %d", self._processor.name, self._position)
        if self._state == FAILED or self._error:
            self._state, self._error = RUNNING, ""
        self._backoff.succeeded()
        self._changed()

    def _failed(self, error: BaseException, state: str) -> None:
        reason = one_line(error)
        if (state, reason) != (self._state, self._error):  # one line for a failure, however often it is tried again
            logger.error("processor %s is %s at position %d: %s", self._processor.name, state, self._position, reason)
        self._state, self._error = state, reason
        self._changed()

    def _changed(self) -> None:
        for notify in self.on_change:
            notify(self.status()[0])

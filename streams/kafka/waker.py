"""A topic whose records only wake: what they tell of lies in the database, where whoever is woken looks for himself."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Final

from streams.faults import Backoff, one_line
from streams.kafka.app import TopicApp, other_instance, topic_app
from streams.kafka.host import APP_STOP_SECONDS
from streams.kafka.record import of_message
from streams.processor import ProcessorError
from streams.topic_record import Format

MAX_BATCH: Final = 100
WITHIN_SECONDS: Final = 0.05  # how long news are gathered for
logger = logging.getLogger("daicho.streams")


class KafkaWaker:
    """Calls `wake(position)` for the newest record of each batch, on the event loop; begins with what comes now.

    A record that is not ours is logged and wakes nobody. While Kafka is away nobody is woken, and the poll of whoever
    waits goes on.
    """

    def __init__(self, bootstrap: str, group: str, topic: str, records: Format, wake: Callable[[int], None]) -> None:
        self._bootstrap, self._group, self._topic = bootstrap, group, topic
        self._records, self._wake = records, wake
        self._backoff = Backoff(0.2, 5.0)
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to listen."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name=f"wake-{self._group}")

    async def stop(self) -> None:
        """End."""
        self._stopping.set()
        if self._task is not None:
            await asyncio.wait([self._task], timeout=2 * APP_STOP_SECONDS)
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _run(self) -> None:
        instance = self._group
        while not self._stopping.is_set():
            app = topic_app(self._bootstrap, self._group, self._topic, None, begin="latest", instance=instance)
            app.agent(app.topic(self._topic, value_type=bytes, key_type=bytes, internal=False))(self._agent)
            app.finalize()
            try:
                await app.start()
                if await app.unassigned_too_long(self._stopping):
                    instance = other_instance(self._group)
            except Exception as error:  # noqa: BLE001 Kafka may come later
                logger.warning("%s wakes nobody for now: %s", self._topic, one_line(error))
                await asyncio.wait([asyncio.ensure_future(self._stopping.wait())], timeout=self._backoff.failed())
            finally:
                await self._end(app)

    async def _agent(self, stream: Any) -> None:
        async for events in stream.take_events(MAX_BATCH, within=WITHIN_SECONDS):
            for event in reversed(events):
                try:
                    position = self._records.decode(of_message(event.message)).position
                except ProcessorError as error:
                    logger.warning("%s", one_line(error))
                    continue
                self._wake(position)
                break

    @staticmethod
    async def _end(app: TopicApp) -> None:
        try:
            await asyncio.wait_for(app.stop(), APP_STOP_SECONDS)
        except Exception as error:  # noqa: BLE001 Kafka may be away, and we are leaving anyway
            logger.warning("Faust did not end in order: %s", one_line(error))

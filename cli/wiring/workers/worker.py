"""A worker: one processor as a process of its own, the leader of its name or standing by.

    check schema and topics ▶ metrics ▶ wait to be the leader ▶ start ▶ report once a second ▶ stop in order

What ends the leadership ends the process: whoever supervises it starts it again, and it stands by.
"""

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from cli.settings import Settings
from cli.wiring.postgres_stores import service_database
from storage.postgres.leader import Leadership
from storage.postgres.migrate import SchemaError, check_schema
from storage.postgres.processor_status import ProcessorStatusTable
from streams import topics
from streams.faults import Backoff, one_line
from streams.kafka.metrics import WorkerMetrics
from streams.local import ProcessorStatus
from streams.own_thread import OwnThread

REPORT_SECONDS: Final = 1.0
LEADER_WAIT_SECONDS: Final = 1.0
EXIT_STOPPED: Final = 0
EXIT_LEADERSHIP_LOST: Final = 3
logger = logging.getLogger("daicho.worker")


class Part(Protocol):
    """What a worker runs."""

    async def start(self) -> None:
        """Begin to work, as the leader."""
        ...

    async def stop(self) -> None:
        """Finish what is in work and close everything; safe after a failed start."""
        ...

    def status(self) -> Sequence[ProcessorStatus]:
        """How it is now, one row or several."""
        ...


class Worker:
    """Runs a part under the leadership of its name. `leadership` is handed to parts that ask before they act."""

    def __init__(self, settings: Settings, name: str) -> None:
        self.settings, self.name = settings, name
        self.database = service_database(settings)
        self.leadership = Leadership(self.database, name)
        self._identity = f"{socket.gethostname()}:{os.getpid()}"
        self._table = ProcessorStatusTable(self.database)
        self._thread = OwnThread("worker-report")
        self._metrics = WorkerMetrics(settings.book, name)
        self._ending = asyncio.Event()

    async def run(self, part: Part) -> int:
        """Until SIGTERM, SIGINT or the loss of the leadership. The exit code; raises SchemaError, TopicsRefused."""
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._ending.set)
        if self.settings.metrics_port is not None:
            self._metrics.serve(self.settings.metrics_host, self.settings.metrics_port)
        await self._check("the database", lambda: check_schema(self.database))
        await self._check("Kafka", lambda: topics.require(self.settings.kafka_bootstrap, self.settings.book))
        try:
            if not await self._lead():
                return EXIT_STOPPED
            self._metrics.lead()
            await part.start()
            return await self._work(part)
        finally:
            await part.stop()
            await asyncio.to_thread(self.leadership.release)
            self._table.close()
            self._thread.close()
            self._metrics.close()

    async def _check(self, what: str, check: Callable[[], None]) -> None:
        """Refuse to start on a schema or topics that are not what they must be; wait for what is away."""
        backoff, said = Backoff(0.2, 2.0), ""
        while not self._ending.is_set():
            try:
                await asyncio.to_thread(check)
            except (SchemaError, topics.TopicsRefused):
                raise
            except Exception as error:  # noqa: BLE001 both may come later than their workers
                said = self._say(said, f"{what} does not answer yet: {one_line(error)}")
                await self._pause(backoff.failed())
            else:
                return

    async def _lead(self) -> bool:
        """Wait to be the leader of the name; False when the process is to end before."""
        said = ""
        while not self._ending.is_set():
            try:
                if await asyncio.to_thread(self.leadership.acquire, LEADER_WAIT_SECONDS):
                    logger.info("%s: this process leads", self.name)
                    return True
                said = self._say(said, f"{self.name}: another process leads, standing by")
            except Exception as error:  # noqa: BLE001 the database may come later than its workers
                said = self._say(said, f"{self.name}: the database does not answer: {one_line(error)}")
                await self._pause(LEADER_WAIT_SECONDS)
        return False

    async def _work(self, part: Part) -> int:
        """Report how the part is and ask whether we still lead, once a second, until the end."""
        logger.info("%s works", self.name)
        while not self._ending.is_set():
            await self._report(part)
            if self.leadership.lost:
                logger.critical("%s: this process does not lead any more and ends", self.name)
                return EXIT_LEADERSHIP_LOST
            await self._pause(REPORT_SECONDS)
        return EXIT_STOPPED

    async def _report(self, part: Part) -> None:
        try:
            rows = list(part.status())  # some of it lies in the database
            self._metrics.show(rows)
            for row in rows:
                await self._thread.run(lambda row=row: self._tell(row))  # type: ignore[misc]
        except Exception as error:  # noqa: BLE001 the report is for people, the work goes on without it
            logger.debug("the report was not stored: %s", one_line(error))

    def _tell(self, row: ProcessorStatus) -> None:
        self._table.report(row.name, row.position, row.lag, row.state, row.error, self._identity)

    @staticmethod
    def _say(said: str, now: str) -> str:
        if now != said:  # one line for a reason, however often it is looked at again
            logger.warning("%s", now)
        return now

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._ending.wait()
        except TimeoutError:
            return

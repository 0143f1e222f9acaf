"""How the stores send: each notification until it is answered with success, on each store's own schedule.

Apple repeats five times, after 1, 12, 24, 48 and 72 hours, and then never again; Pub/Sub backs off from 10 to 600
seconds and puts what it could not deliver into a dead-letter list, from which it can be sought again.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from typing import Final

import httpx

from simulator.apple import AppleNotification
from simulator.clock import Clock
from simulator.faults import Faults
from simulator.google import GoogleNotification

APPLE_HOURS: Final = (1, 12, 24, 48, 72)
APPLE_SECONDS: Final = 30.0
GOOGLE_FIRST_SECONDS: Final = 10.0
GOOGLE_LONGEST_SECONDS: Final = 600.0
GOOGLE_SECONDS: Final = 60.0
HOUR: Final = 3_600.0
_APPLE_OK: Final = range(200, 207)
_GOOGLE_OK: Final = frozenset({102, 200, 201, 202, 204})
Message = AppleNotification | GoogleNotification


class Delivery:
    """Sends in the background of an event loop; `send` may be called from any thread.

    `apple_url`, `google_url`: where to post, None to post nothing. `bearer` makes the token of a push, `envelope` its
    body.
    """

    def __init__(
        self,
        clock: Clock,
        faults: Faults,
        bearer: Callable[[], str],
        envelope: Callable[[GoogleNotification, int], bytes],
        *,
        google_attempts: int = 100,
        connections: int = 32,
    ) -> None:
        self.apple_url: str | None = None
        self.google_url: str | None = None
        self.pending = 0
        self._counting = threading.Lock()  # it is counted up on whatever thread sends, and down on the loop
        self._clock, self._faults, self._bearer, self._envelope = clock, faults, bearer, envelope
        self._google_attempts, self._connections = google_attempts, connections
        self._loop: asyncio.AbstractEventLoop | None = None
        self._client: httpx.AsyncClient | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._gate = asyncio.Semaphore(connections)

    async def start(self) -> None:
        """Begin; on the loop that sends."""
        self._loop = asyncio.get_running_loop()
        limits = httpx.Limits(max_connections=self._connections)
        self._client = httpx.AsyncClient(limits=limits, timeout=GOOGLE_SECONDS)

    async def stop(self) -> None:
        """Give up what is still to be sent."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._client is not None:
            await self._client.aclose()

    def send(self, message: Message) -> None:
        """Send it, now or as the faults say."""
        if self._faults.strikes("lose"):
            message.attempts.append((self._clock.now(), "LOST"))
            return
        if self._loop is None or self._url(message) is None:
            return
        self._count(1)
        self._loop.call_soon_threadsafe(self._begin, message)

    def again(self, message: Message) -> None:
        """Send one that was given up (Pub/Sub: seek; Apple: never)."""
        if self._loop is not None:
            self._count(1)
            self._loop.call_soon_threadsafe(self._begin, message)

    # -- inside ------------------------------------------------------------------------------------------------------

    def _url(self, message: Message) -> str | None:
        return self.apple_url if isinstance(message, AppleNotification) else self.google_url

    def _begin(self, message: Message) -> None:
        copies = 2 if self._faults.strikes("duplicate") else 1
        self._count(copies - 1)
        for _ in range(copies):
            task = asyncio.get_running_loop().create_task(self._until_taken(message))
            self._tasks.add(task)
            task.add_done_callback(self._done)

    def _done(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        self._count(-1)

    def _count(self, more: int) -> None:
        with self._counting:
            self.pending += more

    async def _until_taken(self, message: Message) -> None:
        if self._faults.strikes("delay"):
            await asyncio.sleep(self._clock.real_seconds(self._faults.between(1, HOUR)))
        for number, wait in enumerate(self._waits(message), 1):
            if await self._post(message, number):
                return
            await asyncio.sleep(self._clock.real_seconds(wait))
        if not await self._post(message, 0) and isinstance(message, GoogleNotification):
            message.dead = True

    def _waits(self, message: Message) -> Iterator[float]:
        """The store's seconds before each repetition."""
        if isinstance(message, AppleNotification):
            yield from (hours * HOUR for hours in APPLE_HOURS)
            return
        for attempt in range(self._google_attempts - 1):
            yield min(GOOGLE_LONGEST_SECONDS, GOOGLE_FIRST_SECONDS * 2 ** min(attempt, 10))

    async def _post(self, message: Message, attempt: int) -> bool:
        url = self._url(message)
        if url is None or self._client is None:
            return False
        headers, apple = {"content-type": "application/json"}, isinstance(message, AppleNotification)
        if isinstance(message, AppleNotification):
            body = message.body
        else:
            body = self._envelope(message, attempt)
            headers["authorization"] = self._bearer()
        at = time.time_ns() // 1_000_000
        async with self._gate:
            try:
                response = await self._client.post(
                    url, content=body, headers=headers, timeout=APPLE_SECONDS if apple else GOOGLE_SECONDS
                )
            except httpx.HTTPError as error:
                message.attempts.append((at, "NO_RESPONSE" if apple else type(error).__name__))
                return False
        taken = response.status_code in (_APPLE_OK if apple else _GOOGLE_OK)
        result = "SUCCESS" if taken else "UNSUCCESSFUL_HTTP_RESPONSE_CODE"
        message.attempts.append((at, result))
        return taken

"""The load: a process of its own that sends prepared requests over so many connections, each waiting for its answer.

`python -m benchmarks.load` reads a `Job` on standard input and prints an `Outcome` (both JSON). Both sides of every
HTTP row are driven by it.
"""

import asyncio
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import quantiles
from typing import Final, NamedTuple

import httptools
import msgspec
import uvloop

ANSWER_SECONDS: Final = 60.0
RUN_SECONDS: Final = 300.0
HOST: Final = "127.0.0.1"
Due = tuple[float, bytes]
"""When a request is due (perf_counter; 0: at once), and its bytes."""


class Job(msgspec.Struct):
    """Send every request of `file` (each behind its length, 4 bytes) once, over `connections` connections.

    `per_second`: so many are due in a second, evenly, and each one's latency counts from when it was due, however long
    it had to wait for a connection. 0: as fast as answers come.
    """

    host: str
    port: int
    connections: int
    file: str
    per_second: float = 0.0


class Outcome(msgspec.Struct):
    """What came back: answers by status, the seconds for all, latencies in milliseconds, one body of a refusal."""

    statuses: dict[int, int]
    seconds: float
    median_ms: float
    p99_ms: float
    refusal: str


class Request(NamedTuple):
    """What is sent."""

    path: str
    body: bytes
    headers: dict[str, str]

    def encode(self, host: str) -> bytes:
        """The bytes of an HTTP/1.1 request."""
        lines = [f"POST {self.path} HTTP/1.1", f"host: {host}", f"content-length: {len(self.body)}"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        return "\r\n".join([*lines, "", ""]).encode() + self.body


def send(port: int, requests: Sequence[Request], connections: int, file: Path, *, per_second: float = 0.0) -> Outcome:
    """Send the requests from a process of its own. Raises RuntimeError unless every answer is a success."""
    with file.open("wb") as out:
        for request in requests:
            encoded = request.encode(f"{HOST}:{port}")
            out.write(len(encoded).to_bytes(4, "big") + encoded)
    job = msgspec.json.encode(Job(HOST, port, connections, str(file), per_second))
    command = [sys.executable, "-m", "benchmarks.load"]
    done = subprocess.run(command, input=job, stdout=subprocess.PIPE, check=True, timeout=RUN_SECONDS)
    outcome = msgspec.json.decode(done.stdout, type=Outcome)
    if any(not 200 <= status < 300 for status in outcome.statuses):
        raise RuntimeError(f"answers {outcome.statuses}: {outcome.refusal}")
    return outcome


class _Connection(asyncio.Protocol):
    """Sends the next request as soon as the last one is answered."""

    def __init__(self, requests: Iterator[Due], outcome: "_Collected") -> None:
        self._requests = requests
        self._outcome = outcome
        self._parser = httptools.HttpResponseParser(self)
        self._sent = 0.0
        self._body: list[bytes] = []
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._next()

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(error or ConnectionError("the server closed the connection"))

    def on_body(self, part: bytes) -> None:
        self._body.append(part)

    def on_message_complete(self) -> None:
        self._outcome.add(self._parser.get_status_code(), time.perf_counter() - self._sent, self._body)
        self._body = []
        self._parser = httptools.HttpResponseParser(self)
        self._next()

    def _next(self) -> None:
        due, request = next(self._requests, (0.0, b""))
        if not request:
            self.done.set_result(None)
            self._transport.close()
            return
        now = time.perf_counter()
        self._sent = due or now
        if due > now:
            asyncio.get_running_loop().call_later(due - now, self._transport.write, request)  # type: ignore[attr-defined]
        else:
            self._transport.write(request)  # type: ignore[attr-defined]


class _Collected:
    def __init__(self) -> None:
        self.statuses: Counter[int] = Counter()
        self.seconds: list[float] = []
        self.refusal = ""

    def add(self, status: int, seconds: float, body: list[bytes]) -> None:
        self.statuses[status] += 1
        self.seconds.append(seconds)
        if status >= 300 and not self.refusal:
            self.refusal = b"".join(body)[:2000].decode("utf-8", "replace")


async def run(job: Job) -> Outcome:
    """Send everything."""
    requests = _read(Path(job.file))
    collected = _Collected()
    loop = asyncio.get_running_loop()
    start = time.perf_counter()
    each = 1 / job.per_second if job.per_second else 0.0
    todo = ((start + each * number if each else 0.0, request) for number, request in enumerate(requests))
    made = await asyncio.gather(
        *(
            loop.create_connection(lambda: _Connection(todo, collected), job.host, job.port)
            for _ in range(min(job.connections, len(requests)))
        )
    )
    async with asyncio.timeout(RUN_SECONDS):
        await asyncio.gather(*(connection.done for _, connection in made))
    seconds = time.perf_counter() - start
    cuts = quantiles(collected.seconds, n=100) if len(collected.seconds) > 1 else collected.seconds * 99
    return Outcome(dict(collected.statuses), seconds, cuts[49] * 1000, cuts[98] * 1000, collected.refusal)


def _read(file: Path) -> list[bytes]:
    data = file.read_bytes()
    requests = []
    at = 0
    while at < len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        requests.append(data[at + 4 : at + 4 + length])
        at += 4 + length
    return requests


if __name__ == "__main__":
    result = uvloop.run(run(msgspec.json.decode(sys.stdin.buffer.read(), type=Job)))
    sys.stdout.buffer.write(msgspec.json.encode(result))

"""Supervised child processes: started, awaited, watched, restarted with a growing pause, stopped for certain.

The child's side is `chain.parent`: it announces itself with one JSON line on standard output and ends when its
standard input is closed, so it never outlives this process, however that dies.
"""

import asyncio
import contextlib
import json
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

logger = logging.getLogger(__name__)

ERROR_LINES: Final = 20
CHUNK_BYTES: Final = 4096
MAX_LINE_BYTES: Final = 16_384
PROBE_FAILURES: Final = 3

Ready = Mapping[str, Any]
Command = Callable[[Ready | None], Sequence[str]]
Probe = Callable[[Ready], Awaitable[bool]]


class ChildError(Exception):
    """A child process did not start, or did not become ready in time; carries its last error lines."""


class ChildState(StrEnum):
    """Where a child is in its life."""

    STOPPED = "stopped"
    STARTING = "starting"
    READY = "ready"
    RESTARTING = "restarting"


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait for what, in seconds. Pauses between restarts double from the first to the longest."""

    ready_seconds: float = 30.0
    stop_seconds: float = 10.0
    first_pause_seconds: float = 0.2
    longest_pause_seconds: float = 30.0
    # a child that lived this long is taken for healthy again: the next pause is the first one
    settled_seconds: float = 60.0
    probe_seconds: float = 5.0


class ChildProcess:
    """One supervised child. All methods belong to the event loop it was started on.

    `command` gets the last ready line (None at the first start) and returns the argument vector, so that a
    restarted child can be given the port it had. `probe`, when given, is asked at intervals; three failures in
    a row kill the child, and it is started again.
    """

    def __init__(
        self,
        name: str,
        command: Command,
        *,
        patience: Patience | None = None,
        probe: Probe | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.state = ChildState.STOPPED
        self.restarts = 0
        self.last_error: str | None = None
        self._command, self._probe, self._env = command, probe, env
        self._patience = patience or Patience()
        self._process: asyncio.subprocess.Process | None = None
        self._last_ready: dict[str, Any] | None = None
        self._is_ready = asyncio.Event()
        self._supervisor: asyncio.Task[None] | None = None
        self._readers: list[asyncio.Task[None]] = []
        self._errors: deque[str] = deque(maxlen=ERROR_LINES)

    @property
    def pid(self) -> int | None:
        """Process id of the running child."""
        return self._process.pid if self._process is not None and self._process.returncode is None else None

    @property
    def ready(self) -> Ready:
        """The ready line of the running child; ChildError when it is not ready."""
        if self.state is not ChildState.READY or self._last_ready is None:
            raise ChildError(f"{self.name} is {self.state}: {self.last_error or 'no error so far'}")
        return self._last_ready

    async def start(self) -> Ready:
        """Starts the child and waits until it is ready. Raises ChildError; a first start is not repeated."""
        if self._supervisor is not None:
            raise ChildError(f"{self.name} is already started")
        self.state = ChildState.STARTING
        try:
            process = await self._spawn()
        except ChildError:
            self.state = ChildState.STOPPED
            raise
        self._supervisor = asyncio.create_task(self._supervise(process), name=f"supervise {self.name}")
        return self.ready

    async def wait_ready(self, timeout_seconds: float) -> Ready:
        """Waits until the child is ready (again). Raises TimeoutError."""
        async with asyncio.timeout(timeout_seconds):
            while self.state is not ChildState.READY:
                self._is_ready.clear()
                await self._is_ready.wait()
        return self.ready

    async def stop(self) -> None:
        """Ends the child: SIGTERM, then SIGKILL after the patience. Safe to call twice."""
        if self._supervisor is not None:
            supervisor, self._supervisor = self._supervisor, None
            supervisor.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await supervisor
        await self._end()
        self.state = ChildState.STOPPED

    async def _spawn(self) -> asyncio.subprocess.Process:
        command = list(self._command(self._last_ready))
        self._errors.clear()
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env=self._env,
                # Ctrl-C goes to a terminal's whole process group; here the parent decides who ends when
                start_new_session=True,
                limit=MAX_LINE_BYTES,
            )
        except OSError as error:
            self.last_error = str(error)
            raise ChildError(f"{self.name} cannot be started: {error}") from error
        self._process = process
        output, errors = process.stdout, process.stderr
        if output is None or errors is None:
            raise ChildError(f"{self.name} has no pipes")
        self._readers = [asyncio.create_task(self._forward(errors, keep=True))]
        try:
            async with asyncio.timeout(self._patience.ready_seconds):
                line = await output.readline()
            ready = json.loads(line) if line else None
        except (TimeoutError, ValueError) as error:
            await self._end()
            self.last_error = f"not ready within {self._patience.ready_seconds} s: {self._error_text()}"
            raise ChildError(f"{self.name}: {self.last_error}") from error
        except BaseException:
            await self._end()
            raise
        if not isinstance(ready, dict):
            await self._end()
            self.last_error = f"ended with code {process.returncode}: {self._error_text()}"
            raise ChildError(f"{self.name}: {self.last_error}")
        self._readers.append(asyncio.create_task(self._forward(output, keep=False)))
        self._last_ready = ready
        self.state = ChildState.READY
        self._is_ready.set()
        return process

    async def _supervise(self, process: asyncio.subprocess.Process) -> None:
        pause = self._patience.first_pause_seconds
        while True:
            started = time.monotonic()
            code = await self._until_it_ends(process)
            self.state = ChildState.RESTARTING
            await self._end()
            self.last_error = f"ended with code {code}: {self._error_text()}"
            logger.warning("%s %s", self.name, self.last_error)
            if time.monotonic() - started >= self._patience.settled_seconds:
                pause = self._patience.first_pause_seconds
            restarted = None
            while restarted is None:
                await asyncio.sleep(pause)
                pause = min(pause * 2, self._patience.longest_pause_seconds)
                self.restarts += 1
                try:
                    restarted = await self._spawn()
                except ChildError as error:
                    logger.warning("%s, next try in %.1f s", error, pause)
            process = restarted

    async def _until_it_ends(self, process: asyncio.subprocess.Process) -> int:
        ended = asyncio.ensure_future(process.wait())
        failures = 0
        try:
            while self._probe is not None and not ended.done():
                await asyncio.wait({ended}, timeout=self._patience.probe_seconds)
                if not ended.done():
                    failures = 0 if await self._is_healthy(self._probe) else failures + 1
                if failures >= PROBE_FAILURES and not ended.done():
                    logger.warning("%s does not answer and is killed", self.name)
                    process.kill()
                    break
            return await ended
        finally:
            ended.cancel()

    async def _is_healthy(self, probe: Probe) -> bool:
        try:
            async with asyncio.timeout(self._patience.probe_seconds):
                return await probe(self._last_ready or {})
        except Exception as error:  # noqa: BLE001 (whatever a probe raises, the child did not answer well)
            logger.info("%s: probe failed: %s", self.name, error)
            return False

    async def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            if process.stdin is not None:
                process.stdin.close()
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            try:
                async with asyncio.timeout(self._patience.stop_seconds):
                    await process.wait()
            except TimeoutError:
                logger.warning("%s did not stop in %.0f s and is killed", self.name, self._patience.stop_seconds)
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        readers, self._readers = self._readers, []
        if readers:
            # the pipes are at their end once the child is gone; grandchildren may hold them open
            _, late = await asyncio.wait(readers, timeout=1.0)
            for reader in late:
                reader.cancel()

    async def _forward(self, stream: asyncio.StreamReader, *, keep: bool) -> None:
        """Child's lines into our log, so that its pipe never fills; `keep` remembers the last for errors."""
        rest = b""
        while chunk := await stream.read(CHUNK_BYTES):
            *lines, rest = (rest + chunk).split(b"\n")
            if len(rest) > MAX_LINE_BYTES:
                lines, rest = [*lines, rest], b""
            self._log(lines, keep=keep)
        self._log([rest] if rest else [], keep=keep)

    def _log(self, lines: Sequence[bytes], *, keep: bool) -> None:
        for line in lines:
            text = line.decode("utf-8", "replace").rstrip()
            logger.info("%s: %s", self.name, text)
            if keep and text:
                self._errors.append(text)

    def _error_text(self) -> str:
        return " | ".join(self._errors)[-800:] or "it said nothing"

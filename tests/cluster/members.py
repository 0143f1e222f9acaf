"""A container's life as a process of this machine: started, asked for its health, killed, paused, stopped."""

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from tests.cluster.compose import Healthcheck
from tests.cluster.translation import Container

POLL_SECONDS = 0.1


class ClusterError(Exception):
    """A part of the cluster did not do what the file asks; the message ends with its last words."""


class Program:
    """A container that is one program with its children; images say how they start in `prepare` and `command`."""

    stop_signal = signal.SIGTERM

    def __init__(self, container: Container, folder: Path, environment: Mapping[str, str]) -> None:
        self.container, self.held = container, False
        self.environment = dict(environment)
        self.health: list[str] = []
        self.last_check = "it was never checked"
        self.process_options: dict[str, Any] = {}
        self.log_file = folder / "logs" / f"{container.name}.log"
        self._process: psutil.Popen | None = None
        self._starting = threading.Lock()

    def command(self) -> list[str]:
        """The main process's command line."""
        raise NotImplementedError

    def prepare(self) -> None:
        """What the image's entry point does before the main process; again at every start."""

    # -- the life of a container --------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The container's name."""
        return self.container.name

    @property
    def running(self) -> bool:
        """Whether its main process lives."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The main process. Raises ClusterError before the first start."""
        if self._process is None:
            raise ClusterError(f"{self.name} was never started")
        return int(self._process.pid)

    def start(self) -> None:
        """Start, or start again with what its volumes hold; returns at once. Nothing where it runs already."""
        with self._starting:  # a test and the restart policy may both think that it is time
            self.held = False
            if not self.running:
                self._start()

    def _start(self) -> None:
        self.log_file.parent.mkdir(parents=True, exist_ok=True)
        self.prepare()
        with self.log_file.open("ab") as log:
            self._process = psutil.Popen(
                self.command(),
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                **{"cwd": self.container.scratch, **self.process_options},
            )

    def run(self, timeout_seconds: float) -> int:
        """Start it and wait for its end: the exit code."""
        self.start()
        return int(self._process.wait(timeout_seconds)) if self._process is not None else 0

    def stop(self) -> None:
        """As `docker stop`: in order, within the grace period; then its last processes are killed."""
        self.held = True
        if self._process is None:
            return
        tree = self._tree()
        with contextlib.suppress(psutil.NoSuchProcess):
            self._process.send_signal(self.stop_signal)
        with contextlib.suppress(psutil.TimeoutExpired):
            self._process.wait(self.container.service.stop_grace_seconds)
        _kill(tree)
        self._process.wait()

    def kill9(self) -> None:
        """As `docker kill`: all its processes at once. It stays down until `start`."""
        self.held = True
        self.crash()

    def crash(self) -> None:
        """As the kernel's out-of-memory killer: all at once, and the restart policy decides what comes then."""
        _kill(self._tree())
        if self._process is not None:
            self._process.wait()

    def pause(self) -> None:
        """As `docker pause`: all its processes are held where they are; connections stay open, nothing answers."""
        for process in self._tree():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.suspend()

    def resume(self) -> None:
        """As `docker unpause`."""
        for process in reversed(self._tree()):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()

    # -- looking at it ------------------------------------------------------------------------------------------------

    def healthy(self) -> bool:
        """Whether its health check passes now, run as the file has it; True for a container without one."""
        check = self.container.service.healthcheck
        if check is None:
            return True
        try:
            done = subprocess.run(
                self.health,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=check.timeout,
                check=False,
            )
        except subprocess.TimeoutExpired:
            self.last_check = f"the check did not end within {check.timeout:.0f} s"
            return False
        self.last_check = f"exit code {done.returncode} {done.stdout[-1500:].strip()}"
        return done.returncode == 0

    def log(self) -> str:
        """What it has printed, over all its lives."""
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def _tree(self) -> list[psutil.Process]:
        if self._process is None or not self.running:
            return []
        try:
            return [self._process, *self._process.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []


def wait_healthy(member: Program, check: Healthcheck) -> None:
    """Until the check passes; ClusterError when the file's patience is over, or when it ended for good."""
    deadline = time.monotonic() + check.start_period + check.retries * (check.interval + check.timeout)
    while not member.healthy():
        if time.monotonic() > deadline or (not member.running and member.container.service.restart == "no"):
            words = f"{member.last_check}; its last words:\n{last_words(member)}"
            raise ClusterError(f"{member.name} is not healthy: {words}")
        time.sleep(POLL_SECONDS)  # the file's start_interval saves processor time, which nobody waits for here


def last_words(member: Program, lines: int = 25) -> str:
    """The end of its log, without the answers to requests."""
    return "\n".join([line for line in member.log().splitlines() if "daicho.access" not in line][-lines:])


def clean_environment(own: Mapping[str, str]) -> dict[str, str]:
    """What a container sees: its own variables, and none of this shell's but where programs and certificates are."""
    kept = ("PATH", "HOME", "LANG", "SSL_CERT_FILE", "LD_LIBRARY_PATH")
    return {name: os.environ[name] for name in kept if name in os.environ} | dict(own)


def _kill(processes: Sequence[psutil.Process]) -> None:
    for process in processes:  # a killed parent would else let its children notice
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGSTOP)
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()

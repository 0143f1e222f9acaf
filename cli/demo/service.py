"""The demo's service: `daicho serve` as a process of its own, and a client of its public API."""

import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import httpx

from cli.demo.cast import clerk_of
from cli.demo.replicas import Replicas
from cli.development import SCOPES, make_token
from cli.importing.importer import problem_text
from cli.settings import Settings, child_environment
from storage.folder import DataFolder

READY_SECONDS: Final = 60.0
STOP_SECONDS: Final = 30.0
POLL_SECONDS: Final = 0.1


class DemoFailed(Exception):
    """A step of the demo did not do what it should."""


class RunningService:
    """`daicho serve` on a data folder: `start` it inside a `with`, at whose end it is stopped.

    `more`: settings beyond those on its command line, by their names in the environment. `keep_log`: add to the file.
    """

    def __init__(
        self, settings: Settings, log_file: Path, more: Mapping[str, str] | None = None, *, keep_log: bool = False
    ) -> None:
        self._settings, self._more, self._keep_log = settings, dict(more or {}), keep_log
        self._log_file = log_file
        self.port = free_port(settings.host, settings.port)
        self.url = f"http://{settings.host}:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The service's process."""
        if self._process is None:
            raise DemoFailed("the service is not running")
        return self._process.pid

    def start(self, until: Callable[[str], bool] | None = None) -> None:
        """Start it and wait until it is ready, or until what is asked of its URL. Raises DemoFailed."""
        self._log_file.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "cli.main", "serve", "--data", str(self._settings.data_dir)]
        command += ["--port", str(self.port), "--log-level", self._settings.log_level]
        with self._log_file.open("ab" if self._keep_log else "wb") as log:
            environment = child_environment(self._more)
            self._process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        self._wait(until or is_ready)

    def wait_ready(self) -> None:
        """Wait until it takes commands. Raises DemoFailed."""
        self._wait(is_ready)

    def _wait(self, condition: Callable[[str], bool]) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while not condition(self.url):
            if self._process is None or self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise DemoFailed(f"the service did not become ready; its last words:\n{last_lines(self._log_file)}")
            time.sleep(POLL_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def kill(self) -> None:
        """End the service at once, as a power cut does."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def stop(self) -> None:
        """End the service in order."""
        process, self._process = self._process, None
        if process is not None and process.poll() is None:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def is_ready(url: str) -> bool:
    """True once the service at the URL takes commands."""
    try:
        return httpx.get(f"{url}/readyz", timeout=2.0).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False


class Person:
    """Somebody with a token: a company's clerk, or the operator.

    `url`: the API, or all its replicas, which are asked in turn. `secrets`: the folder of the token issuer, where it is
    not in the data folder.
    """

    def __init__(self, url: str | Sequence[str], settings: Settings, company: str, secrets: Path | None = None) -> None:
        urls = [url] if isinstance(url, str) else list(url)
        scopes = (
            [s for s in SCOPES if s not in {"operator", "audit:read", "support:read"}]
            if company
            else ["operator", "audit:read", "support:read"]
        )
        self.token = make_token(
            DataFolder(settings.data_dir, secrets),
            issuer=settings.issuer,
            audience=settings.jwt_audience,
            subject=clerk_of(company) if company else "operator@daicho.example",
            company=company,
            scopes=scopes,
            seconds=3600,
        )
        self.company = company
        self.http = httpx.Client(
            base_url=urls[0],
            headers={"authorization": f"Bearer {self.token}"},
            timeout=60.0,
            transport=Replicas(urls) if len(urls) > 1 else None,
        )

    def ask(self, method: str, path: str, *, key: str = "", **arguments: Any) -> dict[str, Any]:
        """One request; the JSON answer. Raises DemoFailed with the problem's text."""
        headers = {"idempotency-key": key} if key else {}
        response = self.http.request(method, path, headers=headers, **arguments)
        if response.status_code >= httpx.codes.BAD_REQUEST:
            raise DemoFailed(f"{method} {path}: {problem_text(response)}")
        answer: dict[str, Any] = response.json()
        answer["hit"] = response.headers.get("idempotency-hit") == "true"
        return answer


def free_port(host: str, wanted: int) -> int:
    """The wanted port if nobody has it, else any free one."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise DemoFailed(f"no port is free on {host}")


def last_lines(path: Path, count: int = 12) -> str:
    """The end of a log file."""
    return "\n".join(path.read_text(encoding="utf-8", errors="replace").splitlines()[-count:])

"""The real service as a process: started, killed and restarted on a data folder, and asked through its public API."""

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import httpx
import psutil

from cli.development import SCOPES, make_token
from storage.folder import DataFolder

ROOT = Path(__file__).parents[2]
START_SECONDS = 90.0
ANSWER_SECONDS = 30.0
POLL_SECONDS = 0.02
QUICK = {
    "DAICHO_CHECKPOINT_INTERVAL_SECONDS": "0.1",
    "DAICHO_ANCHOR_INTERVAL_SECONDS": "0.3",
    "DAICHO_LOG_LEVEL": "warning",
}
COMPANIES = ("aozora", "berger", "cascade", "delta")
T = TypeVar("T")


def wait_for(condition: Callable[[], T], what: str, timeout_seconds: float = ANSWER_SECONDS) -> T:
    """The condition's first true value; fails, naming `what` was awaited, when there is none in time."""
    deadline = time.monotonic() + timeout_seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited {timeout_seconds:.0f} s for {what}"
        time.sleep(POLL_SECONDS)
    return value


def child_environment(cache: Path) -> dict[str, str]:
    """An environment without settings of ours, in which modules are compiled once and not at every start."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DAICHO_")}
    kept.pop("PYTHONDONTWRITEBYTECODE", None)
    return kept | {"PYTHONPYCACHEPREFIX": str(cache), "PYTHONUNBUFFERED": "1"}


class Zygote:
    """Starts processes that have everything imported (see `zygote.py`). They end when this one is closed."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.zygote"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, env=dict(environment), text=True, bufsize=1,
        )  # fmt: skip
        assert self._answer(START_SECONDS) == {"ready": True}

    def fork(self, arguments: Sequence[str], log: Path, env: Mapping[str, str], **more: Any) -> psutil.Process:
        """Run `daicho` with these arguments; its output goes to `log`. `more` is for `zygote.py`."""
        request = {"arguments": list(arguments), "log": str(log), "env": dict(env), **more}
        return psutil.Process(self._ask(request)["pid"])

    def exit_code(self, process: psutil.Process, timeout_seconds: float = ANSWER_SECONDS) -> int:
        """Wait for a forked process to end; negative for the signal that ended it."""
        self._write({"wait": process.pid})
        return int(self._answer(timeout_seconds)["code"])

    def close(self) -> None:
        """End it and whatever it started."""
        self._process.kill()
        self._process.communicate()

    def _ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        self._write(request)
        return self._answer(ANSWER_SECONDS)

    def _write(self, request: Mapping[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")

    def _answer(self, timeout_seconds: float) -> dict[str, Any]:
        assert self._process.stdout is not None
        readable, _, _ = select.select([self._process.stdout], [], [], timeout_seconds)
        assert readable, "the zygote does not answer"
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Service:
    """`daicho serve` on a data folder and a port of its own, through as many lives as a test wants."""

    def __init__(self, zygote: Zygote, folder: Path, settings: Mapping[str, str] | None = None) -> None:
        self.folder = DataFolder(folder)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = folder.with_name(f"{folder.name}.log")
        self.starts = 0
        self._zygote = zygote
        self._settings = QUICK | dict(settings or {})
        self._process: psutil.Process | None = None
        self._family: list[psutil.Process] = []
        self._dying: list[psutil.Process] = []
        self._tokens: dict[str, str] = {}
        # no connection outlives a request: the one that answers it may be gone by the next
        unkept = httpx.Limits(max_keepalive_connections=0)
        self._http = httpx.Client(base_url=self.url, limits=unkept, timeout=ANSWER_SECONDS)

    # -- its lives ---------------------------------------------------------------------------------------------------

    @property
    def process(self) -> psutil.Process:
        """The process of this life."""
        assert self._process is not None
        return self._process

    def start(self, settings: Mapping[str, str] | None = None, **more: Any) -> None:
        """Start it; returns at once."""
        arguments = ["serve", "--data", str(self.folder.path), "--port", str(self.port)]
        self._process = self._zygote.fork(arguments, self.log, self._settings | dict(settings or {}), **more)
        self.starts += 1

    def wait_ready(self, timeout_seconds: float = START_SECONDS) -> None:
        """Wait until it takes commands."""
        wait_for(lambda: self.is_ready() or self._still_alive(), "the service to be ready", timeout_seconds)
        self._family = self.process.children()

    def is_ready(self) -> bool:
        """Whether it takes commands now."""
        return self.readiness()[0] == httpx.codes.OK

    def readiness(self) -> tuple[int, dict[str, Any]]:
        """Status and body of /readyz; (0, {}) while nobody listens."""
        try:
            response = self._http.get("/readyz", timeout=5.0)
            return response.status_code, response.json()
        except (httpx.HTTPError, ValueError):
            return 0, {}

    def children(self) -> dict[str, psutil.Process]:
        """Its signer and its node, by name, as far as they run."""
        found = {}
        for child in self.process.children():
            try:
                words = child.cmdline()
            except psutil.NoSuchProcess:
                continue
            found |= {name: child for name in ("signer", "node") if f"chain.{name}" in words}
        return found

    def kill(self, *, by_itself: bool = False) -> None:
        """SIGKILL, as when the machine runs out of memory. `by_itself`: a crash point has killed it, or will now."""
        process = self.process
        if not by_itself:
            self._remember_children()
            process.kill()
        assert self._zygote.exit_code(process) == -signal.SIGKILL, self.last_words()
        self._over()

    def stop(self) -> int:
        """SIGTERM, and wait for the end in order: its exit code."""
        self._remember_children()
        self.process.terminate()
        code = self._zygote.exit_code(self.process)
        self._over()
        return code

    def end(self) -> None:
        """Whatever it does: no process of it is left."""
        if self._process is not None:
            self._remember_children()
            self._process.kill()
            self._zygote.exit_code(self._process)
            self._over()
        for child in self._dying:
            if child.is_running():
                child.kill()

    def refuses_to_start(self, settings: Mapping[str, str] | None = None, **more: Any) -> tuple[int, str]:
        """Start it and wait for its end: exit code, and what it said meanwhile."""
        before = self.log.stat().st_size if self.log.exists() else 0
        self.start(settings, **more)
        code = self._zygote.exit_code(self.process, START_SECONDS)
        self._process = None
        return code, self.log.read_bytes()[before:].decode()

    def children_are_gone(self) -> bool:
        """Whether the children that earlier lives had at their end have ended, too."""
        self._dying = [child for child in self._dying if _alive(child)]
        return not self._dying

    def last_words(self, size_bytes: int = 3000) -> str:
        """The end of its log."""
        return self.log.read_bytes()[-size_bytes:].decode(errors="replace") if self.log.exists() else ""

    def _remember_children(self) -> None:
        self._family = [*self._family, *self.process.children()] if _alive(self.process) else self._family

    def _over(self) -> None:
        self._process = None
        self._dying += self._family
        self._family = []

    def _still_alive(self) -> bool:
        """False, or a failed assertion when it has ended before it was ready."""
        assert _alive(self.process), f"the service has ended; its last words:\n{self.last_words()}"
        return False

    # -- asking it ---------------------------------------------------------------------------------------------------

    def token(self, company: str = "") -> str:
        """A token of the company's clerk, or of the operator (who may audit, too)."""
        if company not in self._tokens:
            rights = (
                [s for s in SCOPES if s not in {"operator", "audit:read"}] if company else ["operator", "audit:read"]
            )
            self._tokens[company] = make_token(
                self.folder, issuer="urn:daicho:development", audience="daicho", company=company,
                subject=f"clerk@{company or 'daicho'}.example", scopes=rights, seconds=7200,
            )  # fmt: skip
        return self._tokens[company]

    def ask(
        self, method: str, path: str, *, company: str = "", key: str = "", media: str = "", **more: Any
    ) -> httpx.Response:
        """One request by a company's clerk, or by the operator."""
        given = {"authorization": f"Bearer {self.token(company)}", "idempotency-key": key, "content-type": media}
        headers = {name: value for name, value in given.items() if value}
        return self._http.request(method, path, headers=headers, **more)

    def sign_up(self, companies: Sequence[str]) -> None:
        """Companies, each with a clerk who has a wallet."""
        for code in companies:
            named = {"code": code, "name": code.title()}
            answer = self.ask("POST", "/v1/companies", key=f"register-{code}", json=named)
            assert answer.status_code in {200, 201}, answer.text
            user = {"user": f"clerk@{code}.example"}
            answer = self.ask("POST", "/v1/users", company=code, key=f"user-{code}", json=user)
            assert answer.status_code in {200, 201}, answer.text

    def record(self, seller: str, buyer: str, reference: str, units: int = 12_000) -> httpx.Response:
        """Record a trade; the reference is its command key, too."""
        return self.ask(
            "POST", "/v1/trades", company=seller, key=reference, json=trade(seller, buyer, reference, units)
        )

    def daicho(self, *arguments: str, seconds: float = 120.0, **more: Any) -> tuple[int, str, str]:
        """Run another `daicho` command beside it: exit code, standard output, standard error."""
        out = self.log.with_suffix(f".{arguments[0]}.out")
        err = self.log.with_suffix(f".{arguments[0]}.err")
        for file in (out, err):
            file.unlink(missing_ok=True)
        process = self._zygote.fork(arguments, err, {}, out=str(out), **more)
        code = self._zygote.exit_code(process, seconds)
        return code, out.read_text(), err.read_text()


def trade(seller: str, buyer: str, reference: str, units: int = 12_000) -> dict[str, Any]:
    """The body that records a trade."""
    return {
        "seller": seller, "buyer": buyer, "reference": reference, "amount": {"currency": "JPY", "units": str(units)},
        "traded_on": "2026-11-20", "due_on": "2026-12-20", "description": f"goods of {reference}",
    }  # fmt: skip


@contextmanager
def running(service: Service) -> Iterator[Service]:
    """The service, ready; whatever becomes of it, it has ended afterwards."""
    try:
        service.start()
        service.wait_ready()
        yield service
    finally:
        service.end()


def _alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False

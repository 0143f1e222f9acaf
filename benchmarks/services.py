"""The two services of the HTTP rows, each a process of its own, and who calls them."""

import json
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import httpx

from benchmarks.load import Outcome, Request, send
from benchmarks.naive import trade_fields
from benchmarks.samples import SELLER, command_key
from cli.demo.cast import clerk_of
from cli.demo.service import Person, free_port
from cli.development import jwks_file
from cli.settings import Settings, load_settings
from storage.folder import DataFolder

HOST: Final = "127.0.0.1"
START_SECONDS: Final = 60.0
BUYER: Final = "buyer-00"


class Services:
    """`with Services(folder) as services`: both running, companies and users known to ours.

    With `profile` our service is profiled while it is under load, and what its event loop did is written there.
    """

    def __init__(self, folder: Path, profile: Path | None = None) -> None:
        self._folder = folder
        self._stack = ExitStack()
        self.secret = secrets.token_bytes(32)
        self.settings: Settings = load_settings(
            data_dir=folder / "data", host=HOST, log_level="warning", anchor_interval_seconds=60.0
        )
        self.port, self.naive_port = free_port(HOST, 0), free_port(HOST, 0)
        self.url = f"http://{HOST}:{self.port}"
        self._command = ["-m", "benchmarks.profiled_service", str(profile)] if profile else ["-m", "cli.main"]
        self._profiled = profile is not None

    def __enter__(self) -> Self:
        try:
            options = ["--data", str(self.settings.data_dir), "--port", str(self.port), "--log-level", "warning"]
            self._service = self._start([*self._command, "serve", *options], f"{self.url}/readyz")
            jwks = ["--jwks", str(jwks_file(DataFolder(self.settings.data_dir)))]
            naive = ["--port", str(self.naive_port), "--db", str(self._folder / "naive.db"), *jwks]
            naive += ["--secret", self.secret.hex()]
            self._start(["-m", "benchmarks.naive_service", *naive], f"http://{HOST}:{self.naive_port}/docs")
            self._settle()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    # -- loads -------------------------------------------------------------------------------------------------------

    def ours(self, requests: list[Request], connections: int) -> Outcome:
        """Send requests to our service."""
        self._switch_profile()
        try:
            return send(self.port, requests, connections, self._folder / "ours.requests")
        finally:
            self._switch_profile()

    def naive(self, path: str, bodies: list[dict[str, Any]], connections: int) -> Outcome:
        """Send trades to the baseline."""
        requests = [Request(path, json.dumps(body).encode(), self._headers()) for body in bodies]
        return send(self.naive_port, requests, connections, self._folder / "naive.requests")

    def request(self, path: str, body: bytes, media: str = "application/json", person: Person | None = None) -> Request:
        """A request of our seller's clerk (or somebody else) under a fresh command key."""
        headers = {**self._headers(person), "content-type": media, "idempotency-key": command_key()}
        return Request(path, body, headers)

    def person(self, company: str) -> Person:
        """Somebody with a token; the operator for ""."""
        return Person(self.url, self.settings, company)

    def drain(self) -> None:
        """Wait until our processors have caught up."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            ready = httpx.get(f"{self.url}/readyz", timeout=10.0).json()
            lags = [each["lag"] for each in ready["processors"] if each["name"] in {"sequencer", "projector"}]
            if not any(lags):
                return
            time.sleep(0.05)
        raise RuntimeError("the processors do not catch up")

    # -- inside ------------------------------------------------------------------------------------------------------

    def _headers(self, person: Person | None = None) -> dict[str, str]:
        token = (person or self.seller).token
        return {"authorization": f"Bearer {token}", "content-type": "application/json"}

    def _settle(self) -> None:
        operator = self.person("")
        self.seller, self.buyer = self.person(SELLER), self.person(BUYER)
        for code in (SELLER, BUYER):
            operator.ask("POST", "/v1/companies", key=f"company-{code}", json={"code": code, "name": code})
        for person in (self.seller, self.buyer):
            self.sign_up(person)

    @staticmethod
    def user_of(company: str) -> str:
        """The name of a company's user."""
        return clerk_of(company)

    @staticmethod
    def sign_up(person: Person, **more: Any) -> dict[str, Any]:
        """Open a wallet for somebody."""
        body = {"user": clerk_of(person.company), **more}
        return person.ask("POST", "/v1/users", key=f"user-{person.company}", json=body)

    def _switch_profile(self) -> None:
        if self._profiled:
            self._service.send_signal(signal.SIGUSR2)

    def _start(self, arguments: list[str], url: str) -> "subprocess.Popen[bytes]":
        """Start a process and wait until it answers; it ends with the context."""
        return self._stack.enter_context(running(arguments, url))


@contextmanager
def running(arguments: list[str], url: str) -> Iterator["subprocess.Popen[bytes]"]:
    """A Python process from when it answers at a URL to the end of the block."""
    process = subprocess.Popen([sys.executable, *arguments])
    try:
        _wait_for(process, url)
        yield process
    finally:
        process.terminate()
        process.wait(START_SECONDS)


def _wait_for(process: "subprocess.Popen[bytes]", url: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(httpx.HTTPError):
            if httpx.get(url, timeout=2.0).status_code == httpx.codes.OK:
                return
        time.sleep(0.1)
    raise RuntimeError(f"nobody answers at {url}")


def naive_body(number: int) -> dict[str, Any]:
    """A trade as the baseline's service takes it."""
    fields = trade_fields(number)
    return {**fields, "amount": {"currency": fields.pop("currency"), "units": fields.pop("units")}}

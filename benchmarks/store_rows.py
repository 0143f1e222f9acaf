"""The stores' endpoints over HTTP beside the bare verification of the same messages in one process."""

import os
import platform
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import httpx

from benchmarks.load import Outcome, Request, send
from benchmarks.rows import Budget, Goal, Row, make_row, take_turns
from benchmarks.services import HOST, running
from cli.commands.simulate_store import write_files
from cli.demo.service import free_port
from simulator.world import APP_ID, AUDIENCE, BUNDLE, PACKAGE, PUSH_ACCOUNT, SUBSCRIPTION, World
from stores.apple.verify import AppleApp, AppleVerifier
from stores.google.keys import KeySet, http_fetch
from stores.google.push import GoogleApp, PushVerifier
from stores.verdict import Verdict

APPLE_MESSAGES: Final = 400
GOOGLE_MESSAGES: Final = 2_000
LINES: Final = 40
CLIENTS: Final = 16
CONDITIONS: Final = (
    f"CPython {platform.python_version()}; `daicho serve` with everything behind it at work: sealed, stored with its"
    f" entry in one transaction, observed, archived; {LINES} subscriptions, {CLIENTS} connections; certificates asked"
    " for once, tokens as Pub/Sub reuses them"
)


def store_rows(budget: Budget) -> list[Row]:
    """Both rows; the service is started once."""
    with TemporaryDirectory(prefix="daicho-bench-") as name, World().running() as world:
        folder, port = Path(name), free_port(HOST, 0)
        os.environ.update({**world.settings("daily-press"), **write_files(world, folder)})
        arguments = ["-m", "cli.main", "serve", "--data", str(folder / "data"), "--port", str(port)]
        with running([*arguments, "--log-level", "error"], f"http://{HOST}:{port}/readyz"):
            bench = _Bench(world, folder, port)
            return [bench.apple(budget), bench.google(budget)]


class _Bench:
    def __init__(self, world: World, folder: Path, port: int) -> None:
        self._world, self._folder, self._port = world, folder, port
        self._apple_lines = [world.apple.buy("p") for _ in range(LINES)]
        self._google_lines = [world.google.buy("p") for _ in range(LINES)]

    def apple(self, budget: Budget) -> Row:
        """Three signatures a message."""
        count = budget.count(APPLE_MESSAGES, 40)
        verifier = AppleVerifier(AppleApp(BUNDLE, APP_ID), [self._world.root], online=False)
        goal = Goal(
            "intake-apple", "POST /v1/stores/apple/notifications, valid notifications/s",
            "AppleVerifier.verify on the same bodies, offline, in one process", 0.6, 0.8,
        )  # fmt: skip

        def bodies() -> list[bytes]:
            apple, first = self._world.apple, len(self._world.apple.sent)
            for number in range(count):
                apple.renew(self._apple_lines[number % LINES])
            return [each.body for each in apple.sent[first:]]

        return self._row(goal, budget, "apple", bodies, lambda body: verifier.verify(body).verdict, {})

    def google(self, budget: Budget) -> Row:
        """One token a message."""
        count, world = budget.count(GOOGLE_MESSAGES, 200), self._world
        app = GoogleApp(PACKAGE, SUBSCRIPTION, AUDIENCE, PUSH_ACCOUNT)
        keys = KeySet(http_fetch(httpx.Client(), f"{world.url}/google/certs"))
        verifier = PushVerifier(app, keys, held_seconds=0.0)  # it remembers no token
        bearer = world.bearer()
        goal = Goal(
            "intake-google", "POST /v1/stores/google/notifications, valid pushes/s",
            "PushVerifier.verify on the same tokens in one process", 0.3, 0.5,
        )  # fmt: skip

        def bodies() -> list[bytes]:
            first = len(world.google.sent)
            for number in range(count):
                world.google.renew(self._google_lines[number % LINES])
            return [world.envelope(each, 1) for each in world.google.sent[first:]]

        headers = {"authorization": bearer}
        return self._row(goal, budget, "google", bodies, lambda _: verifier.verify(bearer).verdict, headers)

    def _row(
        self, goal: Goal, budget: Budget, store: str, bodies: Callable[[], list[bytes]],
        verify: Callable[[bytes], Verdict], headers: dict[str, str],
    ) -> Row:  # fmt: skip
        outcomes: list[Outcome] = []
        made: list[list[bytes]] = []

        def bare() -> float:
            made.append(bodies())
            began = time.perf_counter()
            if any(verify(body) is not Verdict.VALID for body in made[-1]):
                raise RuntimeError("a message of the simulator does not verify")
            return len(made[-1]) / (time.perf_counter() - began)

        def served() -> float:
            outcome = self._send(store, made[-1], headers)
            outcomes.append(outcome)
            return len(made[-1]) / outcome.seconds

        base, ours = take_turns(budget.rounds, bare, served)
        p99 = max(outcome.p99_ms for outcome in outcomes)
        half = self._send(store, bodies(), headers, per_second=ours.median / 2)
        return make_row(goal, base, ours, CONDITIONS, p99_ms=round(p99, 1), p99_at_half_load_ms=round(half.p99_ms, 1))

    def _send(
        self, store: str, bodies: Sequence[bytes], headers: dict[str, str], *, per_second: float = 0.0
    ) -> Outcome:
        path = f"/v1/stores/{store}/notifications"
        requests = [Request(path, body, {"content-type": "application/json", **headers}) for body in bodies]
        return send(self._port, requests, CLIENTS, self._folder / "requests", per_second=per_second)

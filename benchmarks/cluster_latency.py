"""`python -m benchmarks.cluster_latency`: what a caller of the cluster waits for, and what he does not wait for.

Starts docker-compose.yml's processes on this machine. Prints how the answer's time changes while Kafka or the chain is
held (medians of the ratios of interleaved rounds), how long after its answer a command is covered by a signed
checkpoint, and how long records, log and commands stand still after a `kill -9`.
"""

import argparse
import json
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import httpx
from rich.console import Console
from rich.table import Table

from tests.cluster.chaos.load import COMPANIES, token
from tests.cluster.local_cluster import LocalCluster

OUT: Final = Path("build/bench-cluster-latency.json")
ROUNDS: Final = 5
P50_GATE: Final = 1.2
P99_GATE: Final = 2.0
SETTLE_SECONDS: Final = 2.0
PATIENCE_SECONDS: Final = 60.0
LOOK_SECONDS: Final = 0.004


class Client:
    """One caller who records trades, one after the other."""

    def __init__(self, cluster: LocalCluster) -> None:
        self._url, self._number = cluster.api_urls[0], 0
        self._tokens = {code: token(cluster, code) for code in ("", *COMPANIES[:2])}
        self._http = httpx.Client(timeout=30.0)

    def sign_up(self) -> None:
        """Two companies with a user each."""
        for code in COMPANIES[:2]:
            self._post("/v1/companies", {"code": code, "name": code.title()}, "", f"register-{code}")
            self._post("/v1/users", {"user": f"clerk@{code}.example"}, code, f"user-{code}")

    def trade(self) -> tuple[int, float]:
        """Record a trade: the position of its last entry, and how long the answer took in seconds."""
        self._number += 1
        terms = {
            "seller": COMPANIES[0], "buyer": COMPANIES[1], "reference": f"R-{self._number}",
            "amount": {"currency": "JPY", "units": "1000"}, "traded_on": "2026-11-20", "due_on": "2026-12-20",
        }  # fmt: skip
        began = time.perf_counter()
        answer = self._post("/v1/trades", terms, COMPANIES[0], f"trade-{self._number}")
        return answer["entries"][-1]["position"], time.perf_counter() - began

    def insist(self) -> float:
        """Ask until a trade is recorded; seconds."""
        began = time.perf_counter()
        while time.perf_counter() - began < PATIENCE_SECONDS:
            try:
                self.trade()
            except httpx.HTTPError:
                time.sleep(0.02)
            else:
                return time.perf_counter() - began
        raise TimeoutError("no trade was recorded")

    def times(self, count: int) -> tuple[float, float]:
        """Record trades: p50 and p99 of the answers in seconds."""
        return percentiles([self.trade()[1] for _ in range(count)])

    def _post(self, path: str, body: dict[str, Any], company: str, key: str) -> Any:
        headers = {"authorization": f"Bearer {self._tokens[company]}", "idempotency-key": key}
        answer = self._http.post(self._url + path, json=body, headers=headers)
        answer.raise_for_status()
        return answer.json()


class Checkpoints:
    """A thread that looks at the published checkpoint; `seen` are (time, size) whenever it had grown."""

    def __init__(self, cluster: LocalCluster) -> None:
        self.seen: list[tuple[float, int]] = []
        self._url, self._ending = cluster.api_urls[0] + "/log/checkpoint", threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._ending.set()
        self._thread.join()

    def covered_at(self, position: int) -> float:
        """When a checkpoint of at least that size was first seen; waits for it. Raises TimeoutError."""
        deadline = time.perf_counter() + PATIENCE_SECONDS
        while time.perf_counter() < deadline:
            if self.seen and self.seen[-1][1] >= position:
                return next(moment for moment, size in self.seen if size >= position)
            time.sleep(LOOK_SECONDS)
        raise TimeoutError(f"no checkpoint covers position {position}")

    def _look(self) -> None:
        with httpx.Client(timeout=30.0) as http:
            while not self._ending.wait(LOOK_SECONDS):
                try:
                    size = int(http.get(self._url).text.split("\n")[1])
                except (httpx.HTTPError, IndexError, ValueError):
                    continue
                if not self.seen or size > self.seen[-1][1]:
                    self.seen.append((time.perf_counter(), size))


def percentiles(times: list[float]) -> tuple[float, float]:
    """Their p50 and p99."""
    cuts = statistics.quantiles(times, n=100)
    return cuts[49], cuts[98]


def independence(cluster: LocalCluster, client: Client, away: str, count: int) -> dict[str, Any]:
    """Answers while a service is held ÷ answers while it works, medians of interleaved rounds."""
    ratios: list[tuple[float, float]] = []
    normal: list[tuple[float, float]] = []
    for _ in range(ROUNDS):
        usual = client.times(count)
        cluster[away].pause()
        time.sleep(SETTLE_SECONDS)
        try:
            held = client.times(count)
        finally:
            cluster[away].resume()
        time.sleep(SETTLE_SECONDS)
        normal.append(usual)
        ratios.append((held[0] / usual[0], held[1] / usual[1]))
    p50, p99 = (statistics.median(each) for each in zip(*ratios, strict=True))
    usual_ms = [1000 * statistics.median(each) for each in zip(*normal, strict=True)]
    return {
        "row": f"answers while {away} is held ÷ normal", "p50_ratio": p50, "p99_ratio": p99,
        "normal_p50_ms": usual_ms[0], "normal_p99_ms": usual_ms[1], "met": p50 <= P50_GATE and p99 <= P99_GATE,
    }  # fmt: skip


def freshness(client: Client, checkpoints: Checkpoints, count: int) -> dict[str, Any]:
    """From an answer to a checkpoint that covers it."""
    answered = []
    for _ in range(count):
        position, _ = client.trade()
        answered.append((position, time.perf_counter()))
        time.sleep(0.01)
    waits = [max(0.0, checkpoints.covered_at(position) - at) for position, at in answered]
    p50, p99 = percentiles(waits)
    return {"row": "answer to a checkpoint covering it", "p50_ms": 1000 * p50, "p99_ms": 1000 * p99}


def stall(name: str, breaking: Callable[[], None], healed: Callable[[], object], gate: float) -> dict[str, Any]:
    """From a kill until what stood still goes on."""
    began = time.perf_counter()
    breaking()
    healed()
    seconds = time.perf_counter() - began
    return {"row": name, "seconds": seconds, "gate_seconds": gate, "met": seconds <= gate}


def stalls(cluster: LocalCluster, client: Client, checkpoints: Checkpoints) -> list[dict[str, Any]]:
    """What stands still after a kill -9 of broker, worker and database; each is started again at once."""

    def again(name: str) -> Callable[[], None]:
        def broken() -> None:
            cluster[name].kill9()
            cluster[name].start()

        return broken

    def flows() -> None:
        checkpoints.covered_at(client.trade()[0])

    found = [stall("kafka killed: until a new entry is in a checkpoint", again("kafka"), flows, 10.0)]
    time.sleep(SETTLE_SECONDS)
    found.append(stall("sequencer killed: the same", again("sequencer"), flows, 10.0))
    time.sleep(SETTLE_SECONDS)
    found.append(stall("postgres killed: until a command is answered", again("postgres"), client.insist, 5.0))
    return found


def shown(rows: list[dict[str, Any]]) -> Table:
    """The rows as a table."""
    table = Table()
    for column in ("row", "figures"):
        table.add_column(column)
    for row in rows:
        figures = {key: f"{value:.2f}" for key, value in row.items() if isinstance(value, float)}
        table.add_row(row["row"], ", ".join(f"{key} {value}" for key, value in figures.items()))
    return table


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="benchmarks.cluster_latency", description=__doc__.splitlines()[0])
    parser.add_argument("--commands", type=int, default=200, help="commands in a round")
    options = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 160)
    rows: list[dict[str, Any]] = []
    with (
        tempfile.TemporaryDirectory() as folder,
        LocalCluster(Path(folder) / "cluster", scale={"api": 1}) as cluster,
    ):
        client = Client(cluster)
        client.sign_up()
        client.times(options.commands)
        rows += [independence(cluster, client, away, options.commands) for away in ("kafka", "evm")]
        with Checkpoints(cluster) as checkpoints:
            rows.append(freshness(client, checkpoints, options.commands))
            rows += stalls(cluster, client, checkpoints)
    console.print(shown(rows))
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps(rows, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

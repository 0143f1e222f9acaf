"""Our service beside the naive one, both over HTTP, each in a process of its own, under the same load generator."""

import platform
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from eth_account import Account

from benchmarks.load import Outcome, Request
from benchmarks.naive_service import Body, signable
from benchmarks.own_custody import OwnWallet
from benchmarks.rows import Budget, Goal, Row, make_row, take_turns
from benchmarks.samples import record_body, single_body
from benchmarks.services import BUYER, Services, naive_body

CLIENTS: Final = 64
BULK_CLIENTS: Final = 4
BULK_LINES: Final = 1_000
NAIVE_REQUESTS: Final = 600
REQUESTS: Final = 4_000
BULKS: Final = 16
CONDITIONS: Final = (
    f"CPython {platform.python_version()}, uvicorn (uvloop, httptools) and one process on both sides;"
    " ours is `daicho serve`: all processors, signer process, embedded chain, every answer promised"
)
_BULK_PATH: Final = "/v1/commands?mode=continue&sign=batch"
Prepare = Callable[[int], list[Request]]


def rows(budget: Budget, wanted: set[str], profile: Path | None = None) -> list[Row]:
    """The wanted ones of the HTTP rows; both services are started once for all."""
    chosen = [maker for name, maker in MAKERS.items() if name in wanted]
    with TemporaryDirectory(prefix="daicho-bench-") as name, Services(Path(name), profile) as services:
        return [maker(services, budget) for maker in chosen]


def single_row(services: Services, budget: Budget) -> Row:
    """One trade a request; ours signs each by the custodial wallet as well."""
    goal = Goal(
        "http-single", f"POST /v1/trades, one trade a request, {CLIENTS} clients (commands/s)",
        "naive service: FastAPI def endpoint, pydantic, EdDSA token each time, app.save", 5, 12,
    )  # fmt: skip
    return _Pair(services, budget, _singles(services)).row(goal, _naive(services, "/trades"))


def bulk_row(services: Services, budget: Budget) -> Row:
    """A thousand trades a request, signed as one batch."""
    goal = Goal(
        "ndjson-1000", f"POST /v1/commands, NDJSON, {BULK_LINES} trades a request, {BULK_CLIENTS} clients (commands/s)",
        f"naive service, one trade a request, {CLIENTS} clients", 25, 100,
    )  # fmt: skip

    def requests(count: int) -> list[Request]:
        return [
            services.request(
                _BULK_PATH, b"\n".join(record_body(line, BUYER) for line in range(BULK_LINES)), "application/x-ndjson"
            )
            for _ in range(count)
        ]

    pair = _Pair(services, budget, requests, count=BULKS, lines=BULK_LINES, clients=BULK_CLIENTS)
    return pair.row(goal, _naive(services, "/trades"))


def signed_row(services: Services, budget: Budget) -> Row:
    """One trade a request, signed on its own by a custodial key: ours in the signer process."""
    goal = Goal(
        "signed-single", f"a trade signed on its own by its custodian, {CLIENTS} clients (commands/s)",
        "naive service that signs each trade and verifies what it signed, with eth-account, in its own process", 3, 8,
    )  # fmt: skip
    return _Pair(services, budget, _singles(services)).row(goal, _naive(services, "/signed"))


def own_row(services: Services, budget: Budget) -> Row:
    """One trade a request, signed by the client, verified by the service."""
    goal = Goal(
        "signed-own", f"a trade signed on its own by its user, verified here, {CLIENTS} clients (commands/s)",
        "naive service that verifies each trade's signature with eth-account", 3, 8,
    )  # fmt: skip
    wallet = OwnWallet(services)

    def naive(count: int) -> Outcome:
        bodies = [naive_body(number) for number in range(count)]
        for number, body in enumerate(bodies):
            body |= {"nonce": number, "deadline": int(time.time()) + 600}
            signed = Account.sign_message(signable(Body(**body)), services.secret)
            body["signature"] = "0x" + signed.signature.hex()
        return services.naive("/own", bodies, CLIENTS)

    return _Pair(services, budget, wallet.requests).row(goal, naive)


class _Pair:
    """Our side: `prepare` makes so many requests of `lines` commands each."""

    def __init__(
        self,
        services: Services,
        budget: Budget,
        prepare: Prepare,
        *,
        count: int = REQUESTS,
        lines: int = 1,
        clients: int = CLIENTS,
    ) -> None:
        self._services, self._budget, self._prepare = services, budget, prepare
        self._count, self._lines, self._clients = count, lines, clients

    def row(self, goal: Goal, naive: Callable[[int], Outcome]) -> Row:
        """Measure both in turns."""
        budget = self._budget
        outcomes: dict[str, list[Outcome]] = {"naive": [], "ours": []}

        def baseline() -> float:
            count = budget.count(NAIVE_REQUESTS)
            outcomes["naive"].append(naive(count))
            return count / outcomes["naive"][-1].seconds

        def ours() -> float:
            count = budget.count(self._count, at_least=self._clients)
            outcomes["ours"].append(self._services.ours(self._prepare(count), self._clients))
            self._services.drain()
            return count * self._lines / outcomes["ours"][-1].seconds

        base, mine = take_turns(budget.rounds, baseline, ours)
        return make_row(goal, base, mine, f"{CONDITIONS}; {_latencies(outcomes)}")


def _singles(services: Services) -> Prepare:
    return lambda count: [services.request("/v1/trades", single_body(number, BUYER)) for number in range(count)]


def _naive(services: Services, path: str) -> Callable[[int], Outcome]:
    return lambda count: services.naive(path, [naive_body(number) for number in range(count)], CLIENTS)


def _latencies(outcomes: dict[str, list[Outcome]]) -> str:
    parts = []
    for name, found in outcomes.items():
        middle = sorted(found, key=lambda outcome: outcome.median_ms)[len(found) // 2]
        parts.append(f"{name} p50 {middle.median_ms:.0f} ms, p99 {middle.p99_ms:.0f} ms")
    return "; ".join(parts)


MAKERS: Final[dict[str, Callable[[Services, Budget], Row]]] = {
    "http-single": single_row,
    "ndjson-1000": bulk_row,
    "signed-single": signed_row,
    "signed-own": own_row,
}

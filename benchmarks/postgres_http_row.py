"""Row 5 on PostgreSQL: the cluster's API beside the naive service, under the same load generator."""

import contextlib
import json
import tempfile
from pathlib import Path
from typing import Any, Final

import httpx

from benchmarks.http_rows import CLIENTS, NAIVE_REQUESTS, REQUESTS
from benchmarks.load import Request, send
from benchmarks.postgres_rows import CONDITIONS, database_of
from benchmarks.rows import Budget, Goal, Row, make_row, take_turns
from benchmarks.samples import SELLER, command_key, single_body
from benchmarks.services import BUYER, HOST, naive_body, running
from cli.demo.service import free_port
from cli.development import jwks_file
from storage.folder import DataFolder
from tests.cluster.chaos.load import token
from tests.cluster.local_cluster import LocalCluster
from tests.postgres_server import PostgresServer

WORKERS: Final = ("relay", "sequencer", "projector", "anchorer", "anchor-projector")


def http_row(server: PostgresServer, budget: Budget) -> Row:
    """One trade a request; ours signs each by the custodial wallet as well."""
    goal = Goal(
        "postgres-http-single", f"POST /v1/trades, one trade a request, {CLIENTS} clients (commands/s)",
        "naive service: FastAPI def endpoint, pydantic, EdDSA token each time, app.save on PostgreSQL", 4, 10,
    )  # fmt: skip
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="daicho-bench-")))
        cluster = stack.enter_context(LocalCluster(folder / "cluster", scale={"api": 1}))
        settle(cluster)
        theirs = stack.enter_context(database_of(server))
        naive = free_port(HOST, 0)
        jwks = jwks_file(DataFolder(cluster.secrets, cluster.secrets))  # the cluster's token keys
        options = ["--port", str(naive), "--db", theirs.owner.conninfo, "--jwks", str(jwks), "--secret", "11" * 32]
        service = ["-m", "benchmarks.naive_service", *options]
        stack.enter_context(running(service, f"http://{HOST}:{naive}/docs"))
        workers = [member for name in WORKERS for member in cluster.of(name)]
        seller = {"authorization": f"Bearer {token(cluster, SELLER)}", "content-type": "application/json"}

        def ours() -> float:
            count = budget.count(REQUESTS, at_least=CLIENTS)
            requests = [
                Request("/v1/trades", single_body(number, BUYER), {**seller, "idempotency-key": command_key()})
                for number in range(count)
            ]
            for worker in workers:  # they have machines of their own
                worker.pause()
            try:
                outcome = send(httpx.URL(cluster.api_urls[0]).port or 80, requests, CLIENTS, folder / "ours.requests")
            finally:
                for worker in workers:
                    worker.resume()
            return count / outcome.seconds

        def baseline() -> float:
            count = budget.count(NAIVE_REQUESTS)
            requests = [Request("/trades", json.dumps(naive_body(number)).encode(), seller) for number in range(count)]
            return count / send(naive, requests, CLIENTS, folder / "naive.requests").seconds

        base, mine = take_turns(budget.rounds, baseline, ours)
    held = "one API replica of docker-compose.yml; its stream workers are held while it is measured"
    return make_row(goal, base, mine, f"{CONDITIONS}; {held}, Kafka and the chain's node run beside both sides")


def settle(cluster: LocalCluster) -> None:
    """Two companies with a user each."""
    with httpx.Client(base_url=cluster.api_urls[0], timeout=30.0) as http:
        for code in (SELLER, BUYER):
            _post(http, cluster, "", "/v1/companies", {"code": code, "name": code})
            _post(http, cluster, code, "/v1/users", {"user": f"clerk@{code}.example"})


def _post(http: httpx.Client, cluster: LocalCluster, company: str, path: str, body: dict[str, Any]) -> None:
    headers = {"authorization": f"Bearer {token(cluster, company)}", "idempotency-key": command_key()}
    http.post(path, json=body, headers=headers).raise_for_status()

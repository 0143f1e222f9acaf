"""Companies at work on a cluster: every command has a key of its own and is repeated at any replica until answered."""

import asyncio
import contextlib
import json
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

from cli.development import SCOPES, make_token
from domain.ids import IdSource
from storage.folder import DataFolder
from tests.cluster.local_cluster import LocalCluster

COMPANIES = ("aozora", "birch", "cobalt", "dahlia")
REQUEST_SECONDS = 15.0
AGAIN_SECONDS = 0.1
BULK_LINES = 25


@dataclass
class Request:
    """One request: a command or a bulk of them. `entries` (position, text) once it was acknowledged."""

    company: str
    key: str
    path: str
    body: bytes
    commands: int = 1
    entries: list[tuple[int, str]] = field(default_factory=list)

    @property
    def is_bulk(self) -> bool:
        return self.path == "/v1/commands"


class Refused(AssertionError):
    """A command that must be allowed was refused."""


class ChaosLoad:
    """Clients of four companies. `acknowledged` grows in the order of the answers; `answered_at` are their times."""

    def __init__(self, cluster: LocalCluster, seed: int, wanted_commands: int) -> None:
        self.acknowledged: list[Request] = []
        self.answered_at: list[float] = []
        self.commands = 0
        self._urls = cluster.api_urls
        self._seed, self._wanted, self._asked = seed, wanted_commands, 0
        self._tokens = {code: token(cluster, code) for code in ("", *COMPANIES)}
        self._ids = IdSource()
        self._numbers = 0
        self._seconds, self._began = 0.0, 0.0
        self._http = httpx.AsyncClient(timeout=REQUEST_SECONDS)

    async def sign_up(self) -> None:
        """Companies, each with a clerk who has a wallet."""
        for code in COMPANIES:
            named = json.dumps({"code": code, "name": code.title()}).encode()
            await self._until_answered(Request("", f"register-{code}", "/v1/companies", named))
            user = json.dumps({"user": f"clerk@{code}.example"}).encode()
            await self._until_answered(Request(code, f"user-{code}", "/v1/users", user))

    async def run(self, seconds: float, clients: int = 8) -> None:
        """Ask for the wanted number of commands, evenly over so many seconds, until all are answered."""
        self._seconds, self._began = seconds, time.monotonic()
        async with asyncio.TaskGroup() as group:
            for place in range(clients):
                group.create_task(self._work(place))

    async def close(self) -> None:
        await self._http.aclose()

    async def _work(self, place: int) -> None:
        chance = random.Random(f"{self._seed} {place}")
        while self._asked < self._wanted:
            if self._asked > self._wanted * (time.monotonic() - self._began) / self._seconds:
                await asyncio.sleep(AGAIN_SECONDS)
                continue
            if chance.random() < 0.3:
                await self._bulk(chance)
            else:
                await self._one(chance)

    async def _one(self, chance: random.Random) -> None:
        """Record, confirm, settle in part, remark: each by the company whose turn it is."""
        seller, buyer = chance.sample(COMPANIES, 2)
        trade, units = self._ids.uuid7(), chance.randrange(2, 10**7)
        await self._send(seller, "/v1/trades", self._terms(seller, buyer, trade, units))
        await self._send(buyer, f"/v1/trades/{trade}:confirm", {})
        part = {"amount": {"currency": "JPY", "units": str(chance.randrange(1, units))}, "settled_on": "2026-11-30"}
        await self._send(seller, f"/v1/trades/{trade}:settle", part)
        await self._send(buyer, f"/v1/trades/{trade}:note", {"note": "received"})

    async def _bulk(self, chance: random.Random) -> None:
        seller, buyer = chance.sample(COMPANIES, 2)
        trades = [self._ids.uuid7() for _ in range(BULK_LINES)]
        lines = [
            {"command": "RecordTrade", **self._terms(seller, buyer, t, chance.randrange(1, 10**6))} for t in trades
        ]
        await self._send_lines(seller, lines)
        await self._send_lines(buyer, [{"command": "ConfirmTrade", "trade": trade} for trade in trades])

    def _terms(self, seller: str, buyer: str, trade: str, units: int) -> dict[str, Any]:
        return {
            "seller": seller, "buyer": buyer, "trade": trade, "reference": self._next("R"),
            "amount": {"currency": "JPY", "units": str(units)}, "traded_on": "2026-11-20", "due_on": "2026-12-20",
            "description": "goods",
        }  # fmt: skip

    async def _send(self, company: str, path: str, body: dict[str, Any]) -> None:
        await self._until_answered(Request(company, self._next("k"), path, json.dumps(body).encode()))

    async def _send_lines(self, company: str, lines: Sequence[dict[str, Any]]) -> None:
        body = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
        await self._until_answered(Request(company, self._next("b"), "/v1/commands", body, len(lines)))

    async def _until_answered(self, request: Request) -> None:
        """Send, to one replica after the other, until it is acknowledged. Raises Refused."""
        self._asked += request.commands
        turn = self._numbers
        while True:
            turn += 1
            response = await post(self._http, self._urls[turn % len(self._urls)], self._tokens, request)
            if response is None or response.status_code in {429, 500, 502, 503, 504}:
                if response is not None and response.status_code == httpx.codes.INTERNAL_SERVER_ERROR:
                    raise Refused(f"{request.path}: 500 {response.text[:300]}")
                await asyncio.sleep(AGAIN_SECONDS)
                continue
            request.entries = read_answer(request, response)
            self.acknowledged.append(request)
            self.answered_at.append(time.monotonic())
            self.commands += request.commands
            return

    def _next(self, kind: str) -> str:
        self._numbers += 1
        return f"chaos-{self._seed}-{kind}{self._numbers}"


async def post(http: httpx.AsyncClient, url: str, tokens: dict[str, str], request: Request) -> httpx.Response | None:
    """Send a request once; None when no answer came."""
    headers = {
        "authorization": f"Bearer {tokens[request.company]}",
        "idempotency-key": request.key,
        "content-type": "application/x-ndjson" if request.is_bulk else "application/json",
    }
    params = {"mode": "continue", "sign": "batch"} if request.is_bulk else {}
    with contextlib.suppress(httpx.HTTPError):
        return await http.post(url + request.path, content=request.body, headers=headers, params=params)
    return None


def read_answer(request: Request, response: httpx.Response) -> list[tuple[int, str]]:
    """The entries that a command or a bulk led to. Raises Refused for any refusal."""
    if response.status_code not in {200, 201}:
        raise Refused(f"{request.path}: {response.status_code} {response.text[:300]}")
    lines = [json.loads(line) for line in response.text.splitlines()] if request.is_bulk else [response.json()]
    lines = lines[:-1] if request.is_bulk else lines
    refused = [line["problem"] for line in lines if line.get("problem")]
    if refused:
        raise Refused(f"{request.path}: {refused[0]}")
    return [(entry["position"], entry["entry"]) for line in lines for entry in line["entries"]]


def token(cluster: LocalCluster, company: str) -> str:
    """A token of the company's clerk, or of the operator."""
    rights = [s for s in SCOPES if s not in {"operator", "audit:read"}] if company else ["operator", "audit:read"]
    return make_token(
        DataFolder(cluster.secrets, cluster.secrets), issuer="urn:daicho:development", audience="daicho",
        company=company, subject=f"clerk@{company or 'daicho'}.example", scopes=rights, seconds=14_400,
    )  # fmt: skip

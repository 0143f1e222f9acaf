"""Companies at work: records, confirmations, settlements and notes through the API, alone and in bulks.

Every command has an Idempotency-Key of its own. What was acknowledged is kept with the bytes of its entries and its
promise; whoever got no answer repeats the command once the service is back, or gives it up for good.
"""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.faults.harness import Service, trade

GIVE_UP = 0.4
BACK_SECONDS = 120.0
AGAIN_SECONDS = 0.05


class GivenUp(Exception):
    """The client got no answer and did not ask again: nobody knows what became of the command."""


@dataclass
class Sent:
    """A request with one command, or a bulk of them; `answer` and `promise` once it was acknowledged."""

    company: str
    key: str
    path: str
    body: bytes
    commands: int = 1
    params: dict[str, str] = field(default_factory=dict)
    entries: list[tuple[int, str]] = field(default_factory=list)
    promise: str = ""
    trades: list[str] = field(default_factory=list)

    @property
    def is_bulk(self) -> bool:
        return self.path == "/v1/commands"

    def command_keys(self) -> list[str]:
        """The command keys: its own, or one for each line."""
        return [f"{self.key}:{line}" for line in range(self.commands)] if self.is_bulk else [self.key]

    def take(self, response: httpx.Response) -> None:
        """Keep what a first answer says."""
        self.entries, self.promise, self.trades = read_answer(response, bulk=self.is_bulk)


def read_answer(response: httpx.Response, *, bulk: bool) -> tuple[list[tuple[int, str]], str, list[str]]:
    """Entries by position, promise, and the aggregate of each command. Fails for any refusal."""
    assert response.status_code in {200, 201}, response.text
    lines = [json.loads(line) for line in response.text.splitlines()] if bulk else [response.json()]
    last = lines.pop() if bulk else lines[0]
    refused = [line["problem"] for line in lines if line.get("problem")]
    assert not refused, refused[0]
    entries = [(entry["position"], entry["entry"]) for line in lines for entry in line["entries"]]
    return entries, last["promise"], [line["id"] for line in lines]


class Load:
    """Drives a service from several tasks at once. `acknowledged` and `given_up` are what it knows afterwards."""

    def __init__(self, service: Service, companies: Sequence[str], seed: int, name: str = "load") -> None:
        self.service, self.companies = service, list(companies)
        self.acknowledged: list[Sent] = []
        self.given_up: list[Sent] = []
        self._name, self._seed = name, seed
        self._numbers = 0
        self._ending = False
        self._tasks: list[asyncio.Task[None]] = []
        self._progress = asyncio.Condition()
        self._http = httpx.AsyncClient(base_url=service.url, timeout=30.0)

    @asynccontextmanager
    async def at_work(self, single: int = 4, bulks: int = 1) -> AsyncIterator["Load"]:
        """Let so many clients work; at the end each finishes what it is about, against a service that is ready."""
        kinds = [self._one_trade] * single + [self._one_bulk] * bulks
        self._tasks = [asyncio.create_task(self._work(kind, place)) for place, kind in enumerate(kinds)]
        try:
            yield self
            self._ending = True
            await asyncio.gather(*self._tasks)
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await self._http.aclose()

    async def until(self, more: int, timeout_seconds: float = 60.0) -> None:
        """Wait until so many more requests were acknowledged."""
        wanted = len(self.acknowledged) + more
        async with asyncio.timeout(timeout_seconds), self._progress:
            await self._progress.wait_for(lambda: len(self.acknowledged) >= wanted or self._failed())
        self.check()

    def check(self) -> None:
        """Fail with the failure of a client, if one has failed."""
        for task in self._tasks:
            if task.done() and not task.cancelled() and (error := task.exception()) is not None:
                raise error

    # -- what clients do ---------------------------------------------------------------------------------------------

    async def _work(self, kind: Any, place: int) -> None:
        chance = random.Random(f"{self._seed} {self._name} {place}")
        try:
            while not self._ending:
                try:
                    await kind(chance)
                except GivenUp:
                    continue
        finally:
            async with self._progress:
                self._progress.notify_all()

    async def _one_trade(self, chance: random.Random) -> None:
        """Record, confirm, settle in part, remark."""
        seller, buyer = chance.sample(self.companies, 2)
        reference, units = self._reference(), chance.randrange(2, 10**7)
        (name,) = await self._single(chance, seller, "/v1/trades", trade(seller, buyer, reference, units))
        if chance.random() < 0.2:
            return
        await self._single(chance, buyer, f"/v1/trades/{name}:confirm", {})
        part = {"amount": {"currency": "JPY", "units": str(chance.randrange(1, units))}, "settled_on": "2026-11-30"}
        await self._single(chance, seller, f"/v1/trades/{name}:settle", part)
        await self._single(chance, buyer, f"/v1/trades/{name}:note", {"note": f"received {reference}"})

    async def _one_bulk(self, chance: random.Random) -> None:
        """Record some trades as one bulk; the other side confirms them as another."""
        seller, buyer = chance.sample(self.companies, 2)
        wanted = [trade(seller, buyer, self._reference(), chance.randrange(1, 10**6)) for _ in range(25)]
        lines = [{"command": "RecordTrade", **body} for body in wanted]
        trades = await self._bulk(chance, seller, lines)
        await self._bulk(chance, buyer, [{"command": "ConfirmTrade", "trade": name} for name in trades])

    async def _single(self, chance: random.Random, company: str, path: str, body: dict[str, Any]) -> list[str]:
        return await self._send(Sent(company, self._reference(), path, json.dumps(body).encode()), chance)

    async def _bulk(self, chance: random.Random, company: str, lines: Sequence[dict[str, Any]]) -> list[str]:
        body = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
        params = {"mode": chance.choice(["atomic", "continue"]), "sign": chance.choice(["batch", "each"])}
        return await self._send(Sent(company, self._reference(), "/v1/commands", body, len(lines), params), chance)

    async def _send(self, sent: Sent, chance: random.Random) -> list[str]:
        """Send until it is acknowledged, or given up after the connection was lost: GivenUp."""
        while True:
            try:
                response = await post(self._http, self.service, sent)
            except httpx.HTTPError:
                if chance.random() < GIVE_UP:
                    self.given_up.append(sent)
                    raise GivenUp from None
                await self._back_again()
                continue
            if response.status_code == httpx.codes.SERVICE_UNAVAILABLE:
                await asyncio.sleep(AGAIN_SECONDS)  # as Retry-After asks for, in a test's measure
                continue
            sent.take(response)
            self.acknowledged.append(sent)
            async with self._progress:
                self._progress.notify_all()
            return sent.trades

    async def _back_again(self) -> None:
        """Wait until a service is ready: a later life, or this one if only an old connection was lost."""
        async with asyncio.timeout(BACK_SECONDS):
            while not await self._is_ready():  # noqa: ASYNC110 the event is in another process
                await asyncio.sleep(AGAIN_SECONDS)

    async def _is_ready(self) -> bool:
        try:
            return (await self._http.get("/readyz")).status_code == httpx.codes.OK
        except httpx.HTTPError:
            return False

    def _failed(self) -> bool:
        return any(task.done() for task in self._tasks)

    def _reference(self) -> str:
        self._numbers += 1
        return f"{self._name}-{self._seed}-{self._numbers}"


async def post(http: httpx.AsyncClient, service: Service, sent: Sent) -> httpx.Response:
    """Send a request, for the first time or again."""
    headers = {
        "authorization": f"Bearer {service.token(sent.company)}",
        "idempotency-key": sent.key,
        "content-type": "application/x-ndjson" if sent.is_bulk else "application/json",
    }
    return await http.post(sent.path, params=sent.params, content=sent.body, headers=headers)

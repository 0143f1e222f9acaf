"""Kills and pauses at random, and how long each kind of fault made the cluster stand still."""

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import httpx

from tests.cluster.local_cluster import LocalCluster

SERVICES = ("api", "relay", "sequencer", "projector", "anchorer", "anchor-projector", "kafka", "postgres")
LONGEST_PAUSE_SECONDS = 4.0
AFTERMATH_SECONDS = 20.0
POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Fault:
    """What was done to which container, from when to when (monotonic seconds)."""

    kind: str
    service: str
    began: float
    ended: float


class Chaos:
    """Breaks one container after the other until told to stop. The same seed breaks the same ones in the same order."""

    def __init__(self, cluster: LocalCluster, seed: int, between_seconds: tuple[float, float] = (3.0, 8.0)) -> None:
        self.faults: list[Fault] = []
        self._cluster, self._chance, self._between = cluster, random.Random(f"faults {seed}"), between_seconds

    async def run(self, ending: asyncio.Event) -> None:
        """Until `ending` is set; every service is hit once before any is hit again."""
        left: list[tuple[str, str]] = []
        while not ending.is_set():
            left = left or self._all_kinds()
            kind, service = left.pop()
            await self._break(kind, service)
            try:
                async with asyncio.timeout(self._chance.uniform(*self._between)):
                    await ending.wait()
            except TimeoutError:
                continue

    def _all_kinds(self) -> list[tuple[str, str]]:
        kinds = [(kind, service) for service in SERVICES for kind in ("killed", "paused")]
        self._chance.shuffle(kinds)
        return kinds

    async def _break(self, kind: str, service: str) -> None:
        member = self._chance.choice(self._cluster.of(service))
        began = time.monotonic()
        if kind == "killed":
            await asyncio.to_thread(member.crash)
        else:
            member.pause()
            await asyncio.sleep(self._chance.uniform(0.5, LONGEST_PAUSE_SECONDS))
            member.resume()
        self.faults.append(Fault(kind, service, began, time.monotonic()))


class Flow:
    """When the published log was seen to grow: what the whole way from command to signed head achieves."""

    def __init__(self, cluster: LocalCluster) -> None:
        self.grew_at: list[float] = []
        self._urls = cluster.api_urls

    async def watch(self, ending: asyncio.Event) -> None:
        """Look at the checkpoint of every replica until told to stop."""
        seen = 0
        async with httpx.AsyncClient(timeout=2.0) as http:
            while not ending.is_set():
                for url in self._urls:
                    size = await _size(http, url)
                    if size > seen:
                        seen = size
                        self.grew_at.append(time.monotonic())
                await asyncio.sleep(POLL_SECONDS)


def longest_stalls(faults: Sequence[Fault], times: Sequence[float], until: float) -> dict[str, float]:
    """For each kind of fault the longest time in which nothing happened in it or soon after it (pauses included)."""
    found: dict[str, float] = {}
    for fault in faults:
        window = (fault.began, min(until, fault.ended + AFTERMATH_SECONDS))
        inside = [window[0], *(moment for moment in times if window[0] <= moment <= window[1]), window[1]]
        gap = max((later - earlier for earlier, later in pairwise(inside)), default=0.0)
        name = f"{fault.service} {fault.kind}"
        found[name] = max(found.get(name, 0.0), gap)
    return found


async def _size(http: httpx.AsyncClient, url: str) -> int:
    try:
        answer = await http.get(f"{url}/log/checkpoint")
        return int(answer.text.split("\n")[1]) if answer.status_code == httpx.codes.OK else 0
    except (httpx.HTTPError, ValueError, IndexError):
        return 0

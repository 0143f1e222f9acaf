"""What must hold after the chaos: every acknowledged command exactly once, everywhere, and nothing else changed by it.

1. store      gapless; each acknowledged command's bytes at the positions that were answered; no command key twice
2. topic      after skipping repeats, record by record the store's bytes
3. check      `daicho check --signatures`: tree, checkpoints, anchors, contract, read models, every signature
4. replay     the same commands, one after the other on a ledger of its own: equal histories per trade, equal balances
"""

import asyncio
import json
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psycopg

from streams.topic_partition import KafkaPartition
from streams.topic_reader import TopicLog, TopicReader
from streams.topic_record import EntryRecords
from streams.topics import topic_name
from tests.cluster.chaos.load import COMPANIES, Request, token
from tests.cluster.chaos.replay import replayed
from tests.cluster.local_cluster import LocalCluster

REST_SECONDS = 120.0
SIGNATURE_FIELDS = frozenset({"signature", "new_signature"})


@dataclass(frozen=True)
class Verdict:
    """What was found."""

    entries: int
    lost: int
    doubled: int
    repeats_in_topic: int
    trades: int


class ChaosAudit:
    """The audit of a cluster that nothing is done to any more."""

    def __init__(self, cluster: LocalCluster, acknowledged: Sequence[Request]) -> None:
        self._cluster, self._acknowledged = cluster, acknowledged

    def run(self, scratch: Path, *, with_replay: bool = True) -> Verdict:
        """All of it. Fails with what does not hold."""
        self._come_to_rest()
        rows = self._rows()
        lost, doubled = self._check_store(rows)
        repeats = self._check_topic(rows)
        self._check_with_daicho(len(rows))
        trades = self._check_replay(rows, scratch) if with_replay else 0
        return Verdict(len(rows), lost, doubled, repeats, trades)

    def _come_to_rest(self) -> None:
        """Wait until every processor has followed the last entry, the anchors included."""
        headers = {"authorization": f"Bearer {token(self._cluster, COMPANIES[0])}"}

        async def wait() -> None:
            deadline = time.monotonic() + REST_SECONDS
            rows: list[dict[str, Any]] = []
            async with httpx.AsyncClient(timeout=10.0) as http:
                while True:
                    assert time.monotonic() < deadline, f"no rest within {REST_SECONDS:.0f} s: {rows}"
                    try:
                        await http.post(f"{self._cluster.api_urls[0]}/v1/anchors:now", headers=headers)
                        answers = [(await http.get(f"{url}/readyz")).json() for url in self._cluster.api_urls]
                    except httpx.HTTPError:
                        answers = []
                    rows = [row for answer in answers for row in answer["processors"]]
                    if rows and all(a["ready"] for a in answers) and all(row["lag"] == 0 for row in rows):
                        heads = {row["position"] for row in rows if row["name"] in {"sequencer", "projector", "anchor"}}
                        if heads == {self._head()}:
                            return
                    await asyncio.sleep(0.5)

        asyncio.run(wait())

    def _head(self) -> int:
        return int(self._query("SELECT max(notification_id) FROM stored_events")[0][0])

    def _rows(self) -> list[tuple[int, bytes]]:
        return self._query("SELECT notification_id, state FROM stored_events ORDER BY notification_id")

    def _query(self, query: str) -> list[Any]:
        with psycopg.connect(self._cluster.database_url("analyst")) as connection:
            connection.execute("SET search_path TO daicho_main")
            return connection.execute(query).fetchall()  # type: ignore[arg-type]

    def _check_store(self, rows: Sequence[tuple[int, bytes]]) -> tuple[int, int]:
        """How many acknowledged commands are missing, and how many stand there twice."""
        assert [position for position, _ in rows] == list(range(1, len(rows) + 1)), "positions have a hole"
        states = dict(rows)
        lost = sum(
            any(states.get(position) != text.encode() for position, text in request.entries)
            for request in self._acknowledged
        )
        keys = Counter(json.loads(state)["command"]["key"] for _, state in rows)
        doubled = sum(count - 1 for count in keys.values())
        assert (lost, doubled) == (0, 0), f"{lost} commands lost, {doubled} doubled"
        commands = sum(request.commands for request in self._acknowledged)
        assert len(self._acknowledged) > 0
        assert commands <= len(rows)
        return lost, doubled

    def _check_topic(self, rows: Sequence[tuple[int, bytes]]) -> int:
        """How many repeats the topic holds."""
        origin = json.loads(rows[0][1])["log"]
        with KafkaPartition(self._cluster.kafka_bootstrap, topic_name("main", "entries")) as partition:
            first, end = partition.bounds()
            log = TopicLog(TopicReader(partition, EntryRecords(origin)))
            found: list[tuple[int, bytes]] = []
            while records := log.read(len(found) + 1, 5_000):
                found += records
        assert found == list(rows), "topic and store differ"
        return end - first - len(rows)

    def _check_with_daicho(self, head: int) -> None:
        done = self._cluster.daicho("api", "check", "--signatures", "--json", timeout_seconds=600)
        report = json.loads(done.stdout or "{}")
        assert done.returncode == 0, (done.stdout[-2000:], done.stderr[-2000:])
        assert report["differences"] == []
        assert report["not_checked"] == {}
        assert report["looked_at"]["entries"] == report["looked_at"]["tree"] == head

    def _check_replay(self, rows: Sequence[tuple[int, bytes]], scratch: Path) -> int:
        """How many trades have the same history and balances when the commands come one after the other."""
        in_order = sorted(self._acknowledged, key=lambda request: request.entries[0][0] if request.entries else 0)
        again, balances = replayed(scratch, in_order)
        ours, theirs = histories([state for _, state in rows]), histories(again)
        assert ours == theirs, "a trade has another history when its commands are replayed one by one"
        assert self._balances() == balances, "balances differ from those of the serial replay"
        return len(ours)

    def _balances(self) -> dict[str, Any]:
        found = {}
        for code in COMPANIES:
            headers = {"authorization": f"Bearer {token(self._cluster, code)}"}
            answer = httpx.get(f"{self._cluster.api_urls[0]}/v1/balances", headers=headers, timeout=30.0)
            found[code] = plain_balances(answer.json()["items"])
        return found


def histories(states: Sequence[bytes]) -> dict[str, list[Any]]:
    """What happened to each trade, in order: type, who, and data without what is random in it."""
    found: dict[str, list[Any]] = defaultdict(list)
    for state in states:
        entry = json.loads(state)
        if entry["aggregate"] == "Trade":
            data = {name: value for name, value in entry["data"].items() if name not in SIGNATURE_FIELDS}
            found[entry["aggregate_id"]].append((entry["version"], entry["type"], entry["actor"]["company"], data))
    return dict(found)


def plain_balances(items: Sequence[dict[str, Any]]) -> list[tuple[str, str, str]]:
    """Counterparty, currency and units of each balance."""
    return sorted((item["counterparty"], item["balance"]["currency"], item["balance"]["units"]) for item in items)

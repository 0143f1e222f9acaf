"""No silent fork on the cluster: a store that came back older is read-only with the reason, and refilled from Kafka."""

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from projections.digest import digest
from projections.store import ReadStore
from storage.entry_log import SqliteEntryLog
from storage.log_store import SqliteLogStore
from tests.cluster.chaos.load import COMPANIES, token
from tests.cluster.local_cluster import LocalCluster

PATIENCE_SECONDS = 60.0
WORKERS = ("relay", "sequencer", "projector", "anchorer", "anchor-projector")


class House:
    """A cluster at work, seen through its API."""

    def __init__(self, cluster: LocalCluster) -> None:
        self.cluster = cluster
        self.url = cluster.api_urls[0]
        self.number = 0

    def post(self, path: str, body: dict[str, Any], *, company: str = "", key: str) -> httpx.Response:
        headers = {"authorization": f"Bearer {token(self.cluster, company)}", "idempotency-key": key}
        return httpx.post(self.url + path, json=body, headers=headers, timeout=30.0)

    def sign_up(self) -> None:
        for code in COMPANIES[:2]:
            done = self.post("/v1/companies", {"code": code, "name": code.title()}, key=f"register-{code}")
            assert done.status_code in {200, 201}, done.text
            done = self.post("/v1/users", {"user": f"clerk@{code}.example"}, company=code, key=f"user-{code}")
            assert done.status_code in {200, 201}, done.text

    def trade(self, reference: str) -> httpx.Response:
        terms = {
            "seller": COMPANIES[0], "buyer": COMPANIES[1], "reference": reference,
            "amount": {"currency": "JPY", "units": "1000"}, "traded_on": "2026-11-20", "due_on": "2026-12-20",
        }  # fmt: skip
        return self.post("/v1/trades", terms, company=COMPANIES[0], key=reference)

    def trades(self, count: int) -> None:
        for _ in range(count):
            self.number += 1
            answer = self.trade(f"R-{self.number}")
            assert answer.status_code == httpx.codes.CREATED, answer.text

    def readiness(self) -> tuple[int, dict[str, Any]]:
        try:
            answer = httpx.get(f"{self.url}/readyz", timeout=5.0)
            return answer.status_code, answer.json()
        except httpx.HTTPError:
            return 0, {"reasons": [], "processors": []}

    def at_rest(self) -> bool:
        """Ready, and every processor stands at the store's end."""
        status, body = self.readiness()
        names = {"sequencer", "publisher", "projector", "relay-entries", "relay-checkpoints"}
        rows = [row for row in body["processors"] if row["name"] in names]
        idle = all(row["lag"] == 0 for row in rows)
        return status == httpx.codes.OK and idle and {row["position"] for row in rows} == {self.head()}

    def anchors_relayed(self) -> bool:
        """Every event of the anchors stands in its topic."""
        with psycopg.connect(self.cluster.database_url("analyst")) as connection:
            last = connection.execute(
                "SELECT coalesce(max(notification_id), 0) FROM daicho_main.anchor_events"
            ).fetchone()
        rows = {row["name"]: row["position"] for row in self.readiness()[1]["processors"]}
        return last == (rows.get("relay-anchors"),)

    def head(self) -> int:
        return len(self.rows())

    def rows(self) -> list[tuple[int, bytes]]:
        with psycopg.connect(self.cluster.database_url("analyst")) as connection:
            return connection.execute(
                "SELECT notification_id, state FROM daicho_main.stored_events ORDER BY notification_id"
            ).fetchall()

    def claims(self) -> list[Any]:
        with psycopg.connect(self.cluster.database_url("analyst")) as connection:
            return connection.execute("SELECT * FROM daicho_main.stored_events_claims ORDER BY key").fetchall()

    def restart(self, *services: str) -> None:
        members = [member for service in services for member in self.cluster.of(service)]
        for member in members:
            member.kill9()
        for member in members:
            member.start()


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with LocalCluster(tmp_path_factory.mktemp("fork") / "cluster", scale={"api": 1}) as cluster:
        made = House(cluster)
        wait_for(lambda: made.readiness()[0] == httpx.codes.OK)
        made.sign_up()
        made.trades(5)
        wait_for(made.at_rest)
        yield made


def wait_for(condition: Any, house: House | None = None) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, house.readiness() if house is not None else "it did not come about in time"
        time.sleep(0.2)


@pytest.mark.slow
@pytest.mark.timeout(280)
def test_a_database_restored_from_an_older_backup_is_read_only_until_it_is_refilled_from_kafka(
    house: House, tmp_path: Path
) -> None:
    postgres = house.cluster["postgres"]
    data = postgres.data
    # the backup
    for service in ("api", *WORKERS):
        for member in house.cluster.of(service):
            member.kill9()
    postgres.stop()
    backup = shutil.copytree(data, tmp_path / "backup", symlinks=True)
    _as_owner(backup, data)
    postgres.start()
    house.cluster.wait_healthy("postgres")
    for service in ("api", *WORKERS):
        for member in house.cluster.of(service):
            member.start()
    wait_for(lambda: house.readiness()[0] == httpx.codes.OK)
    # life goes on
    house.trades(20)
    wait_for(house.at_rest, house)
    rows, claims = house.rows(), house.claims()
    # and the backup comes back under everybody's feet
    postgres.stop()
    shutil.rmtree(data)
    shutil.copytree(backup, data, symlinks=True)
    _as_owner(data, backup)
    postgres.start()
    house.cluster.wait_healthy("postgres")
    wait_for(lambda: house.trade("into-the-past").status_code == httpx.codes.SERVICE_UNAVAILABLE)
    answer = house.trade("into-the-past-again")
    assert answer.status_code == httpx.codes.SERVICE_UNAVAILABLE
    assert len(house.rows()) < len(rows)
    # a restart finds out why, and stays read-only
    house.restart("api", *WORKERS)
    wait_for(lambda: any("store ends" in reason for reason in house.readiness()[1]["reasons"]), house)
    assert house.trade("still-not").status_code == httpx.codes.SERVICE_UNAVAILABLE
    # one command
    done = house.cluster.daicho("api", "rebuild", "--from-kafka", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["entries_added"] == 20
    assert house.rows() == rows
    assert house.claims() == claims
    house.restart("api", *WORKERS)
    wait_for(lambda: house.readiness()[0] == httpx.codes.OK)
    again = house.trade("R-25")
    assert again.headers["idempotency-hit"] == "true", "commands of the time that was lost are recognised"
    house.trades(3)
    wait_for(house.at_rest, house)
    wait_for(lambda: _state(house, "anchor") == "running", house)
    check = house.cluster.daicho("api", "check", "--signatures", "--json")
    assert check.returncode == 0, check.stdout


@pytest.mark.slow
@pytest.mark.timeout(280)
def test_two_builders_make_the_same_book_from_kafka_alone(house: House, tmp_path: Path) -> None:
    wait_for(house.at_rest, house)
    for member in house.cluster.of("anchorer"):  # it would add to the topic between one build and the other
        member.kill9()
    wait_for(house.anchors_relayed, house)
    built = []
    for name in ("one", "other"):
        folder = tmp_path / name
        done = house.cluster.daicho("api", "rebuild", "--from-kafka", "--json", "--data", str(folder))
        assert done.returncode == 0, done.stderr
        report = json.loads(done.stdout)
        log, entries, reads = (
            SqliteLogStore(folder / "log.db"), SqliteEntryLog(folder / "ledger.db"), ReadStore(folder / "read.db"),
        )  # fmt: skip
        tiles = b"".join(log.load())
        heads = [(each.size, each.root, each.note) for each in log.checkpoints()]
        built.append((report, tiles, heads, entries.read(1, 10_000), digest(reads), digest(reads, source="anchors")))
        for store in (log, entries, reads):
            store.close()
    assert built[0] == built[1]
    report, tiles, heads, entries_read, *_ = built[0]
    assert entries_read == house.rows()
    assert len(tiles) == 32 * len(entries_read) == 32 * report["size"]
    assert heads
    shown = httpx.get(f"{house.url}/log/checkpoint", timeout=10.0).text
    assert heads[-1][2].decode() == shown
    again = house.cluster.daicho("api", "rebuild", "--from-kafka", "--json", "--data", str(tmp_path / "one"))
    assert json.loads(again.stdout)["entries_added"] == 0
    for member in house.cluster.of("anchorer"):
        member.start()


@pytest.mark.slow
@pytest.mark.timeout(280)
def test_a_topic_that_is_ahead_of_its_store_or_another_one_stops_what_would_build_on_it(house: House) -> None:
    wait_for(house.at_rest, house)
    verified = house.cluster.daicho("relay", "topics", "verify", "--json")
    assert verified.returncode == 0, verified.stdout
    assert json.loads(verified.stdout)["records"] >= house.head()
    for member in house.cluster.of("relay"):
        member.kill9()
    _send_foreign_record(house.cluster)
    verified = house.cluster.daicho("relay", "topics", "verify", "--json")
    assert verified.returncode == 1
    assert json.loads(verified.stdout)["foreign"] == 1
    for name in ("sequencer", "projector"):
        wait_for(lambda name=name: _state(house, name) == "stopped")
    for member in house.cluster.of("relay"):
        member.start()
    wait_for(lambda: _state(house, "relay-entries") == "stopped")
    status, body = house.readiness()
    assert status == httpx.codes.SERVICE_UNAVAILABLE
    assert any("projector is stopped" in reason for reason in body["reasons"])
    # commands are still taken, and nothing of them is lost
    assert house.trade("while-the-topic-is-spoilt").status_code == httpx.codes.CREATED


def _state(house: House, name: str) -> str:
    rows = [row for row in house.readiness()[1]["processors"] if row["name"] == name]
    return str(rows[0]["state"]) if rows else ""


def _send_foreign_record(cluster: LocalCluster) -> None:
    from kafka import KafkaProducer

    producer = KafkaProducer(bootstrap_servers=cluster.kafka_bootstrap)
    producer.send("daicho.main.entries", b'{"not":"an entry"}\x1b[31m').get(10)
    producer.close()


def _as_owner(copied: Path, like: Path) -> None:
    """Give a copy of a server's files to whom the original belongs."""
    owner = like.stat()
    for path in (copied, *copied.rglob("*")):
        if not path.is_symlink():
            shutil.chown(path, owner.st_uid, owner.st_gid)
    copied.chmod(0o700)

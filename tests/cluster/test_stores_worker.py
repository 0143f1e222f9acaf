"""`daicho stream stores` on a real Kafka and a real PostgreSQL: the shop's story twice, a worker killed in between."""

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from cli.commands.simulate_store import write_files
from cli.demo.service import free_port
from cli.demo.shop_story import COMPANY, SETTINGS, ShopStory
from cli.settings import Settings
from simulator.world import World
from tests.cluster.local_cluster import DAICHO, LocalCluster

LOOPBACK = "127.0.0.1"
SECONDS = 90.0

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@contextmanager
def process(log: Path, environment: dict[str, str], *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """One of our processes, until the end of the block."""
    with log.open("ab") as out:
        started = subprocess.Popen([str(DAICHO), *arguments], stdout=out, stderr=out, env=environment)
    try:
        yield started
    finally:
        started.terminate()
        started.wait(60)


def until_ready(url: str, path: str, log: Path) -> None:
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        try:
            if httpx.get(f"{url}{path}", timeout=5.0).status_code == httpx.codes.OK:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.1)
    pytest.fail(f"{url} is not ready; its last words: {log.read_text()[-2_000:]}")


class Shop:
    """A cluster with the stores set up: an API, two copies of the stores' worker, one of which stands by."""

    def __init__(self, cluster: LocalCluster, world: World, folder: Path, stack: ExitStack) -> None:
        self.cluster, self.world, self.folder, self.stack = cluster, world, folder, stack
        patient = {"DAICHO_PURCHASE_WAIT_SECONDS": "10"}  # how fast it is on a busy machine is not what is tried here
        self.more = {**world.settings(COMPANY), **write_files(world, folder / "keys"), **SETTINGS, **patient}
        port = free_port(LOOPBACK, 0)
        self.url = f"http://{LOOPBACK}:{port}"
        log = folder / "api.log"
        stack.enter_context(process(log, self._environment("api", "api"), "serve", "--port", str(port)))
        until_ready(self.url, "/readyz", log)
        self.workers = [self._worker(number) for number in (1, 2)]

    def daicho(self, *arguments: str) -> dict[str, Any]:
        """A command beside them, with JSON."""
        command = [str(DAICHO), *arguments, "--json"]
        environment = self._environment("api", "command")
        ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
        assert ran.returncode == 0, ran.stdout + ran.stderr
        found: dict[str, Any] = json.loads(ran.stdout)
        return found

    def _worker(self, number: int) -> subprocess.Popen[bytes]:
        log = self.folder / f"stores-{number}.log"
        environment = self._environment("sequencer", f"stores-{number}")
        started: subprocess.Popen[bytes] = self.stack.enter_context(process(log, environment, "stream", "stores"))
        until_ready(f"http://{LOOPBACK}:{environment['DAICHO_METRICS_PORT']}", "/healthz", log)
        return started

    def _environment(self, service: str, name: str) -> dict[str, str]:
        """A service's, with the stores' settings; nothing that a container has for itself is shared."""
        own = {
            "DAICHO_METRICS_PORT": str(free_port(LOOPBACK, 0)), "DAICHO_HOST": LOOPBACK,
            "DAICHO_DATA_DIR": str(self.folder / "data" / name),
        }  # fmt: skip
        return {**self.cluster.settings(service), **self.more, **own}


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    cluster = LocalCluster(
        tmp_path / "cluster", variables={"DAICHO_LOG_LEVEL": "warning"}, scale={"api": 1},
        only=frozenset({"api", "relay", "sequencer", "projector"}),
    )  # fmt: skip
    with cluster, World().running() as world, ExitStack() as stack:
        yield Shop(cluster, world, tmp_path, stack)


def test_the_shop_s_story_is_the_same_on_a_cluster_and_another_worker_takes_over(shop: Shop) -> None:
    said: list[str] = []
    ShopStory(shop.world, shop.url, Settings(), said.append, shop.cluster.secrets).tell()
    assert len(said) > 5
    shop.workers[0].send_signal(signal.SIGKILL)
    shop.workers[0].wait(30)
    again = ShopStory(shop.world, shop.url, Settings(), said.append, shop.cluster.secrets)
    again.tell()
    assert again.facts["apple_purchase"] in {201, 202}
    archive = shop.daicho("archive", "verify")
    assert archive["agrees"], archive
    assert archive["looked_at"]["archive"] > 10
    tied = shop.daicho("tieout", "--settling", "0")
    assert tied["agrees"], tied
    assert tied["looked_at"]["contracts"] >= 4
    assert tied["looked_at"]["asked"] == tied["looked_at"]["lines"]

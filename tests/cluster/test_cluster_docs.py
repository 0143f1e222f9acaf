"""docs/cluster.md: its commands for backup, restore and a lost disk of Kafka, run as they stand there."""

import itertools
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from cli.demo.service import Person
from cli.settings import Settings
from tests.cluster.attacks import check
from tests.cluster.compose import ROOT
from tests.cluster.local_cluster import LocalCluster

PAGE = (ROOT / "docs" / "cluster.md").read_text("utf-8")
SECONDS = 90.0
NUMBERS = itertools.count()

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    variables = {"DAICHO_ANCHOR_INTERVAL_SECONDS": "1", "DAICHO_LOG_LEVEL": "warning"}
    with LocalCluster(tmp_path_factory.mktemp("docs"), variables=variables) as running:
        yield running


class Shell:
    """`docker compose` as the page calls it, on the local cluster; files are in `folder`."""

    def __init__(self, cluster: LocalCluster, folder: Path) -> None:
        self.cluster, self.folder = cluster, folder

    def run(self, block: str) -> None:
        """Every line of a block, each of which must end well."""
        for line in block.strip().splitlines():
            words = shlex.split(line)
            assert words[:2] == ["docker", "compose"], line
            {"exec": self.exec, "run": self.daicho, "stop": self.stop, "up": self.up}[words[2]](words[3:])

    def exec(self, words: list[str]) -> None:
        """`exec -T SERVICE PROGRAM …`, with `< file` or `> file`."""
        option, service, program, *arguments = words
        assert (option, service) == ("-T", "postgres")
        postgres = self.cluster[service]
        (*arguments, direction, name) = arguments
        command = [shutil.which(program, path=postgres.environment["PATH"]) or program, *arguments]
        with (self.folder / name).open("rb" if direction == "<" else "wb") as file:
            pipes = {"stdin": file} if direction == "<" else {"stdout": file, "stdin": subprocess.DEVNULL}
            done = subprocess.run(command, env=postgres.environment, stderr=subprocess.PIPE, check=False, **pipes)
        assert done.returncode == 0, done.stderr.decode()

    def daicho(self, words: list[str]) -> None:
        """`run --rm SERVICE COMMAND …`."""
        assert words[0] == "--rm"
        done = self.cluster.daicho(words[1], *words[2:])
        assert done.returncode == 0, (words, done.stdout, done.stderr)

    def stop(self, words: list[str]) -> None:
        """`stop SERVICE …`."""
        for service in words:
            for member in self.cluster.of(service):
                member.stop()

    def up(self, words: list[str]) -> None:
        """`up --detach --wait`."""
        assert words == ["--detach", "--wait"]
        down = [member for member in self.cluster.members.values() if not member.running and member.name != "init"]
        self.daicho(["--rm", "init", "init"])
        for member in down:
            member.start()
        for member in down:
            self.cluster.wait_healthy(member.name)


def block_after(words: str) -> str:
    """The first code block behind these words of the page."""
    found = re.search(r"```\n(.*?)```", PAGE[PAGE.index(words) :], re.DOTALL)
    assert found
    return found[1]


def operator(cluster: LocalCluster) -> Person:
    return Person(cluster.api_urls, Settings(), "", cluster.secrets)


def new_companies(cluster: LocalCluster, count: int) -> int:
    """The last one's position."""
    person, position = operator(cluster), 0
    for _ in range(count):
        code = f"company-{next(NUMBERS)}"
        body = {"code": code, "name": code.title()}
        position = int(person.ask("POST", "/v1/companies", key=code, json=body)["position"])
    return position


def until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"waited {SECONDS:.0f} s in vain: {what}"
        time.sleep(0.2)


def published(cluster: LocalCluster, position: int) -> bool:
    """Whether every replica shows a signed head that covers the position."""
    answers = [httpx.get(f"{url}/log/checkpoint") for url in cluster.api_urls]
    found = [int(answer.text.split("\n")[1]) if answer.status_code == httpx.codes.OK else 0 for answer in answers]
    return min(found) >= position


def test_a_backup_comes_back_with_all_that_kafka_knows_more(cluster: LocalCluster, tmp_path: Path) -> None:
    shell = Shell(cluster, tmp_path)
    before = new_companies(cluster, 5)
    until(lambda: published(cluster, before), "the first entries are published")
    shell.run(block_after("because nothing else has them"))
    after = new_companies(cluster, 5)
    until(lambda: published(cluster, after), "what came after the backup is published")
    heads = {url: httpx.get(f"{url}/log/checkpoint").text for url in cluster.api_urls}
    shell.run(block_after("Restore:"))
    assert {url: httpx.get(f"{url}/log/checkpoint").text for url in cluster.api_urls} == heads
    shown = operator(cluster).ask("GET", "/v1/companies", params={"min_position": str(after), "limit": "100"})
    assert after in {company["position"] for company in shown["items"]}
    last = new_companies(cluster, 1)
    assert last == after + 1, "nothing came between and nothing was lost"
    until(lambda: published(cluster, last), "the ledger goes on")
    until(lambda: check(cluster)[0] == 0, "everything agrees")


def test_a_kafka_that_lost_its_disk_is_filled_again_from_the_store(cluster: LocalCluster) -> None:
    assert "stop the relay, `daicho init` creates the topics anew, and the relay, started again, fills them" in PAGE
    before = new_companies(cluster, 5)
    until(lambda: published(cluster, before), "the entries are published")
    kafka = cluster["kafka"]
    kafka.kill9()
    shutil.rmtree(cluster.translation.volume("kafka-data"))
    kafka.start()
    cluster.wait_healthy("kafka")
    meanwhile = new_companies(cluster, 1)
    for command in (("init",), ("topics", "apply")):
        refused = cluster.daicho("init", *command)
        assert refused.returncode != 0
        assert "daicho.main.entries is missing and a relay is at work: stop it first" in refused.stdout + refused.stderr
    cluster["relay"].stop()
    assert cluster.daicho("init", "init").returncode == 0
    cluster["relay"].start()
    for service in ("sequencer", "projector", "anchorer", "anchor-projector"):
        cluster[service].crash()
    until(lambda: published(cluster, meanwhile), "the log goes on")
    last = new_companies(cluster, 3)
    until(lambda: published(cluster, last), "the log goes on")
    until(
        lambda: cluster.daicho("api", "topics", "verify", "--json").returncode == 0, "the topic has every entry again"
    )
    until(lambda: check(cluster)[0] == 0, "everything agrees")


@pytest.mark.parametrize("words", sorted(set(re.findall(r"`daicho ([a-z]+)", PAGE))))
def test_every_command_that_the_page_names_is_there(words: str) -> None:
    from cli.main import COMMANDS

    assert words in COMMANDS

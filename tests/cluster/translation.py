"""The one table that makes a container's settings those of a process on this machine. Nothing else is changed.

kafka:9092           a service's name and port      → 127.0.0.1 and a free port
localhost:9092, :9092, 0.0.0.0                      → the container's own
/run/secrets/x       a secret                       → its file
/var/lib/kafka/data  a volume                       → a folder of the cluster's
/etc/x               a bind mount                   → the file in the repository
/tmp                 its tmpfs                      → a folder of the container's
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.cluster.compose import Project, Service
from tests.postgres_server import free_port

LOOPBACK = "127.0.0.1"
# ports inside containers: those of our processes stand in their settings, the others in their images
PORTS = {"kafka": ("9092", "9093"), "postgres": ("5432",), "evm": ("8545",)}
OWN_PORTS = ("8080", "9100")
TMP = "/tmp"


class Container:
    """One container of a service: its name (`relay`, or `api-1` where there are several) and all its translations."""

    def __init__(self, service: Service, name: str, scratch: Path) -> None:
        self.service, self.name, self.scratch = service, name, scratch
        self.ports = {port: free_port() for port in PORTS.get(service.name, OWN_PORTS)}


class Translation:
    """The table for one cluster; `folder` holds its volumes and its containers' temporary files."""

    def __init__(self, project: Project, folder: Path, scale: Mapping[str, int]) -> None:
        self._folder = folder
        scratch = folder / "scratch"
        self.containers: list[Container] = []
        for service in project.services.values():
            count = scale.get(service.name, service.replicas)
            names = [service.name] if count == 1 else [f"{service.name}-{n + 1}" for n in range(count)]
            self.containers += [Container(service, name, scratch / name) for name in names]
        self._hosts = {each.service.name: each for each in reversed(self.containers)}
        services = "|".join(re.escape(name) for name in self._hosts)
        self._address = re.compile(rf"(?<![\w.-])({services}|localhost|127\.0\.0\.1|0\.0\.0\.0|(?<=://)):(\d+)\b")

    def text(self, container: Container, text: str) -> str:
        """A value or an argument, translated."""
        if text in container.ports:
            return str(container.ports[text])
        if text in {"0.0.0.0", "localhost"}:
            return LOOPBACK
        text = self._address.sub(lambda found: self._replaced(container, found), text)
        text = re.sub(r"(?<=--host=)0\.0\.0\.0$", LOOPBACK, text)
        text = re.sub(r"(?<=--port=)\d+$", lambda found: str(container.ports[found.group()]), text)
        paths = self._paths(container)  # all in one go: a path of this machine is not translated again
        targets = "|".join(re.escape(target) for target in sorted(paths, key=len, reverse=True))
        return re.sub(rf"(?<![\w/.])({targets})(?![\w.-])", lambda found: str(paths[found.group()]), text)

    def arguments(self, container: Container, arguments: Sequence[str]) -> list[str]:
        """A command line's arguments, translated."""
        return [self.text(container, argument) for argument in arguments]

    def environment(self, container: Container) -> dict[str, str]:
        """The container's variables, translated."""
        return {name: self.text(container, value) for name, value in container.service.environment.items()}

    def volume(self, name: str) -> Path:
        """The folder of a volume."""
        return self._folder / "volumes" / name

    def _paths(self, container: Container) -> dict[str, Path]:
        service = container.service
        paths = {**service.secrets, **service.binds}
        paths |= {target: self.volume(name) for target, name in service.volumes.items()}
        return paths | {TMP: container.scratch}

    def _replaced(self, container: Container, found: re.Match[str]) -> str:
        host, port = found.groups()
        owner = self._hosts.get(host, container)
        if port not in owner.ports:
            raise KeyError(f"{found.group()}: {owner.name} has no such port")
        return f"{LOOPBACK}:{owner.ports[port]}"

"""docker-compose.yml as data: anchors, interpolation and every key that the file uses. Another key is an error.

What the runner ignored silently it would not start "exactly as the file says"; so nothing is ignored here.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "docker-compose.yml"
SERVICE_KEYS = {
    "build", "cap_drop", "command", "depends_on", "deploy", "entrypoint", "environment", "healthcheck", "image", "init",
    "labels", "logging", "network_mode", "networks", "ports", "profiles", "pull_policy", "read_only", "restart",
    "secrets", "security_opt", "shm_size", "stop_grace_period", "tmpfs", "user", "volumes",
}  # fmt: skip
HEALTH_KEYS = {"test", "interval", "timeout", "retries", "start_period", "start_interval", "disable"}
TOP_KEYS = {"name", "services", "networks", "volumes", "secrets"}
CONDITIONS = {"service_healthy", "service_completed_successfully", "service_started"}
_VARIABLE = re.compile(r"\$(?:\$|\{(?P<name>\w+)(?:(?P<operator>:?[-?])(?P<word>[^{}]*))?\}|(?P<plain>\w+))")
_DURATION = re.compile(r"(?:(?P<h>\d+)h)?(?:(?P<m>\d+)m(?!s))?(?:(?P<s>\d+)s)?(?:(?P<ms>\d+)ms)?")


class ComposeError(Exception):
    """The file says something that this reader does not know, or that cannot be."""


@dataclass(frozen=True)
class Healthcheck:
    """How a container is asked whether it is well; times in seconds."""

    test: tuple[str, ...]
    interval: float
    timeout: float
    retries: int
    start_period: float
    start_interval: float


@dataclass(frozen=True)
class Service:
    """One service: what its containers run and with what. `raw` is all of it as the file has it, interpolated."""

    name: str
    image: str
    entrypoint: tuple[str, ...]
    command: tuple[str, ...]
    environment: Mapping[str, str]
    depends_on: Mapping[str, str]
    healthcheck: Healthcheck | None
    secrets: Mapping[str, Path]
    volumes: Mapping[str, str]
    binds: Mapping[str, Path]
    replicas: int
    restart: str
    stop_grace_seconds: float
    profiles: tuple[str, ...]
    raw: Mapping[str, Any]

    @property
    def one_shot(self) -> bool:
        """True for what is to do its work and end."""
        return self.restart == "no"


@dataclass(frozen=True)
class Project:
    """The file: its services in the order in which they stand, without those that are run by hand."""

    services: Mapping[str, Service]
    by_hand: Mapping[str, Service]
    raw: Mapping[str, Any]

    def waves(self) -> list[list[Service]]:
        """The services in groups that can start together, each group after those that it depends on."""
        left, waves = dict(self.services), list[list[Service]]()
        while left:
            wave = [service for service in left.values() if not set(service.depends_on) & set(left)]
            if not wave:
                raise ComposeError(f"these wait for each other: {', '.join(left)}")
            waves.append(wave)
            left = {name: service for name, service in left.items() if service not in wave}
        return waves


def load(environment: Mapping[str, str], file: Path = FILE) -> Project:
    """The file with these variables filled in (compose takes them from the shell and from `.env`)."""
    text = yaml.safe_load(file.read_text("utf-8"))
    filled = {key: interpolate(value, environment) for key, value in text.items() if not key.startswith("x-")}
    _known(filled, TOP_KEYS, file.name)
    secrets = {name: _path(given["file"], file) for name, given in filled["secrets"].items()}
    services = [_service(name, given, secrets, filled, file) for name, given in filled["services"].items()]
    for service in services:
        missing = set(service.depends_on) - {other.name for other in services}
        if missing:
            raise ComposeError(f"{service.name} depends on {', '.join(missing)}, which is no service")
    return Project(
        services={service.name: service for service in services if not service.profiles},
        by_hand={service.name: service for service in services if service.profiles},
        raw=filled,
    )


def interpolate(value: Any, environment: Mapping[str, str]) -> Any:
    """`${NAME}`, `${NAME:-default}`, `${NAME:?message}` and `$$` in every string of the value."""
    if isinstance(value, dict):
        return {key: interpolate(item, environment) for key, item in value.items()}
    if isinstance(value, list):
        return [interpolate(item, environment) for item in value]
    return _VARIABLE.sub(lambda found: _filled(found, environment), value) if isinstance(value, str) else value


def seconds(text: str) -> float:
    """A duration such as `1m30s` in seconds."""
    found = _DURATION.fullmatch(text)
    if not found or not text:
        raise ComposeError(f"{text!r} is no duration")
    part = {name: int(value or 0) for name, value in found.groupdict().items()}
    return part["h"] * 3600 + part["m"] * 60 + part["s"] + part["ms"] / 1000


def _filled(found: re.Match[str], environment: Mapping[str, str]) -> str:
    if found.group() == "$$":
        return "$"
    name = found["name"] or found["plain"]
    operator, word = found["operator"] or "", found["word"] or ""
    value = environment.get(name)
    if value or (value is not None and not operator.startswith(":")):
        return value
    if operator.endswith("?"):
        raise ComposeError(f"{name} is not set: {word}")
    return word


def _service(
    name: str, given: Mapping[str, Any], secrets: Mapping[str, Path], top: Mapping[str, Any], file: Path
) -> Service:
    _known(given, SERVICE_KEYS, name)
    for network in given.get("networks", []):
        if network not in top["networks"]:
            raise ComposeError(f"{name}: there is no network {network}")
    volumes, binds = _mounts(name, given.get("volumes", []), top["volumes"], file)
    return Service(
        name=name,
        image=given["image"],
        entrypoint=tuple(given.get("entrypoint", ())),
        command=tuple(given.get("command", ())),
        environment={key: _text(name, key, value) for key, value in given.get("environment", {}).items()},
        depends_on=_dependencies(name, given.get("depends_on", {})),
        healthcheck=_healthcheck(name, given.get("healthcheck", {})),
        secrets={f"/run/secrets/{secret}": secrets[secret] for secret in given.get("secrets", [])},
        volumes=volumes,
        binds=binds,
        replicas=given.get("deploy", {}).get("replicas", 1),
        restart=given.get("restart", "no"),
        stop_grace_seconds=seconds(given.get("stop_grace_period", "10s")),
        profiles=tuple(given.get("profiles", ())),
        raw=given,
    )


def _mounts(
    name: str, given: list[str], known: Mapping[str, Any], file: Path
) -> tuple[dict[str, str], dict[str, Path]]:
    volumes, binds = dict[str, str](), dict[str, Path]()
    for mount in given:
        source, target, *_ = mount.split(":")
        if source.startswith((".", "/")):
            binds[target] = _path(source, file)
        elif source in known:
            volumes[target] = source
        else:
            raise ComposeError(f"{name}: there is no volume {source}")
    return volumes, binds


def _dependencies(name: str, given: Mapping[str, Any]) -> dict[str, str]:
    found = {other: details["condition"] for other, details in given.items()}
    if unknown := set(found.values()) - CONDITIONS:
        raise ComposeError(f"{name}: {', '.join(unknown)} is no condition")
    return found


def _healthcheck(name: str, given: Mapping[str, Any]) -> Healthcheck | None:
    _known(given, HEALTH_KEYS, f"{name}.healthcheck")
    if not given or given.get("disable"):
        return None
    return Healthcheck(
        test=tuple(given["test"]),
        interval=seconds(given["interval"]),
        timeout=seconds(given["timeout"]),
        retries=given["retries"],
        start_period=seconds(given["start_period"]),
        start_interval=seconds(given["start_interval"]),
    )


def _known(given: Mapping[str, Any], keys: set[str], where: str) -> None:
    if unknown := {key for key in given if not key.startswith("x-")} - keys:
        raise ComposeError(f"{where}: this reader does not know {', '.join(sorted(unknown))}")


def _text(name: str, key: str, value: Any) -> str:
    if not isinstance(value, str):
        raise ComposeError(f"{name}: {key} is to be quoted, or YAML decides what {value!r} means")
    return value


def _path(text: str, file: Path) -> Path:
    return (file.parent / text).resolve()

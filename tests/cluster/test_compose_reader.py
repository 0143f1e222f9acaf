"""The reader of docker-compose.yml takes nothing that it does not understand."""

import shutil
from pathlib import Path

import pytest
import yaml

from tests.cluster.compose import FILE, ComposeError, interpolate, load, seconds
from tests.cluster.images import health_arguments, kafka_properties
from tests.cluster.translation import Translation


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("${A}", "one"),
        ("$A-$$A", "one-$A"),
        ("x${NONE:-two}y", "xtwoy"),
        ("${EMPTY:-two}${EMPTY-three}", "two"),
        ("${NONE-}", ""),
        ("${A:-two}", "one"),
        ("127.0.0.1:${NONE:-8080-8081}:8080", "127.0.0.1:8080-8081:8080"),
    ],
)
def test_variables_are_filled_in_as_compose_does(text: str, filled: str) -> None:
    assert interpolate({"key": [text]}, {"A": "one", "EMPTY": ""}) == {"key": [filled]}


def test_a_variable_that_must_be_set_is_asked_for() -> None:
    with pytest.raises(ComposeError, match="NONE is not set: say it"):
        interpolate("${NONE:?say it}", {})


@pytest.mark.parametrize(("text", "value"), [("5s", 5), ("1m30s", 90), ("250ms", 0.25), ("2h", 7200), ("1m", 60)])
def test_durations_are_seconds(text: str, value: float) -> None:
    assert seconds(text) == value


@pytest.mark.parametrize("text", ["", "5", "five", "5s1m"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ComposeError):
        seconds(text)


def changed(tmp_path: Path, change: str) -> Path:
    """A copy of the file with one thing added to the relay, `key: value` in YAML."""
    text = yaml.safe_load(FILE.read_text("utf-8"))
    text["services"]["relay"] |= yaml.safe_load(change)
    copy = tmp_path / FILE.name
    copy.write_text(yaml.safe_dump(text))
    shutil.copytree(FILE.parent / "deploy", tmp_path / "deploy")
    return copy


@pytest.mark.parametrize(
    "change",
    [
        "{pid: host}",
        "{healthcheck: {test: [CMD, x], when: always}}",
        "{environment: {DAICHO_CHAIN_ID: 20260}}",
        "{networks: [nowhere]}",
        "{volumes: ['nothing:/data']}",
        "{depends_on: {kafka: {condition: service_fine}}}",
        "{depends_on: {nobody: {condition: service_healthy}}}",
    ],
)
def test_what_the_reader_does_not_know_is_an_error_and_not_ignored(tmp_path: Path, change: str) -> None:
    with pytest.raises(ComposeError):
        load({}, changed(tmp_path, change))


def test_services_that_wait_for_each_other_are_refused(tmp_path: Path) -> None:
    text = "{depends_on: {api: {condition: service_healthy}}}"
    project = load({}, changed(tmp_path, text))
    assert project.waves()
    file = changed(tmp_path / "again", text) if (tmp_path / "again").mkdir() is None else FILE
    whole = yaml.safe_load(file.read_text("utf-8"))
    whole["services"]["api"]["depends_on"] = {"relay": {"condition": "service_healthy"}}
    file.write_text(yaml.safe_dump(whole))
    with pytest.raises(ComposeError, match="wait for each other: api, relay"):
        load({}, file).waves()


def test_everything_starts_after_what_it_needs() -> None:
    waves = [[service.name for service in wave] for wave in load({}).waves()]
    assert waves[0] == ["kafka", "postgres", "evm", "prometheus"]
    assert waves[1] == ["init", "grafana"]
    assert set(waves[2]) == {"api", "relay", "sequencer", "projector", "anchorer", "anchor-projector"}


def test_names_ports_and_paths_are_translated_and_nothing_else(tmp_path: Path) -> None:
    project = load({"CLUSTER_SECRETS": str(tmp_path / "secrets")})
    table = Translation(project, tmp_path, {"relay": 2})
    found = {each.name: each for each in table.containers}
    assert {"api-1", "api-2", "relay-1", "relay-2", "sequencer"} <= set(found)
    kafka, api = found["kafka"], found["api-1"]
    own = table.environment(api)
    plain = project.services["api"].environment
    assert own["DAICHO_KAFKA_BOOTSTRAP"] == f"127.0.0.1:{kafka.ports['9092']}"
    assert own["DAICHO_RPC_URL"] == f"http://127.0.0.1:{found['evm'].ports['8545']}"
    assert own["DAICHO_MASTER_KEY_FILE"] == str(tmp_path / "secrets" / "master.key")
    assert own["DAICHO_DATA_DIR"] == str(api.scratch / "daicho")
    assert own["DAICHO_PORT"] == str(api.ports["8080"])
    assert own["DAICHO_PORT"] != table.environment(found["api-2"])["DAICHO_PORT"]
    moved = {name for name in plain if plain[name] != own[name]}
    assert moved == {
        "DAICHO_KAFKA_BOOTSTRAP", "DAICHO_RPC_URL", "DAICHO_HOST", "DAICHO_PORT", "DAICHO_METRICS_HOST",
        "DAICHO_METRICS_PORT", "DAICHO_DATA_DIR", "DAICHO_DATABASE_URL_FILE", "DAICHO_MASTER_KEY_FILE",
        "DAICHO_CURSOR_SECRET_FILE", "DAICHO_JWKS_FILE",
    }  # fmt: skip


def test_the_broker_s_addresses_are_its_own_here(tmp_path: Path) -> None:
    table = Translation(load({}), tmp_path, {})
    (kafka,) = (each for each in table.containers if each.name == "kafka")
    properties = kafka_properties(table.environment(kafka))
    client, controller = kafka.ports["9092"], kafka.ports["9093"]
    assert properties["listeners"] == f"PLAINTEXT://127.0.0.1:{client},CONTROLLER://127.0.0.1:{controller}"
    assert properties["advertised.listeners"] == f"PLAINTEXT://127.0.0.1:{client}"
    assert properties["controller.quorum.voters"] == f"1@127.0.0.1:{controller}"
    assert properties["log.dirs"] == str(tmp_path / "volumes" / "kafka-data")
    assert "heap.opts" not in properties
    assert health_arguments(kafka, table, "bash")[1:] == ["127.0.0.1", str(client)]


def test_the_kafka_image_s_names_become_properties() -> None:
    given = {"KAFKA_A_B": "1", "KAFKA_A__B": "2", "KAFKA_A___B": "3", "CLUSTER_ID": "x", "KAFKA_HEAP_OPTS": "-Xmx1g"}
    assert kafka_properties(given) == {"a.b": "1", "a_b": "2", "a-b": "3"}

"""The cluster of docker-compose.yml, running: what its operator relies on, and what Prometheus and Grafana ask for."""

import itertools
import json
import re
import stat
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
import yaml

from api.errors import RULES, problem_name
from cli.demo.service import Person
from cli.settings import Settings
from tests.cluster.attacks import check, forge_as_service
from tests.cluster.compose import ROOT
from tests.cluster.images import image_name
from tests.cluster.local_cluster import LocalCluster

PROMETHEUS = ROOT / "deploy" / "prometheus"
GRAFANA = ROOT / "deploy" / "grafana"
# functions and words of the query language, and labels: everything else in an expression is a metric's name
QUERY_WORDS = {
    "absent", "and", "by", "clamp_min", "histogram_quantile", "max", "min", "offset", "or", "rate", "sum", "unless",
    "without",
}  # fmt: skip
OF_PROMETHEUS = {"up"}
COMPANY = itertools.count()
SECONDS = 60.0

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """One cluster for this module, with a second relay that stands by."""
    made = LocalCluster(
        tmp_path_factory.mktemp("cluster"),
        variables={"DAICHO_ANCHOR_INTERVAL_SECONDS": "1", "DAICHO_LOG_LEVEL": "warning"},
        scale={"relay": 2},
    )
    with made as running:
        yield running


def until(condition: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + SECONDS
    while not (found := condition()):
        assert time.monotonic() < deadline, f"waited {SECONDS:.0f} s in vain: {what}"
        time.sleep(0.1)
    return found


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return str(answer.read().decode())


def ready(url: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(get(f"{url}/readyz"))
    return found


def operator(cluster: LocalCluster, *urls: str) -> Person:
    return Person(list(urls) or cluster.api_urls, Settings(), "", cluster.secrets)


def new_company(person: Person) -> dict[str, Any]:
    code = f"company-{next(COMPANY)}"
    return person.ask("POST", "/v1/companies", key=code, json={"code": code, "name": code.title()})


def log_size(url: str) -> int:
    return int(get(f"{url}/log/checkpoint").split("\n")[1])


def test_every_container_runs_and_every_replica_is_ready(cluster: LocalCluster) -> None:
    daemons = [member for member in cluster.members.values() if not member.container.service.one_shot]
    assert len(daemons) == 3 + 2 + 2 + 4
    assert all(member.running and member.healthy() for member in daemons)
    assert all(ready(url)["ready"] for url in cluster.api_urls)
    assert not cluster["init"].running


def test_what_one_replica_wrote_the_other_shows_when_it_is_asked_to_wait_for_it(cluster: LocalCluster) -> None:
    one, other = (operator(cluster, url) for url in cluster.api_urls)
    for _ in range(5):
        written = new_company(one)
        shown = other.ask("GET", "/v1/companies", params={"min_position": str(written["position"]), "limit": "100"})
        assert written["position"] in {company["position"] for company in shown["items"]}
        one, other = other, one


def test_a_command_repeated_on_the_other_replica_is_the_same_command(cluster: LocalCluster) -> None:
    one, other = (operator(cluster, url) for url in cluster.api_urls)
    body = {"code": "repeated", "name": "Repeated"}
    first = one.ask("POST", "/v1/companies", key="repeated", json=body)
    again = other.ask("POST", "/v1/companies", key="repeated", json=body)
    assert (first["hit"], again["hit"]) == (False, True)
    assert first["position"] == again["position"]


def test_the_first_start_may_be_repeated_and_changes_nothing(cluster: LocalCluster) -> None:
    first, again = (cluster.daicho("init", "init", "--json") for _ in range(2))
    assert (first.returncode, again.returncode) == (0, 0), again.stderr
    fixed = ("origin", "chain_id", "contract", "publisher", "log_key", "promise_key")
    said = [json.loads(each.stdout) for each in (first, again)]
    assert [said[0][name] for name in fixed] == [said[1][name] for name in fixed]
    assert said[0]["origin"] == json.loads(get(f"{cluster.api_urls[0]}/v1/book"))["origin"]
    for words in ("database", "check"), ("topics", "check"):
        assert cluster.daicho("api", *words).returncode == 0


def test_secrets_are_the_owner_s_alone_and_stay_as_they_are(cluster: LocalCluster) -> None:
    before = {path.name: path.read_bytes() for path in cluster.secrets.iterdir()}
    cluster._make_secrets()
    assert {path.name: path.read_bytes() for path in cluster.secrets.iterdir()} == before
    assert {stat.S_IMODE(path.stat().st_mode) for path in cluster.secrets.iterdir()} == {0o600}
    logs = "".join(member.log() for member in cluster.members.values())
    for name in ("owner.password", "service.password", "analyst.password"):
        assert before[name].decode() not in logs


def test_each_login_of_the_database_may_do_its_work_and_no_more(cluster: LocalCluster) -> None:
    new_company(operator(cluster))
    assert forge_as_service(cluster, 1) == "permission denied for table stored_events"
    with psycopg.connect(cluster.database_url("analyst")) as connection:
        found = connection.execute("SELECT count(*) FROM daicho_main.stored_events").fetchone()
        assert found is not None
        assert found[0] > 0
        for attempt in (
            "SELECT * FROM daicho_main.vault_keys",
            "DELETE FROM daicho_main.stored_events",
            "CREATE TABLE daicho_main.mine (one int)",
            "CREATE TABLE public.mine (one int)",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege), connection.transaction():
                connection.execute(attempt)
    for login in ("service", "analyst"):
        with psycopg.connect(cluster.database_url(login)) as connection, pytest.raises(psycopg.Error):
            connection.execute("CREATE ROLE more SUPERUSER")
    superuser = re.sub(r"//daicho_owner:", "//postgres:", cluster.database_url("owner"))
    with pytest.raises(psycopg.OperationalError, match="authentication failed"):
        psycopg.connect(superuser)


def test_a_stand_by_takes_over_from_a_killed_relay(cluster: LocalCluster) -> None:
    def leading() -> list[str]:
        return [each.name for each in cluster.of("relay") if each.running and _leads(cluster, each.name)]

    (leader,) = until(leading, "a relay leads")
    cluster[leader].kill9()
    try:
        written = new_company(operator(cluster))
        for url in cluster.api_urls:
            until(lambda url=url: log_size(url) >= written["position"], "the entry is in the published log")
        assert leading() != [leader]
    finally:
        cluster[leader].start()
        cluster.wait_healthy(leader)


def _leads(cluster: LocalCluster, name: str) -> bool:
    return bool(
        re.search(r"^daicho_worker_leading\{.*\} 1\.0$", get(f"{cluster.url(name, '9100')}/metrics"), re.MULTILINE)
    )


@pytest.mark.parametrize("service", ["sequencer", "projector", "anchorer", "anchor-projector"])
def test_a_worker_that_dies_is_started_again_and_nothing_is_left_out(cluster: LocalCluster, service: str) -> None:
    before = cluster[service].pid
    cluster[service].crash()
    person = operator(cluster)
    written = new_company(person)
    until(lambda: cluster[service].running and cluster[service].pid != before, "the restart policy starts it")
    cluster.wait_healthy(service)
    position = str(written["position"])
    until(lambda: log_size(cluster.api_urls[0]) >= written["position"], "the entry is in the published log")
    person.ask("GET", "/v1/companies", params={"min_position": position})

    def anchored() -> bool:
        evidence = person.http.get(f"/v1/entries/{position}/evidence").json()
        return (evidence.get("anchor") or {}).get("state") == "final"

    until(anchored, "the entry is under an anchor")


def test_what_the_cluster_holds_agrees_with_itself(cluster: LocalCluster) -> None:
    new_company(operator(cluster))
    until(lambda: check(cluster)[0] == 0, "the read models have caught up and everything agrees")
    assert cluster.daicho("api", "topics", "verify", "--json").returncode == 0


# -- what watches it --------------------------------------------------------------------------------------------------


def metric_names(expression: str) -> set[str]:
    """The metrics that a query asks for."""
    bare = re.sub(r'"[^"]*"', "", expression)
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]|\b(?:by|without)\s*\([^)]*\)", "", bare)
    bare = re.sub(r"offset\s+\d+[smhd]", "", bare)
    return set(re.findall(r"[a-zA-Z_:][\w:]*", bare)) - QUERY_WORDS


def exposed(cluster: LocalCluster) -> set[str]:
    """The names of all samples that the API and the workers give now."""
    workers = {"relay-1", "sequencer", "projector", "anchorer", "anchor-projector"}
    texts = [get(f"{url}/metrics") for url in cluster.api_urls]
    texts += [get(f"{cluster.url(name, '9100')}/metrics") for name in workers]
    return {match for text in texts for match in re.findall(r"^([a-zA-Z_:][\w:]*)[{ ]", text, re.MULTILINE)}


def queries() -> dict[str, str]:
    """Every query of the rules and of the dashboard, by where it stands."""
    rules = yaml.safe_load((PROMETHEUS / "alerts.yml").read_text("utf-8"))
    found = {rule["alert"]: rule["expr"] for group in rules["groups"] for rule in group["rules"]}
    board = json.loads((GRAFANA / "dashboards" / "daicho.json").read_text("utf-8"))
    for panel in board["panels"]:
        found |= {f"{panel['title']} {target['refId']}": target["expr"] for target in panel["targets"]}
    return found


def test_every_metric_of_rules_and_dashboard_is_there(cluster: LocalCluster) -> None:
    new_company(operator(cluster))
    until(lambda: "daicho_anchor_gas" in exposed(cluster), "an anchor was made")
    names = exposed(cluster) | OF_PROMETHEUS
    missing = {where: metric_names(query) - names for where, query in queries().items()}
    assert {where: left for where, left in missing.items() if left} == {}
    assert all(metric_names(query) for query in queries().values())


def test_the_problems_that_a_rule_names_are_those_of_the_api() -> None:
    known = {problem_name(kind) for kind in RULES}
    named = [
        name
        for query in queries().values()
        for text in re.findall(r'outcome!?=~?"([^"]*)"', query)
        for name in text.split("|")
    ]
    assert set(named) - {"done", "repeated"} <= known
    assert "storage-unavailable" in named


def test_prometheus_asks_every_process_of_ours_at_the_port_where_it_answers(cluster: LocalCluster) -> None:
    given = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text("utf-8"))
    asked = {
        (name, str(found["port"]))
        for job in given["scrape_configs"]
        for found in job["dns_sd_configs"]
        for name in found["names"]
    }
    ours = {s.name: s for s in cluster.project.services.values() if image_name(s.image) == "daicho" and not s.one_shot}
    port = {name: "DAICHO_PORT" if name == "api" else "DAICHO_METRICS_PORT" for name in ours}
    assert asked == {(name, service.environment[port[name]]) for name, service in ours.items()}
    (mounted,) = {str(path) for path in cluster.project.services["prometheus"].binds.values()}
    assert Path(mounted) == PROMETHEUS
    for file in given["rule_files"]:
        assert (PROMETHEUS / Path(file).name).exists()


def test_grafana_finds_its_source_and_its_dashboard() -> None:
    sources = yaml.safe_load((GRAFANA / "provisioning" / "datasources" / "prometheus.yml").read_text("utf-8"))
    (source,) = sources["datasources"]
    assert source["url"] == "http://prometheus:9090"
    board = json.loads((GRAFANA / "dashboards" / "daicho.json").read_text("utf-8"))
    used = {target["datasource"]["uid"] for panel in board["panels"] for target in panel["targets"]}
    assert used == {source["uid"]}
    ids = [panel["id"] for panel in board["panels"]]
    assert len(ids) == len(set(ids))
    for panel in board["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        assert panel["description"], panel["title"]


def test_what_to_do_about_an_alert_is_written_down() -> None:
    page = (ROOT / "docs" / "cluster.md").read_text("utf-8")
    rules = yaml.safe_load((PROMETHEUS / "alerts.yml").read_text("utf-8"))
    for group in rules["groups"]:
        for rule in group["rules"]:
            assert f"`{rule['alert']}`" in page, rule["alert"]
            assert rule["annotations"]["summary"]


def test_a_run_that_is_killed_leaves_no_process_and_no_folder_behind(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from tests.cluster.local_cluster import LocalCluster\n"
        "cluster = LocalCluster(Path(sys.argv[1]), only=frozenset({'kafka', 'postgres', 'evm'})).start()\n"
        "print(cluster.base, *(member.pid for member in cluster.members.values()), flush=True); time.sleep(600)"
    )
    run = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert run.stdout is not None
    base, *pids = run.stdout.readline().split()
    assert len(pids) == 3
    assert all(psutil.pid_exists(int(pid)) for pid in pids)
    run.kill()
    run.wait()
    run.stdout.close()
    until(lambda: not any(psutil.pid_exists(int(pid)) for pid in pids), "the processes are gone")
    until(lambda: not Path(base).exists(), "the folder is gone")


def test_every_process_ends_well_when_it_is_asked_to(cluster: LocalCluster) -> None:
    """The last one: the cluster is down afterwards."""
    ours = [member for member in cluster.members.values() if image_name(member.container.service.image) == "daicho"]
    codes = {}
    for member in [each for each in ours if not each.container.service.one_shot]:
        process = member._process
        member.stop()
        codes[member.name] = process.returncode if process is not None else None
    assert set(codes.values()) == {0}, codes

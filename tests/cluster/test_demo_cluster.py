"""`make demo-cluster`, to its end; and the demo's story on a cluster that runs already."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.compose import ROOT
from tests.cluster.images import DAICHO
from tests.cluster.local_cluster import LocalCluster

SECONDS = 240

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2 * SECONDS)]


def run(*command: str, cwd: Path = ROOT, **more: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DAICHO_")}
    environment |= {"PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "verifier"))), **more}
    return subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False
    )


def require_told(facts: dict[str, Any]) -> None:
    """The whole story: imported, confirmed, anchored, verified without the API."""
    assert (facts["imported"], facts["confirmed"]) == (420, 420)
    assert facts["anchor"]["state"] == "final"
    assert facts["anchor"]["independent"] is False, "the miner is ourselves"
    assert facts["verified"]["exit_code"] == 0
    rings = {ring["name"]: ring["verdict"] for ring in facts["verified"]["verdict"]["rings"]}
    asked = ("entry", "author", "inclusion", "log-signature", "chain")
    assert {name: rings[name] for name in asked} == dict.fromkeys(asked, "ok")


def test_the_demo_on_the_cluster_tells_its_story_and_withstands_its_operator(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    done = run(sys.executable, "-m", "tests.cluster.demo", "--report", str(report))
    assert done.returncode == 0, done.stderr
    assert "both replicas of the API stopped" in done.stderr
    facts = json.loads(report.read_text())
    require_told(facts)
    assert facts["attacks"]["denied"] == "permission denied for table stored_events"
    assert facts["attacks"]["one_byte_found_at"] == facts["trade"]["position"]
    assert "Inconsistent" in facts["attacks"]["rewrite_refused"]


def test_the_story_can_be_told_to_a_cluster_that_runs_already_and_again(tmp_path: Path) -> None:
    with LocalCluster(tmp_path / "cluster", variables={"DAICHO_LOG_LEVEL": "warning"}) as cluster:
        api = [word for url in cluster.api_urls for word in ("--api", url)]
        reports = [tmp_path / "first.json", tmp_path / "second.json"]
        for report in reports:
            command = [str(DAICHO), "demo", *api, "--secrets", str(cluster.secrets), "--report", str(report)]
            done = run(*command, cwd=tmp_path)
            assert done.returncode == 0, done.stderr
        first, second = (json.loads(report.read_text()) for report in reports)
        require_told(first)
        assert (second["imported"], second["already_imported"], second["confirmed"]) == (0, 420, 0)
        assert second["origin"] == first["origin"]
        assert second["trade"]["position"] == first["last_position"] + 1
        wrong = run(str(DAICHO), "demo", *api, "--secrets", str(tmp_path / "nowhere"), cwd=tmp_path)
        assert wrong.returncode == 2
        assert "holds no token issuer" in wrong.stderr


def test_without_java_the_demo_says_so_in_one_line(tmp_path: Path) -> None:
    done = run(sys.executable, "-W", "ignore", "-m", "tests.cluster.demo", PATH=str(tmp_path))
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "Kafka needs java, which is not installed" in done.stderr

"""The demo, as a newcomer runs it: twice on one folder, each time to its end."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
DEMO_SECONDS = 240


def play(folder: Path, report: Path, cwd: Path) -> dict[str, Any]:
    """One run of `daicho demo --exit`; what it reports."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DAICHO_")}
    environment |= {"DAICHO_PORT": "0", "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "verifier")))}
    command = [sys.executable, "-m", "cli.main", "demo", "--exit", "--data", str(folder), "--report", str(report)]
    done = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=DEMO_SECONDS, check=False
    )
    assert done.returncode == 0, done.stderr
    facts: dict[str, Any] = json.loads(report.read_text())
    return facts


@pytest.mark.slow
@pytest.mark.timeout(2 * DEMO_SECONDS)
def test_the_demo_ends_well_and_a_second_run_continues_the_same_ledger(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    first = play(folder, tmp_path / "first.json", tmp_path)
    assert (first["imported"], first["already_imported"], first["confirmed"]) == (420, 0, 420)
    second = play(folder, tmp_path / "second.json", tmp_path)
    assert (second["imported"], second["already_imported"], second["confirmed"]) == (0, 420, 0)
    assert second["origin"] == first["origin"]
    assert second["contract"] == first["contract"]
    assert second["trade"]["position"] > first["last_position"]
    assert second["size"] > first["size"]
    assert second["root"] != first["root"]
    assert second["anchor"]["tx_hash"] != first["anchor"]["tx_hash"]
    for facts in (first, second):
        assert facts["verified"]["exit_code"] == 0
        rings = {ring["name"]: ring["verdict"] for ring in facts["verified"]["verdict"]["rings"]}
        asked = ("entry", "author", "inclusion", "log-signature", "chain")
        assert {name: rings[name] for name in asked} == dict.fromkeys(asked, "ok")
        assert facts["attacks"]["one_byte_found_at"] == facts["trade"]["position"]
        assert "Inconsistent" in facts["attacks"]["rewrite_refused"]
        stores = facts["stores"]
        assert (stores["apple_purchase"], stores["google_purchase"]) == (201, 202)
        assert (stores["found_by_asking"], stores["access"]) == (True, "revoked")
        assert stores["timeline"] > 20

"""The loss test itself, short: both stores, faults at random, and at the end nothing lost and all three sides agree."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("seed", [5])
def test_nothing_is_lost_and_store_ledger_and_billing_agree(tmp_path: Path, seed: int) -> None:
    command = [sys.executable, "-m", "cli.main", "simulate-store", "--loss-test", "400", "--seed", str(seed)]
    environment = {**os.environ, "COLUMNS": "1000"}
    ran = subprocess.run(
        [*command, "--folder", str(tmp_path)], capture_output=True, text=True, timeout=400, check=False, env=environment
    )
    told = " ".join((ran.stdout + ran.stderr).split())
    assert ran.returncode == 0, told[-3_000:]
    counts = dict(re.findall(r"(lost|altered|recorded twice|unexplained differences) (\d+)", told))
    assert {name: counts[name] for name in ("lost", "altered", "recorded twice", "unexplained differences")} == {
        "lost": "0", "altered": "0", "recorded twice": "0", "unexplained differences": "0",
    }  # fmt: skip
    sent = re.search(r"(\d+) notifications,", told)
    assert sent is not None
    assert int(sent[1]) >= 400
    tied = {part: int(number) for number, part in re.findall(r"(\d+) (purchases|contracts|lines|asked)\b", told)}
    assert min(tied["purchases"], tied["contracts"], tied["asked"]) > 0, told[-1_000:]
    assert tied["asked"] == tied["lines"], "a line that was not asked about"

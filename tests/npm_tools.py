"""Test tools that come from npm (solc, anvil): installed once below build/, never into the project."""

import fcntl
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
INSTALL_TIMEOUT_SECONDS = 240


def require_npm(what: str) -> str:
    """The npm command. Without it: a failure where `CI` is set, else a skip that says why."""
    npm = shutil.which("npm")
    if npm is None:
        reason = f"{what} comes from npm, which is not installed"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return npm


def install_once(folder: Path, command: Sequence[str], proof: Path) -> None:
    """Runs an npm command in `folder` unless `proof` exists already; safe with parallel test processes."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if proof.exists():
            return
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_SECONDS, check=False
        )
        if done.returncode != 0 or not proof.exists():
            pytest.fail(f"{' '.join(command)} failed with {done.returncode}: {done.stderr[-800:]}")

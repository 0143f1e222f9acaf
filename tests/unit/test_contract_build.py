"""The committed artefact is what the committed sources compile to."""

import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

import contracts
from tests.npm_tools import ROOT, install_once, require_npm

FOLDER = Path(contracts.__file__).parent


def test_the_artefact_belongs_to_the_sources() -> None:
    hashes = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in FOLDER.glob("*.sol")}
    assert contracts.artefact().sources == hashes, "run: cd contracts && npm ci && npm run build"


def test_the_artefact_names_its_compiler_settings() -> None:
    settings = contracts.artefact().compiler["settings"]
    assert settings == {
        "evmVersion": "cancun",
        "viaIR": True,
        "optimizer": {"enabled": True, "runs": 200},
        "metadata": {"bytecodeHash": "none", "appendCBOR": False},
    }
    assert contracts.artefact().runtime_bytecode in contracts.artefact().bytecode


def test_the_lock_file_names_no_registry() -> None:
    lock = json.loads((FOLDER / "package-lock.json").read_text())
    assert not [name for name, package in lock["packages"].items() if "resolved" in package]
    assert all("integrity" in package for name, package in lock["packages"].items() if name)


def test_the_sources_compile_to_the_committed_bytes(tmp_path: Path) -> None:
    node_modules = FOLDER / "node_modules"
    if not (node_modules / "solc").is_dir():
        npm = require_npm("solc")
        if not os.environ.get("CI"):
            pytest.skip("solc is not installed in contracts/node_modules and CI is not set")
        cache = ROOT / "build" / "solc"
        cache.mkdir(parents=True, exist_ok=True)
        for name in ("package.json", "package-lock.json"):
            shutil.copy(FOLDER / name, cache / name)
        node_modules = cache / "node_modules"
        install_once(
            cache,
            [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"],
            node_modules / "solc" / "package.json",
        )
    for path in [*FOLDER.glob("*.sol"), FOLDER / "build.mjs", FOLDER / "package.json"]:
        shutil.copy(path, tmp_path / path.name)
    (tmp_path / "node_modules").symlink_to(node_modules)
    subprocess.run(["node", "build.mjs"], cwd=tmp_path, check=True, capture_output=True, timeout=120)
    assert (tmp_path / "AnchorRegistry.json").read_bytes() == (FOLDER / "AnchorRegistry.json").read_bytes()

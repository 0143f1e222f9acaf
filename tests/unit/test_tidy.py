"""The house stays tidy: file and function length, documented settings, no traces of one machine."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

from cli.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = (
    "domain",
    "storage",
    "stores",
    "merkle",
    "chain",
    "streams",
    "projections",
    "api",
    "cli",
    "contracts",
    "benchmarks",
    "verifier",
)
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 70


def tracked(pattern: str = "") -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    names = listed.stdout.decode().split("\0") if listed.returncode == 0 else []
    paths = [ROOT / name for name in names if name] or [p for p in ROOT.rglob("*") if ".venv" not in p.parts]
    return [path for path in paths if path.is_file() and path.name.endswith(pattern)]


SOURCES = [path for path in tracked(".py") if path.relative_to(ROOT).parts[0] in PACKAGES]


def test_there_are_sources_to_look_at() -> None:
    assert len(SOURCES) > 50


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_functions_stay_short_and_say_what_they_do(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    assert text.count("\n") <= MAX_FILE_LINES
    assert ast.get_docstring(tree) or not tree.body
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= MAX_FUNCTION_LINES, f"{node.name} has {length} lines"


@pytest.mark.parametrize(
    "path", [p for p in SOURCES if "benchmarks" not in p.parts], ids=lambda p: str(p.relative_to(ROOT))
)
def test_public_functions_and_classes_have_a_docstring(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{node.name} says nothing"


def test_every_setting_is_documented() -> None:
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    missing = [name for name in Settings.model_fields if f"`DAICHO_{name.upper()}`" not in page]
    assert not missing


def test_only_the_settings_read_the_environment() -> None:
    allowed = {"cli/settings.py"}
    found = {
        str(path.relative_to(ROOT))
        for path in SOURCES
        if path.relative_to(ROOT).parts[0] not in {"benchmarks", "verifier"}
        and re.search(r"os\.environ|os\.getenv", path.read_text(encoding="utf-8"))
    }
    assert found <= allowed


def test_nothing_of_one_machine_and_no_registry_address_is_in_the_repository() -> None:
    machine = re.compile(rb"(?:^|[ \"'=(])/(?:home|root|Users)/[a-z]", re.MULTILINE)
    registry = re.compile(rb"https?://[^ \"']*(?:pypi|pythonhosted|npmjs|maven|goproxy|crates\.io)[^ \"']*")
    bad = [
        f"{path.relative_to(ROOT)}: {match.group()[:80]!r}"
        for path in tracked()
        if path != Path(__file__).resolve()
        for match in (*machine.finditer(path.read_bytes()), *registry.finditer(path.read_bytes()))
    ]
    assert not bad


def test_locks_hold_hashes_and_no_addresses() -> None:
    for name in ("requirements.lock", "requirements-dev.lock"):
        text = (ROOT / name).read_text(encoding="utf-8")
        assert "://" not in text
        pins = re.findall(r"^[a-z0-9].*==", text, re.MULTILINE)
        assert len(pins) > 50
        assert text.count("--hash=sha256:") >= len(pins)

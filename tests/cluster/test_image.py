"""The image without a container engine: what its build lets in, and what comes out of the installation."""

import fnmatch
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.cluster.compose import ROOT

# what the program opens beside its modules
DATA_FILES = {
    "contracts/AnchorRegistry.json",
    "storage/postgres/migrations/0001_book.sql",
    "storage/postgres/migrations/0002_inbox.sql",
}
NOT_INSTALLED = (".md", ".mjs", "package.json", "package-lock.json", ".toml")


def build_context(target: Path) -> Path:
    """Copy what .dockerignore lets into a build. Only its forms are known: `*`, `!path`, `!folder/*.x`, `**/name`."""
    rules = [line for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if line and line[0] != "#"]
    let_in = [rule[1:] for rule in rules if rule.startswith("!")]
    left_out = [rule.removeprefix("**/") for rule in rules if rule.startswith("**/")]
    assert len(let_in) + len(left_out) + 1 == len(rules), "a rule has a form that this test does not know"
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split(
        "\n"
    )
    for name in filter(None, listed):
        parts = Path(name).parts
        inside = any(name == rule or name.startswith(f"{rule}/") or fnmatch.fnmatch(name, rule) for rule in let_in)
        if inside and not any(fnmatch.fnmatch(part, rule) for part in parts for rule in left_out):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, target / name)
    return target


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, zipfile.ZipFile]:
    """Both packages, built from the context with the Dockerfile's own options."""
    context = build_context(tmp_path_factory.mktemp("context"))
    out = tmp_path_factory.mktemp("wheels")
    dockerfile = (ROOT / "Dockerfile").read_text("utf-8")
    found = re.search(r"pip install --quiet (--no-deps --no-build-isolation) (\. \./verifier)", dockerfile)
    assert found, "the Dockerfile installs otherwise than this test"
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", *found[1].split(), "-w", str(out), *found[2].split()]
    done = subprocess.run(command, cwd=context, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return {path.name.split("-")[0]: zipfile.ZipFile(path) for path in out.glob("*.whl")}


def test_everything_that_the_program_opens_is_installed(wheels: dict[str, zipfile.ZipFile]) -> None:
    assert set(wheels) == {"daicho", "daicho_verify"}
    names = set(wheels["daicho"].namelist())
    assert names >= DATA_FILES
    packages = {name.split("/")[0] for name in names if name.endswith("/__init__.py")}
    listed = subprocess.run(
        ["git", "ls-files", *sorted(packages)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    tracked = {name for name in listed.stdout.split("\n") if name and not name.endswith(NOT_INSTALLED)}
    assert tracked - names == set()


def test_nothing_but_the_program_is_installed(wheels: dict[str, zipfile.ZipFile]) -> None:
    for name in wheels["daicho"].namelist():
        assert name.split("/")[0] not in {"tests", "benchmarks", "secrets", "data", "build", "docs", "demo"}, name


def test_the_installed_program_knows_its_commands_its_schema_and_its_contract(
    wheels: dict[str, zipfile.ZipFile], tmp_path: Path
) -> None:
    for wheel in wheels.values():
        wheel.extractall(tmp_path)
    code = (
        "import cli, contracts, json, storage.postgres.migrate as migrate\n"
        "from importlib.resources import files\n"
        "print(json.dumps([cli.__file__, [step.name for step in migrate.migrations()],\n"
        "    files('contracts').joinpath('AnchorRegistry.json').is_file()]))"
    )
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}

    def python(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-P", *arguments]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    done = python("-c", code)
    assert done.returncode == 0, done.stderr
    assert str(tmp_path) in done.stdout
    assert "0001_book.sql" in done.stdout
    assert done.stdout.rstrip().endswith("true]")
    for command in ("init", "stream relay"):
        told = python("-m", "cli.main", *command.split())
        assert told.returncode == 2
        assert "in the data folder" in told.stderr, (
            "each command loads its modules, then refuses to go on without a database"
        )


def test_the_health_command_tells_well_from_ill_and_from_gone(tmp_path: Path) -> None:
    (tmp_path / "fine").write_text("yes")
    server = subprocess.Popen(
        [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory", str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert server.stdout is not None
        port = server.stdout.readline().split(" port ")[1].split()[0]

        def ask(path: str, at: str = port) -> subprocess.CompletedProcess[str]:
            command = [sys.executable, str(ROOT / "deploy" / "health.py"), "THE_PORT", path]
            return subprocess.run(command, env={"THE_PORT": at}, capture_output=True, text=True, check=False)

        assert ask("/fine").returncode == 0
        ill = ask("/nothing")
        assert (ill.returncode, ill.stdout[:14]) == (1, "/nothing: 404 ")
    finally:
        server.kill()
        server.wait()
    gone = ask("/fine")
    assert gone.returncode == 1
    assert "refused" in gone.stdout


@pytest.mark.parametrize("script", ["up.sh", "need-compose.sh"])
def test_without_containers_the_command_says_so_in_one_line(script: str, tmp_path: Path) -> None:
    for program in ("bash", "env", "dirname", "id"):
        found = shutil.which(program)
        assert found
        (tmp_path / program).symlink_to(found)
    done = subprocess.run(
        [str(ROOT / "deploy" / script)], env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert "there is no docker command" in line
    assert "make demo-cluster" in line

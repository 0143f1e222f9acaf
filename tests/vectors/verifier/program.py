"""Run the verifier's command line inside a test and read what it says."""

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from daicho_verify.cli import main
from tests.vectors.verifier.loopback import serve

HERE = Path(__file__).parent
POLICY = str(HERE / "policy.json")


@dataclass
class Run:
    """What one run gave back."""

    code: int
    out: str
    err: str

    @property
    def answer(self) -> dict[str, Any]:
        """The one JSON object of --json."""
        value: dict[str, Any] = json.loads(self.out)
        return value

    def ring(self, name: str) -> tuple[str, str]:
        """A ring's (verdict, why) from --json."""
        return next((ring["verdict"], ring["why"]) for ring in self.answer["rings"] if ring["name"] == name)


def run(*words: object) -> Run:
    """Run the command line."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        try:
            code = main([str(word) for word in words])
        except SystemExit as stop:  # argparse
            code = int(stop.code or 0)
    return Run(code, out.getvalue(), err.getvalue())


def write(path: Path, value: Any) -> Path:
    """Write a file: JSON, or text, or bytes as they are."""
    if isinstance(value, str):
        value = value.encode()
    path.write_bytes(value if isinstance(value, bytes) else json.dumps(value).encode())
    return path


@contextmanager
def node(chain: Any) -> Iterator[str]:
    """Serve a chain as a JSON-RPC node; gives its URL."""
    with serve(chain) as url:
        yield url


def audit(folder: object, tmp_path: Path, *more: object, policy: Any = None) -> Run:
    """Verify a log; `policy` takes the place of the committed one."""
    chosen = POLICY if policy is None else write(tmp_path / "policy.json", policy)
    return run("log", folder, "--policy", chosen, "--save", tmp_path / "saved", "--json", *more)


def kept(result: Run) -> dict[str, Any]:
    """The one contradiction that a run has saved."""
    [name] = result.answer["saved"]
    value: dict[str, Any] = json.loads(Path(name).read_text())
    return value


def spoil(path: Path, at: int) -> None:
    """Change one bit of a file."""
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)

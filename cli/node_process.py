"""`daicho node --read-only` as a process of its own, for as long as it is needed."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Final, Self

from chain.children import ChildError

STOP_SECONDS: Final = 30.0


class NodeProcess:
    """A read-only node over a chain's file, until the end of the `with`. ChildError when it does not start."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._process: subprocess.Popen[bytes] | None = None
        self.url = ""

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "cli.main", "node", str(self._file), "--port", "0", "--read-only"]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        line = self._process.stdout.readline() if self._process.stdout else b""
        if not line:
            self._process.wait(STOP_SECONDS)
            raise ChildError(f"no read-only node can be started over {self._file.name}")
        self.url = f"http://127.0.0.1:{json.loads(line)['port']}"
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(STOP_SECONDS)

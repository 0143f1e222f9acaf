"""A service with both stores and a billing system around it: what demo, loss test and measurements start with."""

import json
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from cli.commands.simulate_store import write_files
from cli.demo.service import DemoFailed, Person, RunningService
from cli.settings import Settings, child_environment
from simulator.faults import Faults
from simulator.world import World

COMPANY: Final = "daily-press"


class Shop:
    """`with Shop(settings, folder) as shop`: the stores are there; `shop.open()` starts the service."""

    def __init__(
        self, settings: Settings, folder: Path, *, speed: float = 1.0, faults: Faults | None = None, **more: str
    ) -> None:
        self.settings, self.folder = settings, folder
        self.world = World(speed=speed, faults=faults)
        self._running = self.world.running()
        self._more = {"DAICHO_BILLING_SETTLE_SECONDS": "3", **more}
        self.service: RunningService | None = None

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._running.__enter__()
        self._more = {**self.world.settings(COMPANY), **write_files(self.world, self.folder), **self._more}
        self.service = RunningService(self.settings, self.folder / "service.log", self._more, keep_log=True)
        base = f"{self.service.url}/v1/stores"
        self.world.notify(apple=f"{base}/apple/notifications", google=f"{base}/google/notifications")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.service is not None:
            self.service.stop()
        self._running.__exit__(kind, error, trace)

    def open(self) -> None:
        """Start the service, and admit the company at its first start."""
        service = self._service
        service.start()
        self.operator = Person(service.url, self.settings, "")
        self.operator.ask("POST", "/v1/companies", key="shop", json={"code": COMPANY, "name": "Daily Press K.K."})
        self.backend = Person(service.url, self.settings, COMPANY)

    def restart(self, *, kill: bool) -> None:
        """End the service, in order or as a power cut does, and start it again."""
        service = self._service
        if kill:
            service.kill()
        else:
            service.stop()
        service.start()

    def tie_out(self) -> dict[str, Any]:
        """`daicho tieout` on the service's files, with nothing explained by having been heard of just now."""
        command = [sys.executable, "-m", "cli.main", "tieout", "--data", str(self.settings.data_dir), "--json"]
        ran = subprocess.run(
            [*command, "--settling", "0"],
            env=child_environment(self._more),
            capture_output=True,
            text=True,
            check=False,
        )
        if ran.returncode not in {0, 1}:
            raise DemoFailed(f"daicho tieout: {ran.stderr.strip()}")
        found: dict[str, Any] = json.loads(ran.stdout)
        return found

    @property
    def url(self) -> str:
        """Where the service is."""
        return self._service.url

    @property
    def _service(self) -> RunningService:
        if self.service is None:
            raise RuntimeError("the shop is entered before it is opened")
        return self.service

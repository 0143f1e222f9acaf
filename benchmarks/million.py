"""`python -m benchmarks.million`: a service with a million entries: its memory, and how soon it listens again.

Fills a data folder through the public API (bulks of 1,000 trades), restarts the service on it, and prints resident
memory of its process and seconds until it listens and until it takes commands. `--keep DIR` keeps the folder for a
second look; a folder that is there already is filled up to the number asked for.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
import msgspec
import psutil

from cli.demo.service import Person, RunningService
from cli.development import prepare_secrets
from cli.settings import load_settings
from storage.folder import DataFolder

BULK = 1_000
LIMIT_MEGABYTES = 600
LIMIT_SECONDS = 5.0
OUT = Path("build/million.json")


def main() -> int:
    """Fill, restart, measure, print. Exit code 1 when a limit is exceeded."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--entries", type=int, default=1_000_000)
    parser.add_argument("--keep", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="daicho-million-") as scratch:
        result = measure(options.keep or Path(scratch) / "data", options.entries, Path(scratch) / "service.log")
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps(result, indent=1) + "\n")
    sys.stdout.write(json.dumps(result, indent=1) + "\n")
    within = result["resident_megabytes"] < LIMIT_MEGABYTES and result["listens_after_seconds"] < LIMIT_SECONDS
    return 0 if within else 1


def measure(folder: Path, entries: int, log_file: Path) -> dict[str, Any]:
    """Fill the folder to so many entries, then start on it once more and look."""
    settings = load_settings(data_dir=folder, port=0, log_level="warning")
    prepare_secrets(DataFolder(folder))
    with RunningService(settings, log_file) as service:
        service.start()
        started = time.monotonic()
        head = fill(service.url, settings, entries)
        filled = time.monotonic() - started
        megabytes_filling = resident(service)
    with RunningService(settings, log_file) as service:
        began = time.monotonic()
        service.start(until=listening)
        listens = time.monotonic() - began
        service.wait_ready()
        ready = time.monotonic() - began
        megabytes = resident(service)
    return {
        "entries": head,
        "filled_in_seconds": round(filled, 1),
        "resident_megabytes_after_filling": megabytes_filling,
        "resident_megabytes": megabytes,
        "limit_megabytes": LIMIT_MEGABYTES,
        "listens_after_seconds": round(listens, 2),
        "limit_seconds": LIMIT_SECONDS,
        "takes_commands_after_seconds": round(ready, 2),
        "conditions": f"CPython {sys.version.split()[0]}, {psutil.cpu_count()} cores, load {os.getloadavg()[0]:.1f}",
    }


def fill(url: str, settings: Any, entries: int) -> int:
    """Record trades in bulks until the log has so many entries; its head."""
    operator, clerk = Person(url, settings, ""), Person(url, settings, "aozora-foods")
    for code in ("aozora-foods", "cascade-paper"):
        operator.ask("POST", "/v1/companies", key=f"million-{code}", json={"code": code, "name": code})
    clerk.ask("POST", "/v1/users", json={"user": "clerk@aozora-foods.example"})
    head = last_position(operator)
    while head < entries:
        lines = [msgspec.json.encode(trade(f"M-{head}-{number}")) for number in range(min(BULK, entries - head))]
        response = clerk.http.post(
            "/v1/commands", params={"mode": "atomic", "sign": "batch"}, content=b"\n".join(lines) + b"\n",
            headers={"content-type": "application/x-ndjson", "idempotency-key": f"million-{head}"},
        )  # fmt: skip
        if response.status_code != httpx.codes.OK:
            raise RuntimeError(response.text[:500])
        answers = [msgspec.json.decode(line) for line in response.content.splitlines() if line]
        head = max(answer["position"] for answer in answers if "position" in answer)
    return head


def trade(reference: str) -> dict[str, Any]:
    """One trade of the filling."""
    return {
        "command": "RecordTrade", "seller": "aozora-foods", "buyer": "cascade-paper", "reference": reference,
        "amount": {"currency": "JPY", "units": "1250000"}, "traded_on": "2026-10-01", "due_on": "2026-11-01",
        "description": "matcha, ceremonial grade, 25 kg",
    }  # fmt: skip


def last_position(operator: Person) -> int:
    """The size of the published log."""
    head: int = operator.ask("GET", "/v1/book")["size"]
    return head


def resident(service: RunningService) -> int:
    """Resident memory of the service's own process, in megabytes."""
    return int(psutil.Process(service.pid).memory_info().rss // 1_000_000)


def listening(url: str) -> bool:
    """True once the service answers at all."""
    try:
        return httpx.get(f"{url}/healthz", timeout=2.0).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False


if __name__ == "__main__":
    sys.exit(main())

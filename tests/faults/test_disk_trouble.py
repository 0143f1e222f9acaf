"""A disk that is full or read-only: commands are answered 503, nothing is half done, and it recovers by itself."""

import json
import resource
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import psutil
import pytest

from tests.faults.auditor import Audit, rows_of
from tests.faults.harness import COMPANIES, Service, Zygote, running, trade, wait_for

pytest_plugins = ("tests.faults.fixtures",)

SELLER, BUYER = COMPANIES[:2]
SMALL_DISK_MIB = 48
pytestmark = pytest.mark.slow


@contextmanager
def file_size_limit(*processes: psutil.Process) -> Iterator[None]:
    """No file may be written beyond its first page: every write of these processes fails, as on a full disk."""
    before = [(process, process.rlimit(resource.RLIMIT_FSIZE)) for process in processes]
    try:
        for process, (_, hard) in before:
            process.rlimit(resource.RLIMIT_FSIZE, (4096, hard))
        yield
    finally:
        for process, limits in before:
            process.rlimit(resource.RLIMIT_FSIZE, limits)


@contextmanager
def nothing_left_on(folder: Path) -> Iterator[None]:
    """A file that takes all the space there is."""
    filler = folder / "filler"
    try:
        with filler.open("wb", buffering=0) as handle:
            for size in (1 << 20, 4096, 1):
                try:
                    while True:
                        handle.write(b"\0" * size)
                except OSError:
                    continue
        yield
    finally:
        filler.unlink()


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Nothing in the folder can be opened for writing, and nothing new be made in it."""
    files = [file for file in folder.iterdir() if file.suffix in {".db", ".db-wal", ".db-shm"}]
    modes = [(path, path.stat().st_mode) for path in (*files, folder)]
    try:
        for path, mode in modes:
            path.chmod(mode & ~0o222)
        yield
    finally:
        for path, mode in modes:
            path.chmod(mode)


def refuses_but_serves(service: Service, fault: str) -> None:
    """Commands are trouble, alone and in bulk; reads are answered; the store does not change."""
    before = rows_of(service.folder.ledger, "stored_events")

    named = {"code": f"during-{fault}", "name": "Newcomer"}
    unsigned = service.ask("POST", "/v1/companies", key=f"register-while-{fault}", json=named)
    signed = service.record(SELLER, BUYER, f"while-{fault}")
    for answer in (unsigned, signed):
        assert answer.status_code == httpx.codes.SERVICE_UNAVAILABLE, answer.text
        assert int(answer.headers["retry-after"]) > 0
    assert unsigned.json()["type"] == "urn:daicho:problem:storage-unavailable"
    # the signer writes an audit row before it signs: where its disk is full, too, it refuses first
    assert signed.json()["type"].removeprefix("urn:daicho:problem:") in {"storage-unavailable", "signer-unavailable"}
    wanted = [trade(SELLER, BUYER, f"{number}-while-{fault}") for number in range(3)]
    lines = "".join(json.dumps({"command": "RecordTrade", **body}) + "\n" for body in wanted)
    for mode in ("atomic", "continue"):
        bulk = service.ask(
            "POST", "/v1/commands", company=SELLER, key=f"bulk-while-{fault}", content=lines,
            params={"mode": mode, "sign": "batch"}, media="application/x-ndjson",
        )  # fmt: skip
        assert bulk.status_code == httpx.codes.SERVICE_UNAVAILABLE, bulk.text
    assert service.ask("GET", "/v1/trades", company=SELLER).status_code == httpx.codes.OK
    assert httpx.get(f"{service.url}/healthz").status_code == httpx.codes.OK
    assert rows_of(service.folder.ledger, "stored_events") == before


def recovers(service: Service, fault: str) -> None:
    """The same command is done as soon as it can be, without a restart; everything else catches up."""
    answers = []

    def done() -> bool:
        answers.append(service.record(SELLER, BUYER, f"while-{fault}"))
        return answers[-1].status_code == httpx.codes.CREATED

    wait_for(done, "the ledger to write again")
    assert "idempotency-hit" not in answers[-1].headers
    wait_for(service.is_ready, "the service to be ready again")
    Audit(service).run()


@pytest.mark.parametrize("whose", ["the service's", "everybody's"])
def test_on_a_full_disk_commands_are_trouble_and_the_service_recovers_alone(service: Service, whose: str) -> None:
    with running(service):
        service.sign_up([SELLER, BUYER])
        children = service.children().values() if whose == "everybody's" else ()
        with file_size_limit(service.process, *children):
            refuses_but_serves(service, "full")
        recovers(service, "full")
        assert service.starts == 1


def test_on_a_file_system_without_space_left_the_service_recovers_alone(zygote: Zygote, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SMALL_DISK_MIB}m", "none", str(disk)], capture_output=True, check=False
    )
    if made.returncode:
        pytest.skip("file systems cannot be mounted here; the limit on file sizes above stands for it")
    service = Service(zygote, disk / "data")
    service.log = tmp_path / "service.log"
    with ExitStack() as stack:
        stack.callback(subprocess.run, ["umount", "--lazy", str(disk)], check=True)
        stack.enter_context(running(service))
        service.sign_up([SELLER, BUYER])
        with nothing_left_on(disk):
            refuses_but_serves(service, "full")
        recovers(service, "full")


def test_a_database_that_became_read_only_is_trouble_until_it_can_be_written_again(service: Service) -> None:
    with running_without_privileges(service):
        service.sign_up([SELLER, BUYER])
        with read_only(service.folder.path):
            with file_size_limit(service.process):  # what is open stays writable: a failed write makes it open anew
                assert service.record(SELLER, BUYER, "while-read-only").status_code == 503
            refuses_but_serves(service, "read-only")
        recovers(service, "read-only")


def test_on_a_read_only_folder_the_service_refuses_to_start_in_one_line(service: Service) -> None:
    with running(service):
        service.sign_up([SELLER, BUYER])
        assert service.stop() == 0
    with read_only(service.folder.path):
        code, said = service.refuses_to_start(obeys_file_modes=True)
    assert (code, said.count("\n")) == (2, 1), said
    assert "read-only" in said or "readonly" in said or "Permission denied" in said
    with running(service):
        Audit(service).run()


@contextmanager
def running_without_privileges(service: Service) -> Iterator[None]:
    """The service obeys file modes, also when root runs the tests."""
    try:
        service.start(obeys_file_modes=True)
        service.wait_ready()
        yield
    finally:
        service.end()

"""`daicho check` as a command: beside a running service, for people and machines, with exit codes to rely on."""

import asyncio
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.faults.auditor import rows_of
from tests.faults.harness import COMPANIES, Service, Zygote, running, wait_for
from tests.faults.load import Load

pytest_plugins = ("tests.faults.fixtures",)
PARTS = {"entries", "tree", "checkpoints", "anchors", "contract", "projections"}


@pytest.fixture(scope="module")
def service(zygote: Zygote, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service under way."""
    made = Service(zygote, tmp_path_factory.mktemp("checked") / "data")
    with running(made):
        made.sign_up(COMPANIES)
        yield made


def checked(service: Service, folder: Path, *options: str) -> tuple[int, dict[str, Any], str]:
    """Exit code, the JSON told, and standard error."""
    code, out, err = service.daicho("check", "--json", "--data", str(folder), *options)
    return code, json.loads(out) if out else {}, err


def copy_of(service: Service, folder: Path) -> Path:
    """A copy made beside the running service, each file with SQLite's own backup, events last."""
    folder.mkdir()
    for name in ("anchors", "log", "read", "chain", "ledger"):
        with (
            closing(sqlite3.connect(service.folder.path / f"{name}.db")) as source,
            closing(sqlite3.connect(folder / f"{name}.db")) as target,
        ):
            source.backup(target)
    return folder


@pytest.fixture
def copy(service: Service, tmp_path: Path) -> Path:
    assert service.record(*COMPANIES[:2], f"C-{tmp_path.name}").status_code == 201
    return copy_of(service, tmp_path / "copy")


def test_beside_a_busy_service_everything_agrees_at_the_position_that_it_pins(service: Service) -> None:
    load = Load(service, COMPANIES, seed=1, name="busy")
    reports = []

    async def work() -> None:
        async with load.at_work(single=3, bulks=2):
            for options in (["--signatures"], [], ["--signatures", "--rpc", f"{service.url}/chain/rpc"]):
                await load.until(more=10)
                reports.append(await asyncio.to_thread(checked, service, service.folder.path, *options))

    asyncio.run(work())
    for code, report, err in reports:
        assert (code, report["differences"]) == (0, []), (report, err)
        assert report["agrees"] is True
        assert set(report["looked_at"]) | set(report["not_checked"]) == PARTS | {"signatures"}
    pinned = [report["pinned_position"] for _, report, _ in reports]
    assert pinned == sorted(set(pinned)), "the service went on meanwhile"
    assert [report["not_checked"] for _, report, _ in reports] == [
        {}, {"signatures": "not asked for (--signatures)"}, {},
    ]  # fmt: skip
    assert not load.given_up


def test_a_backup_made_beside_the_running_service_agrees(service: Service, copy: Path) -> None:
    code, report, err = checked(service, copy, "--signatures")
    assert (code, report["differences"]) == (0, []), err


def test_a_difference_is_exit_code_1_with_part_position_and_reason(service: Service, copy: Path) -> None:
    position, state = next(row for row in rows_of(copy / "ledger.db", "stored_events") if b'"units":"12000"' in row[1])
    with closing(sqlite3.connect(copy / "ledger.db")) as connection, connection:
        forged = state.replace(b'"units":"12000"', b'"units":"12001"')
        connection.execute("UPDATE stored_events SET state=? WHERE rowid=?", (forged, position))
    code, report, _ = checked(service, copy)
    assert (code, report["agrees"]) == (1, False)
    first = report["first_difference"]
    assert (first["part"], first["position"]) == ("tree", position)
    assert first in report["differences"]
    assert {difference["part"] for difference in report["differences"]} >= {"tree", "checkpoints", "projections"}
    code, out, seen = service.daicho("check", "--data", str(copy))
    assert (code, out) == (1, "")
    assert f"differs      tree: position {position}: " in seen
    assert f"The first difference is at position {position}." in seen


def test_a_person_sees_what_agrees_and_what_was_not_looked_at(service: Service, copy: Path) -> None:
    code, out, seen = service.daicho("check", "--data", str(copy), "--rpc", "none")
    assert (code, out) == (0, "")
    lines = [" ".join(line.split()) for line in seen.splitlines()]
    for part in PARTS - {"contract", "projections"}:
        assert any(line.startswith(f"agrees {part} (") for line in lines), part
    assert any(line.startswith("not checked signatures: not asked for") for line in lines)
    assert any(line.startswith("not checked contract: ") for line in lines)
    assert any(line.startswith("Everything that was checked agrees, up to position ") for line in lines)


def test_without_a_ledger_there_is_nothing_to_check_exit_code_2(service: Service, tmp_path: Path) -> None:
    for folder in (tmp_path / "missing", tmp_path):
        code, report, err = checked(service, folder)
        assert (code, report) == (2, {})
        assert err.startswith("daicho: there is no ledger in ")
        assert err.count("\n") == 1
        assert not (folder / "ledger.db").exists(), "looking makes none"


def test_a_ledger_that_cannot_be_read_is_exit_code_2_in_one_line(service: Service, copy: Path) -> None:
    (copy / "ledger.db").write_bytes(b"\0" * 8192)
    code, report, err = checked(service, copy)
    assert (code, report) == (2, {})
    assert err.startswith("daicho: ")
    assert err.count("\n") == 1


def test_a_node_that_does_not_answer_or_serves_another_chain_leaves_the_contract_unchecked(
    service: Service, copy: Path
) -> None:
    code, report, _ = checked(service, copy, "--rpc", "http://127.0.0.1:9")
    assert (code, report["differences"]) == (0, [])
    assert "does not answer" in report["not_checked"]["contract"]


def test_a_contract_ahead_of_a_restored_ledger_is_a_difference(service: Service, tmp_path: Path) -> None:
    older = copy_of(service, tmp_path / "older")
    assert service.record(*COMPANIES[:2], "R-after-the-backup").status_code == 201
    service.ask("POST", "/v1/anchors:now")
    ahead = len(rows_of(service.folder.ledger, "stored_events"))

    def anchored() -> bool:
        final = service.ask("GET", "/v1/anchors?state=final&limit=1").json()["items"]
        return bool(final) and final[0]["size"] >= ahead

    wait_for(anchored, "the anchor to be final")
    code, report, _ = checked(service, older, "--rpc", f"{service.url}/chain/rpc")
    assert code == 1
    assert {"part": "contract", "position": ahead}.items() <= report["first_difference"].items()

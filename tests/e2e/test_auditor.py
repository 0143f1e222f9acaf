"""An auditor's day: evidence checked with the service stopped, the whole log read over HTTP, promises held to.

What the auditor brings along is a policy file and `daicho-verify`; the operator's word is never taken.
"""

import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cli.node_process import NodeProcess
from tests.faults.auditor import rows_of
from tests.faults.harness import COMPANIES, ROOT, Service, Zygote, running
from tests.faults.scene import done, play

pytest_plugins = ("tests.faults.fixtures",)
pytestmark = pytest.mark.slow
ALL_RINGS = ("entry", "author", "inclusion", "log-signature", "chain", "time")


@dataclass
class Auditor:
    """Somebody with a folder of files and the verifier."""

    folder: Path
    policy: Path

    def runs(self, *words: str) -> tuple[int, dict[str, Any]]:
        """`daicho-verify …`: exit code and what it tells."""
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "verifier")}
        command = [sys.executable, "-m", "daicho_verify", *words]
        command += ["--policy", str(self.policy), "--save", str(self.folder), "--json"]
        result = subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True, timeout=120, check=False
        )
        assert not result.stderr.count("Traceback"), result.stderr
        return result.returncode, json.loads(result.stdout)

    def file(self, name: str, content: str) -> str:
        (self.folder / name).write_text(content)
        return str(self.folder / name)


@pytest.fixture(scope="module")
def service(zygote: Zygote, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A ledger in which something of everything has happened, served."""
    made = Service(zygote, tmp_path_factory.mktemp("audited") / "data")
    with running(made):
        play(made)
        yield made


def policy_of(service: Service, folder: Path, *more: str) -> Path:
    """What an auditor writes down once: which log, which keys, which contract, and which rings are asked for."""
    book = service.ask("GET", "/v1/book").json()
    chain = ["--chain-id", str(book["chain_id"]), "--contract", book["contract"]]
    keys = ["--log-key", book["log_key"], "--promise-key", book["promise_key"]]
    command = [sys.executable, "-m", "daicho_verify", "policy", "--origin", book["origin"], *keys, *chain, *more]
    made = subprocess.run(
        [*command, "--out", str(folder / "policy.json")],
        env={**os.environ, "PYTHONPATH": str(ROOT / "verifier")}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    return folder / "policy.json"


@pytest.fixture(scope="module")
def strict_policy(service: Service, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every ring is asked for."""
    asked = (word for ring in ALL_RINGS for word in ("--require", ring))
    return policy_of(service, tmp_path_factory.mktemp("policy"), *asked)


@pytest.fixture
def auditor(strict_policy: Path, tmp_path: Path) -> Auditor:
    return Auditor(tmp_path, strict_policy)


# -- while the service runs --------------------------------------------------------------------------------------------


def test_the_whole_log_with_its_entries_is_read_and_agrees_and_may_only_grow(
    service: Service, auditor: Auditor
) -> None:
    token = auditor.file("token", service.token())
    heads = str(auditor.folder / "heads.json")
    words = ["log", f"{service.url}/log", "--entries", "--token-file", token, "--heads", heads]
    words += ["--rpc", f"{service.url}/chain/rpc"]
    code, first = auditor.runs(*words)
    assert (code, {ring["verdict"] for ring in first["rings"] if ring["required"]}) == (0, {"ok"}), first
    done(service.record(*COMPANIES[:2], f"R-{auditor.folder.name}"))
    service.ask("POST", "/v1/anchors:now")
    code, second = auditor.runs(*words)
    assert code == 0, second
    assert any(ring["name"] == "head" and ring["verdict"] == "ok" for ring in second["rings"]), second


def test_without_the_right_token_the_entries_of_the_log_are_closed_and_its_tiles_are_not(
    service: Service, auditor: Auditor
) -> None:
    token = auditor.file("token", service.token(COMPANIES[0]))
    policy = policy_of(service, auditor.folder)
    plain = Auditor(auditor.folder, policy)
    assert plain.runs("log", f"{service.url}/log")[0] == 0
    code, told = plain.runs("log", f"{service.url}/log", "--entries", "--token-file", token)
    assert code == 2, told


def test_a_promise_is_kept_in_the_log_and_one_about_another_leaf_convicts_its_signer(
    service: Service, auditor: Auditor
) -> None:
    answer = done(service.record(*COMPANIES[:2], f"P-{auditor.folder.name}"))
    promise = auditor.file("promise.txt", answer["promise"])
    assert auditor.runs("promise", promise)[0] == 0, "signed by the promise key"

    def kept() -> tuple[int, dict[str, Any]]:
        return auditor.runs("promise", promise, "--log", f"{service.url}/log")

    code, told = kept()
    while code == 2:  # not due yet, and not in the head shown
        assert "not due" in json.dumps(told), told
        code, told = kept()
    assert code == 0, told
    forged = answer["promise"].replace(answer["entries"][0]["leaf_hash"], base64.b64encode(bytes(32)).decode())
    code, told = auditor.runs("promise", auditor.file("forged.txt", forged), "--log", f"{service.url}/log")
    assert code == 1, told


# -- after it was stopped: nobody is asked any more --------------------------------------------------------------------


@pytest.fixture(scope="module")
def left_behind(
    service: Service, strict_policy: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Path, str]]:
    """Evidence of one entry of each type, and the auditor's own node; the service that made them has ended."""
    folder = tmp_path_factory.mktemp("evidence")
    for position, kind in first_of_each_type(service).items():
        evidence = done(service.ask("GET", f"/v1/entries/{position}/evidence"))
        (folder / f"{kind}.json").write_text(json.dumps(evidence))
    assert service.stop() == 0
    (folder / "chain.db").write_bytes(service.folder.chain.read_bytes())
    with NodeProcess(folder / "chain.db") as node:
        yield folder, node.url


def first_of_each_type(service: Service) -> dict[int, str]:
    """Position and type of the first entry of each type."""
    found: dict[str, int] = {}
    for position, state in rows_of(service.folder.ledger, "stored_events"):
        entry = json.loads(state)
        batched = "batch" in (entry["data"].get("signature") or {})
        found.setdefault(entry["type"] + ("InBatch" if batched else ""), position)
    return {position: kind for kind, position in found.items()}


def test_evidence_of_every_type_of_entry_holds_on_the_auditors_own_node(
    auditor: Auditor, left_behind: tuple[Path, str]
) -> None:
    folder, node = left_behind
    files = sorted(folder.glob("*.json"))
    assert {"TradeRecorded.json", "TradeRecordedInBatch.json", "WalletKeyRotated.json"} <= {file.name for file in files}
    assert len(files) >= 14
    for file in files:
        code, told = auditor.runs(str(file), "--rpc", node)
        rings = {ring["name"]: ring["verdict"] for ring in told["rings"]}
        assert (code, [rings[name] for name in ALL_RINGS]) == (0, ["ok"] * len(ALL_RINGS)), (file.name, told)


def test_a_ring_that_the_policy_asks_for_and_nobody_can_check_is_exit_code_2(
    auditor: Auditor, left_behind: tuple[Path, str]
) -> None:
    code, told = auditor.runs(str(left_behind[0] / "TradeRecorded.json"))
    assert (code, told["answer"]) == (2, "unchecked")
    assert "chain" in told["why"]


def forged_amount(evidence: dict[str, Any]) -> None:
    entry = base64.b64decode(evidence["entry"]["bytes"])
    forged = entry.replace(b'"units":"12000"', b'"units":"12001"')
    assert forged != entry
    evidence["entry"]["bytes"] = base64.b64encode(forged).decode()


def swapped_hash(evidence: dict[str, Any]) -> None:
    evidence["inclusion"][0], evidence["inclusion"][1] = evidence["inclusion"][1], evidence["inclusion"][0]


def another_transaction(evidence: dict[str, Any]) -> None:
    evidence["anchor"]["tx_hash"] = "0x" + "ab" * 32


def another_root_signed_by_nobody(evidence: dict[str, Any]) -> None:
    lines = evidence["checkpoint"].split("\n")
    lines[2] = base64.b64encode(bytes(32)).decode()
    evidence["checkpoint"] = "\n".join(lines)


@pytest.mark.parametrize("forge", [forged_amount, swapped_hash, another_transaction, another_root_signed_by_nobody])
def test_tampered_evidence_is_refused_with_exit_code_1(
    auditor: Auditor, left_behind: tuple[Path, str], forge: Any
) -> None:
    folder, node = left_behind
    evidence = json.loads((folder / "TradeRecorded.json").read_text())
    forge(evidence)
    code, told = auditor.runs(auditor.file("forged.json", json.dumps(evidence)), "--rpc", node)
    assert (code, told["answer"]) == (1, "disagrees"), told

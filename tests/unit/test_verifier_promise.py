"""Promises: who signed them, and whether the log kept them."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from daicho_verify.errors import MalformedError
from daicho_verify.policy import parse_policy
from daicho_verify.promise import parse_promise, verify_promise
from daicho_verify.report import Report
from daicho_verify.source import FolderSource
from tests.vectors.verifier import story
from tests.vectors.verifier.attacks import fork
from tests.vectors.verifier.oracle import b64
from tests.vectors.verifier.program import POLICY, run, write

BOOK = story.story()
DUE = datetime(2026, 11, 22, 5, 10, tzinfo=UTC)


def judge(note: str, folder: Path | None, now: datetime = DUE, **policy: Any) -> Report:
    chosen = parse_policy(json.dumps(BOOK.policy(**policy)).encode())
    return verify_promise(
        parse_promise(note.encode()), chosen, None if folder is None else FolderSource(str(folder)), now
    )


def test_a_kept_promise_agrees(tmp_path: Path) -> None:
    BOOK.write_log(tmp_path / "log")
    report = judge(BOOK.promise([7, 8, 28]), tmp_path / "log")
    assert (report.exit_code, report.answer) == (0, "agrees")
    assert report.rings[2].why == "all 3 promised leaves are at their positions"


def test_a_promise_alone_proves_its_signature_only(tmp_path: Path) -> None:
    report = judge(BOOK.promise([7]), None)
    assert (report.exit_code, report.answer) == (0, "qualified")
    assert "no log was named" in report.rings[1].why


def test_a_promise_that_is_not_due_yet_stays_open_until_the_moment(tmp_path: Path) -> None:
    BOOK.write_log(tmp_path / "log", 20)
    report = judge(BOOK.promise([20, 21]), tmp_path / "log", DUE)
    assert report.exit_code == 2
    assert "position 21 is not in the log shown (size 20), and is not due before" in report.rings[2].why


@pytest.mark.parametrize("size", [20, 0])
def test_a_promise_that_is_overdue_is_broken_and_both_notes_are_kept(size: int, tmp_path: Path) -> None:
    BOOK.write_log(tmp_path / "log", size)
    report = judge(BOOK.promise([20, 21]), tmp_path / "log", DUE + timedelta(microseconds=1))
    assert report.exit_code == 1
    report.save_proofs(str(tmp_path / "saved"))
    kept = json.loads(Path(report.saved[0]).read_text())
    assert kept["kind"] == "broken promise"
    assert kept["first"]["promise"] == BOOK.promise([20, 21])
    assert kept["second"]["checkpoint"] == (tmp_path / "log/checkpoint").read_text()


def test_another_leaf_at_a_promised_position_is_broken_at_any_time(tmp_path: Path) -> None:
    fork().write_log(tmp_path / "log")
    report = judge(BOOK.promise([27, 28]), tmp_path / "log", DUE - timedelta(days=1))
    assert report.exit_code == 1
    assert "broken: the log has another leaf at position 28" in report.rings[2].why


def test_a_promise_of_another_log_or_key_is_refused(tmp_path: Path) -> None:
    other = story.recorded(origin="daicho.invalid/other")
    assert "a promise of daicho.invalid/other" in judge(other.promise([7]), None).rings[0].why
    impostor = story.recorded(keys="impostor")
    BOOK.write_log(tmp_path / "log")
    report = judge(impostor.promise([7]), tmp_path / "log")
    assert "no line by the policy's key" in report.rings[0].why
    assert report.rings[2].why == "the promise and the log's checkpoint are not both established"


def test_without_a_key_or_a_policy_a_promise_is_not_checked(tmp_path: Path) -> None:
    report = judge(BOOK.promise([7]), None, promise_key=None)
    assert (report.exit_code, report.rings[0].why) == (2, "the policy names no promise key")
    file = write(tmp_path / "promise.txt", BOOK.promise([7]))
    result = run("promise", file, "--json")
    assert (result.code, result.ring("promise")[0]) == (2, "not checked")


def test_tiles_that_do_not_hash_to_the_checkpoint_are_refused(tmp_path: Path) -> None:
    fork().write_log(tmp_path / "log")
    (tmp_path / "log/checkpoint").write_text(BOOK.checkpoint())
    assert "tiles do not hash to its signed root" in judge(BOOK.promise([7]), tmp_path / "log").rings[2].why


def test_a_leaf_tile_that_contradicts_the_tiles_above_it_is_refused(tmp_path: Path) -> None:
    book = story.opened()
    for n in range(300):
        book.register(f"company-{n}")
    book.write_log(tmp_path / "log")
    tile = tmp_path / "log/tile/0/000"
    tile.write_bytes(bytes(32) + tile.read_bytes()[32:])
    assert "the tiles around position 1 do not hash" in judge(book.promise([1]), tmp_path / "log").rings[2].why


def test_the_command_line_checks_a_promise_at_a_log(tmp_path: Path) -> None:
    BOOK.write_log(tmp_path / "log")
    file = write(tmp_path / "promise.txt", BOOK.promise([7, 8]))
    result = run("promise", file, "--policy", POLICY, "--log", tmp_path / "log")
    assert result.code == 0
    assert "AGREES: every ring was checked and agrees" in result.out


GOOD = BOOK.promise([7, 8])


@pytest.mark.parametrize(
    ("note", "rule"),
    [
        (b"\xff", "UTF-8"),
        (GOOD.replace("/promise\npub", "/other\npub").encode(), "must hold '<origin>/promise'"),
        (BOOK.promise([]).encode(), "must hold '<origin>/promise'"),
        (BOOK.promise([7], "tomorrow").encode(), "UTC time with six decimals"),
        (BOOK.promise([7], "2026-13-22T05:10:00.000000Z").encode(), "UTC time with six decimals"),
        (BOOK.promise([], leaves={8: bytes(32), 7: bytes(32)}).encode(), "ascending"),
        (BOOK.promise([], leaves={8: bytes(31)}).encode(), "32 bytes, has 31"),
        (BOOK.promise([], leaves={2**63: bytes(32)}).encode(), "below 2^63"),
        (BOOK.promise([], leaves={0: bytes(32)}).encode(), "below 2^63"),
        (GOOD.replace(b64(story.story().leaves[6]), "=").encode(), "base64"),
    ],
)
def test_a_promise_of_another_form_is_refused(note: bytes, rule: str) -> None:
    with pytest.raises(MalformedError) as refusal:
        parse_promise(note)
    assert rule in str(refusal.value)

"""Remembered heads: what was seen once must be extended for ever after, and a contradiction is kept as evidence."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.vectors.verifier import story
from tests.vectors.verifier.attacks import fork
from tests.vectors.verifier.oracle import note_key
from tests.vectors.verifier.program import POLICY, Run, run, write

BOOK = story.story()


def remember(path: Path, note: str, origin: str = BOOK.origin) -> Path:
    return write(path, {"format": "daicho-heads/1", "heads": {origin: note}})


def show(tmp_path: Path, evidence: Any, *more: object, heads: str = "heads.json") -> Run:
    file = write(tmp_path / "evidence.json", evidence)
    words = (file, "--policy", POLICY, "--heads", tmp_path / heads, "--save", tmp_path / "saved", "--json", *more)
    return run(*words)


def seen_size(tmp_path: Path) -> int:
    heads = json.loads((tmp_path / "heads.json").read_text())["heads"]
    return int(heads[BOOK.origin].split("\n")[1])


def test_the_first_head_is_remembered_and_the_same_again_agrees(tmp_path: Path) -> None:
    first = show(tmp_path, BOOK.evidence(8))
    assert "remembered from now on" in first.ring("head")[1]
    assert seen_size(tmp_path) == 28
    assert "the same head as remembered (size 28)" in show(tmp_path, BOOK.evidence(9)).ring("head")[1]


def test_heads_may_be_named_by_their_folder(tmp_path: Path) -> None:
    show(tmp_path, BOOK.evidence(8), heads=".")
    assert seen_size(tmp_path) == 28


def test_heads_of_several_logs_live_side_by_side(tmp_path: Path) -> None:
    other = story.recorded(origin="daicho.invalid/other")
    remember(tmp_path / "heads.json", other.checkpoint(), other.origin)
    show(tmp_path, BOOK.evidence(8))
    assert set(json.loads((tmp_path / "heads.json").read_text())["heads"]) == {BOOK.origin, other.origin}


def test_a_larger_head_is_proven_by_the_anchor_in_the_evidence(tmp_path: Path) -> None:
    remember(tmp_path / "heads.json", BOOK.checkpoint(20))
    result = show(tmp_path, BOOK.evidence(8, anchored=20))
    assert result.ring("head") == ("ok", "extends the remembered head of size 20 (now 28)")
    assert seen_size(tmp_path) == 28


def test_a_larger_head_is_proven_by_the_tiles_of_the_log(tmp_path: Path) -> None:
    BOOK.write_log(tmp_path / "log")
    remember(tmp_path / "heads.json", BOOK.checkpoint(19))
    result = show(tmp_path, BOOK.evidence(8, anchored=20), "--log", tmp_path / "log")
    assert result.ring("head") == ("ok", "extends the remembered head of size 19 (now 28)")


def test_a_larger_head_without_any_proof_stays_open_and_is_not_remembered(tmp_path: Path) -> None:
    remember(tmp_path / "heads.json", BOOK.checkpoint(19))
    spoiled = BOOK.evidence(8, anchored=19)
    spoiled["anchor"]["consistency"] = []
    for evidence in (BOOK.evidence(8), BOOK.evidence(8, anchored=20), spoiled):
        verdict, why = show(tmp_path, evidence).ring("head")
        assert verdict == "not checked"
        assert "remembered is size 19, shown is 28: no proof between them" in why
        assert seen_size(tmp_path) == 19


def test_an_older_head_is_proven_a_prefix_by_tiles_and_the_larger_stays_remembered(tmp_path: Path) -> None:
    BOOK.write_log(tmp_path / "log")
    remember(tmp_path / "heads.json", BOOK.checkpoint())
    evidence = BOOK.evidence(8, size=20)
    assert show(tmp_path, evidence).ring("head")[0] == "not checked"
    verdict, why = show(tmp_path, evidence, "--log", tmp_path / "log").ring("head")
    assert (verdict, why) == ("ok", "an older head (size 20), proven a prefix of the remembered one (size 28)")
    assert seen_size(tmp_path) == 28


def saved(tmp_path: Path, result: Run) -> dict[str, Any]:
    [name] = result.answer["saved"]
    value: dict[str, Any] = json.loads(Path(name).read_text())
    assert Path(name).parent == tmp_path / "saved"
    return value


def test_two_heads_of_equal_size_disagree_and_both_are_kept(tmp_path: Path) -> None:
    other = fork()
    remember(tmp_path / "heads.json", other.checkpoint())
    result = show(tmp_path, BOOK.evidence(8))
    assert result.code == 1
    kept = saved(tmp_path, result)
    assert kept["format"] == "daicho-contradiction/1"
    assert (kept["first"]["checkpoint"], kept["second"]["checkpoint"]) == (other.checkpoint(), BOOK.checkpoint())
    assert json.loads((tmp_path / "heads.json").read_text())["heads"][BOOK.origin] == other.checkpoint()


def test_a_history_that_was_rewritten_below_the_new_head_disagrees(tmp_path: Path) -> None:
    other, longer = fork(), story.story()
    longer.register("midori")
    longer.write_log(tmp_path / "log")
    remember(tmp_path / "heads.json", other.checkpoint())
    for more in ((), ("--log", tmp_path / "log")):
        evidence = longer.evidence(8, anchored=None if more else 28)
        result = show(tmp_path, evidence, *more)
        assert result.code == 1
        assert "belong to different histories" in result.ring("head")[1]
        assert saved(tmp_path, result)["kind"] == "two histories"


def test_tiles_that_do_not_hash_to_the_signed_root_prove_nothing(tmp_path: Path) -> None:
    fork().write_log(tmp_path / "log")
    remember(tmp_path / "heads.json", BOOK.checkpoint(19))
    verdict, why = show(tmp_path, BOOK.evidence(8), "--log", tmp_path / "log").ring("head")
    assert verdict == "not checked"
    assert "tiles do not hash to the root of size 28" in why


def test_a_head_without_the_logs_signature_is_not_remembered(tmp_path: Path) -> None:
    impostor = note_key("impostor")
    result = show(tmp_path, BOOK.evidence(8, key=impostor))
    assert result.ring("head") == ("not checked", "the checkpoint's own signature is not established")
    assert not (tmp_path / "heads.json").exists()


def test_an_empty_head_is_a_prefix_of_every_other(tmp_path: Path) -> None:
    remember(tmp_path / "heads.json", BOOK.checkpoint(0))
    assert "remembered from now on" in show(tmp_path, BOOK.evidence(8)).ring("head")[1]
    BOOK.write_log(tmp_path / "log", 0)
    result = run("log", tmp_path / "log", "--policy", POLICY, "--heads", tmp_path / "heads.json", "--json")
    assert "is a prefix of the remembered one (size 28)" in result.ring("head")[1]
    assert seen_size(tmp_path) == 28


def test_a_policy_may_ask_for_remembered_heads(tmp_path: Path) -> None:
    file = write(tmp_path / "evidence.json", BOOK.evidence(8))
    policy = write(tmp_path / "policy.json", BOOK.policy(require=["head"]))
    result = run(file, "--policy", policy, "--json")
    assert (result.code, result.ring("head")[0]) == (2, "not checked")


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "one whole JSON text"),
        ({"format": "daicho-heads/2", "heads": {}}, "must be daicho-heads/1"),
        ({"format": "daicho-heads/1", "heads": []}, "must be an object"),
        ({"format": "daicho-heads/1", "heads": {"x": 5}}, "must be a string"),
        ({"format": "daicho-heads/1", "heads": {"x": BOOK.checkpoint()}}, "a checkpoint of another log"),
    ],
)
def test_a_damaged_heads_file_is_never_taken_for_a_fresh_one(content: Any, why: str, tmp_path: Path) -> None:
    damaged = write(tmp_path / "heads.json", content).read_bytes()
    result = show(tmp_path, BOOK.evidence(8))
    assert result.code == 2
    assert why in result.ring("head")[1]
    assert (tmp_path / "heads.json").read_bytes() == damaged


def test_a_heads_file_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    verdict, why = show(tmp_path, BOOK.evidence(8), heads="file/below/heads.json").ring("head")
    assert verdict == "not checked"
    assert "cannot be written" in why

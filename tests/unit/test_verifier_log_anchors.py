"""A log against its anchors on the chain, and against the heads that were seen before."""

from pathlib import Path
from typing import Any

import pytest

from tests.vectors.verifier import story
from tests.vectors.verifier.attacks import fork
from tests.vectors.verifier.loopback import Chain
from tests.vectors.verifier.oracle import seed
from tests.vectors.verifier.program import HERE, Run, audit, kept, node, run, spoil, write

BOOK = story.story()
LONG = story.long_book(700)


def anchored(book: Any, served: Any, tmp_path: Path, *more: object, **policy: Any) -> Run:
    with node(served) as url:
        return audit(tmp_path / "log", tmp_path, "--rpc", url, *more, policy=book.policy(**policy))


def test_every_anchor_agrees_with_the_tree_at_its_size(tmp_path: Path) -> None:
    LONG.write_log(tmp_path / "log")
    for more in ((), ("--sample", 2)):
        result = anchored(LONG, Chain(LONG, [3, 256, 600]), tmp_path, *more, require=["chain"])
        assert result.ring("chain")[0] == "ok"
        assert "3 anchors agree, up to size 600 of 700; local chain" in result.ring("chain")[1]
        assert result.answer["answer"] == "qualified"


def test_an_independent_chain_is_no_reservation(tmp_path: Path) -> None:
    LONG.write_log(tmp_path / "log", witnesses=["kita"])
    chain = LONG.policy()["chain"] | {"independent": True}
    result = anchored(LONG, Chain(LONG, [3]), tmp_path, chain=chain, quorum=1)
    assert (result.code, result.answer["answer"]) == (0, "agrees")


def test_a_node_that_limits_its_ranges_is_asked_in_halves(tmp_path: Path) -> None:
    LONG.write_log(tmp_path / "log")
    chain = Chain(LONG, [3, 256, 600])
    chain.refuse_ranges_above = 2
    assert anchored(LONG, chain, tmp_path).ring("chain")[0] == "ok"
    assert chain.calls.count("eth_getLogs") > 3
    chain.refuse_ranges_above = -1
    assert "too many blocks" in anchored(LONG, chain, tmp_path).ring("chain")[1]


def test_other_events_and_other_logs_are_passed_over(tmp_path: Path) -> None:
    LONG.write_log(tmp_path / "log")
    chain = Chain(LONG, [600])
    stranger = chain.logs[0] | {"topics": [chain.logs[0]["topics"][0], "0x" + seed("x").hex(), f"0x{5:064x}"]}
    chain.logs += [stranger, chain.logs[0] | {"topics": []}]
    assert "1 anchors agree" in anchored(LONG, chain, tmp_path).ring("chain")[1]


@pytest.mark.parametrize(
    ("part", "value", "why"),
    [
        ("data", "0x" + "11" * 32 + "00" * 32, "has the root 1111"),
        ("data", None, "follows size 1, not 0: a gap"),
    ],
)
def test_an_anchor_that_contradicts_the_log_is_kept_with_the_checkpoint(
    part: str, value: str | None, why: str, tmp_path: Path
) -> None:
    LONG.write_log(tmp_path / "log")
    chain = Chain(LONG, [600])
    chain.logs[0][part] = value or chain.logs[0][part][:66] + f"{1:064x}"
    for more in ((), ("--sample", 2)):
        result = anchored(LONG, chain, tmp_path, *more)
        assert result.code == 1
        assert why in result.ring("chain")[1]
        assert kept(result)["second"]["anchored"]["size"] == 600
        assert kept(result)["first"]["checkpoint"] == (tmp_path / "log/checkpoint").read_text()


def test_a_log_smaller_than_its_anchor_has_shrunk(tmp_path: Path) -> None:
    LONG.write_log(tmp_path / "log", 500)
    result = anchored(LONG, Chain(LONG, [300, 600]), tmp_path)
    assert result.code == 1
    assert "is larger than the log shown (500): shrunken" in result.ring("chain")[1]


def test_a_sample_whose_tiles_do_not_hold_together_proves_no_anchor(tmp_path: Path) -> None:
    LONG.write_log(tmp_path / "log")
    spoil(tmp_path / "log/tile/0/000", 0)  # the root comes from level 1, the anchor's from this tile
    chain = Chain(LONG, [3])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("random.SystemRandom.sample", lambda *_: [650])
        result = anchored(LONG, chain, tmp_path, "--sample", 1)
    assert result.ring("chain") == ("not checked", "the tiles around size 3 do not hash to the signed root")


def test_anchors_that_cannot_be_read_or_compared_leave_the_ring_open(tmp_path: Path) -> None:
    LONG.write_log(tmp_path / "log")
    chain = Chain(LONG, [3])
    chain.chain_id = "0x1"
    assert "your node is on chain 1" in anchored(LONG, chain, tmp_path).ring("chain")[1]
    assert "no anchor of this log yet" in anchored(LONG, Chain(LONG, []), tmp_path).ring("chain")[1]
    chain = Chain(LONG, [3])
    chain.logs = {}  # type: ignore[assignment]
    assert "logs are not a list" in anchored(LONG, chain, tmp_path).ring("chain")[1]
    assert "names no chain" in anchored(LONG, Chain(LONG, [3]), tmp_path, chain=None).ring("chain")[1]
    assert "no node of your own" in audit(tmp_path / "log", tmp_path).ring("chain")[1]
    other = fork().policy(log_key=story.story(keys="other").policy()["log_key"])
    with node(Chain(LONG, [3])) as url:
        result = audit(tmp_path / "log", tmp_path, "--rpc", url, policy=other)
    assert result.ring("chain") == ("not checked", "the tree and its signature are not established")
    assert result.ring("log-signature")[0] == "failed"


def test_without_a_policy_only_the_tree_is_checked(tmp_path: Path) -> None:
    LONG.write_log(tmp_path / "log")
    result = run("log", tmp_path / "log", "--json", "--heads", tmp_path / "heads.json")
    assert result.code == 2
    assert result.ring("tree")[0] == "ok"
    assert "no policy was given" in result.ring("log-signature")[1]
    assert "no policy was given" in result.ring("chain")[1]
    assert "not established" in result.ring("head")[1]


def seen(tmp_path: Path, note: str) -> Path:
    return write(tmp_path / "heads.json", {"format": "daicho-heads/1", "heads": {BOOK.origin: note}})


def test_a_log_extends_the_head_that_was_seen(tmp_path: Path) -> None:
    LONG.write_log(tmp_path / "log")
    heads = tmp_path / "heads.json"
    assert "remembered from now on" in audit(tmp_path / "log", tmp_path, "--heads", heads).ring("head")[1]
    assert "the same head" in audit(tmp_path / "log", tmp_path, "--heads", heads).ring("head")[1]
    seen(tmp_path, LONG.checkpoint(300))
    result = audit(tmp_path / "log", tmp_path, "--heads", heads)
    assert result.ring("head") == ("ok", "extends the remembered head of size 300 (now 700)")


def test_a_log_with_another_history_than_the_head_that_was_seen_disagrees(tmp_path: Path) -> None:
    LONG.write_log(tmp_path / "log")
    result = audit(tmp_path / "log", tmp_path, "--heads", seen(tmp_path, BOOK.checkpoint(28)))
    assert result.code == 1
    assert kept(result)["first"]["checkpoint"] == BOOK.checkpoint(28)


def test_a_shrunken_log_disagrees_and_both_heads_are_kept(tmp_path: Path) -> None:
    heads = write(tmp_path / "heads.json", (HERE / "heads/shrunken-log.json").read_bytes())
    result = audit(HERE / "shrunken-log", tmp_path, "--heads", heads)
    assert result.code == 1
    assert "shrunken: the log shows size 20, but was seen with 28" in result.ring("head")[1]
    assert kept(result)["second"]["checkpoint"] == (HERE / "shrunken-log/checkpoint").read_text()


def test_a_shrunken_log_with_tiles_of_another_history_disagrees_too(tmp_path: Path) -> None:
    fork().write_log(tmp_path / "log")
    fork().write_log(tmp_path / "log", 20)
    result = audit(tmp_path / "log", tmp_path, "--heads", seen(tmp_path, BOOK.checkpoint()))
    assert (result.code, result.ring("head")[0]) == (1, "failed")


def test_a_stale_checkpoint_beside_the_tiles_that_were_seen_is_an_older_head(tmp_path: Path) -> None:
    LONG.write_log(tmp_path / "log")
    LONG.write_log(tmp_path / "log", 300)
    result = audit(tmp_path / "log", tmp_path, "--heads", seen(tmp_path, LONG.checkpoint()))
    assert "an older head (size 300), proven a prefix" in result.ring("head")[1]


def test_a_policy_may_ask_for_remembered_heads_of_a_log(tmp_path: Path) -> None:
    LONG.write_log(tmp_path / "log")
    result = audit(tmp_path / "log", tmp_path, policy=LONG.policy(require=["head"]))
    assert (result.code, result.ring("head")[1]) == (2, "no remembered heads were named (--heads)")

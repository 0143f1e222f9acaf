"""The chain ring at a real JSON-RPC server: what the user's own node must say, and what it may not."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from eth_utils import keccak

from daicho_verify.rpc import ANCHORED_TOPIC
from tests.vectors.verifier import story
from tests.vectors.verifier.book import BLOCK_TIME
from tests.vectors.verifier.loopback import TOPIC, Chain, serve
from tests.vectors.verifier.program import Run, node, run, write

BOOK = story.story()


def ask(served: Any, tmp_path: Path, evidence: Any = None, **policy: Any) -> Run:
    file = write(tmp_path / "evidence.json", evidence or BOOK.evidence(8, anchored=28))
    chosen = write(tmp_path / "policy.json", BOOK.policy(**policy))
    with node(served) as url:
        return run(file, "--policy", chosen, "--rpc", url, "--json")


def test_the_topic_is_the_hash_of_the_event_signature() -> None:
    assert "0x" + ANCHORED_TOPIC.hex() == TOPIC == "0x" + keccak(text="Anchored(bytes32,uint64,bytes32,uint64)").hex()


def test_an_anchor_on_the_users_own_node_agrees_and_bounds_the_time(tmp_path: Path) -> None:
    result = ask(Chain(BOOK, [28]), tmp_path, require=["chain", "time"])
    assert (result.code, result.answer["answer"]) == (0, "qualified")
    verdict, why = result.ring("chain")
    assert verdict == "ok"
    assert "tree of 28 anchored in block 7 of chain 131277" in why
    assert "3 confirmations; local chain, not independent of the operator" in why
    assert "existed by 2026-11-22T05:10:00Z (block 7)" in result.ring("time")[1]
    assert "local chain, not independent" in result.answer["why"]


def test_only_an_answer_without_any_reservation_says_agrees(tmp_path: Path) -> None:
    chain = BOOK.policy()["chain"] | {"independent": True}
    evidence = BOOK.evidence(7, anchored=28, witnesses=["kita", "minami"])
    result = ask(Chain(BOOK, [28]), tmp_path, evidence, chain=chain, quorum=2)
    assert (result.code, result.answer["answer"]) == (0, "agrees")
    assert result.answer["why"] == "every ring was checked and agrees"
    evidence = BOOK.evidence(8, anchored=28, witnesses=["kita", "minami"])  # by a custodial wallet
    result = ask(Chain(BOOK, [28]), tmp_path, evidence, chain=chain, quorum=2)
    assert (result.code, result.answer["answer"]) == (0, "qualified")
    assert result.answer["why"] == "nothing contradicts, but the operator keeps the signing key"


def test_an_earlier_anchor_reaches_the_checkpoint_by_a_consistency_proof(tmp_path: Path) -> None:
    result = ask(Chain(BOOK, [20]), tmp_path, BOOK.evidence(8, anchored=20), require=["chain"])
    assert result.ring("chain")[0] == "ok"


def other(path: str, value: Any) -> Callable[[Chain], None]:
    def change(chain: Chain) -> None:
        *parents, last = [int(part) if part.isdigit() else part for part in path.split(".")]
        if not parents:
            setattr(chain, str(last), value)
            return
        inner: Any = chain.last_receipt
        for part in parents[1:]:
            inner = inner[part]
        inner[last] = value

    return change


def drop_receipt(chain: Chain) -> None:
    chain.receipts.clear()


def drop_block(chain: Chain) -> None:
    chain.blocks.clear()


def reorganise(chain: Chain) -> None:
    chain.blocks[7]["hash"] = "0x" + "ab" * 32


def empty_block(chain: Chain) -> None:
    chain.blocks[7]["transactions"] = []


def listless_block(chain: Chain) -> None:
    chain.blocks[7]["transactions"] = None


@pytest.mark.parametrize(
    ("change", "verdict", "why"),
    [
        (other("chain_id", "0x1"), "not checked", "your node is on chain 1, the policy names chain 131277"),
        (other("chain_id", 5), "not checked", "chain id is not a quantity"),
        (other("head", "0x6"), "not checked", "your node is at block 6, the anchor is in block 7"),
        (other("head", "0x7"), "not checked", "not final yet: 1 of 2 confirmations"),
        (drop_block, "not checked", "does not show block 7"),
        (listless_block, "not checked", "lists no transactions"),
        (reorganise, "failed", "block 7 is 0xabab"),
        (empty_block, "failed", "block 7 holds no transaction"),
        (drop_receipt, "not checked", "no receipt of the transaction"),
        (other("receipt.blockHash", "0x" + "00" * 32), "failed", "receipt is of another block"),
        (other("receipt.blockHash", "0x00"), "not checked", "receipt block is not 32 bytes"),
        (other("receipt.status", "0x0"), "failed", "the transaction failed on chain"),
        (other("receipt.logs", None), "failed", "no Anchored event at log index 0"),
        (other("receipt.logs", [5]), "not checked", "log is not an object"),
        (other("receipt.logs.0.logIndex", "0x1"), "failed", "no Anchored event at log index 0"),
        (other("receipt.logs.0.removed", True), "failed", "no Anchored event at log index 0"),
        (other("receipt.logs.0.topics", ["0x" + "00" * 32] * 3), "failed", "no Anchored event at log index 0"),
        (other("receipt.logs.0.topics", []), "failed", "no Anchored event at log index 0"),
        (other("receipt.logs.0.topics", None), "failed", "no Anchored event at log index 0"),
        (other("receipt.logs.0.address", "0x" + "11" * 20), "failed", "event is of the contract 0x1111"),
        (other("receipt.logs.0.topics.1", "0x" + "22" * 32), "failed", "event is of another log (id 0x2222"),
        (other("receipt.logs.0.topics.2", f"0x{29:064x}"), "failed", "anchored were size 29"),
        (other("receipt.logs.0.data", "0x" + "00" * 64), "failed", "anchored were size 28 and root 0000"),
    ],
)
def test_what_the_node_says_decides(change: Callable[[Chain], None], verdict: str, why: str, tmp_path: Path) -> None:
    chain = Chain(BOOK, [28])
    change(chain)
    result = ask(chain, tmp_path, require=["chain"])
    assert result.ring("chain")[0] == verdict
    assert why in result.ring("chain")[1]
    assert result.code == {"failed": 1, "not checked": 2}[verdict]


def test_without_a_policy_or_chain_or_anchor_or_node_the_ring_says_why(tmp_path: Path) -> None:
    assert "names no chain" in ask(Chain(BOOK, [28]), tmp_path, chain=None).ring("chain")[1]
    assert "no anchor (yet)" in ask(Chain(BOOK, [28]), tmp_path, BOOK.evidence(8)).ring("chain")[1]
    file = write(tmp_path / "evidence.json", BOOK.evidence(8, anchored=28))
    policy = write(tmp_path / "policy.json", BOOK.policy())
    assert "no node of your own" in run(file, "--policy", policy, "--json").ring("chain")[1]


def test_an_entry_recorded_after_its_block_is_false(tmp_path: Path) -> None:
    chain = Chain(BOOK, [28])
    chain.blocks[7]["timestamp"] = hex(BLOCK_TIME - 3600)
    verdict, why = ask(chain, tmp_path).ring("time")
    assert verdict == "failed"
    assert "lies after 2026-11-22T04:10:00Z, the time of block 7" in why


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (lambda *_: (200, {}, b'{"jsonrpc":"2.0","id":1}'), "refuses eth_chainId"),
        (lambda *_: (200, {}, b"[]"), "answer is not an object"),
        (lambda *_: (200, {}, b"<html>"), "cannot be read"),
        (lambda *_: (500, {}, b""), "HTTP status 500"),
        (lambda *_: (302, {"Location": "http://127.0.0.1:9/"}, b""), "HTTP status 302"),
        (lambda *_: (200, {"Content-Encoding": "gzip"}, b"no gzip"), "broken gzip"),
    ],
)
def test_a_node_that_cannot_be_read_proves_nothing(answer: Any, why: str, tmp_path: Path) -> None:
    result = ask(answer, tmp_path)
    assert result.code == 0
    assert result.ring("chain")[0] == "not checked"
    assert why in result.ring("chain")[1]


def test_a_node_that_is_not_there_proves_nothing(tmp_path: Path) -> None:
    with serve(Chain(BOOK, [28])) as url:
        pass  # now nobody listens there
    file = write(tmp_path / "evidence.json", BOOK.evidence(8, anchored=28))
    result = run(file, "--policy", write(tmp_path / "policy.json", BOOK.policy()), "--rpc", url, "--json")
    assert "cannot be reached" in result.ring("chain")[1]

"""The anchor lane on anvil: everything that a public chain does to a transaction."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from chain.lane import Lane
from chain.lane_events import Mined, Replaced, Returned, Submitted
from tests.chain_fixtures import GWEI, LANE_SETTINGS, AnvilNode, Bench, KeySigner, anchored

pytest_plugins = ("tests.chain_fixtures",)


@pytest.fixture
def bench(anvil: AnvilNode, publisher: KeySigner, tmp_path: Path) -> Iterator[Bench]:
    made = Bench(anvil, publisher, tmp_path / "anchors.db", **LANE_SETTINGS)
    yield made
    made.close()


def test_an_anchor_is_submitted_mined_and_final_after_its_confirmations(bench: Bench) -> None:
    bench.log.add(5)
    assert bench.tick() == ["Submitted 5"]
    assert bench.tick() == []
    bench.node.mine()
    assert bench.tick() == ["Mined 5"]
    bench.node.mine()
    assert bench.tick() == []
    bench.node.mine()
    assert bench.tick() == ["Final 5"]
    assert bench.head() == bench.log.latest()
    submitted, mined, final = bench.events
    assert isinstance(submitted, Submitted)
    assert (submitted.previous_size, submitted.tx_hash) == (0, mined.tx_hash)
    (event,) = bench.registry.anchored_events(0)
    for found in (mined, final):
        assert (found.block_number, found.block_hash) == (event.block_number, event.block_hash)
        assert (found.log_index, found.root, found.tx_hash) == (event.log_index, event.root, event.tx_hash)
        assert 21_000 < found.gas_used < 80_000
    block = bench.connection.block(mined.block_number)
    assert mined.block_time == block.timestamp
    assert bench.tick() == []


def test_a_second_anchor_extends_the_first_before_that_is_final(bench: Bench) -> None:
    bench.log.add(5)
    bench.tick()
    bench.node.mine()
    bench.log.add(7)
    assert bench.tick() == ["Mined 5", "Submitted 12"]
    bench.node.mine(3)
    assert bench.tick() == ["Final 5", "Mined 12", "Final 12"]
    assert bench.chain_of_sizes() == [(0, 5), (5, 12)]


def test_a_log_that_did_not_grow_costs_nothing(bench: Bench) -> None:
    assert bench.tick() == []
    anchored(bench, 5)
    signed = len(bench.signer.requests)
    for _ in range(3):
        assert bench.tick() == []
    assert len(bench.signer.requests) == signed


def test_nothing_is_planned_while_the_caller_says_so(bench: Bench) -> None:
    bench.log.add(5)
    assert bench.tick(may_plan=False) == []
    assert bench.tick() == ["Submitted 5"]


def test_a_transaction_dropped_from_the_pool_is_sent_again_as_it_was(bench: Bench) -> None:
    anchored(bench, 5)
    bench.log.add(5)
    bench.tick()
    bench.node.rpc("anvil_dropAllTransactions")
    bench.clock.now += 2
    bench.log.add(1)
    assert bench.tick() == []
    bench.node.mine()
    assert bench.tick()[0] == "Mined 10"
    assert len([r for r in bench.signer.requests if getattr(r, "new_size", 0) == 10]) == 1


def test_a_crash_between_storing_and_sending_loses_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    anchored(bench, 5)
    bench.log.add(5)
    with monkeypatch.context() as patch:

        def crash(*_: object) -> None:
            raise KeyboardInterrupt

        patch.setattr(Lane, "_cast", crash)
        with pytest.raises(KeyboardInterrupt):
            bench.lane.tick()
    assert bench.node.rpc("txpool_status")["pending"] == "0x0"
    bench.restart()
    assert bench.tick() == ["Submitted 10"]
    assert bench.node.rpc("txpool_status")["pending"] == "0x1"
    bench.node.mine()
    assert bench.tick()[0] == "Mined 10"
    assert bench.chain_of_sizes() == [(0, 5), (5, 10)]


def test_an_answer_lost_after_sending_is_no_second_anchor(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.log.add(5)
    with monkeypatch.context() as patch:
        patch.setattr(bench.store, "mark_sent", lambda *_: (_ for _ in ()).throw(ConnectionError("answer lost")))
        with pytest.raises(ConnectionError):
            bench.lane.tick()
    bench.restart()
    assert bench.tick() == ["Submitted 5"]
    bench.node.mine(3)
    assert bench.tick() == ["Mined 5", "Final 5"]
    assert bench.chain_of_sizes() == [(0, 5)]


def test_events_not_taken_over_come_again_after_a_crash(bench: Bench) -> None:
    bench.log.add(5)
    bench.lane.tick()
    bench.node.mine(3)
    told = bench.lane.tick()
    bench.restart()
    assert bench.lane.pending_events() == told
    assert [type(event).__name__ for event in told] == ["Submitted", "Mined", "Final"]
    bench.lane.acknowledge(told[1].seq)
    bench.restart()
    assert bench.lane.tick() == told[2:]
    bench.lane.acknowledge(told[2].seq)
    bench.log.add(1)
    (newer,) = bench.lane.tick()
    assert newer.seq > told[2].seq


def test_a_stuck_transaction_is_replaced_by_the_newest_head_under_its_nonce(bench: Bench) -> None:
    anchored(bench, 5)
    bench.log.add(10)
    bench.tick()
    first = bench.events[-1]
    bench.log.add(7)
    bench.clock.now += 61
    assert bench.tick() == ["Replaced 22"]
    replaced = bench.events[-1]
    assert isinstance(replaced, Replaced)
    assert (replaced.nonce, replaced.replaced_tx_hash) == (first.nonce, first.tx_hash)
    old, new = bench.signer.requests[-2:]
    assert new.max_fee_per_gas * 8 >= old.max_fee_per_gas * 9
    assert new.max_priority_fee_per_gas * 8 >= old.max_priority_fee_per_gas * 9
    bench.node.mine(3)
    assert bench.tick() == ["Mined 22", "Final 22"]
    assert bench.chain_of_sizes() == [(0, 5), (5, 22)]


def test_the_older_of_two_competing_transactions_may_win(bench: Bench) -> None:
    bench.log.add(5)
    bench.tick()
    raw = bench.store.attempts(bench.events[-1].nonce)[0].raw
    bench.log.add(5)
    bench.clock.now += 61
    bench.tick()
    bench.node.rpc("anvil_dropAllTransactions")
    bench.node.rpc("eth_sendRawTransaction", "0x" + raw.hex())
    bench.node.mine()
    assert bench.tick() == ["Mined 5", "Submitted 10"]
    bench.node.mine(3)
    assert bench.tick() == ["Final 5", "Mined 10", "Final 10"]


def test_a_base_fee_above_the_offered_one_is_followed(bench: Bench) -> None:
    bench.node.rpc("anvil_setNextBlockBaseFeePerGas", hex(60 * GWEI))
    bench.node.mine()
    bench.log.add(5)
    bench.tick()
    bench.node.rpc("anvil_setNextBlockBaseFeePerGas", hex(200 * GWEI))
    bench.node.mine()
    assert bench.tick() == []
    bench.clock.now += 61
    assert bench.tick() == ["Replaced 5"]
    bench.node.mine()
    assert bench.tick() == ["Mined 5"]


def test_a_fee_over_the_cap_is_never_offered(anvil: AnvilNode, publisher: KeySigner, tmp_path: Path) -> None:
    bench = Bench(anvil, publisher, tmp_path / "anchors.db", **LANE_SETTINGS, fee_cap_wei=50 * GWEI)
    anvil.rpc("anvil_setNextBlockBaseFeePerGas", hex(60 * GWEI))
    anvil.mine()
    bench.log.add(5)
    assert bench.tick() == []
    assert "over the cap" in bench.lane.status().alarms["fee cap"]
    anvil.rpc("anvil_setNextBlockBaseFeePerGas", hex(40 * GWEI))
    anvil.mine()
    assert bench.tick() == ["Submitted 5"]
    assert "fee cap" not in bench.lane.status().alarms
    bench.clock.now += 61
    assert bench.tick() == []
    assert "stuck" in bench.lane.status().alarms["fee cap"]
    assert bench.signer.requests[-1].max_fee_per_gas <= 50 * GWEI
    bench.close()


def test_a_reorganisation_of_one_anchor_sends_it_again(bench: Bench) -> None:
    anchored(bench, 5)
    bench.log.add(5)
    bench.tick()
    bench.node.mine()
    assert bench.tick() == ["Mined 10"]
    lost = bench.events[-1]
    bench.node.rpc("anvil_reorg", 1, [])
    assert bench.tick() == ["Returned 10"]
    returned = bench.events[-1]
    assert isinstance(returned, Returned)
    assert (returned.block_hash, returned.tx_hash) == (lost.block_hash, lost.tx_hash)
    bench.node.mine(3)
    assert bench.tick() == ["Mined 10", "Final 10"]
    assert bench.events[-1].block_hash != lost.block_hash
    assert bench.chain_of_sizes() == [(0, 5), (5, 10)]


def test_a_reorganisation_of_two_anchors_brings_both_back_in_order(bench: Bench) -> None:
    anchored(bench, 5)
    for _ in range(2):
        bench.log.add(3)
        bench.tick()
        bench.node.mine()
    assert bench.tick() == ["Mined 11"]
    bench.node.rpc("anvil_reorg", 2, [])
    assert bench.tick() == ["Returned 8", "Returned 11"]
    bench.node.mine(3)
    assert bench.tick() == ["Mined 8", "Final 8", "Mined 11", "Final 11"]
    assert bench.chain_of_sizes() == [(0, 5), (5, 8), (8, 11)]


def test_a_stuck_first_of_two_returned_anchors_is_replaced_without_overtaking_the_second(bench: Bench) -> None:
    anchored(bench, 5)
    for _ in range(2):
        bench.log.add(3)
        bench.tick()
        bench.node.mine()
    bench.tick()
    bench.node.rpc("anvil_reorg", 2, [])
    bench.clock.now += 61
    bench.log.add(9)
    assert bench.tick() == ["Returned 8", "Returned 11", "Replaced 8"]
    bench.clock.now += 2
    bench.tick()
    bench.node.mine(3)
    # only then the leaves that came meanwhile
    assert bench.tick() == ["Mined 8", "Final 8", "Mined 11", "Final 11", "Submitted 20"]


def test_an_anchor_mined_again_in_another_block_is_told_as_such(bench: Bench) -> None:
    bench.log.add(5)
    bench.tick()
    raw = bench.store.attempts(bench.events[-1].nonce)[0].raw
    bench.node.mine()
    bench.tick()
    first = bench.events[-1]
    bench.node.rpc("anvil_reorg", 1, [["0x" + raw.hex(), 0]])
    assert bench.tick() == ["Returned 5", "Mined 5"]
    assert isinstance(bench.events[-1], Mined)
    assert bench.events[-1].block_hash != first.block_hash


def test_finality_can_follow_the_chains_own_tag(anvil: AnvilNode, publisher: KeySigner, tmp_path: Path) -> None:
    bench = Bench(anvil, publisher, tmp_path / "anchors.db", **(LANE_SETTINGS | {"confirmations": None}))
    bench.log.add(5)
    bench.tick()
    anvil.mine()
    assert bench.tick() == ["Mined 5"]
    mined = bench.events[-1].block_number
    while bench.connection.block("finalized").number < mined:
        assert bench.tick() == []
        anvil.mine()
    assert bench.tick() == ["Final 5"]
    bench.close()

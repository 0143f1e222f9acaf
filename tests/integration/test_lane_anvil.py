"""The anchor lane on anvil: everything that a public chain does to a transaction."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chain.connection import SendOutcome
from chain.errors import NotPublisherError
from chain.lane import Lane
from chain.lane_events import Failed, Forked, Mined, Replaced, Returned, Submitted
from contracts import artefact
from tests.chain_fixtures import AnvilNode, Bench, GrowingLog, KeySigner

pytest_plugins = ("tests.chain_fixtures",)

GWEI = 10**9
SETTINGS: dict[str, Any] = {"confirmations": 3, "resend_after_seconds": 1, "bump_after_seconds": 60}


@pytest.fixture
def bench(anvil: AnvilNode, publisher: KeySigner, tmp_path: Path) -> Iterator[Bench]:
    made = Bench(anvil, publisher, tmp_path / "anchors.db", **SETTINGS)
    yield made
    made.close()


def anchored(bench: Bench, size: int) -> None:
    """A final anchor of this size to begin with."""
    bench.log.add(size - len(bench.log.leaves))
    bench.tick()
    bench.node.mine(3)
    assert bench.tick() == [f"Mined {size}", f"Final {size}"]


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
    bench = Bench(anvil, publisher, tmp_path / "anchors.db", **SETTINGS, fee_cap_wei=50 * GWEI)
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
    bench = Bench(anvil, publisher, tmp_path / "anchors.db", **(SETTINGS | {"confirmations": None}))
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


def test_a_foreign_transaction_of_our_key_is_an_alarm_and_the_lane_goes_on(bench: Bench) -> None:
    anchored(bench, 5)
    bench.log.add(2)
    bench.tick()
    nonce = bench.events[-1].nonce
    bench.node.rpc("anvil_dropAllTransactions")
    fields = {"type": 2, "chainId": bench.registry.chain_id, "nonce": nonce, "gas": 21_000, "value": 1}
    fees = {"maxFeePerGas": 100 * GWEI, "maxPriorityFeePerGas": GWEI, "to": "0x" + "77" * 20}
    bench.node.rpc("eth_sendRawTransaction", "0x" + bench.signer.sign_fields(fields | fees).raw.hex())
    bench.node.mine()
    bench.clock.now += 100
    assert bench.tick() == [], "not believed before it is as deep as a final anchor"
    bench.node.mine(2)
    assert bench.tick() == ["Failed 7", "Submitted 7"]
    failed = next(event for event in bench.events if isinstance(event, Failed))
    assert (failed.nonce, "did not send" in failed.reason) == (nonce, True)
    assert "foreign transaction" in bench.lane.status().alarms
    bench.node.mine(3)
    assert bench.tick() == ["Mined 7", "Final 7"]


def test_a_rewritten_log_stops_the_lane_before_anything_is_sent(bench: Bench) -> None:
    anchored(bench, 5)
    honest = bench.log
    forged = GrowingLog(9, b"rewritten")
    bench.log = forged
    bench.restart()
    signed = len(bench.signer.requests)
    assert bench.tick() == ["Forked 5"]
    fork = bench.events[-1]
    assert isinstance(fork, Forked)
    assert (fork.root, fork.own_root, fork.own_size) == (honest.root(5), forged.root(5), 9)
    for _ in range(2):
        assert bench.tick() == []
        bench.restart()
    assert "this log 0x" + forged.root(5).hex() in bench.lane.status().fork
    assert len(bench.signer.requests) == signed
    bench.log = honest
    bench.log.add(2)
    bench.restart()
    assert bench.tick() == ["Submitted 7"]
    assert bench.lane.status().fork == ""


def test_a_log_behind_the_contract_stops_the_lane(bench: Bench) -> None:
    anchored(bench, 5)
    bench.log = GrowingLog(3)
    bench.restart()
    assert bench.tick() == ["Forked 5"]
    assert bench.lane.status().fork == "the contract holds size 5, this log ends at 3"


def test_a_reverted_transaction_is_told_and_its_nonce_given_up(
    anvil: AnvilNode, publisher: KeySigner, tmp_path: Path
) -> None:
    owner = KeySigner()
    anvil.rpc("anvil_setBalance", owner.address, hex(10**20))
    bench = Bench(anvil, publisher, tmp_path / "anchors.db", owner=owner, **SETTINGS)
    bench.log.add(8)
    assert bench.tick() == ["Submitted 8"]
    # the owner takes the right to publish away, in the same block before the anchor runs
    contract = bench.connection.web3.eth.contract(address=bench.contract, abi=artefact().abi)
    data = contract.encode_abi("setPublisher", [bench.registry.log_id, owner.address])
    fields = {"type": 2, "chainId": bench.registry.chain_id, "nonce": 2, "gas": 90_000, "value": 0}
    fees = {"maxFeePerGas": 90 * GWEI, "maxPriorityFeePerGas": 20 * GWEI, "to": bench.contract, "data": data}
    anvil.rpc("eth_sendRawTransaction", "0x" + owner.sign_fields(fields | fees).raw.hex())
    anvil.mine()
    assert bench.tick() == ["Failed 8"]
    assert "reverted in block" in bench.events[-1].reason
    for _ in range(2):
        assert bench.tick() == []
    assert "NotPublisher" in bench.lane.status().alarms["refused"]
    bench.restart()
    with pytest.raises(NotPublisherError):
        bench.lane.tick()
    bench.close()


def test_a_low_balance_is_an_alarm(bench: Bench) -> None:
    bench.node.rpc("anvil_setBalance", bench.signer.address, hex(3 * 10**14))
    bench.log.add(5)
    assert bench.tick() == ["Submitted 5"]
    assert bench.signer.address in bench.lane.status().alarms["low balance"]
    bench.node.rpc("anvil_setBalance", bench.signer.address, hex(10**20))
    bench.node.mine()
    bench.log.add(5)
    bench.tick()
    assert "low balance" not in bench.lane.status().alarms


def test_an_empty_balance_is_an_alarm_and_heals(bench: Bench) -> None:
    bench.log.add(5)
    bench.tick()
    bench.node.rpc("anvil_dropAllTransactions")
    bench.node.rpc("anvil_setBalance", bench.signer.address, "0x0")
    bench.clock.now += 2
    assert bench.tick() == []
    assert "nsufficient funds" in bench.lane.status().alarms["sending"]
    bench.node.rpc("anvil_setBalance", bench.signer.address, hex(10**20))
    bench.clock.now += 2
    bench.tick()
    assert "sending" not in bench.lane.status().alarms
    bench.node.mine()
    assert bench.tick() == ["Mined 5"]


def test_a_final_anchor_that_vanished_is_found_by_the_daily_audit(bench: Bench) -> None:
    anchored(bench, 5)
    bench.node.rpc("anvil_reorg", 3, [])
    bench.log.add(1)
    assert bench.tick() == [], "a node that shows less than was seen gets nothing"
    assert "stale node" in bench.lane.status().alarms
    bench.clock.now += 86_401
    assert bench.tick()[0] == "Returned 5"
    # it is old, so it is replaced at once, and then for the newest head
    assert bench.tick() == ["Replaced 6"]
    bench.node.mine(3)
    assert bench.tick() == ["Mined 6", "Final 6"]
    assert bench.chain_of_sizes() == [(0, 6)]


def test_a_node_that_stays_behind_is_audited_at_once(bench: Bench) -> None:
    anchored(bench, 5)
    bench.node.rpc("anvil_reorg", 3, [])
    bench.log.add(1)
    told: list[str] = []
    for _ in range(3):
        bench.clock.now += 1
        told += bench.tick()
    assert told == ["Returned 5"]


def test_final_anchors_that_stand_are_left_alone_by_the_audit(bench: Bench) -> None:
    anchored(bench, 5)
    for _ in range(2):
        bench.clock.now += 86_401
        assert bench.tick() == []
    assert bench.lane.status().final_size == 5


def test_a_node_knows_the_outcomes_by_their_texts(bench: Bench) -> None:
    bench.log.add(5)
    bench.tick()
    raw = bench.store.attempts(bench.events[-1].nonce)[0].raw
    assert bench.connection.send(raw).outcome is SendOutcome.KNOWN
    bench.node.mine()
    assert bench.connection.send(raw).outcome is SendOutcome.NONCE_TOO_LOW

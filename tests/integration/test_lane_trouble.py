"""The anchor lane when something is wrong: foreign transactions, forks, reverts, empty accounts, lost anchors."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from chain.connection import SendOutcome
from chain.errors import NotPublisherError
from chain.lane_events import Failed, Forked
from contracts import artefact
from tests.chain_fixtures import GWEI, LANE_SETTINGS, AnvilNode, Bench, GrowingLog, KeySigner, anchored

pytest_plugins = ("tests.chain_fixtures",)


@pytest.fixture
def bench(anvil: AnvilNode, publisher: KeySigner, tmp_path: Path) -> Iterator[Bench]:
    made = Bench(anvil, publisher, tmp_path / "anchors.db", **LANE_SETTINGS)
    yield made
    made.close()


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
    bench = Bench(anvil, publisher, tmp_path / "anchors.db", owner=owner, **LANE_SETTINGS)
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

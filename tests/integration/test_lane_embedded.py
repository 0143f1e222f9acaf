"""The anchor lane on the embedded node: the default on one machine, with kills and restarts."""

import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from chain.errors import ChainUnavailableError, WrongChainError
from storage.lane_store import LaneInUseError, LaneMismatchError, SqliteLaneStore
from tests.chain_fixtures import CHAIN_ID, Bench, EmbeddedNode, KeySigner

pytest_plugins = ("tests.chain_fixtures",)


@pytest.fixture
def bench(embedded_node: EmbeddedNode, publisher: KeySigner, tmp_path: Path) -> Iterator[Bench]:
    made = Bench(embedded_node, publisher, tmp_path / "anchors.db", resend_after_seconds=0)
    yield made
    made.close()


def test_one_tick_brings_an_anchor_to_finality(bench: Bench) -> None:
    for size in (1, 2, 17, 300):
        bench.log.add(size - len(bench.log.leaves))
        assert bench.tick() == [f"Submitted {size}", f"Mined {size}", f"Final {size}"]
        assert bench.head() == bench.log.latest()
    assert bench.chain_of_sizes() == [(0, 1), (1, 2), (2, 17), (17, 300)]
    status = bench.lane.status()
    assert (status.final_size, status.mined_size, status.in_flight, status.alarms) == (300, 300, 0, {})


def test_a_restarted_service_goes_on_where_it_was(bench: Bench) -> None:
    for size in (3, 8):
        bench.log.add(size - len(bench.log.leaves))
        bench.tick()
        bench.restart()
        assert bench.tick() == []
    assert bench.chain_of_sizes() == [(0, 3), (3, 8)]


def test_a_node_that_is_away_is_waited_for(bench: Bench, tmp_path: Path) -> None:
    node = bench.node
    assert isinstance(node, EmbeddedNode)
    bench.log.add(3)
    node.end()
    with pytest.raises(ChainUnavailableError):
        bench.lane.tick()
    assert bench.lane.pending_events() == []
    bench.node = EmbeddedNode(tmp_path / "chain.db", port=node.port)
    assert bench.tick() == ["Submitted 3", "Mined 3", "Final 3"]
    bench.node.end()


@pytest.mark.slow
def test_a_node_killed_six_times_in_the_middle_loses_and_doubles_nothing(bench: Bench, tmp_path: Path) -> None:
    node = bench.node
    assert isinstance(node, EmbeddedNode)
    port = node.port
    for turn in range(6):
        killer = threading.Timer(0.007 * turn, node.process.kill)
        killer.start()
        try:
            while True:
                bench.log.add(1)
                bench.tick()
        except ChainUnavailableError:
            pass
        killer.join()
        node.end(signal.SIGKILL)
        node = EmbeddedNode(tmp_path / "chain.db", port=port)
        if turn % 2 == 0:
            bench.restart()
    bench.log.add(1)
    while bench.head() != bench.log.latest():  # what was under way at the last kill is brought to its end first
        bench.tick()
    size = len(bench.log.leaves)
    assert bench.head() == bench.log.latest()
    sizes = bench.chain_of_sizes()
    assert [old for old, _ in sizes] == [0, *(new for _, new in sizes[:-1])]
    assert sizes[-1][1] == size
    final = [event.size for event in bench.events if type(event).__name__ == "Final"]
    assert final == [new for _, new in sizes]
    assert not [event for event in bench.events if type(event).__name__ in {"Failed", "Forked", "Returned"}]
    node.end()


def test_a_chain_that_was_lost_stops_the_service(bench: Bench, tmp_path: Path, publisher: KeySigner) -> None:
    node = bench.node
    assert isinstance(node, EmbeddedNode)
    bench.log.add(3)
    bench.tick()
    node.end()
    fresh = EmbeddedNode(
        tmp_path / "other.db", "--chain-id", str(CHAIN_ID), "--fund", publisher.address, port=node.port
    )
    bench.log.add(3)
    with pytest.raises(WrongChainError, match=r"no registry answers|no contract at"):
        bench.lane.tick()
    bench.restart()
    with pytest.raises(WrongChainError, match="no contract at"):
        bench.lane.tick()
    fresh.end()


def test_another_chain_id_behind_the_address_stops_the_service(
    bench: Bench, tmp_path: Path, publisher: KeySigner
) -> None:
    node = bench.node
    assert isinstance(node, EmbeddedNode)
    node.end()
    fresh = EmbeddedNode(tmp_path / "other.db", "--chain-id", "5", "--fund", publisher.address, port=node.port)
    with pytest.raises(WrongChainError, match=f"serves chain 5, not {CHAIN_ID}"):
        bench.lane.tick()
    fresh.end()


def test_a_key_anchors_one_log_only(bench: Bench, tmp_path: Path) -> None:
    bench.close()
    with pytest.raises(LaneMismatchError, match="not 0x" + "00" * 32):
        SqliteLaneStore(
            tmp_path / "anchors.db",
            chain_id=CHAIN_ID,
            publisher=bench.signer.address,
            contract=bench.contract,
            log_id=bytes(32),
        )
    bench.store = None


def test_two_services_never_share_a_lane(bench: Bench, tmp_path: Path) -> None:
    with pytest.raises(LaneInUseError):
        SqliteLaneStore(
            tmp_path / "anchors.db",
            chain_id=CHAIN_ID,
            publisher=bench.signer.address,
            contract=bench.contract,
            log_id=bench.registry.log_id,
        )

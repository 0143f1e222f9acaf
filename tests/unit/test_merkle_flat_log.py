"""The tree in memory agrees with the definitions of RFC 6962, at every size it ever had."""

import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from merkle.compact_range import CompactRange
from merkle.flat_log import FlatLog, OutOfTreeError
from merkle.hashing import EMPTY_ROOT, leaf_hash, leaf_hashes, node_hash, parent_hashes
from merkle.proofs import verify_consistency, verify_inclusion
from tests.merkle_reference import ReferenceTree, leaf, node

# The eight entries and the root that certificate transparency implementations share (RFC 6962 test tree).
RFC_ENTRIES = [
    b"",
    b"\x00",
    b"\x10",
    b"\x20\x21",
    b"\x30\x31",
    b"\x40\x41\x42\x43",
    b"\x50\x51\x52\x53\x54\x55\x56\x57",
    bytes.fromhex("606162636465666768696a6b6c6d6e6f"),
]
RFC_ROOT = bytes.fromhex("5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328")

LEAVES = [leaf(b"%d" % number) for number in range(70_000)]
REFERENCE = ReferenceTree(LEAVES)


def log_of(size: int, batch: int = 1000) -> FlatLog:
    log = FlatLog()
    for start in range(0, size, batch):
        log.append(b"".join(LEAVES[start : min(start + batch, size)]))
    return log


@pytest.fixture(scope="module")
def big_log() -> FlatLog:
    """Three tile levels: 70,000 leaves."""
    return log_of(70_000)


def test_leaf_and_node_hashes_carry_their_prefixes() -> None:
    assert leaf_hash(b"entry") == leaf(b"entry")
    assert node_hash(LEAVES[0], LEAVES[1]) == node(LEAVES[0], LEAVES[1])
    assert leaf_hashes(b"%d" % number for number in range(9)) == b"".join(LEAVES[:9])
    assert parent_hashes(b"".join(LEAVES[:4])) == node(*LEAVES[:2]) + node(*LEAVES[2:4])
    assert leaf_hashes([]) == b""


def test_the_published_test_tree_has_its_published_root() -> None:
    log = FlatLog()
    log.append(leaf_hashes(RFC_ENTRIES))
    assert log.root() == RFC_ROOT


def test_the_empty_tree_has_the_hash_of_nothing_as_root() -> None:
    assert FlatLog().root() == EMPTY_ROOT == REFERENCE.root(0, 0)
    assert CompactRange().root() == EMPTY_ROOT


def test_every_inclusion_path_up_to_size_130_is_the_defined_one_and_verifies() -> None:
    log = log_of(130)
    for size in range(1, 131):
        root = log.root(size)
        assert root == REFERENCE.root(0, size)
        for index in range(size):
            path = log.inclusion_path(index, size)
            assert path == REFERENCE.path(index, 0, size)
            verify_inclusion(index, size, LEAVES[index], path, root)


def test_every_consistency_proof_up_to_size_130_is_the_defined_one_and_verifies() -> None:
    log = log_of(130)
    for size in range(1, 131):
        for old in range(1, size + 1):
            proof = log.consistency_proof(old, size)
            assert proof == REFERENCE.consistency(old, size)
            verify_consistency(old, size, log.root(old), log.root(size), proof)


@given(st.lists(st.integers(0, 700), max_size=12), st.data())
@settings(max_examples=60, deadline=None)
def test_however_the_leaves_arrive_the_tree_is_the_same(batches: list[int], data: st.DataObject) -> None:
    log, edge = FlatLog(), CompactRange()
    for count in batches:
        more = b"".join(LEAVES[log.size : log.size + count])
        log.append(more)
        edge.append(more)
        assert log.root() == edge.root() == REFERENCE.root(0, log.size)
    if log.size:
        size = data.draw(st.integers(1, log.size))
        index = data.draw(st.integers(0, size - 1))
        assert log.inclusion_path(index, size) == REFERENCE.path(index, 0, size)
        assert log.consistency_proof(size) == REFERENCE.consistency(size, log.size)


@given(st.integers(1, 70_000), st.data())
@settings(max_examples=150, deadline=None)
def test_paths_across_tile_levels_are_the_defined_ones(big_log: FlatLog, size: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, size - 1))
    old = data.draw(st.integers(1, size))
    assert big_log.root(size) == REFERENCE.root(0, size)
    assert big_log.inclusion_path(index, size) == REFERENCE.path(index, 0, size)
    assert big_log.consistency_proof(old, size) == REFERENCE.consistency(old, size)


@pytest.mark.parametrize("size", [255, 256, 257, 65_535, 65_536, 65_537])
def test_sizes_at_the_edges_of_tiles_answer_for_their_first_and_last_leaf(size: int) -> None:
    log = log_of(size, batch=4096)
    for index in (0, 255, size - 1):
        if index < size:
            assert log.inclusion_path(index) == REFERENCE.path(index, 0, size)
    for old in (1, 128, 254, 255, size - 1, size):
        assert log.consistency_proof(old) == REFERENCE.consistency(old, size)


def test_every_tile_is_the_slice_of_roots_that_tlog_tiles_defines(big_log: FlatLog) -> None:
    assert big_log.tile(0, 0) == b"".join(LEAVES[:256])
    assert big_log.tile(0, 273, 112) == b"".join(LEAVES[273 * 256 :])
    assert big_log.tile(0, 273, 7) == b"".join(LEAVES[273 * 256 : 273 * 256 + 7])
    assert big_log.tile(1, 0) == b"".join(REFERENCE.root(at * 256, at * 256 + 256) for at in range(256))
    assert big_log.tile(1, 1, 17) == b"".join(REFERENCE.root(at * 256, at * 256 + 256) for at in range(256, 273))
    assert big_log.tile(2, 0, 1) == REFERENCE.root(0, 65_536)


@pytest.mark.parametrize(
    ("level", "index", "width"),
    [(0, 273, 113), (0, 273, 256), (1, 1, 18), (2, 0, 2), (3, 0, 1), (7, 0, 1), (8, 0, 1), (63, 0, 1),
     (-1, 0, 1), (0, -1, 256), (0, 0, 0), (0, 0, 257)],
)  # fmt: skip
def test_a_tile_beyond_the_tree_is_refused(big_log: FlatLog, level: int, index: int, width: int) -> None:
    with pytest.raises(OutOfTreeError):
        big_log.tile(level, index, width)


def test_questions_beyond_the_tree_are_refused_with_its_size() -> None:
    log = log_of(10)
    asked = [
        lambda: log.leaf(10),
        lambda: log.leaf(-1),
        lambda: log.root(11),
        lambda: log.root(-1),
        lambda: log.inclusion_path(10),
        lambda: log.inclusion_path(-1),
        lambda: log.inclusion_path(0, 11),
        lambda: log.inclusion_path(0, 0),
        lambda: log.consistency_proof(0),
        lambda: log.consistency_proof(11),
        lambda: log.consistency_proof(5, 4),
        lambda: log.consistency_proof(5, 11),
        lambda: log.subtree_root(4, 4),
        lambda: log.subtree_root(-2, 0),
        lambda: log.subtree_root(2, 5),
        lambda: log.subtree_root(8, 11),
    ]
    for ask in asked:
        with pytest.raises(OutOfTreeError) as refused:
            ask()
        assert refused.value.size == 10
    assert log.leaf(9) == LEAVES[9]


def test_half_a_hash_is_refused_and_changes_nothing() -> None:
    log, edge = log_of(3), CompactRange()
    for tree in (log, edge):
        with pytest.raises(ValueError, match="whole leaf hashes"):
            tree.append(b"x" * 33)
    assert (log.size, edge.size) == (3, 0)
    assert log.root() == REFERENCE.root(0, 3)


def test_a_path_handed_out_belongs_to_the_caller() -> None:
    log = log_of(700)
    log.inclusion_path(5).clear()
    assert log.inclusion_path(5) == REFERENCE.path(5, 0, 700)


def test_old_sizes_stay_answerable_however_many_were_asked() -> None:
    log = log_of(1500)
    for size in range(1, 1501):
        assert log.root(size) == REFERENCE.root(0, size)
        assert log.inclusion_path(0, size) == REFERENCE.path(0, 0, size)
    assert log.inclusion_path(3, 1023) == REFERENCE.path(3, 0, 1023)


@pytest.mark.parametrize("size", [0, 1, 5, 256, 1000])
def test_a_right_edge_can_be_put_down_and_taken_up_again(size: int) -> None:
    edge = CompactRange()
    edge.append(b"".join(LEAVES[:size]))
    resumed = CompactRange(size, edge.hashes)
    resumed.append(b"".join(LEAVES[size : size + 300]))
    assert resumed.size == size + 300
    assert resumed.root() == REFERENCE.root(0, size + 300)


@pytest.mark.parametrize(("size", "hashes"), [(3, [b"x" * 32]), (1, [b"x" * 31]), (-1, [b"x" * 32]), (0, [b"x" * 32])])
def test_a_right_edge_of_the_wrong_shape_is_refused(size: int, hashes: list[bytes]) -> None:
    with pytest.raises(ValueError, match="do not make up a tree"):
        CompactRange(size, hashes)


def test_readers_beside_a_growing_tree_only_ever_see_true_answers() -> None:
    log = log_of(1)
    wrong: list[str] = []
    done = threading.Event()

    def read() -> None:
        asked = 0
        while not done.is_set() or asked == 0:
            size = log.size
            index = asked * 7919 % size
            tile, width = index // 256, min(256, size - index // 256 * 256)
            if log.root(size) != REFERENCE.root(0, size):
                wrong.append(f"root {size}")
            if log.inclusion_path(index, size) != REFERENCE.path(index, 0, size):
                wrong.append(f"path {index} {size}")
            if log.tile(0, tile, width) != b"".join(LEAVES[tile * 256 : tile * 256 + width]):
                wrong.append(f"tile {tile} {width}")
            asked += 1

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for start in range(1, 6000, 37):
        log.append(b"".join(LEAVES[start : start + 37]))
    done.set()
    for reader in readers:
        reader.join()
    assert wrong == []


def test_a_leaf_costs_at_most_seventy_bytes() -> None:
    log = log_of(65_536, batch=256)
    held = sum(len(tile) + 33 + 8 for level in log._levels for tile in level.full)
    held += sum(len(row) + 33 for level in log._levels for row in level.rows)
    assert held <= 70 * log.size

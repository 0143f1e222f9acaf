"""Proofs: the published rolling vectors, and every way to tamper is refused."""

from collections.abc import Callable
from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from merkle.flat_log import FlatLog
from merkle.hashing import EMPTY_ROOT, leaf_hashes
from merkle.proofs import (
    ProofError,
    is_subtree,
    verify_consistency,
    verify_inclusion,
    verify_subtree_consistency,
    verify_subtree_inclusion,
)
from merkle.subtrees import subtree_consistency_proof, subtree_inclusion_path
from tests.merkle_reference import ReferenceTree, leaf

SIZE = 130
LEAVES = [leaf(bytes([number])) for number in range(SIZE)]
REFERENCE = ReferenceTree(LEAVES)


@pytest.fixture(scope="module")
def log() -> FlatLog:
    tree = FlatLog()
    tree.append(leaf_hashes(bytes([number]) for number in range(SIZE)))
    return tree


def subtrees(limit: int) -> list[tuple[int, int]]:
    """In the order of the vectors: by end, then by start."""
    return [(start, end) for end in range(limit + 1) for start in range(end + 1) if is_subtree(start, end)]


def test_subtree_roots_match_the_published_rolling_hash(log: FlatLog) -> None:
    rolling = sha256()
    for start, end in subtrees(SIZE):
        root = log.subtree_root(start, end) if start < end else EMPTY_ROOT
        rolling.update(f"[{start}, {end}) {root.hex()}\n".encode())
    assert rolling.hexdigest() == "b82806ad4265bb151c1119c0f4db437bb4d1a1f887b3a7fba1cd4ebf552e3e81"


def test_subtree_inclusion_proofs_match_the_published_rolling_hash_and_verify(log: FlatLog) -> None:
    rolling = sha256()
    for start, end in subtrees(SIZE):
        for index in range(start, end):
            path = subtree_inclusion_path(log.subtree_root, index, start, end)
            verify_subtree_inclusion(index, start, end, LEAVES[index], path, log.subtree_root(start, end))
            rolling.update(f"{index} [{start}, {end}){''.join(f' {each.hex()}' for each in path)}\n".encode())
    assert rolling.hexdigest() == "ac2a8f989e44d99e399db448050ff5f19757df53cfb716aa81015d3955d8163f"


def test_subtree_consistency_proofs_match_the_published_rolling_hash_and_verify(log: FlatLog) -> None:
    rolling = sha256()
    for size in range(SIZE + 1):
        for start, end in subtrees(size):
            proof = subtree_consistency_proof(log.subtree_root, start, end, size)
            rolling.update(f"[{start}, {end}) {size}{''.join(f' {each.hex()}' for each in proof)}\n".encode())
            if start == end:
                continue
            if size % 13 in {0, 1, 7}:
                verify_subtree_consistency(start, end, size, log.subtree_root(start, end), log.root(size), proof)
            if start == 0:
                assert proof == log.consistency_proof(end, size)
    assert rolling.hexdigest() == "10fa99b37bf9bf9ffa26b412fbd98bd75363256d0b75d61bc4538b9c9c5a0a74"


def refused(check: Callable[[], None]) -> bool:
    try:
        check()
    except ProofError:
        return True
    return False


@st.composite
def inclusion_cases(draw: st.DrawFn) -> tuple[int, int]:
    size = draw(st.integers(1, SIZE))
    return draw(st.integers(0, size - 1)), size


@given(inclusion_cases(), st.data())
@settings(max_examples=200, deadline=None)
def test_no_tampered_inclusion_proof_is_accepted(case: tuple[int, int], data: st.DataObject) -> None:
    index, size = case
    path, root = REFERENCE.path(index, 0, size), REFERENCE.root(0, size)
    other = data.draw(st.integers(0, SIZE - 1).filter(lambda number: number != index))
    assert refused(lambda: verify_inclusion(index, size, LEAVES[other], path, root))
    assert refused(lambda: verify_inclusion(index, size, LEAVES[index], path, LEAVES[other]))
    assert refused(lambda: verify_inclusion(index, size, LEAVES[index], [*path, LEAVES[other]], root))
    if other < size:
        assert refused(lambda: verify_inclusion(other, size, LEAVES[index], path, root))
    if path:
        at = data.draw(st.integers(0, len(path) - 1))
        flipped = bytes([path[at][0] ^ 1]) + path[at][1:]
        for tampered in (
            [*path[:at], flipped, *path[at + 1 :]],
            path[:at] + path[at + 1 :],
            [*path[:at], path[at], *path[at:]],
            path[:-1],
        ):
            assert refused(lambda tampered=tampered: verify_inclusion(index, size, LEAVES[index], tampered, root))


@given(inclusion_cases(), st.data())
@settings(max_examples=200, deadline=None)
def test_no_tampered_consistency_proof_is_accepted(case: tuple[int, int], data: st.DataObject) -> None:
    old, size = case[0] + 1, case[1]
    proof = REFERENCE.consistency(old, size)
    old_root, root = REFERENCE.root(0, old), REFERENCE.root(0, size)
    verify_consistency(old, size, old_root, root, proof)
    stranger = data.draw(st.binary(min_size=32, max_size=32))
    assert refused(lambda: verify_consistency(old, size, stranger, root, proof))
    assert refused(lambda: verify_consistency(old, size, old_root, stranger, proof))
    assert refused(lambda: verify_consistency(old, size, old_root, root, [*proof, stranger]))
    if old != size:
        assert refused(lambda: verify_consistency(size, old, root, old_root, proof))
        at = data.draw(st.integers(0, len(proof) - 1))
        flipped = bytes([proof[at][0] ^ 1]) + proof[at][1:]
        for tampered in ([*proof[:at], flipped, *proof[at + 1 :]], proof[:at] + proof[at + 1 :], []):
            assert refused(lambda tampered=tampered: verify_consistency(old, size, old_root, root, tampered))


@given(st.sampled_from([(s, e) for s, e in subtrees(64) if s < e]), st.integers(64, SIZE), st.data())
@settings(max_examples=200, deadline=None)
def test_no_tampered_subtree_proof_is_accepted(
    log: FlatLog, subtree: tuple[int, int], size: int, data: st.DataObject
) -> None:
    start, end = subtree
    proof = subtree_consistency_proof(log.subtree_root, start, end, size)
    own, root = log.subtree_root(start, end), log.root(size)
    verify_subtree_consistency(start, end, size, own, root, proof)
    stranger = data.draw(st.binary(min_size=32, max_size=32))
    assert refused(lambda: verify_subtree_consistency(start, end, size, stranger, root, proof))
    assert refused(lambda: verify_subtree_consistency(start, end, size, own, stranger, proof))
    assert refused(lambda: verify_subtree_consistency(start, end, size, own, root, [*proof, stranger]))
    if proof:
        assert refused(lambda: verify_subtree_consistency(start, end, size, own, root, proof[:-1]))
        at = data.draw(st.integers(0, len(proof) - 1))
        tampered = [*proof[:at], stranger, *proof[at + 1 :]]
        assert refused(lambda: verify_subtree_consistency(start, end, size, own, root, tampered))


def test_a_hash_of_31_bytes_is_refused_wherever_it_stands() -> None:
    path, proof = REFERENCE.path(3, 0, 7), REFERENCE.consistency(3, 7)
    root, short = REFERENCE.root(0, 7), REFERENCE.root(0, 7)[:31]
    for check in (
        lambda: verify_inclusion(3, 7, LEAVES[3][:31], path, root),
        lambda: verify_inclusion(3, 7, LEAVES[3], path, short),
        lambda: verify_inclusion(3, 7, LEAVES[3], [path[0][:31], *path[1:]], root),
        lambda: verify_inclusion(0, 1, b"", [], b""),
        lambda: verify_consistency(3, 7, REFERENCE.root(0, 3)[:31], root, proof),
        lambda: verify_consistency(3, 7, REFERENCE.root(0, 3), short, proof),
        lambda: verify_consistency(3, 7, REFERENCE.root(0, 3), root, [*proof[:-1], proof[-1][:31]]),
        lambda: verify_consistency(7, 7, b"", b"", []),
        lambda: verify_subtree_consistency(0, 3, 7, short, root, proof),
    ):
        with pytest.raises(ProofError, match="bytes instead of 32"):
            check()


@pytest.mark.parametrize(
    ("index", "size"),
    [(0, 0), (1, 1), (-1, 5), (5, 5), (0, -1), (0, 2**63), (2**63, 2**63 + 1), (2**63 - 1, 2**63)],
)
def test_an_index_outside_of_any_tree_is_refused(index: int, size: int) -> None:
    with pytest.raises(ProofError, match="no place in a tree"):
        verify_inclusion(index, size, LEAVES[0], [], LEAVES[0])


def test_the_largest_size_still_verifies() -> None:
    """The last leaf of a tree of 2**63 - 1 leaves has 62 siblings, all to its left."""
    size = 2**63 - 1
    path = [LEAVES[number] for number in range(62)]
    root = LEAVES[100]
    for sibling in path:
        root = sha256(b"\x01" + sibling + root).digest()
    verify_inclusion(size - 1, size, LEAVES[100], path, root)


@pytest.mark.parametrize(
    ("old", "size"), [(0, 5), (0, 0), (-1, 5), (6, 5), (1, 2**63), (2**63, 2**63), (2**63, 2**63 + 1)]
)
def test_sizes_that_cannot_be_compared_are_refused(old: int, size: int) -> None:
    with pytest.raises(ProofError, match="cannot be compared"):
        verify_consistency(old, size, LEAVES[0], LEAVES[0], [])


def test_two_heads_of_equal_size_and_different_root_are_refused() -> None:
    with pytest.raises(ProofError, match="two different trees of size 5"):
        verify_consistency(5, 5, LEAVES[0], LEAVES[1], [])
    with pytest.raises(ProofError, match="two different trees of size 5"):
        verify_consistency(5, 5, LEAVES[0], LEAVES[0], [LEAVES[1]])
    verify_consistency(5, 5, LEAVES[0], LEAVES[0], [])


def test_an_empty_proof_between_different_sizes_is_refused() -> None:
    with pytest.raises(ProofError, match="the proof is empty"):
        verify_consistency(3, 7, REFERENCE.root(0, 3), REFERENCE.root(0, 7), [])
    with pytest.raises(ProofError, match="too short"):
        verify_consistency(4, 7, REFERENCE.root(0, 4), REFERENCE.root(0, 7), [])


@pytest.mark.parametrize(("start", "end", "size"), [(1, 3, 7), (2, 5, 7), (4, 4, 7), (4, 8, 7), (5, 4, 7), (-4, 0, 7)])
def test_what_is_no_subtree_is_refused(log: FlatLog, start: int, end: int, size: int) -> None:
    with pytest.raises(ProofError, match="no subtree"):
        verify_subtree_consistency(start, end, size, LEAVES[0], LEAVES[0], [])
    if start != end:  # an empty subtree has a proof, of nothing
        with pytest.raises(ValueError, match="is not a subtree"):
            subtree_consistency_proof(log.subtree_root, start, end, size)


def test_a_leaf_outside_of_the_subtree_is_refused(log: FlatLog) -> None:
    path = subtree_inclusion_path(log.subtree_root, 5, 4, 8)
    root = log.subtree_root(4, 8)
    verify_subtree_inclusion(5, 4, 8, LEAVES[5], path, root)
    for index, start, end in ((3, 4, 8), (8, 4, 8), (5, 3, 8)):
        with pytest.raises(ProofError):
            verify_subtree_inclusion(index, start, end, LEAVES[5], path, root)
    with pytest.raises(ValueError, match="not in a subtree"):
        subtree_inclusion_path(log.subtree_root, 8, 4, 8)

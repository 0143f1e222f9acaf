"""The verifier's trees: every pair of small sizes by the definitions of RFC 9162, and every way to spoil a proof."""

import hashlib
import random

import pytest

from daicho_verify import merkle
from tests.vectors.verifier import oracle

LEAVES = [merkle.leaf_hash(bytes([n])) for n in range(66)]
ROOTS = [oracle.mth(LEAVES[:n]) for n in range(67)]


def node(level: int, index: int) -> bytes:
    """A perfect subtree of the test tree."""
    return oracle.mth(LEAVES[index << level : (index + 1) << level])


def spoil(proof: list[bytes]) -> list[list[bytes]]:
    """Every single change to a proof: a hash altered, dropped, doubled, shortened, or two swapped."""
    changes = [[*proof, bytes(32)], [bytes(32), *proof]]
    for i, value in enumerate(proof):
        changes += [
            [*proof[:i], bytes([value[0] ^ 1]) + value[1:], *proof[i + 1 :]],
            [*proof[:i], *proof[i + 1 :]],
            [*proof[:i], value[:31], *proof[i + 1 :]],
        ]
        if i + 1 < len(proof):
            changes.append([*proof[:i], proof[i + 1], value, *proof[i + 2 :]])
    return changes


def test_a_leaf_and_the_empty_tree_hash_as_rfc_6962_says() -> None:
    assert merkle.EMPTY_ROOT.hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    # RFC 6962 reference: the hash of an empty leaf, as in transparency-dev/merkle
    assert merkle.leaf_hash(b"").hex() == "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"


def test_the_rolling_hash_over_all_subtrees_of_130_leaves_is_the_published_one() -> None:
    # leaves are the single bytes 0..129; each line "[s, e) <MTH>" for the valid subtrees
    leaves = [merkle.leaf_hash(bytes([n])) for n in range(130)]
    rolling = hashlib.sha256()
    for end in range(131):
        for start in range(end + 1):
            width = end - start
            if start in {0, end} or start % (1 << (width - 1).bit_length()) == 0:
                frontier = merkle.Frontier()
                for leaf in leaves[start:end]:
                    frontier.append(leaf)
                rolling.update(f"[{start}, {end}) {frontier.root().hex()}\n".encode())
    assert rolling.hexdigest() == "b82806ad4265bb151c1119c0f4db437bb4d1a1f887b3a7fba1cd4ebf552e3e81"


def test_every_inclusion_proof_verifies_at_its_own_place_only() -> None:
    for size in range(1, 34):
        for index in range(size):
            proof = oracle.path(index, LEAVES[:size])
            assert merkle.inclusion_path(index, size, node) == proof
            assert merkle.verify_inclusion(index, size, LEAVES[index], proof, ROOTS[size])
            assert not any(
                merkle.verify_inclusion(other, size, LEAVES[index], proof, ROOTS[size])
                for other in range(-1, size + 1)
                if other != index
            )
            assert not any(
                merkle.verify_inclusion(index, size, LEAVES[index], bad, ROOTS[size]) for bad in spoil(proof)
            )


def test_every_consistency_proof_verifies_and_no_spoiled_one_does() -> None:
    for second in range(1, 34):
        for first in range(1, second + 1):
            proof = oracle.proof(first, LEAVES[:second])
            assert merkle.verify_consistency(first, second, ROOTS[first], ROOTS[second], proof)
            assert not merkle.verify_consistency(first, second, bytes(32), ROOTS[second], proof)
            assert not merkle.verify_consistency(first, second, ROOTS[first], bytes(32), proof)
            assert not any(
                merkle.verify_consistency(first, second, ROOTS[first], ROOTS[second], bad) for bad in spoil(proof)
            )


@pytest.mark.parametrize(("first", "second"), [(0, 0), (0, 5), (6, 5)])
def test_a_consistency_proof_from_nothing_or_backwards_is_refused(first: int, second: int) -> None:
    assert not merkle.verify_consistency(first, second, ROOTS[first], ROOTS[second], [])


def test_an_empty_consistency_proof_between_sizes_is_refused() -> None:
    assert not merkle.verify_consistency(4, 5, ROOTS[4], ROOTS[5], [])
    assert not merkle.verify_consistency(3, 5, ROOTS[3], ROOTS[5], [])


def test_hashes_of_another_length_are_refused_even_for_one_leaf() -> None:
    assert not merkle.verify_inclusion(0, 1, b"", [], b"")
    assert not merkle.verify_consistency(1, 1, b"", b"", [])


def test_roots_of_any_prefix_come_from_the_same_subtrees_as_the_whole() -> None:
    chooser = random.Random(9162)
    for _ in range(200):
        small = chooser.randrange(1, 66)
        large = chooser.randrange(small, 67)
        asked: set[tuple[int, int]] = set()

        def noting(level: int, index: int, asked: set[tuple[int, int]] = asked) -> bytes:
            asked.add((level, index))
            return node(level, index)

        assert merkle.range_root(0, large, noting, cut=small) == ROOTS[large]
        whole = set(asked)
        assert merkle.range_root(0, small, noting) == ROOTS[small]
        assert asked == whole


def test_a_frontier_gives_the_root_at_every_size() -> None:
    frontier = merkle.Frontier()
    assert frontier.root() == merkle.EMPTY_ROOT
    for size, leaf in enumerate(LEAVES, 1):
        frontier.append(leaf)
        assert (frontier.size, frontier.root()) == (size, ROOTS[size])


def test_a_perfect_root_is_the_root_of_its_hashes() -> None:
    assert [merkle.perfect_root(LEAVES[:n]) for n in (1, 2, 4, 64)] == [ROOTS[n] for n in (1, 2, 4, 64)]

"""AnchorRegistry on an EVM against a plain reference of RFC 9162: honest and tampered, small and huge."""

import hashlib
import random
import re
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from eth_abi import decode, encode
from eth_utils import keccak

from contracts import artefact
from tests.rfc9162_reference import SparseTree, includes, is_consistent, leaf_hash

pyrevm = pytest.importorskip("pyrevm", reason="pyrevm has no wheel for this Python; anvil and the node still test")

OWNER, PUBLISHER, STRANGER = (f"0x{n * 40}" for n in ("1", "2", "3"))
ORIGIN = "daicho.invalid/0011223344556677"
LOG_ID = hashlib.sha256(ORIGIN.encode()).digest()
LARGEST_EXHAUSTIVE_SIZE = 32
ZERO = "0x" + "0" * 40


class RefusedError(Exception):
    """A revert, with its custom error's name and values."""

    def __init__(self, name: str, values: tuple[Any, ...]) -> None:
        super().__init__(name, values)
        self.name, self.values = name, values


class Contract:
    """The deployed registry: `c.head(...)` reads, `c.send(caller, "anchor", ...)` writes."""

    def __init__(self) -> None:
        self.evm = pyrevm.EVM()
        for account in (OWNER, PUBLISHER, STRANGER):
            self.evm.set_balance(account, 10**24)
        self.functions: dict[str, tuple[bytes, list[str], list[str]]] = {}
        self.errors: dict[bytes, tuple[str, list[str]]] = {keccak(text="Sha256Failed()")[:4]: ("Sha256Failed", [])}
        for item in artefact().abi:
            types = [argument["type"] for argument in item.get("inputs", [])]
            selector = keccak(text=f"{item.get('name')}({','.join(types)})")[:4]
            if item["type"] == "function":
                self.functions[item["name"]] = (selector, types, [o["type"] for o in item["outputs"]])
            elif item["type"] == "error":
                self.errors[selector] = (item["name"], types)
        self.address = self.evm.deploy(OWNER, artefact().bytecode + encode(["address"], [OWNER]))

    def send(self, caller: str, function: str, *arguments: Any, is_static: bool = False) -> Any:
        selector, types, outputs = self.functions[function]
        data = selector + encode(types, arguments)
        try:
            answer = self.evm.message_call(caller, self.address, data, is_static=is_static)
        except RuntimeError as error:
            # pyrevm shows the revert data in its message only
            revert = bytes.fromhex(re.search(r"output: 0x([0-9a-f]*)", str(error))[1])
            name, error_types = self.errors[revert[:4]]
            raise RefusedError(name, decode(error_types, revert[4:])) from None
        values = decode(outputs, answer)
        return values[0] if len(values) == 1 else values

    def call(self, function: str, *arguments: Any) -> Any:
        return self.send(STRANGER, function, *arguments, is_static=True)


@pytest.fixture(scope="module")
def contract() -> Contract:
    return Contract()


@pytest.fixture
def registered() -> Contract:
    fresh = Contract()
    assert fresh.send(OWNER, "registerLog", ORIGIN, PUBLISHER) == LOG_ID
    return fresh


def small_tree(size: int) -> SparseTree:
    return SparseTree((), [leaf_hash(n.to_bytes(4, "big")) for n in range(size)])


def flip(value: bytes) -> bytes:
    return bytes([value[0] ^ 1]) + value[1:]


def tampered(proof: Sequence[bytes], rnd: random.Random) -> Iterator[list[bytes]]:
    """Every proof one step away: a bit flipped, a node left out, two swapped, one added, none."""
    nodes = list(proof)
    for at in range(len(nodes)):
        yield [*nodes[:at], flip(nodes[at]), *nodes[at + 1 :]]
        yield nodes[:at] + nodes[at + 1 :]
    for at in range(len(nodes) - 1):
        if nodes[at] != nodes[at + 1]:
            yield [*nodes[:at], nodes[at + 1], nodes[at], *nodes[at + 2 :]]
    yield [*nodes, rnd.randbytes(32)]
    yield [*nodes, *nodes[-1:]] if nodes else [bytes(32)]
    if nodes:
        yield []


def test_every_honest_consistency_proof_is_accepted_and_every_tampered_one_judged_as_the_rfc_does(
    contract: Contract,
) -> None:
    rnd = random.Random(1)
    tree = small_tree(LARGEST_EXHAUSTIVE_SIZE + 2)
    roots = [tree.root(n) for n in range(LARGEST_EXHAUSTIVE_SIZE + 3)]
    forgeries = 0
    for second in range(2, LARGEST_EXHAUSTIVE_SIZE + 1):
        for first in range(1, second):
            a, b, proof = roots[first], roots[second], tree.consistency(first, second)
            assert contract.call("verifyConsistency", first, a, second, b, proof) is True
            altered = [(first, a, second, b, p) for p in tampered(proof, rnd)]
            altered += [(first, flip(a), second, b, proof), (first, a, second, flip(b), proof)]
            altered += [(first, b, second, a, proof), (second, b, first, a, proof)]
            altered += [(max(first + d, 0), a, second, b, proof) for d in (-1, 1, 2)]
            altered += [(first, a, second + d, b, proof) for d in (-1, 1, 2)]
            for case in altered:
                assert contract.call("verifyConsistency", *case) is is_consistent(*case), case
                forgeries += 1
    assert forgeries > 10_000


def test_every_honest_inclusion_proof_is_accepted_and_every_tampered_one_judged_as_the_rfc_does(
    contract: Contract,
) -> None:
    rnd = random.Random(2)
    tree = small_tree(LARGEST_EXHAUSTIVE_SIZE + 2)
    for size in range(1, LARGEST_EXHAUSTIVE_SIZE + 1):
        root = tree.root(size)
        for index in range(size):
            leaf, path = tree.range_root(index, index + 1), tree.inclusion(index, size)
            assert contract.call("verifyInclusionAt", root, leaf, index, size, path) is True
            altered = [(root, leaf, index, size, p) for p in tampered(path, rnd)]
            altered += [(flip(root), leaf, index, size, path), (root, flip(leaf), index, size, path)]
            altered += [(root, leaf, max(index + d, 0), size, path) for d in (-1, 1, size)]
            altered += [(root, leaf, index, max(size + d, 0), path) for d in (-1, 1, 2)]
            for case in altered:
                expected = includes(case[1], case[2], case[3], case[4], case[0])
                assert contract.call("verifyInclusionAt", *case) is expected, case


@pytest.mark.parametrize("around", [10**3, 10**6, 10**9, 2**40, 2**63, 2**64 - 1])
def test_proofs_of_huge_trees_are_judged_as_small_ones(contract: Contract, around: int) -> None:
    rnd = random.Random(around)
    for _ in range(25):
        second = rnd.randrange(around // 2 + 1, around + 1)
        first = rnd.randrange(1, second)
        tree = SparseTree((first,))
        a, b, proof = tree.root(first), tree.root(second), tree.consistency(first, second)
        assert contract.call("verifyConsistency", first, a, second, b, proof) is True
        at = rnd.randrange(len(proof))
        for forged in (
            (a, flip(b), proof),
            (flip(a), b, proof),
            (a, b, [*proof[:at], flip(proof[at]), *proof[at + 1 :]]),
        ):
            assert contract.call("verifyConsistency", first, forged[0], second, forged[1], forged[2]) is False
        index = rnd.randrange(second)
        tree = SparseTree((index, index + 1))
        leaf, root, path = tree.range_root(index, index + 1), tree.root(second), tree.inclusion(index, second)
        assert contract.call("verifyInclusionAt", root, leaf, index, second, path) is True
        assert contract.call("verifyInclusionAt", root, flip(leaf), index, second, path) is False
        other = index ^ 1 if index ^ 1 < second else index - 1
        assert contract.call("verifyInclusionAt", root, leaf, other, second, path) is False


def test_the_largest_possible_log_can_be_anchored(registered: Contract) -> None:
    largest, first = 2**64 - 1, 2**63 + 12345
    tree = SparseTree((first,))
    registered.send(PUBLISHER, "anchor", LOG_ID, first, tree.root(first), [])
    registered.send(PUBLISHER, "anchor", LOG_ID, largest, tree.root(largest), tree.consistency(first, largest))
    assert registered.call("head", LOG_ID)[1] == largest


def test_a_proof_does_not_bind_the_new_size_so_that_nobody_relies_on_it(contract: Contract) -> None:
    tree = small_tree(7)
    proof = tree.consistency(4, 6)
    assert contract.call("verifyConsistency", 4, tree.root(4), 6, tree.root(6), proof) is True
    assert contract.call("verifyConsistency", 4, tree.root(4), 7, tree.root(6), proof) is True


def test_heads_grow_and_the_events_chain(registered: Contract) -> None:
    tree = small_tree(20)
    sizes, previous = [3, 4, 11, 20], 0
    topic = keccak(text="Anchored(bytes32,uint64,bytes32,uint64)")
    for size in sizes:
        proof = tree.consistency(previous, size) if previous else []
        registered.send(PUBLISHER, "anchor", LOG_ID, size, tree.root(size), proof)
        log = registered.evm.result.logs[-1]
        assert [bytes.fromhex(t.removeprefix("0x")) for t in log.topics] == [
            topic,
            LOG_ID,
            size.to_bytes(32, "big"),
        ]
        assert decode(["bytes32", "uint64"], bytes(log.data[1])) == (tree.root(size), previous)
        assert registered.call("head", LOG_ID)[1::2] == (size, tree.root(size))
        previous = size
    leaf = tree.range_root(5, 6)
    assert registered.call("verifyInclusion", LOG_ID, leaf, 5, 20, tree.inclusion(5, 20)) is True
    with pytest.raises(RefusedError) as refused:
        registered.call("verifyInclusion", LOG_ID, leaf, 5, 11, tree.inclusion(5, 11))
    assert (refused.value.name, refused.value.values) == ("NotLatest", (LOG_ID, 20, 11))


def test_a_rewritten_history_is_refused_for_good(registered: Contract) -> None:
    honest, rewritten = small_tree(9), SparseTree((), [leaf_hash(b"evil"), *small_tree(8)._leaves])
    registered.send(PUBLISHER, "anchor", LOG_ID, 5, honest.root(5), [])
    for proof in (rewritten.consistency(5, 9), honest.consistency(5, 9), []):
        with pytest.raises(RefusedError) as refused:
            registered.send(PUBLISHER, "anchor", LOG_ID, 9, rewritten.root(9), proof)
        assert (refused.value.name, refused.value.values) == ("Inconsistent", (LOG_ID, 5, 9))
    assert registered.call("head", LOG_ID)[1::2] == (5, honest.root(5))


def test_a_log_never_shrinks_or_stands_still(registered: Contract) -> None:
    tree = small_tree(9)
    registered.send(PUBLISHER, "anchor", LOG_ID, 5, tree.root(5), [])
    for size in (0, 4, 5):
        with pytest.raises(RefusedError) as refused:
            registered.send(PUBLISHER, "anchor", LOG_ID, size, tree.root(size), [])
        assert (refused.value.name, refused.value.values) == ("NotGrowing", (LOG_ID, 5, size))


def test_a_first_anchor_comes_without_a_proof(registered: Contract) -> None:
    with pytest.raises(RefusedError) as refused:
        registered.send(PUBLISHER, "anchor", LOG_ID, 1, bytes(32), [bytes(32)])
    assert refused.value.name == "Inconsistent"


@pytest.mark.parametrize("caller", [OWNER, STRANGER])
def test_only_the_publisher_anchors_not_even_the_owner(registered: Contract, caller: str) -> None:
    with pytest.raises(RefusedError) as refused:
        registered.send(caller, "anchor", LOG_ID, 1, bytes(32), [])
    assert (refused.value.name, refused.value.values) == ("NotPublisher", (LOG_ID, caller))


def test_an_unregistered_log_cannot_be_anchored(registered: Contract) -> None:
    with pytest.raises(RefusedError) as refused:
        registered.send(PUBLISHER, "anchor", bytes(32), 1, bytes(32), [])
    assert (refused.value.name, refused.value.values) == ("UnknownLog", (bytes(32),))


def test_only_the_owner_registers_logs_and_changes_publishers(registered: Contract) -> None:
    for function, arguments in (
        ("registerLog", ("other", PUBLISHER)),
        ("setPublisher", (LOG_ID, STRANGER)),
        ("transferOwnership", (STRANGER,)),
    ):
        with pytest.raises(RefusedError) as refused:
            registered.send(PUBLISHER, function, *arguments)
        assert (refused.value.name, refused.value.values) == ("NotOwner", (PUBLISHER,))


def test_a_log_is_registered_once_and_with_a_publisher(registered: Contract) -> None:
    with pytest.raises(RefusedError, match="AlreadyRegistered"):
        registered.send(OWNER, "registerLog", ORIGIN, STRANGER)
    with pytest.raises(RefusedError, match="ZeroAddress"):
        registered.send(OWNER, "registerLog", "other", ZERO)
    with pytest.raises(RefusedError, match="ZeroAddress"):
        registered.send(OWNER, "setPublisher", LOG_ID, ZERO)
    with pytest.raises(RefusedError, match="UnknownLog"):
        registered.send(OWNER, "setPublisher", bytes(32), STRANGER)


def test_a_changed_publisher_goes_on_from_the_same_head(registered: Contract) -> None:
    tree = small_tree(9)
    registered.send(PUBLISHER, "anchor", LOG_ID, 5, tree.root(5), [])
    registered.send(OWNER, "setPublisher", LOG_ID, STRANGER)
    with pytest.raises(RefusedError, match="NotPublisher"):
        registered.send(PUBLISHER, "anchor", LOG_ID, 9, tree.root(9), tree.consistency(5, 9))
    registered.send(STRANGER, "anchor", LOG_ID, 9, tree.root(9), tree.consistency(5, 9))
    assert registered.call("head", LOG_ID)[1] == 9


def test_ownership_passes_on_only_when_it_is_accepted(registered: Contract) -> None:
    registered.send(OWNER, "transferOwnership", STRANGER)
    assert registered.call("owner") == OWNER
    with pytest.raises(RefusedError) as refused:
        registered.send(PUBLISHER, "acceptOwnership")
    assert (refused.value.name, refused.value.values) == ("NotPendingOwner", (PUBLISHER,))
    registered.send(STRANGER, "acceptOwnership")
    assert (registered.call("owner"), registered.call("pendingOwner")) == (STRANGER, ZERO)
    with pytest.raises(RefusedError, match="NotOwner"):
        registered.send(OWNER, "transferOwnership", OWNER)


def test_an_offered_ownership_can_be_withdrawn(registered: Contract) -> None:
    registered.send(OWNER, "transferOwnership", STRANGER)
    registered.send(OWNER, "transferOwnership", ZERO)
    with pytest.raises(RefusedError, match="NotPendingOwner"):
        registered.send(STRANGER, "acceptOwnership")


def test_a_contract_without_an_owner_is_not_deployed() -> None:
    evm = pyrevm.EVM()
    evm.set_balance(OWNER, 10**24)
    with pytest.raises(RuntimeError):
        evm.deploy(OWNER, artefact().bytecode + encode(["address"], [ZERO]))


def test_other_logs_are_not_touched(registered: Contract) -> None:
    other = registered.send(OWNER, "registerLog", "another", PUBLISHER)
    registered.send(PUBLISHER, "anchor", LOG_ID, 5, b"\x05" * 32, [])
    assert registered.call("head", other) == (PUBLISHER, 0, 0, bytes(32))
    assert registered.call("head", bytes(32)) == (ZERO, 0, 0, bytes(32))


def test_a_proof_that_cannot_pay_for_its_hashing_fails_instead_of_being_judged(registered: Contract) -> None:
    # a starved precompile must not leave stale memory to be taken for a hash
    tree = small_tree(9)
    selector, types, _ = registered.functions["verifyConsistency"]
    data = selector + encode(types, (5, tree.root(5), 9, tree.root(9), tree.consistency(5, 9)))
    outcomes = set()
    for gas in range(22_000, 40_000, 97):
        try:
            answer = registered.evm.message_call(STRANGER, registered.address, data, gas=gas, is_static=True)
            outcomes.add(int.from_bytes(answer, "big"))
        except RuntimeError:
            outcomes.add("failed")
    assert outcomes == {1, "failed"}

"""The Merkle log beside plain hashlib and beside pymerkle 7.0.0: alternating runs in one process, medians."""

import hashlib
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from pymerkle import InmemoryTree, SqliteTree

from merkle.flat_log import FlatLog
from merkle.hashing import leaf_hashes

Row = dict[str, Any]
ROUNDS = 5
LEAF_BYTES = 250
BATCH = 256
APPENDED = 256 * 120
PROVED = 200_000
CONDITIONS = (
    f"CPython {sys.version.split()[0]}, one thread, {LEAF_BYTES}-byte leaves, medians of {ROUNDS} alternating runs"
)


def rows() -> list[Row]:
    """All rows of this file."""
    return [*append_rows(), *proof_rows()]


def append_rows() -> list[Row]:
    """Appending in batches of 256 with the root after each, as a sequencer does at full load (leaves a second)."""
    source = random.Random(7)
    leaves = [source.randbytes(LEAF_BYTES) for _ in range(APPENDED)]
    batches = [leaves[at : at + BATCH] for at in range(0, APPENDED, BATCH)]

    def ours() -> bytes:
        log = FlatLog()
        root = b""
        for batch in batches:
            log.append(leaf_hashes(batch))
            root = log.root()
        return root

    def plain() -> None:
        new = hashlib.sha256
        hashes = [new(b"\x00" + leaf).digest() for leaf in leaves]
        pairs = iter(hashes + hashes)
        for left, right in zip(pairs, pairs, strict=False):
            new(b"\x01" + left + right).digest()

    def pymerkle() -> bytes:
        tree = InmemoryTree(algorithm="sha256")
        root = b""
        for batch in batches:
            tree.append_entries(batch)
            root = tree.get_root()
        return root

    assert ours() == pymerkle()
    rate = {name: APPENDED / seconds for name, seconds in _medians(ours=ours, plain=plain, pymerkle=pymerkle).items()}
    note = f"{APPENDED} leaves in batches of {BATCH}, root after each; {CONDITIONS}"
    return [
        _row("merkle-append-limit", "append leaves, root after each batch (leaves/s)", "two bare hashlib hashes a leaf",
             rate["ours"], rate["plain"], 0.8, 1.1, note),
        _row("merkle-append-pymerkle", "append leaves, root after each batch (leaves/s)", "pymerkle 7.0.0 in memory",
             rate["ours"], rate["pymerkle"], 5, 30, note),
    ]  # fmt: skip


def proof_rows() -> list[Row]:
    """Making inclusion proofs at random places of a tree of 200,000 leaves (proofs a second)."""
    leaves = [b"%d" % number for number in range(PROVED)]
    log = FlatLog()
    log.append(leaf_hashes(leaves))
    source = random.Random(1)
    places = [source.randrange(PROVED) for _ in range(20_000)]
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        memory = InmemoryTree(algorithm="sha256")
        disk = stack.enter_context(SqliteTree(str(Path(folder) / "tree.db"), algorithm="sha256"))
        for tree in (memory, disk):
            tree.append_entries(leaves)
            assert tree.get_root() == log.root()
        assert memory.prove_inclusion(places[0] + 1).path[1:] == log.inclusion_path(places[0])

        seconds = _medians(
            ours=_each(log.inclusion_path, places),
            memory=_each(lambda place: memory.prove_inclusion(place + 1), places[:1000]),
            disk=_each(lambda place: disk.prove_inclusion(place + 1), places[:300]),
        )
    rate = {"ours": 20_000 / seconds["ours"], "memory": 1000 / seconds["memory"], "disk": 300 / seconds["disk"]}
    note = f"{PROVED} leaves, random places; {CONDITIONS}"
    return [
        _row("merkle-inclusion-memory", "make inclusion proofs (proofs/s)", "pymerkle 7.0.0 in memory",
             rate["ours"], rate["memory"], 8, 20, note),
        _row("merkle-inclusion-sqlite", "make inclusion proofs (proofs/s)", "pymerkle 7.0.0 on SQLite",
             rate["ours"], rate["disk"], 25, 80, note),
    ]  # fmt: skip


def _each(call: Callable[[int], object], places: Sequence[int]) -> Callable[[], None]:
    def run() -> None:
        for place in places:
            call(place)

    return run


def _medians(**runs: Callable[[], object]) -> dict[str, float]:
    """Median seconds of each run; the runs take turns, so that all see the same machine."""
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(ROUNDS):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            taken[name].append(time.perf_counter() - start)
    return {name: statistics.median(seconds) for name, seconds in taken.items()}


def _row(
    identity: str, measure: str, baseline: str, ours: float, base: float, gate: float, goal: float, conditions: str
) -> Row:
    return {
        "id": identity,
        "measure": measure,
        "baseline": baseline,
        "ours": round(ours),
        "base": round(base),
        "ratio": round(ours / base, 2),
        "gate": gate,
        "goal": goal,
        "lower_is_better": False,
        "conditions": conditions,
    }

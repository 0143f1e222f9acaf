"""Two attacks of a dishonest operator, on copies: a byte in the database, a rewritten history for the contract."""

import shutil
from pathlib import Path
from typing import NamedTuple, Protocol

from chain.connection import Connection
from chain.curve import checksummed
from chain.errors import RefusedError
from chain.registry import Registry, log_id_of
from cli.checking.run import run_check
from cli.demo.service import DemoFailed
from domain.entry import entry_leaf_hash
from merkle.flat_log import FlatLog
from merkle.hashing import leaf_hashes
from storage.entry_log import SqliteEntryLog
from storage.folder import DataFolder


class Entries(Protocol):
    """An event store's entries, to read."""

    def read(self, start: int, limit: int) -> list[tuple[int, bytes]]:
        """Positions and bytes of `limit` entries from a position on."""
        ...


class Tampering(NamedTuple):
    """What was changed, and where the check finds it."""

    position: int
    before: str
    after: str
    found_at: int
    found_in: str


def copy_folder(folder: DataFolder, target: Path) -> DataFolder:
    """A copy of a stopped service's data folder."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(folder.path, target, ignore=shutil.ignore_patterns("lock", "*-shm"))
    return DataFolder(target)


def change_one_byte(copy: DataFolder, position: int) -> Tampering:
    """Raise an amount by one digit, straight in the database's file, then check the copy."""
    entries = SqliteEntryLog(copy.ledger)
    state = entries.get(position)
    entries.close()
    if state is None:
        raise DemoFailed(f"there is no entry {position} to tamper with")
    mark = state.index(b'"units":"') + len(b'"units":"')
    forged = state[:mark] + bytes([state[mark] + 1 if state[mark] < ord("9") else ord("1")]) + state[mark + 1 :]
    raw = bytearray(copy.ledger.read_bytes())
    start = raw.find(state)
    if start < 0:
        raise DemoFailed("the entry's bytes do not lie in one piece in the file")
    raw[start : start + len(state)] = forged
    copy.ledger.write_bytes(raw)
    first = run_check(copy, signatures=False, progress=lambda *_: None).first
    if first is None:
        raise DemoFailed("the check did not notice the change")
    return Tampering(position, _amount(state), _amount(forged), first.position, first.part)


def rewrite_history(rpc_url: str, entries: Entries, origin: str, chain_id: int, contract: str, forged_at: int) -> str:
    """Offer the contract a longer log in which one entry is another, with the best proof there is for it.

    Returns the contract's refusal. `rpc_url` is a node of the chain, or over a copy of it: nothing is sent.
    """
    registry = Registry(Connection(rpc_url), chain_id=chain_id, contract=contract, log_id=log_id_of(origin))
    head = registry.head()
    states = [state for _, state in entries.read(1, head.size)]
    states[forged_at - 1] = states[forged_at - 1].replace(b'"units":"', b'"units":"9', 1)
    tree = FlatLog()
    tree.append(leaf_hashes(states))
    tree.append(entry_leaf_hash(b"one more entry"))
    proof = tree.consistency_proof(head.size, tree.size)
    try:
        registry.estimate_anchor(checksummed(bytes.fromhex(head.publisher[2:])), tree.size, tree.root(), proof)
    except RefusedError as refusal:
        return str(refusal)
    raise DemoFailed("the contract accepted a rewritten history")


def _amount(state: bytes) -> str:
    start = state.index(b'"units":"') + len(b'"units":"')
    return state[start : state.index(b'"', start)].decode()

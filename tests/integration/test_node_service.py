"""The embedded node as an operator meets it: files, locks, copies, kills, full disks."""

import contextlib
import http.client
import io
import shutil
import signal
import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest
import rlp
from eth.db.atomic import AtomicDB
from eth_utils import keccak

from chain.node.errors import RpcError
from chain.node.evm import Evm, _chain_class
from tests.chain_fixtures import (
    CHAIN_ID,
    GENESIS,
    EmbeddedNode,
    KeySigner,
    NodeDidNotStartError,
    transfer,
)

pytest_plugins = ("tests.chain_fixtures",)


# files


def test_a_restarted_node_continues_the_same_chain(tmp_path: Path, publisher: KeySigner) -> None:
    file = tmp_path / "chain.db"
    hashes = []
    for turn in range(3):
        node = EmbeddedNode(file, *(*GENESIS, "--fund", publisher.address) if turn == 0 else ())
        hashes.append(node.rpc("eth_sendRawTransaction", transfer(publisher, turn)))
        assert node.end() == 0
    node = EmbeddedNode(file)
    assert node.ready["chain_id"] == CHAIN_ID
    assert [node.rpc("eth_getTransactionByHash", h)["nonce"] for h in hashes] == ["0x0", "0x1", "0x2"]
    assert node.rpc("eth_blockNumber") == "0x3"
    node.end()


def test_a_stopped_node_leaves_one_whole_file(tmp_path: Path, publisher: KeySigner) -> None:
    node = EmbeddedNode(tmp_path / "chain.db", *GENESIS, "--fund", publisher.address)
    node.rpc("eth_sendRawTransaction", transfer(publisher, 0))
    node.end()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["chain.db", "chain.db.lock"]


def refused_start(file: Path, *arguments: str, exit_code: int = 3) -> str:
    """What the command says instead of starting."""
    code, text = run_main([str(file), *arguments])
    assert code == exit_code
    return text.strip()


def run_main(arguments: list[str]) -> tuple[Any, str]:
    from chain.node.__main__ import main

    errors = io.StringIO()
    with contextlib.redirect_stderr(errors):
        try:
            code: Any = main(arguments)
        except SystemExit as ended:
            code = ended.code
    return code, errors.getvalue()


def test_a_node_that_cannot_start_ends_with_one_line(tmp_path: Path) -> None:
    with pytest.raises(NodeDidNotStartError) as refused:
        EmbeddedNode(tmp_path / "chain.db")
    code, message = refused.value.args
    assert (code, message.count("\n")) == (3, 1)


def test_a_second_node_on_the_same_file_refuses_to_start(embedded_node: EmbeddedNode, tmp_path: Path) -> None:
    assert "in use by another node" in refused_start(tmp_path / "chain.db")
    assert embedded_node.rpc("eth_blockNumber") == "0x0"


def test_a_file_of_another_chain_is_refused(tmp_path: Path, publisher: KeySigner) -> None:
    file = tmp_path / "chain.db"
    assert "is new: it needs a chain id" in refused_start(file)
    Evm(file, chain_id=CHAIN_ID, fund=[bytes.fromhex(publisher.address[2:])]).close()
    assert f"holds chain {CHAIN_ID}, not 5" in refused_start(file, "--chain-id", "5")
    assert "and nobody else" in refused_start(file, "--fund", "0x" + "66" * 20)
    assert "not an address" in refused_start(file, "--fund", "0x12", exit_code=2)


def test_a_file_that_is_no_chain_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "chain.db"
    file.write_bytes(b"not a database at all" * 100)
    assert "not a chain file" in refused_start(file, *GENESIS)
    assert "cannot be read as a chain file" in refused_start(file, "--read-only")
    assert "does not exist" in refused_start(tmp_path / "none.db", "--read-only")


def test_a_taken_port_is_one_clear_line(embedded_node: EmbeddedNode, tmp_path: Path) -> None:
    message = refused_start(tmp_path / "other.db", "--port", str(embedded_node.port), exit_code=4)
    assert message == f"port {embedded_node.port}: Address already in use"


# reading a copy


def test_an_auditor_reads_a_copy_that_nothing_changes(tmp_path: Path, publisher: KeySigner) -> None:
    node = EmbeddedNode(tmp_path / "chain.db", *GENESIS, "--fund", publisher.address)
    tx_hash = node.rpc("eth_sendRawTransaction", transfer(publisher, 0))
    block = node.rpc("eth_getBlockByNumber", "latest", True)
    node.end()
    folder = tmp_path / "auditor"
    folder.mkdir()
    copy = shutil.copy(tmp_path / "chain.db", folder / "copy.db")
    before = copy.read_bytes()
    folder.chmod(0o555)
    reader = EmbeddedNode(copy, "--read-only")
    assert reader.rpc("eth_getBlockByNumber", "latest", True) == block
    assert reader.rpc("eth_getTransactionReceipt", tx_hash)["status"] == "0x1"
    assert reader.rpc("eth_call", {"to": "0x" + "55" * 20}, "latest") == "0x"
    refused = reader.request("eth_sendRawTransaction", transfer(publisher, 1))["error"]
    assert "read-only" in refused["message"]
    assert reader.end() == 0
    folder.chmod(0o755)
    assert [p.name for p in folder.iterdir()] == ["copy.db"]
    assert copy.read_bytes() == before


def test_a_reader_beside_the_running_node_sees_new_blocks(
    embedded_node: EmbeddedNode, publisher: KeySigner, tmp_path: Path
) -> None:
    reader = EmbeddedNode(tmp_path / "chain.db", "--read-only")
    assert reader.rpc("eth_blockNumber") == "0x0"
    tx_hash = embedded_node.rpc("eth_sendRawTransaction", transfer(publisher, 0))
    assert reader.rpc("eth_blockNumber") == "0x1"
    assert reader.rpc("eth_getTransactionReceipt", tx_hash)["blockNumber"] == "0x1"
    reader.end()


def test_a_file_left_by_a_killed_node_can_be_read(tmp_path: Path, publisher: KeySigner) -> None:
    node = EmbeddedNode(tmp_path / "chain.db", *GENESIS, "--fund", publisher.address)
    tx_hash = node.rpc("eth_sendRawTransaction", transfer(publisher, 0))
    node.end(signal.SIGKILL)
    reader = EmbeddedNode(tmp_path / "chain.db", "--read-only")
    assert reader.rpc("eth_getTransactionReceipt", tx_hash)["blockNumber"] == "0x1"
    reader.end()


# what is in the blocks


def test_a_block_hash_is_the_hash_of_its_header(embedded_node: EmbeddedNode, publisher: KeySigner) -> None:
    embedded_node.rpc("eth_sendRawTransaction", transfer(publisher, 0))
    block = embedded_node.rpc("eth_getBlockByNumber", "latest", False)
    raw = ("parentHash", "sha3Uncles", "miner", "stateRoot", "transactionsRoot", "receiptsRoot", "logsBloom")
    numbers = ("difficulty", "number", "gasLimit", "gasUsed", "timestamp")
    tail = ("withdrawalsRoot", "blobGasUsed", "excessBlobGas", "parentBeaconBlockRoot", "requestsHash")

    def octets(name: str) -> bytes:
        return bytes.fromhex(block[name][2:])

    def number(name: str) -> int:
        return int(block[name], 16)

    header: list[Any] = [*map(octets, raw), *map(number, numbers), *map(octets, ("extraData", "mixHash", "nonce"))]
    header += [number("baseFeePerGas")]
    header += [number(name) if name.endswith(("Used", "Gas")) else octets(name) for name in tail]
    assert "0x" + keccak(rlp.encode(header)).hex() == block["hash"]


def test_the_chain_replays_to_the_same_blocks(tmp_path: Path, publisher: KeySigner) -> None:
    node = EmbeddedNode(tmp_path / "chain.db", *GENESIS, "--fund", publisher.address)
    for nonce in range(5):
        node.rpc("eth_sendRawTransaction", transfer(publisher, nonce))
    node.end()
    stored = Evm(tmp_path / "chain.db", chain_id=None, read_only=True)
    memory = AtomicDB()
    for key, value in stored.store._sql.execute("SELECT key, value FROM kv"):
        if len(key) == 32:
            memory[key] = value
    replayed = _chain_class(CHAIN_ID).from_genesis_header(memory, stored.header(0))
    for height in range(1, 6):
        imported = replayed.import_block(stored.block(stored.header(height))).imported_block
        assert imported.hash == stored.header(height).hash
    stored.close()


# durability


@pytest.mark.slow
def test_no_acknowledged_transaction_is_lost_by_ten_kills(tmp_path: Path, publisher: KeySigner) -> None:
    file, acknowledged = tmp_path / "chain.db", []
    node = EmbeddedNode(file, *GENESIS, "--fund", publisher.address)
    for turn in range(10):
        # the kill falls at another place of the block's work each time: after n answers and a growing pause
        killer = threading.Timer(0.01 + 0.013 * turn, node.process.kill)
        nonce = before = len(acknowledged)
        try:
            while True:
                acknowledged.append(node.rpc("eth_sendRawTransaction", transfer(publisher, nonce)))
                nonce += 1
                if len(acknowledged) == before + 1:
                    killer.start()
        except (OSError, http.client.HTTPException):
            pass
        killer.join()
        node.end()
        node = EmbeddedNode(file)
        mined = int(node.rpc("eth_getTransactionCount", publisher.address, "latest"), 16)
        assert len(acknowledged) <= mined <= len(acknowledged) + 1
        for tx_hash in acknowledged:
            assert node.rpc("eth_getTransactionReceipt", tx_hash)["status"] == "0x1"
        if mined > len(acknowledged):
            # mined but not answered: its sender finds it by its hash
            last = node.rpc("eth_getBlockByNumber", "latest", False)
            acknowledged.append(last["transactions"][0])
        assert node.rpc("eth_blockNumber") == hex(len(acknowledged))
    node.end()
    assert sqlite3.connect(file).execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_full_disk_refuses_the_transaction_and_keeps_the_chain(tmp_path: Path, publisher: KeySigner) -> None:
    evm = Evm(tmp_path / "chain.db", chain_id=CHAIN_ID, fund=[bytes.fromhex(publisher.address[2:])])
    pages = evm.store._sql.execute("PRAGMA page_count").fetchone()[0]
    evm.store._sql.execute(f"PRAGMA max_page_count={pages + 2}")
    outcomes = []
    for nonce in range(200):
        try:
            evm.send_raw(bytes.fromhex(transfer(publisher, nonce)[2:]))
        except sqlite3.OperationalError as error:
            outcomes.append(str(error))
            break
    assert outcomes == ["database or disk is full"]
    height = evm.head().block_number
    assert height == nonce
    evm.store._sql.execute("PRAGMA max_page_count=1073741823")
    evm.send_raw(bytes.fromhex(transfer(publisher, nonce)[2:]))
    assert evm.head().block_number == height + 1
    with pytest.raises(RpcError, match="already known"):
        evm.send_raw(bytes.fromhex(transfer(publisher, nonce)[2:]))
    evm.close()


def test_the_node_ends_when_its_parent_lets_go(embedded_node: EmbeddedNode) -> None:
    assert embedded_node.rpc("eth_chainId") == hex(CHAIN_ID)
    embedded_node.let_go()
    embedded_node.process.wait(20)
    with pytest.raises(OSError, match="refused"):
        embedded_node.rpc("eth_chainId")

"""The embedded node as an operator and an attacker meet it: files, locks, hostile input, reading a copy."""

import contextlib
import http.client
import io
import json
import shutil
import signal
import socket
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
    EmbeddedNode,
    KeySigner,
    NodeDidNotStartError,
)

pytest_plugins = ("tests.chain_fixtures",)

GENESIS = ("--chain-id", str(CHAIN_ID))


def transfer(signer: KeySigner, nonce: int, **fields: Any) -> str:
    base = {"type": 2, "chainId": CHAIN_ID, "nonce": nonce, "gas": 21_000, "value": 1, "to": "0x" + "55" * 20}
    fees = {"maxFeePerGas": 3 * 10**9, "maxPriorityFeePerGas": 10**6}
    return "0x" + signer.sign_fields(base | fees | fields).raw.hex()


def post(node: EmbeddedNode, body: bytes, **headers: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", node.port, timeout=20)
    sent = {"content-type": "application/json"} | {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request("POST", "/", body, sent)
    response = connection.getresponse()
    answer = response.status, response.read()
    connection.close()
    return answer


def error_code(answer: tuple[int, bytes]) -> int:
    status, body = answer
    assert status == 200
    code: int = json.loads(body)["error"]["code"]
    return code


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


# hostile input

HOSTILE_BODIES = {
    "nothing": (b"", -32700),
    "no JSON": (b"{", -32700),
    "no UTF-8": (b'{"method":"\xff\xfe"}', -32700),
    "not a number": (b'{"id":NaN,"method":"eth_chainId"}', -32700),
    "deep nesting": (b"[" * 100_000, -32700),
    "a giant number": (b'{"id":' + b"9" * 50_000 + b"}", -32700),
    "a scalar": (b"7", -32600),
    "null": (b"null", -32600),
    "no method": (b'{"id":1}', -32600),
    "a method that is no text": (b'{"id":1,"method":["eth_chainId"]}', -32600),
    "an empty batch": (b"[]", -32600),
    "a batch too large": (b"[" + b",".join([b"1"] * 101) + b"]", -32600),
    "an unknown method": (b'{"id":1,"method":"personal_unlockAccount","params":[]}', -32601),
    "a lone surrogate": (b'{"id":"\\ud800","method":"\\ud800"}', -32601),
    "an id that is no id": (b'{"id":{"a":1},"method":"nope"}', -32601),
    "named parameters": (b'{"id":1,"method":"eth_chainId","params":{"a":1}}', -32602),
    "a block that is an object": (b'{"id":1,"method":"eth_getBlockByNumber","params":[{"a":[]},false]}', -32602),
    "a block that is a list": (b'{"id":1,"method":"eth_getBlockByNumber","params":[[],false]}', -32602),
    "a negative block": (b'{"id":1,"method":"eth_getBlockByNumber","params":["-0x1",false]}', -32602),
    "a call that is no object": (b'{"id":1,"method":"eth_call","params":["0x"]}', -32602),
    "odd hexadecimal": (b'{"id":1,"method":"eth_call","params":[{"data":"0x1"}]}', -32602),
    "data unlike input": (b'{"id":1,"method":"eth_call","params":[{"data":"0x11","input":"0x12"}]}', -32602),
    "an address too short": (b'{"id":1,"method":"eth_getCode","params":["0x11","latest"]}', -32602),
    "too many topics": (b'{"id":1,"method":"eth_getLogs","params":[{"topics":[null,null,null,null,null]}]}', -32602),
    "topics that are no list": (b'{"id":1,"method":"eth_getLogs","params":[{"topics":{"a":1}}]}', -32602),
    "a history without end": (b'{"id":1,"method":"eth_feeHistory","params":["0x401","latest",[]]}', -32602),
    "a history of nothing": (b'{"id":1,"method":"eth_feeHistory","params":["0x0","latest",[]]}', -32602),
    "an empty transaction": (b'{"id":1,"method":"eth_sendRawTransaction","params":["0x"]}', -32000),
    "a transaction of noise": (b'{"id":1,"method":"eth_sendRawTransaction","params":["0x02f86b"]}', -32000),
    "an unknown type": (b'{"id":1,"method":"eth_sendRawTransaction","params":["0x7f00"]}', -32000),
    "a blob transaction": (b'{"id":1,"method":"eth_sendRawTransaction","params":["0x03c0"]}', -32000),
    "a block never mined": (b'{"id":1,"method":"eth_call","params":[{},"0xffffffffffffffff"]}', -32000),
}


@pytest.fixture(scope="module")
def long_lived(tmp_path_factory: pytest.TempPathFactory) -> Any:
    node = EmbeddedNode(tmp_path_factory.mktemp("node") / "chain.db", *GENESIS, "--fund", KeySigner().address)
    yield node
    node.end()


@pytest.mark.parametrize("name", HOSTILE_BODIES)
def test_hostile_bodies_are_refused_with_their_code(long_lived: EmbeddedNode, name: str) -> None:
    body, code = HOSTILE_BODIES[name]
    assert error_code(post(long_lived, body)) == code
    assert long_lived.rpc("eth_blockNumber") == "0x0"


def test_a_body_over_the_limit_is_not_read(long_lived: EmbeddedNode) -> None:
    status, _ = post(long_lived, b" " * (1024 * 1024 + 1))
    assert status == 413
    assert long_lived.rpc("eth_blockNumber") == "0x0"


def test_a_web_page_cannot_reach_the_node(long_lived: EmbeddedNode) -> None:
    body = b'{"jsonrpc":"2.0","id":1,"method":"eth_chainId"}'
    assert post(long_lived, body)[0] == 200
    assert post(long_lived, body, host="rebound.example")[0] == 403
    assert post(long_lived, body, host=f"localhost:{long_lived.port}")[0] == 200
    assert post(long_lived, body, content_type="text/plain")[0] == 415
    connection = http.client.HTTPConnection("127.0.0.1", long_lived.port, timeout=20)
    connection.request("OPTIONS", "/", headers={"origin": "http://page.example"})
    response = connection.getresponse()
    assert (response.status, response.getheader("access-control-allow-origin")) == (405, None)
    connection.close()


def test_half_requests_and_garbage_do_not_stop_the_node(long_lived: EmbeddedNode) -> None:
    sockets = []
    for noise in (b"\x16\x03\x01\x02", b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Le", b"GET\r\n\r\n"):
        client = socket.create_connection(("127.0.0.1", long_lived.port), timeout=10)
        client.sendall(noise)
        sockets.append(client)
    assert long_lived.rpc("eth_chainId") == hex(CHAIN_ID)
    for client in sockets:
        client.close()
    assert long_lived.rpc("eth_chainId") == hex(CHAIN_ID)


def test_notifications_get_no_answer(long_lived: EmbeddedNode) -> None:
    assert post(long_lived, b'{"jsonrpc":"2.0","method":"eth_chainId"}') == (200, b"")
    mixed = b'[{"method":"eth_chainId"},{"id":7,"method":"eth_chainId"}]'
    assert [part["id"] for part in json.loads(post(long_lived, mixed)[1])] == [7]


def test_a_call_that_never_ends_is_cut_off(long_lived: EmbeddedNode) -> None:
    # JUMPDEST PUSH1 0 JUMP: an endless loop that the caller brings along
    answer = long_lived.request("eth_call", {"data": "0x5b600056", "gas": "0xffffffffffff"}, "latest")
    assert answer["error"]["code"] == -32000
    assert "OutOfGas" in answer["error"]["message"]


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("60006000fd", "execution reverted"),
        ("634e487b7160e01b600052601160045260246000fd", "execution reverted: panic code 0x11"),
        ("62461bcd60e51b600052602060045260056024526468656c6c6f60d81b60445260646000fd", "execution reverted: hello"),
    ],
)
def test_reverts_are_spelled_out(long_lived: EmbeddedNode, code: str, message: str) -> None:
    error = long_lived.request("eth_call", {"data": "0x" + code}, "latest")["error"]
    assert (error["code"], error["message"]) == (3, message)
    assert error["data"].startswith("0x")


def test_calls_nested_to_the_last_gas_do_not_stop_the_node(long_lived: EmbeddedNode) -> None:
    # a contract that creates a copy of itself, which creates a copy of itself, and so on: CODESIZE PUSH1 0 DUP1
    # CODECOPY CODESIZE PUSH1 0 PUSH1 0 CREATE
    answer = long_lived.request("eth_call", {"data": "0x3860008039386000600 0f0".replace(" ", "")}, "latest")
    assert "result" in answer or answer["error"]["code"] == -32000
    assert long_lived.rpc("eth_blockNumber") == "0x0"


def test_a_call_sends_only_coins_that_are_there(long_lived: EmbeddedNode) -> None:
    message = {"from": "0x" + "12" * 20, "to": "0x" + "13" * 20, "value": "0x1"}
    for method in ("eth_call", "eth_estimateGas"):
        assert "insufficient funds" in long_lived.request(method, message)["error"]["message"]
    assert "intrinsic gas too low" in long_lived.request("eth_call", {"gas": "0x5"})["error"]["message"]


def test_requests_at_once_are_all_answered(long_lived: EmbeddedNode) -> None:
    answers: list[Any] = []
    threads = [threading.Thread(target=lambda: answers.append(long_lived.rpc("eth_chainId"))) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [hex(CHAIN_ID)] * 20


# transactions


def test_transactions_that_cannot_run_now_change_nothing(embedded_node: EmbeddedNode, publisher: KeySigner) -> None:
    refusals = {
        "nonce too high": {"nonce": 1},
        "exceeds block gas limit": {"gas": 30_000_001},
        "intrinsic gas too low": {"gas": 20_999},
        "max fee per gas less than block base fee": {"maxFeePerGas": 10**6},
        "max priority fee per gas higher": {"maxPriorityFeePerGas": 4 * 10**9},
        "insufficient funds": {"value": 10**24},
        "invalid chain id": {"chainId": 1},
    }
    for text, fields in refusals.items():
        nonce = fields.pop("nonce", 0)
        error = embedded_node.request("eth_sendRawTransaction", transfer(publisher, nonce, **fields))["error"]
        assert (error["code"], text in error["message"]) == (-32000, True), error
    unprotected = {"nonce": 0, "gas": 21_000, "gasPrice": 10**10, "value": 1, "to": "0x" + "55" * 20, "data": b""}
    raw = "0x" + publisher.sign_fields(unprotected).raw.hex()
    assert "replay-protected" in embedded_node.request("eth_sendRawTransaction", raw)["error"]["message"]
    altered = transfer(publisher, 0)[:-2] + "00"
    assert "error" in embedded_node.request("eth_sendRawTransaction", altered)
    assert embedded_node.rpc("eth_blockNumber") == "0x0"
    assert embedded_node.rpc("eth_getTransactionCount", publisher.address, "pending") == "0x0"
    sent = transfer(publisher, 0)
    embedded_node.rpc("eth_sendRawTransaction", sent)
    assert embedded_node.request("eth_sendRawTransaction", sent)["error"]["message"] == "already known"
    assert (
        "nonce too low"
        in embedded_node.request("eth_sendRawTransaction", transfer(publisher, 0, value=2))["error"]["message"]
    )


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

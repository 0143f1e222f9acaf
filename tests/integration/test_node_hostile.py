"""The embedded node as an attacker meets it: malformed requests, web pages, endless calls, wrong transactions."""

import http.client
import json
import socket
import threading
from typing import Any

import pytest

from tests.chain_fixtures import CHAIN_ID, GENESIS, EmbeddedNode, KeySigner, transfer

pytest_plugins = ("tests.chain_fixtures",)


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

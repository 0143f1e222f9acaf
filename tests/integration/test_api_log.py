"""The public log and the chain's read-only door: C2SP paths and headers, who reads bundles, which methods pass."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from merkle.tiles import parse_bundle
from tests.api_support import House, terms
from tests.chain_fixtures import CHAIN_ID, EmbeddedNode

FOR_EVER = "max-age=31536000, immutable"


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    made = House(tmp_path_factory.mktemp("api"), max_rpc_bytes=20_000)
    made.admit("aozora", "kaede")
    made.bulk("aozora", [{"command": "RecordTrade", **terms()} for _ in range(270 - made.head())])
    made.publish()
    assert made.sequencer.view.size == 270
    yield made
    made.close()


def test_a_checkpoint_is_never_cached_and_a_tile_for_ever(house: House) -> None:
    checkpoint = house.get("/log/checkpoint")
    assert checkpoint.headers["content-type"] == "text/plain; charset=utf-8"
    assert checkpoint.headers["cache-control"] == "no-cache"
    assert checkpoint.text.startswith(f"{house.services.origin}\n270\n")
    for path, length in (("0/000", 8192), ("0/001.p/14", 448), ("1/000.p/1", 32), ("0/000.p/7", 224)):
        tile = house.get(f"/log/tile/{path}")
        assert (len(tile.content), tile.headers["content-type"]) == (length, "application/octet-stream")
        assert tile.headers["cache-control"] == f"public, {FOR_EVER}"
        assert tile.headers["access-control-allow-origin"] == "*"


@pytest.mark.parametrize("path", ["0/001", "0/001.p/15", "1/000", "1/000.p/2", "2/000.p/1", "63/000", "0/002.p/1"])
def test_what_the_published_size_does_not_fill_is_absent_and_not_cached(house: House, path: str) -> None:
    response = house.get(f"/log/tile/{path}")
    assert (response.status_code, response.headers["cache-control"]) == (404, "no-store")
    assert response.headers["access-control-allow-origin"] == "*"


@pytest.mark.parametrize(
    "path", ["0/000.p/0", "0/000.p/256", "00/000", "64/000", "0/x000/000", "-1/000", "0/000/", "entries"]
)
def test_a_tile_spelt_otherwise_is_refused(house: House, path: str) -> None:
    assert house.get(f"/log/tile/{path}").status_code == 400


def test_entry_bundles_are_for_auditors_unless_they_are_opened(house: House, tmp_path: Path) -> None:
    bundle = house.get("/log/tile/entries/001.p/14", "auditor")
    assert parse_bundle(bundle.content) == [entry for _, entry in house.entries.read(257, 14)]
    assert bundle.headers["cache-control"] == f"private, {FOR_EVER}"
    assert house.get("/log/tile/entries/000", "operator").status_code == 200
    assert house.get("/log/tile/entries/000").status_code == 401
    assert house.get("/log/tile/entries/000", "aozora").status_code == 403
    assert house.get("/log/tile/entries/001", "auditor").status_code == 404
    opened = House(tmp_path, log_entries_public=True)
    opened.publish()
    bundle = opened.get("/log/tile/entries/000.p/1")
    assert parse_bundle(bundle.content) == [opened.entries.get(1)]
    assert bundle.headers["cache-control"] == f"public, {FOR_EVER}"
    opened.close()


def test_a_browser_on_another_site_may_read_the_log_but_nothing_else(house: House) -> None:
    asked = house.request("OPTIONS", "/log/tile/entries/000", key=None)
    assert (asked.status_code, asked.content) == (204, b"")
    assert asked.headers["access-control-allow-headers"] == "authorization"
    assert "content-length" not in asked.headers
    for path in ("/v1/trades", "/v1/book", "/chain/rpc"):
        assert "access-control-allow-origin" not in house.request("OPTIONS", path, key=None).headers


def test_head_tells_what_get_would_without_the_body(house: House) -> None:
    response = house.request("HEAD", "/log/tile/0/000", key=None)
    assert (response.status_code, response.content, response.headers["content-length"]) == (200, b"", "8192")


def test_before_the_first_checkpoint_there_is_none(tmp_path: Path) -> None:
    early = House(tmp_path)
    assert early.get("/log/checkpoint").status_code == 404
    assert early.get("/log/tile/0/000.p/1").status_code == 404
    assert early.get("/v1/entries/1/evidence", "auditor").status_code == 503
    assert early.get("/v1/book").json()["size"] == 0
    early.close()


# -- /chain/rpc --------------------------------------------------------------------------------------------------------


def rpc(house: House, *requests: Any, raw: bytes | None = None) -> Any:
    """One request, or a batch of several."""
    body = raw if raw is not None else json.dumps(requests[0] if len(requests) == 1 else requests).encode()
    headers = {"content-type": "application/json"}
    response = house.request("POST", "/chain/rpc", key=None, content=body, headers=headers)
    assert response.status_code == 200, response.text
    return response.json()


def asked(method: str, *params: Any, number: int = 1) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": number, "method": method, "params": list(params)}


def test_reading_passes_and_writing_does_not(house: House) -> None:
    house.rpc.seen.clear()
    assert rpc(house, asked("eth_getBlockByNumber", "latest", False))["result"]["params"] == ["latest", False]
    for method in (
        "eth_sendRawTransaction", "eth_sendTransaction", "eth_sign", "personal_unlockAccount", "admin_peers",
        "debug_traceCall", "anvil_mine", "eth_estimateGas", "ETH_BLOCKNUMBER", "eth_blockNumber ", "",
    ):  # fmt: skip
        assert rpc(house, asked(method))["error"]["code"] == -32601, method
    assert [request["method"] for request in house.rpc.seen] == ["eth_getBlockByNumber"]


def test_a_batch_is_answered_one_by_one_and_hides_nothing(house: House) -> None:
    house.rpc.seen.clear()
    answers = rpc(house, asked("eth_chainId", number=7), asked("eth_sendRawTransaction", "0x00", number=8))
    assert [answer["id"] for answer in answers] == [7, 8]
    assert answers[1]["error"]["code"] == -32601
    assert [request["method"] for request in house.rpc.seen] == ["eth_chainId"]
    assert rpc(house, raw=b"[]")["error"]["code"] == -32600
    assert rpc(house, *[asked("eth_chainId")] * 21)["error"]["code"] == -32600


def test_what_is_passed_on_is_written_anew_so_two_readers_cannot_see_two_methods(house: House) -> None:
    house.rpc.seen.clear()
    twice = b'{"jsonrpc":"2.0","id":1,"method":"eth_sendRawTransaction","method":"eth_chainId","params":[]}'
    rpc(house, raw=twice)
    assert [request["method"] for request in house.rpc.seen] == ["eth_chainId"]
    extra = b'{"jsonrpc":"2.0","id":1,"method":"eth_chainId","params":[],"Method":"eth_sign"}'
    assert rpc(house, raw=extra)["error"]["code"] == -32600


@pytest.mark.parametrize(
    "raw", [b"", b"{", b"null", b"1", b'"x"', b"\xff", b"[" * 9_000, b'{"method":1}', b'[{"id":{}}]']
)
def test_what_is_no_json_rpc_is_answered_as_json_rpc(house: House, raw: bytes) -> None:
    house.rpc.seen.clear()
    assert rpc(house, raw=raw)["error"]["code"] in {-32700, -32600}
    assert not house.rpc.seen


def logs(**wanted: Any) -> dict[str, Any]:
    return asked("eth_getLogs", wanted)


def test_logs_are_read_in_bounded_ranges(house: House) -> None:
    house.rpc.seen.clear()
    for wanted in (
        {"fromBlock": "0x1", "toBlock": "0x2710"}, {"fromBlock": "earliest", "toBlock": "latest"},
        {"fromBlock": "latest"}, {}, {"blockHash": "0x" + "00" * 32}, {"fromBlock": "0x5", "toBlock": "finalized"},
    ):  # fmt: skip
        assert "result" in rpc(house, logs(**wanted)), wanted
    for wanted in (
        {"fromBlock": "0x0", "toBlock": "0x2710"}, {"fromBlock": "earliest", "toBlock": "0xffffffffffffffff"},
        {"fromBlock": 0, "toBlock": 1}, {"fromBlock": "0x"}, {"fromBlock": "0xzz"}, {"fromBlock": "1"},
        {"fromBlock": "0x" + "f" * 40}, {"fromBlock": None}, {"fromBlock": ["latest"]},
    ):  # fmt: skip
        assert rpc(house, logs(**wanted))["error"]["code"] == -32602, wanted
    assert rpc(house, asked("eth_getLogs"))["error"]["code"] == -32602
    assert rpc(house, asked("eth_getLogs", "x"))["error"]["code"] == -32602


def test_a_call_gets_bounded_gas_and_no_state_of_its_own(house: House) -> None:
    sent = rpc(house, asked("eth_call", {"to": "0x" + "11" * 20, "data": "0x"}, "latest"))["result"]
    assert sent["params"][0]["gas"] == hex(10_000_000)
    sent = rpc(house, asked("eth_call", {"to": "0x" + "11" * 20, "gas": "0xffffffffffff"}))["result"]
    assert sent["params"][0]["gas"] == hex(10_000_000)
    sent = rpc(house, asked("eth_call", {"to": "0x" + "11" * 20, "gas": "0x5208"}))["result"]
    assert sent["params"][0]["gas"] == "0x5208"
    assert rpc(house, asked("eth_call", {}, "latest", {"0x": {"code": "0x00"}}))["error"]["code"] == -32602
    assert rpc(house, asked("eth_call"))["error"]["code"] == -32602


def test_a_chain_that_hangs_is_an_error_in_time_and_takes_only_so_many_with_it(tmp_path: Path) -> None:
    house = House(tmp_path, rpc_timeout_seconds=0.2, rpc_in_flight=2)
    waiting = asyncio.Semaphore(0)

    async def hang(_payload: bytes) -> bytes:
        waiting.release()
        await asyncio.Event().wait()
        return b""

    async def three() -> list[httpx.Response]:
        def post() -> Any:
            return house.client.post("/chain/rpc", json=asked("eth_chainId"))

        hanging = [asyncio.ensure_future(post()) for _ in range(2)]
        for _ in hanging:
            await waiting.acquire()
        return [await post(), *await asyncio.gather(*hanging)]

    house.rpc.call = hang  # type: ignore[method-assign]
    refused, *hung = house.run(three())
    assert (refused.status_code, refused.json()["type"]) == (503, "urn:daicho:problem:overloaded")
    assert [answer.json()["error"]["code"] for answer in hung] == [-32000] * 2
    house.close()


def test_a_real_node_answers_through_it(house: House, tmp_path: Path) -> None:
    node = EmbeddedNode(tmp_path / "chain.db", "--chain-id", str(CHAIN_ID), "--fund", "0x" + "22" * 20)
    echo = house.rpc.call

    async def call(payload: bytes) -> bytes:
        async with httpx.AsyncClient() as client:
            headers = {"content-type": "application/json"}
            return (await client.post(node.url, content=payload, headers=headers)).content

    try:
        house.rpc.call = call  # type: ignore[method-assign]
        assert int(rpc(house, asked("eth_chainId"))["result"], 16) == CHAIN_ID
        assert rpc(house, asked("eth_getBlockByNumber", "0x0", False))["result"]["number"] == "0x0"
        assert rpc(house, logs(fromBlock="0x0", toBlock="latest"))["result"] == []
        assert rpc(house, asked("eth_call", {"to": "0x" + "11" * 20, "data": "0x"}, "latest"))["result"] == "0x"
        assert "error" in rpc(house, asked("eth_getTransactionReceipt", "nonsense"))
    finally:
        house.rpc.call = echo  # type: ignore[method-assign]
        node.end()

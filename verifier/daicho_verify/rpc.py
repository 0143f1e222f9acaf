"""The user's own Ethereum node over JSON-RPC: bounded calls, strict reading of quantities and data."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from daicho_verify import jsontext
from daicho_verify.errors import MalformedError, RefusedError, UnavailableError
from daicho_verify.keccak import keccak256
from daicho_verify.source import check_url, fetch

ANCHORED_TOPIC = keccak256(b"Anchored(bytes32,uint64,bytes32,uint64)")
_ANSWER_BYTES = 64 << 20
_MAX_LOGS = 1_000_000
_WORD_BYTES = 32


@dataclass(frozen=True, slots=True)
class AnchoredEvent:
    """One Anchored event as the node reports it."""

    contract: bytes
    log_id: bytes
    size: int
    root: bytes
    previous_size: int
    tx_hash: bytes
    block_number: int
    block_hash: bytes
    log_index: int


@dataclass(frozen=True, slots=True)
class Block:
    """A block of the node's canonical chain: number, hash, unix time (s), transaction hashes."""

    number: int
    hash: bytes
    time: int
    transactions: frozenset[bytes]


def _object(value: object, what: str) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise UnavailableError(f"the node's {what} is not an object")
    return value


def quantity(value: object, what: str) -> int:
    """Read a 0x quantity below 2^64; raises UnavailableError, for a node that cannot speak proves nothing."""
    if not isinstance(value, str) or not re.fullmatch(r"0x[0-9a-fA-F]{1,16}", value):
        raise UnavailableError(f"the node's {what} is not a quantity")
    return int(value, 16)


def data_bytes(value: object, size: int, what: str) -> bytes:
    """Read 0x data of exactly `size` bytes; raises UnavailableError."""
    if not isinstance(value, str) or not re.fullmatch(rf"0x[0-9a-fA-F]{{{2 * size}}}", value):
        raise UnavailableError(f"the node's {what} is not {size} bytes of data")
    return bytes.fromhex(value[2:])


def anchored_event(value: object) -> AnchoredEvent | None:
    """Read a log of a receipt or of eth_getLogs; None when it is another event."""
    log = _object(value, "log")
    topics = log.get("topics")
    if not isinstance(topics, list) or len(topics) != 3:  # noqa: PLR2004 - signature, log id, size
        return None
    words = [data_bytes(topic, _WORD_BYTES, "topic") for topic in topics]
    if words[0] != ANCHORED_TOPIC or log.get("removed") is True:
        return None
    payload = data_bytes(log.get("data"), 2 * _WORD_BYTES, "log data")
    return AnchoredEvent(
        data_bytes(log.get("address"), 20, "log address"),
        words[1],
        int.from_bytes(words[2]),
        payload[:_WORD_BYTES],
        int.from_bytes(payload[_WORD_BYTES:]),
        data_bytes(log.get("transactionHash"), 32, "log transaction"),
        quantity(log.get("blockNumber"), "log block number"),
        data_bytes(log.get("blockHash"), 32, "log block hash"),
        quantity(log.get("logIndex"), "log index"),
    )


class Node:
    """A JSON-RPC node at a URL that the user named."""

    def __init__(self, url: str) -> None:
        self.url = check_url(url, "--rpc")

    def call(self, method: str, *params: object) -> object:
        """Call a method and give its result; raises RefusedError or UnavailableError."""
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
        raw = fetch(self.url, _ANSWER_BYTES, body=body, headers={"Content-Type": "application/json"})
        try:
            answer = _object(jsontext.parse(raw, method), "answer")
        except MalformedError as error:
            raise UnavailableError(f"the node's answer cannot be read: {error}") from None
        if answer.get("error") is not None or "result" not in answer:
            raise RefusedError(f"the node refuses {method}: {str(answer.get('error'))[:200]}")
        return answer["result"]

    def chain_id(self) -> int:
        """Give the chain's id."""
        return quantity(self.call("eth_chainId"), "chain id")

    def head(self) -> int:
        """Give the number of the newest block."""
        return quantity(self.call("eth_blockNumber"), "block number")

    def block(self, number: int) -> Block | None:
        """Give the canonical block of that number; None when the node has none."""
        value = self.call("eth_getBlockByNumber", hex(number), False)
        if value is None:
            return None
        block = _object(value, "block")
        hashes = block.get("transactions")
        if not isinstance(hashes, list):
            raise UnavailableError("the node's block lists no transactions")
        return Block(
            quantity(block.get("number"), "block number"),
            data_bytes(block.get("hash"), 32, "block hash"),
            quantity(block.get("timestamp"), "block time"),
            frozenset(data_bytes(item, 32, "transaction hash") for item in hashes),
        )

    def receipt(self, tx_hash: bytes) -> Mapping[str, object] | None:
        """Give a transaction's receipt; None when the node has none."""
        value = self.call("eth_getTransactionReceipt", "0x" + tx_hash.hex())
        return None if value is None else _object(value, "receipt")

    def anchored(self, contract: bytes, log_id: bytes, low: int, high: int) -> list[AnchoredEvent]:
        """Give all Anchored events of a log in blocks low to high, in order; halves the range where it is refused."""
        wanted = {
            "address": "0x" + contract.hex(),
            "topics": ["0x" + ANCHORED_TOPIC.hex(), "0x" + log_id.hex()],
            "fromBlock": hex(low),
            "toBlock": hex(high),
        }
        try:
            found = self.call("eth_getLogs", wanted)
        except RefusedError:
            if low >= high:
                raise
            middle = (low + high) // 2
            return [
                *self.anchored(contract, log_id, low, middle),
                *self.anchored(contract, log_id, middle + 1, high),
            ]
        if not isinstance(found, list) or len(found) > _MAX_LOGS:
            raise UnavailableError("the node's logs are not a list")
        events = [event for event in map(anchored_event, found) if event is not None]
        return [event for event in events if (event.contract, event.log_id) == (contract, log_id)]

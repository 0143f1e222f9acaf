"""Reads the parameters of JSON-RPC requests: hexadecimal quantities and bytes, blocks, calls, log filters."""

import re
from typing import Any, Final

from eth.abc import BlockHeaderAPI

from chain.node.calls import Call
from chain.node.errors import INVALID_PARAMS, LIMIT_EXCEEDED, SERVER_ERROR, RpcError
from chain.node.evm import MAX_TOPICS, Evm
from chain.node.store import LogFilter

ADDRESS_BYTES: Final = 20
HASH_BYTES: Final = 32
QUANTITY: Final = re.compile(r"0x[0-9a-fA-F]{1,64}")
LATEST_TAGS: Final = frozenset({"latest", "pending", "safe", "finalized"})
MAX_FILTER_VALUES: Final = 100


def _invalid(message: str) -> RpcError:
    return RpcError(INVALID_PARAMS, message)


def quantity(value: Any, name: str) -> int:
    """A number given as 0x and up to 64 digits."""
    if not isinstance(value, str) or not QUANTITY.fullmatch(value):
        raise _invalid(f"{name}: expected a hexadecimal quantity")
    return int(value, 16)


def octets(value: Any, name: str, size: int | None = None) -> bytes:
    """Bytes given as 0x and two digits each, `size` of them when that is said."""
    if not isinstance(value, str) or not value.startswith("0x"):
        raise _invalid(f"{name}: expected hexadecimal bytes")
    try:
        decoded = bytes.fromhex(value[2:])
    except ValueError:
        raise _invalid(f"{name}: expected hexadecimal bytes") from None
    if size is not None and len(decoded) != size:
        raise _invalid(f"{name}: expected {size} bytes, got {len(decoded)}")
    return decoded


def address(value: Any, name: str = "address") -> bytes:
    """An address; the case of its digits is not checked."""
    return octets(value, name, ADDRESS_BYTES)


def block_number(evm: Evm, value: Any) -> int:
    """The height that a number or a tag names."""
    if isinstance(value, str) and value in LATEST_TAGS:
        return evm.head().block_number
    if value == "earliest":
        return 0
    return quantity(value, "block")


def find_header(evm: Evm, value: Any) -> BlockHeaderAPI | None:
    """The header that a number, a tag or an EIP-1898 object names; None when there is no such block."""
    if isinstance(value, dict):
        if "blockHash" in value:
            return evm.header_by_hash(octets(value["blockHash"], "blockHash", HASH_BYTES))
        value = value.get("blockNumber")
    return evm.header(block_number(evm, value))


def header(evm: Evm, value: Any) -> BlockHeaderAPI:
    """As `find_header`, but RpcError when there is no such block."""
    found = find_header(evm, "latest" if value is None else value)
    if found is None:
        raise RpcError(SERVER_ERROR, "header not found")
    return found


def call(value: Any) -> Call:
    """The message of `eth_call` and `eth_estimateGas`. Fees and nonce are ignored: a run is free."""
    if not isinstance(value, dict):
        raise _invalid("call: expected an object")
    data, other = value.get("input"), value.get("data")
    if data is not None and other is not None and data != other:
        raise _invalid("call: data and input differ")
    data = other if data is None else data
    gas, sender, to = value.get("gas"), value.get("from"), value.get("to")
    return Call(
        sender=bytes(ADDRESS_BYTES) if sender is None else address(sender, "from"),
        to=b"" if to is None else address(to, "to"),
        value=quantity(value.get("value") or "0x0", "value"),
        data=b"" if data is None else octets(data, "data"),
        gas=None if gas is None else quantity(gas, "gas"),
    )


def _any_of(value: Any, name: str, size: int) -> list[bytes] | None:
    """None for a wildcard, else the allowed values."""
    if value is None or value == []:
        return None
    values = value if isinstance(value, list) else [value]
    if len(values) > MAX_FILTER_VALUES:
        raise RpcError(LIMIT_EXCEEDED, f"{name}: at most {MAX_FILTER_VALUES} values")
    return [octets(item, name, size) for item in values]


def log_filter(evm: Evm, value: Any) -> LogFilter:
    """The filter of `eth_getLogs`."""
    if not isinstance(value, dict):
        raise _invalid("filter: expected an object")
    from_block, to_block = value.get("fromBlock"), value.get("toBlock")
    if value.get("blockHash") is not None:
        if from_block is not None or to_block is not None:
            raise _invalid("filter: blockHash excludes fromBlock and toBlock")
        from_block = to_block = hex(header(evm, {"blockHash": value["blockHash"]}).block_number)
    first = block_number(evm, from_block or "latest")
    last = block_number(evm, to_block or "latest")
    head = evm.head().block_number
    topics = value.get("topics") or []
    if not isinstance(topics, list) or len(topics) > MAX_TOPICS:
        raise _invalid(f"topics: expected a list of at most {MAX_TOPICS}")
    return LogFilter(
        # heights beyond the head do not exist, and SQLite's integers end before JSON-RPC's
        from_block=min(first, head + 1),
        to_block=min(last, head),
        addresses=_any_of(value.get("address"), "address", ADDRESS_BYTES),
        topics=[_any_of(item, "topic", HASH_BYTES) for item in topics],
    )

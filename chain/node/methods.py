"""The JSON-RPC methods the node answers, one function each; `METHODS` is the table of contents.

Parameters arrive as a list; a missing one is an RpcError -32602. Source: ethereum/execution-apis.
"""

from collections.abc import Callable
from typing import Any, Final

from chain.node import calls, params, shapes
from chain.node.errors import INVALID_PARAMS, LIMIT_EXCEEDED, RpcError
from chain.node.evm import Evm
from chain.node.store import LogFilter

CLIENT_VERSION: Final = "daicho-node/1 (local chain, not independent)"
PRIORITY_FEE_WEI: Final = 10**6
MAX_LOGS: Final = 10_000
MAX_FEE_HISTORY_BLOCKS: Final = 1024
MAX_PERCENTILES: Final = 100

Method = Callable[[Evm, list[Any]], Any]


def _at(parameters: list[Any], place: int, name: str) -> Any:
    if len(parameters) <= place:
        raise RpcError(INVALID_PARAMS, f"missing value for required argument {place}: {name}")
    return parameters[place]


def _optional(parameters: list[Any], place: int) -> Any:
    return parameters[place] if len(parameters) > place else None


def chain_id(evm: Evm, _: list[Any]) -> str:
    """eth_chainId."""
    return shapes.quantity(evm.chain_id)


def net_version(evm: Evm, _: list[Any]) -> str:
    """net_version: the chain id in decimal digits."""
    return str(evm.chain_id)


def client_version(_: Evm, __: list[Any]) -> str:
    """web3_clientVersion."""
    return CLIENT_VERSION


def syncing(_: Evm, __: list[Any]) -> bool:
    """eth_syncing: never, there is nobody to sync with."""
    return False


def block_number(evm: Evm, _: list[Any]) -> str:
    """eth_blockNumber."""
    return shapes.quantity(evm.head().block_number)


def block_by_number(evm: Evm, parameters: list[Any]) -> Any:
    """eth_getBlockByNumber [number or tag, whole transactions]; null for a height not reached."""
    header = params.find_header(evm, _at(parameters, 0, "block"))
    full = _optional(parameters, 1) is True
    return None if header is None else shapes.block_object(evm.block(header), full=full)


def block_by_hash(evm: Evm, parameters: list[Any]) -> Any:
    """eth_getBlockByHash [hash, whole transactions]; null for an unknown hash."""
    header = evm.header_by_hash(params.octets(_at(parameters, 0, "hash"), "hash", params.HASH_BYTES))
    full = _optional(parameters, 1) is True
    return None if header is None else shapes.block_object(evm.block(header), full=full)


def call(evm: Evm, parameters: list[Any]) -> str:
    """eth_call [message, block]."""
    header = params.header(evm, _optional(parameters, 1))
    return shapes.octets(calls.call(evm, params.call(_at(parameters, 0, "call")), header))


def estimate_gas(evm: Evm, parameters: list[Any]) -> str:
    """eth_estimateGas [message, block]."""
    header = params.header(evm, _optional(parameters, 1))
    return shapes.quantity(calls.estimate_gas(evm, params.call(_at(parameters, 0, "call")), header))


def gas_price(evm: Evm, _: list[Any]) -> str:
    """eth_gasPrice: next base fee and a tip."""
    return shapes.quantity(evm.next_base_fee(evm.head()) + PRIORITY_FEE_WEI)


def priority_fee(_: Evm, __: list[Any]) -> str:
    """eth_maxPriorityFeePerGas."""
    return shapes.quantity(PRIORITY_FEE_WEI)


def fee_history(evm: Evm, parameters: list[Any]) -> dict[str, Any]:
    """eth_feeHistory [count, newest block, percentiles]. A block has one transaction, so one tip is all tips."""
    count = params.quantity(_at(parameters, 0, "blockCount"), "blockCount")
    if not 1 <= count <= MAX_FEE_HISTORY_BLOCKS:
        raise RpcError(INVALID_PARAMS, f"blockCount is between 1 and {MAX_FEE_HISTORY_BLOCKS}")
    newest = params.header(evm, _at(parameters, 1, "newestBlock")).block_number
    percentiles = _optional(parameters, 2) or []
    if not isinstance(percentiles, list) or len(percentiles) > MAX_PERCENTILES:
        raise RpcError(INVALID_PARAMS, f"percentiles: expected a list of at most {MAX_PERCENTILES}")
    oldest = max(0, newest - count + 1)
    headers = [params.header(evm, hex(number)) for number in range(oldest, newest + 1)]
    base_fees = [header.base_fee_per_gas or 0 for header in headers]
    history: dict[str, Any] = {
        "oldestBlock": shapes.quantity(oldest),
        "baseFeePerGas": [shapes.quantity(fee) for fee in (*base_fees, evm.next_base_fee(headers[-1]))],
        "gasUsedRatio": [header.gas_used / header.gas_limit for header in headers],
    }
    if percentiles:
        tips = []
        for header in headers:
            paid = [shapes.effective_gas_price(tx, header) for tx in evm.block(header).transactions]
            tip = paid[0] - (header.base_fee_per_gas or 0) if paid else 0
            tips.append([shapes.quantity(tip)] * len(percentiles))
        history["reward"] = tips
    return history


def logs(evm: Evm, parameters: list[Any]) -> list[dict[str, Any]]:
    """eth_getLogs [filter]: from the index, at most 10,000."""
    found = evm.store.logs(params.log_filter(evm, _at(parameters, 0, "filter")), MAX_LOGS + 1)
    if len(found) > MAX_LOGS:
        raise RpcError(LIMIT_EXCEEDED, f"query returned more than {MAX_LOGS} results")
    return [shapes.log_object(row) for row in found]


def _hash(parameters: list[Any]) -> bytes:
    return params.octets(_at(parameters, 0, "hash"), "hash", params.HASH_BYTES)


def transaction_by_hash(evm: Evm, parameters: list[Any]) -> Any:
    """eth_getTransactionByHash [hash]; null for an unknown hash."""
    mined = evm.mined(_hash(parameters))
    return None if mined is None else shapes.transaction_object(mined.block, mined.transaction, 0)


def receipt(evm: Evm, parameters: list[Any]) -> Any:
    """eth_getTransactionReceipt [hash]; null for an unknown hash."""
    mined = evm.mined(_hash(parameters))
    if mined is None:
        return None
    number = mined.block.number
    return shapes.receipt_object(mined, evm.store.logs(LogFilter(number, number, None, ()), MAX_LOGS))


def _state(evm: Evm, parameters: list[Any]) -> tuple[Any, bytes]:
    wanted = params.address(_at(parameters, 0, "address"))
    return evm.state(params.header(evm, _optional(parameters, 1))), wanted


def transaction_count(evm: Evm, parameters: list[Any]) -> str:
    """eth_getTransactionCount [address, block]."""
    state, wanted = _state(evm, parameters)
    return shapes.quantity(state.get_nonce(wanted))


def balance(evm: Evm, parameters: list[Any]) -> str:
    """eth_getBalance [address, block]."""
    state, wanted = _state(evm, parameters)
    return shapes.quantity(state.get_balance(wanted))


def code(evm: Evm, parameters: list[Any]) -> str:
    """eth_getCode [address, block]."""
    state, wanted = _state(evm, parameters)
    return shapes.octets(state.get_code(wanted))


def send_raw(evm: Evm, parameters: list[Any]) -> str:
    """eth_sendRawTransaction [bytes]: mined and durable when it answers."""
    return shapes.octets(evm.send_raw(params.octets(_at(parameters, 0, "transaction"), "transaction")))


METHODS: Final[dict[str, Method]] = {
    "eth_blockNumber": block_number,
    "eth_call": call,
    "eth_chainId": chain_id,
    "eth_estimateGas": estimate_gas,
    "eth_feeHistory": fee_history,
    "eth_gasPrice": gas_price,
    "eth_getBalance": balance,
    "eth_getBlockByHash": block_by_hash,
    "eth_getBlockByNumber": block_by_number,
    "eth_getCode": code,
    "eth_getLogs": logs,
    "eth_getTransactionByHash": transaction_by_hash,
    "eth_getTransactionCount": transaction_count,
    "eth_getTransactionReceipt": receipt,
    "eth_maxPriorityFeePerGas": priority_fee,
    "eth_sendRawTransaction": send_raw,
    "eth_syncing": syncing,
    "net_version": net_version,
    "web3_clientVersion": client_version,
}

"""JSON shapes of blocks, transactions, receipts and logs, as the Ethereum JSON-RPC specification has them."""

from typing import Any, Final

import rlp  # type: ignore[import-untyped]
from eth._utils.address import generate_contract_address
from eth.abc import BlockAPI, BlockHeaderAPI, SignedTransactionAPI
from eth_utils.crypto import keccak

from chain.node.evm import Mined
from chain.node.store import LogRow

BLOOM_BYTES: Final = 256
DYNAMIC_FEE_TYPE: Final = 2


def quantity(value: int) -> str:
    """A number without leading zeros: 0x0, 0x1f."""
    return hex(value)


def octets(value: bytes) -> str:
    """Bytes, two digits each."""
    return "0x" + value.hex()


def checksummed(address: bytes) -> str:
    """An address in its EIP-55 spelling."""
    digits = address.hex()
    case = keccak(digits.encode()).hex()
    return "0x" + "".join(d.upper() if c >= "8" else d for d, c in zip(digits, case, strict=False))


def _bloom(value: int) -> str:
    return octets(value.to_bytes(BLOOM_BYTES, "big"))


def block_object(block: BlockAPI, *, full: bool) -> dict[str, Any]:
    """A block with its transactions whole or as hashes."""
    header: Any = block.header
    transactions: list[Any] = [
        transaction_object(block, transaction, index) if full else octets(transaction.hash)
        for index, transaction in enumerate(block.transactions)
    ]
    return {
        "number": quantity(header.block_number),
        "hash": octets(header.hash),
        "parentHash": octets(header.parent_hash),
        "nonce": octets(header.nonce),
        "sha3Uncles": octets(header.uncles_hash),
        "logsBloom": _bloom(header.bloom),
        "transactionsRoot": octets(header.transaction_root),
        "stateRoot": octets(header.state_root),
        "receiptsRoot": octets(header.receipt_root),
        "miner": checksummed(header.coinbase),
        "difficulty": quantity(header.difficulty),
        "extraData": octets(header.extra_data),
        "size": quantity(len(rlp.encode(block))),
        "gasLimit": quantity(header.gas_limit),
        "gasUsed": quantity(header.gas_used),
        "timestamp": quantity(header.timestamp),
        "mixHash": octets(header.mix_hash),
        "baseFeePerGas": quantity(header.base_fee_per_gas),
        "withdrawalsRoot": octets(header.withdrawals_root),
        "blobGasUsed": quantity(header.blob_gas_used),
        "excessBlobGas": quantity(header.excess_blob_gas),
        "parentBeaconBlockRoot": octets(header.parent_beacon_block_root),
        "requestsHash": octets(header.requests_hash),
        "transactions": transactions,
        "withdrawals": [],
        "uncles": [],
    }


def effective_gas_price(transaction: Any, header: BlockHeaderAPI) -> int:
    """Wei per gas that the sender paid (EIP-1559)."""
    base_fee = header.base_fee_per_gas or 0
    price: int = min(transaction.max_fee_per_gas, base_fee + transaction.max_priority_fee_per_gas)
    return price


def transaction_object(block: BlockAPI, transaction: SignedTransactionAPI, index: int) -> dict[str, Any]:
    """A mined transaction."""
    tx: Any = transaction
    kind: int = tx.type_id or 0
    shape: dict[str, Any] = {
        "type": quantity(kind),
        "hash": octets(tx.hash),
        "nonce": quantity(tx.nonce),
        "blockHash": octets(block.hash),
        "blockNumber": quantity(block.number),
        "transactionIndex": quantity(index),
        "from": checksummed(tx.sender),
        "to": checksummed(tx.to) if tx.to else None,
        "value": quantity(tx.value),
        "gas": quantity(tx.gas),
        "gasPrice": quantity(effective_gas_price(tx, block.header)),
        "input": octets(tx.data),
        "chainId": quantity(tx.chain_id),
        "r": quantity(tx.r),
        "s": quantity(tx.s),
    }
    if kind == 0:
        shape["v"] = quantity(tx.v)
        return shape
    shape["v"] = shape["yParity"] = quantity(tx.y_parity)
    shape["accessList"] = [
        {"address": checksummed(address), "storageKeys": [octets(key.to_bytes(32, "big")) for key in keys]}
        for address, keys in tx.access_list
    ]
    if kind >= DYNAMIC_FEE_TYPE:
        shape["maxFeePerGas"] = quantity(tx.max_fee_per_gas)
        shape["maxPriorityFeePerGas"] = quantity(tx.max_priority_fee_per_gas)
    return shape


def receipt_object(mined: Mined, logs: list[LogRow]) -> dict[str, Any]:
    """What a mined transaction did; `logs` are those of its block."""
    tx: Any = mined.transaction
    created = None
    if not tx.to:
        created = checksummed(generate_contract_address(tx.sender, tx.nonce))
    return {
        "type": quantity(tx.type_id or 0),
        "transactionHash": octets(tx.hash),
        "transactionIndex": "0x0",
        "blockHash": octets(mined.block.hash),
        "blockNumber": quantity(mined.block.number),
        "from": checksummed(tx.sender),
        "to": checksummed(tx.to) if tx.to else None,
        "contractAddress": created,
        "cumulativeGasUsed": quantity(mined.receipt.gas_used),
        "gasUsed": quantity(mined.receipt.gas_used),
        "effectiveGasPrice": quantity(effective_gas_price(tx, mined.block.header)),
        "logs": [log_object(row) for row in logs],
        "logsBloom": _bloom(mined.receipt.bloom),
        # EIP-658: the field that once held a state root is 1 for success and empty for failure
        "status": "0x1" if mined.receipt.state_root == b"\x01" else "0x0",
    }


def log_object(row: LogRow) -> dict[str, Any]:
    """One event log."""
    return {
        "address": checksummed(row.address),
        "topics": [octets(topic) for topic in row.topics if topic is not None],
        "data": octets(row.data),
        "blockNumber": quantity(row.block),
        "blockHash": octets(row.block_hash),
        "transactionHash": octets(row.tx_hash),
        "transactionIndex": quantity(row.tx_index),
        "logIndex": quantity(row.log_index),
        "removed": False,
    }

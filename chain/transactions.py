"""The transactions Daicho sends, as typed requests: what a signer is asked to sign, never a bare digest.

All are EIP-1559 transactions (type 2) without value. Fees are wei per gas. `transaction_fields` gives the
fields that every Ethereum library understands; a signer builds the transaction itself from the request.
"""

from dataclasses import dataclass
from typing import Any, Final, NamedTuple

HASH_SIZE_BYTES: Final = 32
WORD_SIZE_BYTES: Final = 32
# first four bytes of keccak-256 of the signatures; a test compares them with the contract's ABI
ANCHOR_SELECTOR: Final = bytes.fromhex("eed96158")  # anchor(bytes32,uint64,bytes32,bytes32[])
REGISTER_LOG_SELECTOR: Final = bytes.fromhex("cb452c43")  # registerLog(string,address)


class SignedTx(NamedTuple):
    """A signed transaction: the bytes to send and their hash (32 bytes)."""

    raw: bytes
    tx_hash: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class TxBase:
    """What every transaction needs: its chain, its place in the sender's order, what it may cost."""

    chain_id: int
    nonce: int
    gas: int
    max_fee_per_gas: int
    max_priority_fee_per_gas: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AnchorTx(TxBase):
    """Anchor the head (new_size, new_root) of a log; `proof` leads there from the head the contract holds.

    `contract` is a checksummed address, `log_id`, `new_root` and each node of `proof` are 32 bytes.
    """

    contract: str
    log_id: bytes
    new_size: int
    new_root: bytes
    proof: tuple[bytes, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisterLogTx(TxBase):
    """Admit the log with this origin; `publisher` is a checksummed address. Sent by the contract's owner."""

    contract: str
    origin: str
    publisher: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeployTx(TxBase):
    """Create a new AnchorRegistry that belongs to `owner` (a checksummed address)."""

    owner: str
    bytecode: bytes


def _word(value: int) -> bytes:
    return value.to_bytes(WORD_SIZE_BYTES, "big")


def _address(address: str) -> bytes:
    return bytes.fromhex(address.removeprefix("0x")).rjust(WORD_SIZE_BYTES, b"\x00")


def anchor_data(log_id: bytes, new_size: int, new_root: bytes, proof: tuple[bytes, ...]) -> bytes:
    """Call data of `anchor`: ABI encoding of (bytes32, uint64, bytes32, bytes32[])."""
    if not 0 < new_size < 1 << 64:
        raise ValueError(f"a log's size is between 1 and 2^64 - 1, not {new_size}")
    for value in (log_id, new_root, *proof):
        if len(value) != HASH_SIZE_BYTES:
            raise ValueError(f"a hash has {HASH_SIZE_BYTES} bytes, not {len(value)}")
    head = log_id + _word(new_size) + new_root + _word(4 * WORD_SIZE_BYTES)
    return ANCHOR_SELECTOR + head + _word(len(proof)) + b"".join(proof)


def register_log_data(origin: str, publisher: str) -> bytes:
    """Call data of `registerLog`: ABI encoding of (string, address)."""
    text = origin.encode()
    padded = text + bytes(-len(text) % WORD_SIZE_BYTES)
    head = _word(2 * WORD_SIZE_BYTES) + _address(publisher)
    return REGISTER_LOG_SELECTOR + head + _word(len(text)) + padded


def transaction_fields(request: AnchorTx | RegisterLogTx | DeployTx) -> dict[str, Any]:
    """The unsigned transaction of a request, with the field names of the JSON-RPC API."""
    fields: dict[str, Any] = {
        "type": 2,
        "chainId": request.chain_id,
        "nonce": request.nonce,
        "gas": request.gas,
        "maxFeePerGas": request.max_fee_per_gas,
        "maxPriorityFeePerGas": request.max_priority_fee_per_gas,
        "value": 0,
    }
    match request:
        case AnchorTx():
            fields["to"] = request.contract
            fields["data"] = anchor_data(request.log_id, request.new_size, request.new_root, request.proof)
        case RegisterLogTx():
            fields["to"] = request.contract
            fields["data"] = register_log_data(request.origin, request.publisher)
        case DeployTx():
            fields["data"] = request.bytecode + _address(request.owner)
    return fields

"""EIP-1559 transactions, built and signed from a typed request.

Without web3: RLP is ten lines, the import a second.
"""

from collections.abc import Callable
from typing import Any

from chain.curve import keccak
from chain.transactions import AnchorTx, DeployTx, RegisterLogTx, SignedTx, transaction_fields

_TYPE = b"\x02"  # EIP-2718 type of EIP-1559
_SHORT = 55  # RLP: longer payloads carry the length of their length
Item = int | bytes | list["Item"]


def sign_transaction(request: AnchorTx | RegisterLogTx | DeployTx, sign: Callable[[bytes], bytes]) -> SignedTx:
    """Sign a request's transaction; `sign` makes r, s, recovery bit (65 bytes) of a 32-byte digest."""
    fields = _fields(transaction_fields(request))
    signature = sign(keccak(_TYPE + rlp(fields)))
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:64], "big")
    raw = _TYPE + rlp([*fields, signature[64], r, s])
    return SignedTx(raw, keccak(raw))


def _fields(tx: dict[str, Any]) -> list[Item]:
    """The nine unsigned fields in the order of EIP-1559; no recipient means a new contract."""
    to = bytes.fromhex(tx["to"].removeprefix("0x")) if "to" in tx else b""
    fees = (tx["maxPriorityFeePerGas"], tx["maxFeePerGas"], tx["gas"])
    return [tx["chainId"], tx["nonce"], *fees, to, tx["value"], tx["data"], []]


def rlp(item: Item) -> bytes:
    """RLP (Ethereum yellow paper, appendix B) of integers, byte strings and lists of them."""
    if isinstance(item, list):
        return _prefixed(0xC0, b"".join(map(rlp, item)))
    if isinstance(item, int):
        item = item.to_bytes((item.bit_length() + 7) // 8, "big")
    if len(item) == 1 and item[0] < 0x80:  # noqa: PLR2004 (a byte that is its own encoding)
        return item
    return _prefixed(0x80, item)


def _prefixed(offset: int, payload: bytes) -> bytes:
    size = len(payload)
    if size <= _SHORT:
        return bytes((offset + size,)) + payload
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((offset + _SHORT + len(length),)) + length + payload

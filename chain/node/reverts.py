"""Turns the data of a revert into the error that Ethereum clients expect: code 3, a text, the raw data."""

from typing import Final

from chain.node.errors import EXECUTION_REVERTED, RpcError

ERROR_SELECTOR: Final = bytes.fromhex("08c379a0")  # Error(string)
PANIC_SELECTOR: Final = bytes.fromhex("4e487b71")  # Panic(uint256)
WORD: Final = 32


def reverted(data: bytes) -> RpcError:
    """The refusal for a reverted execution. `Error(string)` and `Panic(uint256)` are spelled out."""
    message = "execution reverted"
    reason = _reason(data)
    if reason:
        message = f"{message}: {reason}"
    return RpcError(EXECUTION_REVERTED, message, "0x" + data.hex())


def _reason(data: bytes) -> str | None:
    selector, body = data[:4], data[4:]
    if selector == PANIC_SELECTOR and len(body) == WORD:
        return f"panic code {int.from_bytes(body, 'big'):#04x}"
    if selector == ERROR_SELECTOR and len(body) >= 2 * WORD:
        size = int.from_bytes(body[WORD : 2 * WORD], "big")
        text = body[2 * WORD :]
        if size <= len(text):
            return text[:size].decode("utf-8", "replace")
    return None

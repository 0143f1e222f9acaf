"""What the node answers when it refuses: JSON-RPC error codes with the texts that Ethereum clients know.

NodeError                     the node cannot serve this file at all
├── ChainBusyError            another process writes it
└── ChainMismatchError        it belongs to another chain, or is no chain file
RpcError                      one request was refused; carries a JSON-RPC code, a message and optional data
"""

from typing import Any, Final

PARSE_ERROR: Final = -32700
INVALID_REQUEST: Final = -32600
METHOD_NOT_FOUND: Final = -32601
INVALID_PARAMS: Final = -32602
INTERNAL_ERROR: Final = -32603
SERVER_ERROR: Final = -32000
RESPONSE_TOO_LARGE: Final = -32003
LIMIT_EXCEEDED: Final = -32005
EXECUTION_REVERTED: Final = 3


class NodeError(Exception):
    """The node cannot serve this file; the message is one line for the operator."""


class ChainBusyError(NodeError):
    """Another process holds the write lock of this chain file."""


class ChainMismatchError(NodeError):
    """The file holds another chain than the one asked for, or none."""


class RpcError(Exception):
    """A refused request: JSON-RPC 2.0 error object (section 5.1)."""

    def __init__(self, code: int, message: str, data: str | None = None) -> None:
        super().__init__(code, message, data)
        self.code, self.message, self.data = code, message, data

    def as_object(self) -> dict[str, Any]:
        """The `error` member of a response."""
        error: dict[str, Any] = {"code": self.code, "message": self.message}
        if self.data is not None:
            error["data"] = self.data
        return error

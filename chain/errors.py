"""What can go wrong with a chain, each failure saying what to do about it.

ChainError
├── ChainUnavailableError     retry: no answer, or one that says "later"
├── NodeRefusedError          give up on this request: the node refuses it (funds, fees, malformed)
├── RefusedError              give up on this transaction: the contract would revert it
│   ├── InconsistentError     the head does not extend the anchored one
│   ├── NotGrowingError       the head is not larger than the anchored one
│   ├── NotPublisherError     another key publishes for this log
│   ├── UnknownLogError       the log is not registered
│   ├── AlreadyRegisteredError
│   └── NotOwnerError         another key owns the contract
└── WrongChainError           stop the process: another chain id, another contract code, another log
"""

from typing import Any, ClassVar


class ChainError(Exception):
    """Any failure with a chain."""


class ChainUnavailableError(ChainError):
    """The node did not answer, or not now. Trying again later is right."""


class NodeRefusedError(ChainError):
    """The node refused the request for good; carries its JSON-RPC error code and text."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"the node refused ({code}): {message}")
        self.code, self.message = code, message


class WrongChainError(ChainError):
    """This is not the chain, the contract or the log that was configured."""


class RefusedError(ChainError):
    """The contract reverts with the custom error `name` and its `values` (hashes as bytes)."""

    by_name: ClassVar[dict[str, type["RefusedError"]]] = {}

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        RefusedError.by_name[cls.__name__.removesuffix("Error")] = cls

    def __init__(self, name: str, values: tuple[Any, ...] = ()) -> None:
        shown = ", ".join("0x" + value.hex() if isinstance(value, bytes) else str(value) for value in values)
        super().__init__(f"the contract refuses: {name}({shown})")
        self.name, self.values = name, values


class InconsistentError(RefusedError):
    """values: log id, anchored size, offered size."""


class NotGrowingError(RefusedError):
    """values: log id, anchored size, offered size."""


class NotPublisherError(RefusedError):
    """values: log id, caller."""


class UnknownLogError(RefusedError):
    """values: log id."""


class AlreadyRegisteredError(RefusedError):
    """values: log id."""


class NotOwnerError(RefusedError):
    """values: caller."""

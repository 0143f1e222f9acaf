"""One way to any Ethereum node: JSON-RPC over HTTP by web3, with retries, and failures from one tree.

web3 takes two seconds to import, so it is imported at the first request and not before.
"""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from functools import cache
from typing import Any, Final, NamedTuple

from chain.errors import (
    ChainUnavailableError,
    NodeRefusedError,
    RefusedError,
    WrongChainError,
)
from contracts import artefact

TIMEOUT_SECONDS: Final = 10.0
RETRIES: Final = 5
BACKOFF_SECONDS: Final = 0.125
# JSON-RPC codes that mean "later": internal error, limit exceeded, and HTTP 429 as some providers spell it
LATER_CODES: Final = frozenset({-32603, -32005, -32016, 429})
ADDRESS_BYTES: Final = 20


class SendOutcome(StrEnum):
    """What a node says to a signed transaction."""

    ACCEPTED = "accepted"
    KNOWN = "already known"
    NONCE_TOO_LOW = "nonce too low"
    NONCE_TOO_HIGH = "nonce too high"
    UNDERPRICED = "replacement underpriced"
    FEE_TOO_LOW = "fee below the base fee"
    NO_FUNDS = "insufficient funds"
    REFUSED = "refused"


# in the order of their texts, lower case; clients differ in wording, so they are matched loosely
OUTCOME_TEXTS: Final = (
    ("already known", SendOutcome.KNOWN),
    ("already imported", SendOutcome.KNOWN),
    ("nonce too low", SendOutcome.NONCE_TOO_LOW),
    ("nonce too high", SendOutcome.NONCE_TOO_HIGH),
    ("underpriced", SendOutcome.UNDERPRICED),
    ("less than block base fee", SendOutcome.FEE_TOO_LOW),
    ("insufficient funds", SendOutcome.NO_FUNDS),
)


class Sent(NamedTuple):
    """The node's answer to a transaction, with its own words."""

    outcome: SendOutcome
    message: str


class Block(NamedTuple):
    """A block's place and time; base fee in wei per gas."""

    number: int
    block_hash: bytes
    timestamp: int
    base_fee: int


class Log(NamedTuple):
    """One event log of a receipt."""

    address: str
    topics: tuple[bytes, ...]
    data: bytes
    log_index: int


class Receipt(NamedTuple):
    """A mined transaction."""

    tx_hash: bytes
    block_number: int
    block_hash: bytes
    succeeded: bool
    gas_used: int
    contract: str | None
    logs: tuple[Log, ...]


class Connection:
    """A node at `rpc_url`. Safe to share between threads (one HTTP session each inside web3).

    Every method raises ChainUnavailableError when the node does not answer after the retries, RefusedError when a
    contract reverts, NodeRefusedError when the node refuses otherwise.
    """

    def __init__(self, rpc_url: str, *, timeout_seconds: float = TIMEOUT_SECONDS, retries: int = RETRIES) -> None:
        self.rpc_url = rpc_url
        self._timeout_seconds = timeout_seconds
        self._retries = retries
        self._web3: Any = None
        self._lock = threading.Lock()

    @property
    def web3(self) -> Any:
        """The client, made at its first use: web3 takes two seconds to import."""
        with self._lock:
            if self._web3 is None:
                self._web3 = self._client()
            return self._web3

    def _client(self) -> Any:
        import requests
        from web3 import HTTPProvider, Web3
        from web3.providers.rpc.utils import ExceptionRetryConfiguration

        # web3's default does not retry refused connections: requests' ConnectionError is not Python's own
        retry = ExceptionRetryConfiguration(
            errors=(requests.exceptions.ConnectionError, requests.exceptions.HTTPError, requests.exceptions.Timeout),
            retries=self._retries,
            backoff_factor=BACKOFF_SECONDS,
        )
        return Web3(
            HTTPProvider(
                self.rpc_url,
                request_kwargs={"timeout": self._timeout_seconds},
                exception_retry_configuration=retry,
            )
        )

    def chain_id(self) -> int:
        """The chain the node serves."""
        with failures():
            return int(self.web3.eth.chain_id)

    def block(self, which: int | str) -> Block | None:
        """A block by height or tag; None when there is none. An unsupported tag is a NodeRefusedError."""
        from web3.exceptions import BlockNotFound

        with failures():
            try:
                found = self.web3.eth.get_block(which)
            except BlockNotFound:
                return None
            return Block(found["number"], bytes(found["hash"]), found["timestamp"], found.get("baseFeePerGas", 0))

    def nonce(self, address: str, block: int | str = "latest") -> int:
        """Transactions this account has had mined up to a block. Never counts a pool: pools differ by node."""
        with failures():
            return int(self.web3.eth.get_transaction_count(address, block))

    def balance(self, address: str) -> int:
        """Wei this account owns."""
        with failures():
            return int(self.web3.eth.get_balance(address))

    def code(self, address: str) -> bytes:
        """The code at an address, empty when there is none."""
        with failures():
            return bytes(self.web3.eth.get_code(address))

    def tip(self) -> int:
        """Wei per gas that the node suggests for a block's builder."""
        with failures():
            return int(self.web3.eth.max_priority_fee)

    def receipt(self, tx_hash: bytes) -> Receipt | None:
        """The receipt of a mined transaction, None when it is not mined."""
        from web3.exceptions import TransactionNotFound

        with failures():
            try:
                found = self.web3.eth.get_transaction_receipt(tx_hash)
            except TransactionNotFound:
                return None
            return Receipt(
                tx_hash=bytes(found["transactionHash"]),
                block_number=found["blockNumber"],
                block_hash=bytes(found["blockHash"]),
                succeeded=found["status"] == 1,
                gas_used=found["gasUsed"],
                contract=found.get("contractAddress"),
                logs=tuple(map(_log, found["logs"])),
            )

    def logs(self, wanted: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        """Event logs that pass an `eth_getLogs` filter."""
        with failures():
            return list(self.web3.eth.get_logs(wanted))

    def call(self, to: str, data: bytes, block: int | str, sender: str | None = None) -> bytes:
        """The output of a call on the state after a block."""
        message: dict[str, Any] = {"to": to, "data": "0x" + data.hex()}
        if sender is not None:
            message["from"] = sender
        with failures():
            return bytes(self.web3.eth.call(message, block))

    def estimate(self, sender: str, to: str | None, data: bytes) -> int:
        """Gas this transaction would take now: a dry run that also proves it would not revert."""
        message: dict[str, Any] = {"from": sender, "data": "0x" + data.hex()}
        if to is not None:
            message["to"] = to
        with failures():
            return int(self.web3.eth.estimate_gas(message))

    def send(self, raw: bytes) -> Sent:
        """Sends a signed transaction. A node that refuses it gives an outcome, not an exception."""
        try:
            with failures():
                self.web3.eth.send_raw_transaction(raw)
        except NodeRefusedError as error:
            text = error.message.lower()
            for part, outcome in OUTCOME_TEXTS:
                if part in text:
                    return Sent(outcome, error.message)
            return Sent(SendOutcome.REFUSED, error.message)
        except RefusedError as error:  # some nodes run a transaction before they take it
            return Sent(SendOutcome.REFUSED, str(error))
        return Sent(SendOutcome.ACCEPTED, "")


def _log(found: Mapping[str, Any]) -> Log:
    topics = tuple(bytes(topic) for topic in found["topics"])
    return Log(found["address"], topics, bytes(found["data"]), found["logIndex"])


@contextmanager
def failures() -> Iterator[None]:
    """Turns whatever web3 and requests raise into this project's tree."""
    import requests
    from web3.exceptions import (
        BadFunctionCallOutput,
        BadResponseFormat,
        ContractLogicError,
        RequestTimedOut,
        Web3Exception,
        Web3RPCError,
    )

    try:
        yield
    except ContractLogicError as error:
        raise refusal(error.data, str(error)) from error
    except BadFunctionCallOutput as error:
        raise WrongChainError(f"no such contract there: {error}") from error
    except (RequestTimedOut, BadResponseFormat) as error:
        raise ChainUnavailableError(f"the node gave no usable answer: {error}") from error
    except Web3RPCError as error:
        code, message = _rpc_error(error)
        if code in LATER_CODES:
            raise ChainUnavailableError(f"the node says later ({code}): {message}") from error
        raise NodeRefusedError(code, message) from error
    except Web3Exception as error:
        raise NodeRefusedError(0, f"{type(error).__name__}: {error}") from error
    except (requests.exceptions.RequestException, OSError, ValueError) as error:
        # ValueError: a proxy's page instead of JSON
        raise ChainUnavailableError(f"the node does not answer: {error}") from error


def _rpc_error(error: Any) -> tuple[int, str]:
    response = error.rpc_response or {}
    body = response.get("error") if isinstance(response, dict) else None
    if isinstance(body, dict):
        return int(body.get("code") or 0), str(body.get("message") or error)
    return 0, str(error)


@cache
def _custom_errors() -> dict[bytes, tuple[str, list[str]]]:
    from eth_utils.crypto import keccak

    found = {}
    for item in artefact().abi:
        if item["type"] == "error":
            types = [argument["type"] for argument in item["inputs"]]
            found[keccak(text=f"{item['name']}({','.join(types)})")[:4]] = (item["name"], types)
    return found


def refusal(data: Any, message: str) -> RefusedError:
    """The contract's custom error in the data of a revert; a RefusedError with the node's text when it has none."""
    from eth_abi.abi import decode
    from eth_abi.exceptions import DecodingError

    try:
        octets = bytes.fromhex(data.removeprefix("0x")) if isinstance(data, str) else bytes(data or b"")
        name, types = _custom_errors()[octets[:4]]
        values = decode(types, octets[4:])
    except (KeyError, ValueError, DecodingError):
        return RefusedError("Reverted", (message,))
    return RefusedError.by_name.get(name, RefusedError)(name, tuple(values))


def create_address(sender: str, nonce: int) -> str:
    """Where the contract created by this account's transaction with this nonce lives (EIP-55 spelling)."""
    from eth_utils.address import to_checksum_address
    from eth_utils.crypto import keccak

    account = bytes.fromhex(sender.removeprefix("0x"))
    number = nonce.to_bytes((nonce.bit_length() + 7) // 8, "big")
    # RLP of [20 bytes, integer]: short items, short list
    second = number if nonce and nonce < 0x80 else bytes([0x80 + len(number)]) + number  # noqa: PLR2004 (RLP)
    body = bytes([0x80 + ADDRESS_BYTES]) + account + second
    return to_checksum_address(keccak(bytes([0xC0 + len(body)]) + body)[-ADDRESS_BYTES:])

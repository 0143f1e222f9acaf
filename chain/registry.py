"""The AnchorRegistry on a chain: deploy it, register a log, read heads and events, prepare anchors."""

import hashlib
import time
from collections.abc import Sequence
from typing import Any, Final, NamedTuple, Protocol

from chain.connection import Connection, Log, Receipt, SendOutcome, create_address
from chain.errors import ChainUnavailableError, NodeRefusedError, NotPublisherError, RefusedError, WrongChainError
from chain.fees import Fees, first_fees
from chain.transactions import (
    DeployTx,
    RegisterLogTx,
    SignedTx,
    anchor_data,
    register_log_data,
    transaction_fields,
)
from contracts import artefact

HEAD_SELECTOR: Final = bytes.fromhex("f339e3b2")  # head(bytes32)
# Anchored(bytes32,uint64,bytes32,uint64)
ANCHORED_TOPIC: Final = bytes.fromhex("10d64b358a2a34d1aefd3923dfecde63ee095436d398bd873df1fd341db42724")
WORD: Final = 32
HEAD_WORDS: Final = 4
ANCHORED_WORDS: Final = 2
ANCHORED_TOPICS: Final = 3
NO_ADDRESS: Final = "0x" + "0" * 40
GAS_MARGIN_PERCENT: Final = 115
# a first deployment is looked for among this many of the owner's earliest transactions
DEPLOYMENTS_LOOKED_AT: Final = 16
RECEIPT_POLL_SECONDS: Final = 0.05


class OwnerSigner(Protocol):
    """Signs as the contract's owner."""

    @property
    def address(self) -> str:
        """The owner's checksummed address."""

    def sign_deploy(self, request: DeployTx) -> SignedTx:
        """Builds and signs the transaction itself; judges the request by its fields."""

    def sign_register_log(self, request: RegisterLogTx) -> SignedTx:
        """Builds and signs the transaction itself; judges the request by its fields."""


class Head(NamedTuple):
    """What the contract holds for a log; publisher is the zero address when the log is unknown."""

    publisher: str
    size: int
    anchored_at: int
    root: bytes


class Anchored(NamedTuple):
    """One Anchored event."""

    size: int
    root: bytes
    previous_size: int
    block_number: int
    block_hash: bytes
    tx_hash: bytes
    log_index: int


def log_id_of(origin: str) -> bytes:
    """The contract's name of a log: SHA-256 of its origin."""
    return hashlib.sha256(origin.encode()).digest()


class Registry:
    """One log in one contract on one chain."""

    def __init__(self, connection: Connection, *, chain_id: int, contract: str, log_id: bytes) -> None:
        self.connection, self.chain_id, self.contract, self.log_id = connection, chain_id, contract, log_id

    def check(self, publisher: str) -> None:
        """Raises WrongChainError unless chain, code and log are as configured; NotPublisherError for another key."""
        found = self.connection.chain_id()
        if found != self.chain_id:
            raise WrongChainError(f"{self.connection.rpc_url} serves chain {found}, not {self.chain_id}")
        code = self.connection.code(self.contract)
        if code != artefact().runtime_bytecode:
            what = "another contract" if code else "no contract"
            raise WrongChainError(f"{what} at {self.contract} on chain {self.chain_id}")
        head = self.head()
        if head.publisher == NO_ADDRESS:
            raise WrongChainError(f"log 0x{self.log_id.hex()} is not registered in {self.contract}")
        if head.publisher.lower() != publisher.lower():
            raise NotPublisherError("NotPublisher", (self.log_id, publisher))

    def head(self, block: int | str = "latest") -> Head:
        """The head after a block. WrongChainError where there is no such contract."""
        output = self.connection.call(self.contract, HEAD_SELECTOR + self.log_id, block)
        if len(output) != HEAD_WORDS * WORD:
            raise WrongChainError(f"no registry answers at {self.contract}")
        words = [output[at : at + WORD] for at in range(0, len(output), WORD)]
        return Head(
            publisher="0x" + words[0][-20:].hex(),
            size=int.from_bytes(words[1], "big"),
            anchored_at=int.from_bytes(words[2], "big"),
            root=words[3],
        )

    def estimate_anchor(self, sender: str, size: int, root: bytes, proof: Sequence[bytes]) -> int:
        """Gas limit for an anchor sent now, with 15 % to spare. RefusedError when it would revert."""
        data = anchor_data(self.log_id, size, root, tuple(proof))
        return self.connection.estimate(sender, self.contract, data) * GAS_MARGIN_PERCENT // 100

    def anchored_events(self, from_block: int, to_block: int | str = "latest") -> list[Anchored]:
        """The log's Anchored events in chain order, both blocks included."""
        found = self.connection.logs(
            {
                "address": self.contract,
                "topics": ["0x" + ANCHORED_TOPIC.hex(), "0x" + self.log_id.hex()],
                "fromBlock": from_block,
                "toBlock": to_block,
            }
        )
        return [self._from_filter(log) for log in found]

    def _from_filter(self, found: Any) -> Anchored:
        topics = tuple(bytes(topic) for topic in found["topics"])
        log = Log(found["address"], topics, bytes(found["data"]), found["logIndex"])
        return _anchored(log, found["blockNumber"], bytes(found["blockHash"]), bytes(found["transactionHash"]))

    def anchored_in(self, receipt: Receipt) -> Anchored | None:
        """This log's Anchored event in a receipt, None when it has none."""
        for log in receipt.logs:
            is_ours = log.address.lower() == self.contract.lower() and len(log.topics) == ANCHORED_TOPICS
            if is_ours and log.topics[0] == ANCHORED_TOPIC and log.topics[1] == self.log_id:
                return _anchored(log, receipt.block_number, receipt.block_hash, receipt.tx_hash)
        return None


def _anchored(log: Log, block_number: int, block_hash: bytes, tx_hash: bytes) -> Anchored:
    if len(log.data) != ANCHORED_WORDS * WORD:
        raise WrongChainError("an Anchored event of another shape")
    return Anchored(
        size=int.from_bytes(log.topics[2], "big"),
        root=log.data[:WORD],
        previous_size=int.from_bytes(log.data[WORD:], "big"),
        block_number=block_number,
        block_hash=block_hash,
        tx_hash=tx_hash,
        log_index=log.log_index,
    )


def ensure_deployed(connection: Connection, signer: OwnerSigner, *, fee_cap: int, timeout_seconds: float) -> str:
    """The address of the owner's registry; deploys one when there is none. Safe to call again after a crash.

    A contract's address follows from its creator and nonce, so an earlier deployment is found by looking.
    """
    done = connection.nonce(signer.address)
    for nonce in range(min(done, DEPLOYMENTS_LOOKED_AT)):
        address = create_address(signer.address, nonce)
        if connection.code(address) == artefact().runtime_bytecode:
            return address
    chain_id = connection.chain_id()
    draft = DeployTx(
        owner=signer.address,
        bytecode=artefact().bytecode,
        chain_id=chain_id,
        nonce=done,
        gas=0,
        max_fee_per_gas=0,
        max_priority_fee_per_gas=0,
    )
    data = transaction_fields(draft)["data"]
    gas = connection.estimate(signer.address, None, data) * GAS_MARGIN_PERCENT // 100
    fees = current_fees(connection, fee_cap)
    request = DeployTx(
        owner=draft.owner,
        bytecode=draft.bytecode,
        chain_id=chain_id,
        nonce=done,
        gas=gas,
        max_fee_per_gas=fees.max_fee,
        max_priority_fee_per_gas=fees.tip,
    )
    receipt = _send_and_wait(connection, signer.sign_deploy(request), timeout_seconds)
    if receipt.contract is None or connection.code(receipt.contract) != artefact().runtime_bytecode:
        raise RefusedError("Reverted", ("the deployment left no registry",))
    return receipt.contract


def ensure_registered(
    registry: Registry, signer: OwnerSigner, *, origin: str, publisher: str, fee_cap: int, timeout_seconds: float
) -> None:
    """Registers the log unless it is registered for this publisher already. Safe to call again after a crash.

    Raises NotPublisherError when it is registered for somebody else, NotOwnerError when the signer may not.
    """
    if registry.log_id != log_id_of(origin):
        raise WrongChainError(f"log 0x{registry.log_id.hex()} is not {origin}")
    head = registry.head()
    if head.publisher != NO_ADDRESS:
        if head.publisher.lower() != publisher.lower():
            raise NotPublisherError("NotPublisher", (registry.log_id, publisher))
        return
    connection = registry.connection
    data = register_log_data(origin, publisher)
    gas = connection.estimate(signer.address, registry.contract, data) * GAS_MARGIN_PERCENT // 100
    fees = current_fees(connection, fee_cap)
    request = RegisterLogTx(
        contract=registry.contract,
        origin=origin,
        publisher=publisher,
        chain_id=registry.chain_id,
        nonce=connection.nonce(signer.address),
        gas=gas,
        max_fee_per_gas=fees.max_fee,
        max_priority_fee_per_gas=fees.tip,
    )
    _send_and_wait(connection, signer.sign_register_log(request), timeout_seconds)
    if registry.head().publisher.lower() != publisher.lower():
        raise ChainUnavailableError("the log is not registered yet")


def current_fees(connection: Connection, cap: int) -> Fees:
    """Fees for a transaction now. NodeRefusedError while the base fee is over the cap."""
    block = connection.block("latest")
    base_fee = block.base_fee if block is not None else 0
    fees = first_fees(base_fee, connection.tip(), cap)
    if fees is None:
        raise NodeRefusedError(0, f"the base fee {base_fee} is over the cap {cap}")
    return fees


def _send_and_wait(connection: Connection, signed: SignedTx, timeout_seconds: float) -> Receipt:
    sent = connection.send(signed.raw)
    if sent.outcome not in {SendOutcome.ACCEPTED, SendOutcome.KNOWN}:
        raise NodeRefusedError(0, sent.message)
    deadline = time.monotonic() + timeout_seconds
    while (receipt := connection.receipt(signed.tx_hash)) is None:
        if time.monotonic() > deadline:
            raise ChainUnavailableError(f"0x{signed.tx_hash.hex()} is not mined after {timeout_seconds} s")
        time.sleep(RECEIPT_POLL_SECONDS)
    if not receipt.succeeded:
        raise RefusedError("Reverted", (f"0x{signed.tx_hash.hex()}",))
    return receipt

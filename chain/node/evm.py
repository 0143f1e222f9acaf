"""The chain itself: py-evm with Prague rules, each accepted transaction in a block of its own, mined at once.

Blocks are never reorganised and none are empty, so `latest`, `safe` and `finalized` are the same block. There
is no pool: a transaction that cannot run now is refused. Not thread-safe: one owner.
"""

import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

from eth._utils.headers import eth_now
from eth.abc import BlockAPI, BlockHeaderAPI, ReceiptAPI, SignedTransactionAPI
from eth.chains.base import MiningChain
from eth.constants import BLANK_ROOT_HASH, POST_MERGE_DIFFICULTY, POST_MERGE_NONCE, ZERO_ADDRESS
from eth.exceptions import HeaderNotFound, TransactionNotFound
from eth.vm.forks.prague import PragueVM
from eth_utils.exceptions import ValidationError

from chain.node.admission import check, decode
from chain.node.errors import SERVER_ERROR, ChainMismatchError, RpcError
from chain.node.store import FORMAT, ChainStore, LogRow

BLOCK_GAS_LIMIT: Final = 30_000_000
FUNDING_WEI: Final = 10**24
MAX_TOPICS: Final = 4


class Mined(NamedTuple):
    """A transaction in its block. A block holds exactly one: its index is 0 and all gas used is its own."""

    block: BlockAPI
    transaction: SignedTransactionAPI
    receipt: ReceiptAPI


def _chain_class(number: int) -> Any:
    return type("EmbeddedChain", (MiningChain,), {"chain_id": number, "vm_configuration": ((0, PragueVM),)})


class Evm:
    """One chain file, open. `chain_id` and `fund` are fixed when the file is made and only compared later.

    Raises ChainMismatchError when they differ from the file's or are missing for a new file.
    """

    def __init__(
        self, path: Path, *, chain_id: int | None, fund: Sequence[bytes] = (), read_only: bool = False
    ) -> None:
        self.read_only = read_only
        self.store = ChainStore(path, read_only=read_only)
        try:
            self.chain_id = self._open_genesis(path, chain_id, sorted(set(fund)))
        except BaseException:
            self.store.close()
            raise
        # py-evm's own classes are only half typed
        self.chain: Any = _chain_class(self.chain_id)(self.store)

    def close(self) -> None:
        """Closes the file."""
        self.store.close()

    def _open_genesis(self, path: Path, chain_id: int | None, fund: list[bytes]) -> int:
        stored: int | None = self.store.meta("chain_id")
        if stored is None:
            if self.read_only or chain_id is None or not fund:
                raise ChainMismatchError(f"{path} is new: it needs a chain id and at least one address to fund")
            self._make_genesis(chain_id, fund)
            stored = chain_id
        if chain_id not in {None, stored}:
            raise ChainMismatchError(f"{path} holds chain {stored}, not {chain_id}")
        funded = self.store.meta("funded")
        if fund and [address.hex() for address in fund] != funded:
            raise ChainMismatchError(f"{path} funds {', '.join('0x' + a for a in funded)} and nobody else")
        return stored

    def _make_genesis(self, chain_id: int, fund: list[bytes]) -> None:
        params = {
            "coinbase": ZERO_ADDRESS,
            "difficulty": POST_MERGE_DIFFICULTY,
            "extra_data": b"",
            "gas_limit": BLOCK_GAS_LIMIT,
            "mix_hash": bytes(32),
            "nonce": POST_MERGE_NONCE,
            "receipt_root": BLANK_ROOT_HASH,
            "timestamp": eth_now(),
            "transaction_root": BLANK_ROOT_HASH,
        }
        account = {"balance": FUNDING_WEI, "nonce": 0, "code": b"", "storage": {}}
        _chain_class(chain_id).from_genesis(self.store, params, dict.fromkeys(fund, account))
        # A crash here leaves an empty file, which the next start turns into the genesis.
        self.store.commit((), {"format": FORMAT, "chain_id": chain_id, "funded": [address.hex() for address in fund]})

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Everything read inside belongs to one state of the file."""
        if self.read_only:
            with self.store.snapshot():
                yield
        else:
            yield  # nobody else writes this file

    def head(self) -> BlockHeaderAPI:
        """The newest block's header."""
        header: BlockHeaderAPI = self.chain.chaindb.get_canonical_head()
        return header

    def header(self, number: int) -> BlockHeaderAPI | None:
        """The header at this height, None above the head."""
        try:
            header: BlockHeaderAPI = self.chain.get_canonical_block_header_by_number(number)
        except HeaderNotFound:
            return None
        return header

    def header_by_hash(self, block_hash: bytes) -> BlockHeaderAPI | None:
        """The header with this hash, None when there is none."""
        try:
            header: BlockHeaderAPI = self.chain.get_block_header_by_hash(block_hash)
        except HeaderNotFound:
            return None
        return header

    def block(self, header: BlockHeaderAPI) -> BlockAPI:
        """The whole block of a header."""
        block: BlockAPI = self.chain.get_block_by_header(header)
        return block

    def mined(self, tx_hash: bytes) -> Mined | None:
        """Where a transaction was mined, None when it was not."""
        try:
            number, index = self.chain.get_canonical_transaction_index(tx_hash)
        except TransactionNotFound:
            return None
        block = self.block(self.chain.get_canonical_block_header_by_number(number))
        return Mined(block, block.transactions[index], self.receipts(block)[index])

    def receipts(self, block: BlockAPI) -> Sequence[ReceiptAPI]:
        """The receipts of a block, in the order of its transactions."""
        receipts: Sequence[ReceiptAPI] = block.get_receipts(self.chain.chaindb)
        return receipts

    def state(self, header: BlockHeaderAPI) -> Any:
        """Accounts after this block. Drop it after reading: nothing it changes is ever kept."""
        return self.chain.get_vm(header).state

    def next_base_fee(self, header: BlockHeaderAPI) -> int:
        """Wei per gas that the block after this one will burn (EIP-1559)."""
        return self._child(header).base_fee_per_gas or 0

    def _child(self, parent: BlockHeaderAPI) -> BlockHeaderAPI:
        header: BlockHeaderAPI = self.chain.create_header_from_parent(
            parent,
            # never behind the clock, and after its parent as the rules ask
            timestamp=max(eth_now(), parent.timestamp + 1),
            gas_limit=BLOCK_GAS_LIMIT,
            mix_hash=secrets.token_bytes(32),
        )
        return header

    def send_raw(self, raw: bytes) -> bytes:
        """Runs a signed transaction and mines it. Returns its hash once the block is durable.

        Raises RpcError with geth's texts when it cannot be included right now.
        """
        if self.read_only:
            raise RpcError(SERVER_ERROR, "this node serves a read-only copy and takes no transactions")
        transaction = decode(raw, self.chain_id)
        tx_hash: bytes = transaction.hash
        if self.mined(tx_hash) is not None:
            raise RpcError(SERVER_ERROR, "already known")
        head = self.head()
        header = self._child(head)
        check(transaction, self.state(head), header)
        try:
            self.chain.header = header
            result, receipts, _ = self.chain.mine_all((transaction,))
            self.store.commit(_log_rows(result.imported_block, receipts[0]))
        except ValidationError as error:
            raise RpcError(SERVER_ERROR, f"invalid transaction: {error}") from error
        finally:
            self.store.discard()
        return tx_hash


def _log_rows(block: BlockAPI, receipt: ReceiptAPI) -> list[LogRow]:
    rows = []
    tx_hash = block.transactions[0].hash
    for index, log in enumerate(receipt.logs):
        first, second, third, fourth = (
            topic.to_bytes(32, "big") if topic is not None else None
            for topic in (*log.topics, *[None] * (MAX_TOPICS - len(log.topics)))
        )
        topics = (first, second, third, fourth)
        rows.append(LogRow(block.number, index, block.hash, tx_hash, 0, log.address, topics, log.data))
    return rows

"""Which signed transactions the chain takes: decodes hostile bytes and refuses with the texts geth uses."""

from typing import Any, Final

from eth.abc import BlockHeaderAPI
from eth.vm.forks.prague.transactions import PragueTransactionBuilder

from chain.node.errors import SERVER_ERROR, RpcError

MAX_RAW_BYTES: Final = 131_072  # as geth's txMaxSize
SUPPORTED_TYPES: Final = frozenset({1, 2})
FIRST_LEGACY_BYTE: Final = 0xC0  # EIP-2718: an RLP list is a transaction without a type


def decode(raw: bytes, chain_id: int) -> Any:
    """The transaction in these bytes, its signature sound and made for this chain; RpcError otherwise."""
    if not 0 < len(raw) <= MAX_RAW_BYTES:
        raise RpcError(SERVER_ERROR, f"a transaction has 1 to {MAX_RAW_BYTES} bytes, not {len(raw)}")
    if raw[0] < FIRST_LEGACY_BYTE and raw[0] not in SUPPORTED_TYPES:
        raise RpcError(SERVER_ERROR, f"transaction type {raw[0]} not supported")
    try:
        transaction: Any = PragueTransactionBuilder.decode(raw)
        canonical = transaction.encode() == raw
        transaction.validate()
        transaction.check_signature_validity()
        _ = transaction.sender
    except Exception as error:  # py-evm, rlp and eth-keys each raise from a tree of their own on hostile bytes
        text = f"invalid transaction: {type(error).__name__}: {error}"
        raise RpcError(SERVER_ERROR, text[:300]) from error
    if not canonical:
        raise RpcError(SERVER_ERROR, "invalid transaction: not the canonical encoding")
    if transaction.chain_id is None:
        raise RpcError(SERVER_ERROR, "only replay-protected (EIP-155) transactions allowed over RPC")
    if transaction.chain_id != chain_id:
        raise RpcError(SERVER_ERROR, f"invalid chain id for signer: have {transaction.chain_id} want {chain_id}")
    return transaction


def check(transaction: Any, state: Any, header: BlockHeaderAPI) -> None:
    """Raises RpcError unless the transaction can run in the block of this header, on this state before it."""
    sender = transaction.sender
    nonce, balance = state.get_nonce(sender), state.get_balance(sender)
    base_fee = header.base_fee_per_gas or 0
    where = f"address 0x{sender.hex()}"
    gas, most, tip = transaction.gas, transaction.max_fee_per_gas, transaction.max_priority_fee_per_gas
    cost = gas * most + transaction.value
    refusals = (
        (transaction.nonce < nonce, f"nonce too low: {where}, tx: {transaction.nonce} state: {nonce}"),
        (transaction.nonce > nonce, f"nonce too high: {where}, tx: {transaction.nonce} state: {nonce}"),
        (gas > header.gas_limit, f"exceeds block gas limit: {gas} > {header.gas_limit}"),
        (
            gas < transaction.intrinsic_gas,
            f"intrinsic gas too low: gas {gas}, minimum needed {transaction.intrinsic_gas}",
        ),
        (
            most < base_fee,
            f"max fee per gas less than block base fee: {where}, maxFeePerGas: {most}, baseFee: {base_fee}",
        ),
        (
            tip > most,
            f"max priority fee per gas higher than max fee per gas: {where}, tip: {tip}, maxFeePerGas: {most}",
        ),
        (
            cost > balance,
            f"insufficient funds for gas * price + value: {where} have {balance} want {cost}",
        ),
    )
    for refused, message in refusals:
        if refused:
            raise RpcError(SERVER_ERROR, message)

"""Runs messages without keeping their effect: `eth_call` and `eth_estimateGas`."""

from typing import Any, Final, NamedTuple

from eth.abc import BlockHeaderAPI
from eth.exceptions import Revert, VMError
from eth.vm.forks.prague import PragueVM
from eth.vm.spoof import SpoofTransaction
from eth_utils.exceptions import ValidationError

from chain.node.errors import SERVER_ERROR, RpcError
from chain.node.evm import Evm
from chain.node.reverts import reverted

# geth caps calls too (--rpc.gascap): the node has one thread, and a call can bring an endless loop of its own
CALL_GAS_LIMIT: Final = 3_000_000
# what a search may give too much, as geth's estimateGasErrorRatio
ESTIMATE_TOLERANCE: Final = 0.015


class Call(NamedTuple):
    """A message to run. `to` is empty for a contract creation; without `gas` the node's limit holds."""

    sender: bytes
    to: bytes
    value: int
    data: bytes
    gas: int | None


class _Outcome(NamedTuple):
    gas_used: int
    output: bytes


def call(evm: Evm, wanted: Call, header: BlockHeaderAPI) -> bytes:
    """The output on the state after this block. RpcError 3 with the data when it reverts."""
    return _run(evm, wanted, header, _limit(wanted)).output


def estimate_gas(evm: Evm, wanted: Call, header: BlockHeaderAPI) -> int:
    """Gas with which the message succeeds on the state after this block, at most 1.5 % too much."""
    high = _limit(wanted)
    used = _run(evm, wanted, header, high).gas_used
    low = used - 1
    # most need exactly what they use; those that call onward must also keep back a 64th (EIP-150)
    for guess in (used, used * 65 // 64):
        if guess < high and _succeeds(evm, wanted, header, guess):
            high = guess
            break
        low = guess
    while high - low > 1 and (high - low) / high > ESTIMATE_TOLERANCE:
        middle = (low + high) // 2
        if _succeeds(evm, wanted, header, middle):
            high = middle
        else:
            low = middle
    return high


def _limit(wanted: Call) -> int:
    return CALL_GAS_LIMIT if wanted.gas is None else min(wanted.gas, CALL_GAS_LIMIT)


def _succeeds(evm: Evm, wanted: Call, header: BlockHeaderAPI, gas: int) -> bool:
    try:
        _run(evm, wanted, header, gas)
    except RpcError:
        return False
    return True


def _run(evm: Evm, wanted: Call, header: BlockHeaderAPI, gas: int) -> _Outcome:
    """One run. The state lives in memory and is dropped; gas costs the sender nothing (base fee 0)."""
    vm: Any = evm.chain.get_vm(header)
    free = header.copy(base_fee_per_gas=0)
    state: Any = vm.build_state(evm.store, free, vm.chain_context, vm.previous_hashes)
    unsigned = vm.get_transaction_builder().new_unsigned_dynamic_fee_transaction(
        chain_id=evm.chain_id,
        nonce=state.get_nonce(wanted.sender),
        max_priority_fee_per_gas=0,
        max_fee_per_gas=0,
        gas=gas,
        to=wanted.to,
        value=wanted.value,
        data=wanted.data,
        access_list=(),
    )
    transaction: Any = SpoofTransaction(unsigned, from_=wanted.sender)
    if gas < transaction.intrinsic_gas:
        raise RpcError(SERVER_ERROR, f"intrinsic gas too low: gas {gas}, minimum needed {transaction.intrinsic_gas}")
    balance = state.get_balance(wanted.sender)
    if balance < wanted.value:
        raise RpcError(SERVER_ERROR, f"insufficient funds for gas * price + value: have {balance} want {wanted.value}")
    try:
        computation = state.apply_transaction(transaction)
    except (ValidationError, VMError) as error:
        raise RpcError(SERVER_ERROR, f"cannot run: {error}"[:300]) from error
    if computation.is_error:
        raise _refusal(computation.error)
    return _Outcome(PragueVM.finalize_gas_used(transaction, computation), computation.output)


def _refusal(error: VMError) -> RpcError:
    if isinstance(error, Revert):
        return reverted(bytes(error.args[0]) if error.args else b"")
    return RpcError(SERVER_ERROR, f"{type(error).__name__}: {error}"[:300])

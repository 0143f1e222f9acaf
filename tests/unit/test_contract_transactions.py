"""The typed requests become exactly the transactions that the contract's ABI asks for."""

import pytest
from eth_abi import encode
from eth_account import Account
from eth_account.typed_transactions import TypedTransaction
from eth_utils import keccak, to_checksum_address
from hypothesis import given
from hypothesis import strategies as st

from chain.transactions import (
    AnchorTx,
    DeployTx,
    RegisterLogTx,
    anchor_data,
    register_log_data,
    transaction_fields,
)
from contracts import artefact

ENVELOPE = {
    "chain_id": 7,
    "nonce": 3,
    "gas": 90_000,
    "max_fee_per_gas": 10**9,
    "max_priority_fee_per_gas": 10**6,
}
ADDRESS = to_checksum_address("0x" + "ab" * 20)
hashes = st.binary(min_size=32, max_size=32)


def abi_call(name: str, values: tuple[object, ...]) -> bytes:
    function = next(item for item in artefact().abi if item.get("name") == name and item["type"] == "function")
    types = [argument["type"] for argument in function["inputs"]]
    return keccak(text=f"{name}({','.join(types)})")[:4] + encode(types, values)


@given(hashes, st.integers(1, 2**64 - 1), hashes, st.lists(hashes, max_size=64))
def test_anchor_call_data_is_the_abi_encoding(log_id: bytes, size: int, root: bytes, proof: list[bytes]) -> None:
    assert anchor_data(log_id, size, root, tuple(proof)) == abi_call("anchor", (log_id, size, root, proof))


@given(st.text(max_size=100))
def test_register_log_call_data_is_the_abi_encoding(origin: str) -> None:
    assert register_log_data(origin, ADDRESS) == abi_call("registerLog", (origin, ADDRESS))


@pytest.mark.parametrize(
    ("size", "root", "proof"),
    [(0, bytes(32), ()), (2**64, bytes(32), ()), (1, bytes(31), ()), (1, bytes(32), (bytes(33),))],
)
def test_a_size_or_hash_out_of_range_is_never_encoded(size: int, root: bytes, proof: tuple[bytes, ...]) -> None:
    with pytest.raises(ValueError, match=r"size|hash"):
        anchor_data(bytes(32), size, root, proof)


@pytest.mark.parametrize(
    "request_",
    [
        AnchorTx(
            contract=ADDRESS,
            log_id=b"\1" * 32,
            new_size=9,
            new_root=b"\2" * 32,
            proof=(b"\3" * 32,),
            **ENVELOPE,
        ),
        RegisterLogTx(contract=ADDRESS, origin="daicho.invalid/1", publisher=ADDRESS, **ENVELOPE),
        DeployTx(owner=ADDRESS, bytecode=artefact().bytecode, **ENVELOPE),
    ],
)
def test_a_request_signs_as_an_eip_1559_transaction(request_: AnchorTx | RegisterLogTx | DeployTx) -> None:
    account = Account.create()
    fields = transaction_fields(request_)
    signed = account.sign_transaction(fields)
    assert Account.recover_transaction(signed.raw_transaction) == account.address
    decoded = TypedTransaction.from_bytes(signed.raw_transaction).as_dict()
    assert {k: decoded[k] for k in ("type", "chainId", "nonce", "gas", "value")} == {
        k: fields[k] for k in ("type", "chainId", "nonce", "gas", "value")
    }

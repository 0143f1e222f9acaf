"""What Daicho needs of any Ethereum node, asked of the embedded node and of anvil alike, through web3."""

import hashlib
import itertools
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from eth_abi import decode
from eth_account import Account
from eth_utils import keccak
from web3 import HTTPProvider, Web3
from web3.exceptions import ContractCustomError, TransactionNotFound, Web3RPCError

from contracts import artefact
from tests.chain_fixtures import CHAIN_ID, AnvilNode, EmbeddedNode, GrowingLog, RpcNode, anvil_binary, wait_until

GWEI = 10**9
ORIGIN = "daicho.invalid/contract-suite"
LOG_ID = hashlib.sha256(ORIGIN.encode()).digest()


class Chain:
    """A running node with a funded account and, after `deploy`, a registry."""

    def __init__(self, node: RpcNode, account: Any) -> None:
        self.node, self.account = node, account
        self.w3 = Web3(HTTPProvider(node.url))
        self.registry: Any = None

    def sign(self, **fields: Any) -> Any:
        base = {
            "type": 2,
            "chainId": self.w3.eth.chain_id,
            "nonce": self.w3.eth.get_transaction_count(self.account.address),
            "maxFeePerGas": 10 * GWEI,
            "maxPriorityFeePerGas": GWEI,
            "gas": 2_000_000,
            "value": 0,
        }
        return self.account.sign_transaction({k: v for k, v in (base | fields).items() if v is not None})

    def receipt(self, tx_hash: bytes) -> Any:
        def find() -> Any:
            try:
                return self.w3.eth.get_transaction_receipt(tx_hash)
            except TransactionNotFound:
                return None

        return wait_until(find, "the transaction is mined")

    def send(self, **fields: Any) -> Any:
        return self.receipt(self.w3.eth.send_raw_transaction(self.sign(**fields).raw_transaction))

    def deploy(self) -> None:
        factory = self.w3.eth.contract(abi=artefact().abi, bytecode=artefact().bytecode)
        receipt = self.send(data=factory.constructor(self.account.address).data_in_transaction)
        self.registry = self.w3.eth.contract(address=receipt.contractAddress, abi=artefact().abi)
        self.call("registerLog", ORIGIN, self.account.address)

    def call(self, function: str, *arguments: Any) -> Any:
        data = self.registry.encode_abi(function, list(arguments))
        return self.send(to=self.registry.address, data=data)

    def anchor(self, log: GrowingLog, old: int, new: int) -> Any:
        proof = log.proof(old, new) if old else []
        return self.call("anchor", LOG_ID, new, log.root(new), proof)


@pytest.fixture(scope="module", params=["embedded", "anvil"])
def fresh(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    account = Account.create()
    node: EmbeddedNode | AnvilNode
    if request.param == "embedded":
        file: Path = tmp_path_factory.mktemp("chain") / "chain.db"
        node = EmbeddedNode(file, "--chain-id", str(CHAIN_ID), "--fund", account.address)
    else:
        node = AnvilNode(anvil_binary(), "--chain-id", str(CHAIN_ID), "--timestamp", str(int(time.time())))
        node.rpc("anvil_setBalance", account.address, hex(10**24))
    yield Chain(node, account)
    node.end()


@pytest.fixture
def chain(fresh: Chain) -> Chain:
    """The module's node, with a registry and a log of its own for each test."""
    fresh.deploy()
    return fresh


def test_a_node_names_itself(fresh: Chain) -> None:
    assert fresh.w3.eth.chain_id == CHAIN_ID
    assert fresh.w3.net.version == str(CHAIN_ID)
    assert fresh.w3.client_version
    assert fresh.w3.eth.syncing is False


def test_a_deployed_registry_has_exactly_the_committed_code(chain: Chain) -> None:
    assert bytes(chain.w3.eth.get_code(chain.registry.address)) == artefact().runtime_bytecode
    assert bytes(chain.w3.eth.get_code(chain.account.address)) == b""


def test_an_anchor_is_mined_and_readable_at_once_and_later(chain: Chain) -> None:
    log = GrowingLog(25)
    first = chain.anchor(log, 0, 7)
    second = chain.anchor(log, 7, 25)
    head = chain.registry.functions.head(LOG_ID)
    assert head.call()[1::2] == [25, log.root(25)]
    assert head.call(block_identifier=first.blockNumber)[1::2] == [7, log.root(7)]
    assert chain.w3.eth.get_block("finalized").number <= second.blockNumber
    block = chain.w3.eth.get_block(second.blockNumber)
    assert (block.hash, block.timestamp) == (second.blockHash, head.call()[2])
    assert second.transactionHash in block.transactions
    assert chain.w3.eth.get_block(second.blockHash).number == second.blockNumber


def test_a_receipt_has_what_an_anchor_book_keeps(chain: Chain) -> None:
    log = GrowingLog(25)
    receipt = chain.anchor(log, 0, 7)
    assert (receipt.status, receipt["from"], receipt.to) == (1, chain.account.address, chain.registry.address)
    assert 21_000 < receipt.gasUsed < 80_000
    assert receipt.gasUsed == receipt.cumulativeGasUsed
    base_fee = chain.w3.eth.get_block(receipt.blockNumber).baseFeePerGas
    assert receipt.effectiveGasPrice == base_fee + GWEI
    (event,) = chain.registry.events.Anchored().process_receipt(receipt)
    assert dict(event.args) == {"logId": LOG_ID, "size": 7, "root": log.root(7), "prevSize": 0}
    assert (event.blockNumber, event.transactionHash) == (receipt.blockNumber, receipt.transactionHash)
    found = chain.w3.eth.get_transaction(receipt.transactionHash)
    assert (found.blockHash, found["from"], found.nonce) == (receipt.blockHash, chain.account.address, found.nonce)


def test_logs_are_found_by_address_topic_and_block(chain: Chain) -> None:
    log = GrowingLog(25)
    receipts = [chain.anchor(log, old, new) for old, new in ((0, 3), (3, 9), (9, 25))]
    events = chain.registry.events.Anchored()
    first, last = receipts[0].blockNumber, receipts[-1].blockNumber

    def sizes(**wanted: Any) -> list[int]:
        return [event.args.size for event in events.get_logs(**wanted)]

    assert sizes(from_block=0) == [3, 9, 25]
    assert sizes(from_block=first + 1, to_block=last) == [9, 25]
    assert sizes(from_block=first, to_block=first) == [3]
    assert sizes(from_block=0, argument_filters={"logId": LOG_ID}) == [3, 9, 25]
    assert sizes(from_block=0, argument_filters={"size": [3, 25]}) == [3, 25]
    assert sizes(from_block=0, argument_filters={"logId": bytes(32)}) == []
    assert sizes(block_hash=receipts[1].blockHash) == [9]
    other = {"address": "0x" + "11" * 20, "fromBlock": "0x0", "toBlock": "latest"}
    assert chain.node.rpc("eth_getLogs", other) == []


def refusal(call: Any) -> tuple[str, tuple[Any, ...]]:
    with pytest.raises(ContractCustomError) as refused:
        call()
    data = bytes.fromhex(refused.value.data.removeprefix("0x"))
    for error in (item for item in artefact().abi if item["type"] == "error"):
        types = [argument["type"] for argument in error["inputs"]]
        if keccak(text=f"{error['name']}({','.join(types)})")[:4] == data[:4]:
            return error["name"], decode(types, data[4:])
    raise AssertionError(data.hex())


def test_a_rewritten_history_is_refused_with_its_sizes(chain: Chain) -> None:
    honest, rewritten = GrowingLog(9), GrowingLog(9, b"rewritten")
    chain.anchor(honest, 0, 5)
    function = chain.registry.functions.anchor(LOG_ID, 9, rewritten.root(9), rewritten.proof(5, 9))
    sender = {"from": chain.account.address}
    for attempt in (function.call, function.estimate_gas):
        name, values = refusal(lambda attempt=attempt: attempt(sender))
        assert (name, values) == ("Inconsistent", (LOG_ID, 5, 9))
    receipt = chain.anchor(rewritten, 5, 9)
    assert receipt.status == 0
    assert receipt.logs == []
    assert chain.registry.functions.head(LOG_ID).call()[1::2] == [5, honest.root(5)]


def test_a_stranger_is_refused_by_name(chain: Chain) -> None:
    stranger = "0x" + "33" * 20
    function = chain.registry.functions.anchor(LOG_ID, 9, bytes(32), [])
    assert refusal(lambda: function.call({"from": stranger})) == ("NotPublisher", (LOG_ID, stranger))


def test_an_estimate_is_enough_and_not_far_off(chain: Chain) -> None:
    log = GrowingLog(500)
    chain.anchor(log, 0, 321)
    function = chain.registry.functions.anchor(LOG_ID, 500, log.root(500), log.proof(321, 500))
    estimate = function.estimate_gas({"from": chain.account.address})
    receipt = chain.send(to=chain.registry.address, data=function._encode_transaction_data(), gas=estimate)
    assert receipt.status == 1
    assert receipt.gasUsed <= estimate < receipt.gasUsed * 1.2


def test_a_used_nonce_and_a_repeated_transaction_are_told_apart_from_new_ones(chain: Chain) -> None:
    before = chain.w3.eth.get_transaction_count(chain.account.address)
    signed = chain.sign(to=chain.account.address)
    chain.receipt(chain.w3.eth.send_raw_transaction(signed.raw_transaction))
    assert chain.w3.eth.get_transaction_count(chain.account.address) == before + 1
    with pytest.raises(Web3RPCError, match=r"already known|already imported|nonce too low"):
        chain.w3.eth.send_raw_transaction(signed.raw_transaction)
    with pytest.raises(Web3RPCError, match="nonce too low") as refused:
        chain.w3.eth.send_raw_transaction(chain.sign(to=chain.account.address, nonce=before, value=1).raw_transaction)
    assert refused.value.rpc_response["error"]["code"] in {-32000, -32003}
    assert chain.w3.eth.get_transaction_count(chain.account.address) == before + 1


def test_a_transaction_of_another_chain_is_refused(chain: Chain) -> None:
    with pytest.raises(Web3RPCError, match=r"(?i)chain.?id"):
        chain.w3.eth.send_raw_transaction(chain.sign(to=chain.account.address, chainId=1).raw_transaction)


def test_an_empty_account_cannot_pay(chain: Chain) -> None:
    poor = Account.create()
    fields = {"chainId": CHAIN_ID, "nonce": 0, "gas": 21_000, "maxFeePerGas": 10 * GWEI, "maxPriorityFeePerGas": 1}
    signed = poor.sign_transaction({"type": 2, "to": poor.address, "value": 0, **fields})
    with pytest.raises(Web3RPCError, match=r"(?i)insufficient funds"):
        chain.w3.eth.send_raw_transaction(signed.raw_transaction)


def test_a_fee_below_the_base_fee_is_refused(chain: Chain) -> None:
    signed = chain.sign(to=chain.account.address, maxFeePerGas=1, maxPriorityFeePerGas=0)
    with pytest.raises(Web3RPCError, match=r"(?i)max fee per gas less than block base fee"):
        chain.w3.eth.send_raw_transaction(signed.raw_transaction)


@pytest.mark.parametrize("kind", [0, 1, 2])
def test_every_usual_kind_of_transaction_is_mined(chain: Chain, kind: int) -> None:
    fields: dict[str, Any] = {"to": "0x" + "44" * 20, "value": 5, "gas": 50_000}
    if kind < 2:
        fields |= {"gasPrice": 20 * GWEI, "maxFeePerGas": None, "maxPriorityFeePerGas": None, "type": kind or None}
    if kind == 1:
        key = "0x" + "00" * 31 + "07"
        fields["accessList"] = [{"address": chain.registry.address, "storageKeys": [key]}]
    before = chain.w3.eth.get_balance("0x" + "44" * 20)
    receipt = chain.send(**fields)
    assert (receipt.status, receipt.type) == (1, kind)
    assert chain.w3.eth.get_balance("0x" + "44" * 20) == before + 5
    assert chain.w3.eth.get_transaction(receipt.transactionHash).type == kind


def test_fees_can_be_planned(chain: Chain) -> None:
    receipt = chain.send(to=chain.account.address)
    history = chain.w3.eth.fee_history(2, "latest", [50])
    assert history.oldestBlock == receipt.blockNumber - 1
    assert len(history.baseFeePerGas) == 3
    assert len(history.gasUsedRatio) == 2
    assert history.baseFeePerGas[1] == chain.w3.eth.get_block(receipt.blockNumber).baseFeePerGas
    assert history.reward[-1][0] == GWEI
    assert chain.w3.eth.max_priority_fee > 0
    assert chain.w3.eth.gas_price >= history.baseFeePerGas[-1]
    assert chain.w3.eth.get_balance(chain.account.address) > 10**20


def test_what_does_not_exist_is_null_not_an_error(chain: Chain) -> None:
    nothing = "0x" + "77" * 32
    for method in ("eth_getTransactionByHash", "eth_getTransactionReceipt"):
        assert chain.node.rpc(method, nothing) is None
    assert chain.node.rpc("eth_getBlockByHash", nothing, False) is None
    assert chain.node.rpc("eth_getBlockByNumber", hex(10**9), False) is None


def test_blocks_link_and_time_moves_forward(chain: Chain) -> None:
    for _ in range(3):
        chain.send(to=chain.account.address)
    newest = chain.w3.eth.block_number
    blocks = [chain.w3.eth.get_block(number, full_transactions=True) for number in range(newest - 2, newest + 1)]
    for parent, child in itertools.pairwise(blocks):
        assert child.parentHash == parent.hash
        assert child.timestamp >= parent.timestamp
        assert child.transactions[0].blockHash == child.hash
    assert blocks[-1].timestamp >= int(time.time()) - 120


def test_an_unknown_method_and_wrong_parameters_have_their_codes(chain: Chain) -> None:
    assert chain.node.request("eth_noSuchThing")["error"]["code"] == -32601
    assert chain.node.request("eth_getBalance", "0x1234", "latest")["error"]["code"] == -32602
    assert chain.node.request("eth_getTransactionReceipt")["error"]["code"] == -32602


def test_a_batch_is_answered_in_full(chain: Chain) -> None:
    with chain.w3.batch_requests() as batch:
        batch.add(chain.w3.eth.get_balance(chain.account.address))
        batch.add(chain.w3.eth.get_block("latest"))
        balance, block = batch.execute()
    assert balance > 0
    assert block.number == chain.w3.eth.block_number

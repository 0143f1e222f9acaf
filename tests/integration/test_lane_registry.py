"""Setting up the registry, and what its client says when something is not as configured."""

import socket
import threading
from pathlib import Path

import pytest

from chain.connection import Connection, create_address, refusal
from chain.errors import (
    AlreadyRegisteredError,
    ChainError,
    ChainUnavailableError,
    InconsistentError,
    NodeRefusedError,
    NotGrowingError,
    NotOwnerError,
    NotPublisherError,
    RefusedError,
    UnknownLogError,
    WrongChainError,
)
from chain.registry import Registry, ensure_deployed, ensure_registered, log_id_of
from contracts import artefact
from tests.chain_fixtures import Bench, EmbeddedNode, GrowingLog, KeySigner, free_port

pytest_plugins = ("tests.chain_fixtures",)
LIMITS = {"fee_cap": 10**12, "timeout_seconds": 20}


@pytest.fixture
def bench(embedded_node: EmbeddedNode, publisher: KeySigner, tmp_path: Path) -> Bench:
    return Bench(embedded_node, publisher, tmp_path / "anchors.db")


def test_setting_up_twice_makes_one_contract_and_one_log(bench: Bench) -> None:
    height = bench.connection.block("latest").number
    assert ensure_deployed(bench.connection, bench.signer, **LIMITS) == bench.contract
    ensure_registered(bench.registry, bench.signer, origin=Bench.ORIGIN, publisher=bench.signer.address, **LIMITS)
    assert bench.connection.block("latest").number == height
    bench.registry.check(bench.signer.address)


def test_an_interrupted_set_up_is_finished_by_the_next(embedded_node: EmbeddedNode, publisher: KeySigner) -> None:
    connection = Connection(embedded_node.url)
    contract = ensure_deployed(connection, publisher, **LIMITS)
    registry = Registry(connection, chain_id=connection.chain_id(), contract=contract, log_id=log_id_of("later"))
    with pytest.raises(WrongChainError, match="is not registered"):
        registry.check(publisher.address)
    ensure_registered(registry, publisher, origin="later", publisher=publisher.address, **LIMITS)
    registry.check(publisher.address)
    assert registry.head().size == 0


def test_a_log_of_another_publisher_is_not_taken_over(bench: Bench) -> None:
    with pytest.raises(NotPublisherError):
        ensure_registered(bench.registry, bench.signer, origin=Bench.ORIGIN, publisher=KeySigner().address, **LIMITS)
    with pytest.raises(NotPublisherError):
        bench.registry.check(KeySigner().address)


def test_somebody_elses_contract_cannot_be_used_to_register(bench: Bench) -> None:
    registry = Registry(
        bench.connection, chain_id=bench.registry.chain_id, contract=bench.contract, log_id=log_id_of("mine")
    )
    stranger = KeySigner()
    with pytest.raises(NotOwnerError) as refused:
        ensure_registered(registry, stranger, origin="mine", publisher=stranger.address, **LIMITS)
    assert refused.value.values == (stranger.address.lower(),)


def test_a_wrong_contract_address_is_noticed_at_start(bench: Bench) -> None:
    registry = Registry(
        bench.connection,
        chain_id=bench.registry.chain_id,
        contract=KeySigner().address,
        log_id=bench.registry.log_id,
    )
    with pytest.raises(WrongChainError, match="no contract at"):
        registry.check(bench.signer.address)
    with pytest.raises(WrongChainError, match="no registry answers"):
        registry.head()


def test_refusals_of_the_contract_are_named_and_carry_their_values(bench: Bench) -> None:
    bench.log.add(9)
    bench.tick()
    other = GrowingLog(12, b"other")
    estimate = bench.registry.estimate_anchor
    with pytest.raises(InconsistentError) as refused:
        estimate(bench.signer.address, 12, other.root(12), other.proof(9, 12))
    assert refused.value.values == (bench.registry.log_id, 9, 12)
    with pytest.raises(NotGrowingError) as refused:
        estimate(bench.signer.address, 9, other.root(9), [])
    assert refused.value.values == (bench.registry.log_id, 9, 9)
    stranger = KeySigner().address
    with pytest.raises(NotPublisherError) as refused:
        estimate(stranger, 12, other.root(12), [])
    assert refused.value.values == (bench.registry.log_id, stranger.lower())


def test_every_error_of_the_contract_decodes() -> None:
    names = {item["name"] for item in artefact().abi if item["type"] == "error"}
    for kind in (
        InconsistentError,
        NotGrowingError,
        NotPublisherError,
        UnknownLogError,
        AlreadyRegisteredError,
        NotOwnerError,
    ):
        assert kind.__name__.removesuffix("Error") in names
    nothing = refusal(None, "execution reverted")
    assert (type(nothing), nothing.name) == (RefusedError, "Reverted")
    assert refusal("0x9a5e97dd", "short").name == "Reverted"


def test_events_are_read_from_a_block_on(bench: Bench) -> None:
    for size in (2, 5, 9):
        bench.log.add(size - len(bench.log.leaves))
        bench.tick()
    events = bench.registry.anchored_events(0)
    assert [event.size for event in events] == [2, 5, 9]
    assert [event.size for event in bench.registry.anchored_events(events[1].block_number)] == [5, 9]
    assert bench.registry.anchored_events(events[2].block_number + 1) == []
    assert events[2].root == bench.log.root(9)
    assert bench.registry.head(events[0].block_number).size == 2


def test_a_contracts_address_follows_from_its_creator(bench: Bench) -> None:
    assert create_address(bench.signer.address, 0) == bench.contract
    # vectors: Ethereum yellow paper's rule, the first contracts of a well-known account
    known = "0x6ac7ea33f8831ea9dcc53393aaa88b25a785dbf0"
    expected = [
        "0xcd234a471b72ba2f1ccf0a70fcaba648a5eecd8d",
        "0x343c43a37d37dff08ae8c4a11544c718abb4fcf8",
        "0xf778b86fa74e846c4f0a1fbd1335fe81c00a0c91",
    ]
    assert [create_address(known, nonce).lower() for nonce in range(3)] == expected


@pytest.mark.parametrize("nonce", [0, 1, 127, 128, 255, 256, 2**40])
def test_a_contracts_address_agrees_with_the_node_library(nonce: int) -> None:
    from eth._utils.address import generate_contract_address

    sender = KeySigner().address
    expected = generate_contract_address(bytes.fromhex(sender[2:]), nonce)
    assert bytes.fromhex(create_address(sender, nonce)[2:]) == expected


def test_a_node_that_is_not_there_is_unavailable_after_its_retries() -> None:
    connection = Connection(f"http://127.0.0.1:{free_port()}", retries=2)
    with pytest.raises(ChainUnavailableError):
        connection.chain_id()


def answering(*responses: bytes) -> tuple[str, threading.Thread]:
    """A server that answers one raw response a connection."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        for response in responses:
            client, _ = listener.accept()
            client.recv(65_536)
            client.sendall(response)
            client.close()
        listener.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    return f"http://127.0.0.1:{listener.getsockname()[1]}", thread


def http(status: str, body: bytes) -> bytes:
    head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\nconnection: close"
    return head.encode() + b"\r\n\r\n" + body


def test_a_node_that_answers_again_is_used_again() -> None:
    good = http("200 OK", b'{"jsonrpc":"2.0","id":0,"result":"0x7"}')
    url, thread = answering(b"", http("503 Service Unavailable", b""), good)
    assert Connection(url, retries=4).chain_id() == 7
    thread.join(10)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"<html>bad gateway</html>", ChainUnavailableError),
        (b'{"jsonrpc":"2.0","id":0,"error":{"code":-32005,"message":"rate limit"}}', ChainUnavailableError),
        (b'{"jsonrpc":"2.0","id":0,"error":{"code":-32603,"message":"disk"}}', ChainUnavailableError),
        (b'{"jsonrpc":"2.0","id":0,"error":{"code":-32601,"message":"no method"}}', NodeRefusedError),
        (b'{"jsonrpc":"2.0","id":0}', ChainError),
        (b"[]", ChainError),
    ],
)
def test_whatever_a_node_answers_is_one_of_our_errors(body: bytes, kind: type[ChainError]) -> None:
    url, _ = answering(*[http("200 OK", body)] * 3)
    with pytest.raises(kind):
        Connection(url, retries=1).chain_id()

"""Real chains and keys for tests: the embedded node, anvil, a signer that holds its key in memory.

A test module asks for the fixtures with `pytest_plugins = ("tests.chain_fixtures",)`. PYTEST_DONT_REWRITE: the same
module is imported for its classes, too late for pytest to rewrite it.
"""

import json
import platform
import select
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account

from chain.connection import Connection
from chain.lane import Lane, LaneSettings
from chain.lane_events import LaneEvent
from chain.registry import Registry, ensure_deployed, ensure_registered, log_id_of
from chain.transactions import AnchorTx, DeployTx, RegisterLogTx, SignedTx, transaction_fields
from storage.lane_store import SqliteLaneStore
from tests.npm_tools import ROOT, install_once, require_npm
from tests.rfc9162_reference import SparseTree, leaf_hash

FOUNDRY = "1.7.1"
READY_SECONDS = 60
CHAIN_ID = 20_260
GWEI = 10**9
GENESIS = ("--chain-id", str(CHAIN_ID))
# a public chain in small: final after three blocks, times that a test's clock can pass
LANE_SETTINGS: dict[str, Any] = {"confirmations": 3, "resend_after_seconds": 1, "bump_after_seconds": 60}


def wait_until(condition: Callable[[], Any], what: str, timeout_seconds: float = 30) -> Any:
    """Waits for a truthy answer; fails with `what` when none comes."""
    deadline = time.monotonic() + timeout_seconds
    while not (answer := condition()):
        if time.monotonic() > deadline:
            pytest.fail(f"waited {timeout_seconds} s in vain: {what}")
        time.sleep(0.01)
    return answer


class KeySigner:
    """Signs typed requests with a key of its own, as the signer process does."""

    def __init__(self) -> None:
        self._account = Account.create()
        self.address: str = self._account.address
        self.requests: list[AnchorTx | RegisterLogTx | DeployTx] = []

    def _sign(self, request: AnchorTx | RegisterLogTx | DeployTx) -> SignedTx:
        self.requests.append(request)
        return self.sign_fields(transaction_fields(request))

    def sign_fields(self, fields: dict[str, Any]) -> SignedTx:
        """Signs any transaction, for tests that send what Daicho never would."""
        signed = self._account.sign_transaction(fields)
        return SignedTx(bytes(signed.raw_transaction), bytes(signed.hash))

    sign_anchor = sign_deploy = sign_register_log = _sign


def transfer(signer: KeySigner, nonce: int, **fields: Any) -> str:
    """A signed payment of 1 wei, as `eth_sendRawTransaction` wants it."""
    base = {"type": 2, "chainId": CHAIN_ID, "nonce": nonce, "gas": 21_000, "value": 1, "to": "0x" + "55" * 20}
    fees = {"maxFeePerGas": 3 * 10**9, "maxPriorityFeePerGas": 10**6}
    return "0x" + signer.sign_fields(base | fees | fields).raw.hex()


class RpcNode:
    """A node answering JSON-RPC on loopback."""

    def __init__(self, url: str) -> None:
        self.url = url

    def request(self, method: str, *parameters: Any) -> dict[str, Any]:
        """One request, the whole response."""
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": parameters}).encode()
        request = urllib.request.Request(self.url, body, {"content-type": "application/json"})
        with urllib.request.urlopen(request, timeout=30) as response:
            answer: dict[str, Any] = json.load(response)
        return answer

    def rpc(self, method: str, *parameters: Any) -> Any:
        """One request's result; an error response fails the test."""
        answer = self.request(method, *parameters)
        assert "error" not in answer, answer
        return answer["result"]


class EmbeddedNode(RpcNode):
    """The embedded node as a child process."""

    def __init__(self, file: Path, *arguments: str, port: int = 0) -> None:
        command = [sys.executable, "-m", "chain.node", str(file), "--port", str(port), "--end-with-parent"]
        self.process = subprocess.Popen(
            [*command, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT
        )
        readable, _, _ = select.select([self.process.stdout], [], [], READY_SECONDS)
        line = self.process.stdout.readline() if readable else b""
        if not line:
            self.process.kill()
            _, errors = self.process.communicate()
            raise NodeDidNotStartError(self.process.returncode, errors.decode())
        self.ready = json.loads(line)
        self.port: int = self.ready["port"]
        super().__init__(f"http://127.0.0.1:{self.port}")

    def end(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Sends a signal and waits for the process to be gone. Returns its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(how)
        code = self.process.wait(timeout=30)
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            pipe.close()
        return code

    def let_go(self) -> None:
        """Closes the pipe whose end tells the node that its parent is gone."""
        self.process.stdin.close()


class NodeDidNotStartError(Exception):
    """The node ended before it was ready: exit code and what it wrote to standard error."""


class AnvilNode(RpcNode):
    """anvil as a child process, with hands on its chain."""

    def __init__(self, binary: Path, *arguments: str) -> None:
        port = free_port()
        self.process = subprocess.Popen(
            [binary, "--host", "127.0.0.1", "--port", str(port), "--silent", *arguments],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        super().__init__(f"http://127.0.0.1:{port}")
        wait_until(self._answers, "anvil answers")

    def _answers(self) -> bool:
        # a leftover anvil on the port must not answer in place of this one
        if self.process.poll() is not None:
            pytest.fail(f"anvil ended: {self.process.stderr.read().decode()[-800:]}")
        try:
            return bool(self.request("eth_chainId"))
        except OSError:
            return False

    def mine(self, blocks: int = 1) -> None:
        """Mines what is pending, then empty blocks."""
        before = int(self.rpc("eth_blockNumber"), 16)
        self.rpc("anvil_mine", hex(blocks))
        wait_until(lambda: int(self.rpc("eth_blockNumber"), 16) >= before + blocks, "the blocks are mined")

    def end(self) -> None:
        """Stops it."""
        self.process.terminate()
        self.process.communicate(timeout=30)


def free_port() -> int:
    """A port nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def anvil_binary() -> Path:
    """anvil's binary, installed from npm on first use."""
    return _foundry_binary("anvil")


def cast_binary() -> Path:
    """cast's binary, which asks a node from the command line; installed from npm on first use."""
    return _foundry_binary("cast")


def _foundry_binary(tool: str) -> Path:
    npm = require_npm(tool)
    machine = {"x86_64": "amd64", "aarch64": "arm64", "arm64": "arm64"}.get(platform.machine(), platform.machine())
    cache = ROOT / "build" / tool
    package = f"{tool}-{platform.system().lower()}-{machine}"
    binary = cache / "node_modules" / "@foundry-rs" / package / "bin" / tool
    command = [npm, "install", "--no-save", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(cache)]
    install_once(cache, [*command, f"@foundry-rs/{tool}@{FOUNDRY}"], binary)
    return binary


@pytest.fixture
def publisher() -> KeySigner:
    """A key of its own for each test; `embedded_node` funds it at genesis, `anvil` by decree."""
    return KeySigner()


@pytest.fixture
def embedded_node(tmp_path: Path, publisher: KeySigner) -> Iterator[EmbeddedNode]:
    """A fresh embedded node on tmp_path/chain.db."""
    node = EmbeddedNode(tmp_path / "chain.db", "--chain-id", str(CHAIN_ID), "--fund", publisher.address)
    yield node
    node.end()


@pytest.fixture
def anvil(publisher: KeySigner) -> Iterator[AnvilNode]:
    """A fresh anvil that mines when told to."""
    node = AnvilNode(anvil_binary(), "--no-mining", "--slots-in-an-epoch", "1", "--timestamp", str(int(time.time())))
    node.rpc("anvil_setBalance", publisher.address, hex(10**21))
    yield node
    node.end()


class GrowingLog:
    """A log for tests: leaves are added, roots and proofs come from the reference. A HeadSource."""

    def __init__(self, leaves: int = 0, name: bytes = b"leaf") -> None:
        self._name = name
        self.leaves: list[bytes] = []
        self.add(leaves)

    def add(self, count: int) -> None:
        """Appends `count` leaves."""
        first = len(self.leaves)
        self.leaves += [leaf_hash(self._name + str(n).encode()) for n in range(first, first + count)]
        self._tree = SparseTree((), self.leaves)

    def latest(self) -> tuple[int, bytes]:
        """Size and root."""
        return len(self.leaves), self.root(len(self.leaves))

    def root(self, size: int) -> bytes:
        """Root over the first `size` leaves."""
        return self._tree.root(size)

    def proof(self, old: int, new: int) -> list[bytes]:
        """Consistency proof from the older to the newer size."""
        return self._tree.consistency(old, new)


class Clock:
    """A clock that moves when told to."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


class Bench:
    """A chain with a registry and a log in it, and a lane that can be restarted: `bench.lane`."""

    ORIGIN = "daicho.invalid/lane"

    def __init__(
        self, node: RpcNode, signer: KeySigner, file: Path, *, owner: KeySigner | None = None, **settings: Any
    ) -> None:
        self.node, self.signer, self.file = node, signer, file
        owner = owner or signer
        self.settings = LaneSettings(**settings)
        self.clock = Clock()
        self.log = GrowingLog()
        self.connection = Connection(node.url, timeout_seconds=10, retries=2)
        self.contract = self._while_mining(
            lambda: ensure_deployed(self.connection, owner, fee_cap=10**12, timeout_seconds=20)
        )
        self.registry = self.new_registry()
        self._while_mining(
            lambda: ensure_registered(
                self.registry,
                owner,
                origin=self.ORIGIN,
                publisher=signer.address,
                fee_cap=10**12,
                timeout_seconds=20,
            )
        )
        self.store: SqliteLaneStore | None = None
        self.events: list[LaneEvent] = []
        self.restart()

    def new_registry(self) -> Registry:
        """The registry as a client sees it, now."""
        chain_id = self.connection.chain_id()
        return Registry(self.connection, chain_id=chain_id, contract=self.contract, log_id=log_id_of(self.ORIGIN))

    def _while_mining(self, work: Callable[[], Any]) -> Any:
        """Runs set-up that waits for receipts on a chain that mines only when told to."""
        if isinstance(self.node, AnvilNode):
            self.node.rpc("evm_setAutomine", True)
        result = work()
        if isinstance(self.node, AnvilNode):
            self.node.rpc("evm_setAutomine", False)
        return result

    def restart(self) -> None:
        """As after a crash: all memory is lost but the file."""
        if self.store is not None:
            self.store.close()
        self.store = SqliteLaneStore(
            self.file,
            chain_id=self.registry.chain_id,
            publisher=self.signer.address,
            contract=self.contract,
            log_id=self.registry.log_id,
        )
        self.lane = Lane(self.registry, self.log, self.signer, self.store, self.settings, self.clock)

    def tick(self, **arguments: Any) -> list[str]:
        """One tick; takes the events over and names them, `Final 7` and so on."""
        new = self.lane.tick(**arguments)
        self.events += new
        if new:
            self.lane.acknowledge(new[-1].seq)
        return [f"{type(event).__name__} {event.size}" for event in new]

    def head(self) -> tuple[int, bytes]:
        """What the contract holds."""
        head = self.registry.head()
        return head.size, head.root

    def chain_of_sizes(self) -> list[tuple[int, int]]:
        """(previous size, size) of each canonical Anchored event."""
        return [(event.previous_size, event.size) for event in self.registry.anchored_events(0)]

    def close(self) -> None:
        """Ends the lane."""
        if self.store is not None:
            self.store.close()


def anchored(bench: Bench, size: int) -> None:
    """A final anchor of this size to begin with."""
    bench.log.add(size - len(bench.log.leaves))
    bench.tick()
    bench.node.mine(3)
    assert bench.tick() == [f"Mined {size}", f"Final {size}"]

"""The chain side of a service: signer and node as child processes, the contract deployed, the log registered.

Every step may be repeated: a crash between two of them is repaired by the next start, which looks before it acts.
"""

import asyncio
import secrets
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from chain.children import ChildProcess, Ready
from chain.connection import Connection
from chain.funding import fund_from_node
from chain.registry import Head, Registry, ensure_deployed, ensure_registered, log_id_of
from chain.signer.client import BlockingSigner, SignerClient, SignerRefusedError
from chain.signer.protocol import Describe, Description, Initialise, PinContract
from chain.transactions import AnchorTx, DeployTx, RegisterLogTx, SignedTx
from cli.settings import Settings, SettingsError
from cli.wiring.stores import Stores
from storage.folder import DataFolder

GWEI: Final = 10**9
BOOTSTRAP_SECONDS: Final = 120.0


class PublisherSigner:
    """The publisher's key in the signer process, for contract owner and anchor lane (called from threads)."""

    def __init__(self, signer: BlockingSigner, address: str) -> None:
        self._signer = signer
        self.address = address

    def sign_deploy(self, request: DeployTx) -> SignedTx:
        """Sign the contract's creation."""
        return self._signer.sign_transaction(request)

    def sign_register_log(self, request: RegisterLogTx) -> SignedTx:
        """Sign the log's registration."""
        return self._signer.sign_transaction(request)

    def sign_anchor(self, request: AnchorTx) -> SignedTx:
        """Sign an anchor."""
        return self._signer.sign_transaction(request)


class ChainSide:
    """Signer, node and contract of one book.

    `begins`: whether it may give a book without identity one, deploy its contract and register its log. A book of one
    process begins with its first start; where several processes share one, `daicho init` begins it.
    """

    description: Description
    connection: Connection
    registry: Registry
    publisher: PublisherSigner
    rpc_url: str

    def __init__(
        self, settings: Settings, folder: DataFolder, stores: Stores, master_key_file: Path, *, begins: bool = True
    ) -> None:
        self._settings = settings
        self._folder = folder
        self._stores = stores
        self._begins = begins
        # a unix socket's path is short: the data folder's may not be
        self._socket_folder = Path(tempfile.mkdtemp(prefix="daicho-"))
        self.socket = self._socket_folder / "signer.sock"
        self._signer = ChildProcess("signer", lambda _: self._signer_command(master_key_file))
        self._node: ChildProcess | None = None
        self._registered = not begins
        self.client = SignerClient(self.socket, "service")
        self.blocking = BlockingSigner(self.socket, "anchoring")

    @property
    def children(self) -> Sequence[ChildProcess]:
        """The child processes, for health."""
        return [self._signer] if self._node is None else [self._signer, self._node]

    @property
    def _has_chain(self) -> bool:
        """True when an earlier start made the chain.

        Its file alone says nothing, since a crash may leave it without a genesis; the anchors' file is made later, when
        the node has been ready.
        """
        return self._folder.chain.exists() and self._folder.anchors.exists()

    @property
    def embedded(self) -> bool:
        """True when the chain is the embedded node's."""
        return self._settings.rpc_url is None

    @property
    def fee_cap(self) -> int:
        """Most that a transaction may offer, in wei per gas."""
        return int(self._settings.max_fee_gwei * GWEI)

    async def start(self) -> None:
        """Start the children and prepare identity and contract. On a ledger that exists both start at once."""
        node = asyncio.create_task(self._start_node()) if self._has_chain else None
        try:
            await self._signer.start()
            self.description = await self._identity()
            self.publisher = PublisherSigner(self.blocking, self.description.publisher)
        finally:
            if node is not None:
                await asyncio.gather(node, return_exceptions=True)
        self.rpc_url = await (node if node is not None else self._start_node())
        self.connection = Connection(self.rpc_url)
        if not self.description.contract:
            self._require_beginner()
            self.description = await self._pin_contract()
        self.registry = Registry(
            self.connection,
            chain_id=self.description.chain_id,
            contract=self.description.contract,
            log_id=log_id_of(self.description.origin),
        )

    def contract_head(self) -> Head:
        """What the contract holds for the log, which is registered first if it is not. For threads; raises ChainError.

        A chain that is away delays anchors, not the start: the ledger stays read-only until this has answered once.
        """
        if not self._registered:
            ensure_registered(
                self.registry,
                self.publisher,
                origin=self.description.origin,
                publisher=self.publisher.address,
                fee_cap=self.fee_cap,
                timeout_seconds=BOOTSTRAP_SECONDS,
            )
            self._registered = True
        return self.registry.head()

    async def stop(self) -> None:
        """Stop the children; safe to call after a failed start."""
        await self.client.close()
        self.blocking.close()
        for child in reversed(self.children):
            await child.stop()
        shutil.rmtree(self._socket_folder, ignore_errors=True)

    async def _identity(self) -> Description:
        """What the vault is pinned to; pinned now on the first start. The origin never changes afterwards."""
        wanted = self._settings.origin
        try:
            found = await self.client.ask(Describe())
        except SignerRefusedError as error:
            if error.code != "not-initialised":
                raise
            self._require_beginner()
            origin = wanted or f"daicho.invalid/{secrets.token_hex(8)}"
            return await self.client.ask(Initialise(origin, self._settings.chain_id))
        if wanted and wanted != found.origin:
            raise SettingsError(
                f"DAICHO_ORIGIN is {wanted}, but this ledger was started as {found.origin}; it cannot change"
            )
        if self._settings.chain_id != found.chain_id:
            raise SettingsError(
                f"DAICHO_CHAIN_ID is {self._settings.chain_id}, but this ledger is anchored on {found.chain_id}"
            )
        contract = self._settings.contract
        if contract and found.contract and contract.lower() != found.contract.lower():
            raise SettingsError(f"DAICHO_CONTRACT is {contract}, but this ledger is anchored in {found.contract}")
        return found

    def _require_beginner(self) -> None:
        if not self._begins:
            raise SettingsError(f"book {self._settings.book} has not begun yet: run `daicho init`")

    async def _pin_contract(self) -> Description:
        contract = self._settings.contract or await asyncio.to_thread(self._deploy)
        return await self.client.ask(PinContract(contract))

    def _deploy(self) -> str:
        if self._settings.development and not self.embedded:
            fund_from_node(self.connection, self.publisher.address)
        return ensure_deployed(self.connection, self.publisher, fee_cap=self.fee_cap, timeout_seconds=BOOTSTRAP_SECONDS)

    async def _start_node(self) -> str:
        """The URL of the node, which is started where it is the embedded one."""
        if self._settings.rpc_url is not None:
            return str(self._settings.rpc_url)
        self._node = ChildProcess("node", self._node_command)
        ready = await self._node.start()
        return f"http://127.0.0.1:{ready['port']}"

    def _signer_command(self, master_key_file: Path) -> list[str]:
        command = [sys.executable, "-m", "chain.signer", *self._stores.signer_vault(self._socket_folder)]
        command += ["--kek-file", str(master_key_file), "--socket", str(self.socket)]
        return [*command, "--allow-slow-crypto"] if self._settings.development else command

    def _node_command(self, last: Ready | None) -> list[str]:
        port = last["port"] if last else 0  # restarted on the port that everybody knows
        command = [
            sys.executable,
            "-m",
            "chain.node",
            str(self._folder.chain),
            "--port",
            str(port),
            "--end-with-parent",
        ]
        if self._has_chain:
            return command
        return [*command, "--chain-id", str(self._settings.chain_id), "--fund", self.description.publisher]

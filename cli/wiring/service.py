"""A whole service on one data folder: built, started, stopped, in this order and its reverse.

    lock folder ▶ secrets ▶ signer, node, contract ▶ ledger ▶ streams ▶ API listens ▶ fork guard opens the ledger ▶ book

It listens before the ledger is open: reads are answered and `/readyz` says what is still awaited.
"""

import asyncio
import contextlib
import signal
import socket
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import uvicorn

from cli.development import prepare_secrets
from cli.settings import Settings, SettingsError
from cli.wiring.chain_side import ChainSide
from cli.wiring.master_key import master_key_of
from cli.wiring.stores import open_stores
from storage.folder import DataFolder


class _Server(uvicorn.Server):
    """uvicorn without its own signal handlers: they end the process before the files are closed."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to `Service.serve`."""
        yield

    def end(self) -> None:
        """Take no more requests and return from `serve`; a second time without waiting."""
        self.force_exit = self.should_exit
        self.should_exit = True


class Service:
    """`start`, `serve`, and in any case `stop`. Raises SettingsError, FolderInUse, ChildError."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.folder = DataFolder(settings.data_dir)
        self.chain: ChainSide | None = None
        self.inside: Any = None
        self._socket: socket.socket | None = None

    async def start(self) -> None:
        """Start everything; the ledger's door opens by itself, later."""
        self._socket = bound_socket(self.settings.host, self.settings.port)
        self.folder.lock()
        if self.settings.development and not self.settings.clustered:
            prepare_secrets(self.folder)
        key_file = master_key_of(self.settings, self.folder)
        stores = open_stores(self.settings, self.folder)
        self.chain = ChainSide(self.settings, self.folder, stores, key_file, begins=not self.settings.clustered)
        children = asyncio.create_task(self.chain.start())
        try:
            await asyncio.sleep(0)  # the children are on their way before the imports take the processor
            module = await asyncio.to_thread(import_module, "cli.wiring.inside")
        finally:
            await asyncio.gather(children, return_exceptions=True)
        children.result()
        self.inside = await asyncio.to_thread(module.Inside, self.settings, self.folder, stores, self.chain, key_file)
        await self.inside.start()

    async def stop(self) -> None:
        """Stop in reverse order; safe after a failed start."""
        if self.inside is not None:
            await self.inside.stop()
        if self.chain is not None:
            await self.chain.stop()
        if self._socket is not None:
            self._socket.close()
        self.folder.release()

    async def serve(self) -> None:
        """Listen until SIGTERM or SIGINT, then let running requests end."""
        from api.server import server_config

        server = _Server(server_config(self.inside.app, self.settings.host, self.settings.port))
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, server.end)
        await server.serve(sockets=[self._socket] if self._socket is not None else None)


def bound_socket(host: str, port: int) -> socket.socket:
    """A socket bound to the address, which does not listen yet. Raises SettingsError where it cannot be had."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, kind, protocol)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError as error:
        raise SettingsError(f"cannot listen on {host}:{port}: {error.strerror} (DAICHO_HOST, DAICHO_PORT)") from None
    return bound

"""A whole service on one data folder: built, started, stopped, in this order and its reverse.

    lock folder ▶ secrets ▶ signer, node, contract ▶ ledger ▶ streams ▶ API listens ▶ fork guard opens the ledger ▶ book

It listens before the ledger is open: reads are answered and `/readyz` says what is still awaited.
"""

import asyncio
import contextlib
import gc
import logging
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import uvicorn

from api.accounts import Accounts
from api.app import create_app
from api.server import server_config
from api.services import Services
from api.settings import ApiSettings
from api.signing import TypedData
from chain.vault import PROMISE
from cli.development import cursor_file, jwks_file, master_key_file, prepare_secrets
from cli.settings import Settings, SettingsError
from cli.wiring.chain_side import ChainSide
from cli.wiring.ledger_side import LedgerSide
from cli.wiring.ports import Anchoring, ChainRpc, CustodialKeys, Health, Promises, ThreadedPseudonyms
from cli.wiring.streams_side import StreamsSide
from domain.errors import LedgerReadOnly
from storage.folder import DataFolder

logger = logging.getLogger("daicho.start")


class _Memory:
    """api.accounts.Memory: aggregates from the ledger, commands from its writer."""

    def __init__(self, ledger: LedgerSide) -> None:
        self.load = ledger.ledger.load
        self.known = ledger.writer.known
        self.receipt_of = ledger.writer.receipt_of


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
    """`async with Service(settings)`: built and started inside, stopped at the end, whatever happens."""

    chain: ChainSide
    ledger: LedgerSide
    streams: StreamsSide
    app: Any

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.folder = DataFolder(settings.data_dir)
        self._opening: asyncio.Task[None] | None = None
        self._rpc: ChainRpc | None = None

    async def start(self) -> None:
        """Start everything but the ledger's door, which `_open` unlocks. Raises SettingsError, FolderInUse."""
        self.folder.lock()
        if self.settings.development:
            prepare_secrets(self.folder)
        key_file = self.settings.master_key_file or master_key_file(self.folder)
        self.chain = ChainSide(self.settings, self.folder, key_file)
        await self.chain.start()
        self.ledger = LedgerSide(self.settings, self.folder, self.chain.description, self.chain.client, key_file)
        self.ledger.writer.refusal = LedgerReadOnly("the ledger is starting", source="start")
        self.streams = await asyncio.to_thread(StreamsSide, self.settings, self.folder, self.chain, self.ledger)
        self.app = create_app(self._services(), self._api_settings())
        await self.streams.start()
        self._opening = asyncio.create_task(self._open(), name="open ledger")
        # what lives as long as the process is not looked at by the collector again and again
        gc.collect()
        gc.freeze()

    async def stop(self) -> None:
        """Stop in reverse order; safe after a failed start."""
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.gather(self._opening, return_exceptions=True)
        if hasattr(self, "streams"):
            await self.streams.stop()
        if hasattr(self, "ledger"):
            self.ledger.close()
        if self._rpc is not None:
            await self._rpc.close()
        if hasattr(self, "chain"):
            await self.chain.stop()
        self.folder.release()

    async def serve(self) -> None:
        """Listen until SIGTERM or SIGINT, then let running requests end."""
        server = _Server(server_config(self.app, self.settings.host, self.settings.port))
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, server.end)
        await server.serve()

    async def _open(self) -> None:
        """Compare the store with what was signed and anchored, then take commands; begin a new log with its book."""
        if await self.streams.open_ledger():
            await self.ledger.open_book()
            logger.info("taking commands at position %d", self.ledger.entries.head())

    def _services(self) -> Services:
        ledger, streams, book = self.ledger, self.streams, self.chain.description
        self._rpc = ChainRpc(self.chain.rpc_url)
        accounts = Accounts(
            book.origin,
            ledger.ledger,
            _Memory(ledger),
            ledger.entries,
            ThreadedPseudonyms(ledger.subjects),
            CustodialKeys(self.chain.client, book),
        )
        return Services(
            origin=book.origin,
            ledger=ledger.ledger,
            entries=ledger.entries,
            log_view=streams.view,
            read_store=streams.read_store,
            board=streams.board,
            promises=Promises(ledger.vault.open_note_key(PROMISE), self.settings.publish_by_seconds),
            users=accounts,
            anchoring=Anchoring(streams),
            chain_rpc=self._rpc,
            health=Health(ledger.writer, streams, lambda: self.chain.children),
            typed_data=TypedData(book.origin, book.chain_id, book.contract, ledger.authorship),
            group_listeners=ledger.writer.on_group,
        )

    def _api_settings(self) -> ApiSettings:
        settings = self.settings
        jwks = settings.jwks_file
        if jwks is None and settings.jwks_url is None:
            jwks = jwks_file(self.folder)
        return ApiSettings(
            issuer=settings.issuer,
            audience=settings.jwt_audience,
            algorithms=settings.jwt_algorithms,
            jwks_file=jwks,
            jwks_url=str(settings.jwks_url) if settings.jwks_url else None,
            company_claim=settings.jwt_company_claim,
            cursor_secret=read_secret(settings.cursor_secret_file or cursor_file(self.folder), "CURSOR_SECRET_FILE"),
            max_body_bytes=settings.max_body_bytes,
            max_bulk_bytes=settings.max_bulk_bytes,
            wait_seconds=settings.wait_seconds,
            log_entries_public=settings.log_entries == "public",
            chain_independent=settings.chain_independent,
            confirmations=settings.confirmations,
        )


def read_secret(path: Path, setting: str) -> bytes:
    """A secret from a file. Raises SettingsError naming the setting, never the content."""
    try:
        secret = path.read_bytes().strip()
    except OSError as error:
        raise SettingsError(f"DAICHO_{setting}: {error.strerror}: {path}") from None
    if not secret:
        raise SettingsError(f"DAICHO_{setting}: {path} is empty")
    return secret

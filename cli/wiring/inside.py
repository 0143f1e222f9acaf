"""What runs inside the service's own process: ledger, streams, API. Imported while the child processes start."""

import asyncio
import logging
from pathlib import Path
from typing import Any

from api.accounts import Accounts
from api.app import create_app
from api.pulse import Pulse
from api.services import Services
from api.settings import ApiSettings
from api.signing import TypedData
from chain.vault import PROMISE
from cli.development import cursor_file, jwks_file
from cli.interpreter import settle_down
from cli.settings import Settings, SettingsError
from cli.wiring.chain_side import ChainSide
from cli.wiring.ledger_side import LedgerSide
from cli.wiring.ports import Anchoring, ChainRpc, CustodialKeys, Following, Health, Promises, ThreadedPseudonyms
from cli.wiring.store_intake import intake_of, purchasing_of, support_of
from cli.wiring.store_side import BILLING
from cli.wiring.stores import Stores
from cli.wiring.streams_side import StreamsSide
from domain.aggregate import Aggregate
from domain.errors import LedgerReadOnly
from storage.folder import DataFolder
from streams.local import FAILED

logger = logging.getLogger("daicho.start")


class _Memory:
    """api.accounts.Memory: aggregates from the ledger, commands from its writer."""

    def __init__(self, ledger: LedgerSide) -> None:
        self.load = ledger.ledger.load
        self.known = ledger.writer.known
        self.receipt_of = ledger.writer.receipt_of


class Inside:
    """Ledger, streams and API over a chain side that has started."""

    def __init__(
        self, settings: Settings, folder: DataFolder, stores: Stores, chain: ChainSide, master_key_file: Path
    ) -> None:
        """Open every store and load the tree; blocking."""
        self.settings, self.folder, self.chain, self._stores = settings, folder, chain, stores
        self.ledger = LedgerSide(settings, stores, chain.description, chain.client, master_key_file)
        self.ledger.writer.refusal = LedgerReadOnly("the ledger is starting", source="start")
        self.streams = self._following(stores)
        self._rpc = ChainRpc(chain.rpc_url)
        self.intake = intake_of(settings, folder, self.ledger)
        self.pulse = Pulse()
        self.streams.on_commit(self.pulse.beat)
        self.app: Any = create_app(self._services(), self._api_settings())
        self._opening: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start the streams; the ledger opens as soon as nobody knows more than its store."""
        await self.streams.start()
        self.pulse.attach(asyncio.get_running_loop())
        if self.intake is not None:
            await self.intake.start()
        self._opening = asyncio.create_task(self._open(), name="open ledger")
        settle_down()

    async def stop(self) -> None:
        """Stop in reverse order."""
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.gather(self._opening, return_exceptions=True)
        if self.intake is not None:
            await self.intake.stop()
        await self.streams.stop()
        self.ledger.close()
        await self._rpc.close()

    async def _open(self) -> None:
        """Compare the store with what was signed and anchored, then take commands; begin a new log with its book."""
        if await self.streams.open_ledger():
            await self.ledger.open_book()
            logger.info("taking commands at position %d", self.ledger.entries.head())

    def _following(self, stores: Stores) -> Following:
        """Processors in this process, or a look at those of other processes."""
        if not self.settings.clustered:
            return StreamsSide(self.settings, stores, self.chain, self.ledger)
        from cli.wiring.reading_side import ReadingSide  # Kafka's client costs a start 0.2 s

        return ReadingSide(self.settings, stores, self.chain, self.ledger)

    def _services(self) -> Services:
        settings, ledger, streams, book = self.settings, self.ledger, self.streams, self.chain.description
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
            health=Health(ledger, streams, lambda: self.chain.children),
            typed_data=TypedData(book.origin, book.chain_id, book.contract, ledger.authorship),
            intake=self.intake,
            support=support_of(settings, ledger, self._stores, self._load),
            purchasing=purchasing_of(settings, ledger, self.pulse, self._load, self._billing_away),
            group_listeners=ledger.writer.on_group,
        )

    async def _load(self, aggregate_id: str) -> Aggregate | None:
        """An aggregate as stored; where others write too, that is not what this process remembers."""
        if not self.settings.clustered:
            return self.ledger.ledger.load(aggregate_id)
        return await asyncio.to_thread(self.ledger.ledger.load_at, aggregate_id)

    def _billing_away(self) -> bool:
        """Whether waiting for a purchase is known to be in vain."""
        return any(row["name"] == BILLING and row["state"] == FAILED for row in self.streams.processors())

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
            purchase_wait_seconds=settings.purchase_wait_seconds,
            soft_gap_seconds=settings.soft_gap_seconds,
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

"""The ledger side of a service: event store, ledger, writer, authorship, pseudonyms, the promise key."""

import asyncio
import time
from pathlib import Path
from typing import cast

from chain.authorship import CustodialSigner, TypedVerifier
from chain.curve import assert_fast_crypto
from chain.master_key import SERVICE, FileKeyProvider
from chain.payload_keys import PayloadKeys
from chain.signer.client import SignerClient
from chain.signer.protocol import Description
from chain.subjects import Subjects
from chain.vault import Vault
from cli.settings import Settings, SettingsError
from cli.wiring.book_first import BookFirst
from cli.wiring.stores import Stores
from domain.authorship import Authorship
from domain.book import PreviousHead
from domain.commands import OpenBook
from domain.entry import Actor
from domain.errors import DaichoError, LedgerReadOnly
from domain.ledger import Ledger
from domain.orders import Order
from merkle.checkpoint import CheckpointError, parse_checkpoint
from merkle.notes import NoteError, parse_note
from storage.clock import LedgerClock
from storage.sqlite_recorder import LedgerRecorder
from storage.writer import GroupWriter
from streams.faults import Backoff

OPERATOR_SUBJECT = "daicho"
OPEN_BOOK_KEY = "open book"


class LedgerSide:
    """One ledger, open. `ledger` decides, `writer` stores, `entries` reads."""

    def __init__(
        self,
        settings: Settings,
        stores: Stores,
        description: Description,
        signer: SignerClient,
        master_key_file: Path,
    ) -> None:
        assert_fast_crypto(allow_slow=settings.development)
        self.description = description
        self._previous = succeeded_head(settings.succeeds) if settings.succeeds is not None else None
        self.clock = LedgerClock(settings.clock_jump_limit_seconds)
        self.ledger = Ledger(stores.ledger_environment())
        recorder = cast("LedgerRecorder", self.ledger.recorder)
        recorder.bind(description.origin, self.clock)
        stores.attach(recorder)
        self.entries = stores.entries()
        self.writer = GroupWriter(
            recorder,
            self.entries,
            self.ledger,
            max_group_orders=settings.max_group_orders,
            max_waiting_orders=settings.max_waiting_orders,
        )
        domain = (description.origin, description.chain_id, description.contract)
        self.authorship = Authorship(
            description.origin, self.ledger.load, CustodialSigner(signer, *domain), TypedVerifier(*domain), time.time
        )
        self._first = BookFirst(self.writer, is_open=self.entries.head() > 0)
        self.ledger.connect(self._first, self.authorship)
        self._vault_store = stores.vault()
        self.vault = Vault(self._vault_store, FileKeyProvider(master_key_file, (SERVICE,)))
        self.subjects = Subjects(self.vault, self._vault_store)
        self.payload_keys = PayloadKeys(self.vault, self._vault_store)

    @property
    def refusal(self) -> DaichoError | None:
        """Why commands are refused, None when they are taken."""
        return self.writer.refusal or self._first.refusal

    async def open_book(self) -> None:
        """Write the first entry of a new ledger; a ledger that has one is left alone. Tries until it succeeds."""
        found, backoff = self.description, Backoff(0.2, 5.0)
        command = OpenBook(
            chain_id=found.chain_id,
            contract=found.contract,
            log_key=found.log_key,
            promise_key=found.promise_key,
            previous=self._previous,
        )
        while self._first.refusal is not None:
            try:
                subject = await asyncio.to_thread(self.subjects.pseudonym, "", OPERATOR_SUBJECT)
                # A crash after the commit: the next start finds the entry and leaves it alone.
                await self.ledger.execute(Order.of(found.origin, command, Actor("", subject), OPEN_BOOK_KEY))
                self._first.refusal = None
            except DaichoError as trouble:
                reason = f"the book cannot be opened: {trouble.message}"
                self._first.refusal = LedgerReadOnly(reason, source="start")
                await asyncio.sleep(backoff.failed())

    def close(self) -> None:
        """Close everything, after the last command."""
        self.writer.close()
        self.entries.close()
        cast("LedgerRecorder", self.ledger.recorder).close()  # the last one out folds the WAL into the file
        self._vault_store.close()


def succeeded_head(file: Path) -> PreviousHead:
    """The head of the log that a new one succeeds, out of its last checkpoint. Raises SettingsError.

    Only its form is looked at: who verifies the new log has the old one's key and judges the note by it.
    """
    try:
        head = parse_checkpoint(parse_note(file.read_bytes()).text)
    except OSError as error:
        raise SettingsError(f"DAICHO_SUCCEEDS: {error.strerror}: {file}") from None
    except (NoteError, CheckpointError) as error:
        raise SettingsError(f"DAICHO_SUCCEEDS: {file} is no checkpoint: {error}") from None
    return PreviousHead(head.origin, head.size, head.root.hex())

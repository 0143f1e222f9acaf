"""Runs the parts of a check in order over one ledger."""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from chain.authorship import TypedVerifier
from cli.checking.anchors import check_book, check_contract
from cli.checking.entries import EntriesCheck
from cli.checking.findings import Progress, Report
from cli.checking.heads import AnchorHead, check_checkpoints, check_tree
from cli.checking.signatures import SignatureAudit
from cli.checking.sources import FolderSource, Source
from cli.settings import Settings
from domain.book import BookOpened
from domain.entry import Envelope, decode_envelope
from merkle.flat_log import FlatLog
from merkle.notes import NoteError, VerifierKey, parse_verifier_key
from projections.position import ProjectionStopped
from projections.rebuild import ReadModelsDamaged
from projections.store import StoreOutdated
from storage.anchor_recorder import ANCHOR_TABLE
from storage.folder import DataFolder
from storage.log_store import LogStoreError, LogUnavailableError

ChainHeads = Callable[[BookOpened, str], Sequence[AnchorHead]]
"""The heads in the contract's events, given the book and its origin; raises OSError when no node answers."""


class NothingToCheck(Exception):
    """There is no ledger in the folder."""


def ledger_folder(settings: Settings) -> DataFolder:
    """The data folder; where the book is in it, it has one. Raises NothingToCheck."""
    folder = DataFolder(settings.data_dir)
    if not settings.clustered and not folder.exists():
        raise NothingToCheck(f"there is no ledger in {folder.path}")
    return folder


def run_check(
    source: Source | DataFolder,
    *,
    signatures: bool,
    progress: Progress,
    chain_heads: ChainHeads | None = None,
    anchor_table: str = ANCHOR_TABLE,
) -> Report:
    """Check a ledger as of now: a data folder's, or any other source's. Raises NothingToCheck."""
    source = FolderSource(source, anchor_table) if isinstance(source, DataFolder) else source
    if not source.exists():
        raise NothingToCheck(f"there is no ledger in {source.name}")
    entries = source.entries()
    report = Report(pinned=entries.head())
    first = entries.get(1)
    if first is None:
        raise NothingToCheck(f"the ledger in {source.name} has no entries")
    try:
        envelope = decode_envelope(first)
        book, origin = msgspec.json.decode(envelope.data, type=BookOpened), envelope.log
        verifier, log_key = TypedVerifier(origin, book.chain_id, book.contract), parse_verifier_key(book.log_key)
    except (msgspec.MsgspecError, ValueError, NoteError) as error:
        report.differs("entries", 1, f"the first entry does not open a book: {error}")
        return report
    audit = SignatureAudit(verifier, report)
    following = EntriesCheck(origin, report, audit if signatures else _look_on)
    following.run(entries, report.pinned, progress)
    if signatures:
        audit.finish()
    else:
        report.not_checked["signatures"] = "not asked for (--signatures)"
    tree = following.tree
    _check_log(source, tree, log_key, origin, report, progress, entries.head)
    anchors = source.anchor_entries()
    final = check_book(anchors, tree, report) if anchors is not None else set()
    if chain_heads is None:
        report.not_checked["contract"] = "no node to ask (--rpc URL)"
    else:
        check_contract(lambda: chain_heads(book, origin), final, tree, entries.head(), report)
    _check_projections(source, entries, book, report, progress)
    entries.close()
    return report


def _check_log(
    source: Source,
    tree: FlatLog,
    log_key: VerifierKey,
    origin: str,
    report: Report,
    progress: Progress,
    head: Callable[[], int],
) -> None:
    try:
        store = source.log()
        if store is None:
            report.not_checked["tree"] = report.not_checked["checkpoints"] = "there is no log yet"
            return
        check_tree(tree, store, report, progress)
        check_checkpoints(tree, store.checkpoints(), origin, log_key, report)
        last, reached = store.last_checkpoint(), store.position()[0]
        store.close()
    except LogUnavailableError as error:
        report.not_checked["tree"] = str(error)
        return
    except LogStoreError as error:
        report.differs("tree", 0, str(error))
        return
    end = head()  # asked for last: the log never leads
    if last is not None and last.size > end:
        report.differs("checkpoints", last.size, f"checkpoint {last.size} was signed, the store ends at {end}")
    elif reached > end:
        report.differs("tree", reached, f"the log was sequenced up to {reached}, the store ends at {end}")


def _check_projections(source: Source, entries: Any, book: BookOpened, report: Report, progress: Progress) -> None:
    if not source.has_reads():
        report.not_checked["projections"] = "there are no read models"
        return
    with tempfile.TemporaryDirectory(prefix="daicho-check-") as scratch:
        try:
            difference = source.check_reads(
                Path(scratch) / "replay.db", entries, book, lambda done, total: progress("projections", done, total)
            )
        except StoreOutdated as outdated:
            report.not_checked["projections"] = str(outdated)
            return
        except ProjectionStopped as stopped:
            report.differs("projections", stopped.position, f"they cannot be made again: {stopped}")
            return
        except ReadModelsDamaged as damaged:
            report.differs("projections", 0, str(damaged))
            return
    report.count("projections")
    if difference is not None:
        row = difference.live or difference.replayed or {}
        names = ("position", "last_position", "first_position") if difference.source == "entries" else ("size",)
        position = next((row[name] for name in names if name in row), 0)
        what = f"table {difference.table}: live {difference.live}, replayed {difference.replayed}"
        report.differs("projections", int(position or 0), what)


def _look_on(_position: int, _state: bytes, _envelope: Envelope) -> None:
    """Without --signatures nothing more is looked at."""

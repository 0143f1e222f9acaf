"""Runs the parts of a check in order over one data folder."""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from chain.authorship import TypedVerifier
from cli.checking.anchors import check_book, check_contract
from cli.checking.entries import EntriesCheck
from cli.checking.findings import Progress, Report
from cli.checking.heads import AnchorHead, check_checkpoints, check_tree
from cli.checking.signatures import SignatureAudit
from domain.book import BookOpened
from domain.entry import Envelope, decode_envelope
from merkle.flat_log import FlatLog
from merkle.notes import NoteError, VerifierKey, parse_verifier_key
from projections.position import ProjectionStopped
from projections.rebuild import ReadModelsDamaged, check_file
from projections.store import StoreOutdated
from storage.entry_log import SqliteEntryLog
from storage.folder import DataFolder
from storage.log_store import LogStoreError, LogUnavailableError, SqliteLogStore

ChainHeads = Callable[[BookOpened, str], Sequence[AnchorHead]]
"""The heads in the contract's events, given the book and its origin; raises OSError when no node answers."""


class NothingToCheck(Exception):
    """There is no ledger in the folder."""


def run_check(
    folder: DataFolder,
    *,
    signatures: bool,
    progress: Progress,
    chain_heads: ChainHeads | None = None,
    anchor_table: str = "anchor_events",
) -> Report:
    """Check a data folder as of now. Raises NothingToCheck."""
    if not folder.exists():
        raise NothingToCheck(f"there is no ledger in {folder.path}")
    entries = SqliteEntryLog(folder.ledger)
    report = Report(pinned=entries.head())
    first = entries.get(1)
    if first is None:
        raise NothingToCheck(f"the ledger in {folder.path} has no entries")
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
    _check_log(folder, tree, entries, log_key, origin, report, progress)
    final = check_book(folder.anchors, anchor_table, tree, report) if folder.anchors.exists() else set()
    if chain_heads is None:
        report.not_checked["contract"] = "no node to ask (--rpc URL)"
    else:
        check_contract(lambda: chain_heads(book, origin), final, tree, entries.head(), report)
    _check_projections(folder, entries, book, report, progress, anchor_table)
    entries.close()
    return report


def _check_log(
    folder: DataFolder,
    tree: FlatLog,
    entries: SqliteEntryLog,
    log_key: VerifierKey,
    origin: str,
    report: Report,
    progress: Progress,
) -> None:
    if not folder.log.exists():
        report.not_checked["tree"] = report.not_checked["checkpoints"] = "there is no log yet"
        return
    try:
        store = SqliteLogStore(folder.log)
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
    head = entries.head()  # asked for last: the log never leads
    if last is not None and last.size > head:
        report.differs("checkpoints", last.size, f"checkpoint {last.size} was signed, the store ends at {head}")
    elif reached > head:
        report.differs("tree", reached, f"the log was sequenced up to {reached}, the store ends at {head}")


def _check_projections(
    folder: DataFolder, entries: SqliteEntryLog, book: BookOpened, report: Report, progress: Progress, table: str
) -> None:
    if not folder.reads.exists():
        report.not_checked["projections"] = "there are no read models"
        return
    anchors = SqliteEntryLog(folder.anchors, table) if folder.anchors.exists() else None
    with tempfile.TemporaryDirectory(prefix="daicho-check-") as scratch:
        try:
            difference = check_file(
                folder.reads,
                Path(scratch) / "replay.db",
                entries,
                anchors,
                embedded_chain_ids=[book.chain_id] if folder.chain.exists() else [],
                progressed=lambda done, total: progress("projections", done, total),
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

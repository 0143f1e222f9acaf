"""Runs the parts of a check in order over one data folder."""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from chain.authorship import TypedVerifier
from cli.checking.entries import SignatureAudit, check_entries
from cli.checking.findings import Progress, Report
from cli.checking.heads import AnchorHead, check_anchors, check_checkpoints, check_tree
from domain.book import BookOpened
from domain.entry import Envelope, decode_envelope
from merkle.flat_log import FlatLog
from merkle.notes import parse_verifier_key
from projections.rebuild import check as check_read_models
from projections.store import ReadStore
from storage.entry_log import SqliteEntryLog
from storage.folder import DataFolder
from storage.log_store import LogStoreError, SqliteLogStore

ChainHeads = Callable[[BookOpened, str], Sequence[AnchorHead]]
"""The heads in the contract's events, given the book and its origin; raises OSError when no node answers."""


class NothingToCheck(Exception):
    """There is no ledger in the folder."""


class _BookHead(msgspec.Struct):
    """A head out of the AnchorBook."""

    size: int
    root: bytes


class _AnchorData(msgspec.Struct):
    size: int
    root: str


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
        book = msgspec.json.decode(envelope.data, type=BookOpened)
        origin = envelope.log
    except msgspec.MsgspecError as error:
        report.differs("entries", 1, f"the first entry does not open a book: {error}")
        return report
    audit = SignatureAudit(TypedVerifier(origin, book.chain_id, book.contract), report) if signatures else _look_on
    tree = check_entries(entries, origin, report.pinned, report, progress, audit)
    _check_log(folder, tree, book, origin, report, progress)
    _check_anchors(folder, tree, book, origin, report, chain_heads, anchor_table)
    _check_projections(folder, entries, book, report, progress, anchor_table)
    if not signatures:
        report.not_checked["signatures"] = "not asked for (--signatures)"
    entries.close()
    return report


def _check_log(
    folder: DataFolder, tree: FlatLog, book: BookOpened, origin: str, report: Report, progress: Progress
) -> None:
    try:
        store = SqliteLogStore(folder.log)
        check_tree(tree, store, report, progress)
        check_checkpoints(tree, store.checkpoints(), origin, parse_verifier_key(book.log_key), report)
        last = store.last_checkpoint()
        if last is not None and last.size > SqliteEntryLog(folder.ledger).head():
            report.differs("checkpoints", last.size, f"checkpoint {last.size} was signed, the store ends before")
        store.close()
    except LogStoreError as error:
        report.differs("tree", 0, str(error))


def _check_anchors(
    folder: DataFolder,
    tree: FlatLog,
    book: BookOpened,
    origin: str,
    report: Report,
    chain_heads: ChainHeads | None,
    table: str,
) -> None:
    if folder.anchors.exists():
        check_anchors("anchors", tree, _book_heads(SqliteEntryLog(folder.anchors, table)), report)
    if chain_heads is None:
        report.not_checked["contract"] = "no node to ask (--rpc URL)"
        return
    try:
        heads = chain_heads(book, origin)
    except OSError as error:
        report.not_checked["contract"] = f"the node does not answer: {error}"
        return
    check_anchors("contract", tree, heads, report)
    ahead = [head.size for head in heads if head.size > SqliteEntryLog(folder.ledger).head()]
    if ahead:
        report.differs("contract", ahead[0], f"the contract holds size {ahead[0]}, the store ends before")


def _book_heads(log: SqliteEntryLog) -> list[AnchorHead]:
    heads: list[AnchorHead] = []
    position = 1
    while records := log.read(position, 1000):
        for _, state in records:
            data = msgspec.json.decode(decode_envelope(state).data, type=_AnchorData)
            heads.append(_BookHead(data.size, bytes.fromhex(data.root)))
        position = records[-1][0] + 1
    return heads


def _check_projections(
    folder: DataFolder, entries: SqliteEntryLog, book: BookOpened, report: Report, progress: Progress, table: str
) -> None:
    if not folder.reads.exists():
        report.not_checked["projections"] = "there are no read models"
        return
    anchors = SqliteEntryLog(folder.anchors, table) if folder.anchors.exists() else None
    with tempfile.TemporaryDirectory(prefix="daicho-check-") as scratch:
        store = ReadStore(folder.reads)
        difference = check_read_models(
            store,
            Path(scratch) / "replay.db",
            entries,
            anchors,
            embedded_chain_ids=[book.chain_id] if folder.chain.exists() else [],
            progressed=lambda done, total: progress("projections", done, total),
        )
        store.close()
    report.count("projections")
    if difference is not None:
        row = difference.live or difference.replayed or {}
        position = next((row[name] for name in ("position", "last_position", "first_position") if name in row), 0)
        what = f"table {difference.table}: live {difference.live}, replayed {difference.replayed}"
        report.differs("projections", int(position), what)


def _look_on(_position: int, _state: bytes, _envelope: Envelope) -> None:
    """Without --signatures nothing more is looked at."""

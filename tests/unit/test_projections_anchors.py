"""Anchors are stored once; a receipt finds the one that covers its entry when it is asked for."""

from pathlib import Path

import pytest

from merkle.hashing import leaf_hash
from projections import anchors
from projections.anchor_projector import AnchorProjector
from projections.store import ReadStore
from projections.views import CheckpointRef
from tests.entry_factory import walk
from tests.projection_support import AnchorFactory, anchor_id, projected


@pytest.fixture
def store(tmp_path: Path) -> ReadStore:
    return projected(tmp_path / "read.db", walk(61, 100).factory.records)


def _apply(store: ReadStore, book: AnchorFactory) -> None:
    AnchorProjector(store, embedded_chain_ids={31337}).process(book.records)


def _covering(store: ReadStore, position: int) -> tuple[int, str] | None:
    receipt = anchors.receipt(store.reader(), None, position)
    assert receipt is not None
    return (receipt.anchor.size, receipt.anchor.state) if receipt.anchor else None


def test_an_anchor_goes_from_pending_over_mined_to_final_and_keeps_its_block(store: ReadStore) -> None:
    book = AnchorFactory()
    states = []
    for event in ("AnchorSubmitted", "AnchorMined", "AnchorFinal"):
        book.add(event, 0, size=40 if event == "AnchorSubmitted" else None)
        _apply(store, book)
        view = anchors.anchor(store.reader(), anchor_id(0))
        assert view is not None
        states.append((view.state, view.block_number))
    assert states == [("pending", None), ("mined", 100), ("final", 100)]


def test_a_reorganised_anchor_is_pending_again_without_a_block(store: ReadStore) -> None:
    book = AnchorFactory()
    for event in ("AnchorSubmitted", "AnchorMined", "AnchorReturned"):
        book.add(event, 0, size=40 if event == "AnchorSubmitted" else None)
    _apply(store, book)
    view = anchors.anchor(store.reader(), anchor_id(0))
    assert view is not None
    assert (view.state, view.block_number, view.block_hash, view.reason) == ("pending", None, None, "reorganised")


def test_a_replaced_transaction_leads_to_the_one_anchor_that_took_its_place(store: ReadStore) -> None:
    book = AnchorFactory()
    book.add("AnchorSubmitted", 0, size=40, tx_hash="0x01")
    book.add("AnchorReplaced", 0, size=50, tx_hash="0x02")
    _apply(store, book)
    for tx_hash in ("0x01", "0x02"):
        view = anchors.anchor_by_tx(store.reader(), tx_hash)
        assert view is not None
        assert (view.tx_hash, view.size, view.state) == ("0x02", 50, "pending")
    # The first one was mined after all: its head counts, not the newer one.
    book.add("AnchorMined", 0, size=40, tx_hash="0x01")
    _apply(store, book)
    assert _covering(store, 40) == (40, "mined")
    assert _covering(store, 41) is None


def test_a_receipt_names_the_first_live_anchor_that_covers_the_entry(store: ReadStore) -> None:
    book = AnchorFactory()
    for nonce, size in enumerate((10, 40, 70)):
        book.add("AnchorSubmitted", nonce, size=size)
    _apply(store, book)
    assert [_covering(store, at) for at in (1, 10, 11, 40, 41, 70)] == [
        (10, "pending"), (10, "pending"), (40, "pending"), (40, "pending"), (70, "pending"), (70, "pending"),
    ]  # fmt: skip
    assert _covering(store, 71) is None
    book.add("AnchorFailed", 1)
    book.add("AnchorMined", 2)
    _apply(store, book)
    assert _covering(store, 11) == (70, "mined")
    latest = anchors.latest_anchor(store.reader(), "mined", "final")
    assert latest is not None
    assert latest.size == 70
    assert anchors.latest_anchor(store.reader(), "final") is None


def test_a_receipt_holds_leaf_hash_and_the_checkpoint_that_covers_it(store: ReadStore) -> None:
    entry = walk(61, 100).factory.records[41][1]
    receipt = anchors.receipt(store.reader(), None, 42, CheckpointRef(42, "ab"))
    assert receipt is not None
    assert (receipt.leaf_hash, receipt.checkpoint) == (leaf_hash(entry).hex(), CheckpointRef(42, "ab"))
    uncovered = anchors.receipt(store.reader(), None, 43, CheckpointRef(42, "ab"))
    assert uncovered is not None
    assert uncovered.checkpoint is None


def test_a_receipt_is_only_for_those_who_may_read_the_entry(store: ReadStore) -> None:
    made = walk(61, 100)
    positions = range(1, 101)
    for viewer in made.companies:
        seen = [receipt.position for receipt in anchors.receipts(store.reader(), viewer, positions)]
        hidden = [at for at in positions if anchors.receipt(store.reader(), viewer, at) is None]
        assert sorted(seen + hidden) == list(positions)
        assert hidden
    assert len(anchors.receipts(store.reader(), None, [0, 1, 100, 101, 2**70])) == 2


def test_anchors_on_the_own_chain_are_marked_as_not_independent(store: ReadStore) -> None:
    own, public = AnchorFactory(), AnchorFactory(chain_id=1)
    own.add("AnchorSubmitted", 0, size=10)
    _apply(store, own)
    view = anchors.anchor(store.reader(), anchor_id(0))
    assert view is not None
    assert view.independent is False
    elsewhere = ReadStore(store.path.with_name("public.db"))
    public.add("AnchorSubmitted", 0, size=10)
    _apply(elsewhere, public)
    other = anchors.anchor(elsewhere.reader(), anchor_id(0))
    assert other is not None
    assert other.independent is True


def test_anchors_are_listed_newest_first_page_by_page(store: ReadStore) -> None:
    book = AnchorFactory()
    for nonce in range(9):
        book.add("AnchorSubmitted", nonce, size=nonce + 1)
        if nonce % 2:
            book.add("AnchorMined", nonce)
    _apply(store, book)
    seen: list[int] = []
    before = None
    while True:
        page = anchors.anchors(store.reader(), before=before, limit=3)
        seen += [view.nonce for view in page.items]
        before = page.next
        if before is None:
            break
    assert seen == list(range(8, -1, -1))
    assert [view.nonce for view in anchors.anchors(store.reader(), state="mined").items] == [7, 5, 3, 1]

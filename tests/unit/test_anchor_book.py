"""The anchor book takes over what the lane found out, once, and speaks the words that the read models know."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from eventsourcing.persistence import OperationalError

from domain.anchor import (
    FINAL,
    Anchor,
    AnchorEvent,
    AnchorFailed,
    AnchorFinal,
    AnchorMined,
    AnchorReplaced,
    AnchorReturned,
    AnchorSubmitted,
)
from domain.anchor_book import AnchorBook, LaneReport
from domain.entry import decode_envelope
from domain.errors import AlreadyExists, AnchorNotFound
from domain.ids import anchor_id
from projections.anchor_projector import AnchorProjector
from projections.anchors import anchor as anchor_view
from projections.events import anchor_codec
from projections.store import ReadStore
from storage.anchor_recorder import ANCHOR_TABLE
from storage.clock import LedgerClock
from storage.entry_log import SqliteEntryLog

ORIGIN = "daicho.invalid/3f9c"
CONTRACT = "0x5FbDB2315678afecb367f032d93F642f64180aa3"
PUBLISHER = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"
CHAIN_ID = 31337
LANE = "lane 31337 one"


def facts(nonce: int, size: int) -> dict[str, object]:
    return {
        "chain_id": CHAIN_ID,
        "contract": CONTRACT,
        "log_id": f"0x{'5a' * 32}",
        "nonce": nonce,
        "size": size,
        "root": f"{size:064x}",
        "tx_hash": f"0x{size:064x}",
    }


def block(number: int) -> dict[str, object]:
    return {
        "block_number": number,
        "block_hash": f"0x{number:064x}",
        "block_time": 1_795_000_000 + number,
        "log_index": 0,
        "gas_used": 61_000,
    }


def event(kind: type[AnchorEvent], nonce: int, size: int, **more: object) -> AnchorEvent:
    return kind(**{**facts(nonce, size), **more})


def submitted(nonce: int, size: int) -> AnchorEvent:
    return event(AnchorSubmitted, nonce, size)


def mined(nonce: int, size: int, at: int = 7) -> AnchorEvent:
    return event(AnchorMined, nonce, size, **block(at))


def final(nonce: int, size: int, at: int = 7) -> AnchorEvent:
    return event(AnchorFinal, nonce, size, **block(at))


def open_book(path: Path) -> AnchorBook:
    book = AnchorBook(env={"SQLITE_DBNAME": str(path)})
    book.connect(ORIGIN, LedgerClock())
    return book


@pytest.fixture
def book(tmp_path: Path) -> Iterator[AnchorBook]:
    opened = open_book(tmp_path / "anchors.db")
    yield opened
    opened.close()


def tell(book: AnchorBook, *events: AnchorEvent, lane: str = LANE) -> None:
    first = book.recorded_up_to(lane) + 1
    for seq, each in enumerate(events, first):
        book.record(LaneReport(lane, seq, PUBLISHER, each))


def records(path: Path) -> list[tuple[int, bytes]]:
    return SqliteEntryLog(path, ANCHOR_TABLE).read(1, 1000)


def test_an_anchor_is_followed_from_submitted_to_final(book: AnchorBook, tmp_path: Path) -> None:
    tell(book, submitted(0, 40), event(AnchorReplaced, 0, 50), mined(0, 50), final(0, 50))
    stored = [decode_envelope(state) for _, state in records(tmp_path / "anchors.db")]
    assert [(entry.position, entry.version, entry.type) for entry in stored] == [
        (1, 1, "AnchorSubmitted"),
        (2, 2, "AnchorReplaced"),
        (3, 3, "AnchorMined"),
        (4, 4, "AnchorFinal"),
    ]
    assert {entry.log for entry in stored} == {f"{ORIGIN}/anchors"}
    assert {entry.aggregate_id for entry in stored} == {anchor_id(CHAIN_ID, CONTRACT, PUBLISHER, 0)}


def test_every_event_has_exactly_the_fields_that_the_read_models_know(book: AnchorBook, tmp_path: Path) -> None:
    tell(book, submitted(0, 40), event(AnchorReplaced, 0, 50), mined(0, 50), final(0, 50))
    tell(book, event(AnchorReturned, 0, 50, reason="reorganised"), event(AnchorFailed, 0, 50, reason="reverted"))
    codec = anchor_codec()
    seen = set()
    for position, state in records(tmp_path / "anchors.db"):
        head = codec.head(position, state, f"{ORIGIN}/anchors")
        known = codec.data(head)
        assert set(msgspec.json.decode(head.data)) == set(known.__struct_fields__)
        seen.add(head.type)
    assert seen == codec.types


def test_a_report_delivered_again_changes_nothing(book: AnchorBook, tmp_path: Path) -> None:
    heads: list[int] = []
    book.on_recorded.append(heads.append)
    reports = [LaneReport(LANE, 3 + i, PUBLISHER, each) for i, each in enumerate([submitted(0, 40), mined(0, 40)])]
    for report in (*reports, *reports, reports[0]):
        book.record(report)
    assert len(records(tmp_path / "anchors.db")) == 2
    assert heads == [1, 2]
    assert book.recorded_up_to(LANE) == 4


def test_a_restarted_book_recognises_what_it_has_taken_over(book: AnchorBook, tmp_path: Path) -> None:
    report = LaneReport(LANE, 9, PUBLISHER, submitted(0, 40))
    book.record(report)
    again = open_book(tmp_path / "anchors.db")
    again.record(report)
    assert len(records(tmp_path / "anchors.db")) == 1
    again.close()


@pytest.mark.parametrize("moment", ["before the commit", "after the commit"])
def test_a_crash_while_recording_loses_and_doubles_nothing(
    book: AnchorBook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    class Crash(Exception):
        pass

    recorder = book.recorder
    commit = recorder.commit

    def crash() -> None:
        if moment == "after the commit":
            commit()
        else:
            recorder.rollback()
        raise Crash

    monkeypatch.setattr(recorder, "commit", crash)
    report = LaneReport(LANE, 1, PUBLISHER, submitted(0, 40))
    with pytest.raises(Crash):
        book.record(report)
    monkeypatch.undo()
    assert book.recorded_up_to(LANE) == (1 if moment == "after the commit" else 0)
    book.record(report)
    tell(book, mined(0, 40))
    assert [decode_envelope(state).type for _, state in records(tmp_path / "anchors.db")] == [
        "AnchorSubmitted",
        "AnchorMined",
    ]


def test_a_full_disk_is_reported_and_the_report_can_be_delivered_again(
    book: AnchorBook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    report = LaneReport(LANE, 1, PUBLISHER, submitted(0, 40))
    cursor = book.recorder.begin()
    cursor.execute("SELECT 1")
    book.recorder.rollback()
    writer = book.recorder._writer
    real = type(writer).commit
    monkeypatch.setattr(type(writer), "commit", full)
    with pytest.raises(OperationalError, match="refuses the write"):
        book.record(report)
    monkeypatch.setattr(type(writer), "commit", real)
    book.record(report)
    assert len(records(tmp_path / "anchors.db")) == 1


def test_lanes_number_their_reports_apart(book: AnchorBook, tmp_path: Path) -> None:
    other = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
    book.record(LaneReport("lane 1", 6, PUBLISHER, submitted(0, 40)))
    book.record(LaneReport("lane 2", 5, other, submitted(0, 40)))
    entries = [decode_envelope(state) for _, state in records(tmp_path / "anchors.db")]
    assert len({entry.aggregate_id for entry in entries}) == 2


def test_the_same_news_under_another_number_is_no_second_event(book: AnchorBook, tmp_path: Path) -> None:
    tell(book, submitted(0, 40), mined(0, 40), mined(0, 40), mined(0, 40, at=8))
    assert len(records(tmp_path / "anchors.db")) == 3
    assert book.recorded_up_to(LANE) == 4


def test_a_failure_that_names_no_transaction_is_about_the_last_one(book: AnchorBook) -> None:
    tell(book, submitted(0, 40), event(AnchorFailed, 0, 40, tx_hash="", reason="reverted"))
    anchor = book.repository.get(anchor_id(CHAIN_ID, CONTRACT, PUBLISHER, 0))
    assert isinstance(anchor, Anchor)
    assert anchor.latest is not None
    assert (anchor.state, anchor.latest.tx_hash) == ("failed", f"0x{40:064x}")


def test_a_nonce_that_a_reorganisation_gives_back_is_submitted_again(book: AnchorBook) -> None:
    tell(book, submitted(0, 40), event(AnchorFailed, 0, 40, reason="reverted"), submitted(0, 60), mined(0, 60))
    anchor = book.repository.get(anchor_id(CHAIN_ID, CONTRACT, PUBLISHER, 0))
    assert isinstance(anchor, Anchor)
    assert anchor.state == "mined"


def test_impossible_beginnings_are_refused_and_leave_no_trace(book: AnchorBook, tmp_path: Path) -> None:
    with pytest.raises(AnchorNotFound):
        tell(book, mined(0, 40))
    tell(book, submitted(0, 40))
    with pytest.raises(AlreadyExists):
        tell(book, submitted(0, 50))
    assert len(records(tmp_path / "anchors.db")) == 1
    assert book.recorded_up_to(LANE) == 1


def test_the_last_claim_is_the_newest_head_handed_to_the_chain(
    book: AnchorBook, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert book.last_claim() is None
    tell(book, submitted(0, 40), submitted(1, 70), event(AnchorReplaced, 1, 90))
    for at in range(5):
        tell(book, mined(0, 40, at=at), event(AnchorReturned, 0, 40, reason="reorganised"))
    monkeypatch.setattr("domain.anchor_book._PAGE", 3)
    claim = book.last_claim()
    assert claim is not None
    assert (claim.size, claim.root) == (90, f"{90:064x}")


def test_the_anchor_projector_follows_the_book(book: AnchorBook, tmp_path: Path) -> None:
    tell(book, submitted(0, 40), mined(0, 40), event(AnchorReturned, 0, 40, reason="reorganised"))
    tell(book, mined(0, 40, at=9), final(0, 40, at=9))
    store = ReadStore(tmp_path / "read.db")
    AnchorProjector(store).process(records(tmp_path / "anchors.db"))
    view = anchor_view(store.reader(), anchor_id(CHAIN_ID, CONTRACT, PUBLISHER, 0))
    assert view is not None
    assert (view.state, view.size, view.block_number) == (FINAL, 40, 9)
    store.close()

"""Entries of released versions keep their bytes, are still understood, and their signatures still hold."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import rfc8785
from eventsourcing.persistence import StoredEvent

from domain.book import PreviousHead
from domain.entry import canonical, decode_envelope
from domain.event_types import EVENT_TYPES
from domain.mapper import EntryMapper
from tests.ledger_kit import audit, open_book

FOLDER = Path(__file__).parents[1] / "vectors" / "entries"
PINNED = {
    "v1-anchors.jsonl": "07af6ee3c06ae1c61c5511fe54aac25428ee90c5783dbedd6020307bae24b33d",
    "v1-ledger.jsonl": "fee8b593291b1b7112d00706aaba1cee2766ee7838de33b40b85f9c3b469cff5",
    "v1-subscriptions.jsonl": "4dd26084c4d4ecfbf6a52d4222b792da92d9572ad34c7d3111fdddbe12acab56",
    "v1-successor.jsonl": "32274b612228f929743f30bd3fd394210e09e1241801bc68ada26a64a296d5f8",
}
LINES = {name: (FOLDER / name).read_bytes().split(b"\n")[:-1] for name in PINNED}
ENTRIES = [pytest.param(line, id=f"{name}-{number}") for name in LINES for number, line in enumerate(LINES[name], 1)]


def test_the_files_are_those_that_were_released() -> None:
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in FOLDER.glob("*.jsonl")}
    assert found == PINNED


def test_every_event_type_in_every_version_is_among_them() -> None:
    golden = {(entry["type"], entry["v"]) for lines in LINES.values() for entry in map(json.loads, lines)}
    assert golden == {(name, version) for name, kind in EVENT_TYPES.items() for version in range(1, kind.VERSION + 1)}


@pytest.mark.parametrize("line", ENTRIES)
def test_an_entry_is_written_again_byte_for_byte(line: bytes) -> None:
    assert canonical(json.loads(line)) == line
    assert rfc8785.dumps(json.loads(line)) == line
    envelope = decode_envelope(line)
    assert canonical(envelope) == line
    event = EntryMapper(transcoder=None).event_of(line)  # type: ignore[arg-type]
    assert canonical(event) == bytes(envelope.data)
    assert (event.aggregate_id, event.version, event.AGGREGATE.__name__) == (
        envelope.aggregate_id,
        envelope.version,
        envelope.aggregate,
    )


def test_a_log_of_them_stands_up_to_the_audit_signatures_and_batch_root_included() -> None:
    entries = audit(list(enumerate(LINES["v1-ledger.jsonl"], 1)), "daicho.invalid/golden")
    assert [entry["type"] for entry in entries].count("BatchSigned") == 1


def test_they_replay_in_a_ledger_of_today(tmp_path: Path) -> None:
    book = open_book(tmp_path / "ledger.db")
    for line in LINES["v1-ledger.jsonl"]:
        entry = json.loads(line)
        book.recorder.insert_events([StoredEvent(entry["aggregate_id"], entry["version"], entry["type"], line)])
    assert [state for _, state in book.records()] == LINES["v1-ledger.jsonl"]
    ids = {json.loads(line)["aggregate_id"]: json.loads(line)["aggregate"] for line in LINES["v1-ledger.jsonl"]}
    states: dict[str, list[Any]] = {"Trade": [], "Wallet": [], "Company": []}
    for aggregate_id, kind in ids.items():
        found: Any = book.ledger.load(aggregate_id)
        assert type(found).__name__ == kind
        if kind in states:
            still_open = found.open if kind == "Trade" else 0
            states[kind].append((getattr(found, "state", ""), still_open, found.version))
    assert states == {
        "Trade": [("settled", 0, 8), ("reversed", 999_999_999_999_999_999, 4)],
        "Wallet": [("active", 0, 2), ("closed", 0, 4)],
        "Company": [("", 0, 1), ("", 0, 1), ("", 0, 3)],
    }
    book.close()


def test_a_successors_first_entry_names_the_head_that_it_follows() -> None:
    event: Any = EntryMapper(transcoder=None).event_of(LINES["v1-successor.jsonl"][0])  # type: ignore[arg-type]
    assert isinstance(event.previous, PreviousHead)
    assert (event.previous.origin, event.previous.size) == ("daicho.invalid/golden", 25)

"""What a record of a topic must be, and how one that is not is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.entry import MAX_ENTRY_BYTES
from merkle.checkpoint import Checkpoint, StoredCheckpoint
from merkle.hashing import leaf_hash
from merkle.notes import Ed25519Signer, join_note
from streams.topic_checkpoints import CheckpointFeed, CheckpointRecords
from streams.topic_record import EntryRecords, Format, RecordRefused, Wire
from tests.entry_factory import ORIGIN, canonical
from tests.topic_support import make_entries, raw, wires

GOLDEN = (Path(__file__).parents[1] / "vectors" / "entries" / "v1-ledger.jsonl").read_bytes().splitlines()
WIRE = wires(make_entries(3, seed=5))[1]
FORMAT = EntryRecords(ORIGIN)
SIGNER = Ed25519Signer.from_seed(ORIGIN, bytes(32))
CHECKPOINTS = CheckpointRecords(ORIGIN)


def signed(size: int, root: bytes = bytes(32), origin: str = ORIGIN) -> StoredCheckpoint:
    body = Checkpoint(origin, size, root).body()
    return StoredCheckpoint(size, root, join_note(body, [SIGNER.sign(body)]), "2026-11-26T09:00:00.000123Z")


def rule(record: Any, records: Format = FORMAT) -> str:
    """The rule that a record breaks."""
    with pytest.raises(RecordRefused) as refused:
        records.decode(record)
    assert refused.value.offset == record.offset
    assert str(refused.value).startswith(f"{record.topic} offset {record.offset}: ")
    assert str(refused.value).isprintable()
    return refused.value.rule


def headers(wire: Wire = WIRE, **changes: bytes | None) -> list[tuple[str, bytes | None]]:
    """The record's headers with others in place; dashes for underscores at double ones."""
    named = {name.replace("__", "-"): value for name, value in changes.items()}
    return [(name, named.get(name, value)) for name, value in wire.headers]


@pytest.mark.parametrize("entry", GOLDEN)
def test_an_entry_comes_back_with_its_exact_bytes(entry: bytes) -> None:
    position, records = json.loads(entry)["position"], EntryRecords("daicho.invalid/golden")
    record = records.decode(raw(records.encode(position, entry), 77))
    assert record == (position, entry, 77, leaf_hash(entry))


def test_a_record_is_a_cloudevent_about_its_entry() -> None:
    entry = json.loads(WIRE.value)
    assert WIRE.key == entry["aggregate_id"].encode()
    assert dict(WIRE.headers) == {
        "ce_specversion": b"1.0",
        "ce_id": entry["id"].encode(),
        "ce_source": ORIGIN.encode(),
        "ce_type": b"daicho.TradeNoteAdded.v1",
        "ce_subject": entry["aggregate_id"].encode(),
        "ce_time": entry["recorded_at"].encode(),
        "content-type": b"application/json",
        "daicho-position": b"2",
        "daicho-leaf": leaf_hash(WIRE.value).hex().encode(),
    }


def test_an_entry_that_says_another_position_is_not_sent() -> None:
    with pytest.raises(ValueError, match="the entry at position 3 says 2"):
        FORMAT.encode(3, WIRE.value)


def test_records_that_are_no_entries_are_refused() -> None:
    for value in (None, b"", b"\xff\xfe", b"{}", b"[]", b"hello", WIRE.value[:-1], WIRE.value + b"}", WIRE.value[1:]):
        assert "not an entry" in rule(raw(WIRE, 4, value=value)) or value is None
    assert rule(raw(WIRE, 4, value=None)) == f"no value of at most {MAX_ENTRY_BYTES} bytes"
    assert rule(raw(WIRE, 4, value=b"x" * (MAX_ENTRY_BYTES + 1))) == f"no value of at most {MAX_ENTRY_BYTES} bytes"


@given(st.integers(0, len(WIRE.value) - 1), st.integers(1, 255))
def test_any_changed_byte_is_found(index: int, flip: int) -> None:
    edited = bytearray(WIRE.value)
    edited[index] ^= flip
    with pytest.raises(RecordRefused):
        FORMAT.decode(raw(WIRE, 0, value=bytes(edited)))


@given(st.binary(max_size=200))
def test_whatever_somebody_puts_into_the_topic_is_refused_in_one_printable_line(value: bytes) -> None:
    rule(raw(WIRE, 1, value=value))
    rule(raw(WIRE, 1, key=value))
    rule(raw(WIRE, 1, headers=[("ce_id", value)]))


def test_an_entry_of_another_log_is_refused_unless_any_log_is_welcome() -> None:
    assert rule(raw(WIRE, 1), EntryRecords("daicho.invalid/other")).endswith(
        f"of the log {ORIGIN}, not of daicho.invalid/other"
    )
    assert EntryRecords("").decode(raw(WIRE, 1)).position == 2


def test_what_a_foreign_log_calls_itself_is_printed_safely() -> None:
    entry = json.loads(WIRE.value) | {"log": "a\n\x1b[2Jb" + "x" * 9_000}
    said = rule(raw(WIRE, 1, value=canonical(entry)))
    assert r"a\n\x1b[2Jb" in said
    assert len(said) <= 500


def test_positions_begin_at_one() -> None:
    for position in (0, -1):
        entry = canonical(json.loads(WIRE.value) | {"position": position})
        assert rule(raw(WIRE, 1, value=entry)) == f"an entry at position {position}"


def test_the_key_and_every_header_follow_from_the_bytes() -> None:
    assert rule(raw(WIRE, 1, key=b"x")) == "the key is not the entry's aggregate id"
    assert rule(raw(WIRE, 1, key=None)) == "the key is not the entry's aggregate id"
    for name, value in WIRE.headers:
        others = [(each, b"9" if each == name else content) for each, content in WIRE.headers]
        assert rule(raw(WIRE, 1, headers=others)) == f"the header {name} is not that of these bytes"
        without = [(each, content) for each, content in WIRE.headers if each != name]
        assert rule(raw(WIRE, 1, headers=without)) == f"the header {name} is there 0 times"
        assert rule(raw(WIRE, 1, headers=[*WIRE.headers, (name, value)])) == f"the header {name} is there 2 times"
    assert rule(raw(WIRE, 1, headers=[*WIRE.headers, ("daicho-more", b"1")])).endswith("of a name of ours: daicho-more")
    assert rule(raw(WIRE, 1, headers=WIRE.headers[::-1])) == "the headers are in another order"
    assert rule(raw(WIRE, 1, headers=[*WIRE.headers[:-1], ("daicho-leaf", None)])).startswith("the header daicho-leaf")


def test_headers_of_other_names_are_nobodys_business() -> None:
    traced = [("traceparent", b"00-1-1-01"), *WIRE.headers, ("x", None)]
    assert FORMAT.decode(raw(WIRE, 1, headers=traced)).position == 2


def test_a_checkpoint_comes_back_as_it_was_stored() -> None:
    stored = signed(300, b"r" * 32)
    record = raw(CHECKPOINTS.encode(300, stored), 9)
    assert CHECKPOINTS.checkpoint(record) == stored
    assert CHECKPOINTS.decode(record) == (300, stored.note, 9, leaf_hash(stored.note))
    assert CheckpointRecords("").checkpoint(record) == stored


def test_a_checkpoint_that_says_something_else_is_not_sent() -> None:
    stored = signed(300)
    for position, item in ((301, stored), (300, StoredCheckpoint(300, b"x" * 32, stored.note, stored.signed_at))):
        with pytest.raises(ValueError, match="says 300"):
            CHECKPOINTS.encode(position, item)


def test_records_that_are_no_checkpoints_are_refused() -> None:
    stored = signed(300)
    wire = CHECKPOINTS.encode(300, stored)
    refused = {
        "not a checkpoint": [None, b"", b"hello", stored.note[:-1], stored.note[40:], WIRE.value, b"\n" + stored.note],
        "not that of these bytes": [signed(301).note, signed(300, b"y" * 32).note],
        "a checkpoint of the log o": [signed(300, origin="other").note, stored.note[5:]],
    }
    for expected, values in refused.items():
        for value in values:
            assert expected in rule(raw(wire, 1, value=value), CHECKPOINTS)
    assert "not a checkpoint" in rule(raw(wire, 1, value=stored.note.replace(b"300", b"0")), CHECKPOINTS)
    assert rule(raw(wire, 1, key=b"x"), CHECKPOINTS) == "the key is not the checkpoint's origin"
    for time in (b"", b"yesterday", b"2026-11-26T09:00:00Z", b"\xff"):
        assert rule(raw(wire, 1, headers=headers(wire, ce_time=time)), CHECKPOINTS) == "the header ce_time is no time"
    assert rule(raw(wire, 1, headers=headers(wire, ce_source=b"x")), CHECKPOINTS).startswith("the header ce_source")


class Store:
    """Checkpoints in order, asked as the log store is."""

    def __init__(self, *sizes: int) -> None:
        self.all = [signed(size) for size in sizes]

    def last_checkpoint(self) -> StoredCheckpoint | None:
        return self.all[-1] if self.all else None

    def checkpoint_at_least(self, size: int) -> StoredCheckpoint | None:
        return next((each for each in self.all if each.size >= size), None)


def test_the_feed_of_checkpoints_goes_by_size() -> None:
    feed = CheckpointFeed(Store(3, 10, 11, 500))
    assert feed.head() == 500
    assert [size for size, _ in feed.read(1, 10)] == [3, 10, 11, 500]
    assert [size for size, _ in feed.read(4, 2)] == [10, 11]
    assert feed.read(501, 10) == []
    assert (CheckpointFeed(Store()).head(), CheckpointFeed(Store()).read(1, 5)) == (0, [])

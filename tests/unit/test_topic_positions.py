"""Finding a position in a topic, and reading on from it, whatever was repeated and however offsets jump."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merkle.hashing import leaf_hash
from streams.local import LogBehindError
from streams.processor import ForkError, GapError
from streams.topic_partition import RecordsGone
from streams.topic_reader import TopicLog, TopicReader, highest
from streams.topic_record import EntryRecords, RecordRefused
from tests.entry_factory import EntryFactory
from tests.topic_support import MemoryPartition, make_entries, raw, wires

FACTORY = EntryFactory(7)
RECORDS = make_entries(120, factory=FACTORY)
WIRES = wires(RECORDS)
OTHER = wires(make_entries(120, seed=8))
FORMAT = EntryRecords(FACTORY.origin)
Made = tuple[MemoryPartition, int]


@st.composite
def topics(draw: st.DrawFn) -> Made:
    """Positions as relays write them: up by one, or back to an earlier one and up again; offsets with gaps."""
    reached, position, offset, first = 0, 0, draw(st.integers(0, 50)), None
    raws = []
    for _ in range(draw(st.integers(1, 6))):
        for _ in range(draw(st.integers(1, 60))):
            if position == len(WIRES):
                break
            position += 1
            reached = max(reached, position)
            raws.append(raw(WIRES[position - 1], offset))
            first = offset if first is None else first
            offset += 1 + draw(st.sampled_from((0, 0, 0, 0, 1, 30)))
        position = draw(st.integers(max(0, position - 40), position))
    return MemoryPartition(raws, draw(st.integers(1, 70)), first or 0), reached


def in_order(count: int, start: int = 0) -> list[Any]:
    return [raw(WIRES[index], index + start) for index in range(count)]


@given(topics(), st.data())
def test_the_first_record_of_any_position_is_found_whatever_was_repeated(made: Made, data: st.DataObject) -> None:
    partition, reached = made
    position = data.draw(st.integers(1, reached))
    expected = next(each.offset for each in partition.raws if FORMAT.decode(each).position == position)
    reader = TopicReader(partition, FORMAT)
    assert reader.find(position) == expected
    assert reader.find(position, leaf_hash(RECORDS[position - 1][1])) == expected
    with pytest.raises(ForkError):
        reader.find(position, bytes(32))


@given(topics(), st.data())
def test_reading_from_any_position_gives_every_later_entry_once(made: Made, data: st.DataObject) -> None:
    partition, reached = made
    start = data.draw(st.integers(1, reached + 1))
    batches = list(TopicReader(partition, FORMAT).read(start, data.draw(st.integers(1, 50))))
    assert [record for batch in batches for record in batch.records] == RECORDS[start - 1 : reached]


@given(topics(), st.data())
def test_a_topic_reads_like_the_log_it_was_copied_from(made: Made, data: st.DataObject) -> None:
    partition, reached = made
    log = TopicLog(TopicReader(partition, FORMAT))
    assert log.head() == reached
    for _ in range(5):
        start, limit = data.draw(st.integers(1, reached + 3)), data.draw(st.integers(1, 80))
        assert log.read(start, limit) == RECORDS[start - 1 : min(reached, start - 1 + limit)]


@given(topics())
def test_the_highest_position_is_seen_behind_repeats_at_the_end(made: Made) -> None:
    partition, reached = made
    last = highest(TopicReader(partition, FORMAT).last_records())
    assert last is not None
    assert last.position == reached


def test_a_position_is_found_in_few_steps_in_a_long_topic() -> None:
    records = make_entries(5_000, seed=3)
    partition = MemoryPartition([raw(wire, number) for number, wire in enumerate(wires(records))], piece=100)
    assert TopicReader(partition, EntryRecords("")).find(4_990) == 4_989
    assert partition.fetches == 2


def test_a_position_that_the_topic_does_not_have_yet_is_told_as_that() -> None:
    reader = TopicReader(MemoryPartition(in_order(20)), FORMAT)
    for position in (21, 22, 1_000_000):
        with pytest.raises(LogBehindError, match=f"ends before position {position}"):
            reader.find(position)
    with pytest.raises(LogBehindError):
        TopicReader(MemoryPartition([]), FORMAT).find(1)
    assert list(reader.read(21)) == []
    with pytest.raises(LogBehindError):
        list(reader.read(23))


def test_a_topic_whose_beginning_was_deleted_is_told_as_that() -> None:
    reader = TopicReader(MemoryPartition(in_order(20)[5:], first=5), FORMAT)
    for ask in (lambda: reader.find(3), lambda: list(reader.read(1)), lambda: TopicLog(reader).read(1, 10)):
        with pytest.raises(RecordsGone, match=r"begins at position 6, \d is gone"):
            ask()
    assert reader.find(6) == 5


@pytest.mark.parametrize("piece", [1, 3, 100])
def test_a_missing_position_is_a_gap_for_every_reader(piece: int) -> None:
    raws = in_order(20)
    del raws[9]
    reader = TopicReader(MemoryPartition(raws, piece), FORMAT)
    with pytest.raises(GapError, match="position 11 where 10 was due"):
        list(reader.read(1))
    with pytest.raises(GapError):
        reader.find(10)


@pytest.mark.parametrize("piece", [1, 3, 100])
def test_another_entry_at_a_position_read_before_is_a_fork(piece: int) -> None:
    raws = [*in_order(20), raw(OTHER[14], 20)]
    with pytest.raises(ForkError, match="position 15"):
        list(TopicReader(MemoryPartition(raws, piece), FORMAT).read(1))


def test_a_repeat_from_before_the_reading_is_compared_with_what_the_reader_knows() -> None:
    known = {position: leaf_hash(entry) for position, entry in RECORDS}
    same, other = [*in_order(20), raw(WIRES[2], 20)], [*in_order(20), raw(OTHER[2], 20)]
    read = TopicReader(MemoryPartition(same), FORMAT).read(10, known=known.__getitem__)
    assert [record for batch in read for record in batch.records] == RECORDS[9:20]
    with pytest.raises(ForkError, match="position 3"):
        list(TopicReader(MemoryPartition(other), FORMAT).read(10, known=known.__getitem__))


def test_a_repeat_from_further_back_than_any_relay_goes_is_refused_by_the_ignorant(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("streams.topic_reader._REMEMBERED", 10)
    raws = [*in_order(20), raw(WIRES[2], 20)]
    with pytest.raises(RecordRefused, match="repeats position 3 when 21 is due"):
        list(TopicReader(MemoryPartition(raws), FORMAT).read(1))


def test_what_precedes_must_be_the_entry_that_the_reader_stands_on() -> None:
    reader = TopicReader(MemoryPartition(in_order(20)), FORMAT)
    assert next(reader.read(11, before=leaf_hash(RECORDS[9][1]))).records == RECORDS[10:20]
    with pytest.raises(ForkError, match="position 10"):
        list(reader.read(11, before=bytes(32)))


def test_after_a_failure_a_reading_goes_on_where_it_was() -> None:
    raws = in_order(20)
    broken = raw(WIRES[14], 14, key=b"?")
    partition = MemoryPartition([*raws[:14], broken, *raws[15:]])
    cursor = TopicReader(partition, FORMAT).cursor(1)
    for _ in range(3):
        with pytest.raises(RecordRefused, match="offset 14"):
            cursor.next_batch(100)
        assert (cursor.due, cursor.offset) == (1, 0)
    partition.raws = [*raws, raw(WIRES[5], 20)]
    batch = cursor.next_batch(100)
    assert batch is not None
    assert batch.records == RECORDS[:20]
    assert batch.next_offset == 21

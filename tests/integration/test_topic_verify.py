"""Reconciliation of a topic with the event store: whatever differs is found, named and counted; repeats are allowed."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.postgres.entry_log import PostgresEntryLog
from streams.topic_checkpoints import CheckpointRecords
from streams.topic_partition import KafkaPartition
from streams.topic_record import EntryRecords
from streams.topic_verify import Reconciliation, Report, verify
from tests.entry_factory import ORIGIN, EntryFactory, Record
from tests.kafka_broker import KafkaBroker, NamedBroker
from tests.postgres_server import TestDatabase
from tests.topic_support import (
    MemoryPartition,
    fields_of,
    make_entries,
    new_topic,
    raw,
    running,
    send_raw,
    store_entries,
    wait_for,
    wires,
)

Broker = KafkaBroker | NamedBroker
RECORDS = make_entries(300)
OTHERS = make_entries(300, seed=6)
WIRES = wires(RECORDS)
FORMAT = EntryRecords(ORIGIN)
KINDS = ("missing", "order", "changed", "ahead", "foreign", "repeated")


class Store:
    """Entries in memory; how many it was asked for."""

    def __init__(self, records: Sequence[Record] = tuple(RECORDS)) -> None:
        self.records, self.asked = list(records), 0

    def head(self) -> int:
        return len(self.records)

    def read(self, start: int, limit: int) -> list[Record]:
        found = self.records[start - 1 : start - 1 + limit]
        self.asked += len(found)
        return found


def found(report: Report) -> dict[str, int]:
    """What is wrong or repeated, by kind."""
    return {kind: getattr(report, kind) for kind in KINDS if getattr(report, kind)}


def in_topic(*parts: Sequence[Any]) -> MemoryPartition:
    return MemoryPartition(
        [raw(wire, offset) for offset, wire in enumerate(wire for part in parts for wire in part)], 50
    )


def test_a_topic_like_its_store_agrees(broker: Broker, database: TestDatabase) -> None:
    topic, store = new_topic(broker.bootstrap), PostgresEntryLog(database.writer)
    records = make_entries(6_000)
    store_entries(database, records)
    with running(broker.bootstrap, topic, store) as relay:
        wait_for(lambda: relay.status().position == 6_000)
    told: list[tuple[int, int]] = []
    with KafkaPartition(broker.bootstrap, topic) as partition:
        report = verify(partition, FORMAT, store, lambda done, of: told.append((done, of)))
    assert report.agrees
    assert report.finished
    assert found(report) == {}
    assert (report.records, report.due, report.to_come, report.findings) == (6_000, 6_001, 0, [])
    assert told == sorted(told)
    assert told[-1] == (6_000, 6_000)


def test_everything_wrong_in_a_real_topic_is_found_at_once(broker: Broker, database: TestDatabase) -> None:
    topic, store = new_topic(broker.bootstrap), PostgresEntryLog(database.writer)
    store_entries(database, RECORDS[:200])
    sent: list[Any] = [fields_of(wire) for wire in WIRES]
    sent[10] = fields_of(wires(OTHERS)[10])  # position 11
    sent[20] = {**sent[20], "value": sent[20]["value"][:-1]}  # 21
    sent[30], sent[31] = sent[31], sent[30]
    sent = [*sent[:50], *sent[45:70], *sent[80:205], {"key": b"k", "value": b"hello\n"}]
    send_raw(broker.bootstrap, topic, sent)
    with KafkaPartition(broker.bootstrap, topic) as partition:
        report = verify(partition, FORMAT, store)
    assert not report.agrees
    assert found(report) == {"missing": 11, "order": 1, "changed": 1, "ahead": 5, "foreign": 2, "repeated": 5}
    assert report.skipped == [(21, 21), (71, 80)]
    assert f"{topic} offset 10: position 11 is another entry than the store's" in report.findings
    assert f"{topic} offset 31: position 31 came late" in report.findings
    assert f"{topic} offset 195: position 201 is not in the store" in report.findings
    assert any(line.startswith(f"{topic} offset 20: not an entry") for line in report.findings)
    assert all(line.isprintable() for line in report.findings)


def test_what_the_store_has_beyond_the_topic_is_lag_and_no_fault() -> None:
    report = verify(in_topic(WIRES[:120]), FORMAT, Store())
    assert report.agrees
    assert report.to_come == 180


def test_an_empty_topic_agrees_with_any_store() -> None:
    report = verify(in_topic(), FORMAT, Store())
    assert (report.agrees, report.finished, report.to_come) == (True, True, 300)


def test_a_deleted_beginning_is_missing() -> None:
    partition = MemoryPartition([raw(WIRES[index], index) for index in range(40, 60)], first=40)
    report = verify(partition, FORMAT, Store())
    assert found(report) == {"missing": 40}
    assert report.skipped == [(1, 40)]


def test_a_repeat_of_another_entry_is_changed() -> None:
    report = verify(in_topic(WIRES[:50], [wires(OTHERS)[20]]), FORMAT, Store())
    assert found(report) == {"changed": 1}


def test_entries_of_another_log_are_foreign() -> None:
    other = wires(make_entries(20, factory=EntryFactory(1, "daicho.invalid/other")))
    report = verify(in_topic(WIRES[:20], other), FORMAT, Store())
    assert found(report) == {"foreign": 20}


def test_findings_are_counted_without_limit_and_named_up_to_one() -> None:
    report = verify(in_topic(WIRES[:10], wires(OTHERS)), FORMAT, Store())
    assert report.changed == 300
    assert len(report.findings) == 100


@given(st.lists(st.integers(1, 300), max_size=20), st.data())
def test_an_interrupted_run_goes_on_where_it_was_and_finds_the_same(stops: list[int], data: st.DataObject) -> None:
    picked = data.draw(st.lists(st.integers(0, 299), min_size=1, max_size=200))
    spoiled = [(wires(OTHERS) if data.draw(st.booleans()) else WIRES)[index] for index in picked[:5]]
    parts = (WIRES[:100], spoiled, WIRES[90:200], [WIRES[index] for index in picked])
    whole, store = verify(in_topic(*parts), FORMAT, Store()), Store()
    state = b""
    for stop in sorted(stops):
        state = _run_until(in_topic(*parts), store, state, stop)
    last = Reconciliation(in_topic(*parts), FORMAT, store, Report.decode(state) if state else None).run()
    assert last == whole


def _run_until(partition: MemoryPartition, store: Store, state: bytes, stop: int) -> bytes:
    run = Reconciliation(partition, FORMAT, store, Report.decode(state) if state else None)

    def interrupt(done: int, _: int) -> None:
        if done >= stop:
            raise KeyboardInterrupt

    try:
        run.run(interrupt)
    except KeyboardInterrupt:
        assert run.report.next_offset >= min(stop, run.report.end_offset)
    return run.report.encode()


def test_a_run_that_goes_on_reads_only_what_is_new() -> None:
    store = Store()
    first = verify(in_topic(WIRES[:250]), FORMAT, store)
    store.asked = 0
    again = verify(in_topic(WIRES[:260]), FORMAT, store, resume_from=Report.decode(first.encode()))
    assert (again.records, again.agrees, store.asked) == (260, True, 10)
    assert first.records == 250  # the earlier report stays as it was


@pytest.mark.parametrize(
    ("partition", "report"),
    [
        (lambda: in_topic(WIRES[:5]), Report("daicho.other.entries")),
        (lambda: in_topic(WIRES[:5]), Report(MemoryPartition.topic, next_offset=6)),
    ],
)
def test_the_state_of_another_topic_is_not_gone_on_from(
    partition: Callable[[], MemoryPartition], report: Report
) -> None:
    with pytest.raises(ValueError, match="the state is of"):
        verify(partition(), FORMAT, Store(), resume_from=report)


@pytest.mark.parametrize("data", [b"", b"{}", b"[1]", b'{"topic":"t","due":"x"}', b"\xff"])
def test_a_state_that_is_none_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="not the state of a reconciliation"):
        Report.decode(data)


def test_a_topic_whose_positions_have_gaps_is_not_compared_by_them() -> None:
    with pytest.raises(ValueError, match="no gapless positions"):
        verify(in_topic(), CheckpointRecords(ORIGIN), Store())

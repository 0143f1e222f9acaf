"""The processor contract, kept by both projectors: effect and position together, repeats skipped, all else refused."""

import sqlite3
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from merkle.hashing import leaf_hash
from projections import anchor_projector, persist
from projections.anchor_projector import AnchorProjector
from projections.digest import digest
from projections.position import EntryCorrupt, PositionFork, PositionGap, ProjectionStopped, UnknownEvent
from projections.projector import Projector
from projections.store import ReadStore, Source
from tests.entry_factory import EntryFactory, Record, walk
from tests.projection_support import AnchorFactory


@dataclass
class Kind:
    """One projector under the contract: how to make it and what to feed it."""

    source: Source
    make: Callable[[ReadStore], Any]
    records: list[Record]
    steps: list[tuple[Any, str]]


def _anchor_records() -> list[Record]:
    book = AnchorFactory(seed=3)
    for nonce in range(12):
        book.add("AnchorSubmitted", nonce, size=10 * nonce + 10)
        if nonce % 3 == 0:
            book.add("AnchorReplaced", nonce, tx_hash=f"0x{nonce + 1000:064x}")
        if nonce % 4 == 3:
            book.add("AnchorFailed", nonce)
            continue
        book.add("AnchorMined", nonce)
        if nonce % 5 == 0:
            book.add("AnchorReturned", nonce)
            book.add("AnchorMined", nonce)
        book.add("AnchorFinal", nonce)
    return book.records


KINDS = {
    "projector": Kind(
        "entries",
        Projector,
        walk(7, 240).factory.records,
        [
            (persist, "save_entries"),
            (persist, "save_companies"),
            (persist, "save_wallets"),
            (persist, "save_trades"),
            (persist, "save_balances"),
            (persist, "save"),
        ],
    ),
    "anchor-projector": Kind("anchors", AnchorProjector, _anchor_records(), [(anchor_projector, "save_anchors")]),
}


@pytest.fixture(params=list(KINDS))
def kind(request: pytest.FixtureRequest) -> Kind:
    return KINDS[request.param]


def _digest(path: Path, kind: Kind, batches: Sequence[Sequence[Record]]) -> dict[str, str]:
    store = ReadStore(path)
    projector = kind.make(store)
    for batch in batches:
        projector.process(batch)
    tables = digest(store, kind.records[-1][0], kind.source).tables
    store.close()
    return tables


def test_a_projector_begins_at_position_zero_and_ends_at_the_last_entry_with_its_leaf_hash(
    kind: Kind, tmp_path: Path
) -> None:
    projector = kind.make(ReadStore(tmp_path / "read.db"))
    assert projector.position() == (0, b"")
    projector.process(kind.records)
    assert projector.position() == (len(kind.records), leaf_hash(kind.records[-1][1]))
    assert kind.make(ReadStore(tmp_path / "read.db")).position() == projector.position()


def test_nothing_to_do_changes_nothing(kind: Kind, tmp_path: Path) -> None:
    projector = kind.make(ReadStore(tmp_path / "read.db"))
    projector.process([])
    assert projector.position() == (0, b"")


@settings(max_examples=12, deadline=None)
@given(data=st.data())
@pytest.mark.parametrize("name", list(KINDS))
def test_any_partition_into_batches_gives_the_same_rows(
    name: str, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    kind = KINDS[name]
    last = len(kind.records)
    cuts = sorted(data.draw(st.sets(st.integers(1, last - 1), max_size=40)))
    pieces = [kind.records[a:b] for a, b in zip([0, *cuts], [*cuts, last], strict=True)]
    folder = tmp_path_factory.mktemp("partition")
    assert _digest(folder / "cut.db", kind, pieces) == _digest(folder / "whole.db", kind, [kind.records])


def test_one_by_one_gives_the_same_rows_as_one_batch(kind: Kind, tmp_path: Path) -> None:
    singles = [[record] for record in kind.records]
    assert _digest(tmp_path / "one.db", kind, singles) == _digest(tmp_path / "all.db", kind, [kind.records])


def test_repeats_are_skipped_alone_and_in_front_of_new_entries(kind: Kind, tmp_path: Path) -> None:
    r = kind.records
    repeated = [r[:20], r[:20], r[5:9], r[10:30], r[29:30], r[30:], r]
    assert _digest(tmp_path / "repeated.db", kind, repeated) == _digest(tmp_path / "once.db", kind, [r])


def test_another_entry_at_a_known_position_stops_it_and_changes_nothing(kind: Kind, tmp_path: Path) -> None:
    store = ReadStore(tmp_path / "read.db")
    projector = kind.make(store)
    projector.process(kind.records[:20])
    before = digest(store, 20, kind.source)
    position, entry = kind.records[11]
    forged = (position, entry.replace(b'"salt":"', b'"salt":"00', 1))
    with pytest.raises(PositionFork) as stopped:
        projector.process([*kind.records[5:11], forged, *kind.records[12:25]])
    assert stopped.value.position == 12
    assert digest(store, 20, kind.source) == before


@pytest.mark.parametrize("pick", [slice(21, 25), slice(19, 25, 2)], ids=["ahead of the position", "inside the batch"])
def test_a_gap_stops_it_and_changes_nothing(kind: Kind, tmp_path: Path, pick: slice) -> None:
    store = ReadStore(tmp_path / "read.db")
    projector = kind.make(store)
    projector.process(kind.records[:20])
    before = digest(store, 20, kind.source)
    with pytest.raises(PositionGap):
        projector.process(kind.records[pick])
    assert digest(store, 20, kind.source) == before
    projector.process(kind.records[20:])
    assert projector.position()[0] == len(kind.records)


def test_positions_before_the_first_are_refused(kind: Kind, tmp_path: Path) -> None:
    with pytest.raises(PositionGap):
        kind.make(ReadStore(tmp_path / "read.db")).process([(0, kind.records[0][1])])


@pytest.mark.parametrize("change", ["type", "version"])
def test_an_unknown_event_stops_it_naming_position_and_type(kind: Kind, tmp_path: Path, change: str) -> None:
    store = ReadStore(tmp_path / "read.db")
    projector = kind.make(store)
    projector.process(kind.records[:20])
    before = digest(store, 20, kind.source)
    position, entry = kind.records[24]
    unknown = entry.replace(b'"v":1,', b'"v":2,') if change == "version" else _retyped(entry)
    with pytest.raises(UnknownEvent, match=r"position 25 holds \w+ version \d") as stopped:
        projector.process([*kind.records[20:24], (position, unknown)])
    assert stopped.value.position == 25
    assert digest(store, 20, kind.source) == before


def _retyped(entry: bytes) -> bytes:
    start = entry.index(b'"type":"', entry.index(b'"salt":"')) + len(b'"type":"')
    return entry[:start] + b"New" + entry[start:]


@pytest.mark.parametrize(
    "forge",
    [
        lambda entry: entry[:-1],
        lambda entry: b"\xff" + entry,
        lambda entry: entry.replace(b'"position":21,', b'"position":22,'),
        lambda entry: entry.replace(b'"log":"daicho.invalid/', b'"log":"elsewhere.invalid/'),
    ],
    ids=["cut short", "no JSON", "of another position", "of another log"],
)
def test_an_entry_that_does_not_belong_there_stops_it(
    kind: Kind, tmp_path: Path, forge: Callable[[bytes], bytes]
) -> None:
    projector = kind.make(ReadStore(tmp_path / "read.db"))
    projector.process(kind.records[:20])
    position, entry = kind.records[20]
    with pytest.raises(EntryCorrupt) as stopped:
        projector.process([(position, forge(entry))])
    assert stopped.value.position == 21
    assert projector.position()[0] == 20


@pytest.mark.parametrize("after", [False, True], ids=["before the step", "after the step"])
def test_a_crash_in_any_step_leaves_the_batch_undone_and_a_new_start_repairs_it(
    kind: Kind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    whole = _digest(tmp_path / "whole.db", kind, [kind.records])
    for module, step in kind.steps:
        path = tmp_path / f"{step}.db"
        store = ReadStore(path)
        projector = kind.make(store)
        projector.process(kind.records[:17])
        real = getattr(module, step)

        def crash(*args: Any, real: Callable[..., None] = real) -> None:
            if after:
                real(*args)
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(module, step, crash)
            with pytest.raises(KeyboardInterrupt):
                projector.process(kind.records[17:])
        store.close()
        again = ReadStore(path)
        assert kind.make(again).position()[0] == 17
        again.close()
        assert _digest(path, kind, [kind.records[17:]]) == whole


def test_a_crash_at_the_position_or_the_commit_is_repaired_by_the_same_projector(
    kind: Kind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ReadStore(tmp_path / "read.db")
    projector = kind.make(store)
    projector.process(kind.records[:17])
    connection: sqlite3.Connection = projector._connection

    class FullDisk:
        """Refuses the commit as a full disk does."""

        in_transaction = property(lambda self: connection.in_transaction)

        def execute(self, sql: str, *args: Any) -> Any:
            if sql == "COMMIT":
                raise sqlite3.OperationalError("database or disk is full")
            return connection.execute(sql, *args)

    projector._connection = FullDisk()
    with pytest.raises(sqlite3.OperationalError):
        projector.process(kind.records[17:])
    assert projector.position()[0] == 17
    projector._connection = connection
    projector.process(kind.records[17:])
    assert digest(store, None, kind.source).tables == _digest(tmp_path / "whole.db", kind, [kind.records])


def test_positions_are_published_after_the_commit_and_only_when_something_is_new(kind: Kind, tmp_path: Path) -> None:
    store = ReadStore(tmp_path / "read.db")
    seen: list[tuple[int, int]] = []
    make: Any = kind.make
    projector = make(store, published=lambda at: seen.append((at, make(store).position()[0])))
    projector.process(kind.records[:20])
    projector.process(kind.records[:20])
    projector.process(kind.records[15:30])
    assert seen == [(20, 20), (30, 30)]


def test_two_projectors_on_one_file_do_each_entry_once(kind: Kind, tmp_path: Path) -> None:
    store = ReadStore(tmp_path / "read.db")
    errors: list[BaseException] = []

    def run() -> None:
        projector = kind.make(store)
        for start in range(0, len(kind.records), 8):
            try:
                # From the first entry on: whoever comes second sees repeats.
                projector.process(kind.records[: start + 8])
            except ProjectionStopped as error:
                errors.append(error)

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert digest(store, None, kind.source).tables == _digest(tmp_path / "alone.db", kind, [kind.records])


def test_an_event_of_something_never_made_stops_the_projection(tmp_path: Path) -> None:
    for aggregate, event, data in (
        ("Trade", "TradeConfirmed", {"by": "a"}),
        ("Wallet", "WalletFrozen", {"reason": ""}),
        ("Company", "CompanySuspended", {"code": "a", "reason": ""}),
    ):
        record = EntryFactory().add(aggregate, "0193", event, data)
        with pytest.raises(EntryCorrupt, match=f"{event} at position 1"):
            Projector(ReadStore(tmp_path / f"{event}.db")).process([record])
    book = AnchorFactory()
    book.add("AnchorMined", 0, size=1)
    with pytest.raises(EntryCorrupt, match="AnchorMined at position 1"):
        AnchorProjector(ReadStore(tmp_path / "anchors.db")).process(book.records)


def test_a_row_that_the_tables_refuse_undoes_the_batch_and_the_projector_goes_on(tmp_path: Path) -> None:
    made = walk(7, 40)
    records = list(made.factory.records)
    trade = made.trades[0]
    twice = next(entry for _, entry in records if trade.id.encode() in entry)
    start = twice.index(b'"position":')
    forged = twice[:start] + b'"position":41' + twice[twice.index(b",", start) :]
    store = ReadStore(tmp_path / "read.db")
    projector = Projector(store)
    projector.process(records[:30])
    with pytest.raises(sqlite3.IntegrityError):
        projector.process([*records[30:], (41, forged)])
    assert projector.position()[0] == 30
    projector.process(records[30:])
    whole = ReadStore(tmp_path / "whole.db")
    Projector(whole).process(records)
    assert digest(store, 40) == digest(whole, 40)

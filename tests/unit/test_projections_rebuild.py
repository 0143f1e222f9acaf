"""The read models are derived: they can be made again, compared and swapped, and a wrong row is named."""

import sqlite3
from pathlib import Path

import pytest

from projections import rebuild
from projections.anchor_projector import AnchorProjector
from projections.digest import digest
from projections.position import PositionGap, ProjectionStopped
from projections.projector import Projector
from projections.store import ReadStore, StoreOutdated
from tests.entry_factory import walk
from tests.projection_support import AnchorFactory, MemoryLog, projected

RECORDS = walk(71, 200).factory.records


def _anchors() -> AnchorFactory:
    book = AnchorFactory()
    for nonce in range(4):
        book.add("AnchorSubmitted", nonce, size=20 * nonce + 20)
        book.add("AnchorMined", nonce)
    return book


def _live(folder: Path) -> ReadStore:
    store = projected(folder / "read.db", RECORDS[:150], 33, 90)
    AnchorProjector(store, {31337}).process(_anchors().records)
    return store


def _check(live: ReadStore, folder: Path) -> object:
    return rebuild.check(
        live, folder / "scratch.db", MemoryLog(RECORDS), MemoryLog(_anchors().records), embedded_chain_ids={31337}
    )


def test_a_rebuild_equals_the_live_read_models_and_reports_its_progress(tmp_path: Path) -> None:
    live = _live(tmp_path)
    seen: list[tuple[int, int]] = []
    made = rebuild.rebuild(
        tmp_path / "fresh.db", MemoryLog(RECORDS), MemoryLog(_anchors().records), embedded_chain_ids={31337}, up_to=150,
        progressed=lambda done, total: seen.append((done, total)),
    )  # fmt: skip
    assert digest(made, 150) == digest(live, 150)
    assert digest(made, None, "anchors") == digest(live, 8, "anchors")
    assert seen[-1] == (158, 158)
    assert seen == sorted(seen)


def test_a_check_beside_a_growing_service_finds_nothing_and_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = _live(tmp_path)
    follower = Projector(live)
    real = rebuild.replay

    def replay_while_the_service_goes_on(*args: object) -> None:
        follower.process(RECORDS[:160])
        real(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(rebuild, "replay", replay_while_the_service_goes_on)
    assert _check(live, tmp_path) is None
    assert follower.position()[0] == 160
    assert not list(tmp_path.glob("scratch*"))


@pytest.mark.parametrize(
    ("change", "table", "column"),
    [
        ("UPDATE trades SET open = open + 1 WHERE position = (SELECT max(position) FROM trades)", "trades", "open"),
        ("UPDATE entries SET reader = 'spy' WHERE position = 57", "entries", "reader"),
        ("DELETE FROM wallets WHERE position = (SELECT min(position) FROM wallets)", "wallets", None),
        ("UPDATE anchors SET root = 'ff' WHERE nonce = 2", "anchors", "root"),
        ("UPDATE progress SET leaf = x'00' WHERE source = 'anchors'", "progress", "leaf"),
        ("UPDATE postings SET balance = '0' || balance", "postings", "balance"),
    ],
)
def test_a_changed_row_is_named(tmp_path: Path, change: str, table: str, column: str | None) -> None:
    live = _live(tmp_path)
    connection = live.writer()
    assert connection.execute(change).rowcount > 0
    found = _check(live, tmp_path)
    assert isinstance(found, rebuild.Difference)
    assert found.table == table
    if column is not None:
        assert found.live is not None
        assert found.replayed is not None
        assert {name for name in found.live if found.live[name] != found.replayed[name]} == {column}


def test_a_balance_changed_by_hand_is_named(tmp_path: Path) -> None:
    live = _live(tmp_path)
    live.writer().execute("UPDATE balances SET units = units || '0'")
    found = _check(live, tmp_path)
    assert isinstance(found, rebuild.Difference)
    assert found.table == "balances"


def test_read_models_ahead_of_their_log_are_noticed(tmp_path: Path) -> None:
    live = _live(tmp_path)
    with pytest.raises(PositionGap, match="the log ends at 120, 150 was asked for"):
        rebuild.check(live, tmp_path / "scratch.db", MemoryLog(RECORDS[:120]))


def test_a_digest_is_of_the_position_asked_for_or_refused(tmp_path: Path) -> None:
    live = _live(tmp_path)
    with pytest.raises(ProjectionStopped, match="stand at 150, not at 149"):
        digest(live, 149)


def test_an_interrupted_rebuild_is_started_again_from_nothing(tmp_path: Path) -> None:
    class Broken(MemoryLog):
        def read(self, start: int, limit: int) -> list[tuple[int, bytes]]:
            if start > 60:
                raise OSError("disk gone")
            return super().read(start, min(limit, 30))

    path = tmp_path / "fresh.db"
    with pytest.raises(OSError, match="disk gone"):
        rebuild.rebuild(path, Broken(RECORDS))
    made = rebuild.rebuild(path, MemoryLog(RECORDS))
    assert digest(made) == digest(projected(tmp_path / "other.db", RECORDS))


def test_a_swap_puts_the_rebuilt_file_in_the_place_of_the_live_one(tmp_path: Path) -> None:
    live = _live(tmp_path)
    writer = live.writer()
    writer.execute("UPDATE balances SET units = '0'")
    made = rebuild.rebuild(tmp_path / "fresh.db", MemoryLog(RECORDS))
    expected = digest(made)
    live.close()
    rebuild.swap(made, tmp_path / "read.db")
    assert not (tmp_path / "fresh.db").exists()
    assert digest(ReadStore(tmp_path / "read.db")) == expected


def test_a_write_ahead_log_left_by_a_crash_is_not_replayed_into_the_new_file(tmp_path: Path) -> None:
    live = _live(tmp_path)  # stays open: its write-ahead log stays on the disk, as after a kill
    crashed = tmp_path / "crashed"
    crashed.mkdir()
    for suffix in ("", "-wal"):
        source = tmp_path / f"read.db{suffix}"
        (crashed / source.name).write_bytes(source.read_bytes())
    assert (crashed / "read.db-wal").stat().st_size > 0
    made = rebuild.rebuild(crashed / "fresh.db", MemoryLog(RECORDS))
    expected = digest(made)
    rebuild.swap(made, crashed / "read.db")
    assert digest(ReadStore(crashed / "read.db")) == expected
    live.close()


def test_a_swap_is_refused_while_the_live_file_is_in_use(tmp_path: Path) -> None:
    live = _live(tmp_path)
    made = rebuild.rebuild(tmp_path / "fresh.db", MemoryLog(RECORDS))
    with live.snapshot(), pytest.raises(sqlite3.OperationalError):
        rebuild.swap(made, tmp_path / "read.db")
    assert digest(live, 150).position == 150


def test_a_file_of_another_schema_version_is_refused_with_the_way_out(tmp_path: Path) -> None:
    store = ReadStore(tmp_path / "read.db")
    store.writer().execute("PRAGMA user_version = 99")
    store.close()
    with pytest.raises(StoreOutdated, match=r"schema version 99.*rebuild"):
        ReadStore(tmp_path / "read.db")


def test_readers_cannot_write(tmp_path: Path) -> None:
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        ReadStore(tmp_path / "read.db").reader().execute("DELETE FROM trades")

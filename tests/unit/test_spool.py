"""The spool keeps what it has confirmed, whatever happens to the process or the disk; the quarantine bounds itself."""

from pathlib import Path

import pytest

from domain.errors import StorageUnavailable
from storage.quarantine import Quarantine
from storage.spool import Spool


def test_records_are_there_for_the_next_process_oldest_first(tmp_path: Path) -> None:
    times = iter(range(100, 103))
    spool = Spool(tmp_path / "spool", clock=lambda: next(times))
    for record in (b"one", b"two", b"three"):
        spool.put(record)
    again = Spool(tmp_path / "spool")
    assert [again.read(name) for name in again.names()] == [b"one", b"two", b"three"]
    again.remove(again.names()[0])
    assert [again.read(name) for name in again.names()] == [b"two", b"three"]


def test_what_was_half_written_at_a_crash_is_no_record_and_is_cleared_away(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.put(b"whole")
    (tmp_path / "00000000000000000001-ab.part").write_bytes(b"ha")
    again = Spool(tmp_path)
    assert len(again.names()) == 1
    again.put(b"next")
    assert not list(tmp_path.glob("*.part"))


def test_it_takes_no_more_than_its_share_of_the_disk_and_more_again_when_there_is_room(tmp_path: Path) -> None:
    spool = Spool(tmp_path, max_bytes=10)
    spool.put(b"x" * 8)
    with pytest.raises(StorageUnavailable, match="full"):
        spool.put(b"x" * 3)
    with pytest.raises(StorageUnavailable, match="full"):
        Spool(tmp_path, max_bytes=10).put(b"x" * 3)  # counted anew by the next process
    spool.remove(spool.names()[0])
    spool.put(b"x" * 3)


def test_a_disk_that_refuses_is_told_and_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = Spool(tmp_path)

    def refuse(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("storage.spool.os.fsync", refuse)
        with pytest.raises(StorageUnavailable) as error:
            spool.put(b"lost")
    assert error.value.values["reason"] == "No space left on device"
    assert list(tmp_path.iterdir()) == []
    spool.put(b"kept")
    assert len(spool.names()) == 1


def test_what_cannot_be_read_is_set_aside_and_nobody_elses_way(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.put(b"bad")
    spool.put(b"good")
    first = spool.names()[0]
    spool.set_aside(first)
    assert len(spool.names()) == 1
    assert (tmp_path / f"{first}.damaged").exists()
    with pytest.raises(StorageUnavailable):
        spool.read(first)
    spool.remove("nothing of that name")


def test_records_can_be_read_by_their_owner_alone(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    spool.put(b"record")
    assert (tmp_path / "spool").stat().st_mode & 0o077 == 0
    assert next((tmp_path / "spool").iterdir()).stat().st_mode & 0o077 == 0


def test_the_quarantine_takes_its_hours_share_and_drops_the_oldest(tmp_path: Path) -> None:
    clock = [0.0]
    quarantine = Quarantine(tmp_path, max_samples=3, an_hour=2, clock=lambda: clock[0])
    for hour in range(3):
        clock[0] = hour * 3_600.0
        for number in range(4):
            if quarantine.wants():
                quarantine.keep(b"%d.%d" % (hour, number))
    assert quarantine.samples() == [b"1.1", b"2.0", b"2.1"]


def test_a_sample_that_cannot_be_kept_harms_nobody(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_bytes(b"")
    Quarantine(blocked / "folder").keep(b"sample")

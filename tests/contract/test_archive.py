"""One contract for the archive of stores' messages: segment files on one machine, a topic of a real Kafka elsewhere."""

import asyncio
import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cli.checking.archive import check_archive, reverify_archive
from domain.errors import StorageUnavailable
from storage.archive import ArchiveDamaged, ArchiveInUse, SegmentArchive, decode_parcel, encode_parcel
from storage.parcels import SqliteParcels, StoredParcel
from stores.apple.verify import AppleApp, AppleVerifier
from stores.receive import OwnerErased
from stores.reverify import Reverifier
from streams.archive_topic import InboxFeed, ParcelRecords, TopicArchive
from streams.archiver import Archiver
from streams.topic_reader import TopicLog, open_topic
from streams.topic_record import RecordRefused
from tests import google_pushes
from tests.apple_payloads import APP_ID, BUNDLE
from tests.kafka_broker import KafkaBroker, NamedBroker
from tests.store_house import StoreHouse, store_house
from tests.topic_support import MemoryPartition, new_topic, raw, running, wait_for

Broker = KafkaBroker | NamedBroker
SILENT = lambda *_: None  # noqa: E731 nobody watches


def row(number: int, size: int = 100) -> StoredParcel:
    """A row of an inbox."""
    sealed = hashlib.sha256(b"%d" % number).digest() * (1 + size // 32)
    payload = hashlib.sha256(sealed).hexdigest()
    return StoredParcel(number, number * 3, payload, f"owner-{number % 3}", sealed, b'{"received_at":1}', b"{}")


class Inbox:
    """An inbox in memory."""

    def __init__(self, count: int, size: int = 100) -> None:
        self.rows = [row(number, size) for number in range(1, count + 1)]

    def head(self) -> int:
        return len(self.rows)

    def read(self, start: int, limit: int) -> list[StoredParcel]:
        return self.rows[start - 1 : start - 1 + limit]


class Segments:
    """The archive in files."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def fill(self, inbox: Inbox) -> None:
        archive = SegmentArchive(self.path, max_segment_bytes=20_000)
        at = archive.head()
        while rows := inbox.read(at + 1, 7):
            archive.append(rows)
            at = rows[-1].number
        archive.close()

    def reader(self) -> Any:
        return SegmentArchive(self.path, writable=False)


class Topic:
    """The archive in Kafka, written by the relay."""

    def __init__(self, broker: Broker) -> None:
        self.bootstrap, self.topic = broker.bootstrap, new_topic(broker.bootstrap, "notifications")
        self.open: list[Any] = []

    def fill(self, inbox: Inbox) -> None:
        feed = InboxFeed(inbox)
        with running(self.bootstrap, self.topic, feed, records=ParcelRecords()) as relay:
            wait_for(lambda: relay.status().position >= inbox.head(), f"not archived: {relay.status()}")

    def reader(self) -> Any:
        context = open_topic(self.bootstrap, self.topic, ParcelRecords())
        self.open.append(context)
        return TopicArchive(TopicLog(context.__enter__()))


@pytest.fixture(params=["segments", "topic"])
def archive(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    if request.param == "segments":
        yield Segments(tmp_path / "archive")
        return
    made = Topic(request.getfixturevalue("broker"))
    yield made
    for context in made.open:
        context.__exit__(None, None, None)


def test_the_archive_gives_back_every_row_as_it_was_in_order_and_from_anywhere(archive: Any) -> None:
    inbox = Inbox(500)
    archive.fill(inbox)
    reader = archive.reader()
    assert reader.head() == 500
    assert reader.read(1, 1_000) == inbox.rows
    assert reader.read(123, 10) == inbox.rows[122:132]
    assert reader.read(501, 10) == []


def test_an_empty_archive_is_one(archive: Any) -> None:
    archive.fill(Inbox(0))
    reader = archive.reader()
    assert (reader.head(), reader.read(1, 10)) == (0, [])


def test_what_comes_later_is_added_behind_and_nothing_twice(archive: Any) -> None:
    for count in (20, 20, 50):
        archive.fill(Inbox(count))
    assert archive.reader().read(1, 100) == Inbox(50).rows


def test_a_message_of_the_largest_size_passes(archive: Any) -> None:
    inbox = Inbox(2, size=1_050_000)
    archive.fill(inbox)
    assert archive.reader().read(1, 10) == inbox.rows


def test_rows_are_always_the_same_bytes_and_others_are_refused() -> None:
    assert decode_parcel(encode_parcel(row(1))) == row(1)
    assert encode_parcel(row(1)) == encode_parcel(row(1))
    for bad in (b"", b"\x90", encode_parcel(row(1))[:-1], b"{}"):
        with pytest.raises(ValueError, match="not a record"):
            decode_parcel(bad)


# -- segments ---------------------------------------------------------------------------------------------------------


def test_a_torn_tail_is_cut_off_wherever_the_crash_was(tmp_path: Path) -> None:
    folder = tmp_path / "archive"
    Segments(folder).fill(Inbox(3))
    (file,) = folder.glob("*.segment")
    whole = file.read_bytes()
    third = len(whole) * 2 // 3
    for end in range(third + 1, len(whole), 7):
        file.write_bytes(whole[:end])
        archive = SegmentArchive(folder)
        assert archive.head() == 2
        assert len(archive.read(1, 10)) == 2
        archive.append([row(3)])
        archive.close()
        assert file.read_bytes() == whole


@pytest.mark.parametrize("at", [40, 60, 150])
def test_a_changed_byte_is_noticed(tmp_path: Path, at: int) -> None:
    folder = tmp_path / "archive"
    Segments(folder).fill(Inbox(3))
    (file,) = folder.glob("*.segment")
    data = bytearray(file.read_bytes())
    data[at] ^= 1
    file.write_bytes(data)
    with pytest.raises(ArchiveDamaged):
        SegmentArchive(folder)
    with pytest.raises(ArchiveDamaged):
        SegmentArchive(folder, writable=False).read(1, 10)


def test_a_length_that_cannot_be_is_noticed(tmp_path: Path) -> None:
    folder = tmp_path / "archive"
    Segments(folder).fill(Inbox(1))
    (file,) = folder.glob("*.segment")
    file.write_bytes(b"\xff" * 4 + file.read_bytes()[4:])
    with pytest.raises(ArchiveDamaged, match="bytes behind"):
        SegmentArchive(folder)


def test_a_segment_that_ends_early_before_others_is_noticed(tmp_path: Path) -> None:
    folder = tmp_path / "archive"
    Segments(folder).fill(Inbox(300))
    first = min(folder.glob("*.segment"))
    first.write_bytes(first.read_bytes()[:-5])
    with pytest.raises(ArchiveDamaged):
        SegmentArchive(folder)


def test_a_gap_is_refused_and_a_second_writer_too(tmp_path: Path) -> None:
    archive = SegmentArchive(tmp_path)
    with pytest.raises(ArchiveDamaged, match="number 2 where 1 was due"):
        archive.append([row(2)])
    with pytest.raises(ArchiveInUse):
        SegmentArchive(tmp_path)
    assert SegmentArchive(tmp_path, writable=False).head() == 0
    archive.close()
    SegmentArchive(tmp_path).close()


def test_a_full_disk_loses_nothing_and_goes_on_when_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = SegmentArchive(tmp_path)
    archive.append([row(1)])

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("storage.archive.os.fsync", full)
        with pytest.raises(StorageUnavailable) as error:
            archive.append([row(2), row(3)])
    assert error.value.values["reason"] == "No space left on device"
    head = archive.head()
    archive.append([row(number) for number in range(head + 1, 4)])
    assert archive.read(1, 10) == Inbox(3).rows
    archive.close()


KILLED = """
import sys
from pathlib import Path
sys.path.insert(0, ".")
from tests.contract.test_archive import row
from storage.archive import SegmentArchive
archive = SegmentArchive(Path(sys.argv[1]), max_segment_bytes=5_000)
number = archive.head()
while True:
    archive.append([row(number + 1), row(number + 2)])
    number += 2
    print(number, flush=True)
"""


def test_what_was_told_to_be_archived_is_there_after_a_kill(tmp_path: Path) -> None:
    told = 0
    for _ in range(3):
        with subprocess.Popen(
            [sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            until = time.monotonic() + 5
            while time.monotonic() < until and told % 40 != 38:
                told = int(process.stdout.readline())
            told = int(process.stdout.readline())
            process.send_signal(signal.SIGKILL)
            rest = process.stdout.read().split()
            told = int(rest[-1]) if rest and rest[-1].isdigit() else told
    archive = SegmentArchive(tmp_path)
    assert archive.head() >= told > 0
    assert archive.read(1, 10_000) == [row(number) for number in range(1, archive.head() + 1)]
    archive.close()


# -- the topic's records ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [{"value": None}, {"value": b"no row"}, {"key": b"other"}, {"headers": []}, {"value": encode_parcel(row(2))}],
)
def test_a_record_that_the_relay_has_not_written_is_refused(changes: dict[str, Any]) -> None:
    records = ParcelRecords()
    wire = records.encode(1, row(1))
    assert decode_parcel(records.decode(raw(wire, 0)).entry) == row(1)
    with pytest.raises(RecordRefused):
        records.decode(raw(wire, 0, **changes))
    with pytest.raises(ValueError, match="says 1"):
        records.encode(2, row(1))


def test_a_record_whose_ciphertext_was_exchanged_is_refused() -> None:
    forged = row(1)._replace(sealed=b"other")
    wire = ParcelRecords().encode(1, forged)
    with pytest.raises(RecordRefused, match="another hash"):
        ParcelRecords().decode(raw(wire, 0))
    assert MemoryPartition([]).bounds() == (0, 0)


# -- the archiver -----------------------------------------------------------------------------------------------------


def archive_all(inbox: Any, folder: Path, until: int) -> Archiver:
    async def run() -> Archiver:
        archiver = Archiver(inbox, lambda: SegmentArchive(folder))
        await archiver.start()
        archiver.wake()
        for _ in range(200):
            if archiver.status().position >= until or archiver.status().state != "running":
                break
            await asyncio.sleep(0.01)
        await archiver.stop()
        return archiver

    return asyncio.run(run())


def test_the_archiver_copies_what_there_is_and_goes_on_from_the_archives_own_end(tmp_path: Path) -> None:
    assert archive_all(Inbox(10), tmp_path, 10).status().state == "ended"
    assert archive_all(Inbox(25), tmp_path, 25).status().position == 25
    assert SegmentArchive(tmp_path, writable=False).read(1, 100) == Inbox(25).rows


def test_the_archiver_stops_at_an_archive_that_is_ahead(tmp_path: Path) -> None:
    archive_all(Inbox(10), tmp_path, 10)
    status = archive_all(Inbox(9), tmp_path, 10).status()
    assert status.state == "stopped"
    assert "the archive ends at number 10, the inbox at 9" in status.error


def test_the_archiver_waits_for_a_disk_that_refuses(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    assert archive_all(Inbox(1), tmp_path / "file" / "archive", 1).status().state == "failed"


# -- archive, inbox and log -------------------------------------------------------------------------------------------


@pytest.fixture
def at(tmp_path: Path) -> Iterator[StoreHouse]:
    with store_house(tmp_path) as house:
        house.post_apple(house.apple_body())
        house.post_google()
        yield house


def checked(at: StoreHouse) -> tuple[list[str], dict[str, int]]:
    archive_all(at.parcels, at.folder / "archive", at.parcels.head())
    report = check_archive(at.house.entries, at.parcels, SegmentArchive(at.folder / "archive", writable=False), SILENT)
    return [f"{finding.part}: {finding.what}" for finding in report.findings], report.looked_at


def sql(at: StoreHouse, statement: str) -> None:
    import sqlite3

    with sqlite3.connect(at.folder / "ledger.db") as connection:
        connection.execute(statement)


def test_what_agrees_is_counted(at: StoreHouse) -> None:
    assert checked(at) == ([], {"log": 2, "inbox": 2, "archive": 2})


def test_a_row_that_was_changed_after_it_was_archived_is_named(at: StoreHouse) -> None:
    checked(at)
    sql(at, "UPDATE stored_events_parcels SET headers = x'7b7d' WHERE number = 2")
    assert checked(at)[0] == ["archive: number 2 is changed: headers"]


def test_a_ciphertext_that_was_exchanged_is_named(at: StoreHouse) -> None:
    checked(at)
    sql(at, "UPDATE stored_events_parcels SET sealed = x'00' WHERE number = 1")
    assert checked(at)[0][0] == "inbox: number 1: the ciphertext has another hash"


def test_a_row_that_was_taken_out_is_named(at: StoreHouse) -> None:
    checked(at)
    sql(at, "DELETE FROM stored_events_parcels WHERE number = 1")
    found = checked(at)[0]
    assert "inbox: numbers 1 to 1 are missing" in found
    assert any("payload" in line and "is missing" in line for line in found)


def test_a_row_that_the_log_does_not_name_is_named(at: StoreHouse) -> None:
    sql(at, "UPDATE stored_events_parcels SET payload = 'ab', position = 2 WHERE number = 2")
    assert any("the log names no such payload" in line for line in checked(at)[0])


def test_a_row_that_came_twice_is_named(at: StoreHouse) -> None:
    sql(
        at,
        "INSERT INTO stored_events_parcels SELECT 3, position, payload, owner, sealed, headers, proof "
        "FROM stored_events_parcels WHERE number = 2",
    )
    assert any("number 3 doubles number 2" in line for line in checked(at)[0])


def test_every_signature_is_verified_once_more_and_the_erased_are_counted(at: StoreHouse) -> None:
    archive_all(at.parcels, at.folder / "archive", 2)
    apple = AppleVerifier(
        AppleApp(BUNDLE, APP_ID), [at.ca.root.der], online=False, max_age_seconds=None,
        now=lambda: time.time() + 400 * 86_400,  # the leaf has expired by then, and so has Google's token
    )  # fmt: skip
    reverifier = Reverifier(apple, google_pushes.APP)

    def opened(owner: str, sealed: bytes) -> bytes:
        from chain.vault import KeyErasedError

        try:
            return at.keys.open(owner, sealed)
        except KeyErasedError:
            raise OwnerErased(owner) from None

    def again(verifier: Reverifier) -> tuple[list[str], dict[str, int]]:
        archive = SegmentArchive(at.folder / "archive", writable=False)
        report = reverify_archive(archive, opened, verifier, SILENT)
        return [finding.what for finding in report.findings], report.looked_at

    assert again(reverifier) == ([], {"signatures": 2})
    nobody = again(Reverifier(None, None))[0]
    assert nobody == ["number 1: the App Store is not set up here", "number 2: no key to verify it with"]
    at.keys.erase(at.parcels.read(1, 1)[0].owner)
    assert again(reverifier) == ([], {"erased": 1, "signatures": 1})


def test_the_command_says_that_all_is_well_and_what_is_not(at: StoreHouse, tmp_path: Path) -> None:
    archive_all(at.parcels, tmp_path / "archive", 2)
    command = [sys.executable, "-m", "cli.main", "archive", "verify", "--data", str(tmp_path)]
    well = subprocess.run(command, capture_output=True, text=True, env={**os.environ}, check=False)
    assert (well.returncode, "Nothing is missing, doubled or changed" in well.stderr) == (0, True)
    sql(at, "UPDATE stored_events_parcels SET proof = x'00' WHERE number = 2")
    ill = subprocess.run([*command, "--json"], capture_output=True, text=True, env={**os.environ}, check=False)
    assert (ill.returncode, "number 2 is changed: proof" in ill.stdout) == (1, True)
    nothing = subprocess.run(
        [*command[:-1], str(tmp_path / "nowhere")], capture_output=True, text=True, env={**os.environ}, check=False
    )
    assert nothing.returncode == 2
    assert SqliteParcels(tmp_path / "ledger.db").head() == 2

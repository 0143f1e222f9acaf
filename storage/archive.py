"""The archive of what came from outside, on one machine: append-only segment files, each record chained to the last.

    4 bytes length | 32 bytes SHA-256 of the hash before it and the record | the record

A record counts as archived once it is on disk. A crash in the middle of one leaves a torn tail, which is cut off when
the archive is opened: nobody was told that it was there. Closed segments are never written again. The records are
ciphertext as in the inbox (`storage.parcels`), so destroying a key erases them here, too, while every hash still holds.
"""

import fcntl
import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Final

import msgspec

from domain.errors import StorageUnavailable
from storage.parcels import StoredParcel
from storage.spool import sync_folder

MAX_SEGMENT_BYTES: Final = 64 * 1024 * 1024
MAX_RECORD_BYTES: Final = 4 * 1024 * 1024
_SUFFIX: Final = ".segment"
_LENGTH: Final = 4
_HASH: Final = 32
_BEGIN: Final = b"\0" * _HASH
Row = tuple[int, int, str, str, bytes, bytes, bytes]
_decode: Final = msgspec.msgpack.Decoder(Row).decode


class ArchiveDamaged(Exception):
    """A segment is not as it was written: stop, and compare with the inbox (`daicho archive verify`)."""


class ArchiveInUse(Exception):
    """Another process writes to this archive."""


def encode_parcel(parcel: StoredParcel) -> bytes:
    """A record of the archive, on disk and in the topic: always the same bytes for the same row."""
    return msgspec.msgpack.encode(tuple(parcel))


def decode_parcel(record: bytes) -> StoredParcel:
    """The row of a record. Raises ValueError for anything else."""
    try:
        return StoredParcel(*_decode(record))
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise ValueError(f"not a record of the archive: {error}") from None


class SegmentArchive:
    """The segments of a folder. One writer, told by a lock; from one thread at a time.

    Raises StorageUnavailable when the disk refuses, ArchiveDamaged for what was altered, ArchiveInUse.
    """

    def __init__(self, folder: Path, *, max_segment_bytes: int = MAX_SEGMENT_BYTES, writable: bool = True) -> None:
        self._folder, self._max_bytes = folder, max_segment_bytes
        self._lock: IO[bytes] | None = None
        self._last, self._chain = 0, _BEGIN
        self._file: IO[bytes] | None = None
        self._size = 0
        if writable:
            self._open()

    def head(self) -> int:
        """The number of the last record, 0 in an empty archive."""
        return self._last if self._lock is not None else max((row.number for row in self._rows()), default=0)

    def append(self, parcels: Sequence[StoredParcel]) -> None:
        """Archive rows of the inbox, which follow the last one without a gap; on disk on return."""
        framed = bytearray()
        last, chain = self._last, self._chain
        for parcel in parcels:
            if parcel.number != last + 1:
                raise ArchiveDamaged(f"number {parcel.number} where {last + 1} was due")
            record = encode_parcel(parcel)
            chain = hashlib.sha256(chain + record).digest()
            framed += len(record).to_bytes(_LENGTH, "big") + chain + record
            last = parcel.number
        try:
            file = self._segment(self._last + 1)
            file.write(framed)
            file.flush()
            os.fsync(file.fileno())
        except OSError as error:
            self._give_up()
            raise StorageUnavailable("the archive cannot be written", reason=error.strerror or "") from error
        self._last, self._chain = last, chain
        self._size += len(framed)

    def read(self, start: int, limit: int) -> list[StoredParcel]:
        """At most so many rows from a number on, ascending, each checked against the chain."""
        found: list[StoredParcel] = []
        for row in self._rows(start):
            if row.number >= start:
                found.append(row)
            if len(found) >= limit:
                break
        return found

    def close(self) -> None:
        """Close the files."""
        for each in (self._file, self._lock):
            if each is not None:
                each.close()
        self._file = self._lock = None

    # -- inside ------------------------------------------------------------------------------------------------------

    def _segments(self) -> list[Path]:
        return sorted(self._folder.glob(f"*{_SUFFIX}"))

    def _open(self) -> None:
        """Take the lock, find the end, cut off what a crash has left there."""
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = (self._folder / "lock").open("ab")
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ArchiveInUse(f"{self._folder} is in use by another process") from None
        except OSError as error:
            raise StorageUnavailable("the archive cannot be opened", reason=error.strerror or "") from error
        self._find_end()

    def _find_end(self) -> None:
        self._last, self._chain = 0, _BEGIN
        segments = self._segments()
        for segment in segments:
            whole = 0
            for row, chain, end in _records(segment.read_bytes(), self._chain, self._last):
                self._last, self._chain, whole = row.number, chain, end
            if whole < segment.stat().st_size:
                if segment is not segments[-1]:
                    raise ArchiveDamaged(f"{segment.name} ends in the middle of a record, and is not the last segment")
                os.truncate(segment, whole)
        self._size = segments[-1].stat().st_size if segments else 0

    def _segment(self, number: int) -> IO[bytes]:
        """The file that is written to, a new one when the last is full."""
        if self._file is not None and self._size < self._max_bytes:
            return self._file
        segments = self._segments()
        full = not segments or segments[-1].stat().st_size >= self._max_bytes
        path = self._folder / f"{number:020d}{_SUFFIX}" if full else segments[-1]
        if self._file is not None:
            self._file.close()
        path.touch(mode=0o600)
        self._file = path.open("ab")
        self._size = path.stat().st_size
        sync_folder(self._folder)
        return self._file

    def _give_up(self) -> None:
        """What may have been written in part is cut off before the next attempt."""
        if self._file is not None:
            self._file.close()
            self._file = None
        self._find_end()

    def _rows(self, start: int = 1) -> Iterator[StoredParcel]:
        """All rows from the segment on in which `start` is; the chain is checked from there on."""
        segments = self._segments()
        first = max((i for i, each in enumerate(segments) if int(each.stem) <= start), default=0)
        chain: bytes | None = _BEGIN if first == 0 else None
        for segment in segments[first:]:
            last = int(segment.stem) - 1
            for row, after, _ in _records(segment.read_bytes(), chain, last):
                chain = after
                yield row


def _records(data: bytes, chain: bytes | None, last: int) -> Iterator[tuple[StoredParcel, bytes, int]]:
    """The whole records of a segment, the hash after each, where it ends. `chain` None: unknown, so not compared."""
    at = 0
    while at + _LENGTH + _HASH <= len(data):
        length = int.from_bytes(data[at : at + _LENGTH], "big")
        begin = at + _LENGTH + _HASH
        if length > MAX_RECORD_BYTES:
            raise ArchiveDamaged(f"a record of {length} bytes behind number {last}")
        if begin + length > len(data):
            return
        record, told = data[begin : begin + length], data[at + _LENGTH : begin]
        if chain is not None and hashlib.sha256(chain + record).digest() != told:
            raise ArchiveDamaged(f"the record behind number {last} is not as it was written")
        try:
            row = decode_parcel(record)
        except ValueError as error:
            raise ArchiveDamaged(str(error)) from None
        if row.number != last + 1:
            raise ArchiveDamaged(f"number {row.number} where {last + 1} was due")
        chain, last, at = told, row.number, begin + length
        yield row, told, at

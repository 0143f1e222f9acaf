"""Reads a table as a company's spreadsheet writes it: encodings, byte order marks, separators, line ends."""

import codecs
import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

MAX_FILE_BYTES: Final = 512 * 1024 * 1024
_SAMPLE_CHARACTERS: Final = 16_384
_BYTE_ORDER_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_PRIVATE_USE: Final = re.compile("[\ue000-\uf8ff]")
_FALLBACKS: Final = ("utf-8", "cp932", "cp1252")  # cp932 is Japanese Excel's; it refuses most western text


class TableError(Exception):
    """The file cannot be read as a table; one line says why."""


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table: its number in the file (the header is line 1) and its cells by header."""

    line: int
    cells: dict[str, str]
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """What was recognised of a file, and its text."""

    encoding: str
    separator: str
    headers: tuple[str, ...]
    text: str

    def rows(self) -> Iterator[Row]:
        """Every line that is not empty, with a problem where its cells do not fit the headers."""
        reader = csv.reader(io.StringIO(self.text, newline=""), delimiter=self.separator, strict=True)
        next(reader)
        while True:
            start = reader.line_num + 1
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                # a quote that is not closed in time takes the lines after it along: they are named, then it goes on
                until = f", with all lines up to {reader.line_num}" if reader.line_num > start else ""
                yield Row(start, {}, f"not a CSV line{until}: {error}")
                continue
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) != len(self.headers):
                yield Row(start, {}, f"{len(cells)} cells, the header has {len(self.headers)}")
                continue
            yield Row(start, {name: cell.strip() for name, cell in zip(self.headers, cells, strict=True)})


def read_table(path: Path, encoding: str = "auto") -> Table:
    """Read a CSV file. Raises TableError for what is no table."""
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise TableError(f"{path.name} is larger than {MAX_FILE_BYTES} bytes; split it")
        raw = path.read_bytes()
    except OSError as error:
        raise TableError(f"{path}: {error.strerror}") from None
    text, used = _decode(raw, encoding)
    if "\x00" in text:
        raise TableError(f"{path.name} holds NUL characters; it is not a text table")
    separator = _separator(text)
    try:
        headers = tuple(
            name.strip() for name in next(csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True))
        )
    except (StopIteration, csv.Error):
        raise TableError(f"{path.name} has no header line") from None
    if len(set(headers)) != len(headers) or not any(headers):
        raise TableError(f"{path.name}: every column needs a header of its own")
    return Table(used, separator, headers, text)


def _decode(raw: bytes, encoding: str) -> tuple[str, str]:
    if encoding != "auto":
        try:
            return raw.decode(encoding), encoding
        except (LookupError, UnicodeDecodeError) as error:
            raise TableError(f"the file is not {encoding}: {error}") from None
    for mark, name in _BYTE_ORDER_MARKS:
        if raw.startswith(mark):
            try:
                return raw.decode(name), name
            except UnicodeDecodeError as error:
                raise TableError(f"the file begins as {name} but is not: {error}") from None
    for name in _FALLBACKS:
        try:
            text = raw.decode(name)
        except UnicodeDecodeError:
            continue
        # some western text is valid cp932, but only by way of characters that no table means
        if not _PRIVATE_USE.search(text):
            return text, name
    raise TableError(f"the file is none of {', '.join(_FALLBACKS)}; name its encoding")


def _separator(text: str) -> str:
    """The separator that splits the header into most cells: comma, semicolon or tab."""
    header = text[:_SAMPLE_CHARACTERS].lstrip("\r\n").splitlines()[:1]
    return max(",;\t", key=header[0].count) if header else ","

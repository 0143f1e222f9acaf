"""Maps a table's columns to a trade's fields, and a row to a `RecordTrade` command."""

import datetime as dt
import hashlib
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from cli.importing.table import Row, TableError
from domain.commands import RecordTrade
from domain.errors import Malformed
from domain.money import Money

REQUIRED: Final = ("reference", "seller", "buyer", "amount", "currency", "traded_on", "due_on")
OPTIONAL: Final = ("description",)
# headers that spreadsheets use; compared without case, spaces, hyphens and underscores
SYNONYMS: Final[Mapping[str, tuple[str, ...]]] = {
    "reference": ("reference", "ref", "invoice", "invoiceno", "invoicenumber", "number", "請求書番号", "伝票番号"),
    "seller": ("seller", "supplier", "vendor", "from", "売主", "売り手"),
    "buyer": ("buyer", "customer", "client", "to", "買主", "買い手"),
    "amount": ("amount", "total", "sum", "金額", "合計"),
    "currency": ("currency", "ccy", "通貨"),
    "traded_on": ("tradedon", "tradedate", "date", "invoicedate", "取引日", "請求日", "日付"),
    "due_on": ("dueon", "duedate", "due", "支払期日", "期日"),
    "description": ("description", "text", "memo", "note", "摘要", "内容"),
}
_CURRENCY_SIGNS: Final = re.compile("[¥円$€£ ]")
_SWAPPED: Final = str.maketrans(",.", ".,")
_DATE_FORMATS: Final = ("%Y-%m-%d", "%Y/%m/%d", "%Y.%m.%d", "%d.%m.%Y")


@dataclass(frozen=True, slots=True)
class ImportLine:
    """A line ready to be sent: its number, its command key and its command."""

    line: int
    key: str
    command: dict[str, Any]


def find_columns(headers: tuple[str, ...], given: Mapping[str, str]) -> dict[str, str]:
    """The column of every field: as `given` (field → header), else by a header that is known to mean it."""
    folded = {_fold(header): header for header in headers}
    columns: dict[str, str] = {}
    for field, header in given.items():
        if field not in (*REQUIRED, *OPTIONAL):
            raise TableError(f"there is no field {field!r}; fields are {', '.join((*REQUIRED, *OPTIONAL))}")
        if header not in headers:
            raise TableError(f"there is no column {header!r}; columns are {', '.join(headers)}")
        columns[field] = header
    for field in (*REQUIRED, *OPTIONAL):
        if field not in columns:
            found = next((folded[name] for name in SYNONYMS[field] if name in folded), None)
            if found is not None:
                columns[field] = found
    missing = [field for field in REQUIRED if field not in columns]
    if missing:
        raise TableError(
            f"no column for {', '.join(missing)}; columns are {', '.join(headers)} (name one with --map FIELD=COLUMN)"
        )
    return columns


def to_line(row: Row, columns: Mapping[str, str], *, decimal_comma: bool = False) -> ImportLine | str:
    """The command of a row, or why the row cannot be one."""
    if row.problem:
        return row.problem
    cells = {field: row.cells[column] for field, column in columns.items()}
    empty = [field for field in REQUIRED if not cells[field]]
    if empty:
        return f"{', '.join(empty)} is empty"
    amount = _CURRENCY_SIGNS.sub("", unicodedata.normalize("NFKC", cells["amount"]))
    if decimal_comma:
        amount = amount.translate(_SWAPPED)
    try:
        money = Money.parse(cells["currency"].upper(), amount)
        body = {
            "command": "RecordTrade",
            "reference": cells["reference"],
            "seller": cells["seller"],
            "buyer": cells["buyer"],
            "amount": msgspec.to_builtins(money),
            "traded_on": _date(cells["traded_on"], "traded_on"),
            "due_on": _date(cells["due_on"], "due_on"),
            "description": cells.get("description", ""),
        }
        msgspec.convert(body, RecordTrade)
    except Malformed as error:
        return f"{error.values.get('field', 'line')}: {error.message}"
    except msgspec.ValidationError as error:
        return str(error)
    digest = hashlib.sha256(msgspec.json.encode(body, order="sorted")).hexdigest()
    return ImportLine(row.line, f"import-{digest[:40]}", body)


def _date(text: str, field: str) -> str:
    for form in _DATE_FORMATS:
        try:
            return dt.datetime.strptime(text, form).date().isoformat()  # noqa: DTZ007 a calendar day has no zone
        except ValueError:
            continue
    raise Malformed(f"{text!r} is no date (2026-01-31, 2026/01/31 or 31.01.2026)", field=field, rule="a date")


def _fold(header: str) -> str:
    return header.casefold().replace(" ", "").replace("_", "").replace("-", "").replace(".", "")

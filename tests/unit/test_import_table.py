"""Reading a company's table: whatever its spreadsheet wrote, and why a line cannot be a trade."""

import codecs
from pathlib import Path

import pytest

from cli.importing.importer import Outcome, prepare
from cli.importing.mapping import REQUIRED, ImportLine, find_columns, to_line
from cli.importing.table import Row, TableError, read_table

HEADER = "reference,seller,buyer,amount,currency,traded_on,due_on,description"
COLUMNS = {name: name for name in HEADER.split(",")}
CELLS = {
    "reference": "R-1", "seller": "aozora", "buyer": "berger", "amount": "1,234.50", "currency": "EUR",
    "traded_on": "2026-11-20", "due_on": "2026-12-20", "description": "tea",
}  # fmt: skip


def table_of(tmp_path: Path, raw: bytes, encoding: str = "auto"):  # noqa: ANN201
    file = tmp_path / "table.csv"
    file.write_bytes(raw)
    return read_table(file, encoding)


@pytest.mark.parametrize(
    ("encoding", "mark", "recognised"),
    [
        ("utf-8", b"", "utf-8"),
        ("utf-8", codecs.BOM_UTF8, "utf-8-sig"),
        ("utf-16-le", codecs.BOM_UTF16_LE, "utf-16"),
        ("utf-16-be", codecs.BOM_UTF16_BE, "utf-16"),
        ("cp932", b"", "cp932"),
    ],
)
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_headers_and_cells_are_read_in_every_encoding_and_with_every_line_end(
    tmp_path: Path, encoding: str, mark: bytes, recognised: str, line_end: str
) -> None:
    text = line_end.join(["請求書番号,摘要", "R-1,抹茶 一級", "", "R-2,海苔", ""])
    table = table_of(tmp_path, mark + text.encode(encoding))
    assert (table.encoding, table.separator, table.headers) == (recognised, ",", ("請求書番号", "摘要"))
    assert [(row.line, row.cells["摘要"]) for row in table.rows()] == [(2, "抹茶 一級"), (4, "海苔")]


def test_western_text_of_windows_is_recognised(tmp_path: Path) -> None:
    table = table_of(tmp_path, "reference;description\r\nR-1;Fräsmaschine für Köln, 5 €\r\n".encode("cp1252"))
    assert (table.encoding, table.separator) == ("cp1252", ";")
    assert next(table.rows()).cells["description"] == "Fräsmaschine für Köln, 5 €"


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_separators_quotes_and_line_breaks_in_cells_are_understood(tmp_path: Path, separator: str) -> None:
    cell = f'3 boxes{separator} "fragile"\nupper shelf'
    quoted = '"' + cell.replace('"', '""') + '"'
    lines = [
        separator.join(["reference", "description"]),
        separator.join(["R-1", quoted]),
        separator.join(["R-2", "x"]),
    ]
    table = table_of(tmp_path, "\r\n".join(lines).encode())
    assert table.separator == separator
    assert [(row.line, row.cells["description"]) for row in table.rows()] == [(2, cell), (4, "x")]


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"", "has no header line"),
        (b"\n\n", "every column needs a header"),
        (b"a,a\n1,2\n", "every column needs a header of its own"),
        (b"reference\x00,b\n", "NUL"),
        (b'"reference\nR-1\n', "has no header line"),
        (codecs.BOM_UTF16_LE + b"a", "begins as utf-16 but is not"),
        ("a,b\n".encode("utf-16-le"), "NUL"),
    ],
)
def test_what_is_no_table_is_one_clear_line(tmp_path: Path, raw: bytes, said: str) -> None:
    with pytest.raises(TableError, match=said) as refused:
        table_of(tmp_path, raw)
    assert "\n" not in str(refused.value)


def test_a_file_that_is_not_there_or_not_of_the_encoding_named_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="No such file"):
        read_table(tmp_path / "none.csv")
    with pytest.raises(TableError, match="is not ascii"):
        table_of(tmp_path, "a,ä\n".encode(), "ascii")
    with pytest.raises(TableError, match="is not klingon"):
        table_of(tmp_path, b"a,b\n", "klingon")


def test_a_line_with_too_few_or_too_many_cells_is_refused_alone(tmp_path: Path) -> None:
    rows = list(table_of(tmp_path, b"a,b\n1,2\n3\n4,5,6\n7,8\n").rows())
    assert [(row.line, row.problem) for row in rows] == [
        (2, ""), (3, "1 cells, the header has 2"), (4, "3 cells, the header has 2"), (5, ""),
    ]  # fmt: skip


def test_a_broken_quote_costs_its_line_and_says_which_others_it_took_along(tmp_path: Path) -> None:
    rows = list(table_of(tmp_path, b'a,b\n1,2\n"3"x,4\n5,6\n').rows())
    assert [(row.line, row.problem[:14]) for row in rows] == [(2, ""), (3, "not a CSV line"), (4, "")]
    unclosed = list(table_of(tmp_path, b'a,b\n1,2\n"3,4\n5,6\n7,8\n').rows())
    assert [row.line for row in unclosed] == [2, 3]
    assert "with all lines up to 5" in unclosed[1].problem


# -- columns ----------------------------------------------------------------------------------------------------------


def test_columns_are_found_by_the_headers_that_spreadsheets_use() -> None:
    assert find_columns(("Invoice No", "Supplier", "CLIENT", "Total", "ccy", "Invoice-Date", "due date"), {}) == {
        "reference": "Invoice No", "seller": "Supplier", "buyer": "CLIENT", "amount": "Total", "currency": "ccy",
        "traded_on": "Invoice-Date", "due_on": "due date",
    }  # fmt: skip
    japanese = ("請求書番号", "売主", "買主", "金額", "通貨", "取引日", "支払期日", "摘要")
    assert list(find_columns(japanese, {}).values()) == list(japanese)


def test_a_column_named_by_hand_wins_over_one_that_was_recognised() -> None:
    headers = (*HEADER.split(","), "gross")
    assert find_columns(headers, {"amount": "gross"})["amount"] == "gross"


@pytest.mark.parametrize(
    ("headers", "given", "said"),
    [
        (("reference", "seller"), {}, "no column for buyer, amount, currency, traded_on, due_on"),
        (tuple(REQUIRED), {"price": "amount"}, "there is no field 'price'"),
        (tuple(REQUIRED), {"amount": "price"}, "there is no column 'price'"),
    ],
)
def test_missing_columns_are_named(headers: tuple[str, ...], given: dict[str, str], said: str) -> None:
    with pytest.raises(TableError, match=said):
        find_columns(headers, given)


# -- lines ------------------------------------------------------------------------------------------------------------


def line_of(*, decimal_comma: bool = False, **cells: str) -> ImportLine | str:
    return to_line(Row(7, CELLS | cells), COLUMNS, decimal_comma=decimal_comma)


def test_a_line_becomes_a_command_with_a_key_of_its_content() -> None:
    line = line_of()
    assert isinstance(line, ImportLine)
    assert line.line == 7
    assert line.command["amount"] == {"currency": "EUR", "units": "123450"}
    assert line == line_of()
    assert isinstance(other := line_of(description="coffee"), ImportLine)
    assert other.key != line.key


@pytest.mark.parametrize("date", ["2026-11-20", "2026/11/20", "2026.11.20", "20.11.2026"])
def test_dates_are_read_as_spreadsheets_write_them(date: str) -> None:
    line = line_of(traded_on=date)
    assert isinstance(line, ImportLine)
    assert line.command["traded_on"] == "2026-11-20"


@pytest.mark.parametrize(
    ("amount", "comma", "units"),
    [
        ("1234.5", False, "123450"), ("1,234.50", False, "123450"), ("0.01", False, "1"),
        ("1.234,50", True, "123450"), ("1234,5", True, "123450"), ("1.234.567,00", True, "123456700"),
    ],
)  # fmt: skip
def test_amounts_with_points_and_commas(amount: str, comma: bool, units: str) -> None:
    line = line_of(amount=amount, decimal_comma=comma)
    assert isinstance(line, ImportLine)
    assert line.command["amount"]["units"] == units


@pytest.mark.parametrize(
    ("cells", "comma", "said"),
    [
        ({"amount": "12,50"}, False, "amount"),
        ({"amount": "12.50"}, True, "amount"),
        ({"amount": "12.345"}, False, "decimals"),
        ({"amount": "-5"}, False, "amount"),
        ({"amount": "NaN"}, False, "amount"),
        ({"amount": "1e5"}, False, "amount"),
        ({"amount": "9" * 40}, False, "digits"),
        ({"amount": ""}, False, "amount is empty"),
        ({"currency": "EURO"}, False, "ISO 4217"),
        ({"currency": "JPY", "amount": "12.5"}, False, "JPY has 0 decimals"),
        ({"reference": "", "buyer": ""}, False, "reference, buyer is empty"),
        ({"seller": "Aozora Foods"}, False, "seller"),
        ({"traded_on": "2026-02-30"}, False, "is no date"),
        ({"traded_on": "11/20/2026"}, False, "is no date"),
        ({"due_on": "2026-11-19"}, False, "due_on must not precede"),
        ({"due_on": "0001-01-01"}, False, "due_on"),
        ({"description": "x" * 70_000}, False, "description"),
        ({"description": "a\x07b"}, False, "description"),
        ({"reference": "R" * 300}, False, "reference"),
    ],
)
def test_a_line_that_cannot_be_a_trade_says_why(cells: dict[str, str], comma: bool, said: str) -> None:
    reason = line_of(decimal_comma=comma, **cells)
    assert isinstance(reason, str)
    assert said in reason


def test_a_reference_that_comes_again_with_other_content_is_refused_and_the_same_line_is_not() -> None:
    rows = [Row(2, CELLS), Row(3, CELLS), Row(4, CELLS | {"amount": "1"}), Row(5, CELLS | {"reference": "R-2"})]
    outcome = Outcome()
    lines = prepare(rows, COLUMNS, where={}, decimal_comma=False, outcome=outcome)
    assert [line.line for line in lines] == [2, 3, 5]
    assert outcome.refused == [(4, "reference R-1 stands in line 2 with other content")]


def test_only_the_rows_that_are_wanted_are_looked_at() -> None:
    rows = [Row(2, CELLS), Row(3, CELLS | {"seller": "cascade", "amount": "bad"}), Row(4, {}, "not a CSV line")]
    outcome = Outcome()
    lines = prepare(rows, COLUMNS, where={"seller": "aozora"}, decimal_comma=False, outcome=outcome)
    assert [line.line for line in lines] == [2]
    assert outcome.refused == [(4, "not a CSV line")], "whose a broken line was cannot be known"

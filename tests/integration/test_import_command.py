"""`daicho import` against the real service: what is recorded, what is refused and why, and nothing twice."""

import csv
import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.faults.auditor import Audit, rows_of
from tests.faults.harness import COMPANIES, Service, Zygote, free_port, running

pytest_plugins = ("tests.faults.fixtures",)
SELLER, BUYER = COMPANIES[:2]
HEADER = ["reference", "seller", "buyer", "amount", "currency", "traded_on", "due_on", "description"]
NUMBERS = itertools.count(1)
BAD = 1_000


@pytest.fixture(scope="module")
def service(zygote: Zygote, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    made = Service(zygote, tmp_path_factory.mktemp("imports") / "data")
    with running(made):
        made.sign_up(COMPANIES[:2])
        yield made
        Audit(made).run()


class Desk:
    """A clerk with a table and a command line."""

    def __init__(self, service: Service, folder: Path) -> None:
        self.service, self.folder = service, folder
        self.table, self.token = folder / "table.csv", folder / "token"
        self.token.write_text(service.token(SELLER))
        self.prefix = f"T{next(NUMBERS)}"

    def row(self, number: int, **cells: str) -> dict[str, str]:
        """A good row, but for the cells given."""
        good = [f"{self.prefix}-{number}", SELLER, BUYER, "1200", "JPY", "2026-11-01", "2026-12-01", f"goods {number}"]
        return dict(zip(HEADER, good, strict=True)) | cells

    def write(self, rows: Sequence[dict[str, str]], *, encoding: str = "utf-8", mark: str = "", **form: Any) -> None:
        """The table as a spreadsheet writes it."""
        with self.table.open("w", encoding=encoding, newline="") as handle:
            handle.write(mark)
            writer = csv.DictWriter(handle, list(rows[0]), **form)
            writer.writeheader()
            writer.writerows(rows)

    def imports(self, *options: str) -> tuple[int, dict[str, Any], str]:
        """Exit code, the JSON told, and standard error."""
        return self.run("--json", *options)

    def run(self, *options: str, url: str = "") -> tuple[int, dict[str, Any], str]:
        where = url or self.service.url
        words = ["import", str(self.table), "--token-file", str(self.token), "--url", where, *options]
        code, out, err = self.service.daicho(*words)
        return code, json.loads(out) if out else {}, err

    def recorded(self) -> dict[str, dict[str, Any]]:
        """What the ledger holds of this table, by reference; fails when something is there twice."""
        found: dict[str, dict[str, Any]] = {}
        for _, state in rows_of(self.service.folder.ledger, "stored_events"):
            data = json.loads(state)["data"]
            if str(data.get("reference", "")).startswith(f"{self.prefix}-"):
                assert data["reference"] not in found, "imported twice"
                found[data["reference"]] = data
        return found

    def head(self) -> int:
        return len(rows_of(self.service.folder.ledger, "stored_events"))


@pytest.fixture
def desk(service: Service, tmp_path: Path) -> Desk:
    return Desk(service, tmp_path)


@pytest.mark.parametrize(
    ("form", "recognised"),
    [
        ({}, "utf-8"),
        ({"mark": "\ufeff", "lineterminator": "\r\n"}, "utf-8-sig"),
        ({"encoding": "utf-16", "delimiter": "\t"}, "utf-16"),
        ({"encoding": "cp932", "lineterminator": "\r\n", "quoting": csv.QUOTE_ALL}, "cp932"),
        ({"delimiter": ";", "lineterminator": "\n"}, "utf-8"),
    ],
)
def test_a_table_is_imported_however_its_spreadsheet_wrote_it(
    desk: Desk, form: dict[str, Any], recognised: str
) -> None:
    words = ['抹茶 "一級", 25 kg; fresh', "二行の\n説明", "plain"]
    desk.write([desk.row(n, description=text) for n, text in enumerate(words)], **form)
    code, told, err = desk.imports()
    assert (code, told["imported"], told["refused"], told["encoding"]) == (0, 3, [], recognised), err
    assert [data["description"] for data in desk.recorded().values()] == words
    batches = {data["signature"]["batch"] for data in desk.recorded().values()}
    assert len(batches) == 1, "one signature for the whole table"


def test_a_table_is_imported_once_however_often_it_is_sent(desk: Desk) -> None:
    rows = [desk.row(n) for n in range(1_200)]  # more than one bulk
    desk.write(rows)
    assert desk.imports()[1]["imported"] == 1_200
    head = desk.head()
    code, told, _ = desk.imports()
    assert (code, told["imported"], told["already_imported"], desk.head()) == (0, 0, 1_200, head)
    rows = [desk.row(5_000), *reversed(rows)]
    desk.write(rows)
    code, told, _ = desk.imports()
    assert (code, told["imported"], told["already_imported"]) == (0, 1, 1_200)
    assert len(desk.recorded()) == 1_201


def test_a_dry_run_says_what_would_happen_and_writes_nothing(desk: Desk) -> None:
    desk.write([desk.row(1), desk.row(2, buyer="nobody"), desk.row(3)])
    head = desk.head()
    code, told, _ = desk.imports("--dry-run")
    assert (code, told["would_be_imported"], told["imported"], len(told["refused"])) == (1, 2, 0, 1)
    assert desk.head() == head
    desk.write([desk.row(1), desk.row(3)])
    assert (desk.imports("--dry-run")[0], desk.head()) == (0, head)
    assert desk.imports()[1]["imported"] == 2


def bad_row(desk: Desk, number: int) -> tuple[dict[str, str], str]:
    """A row that is wrong in one of many ways, and a word of the reason."""
    kinds: list[tuple[dict[str, str], str]] = [
        ({"amount": "1.50"}, "decimals"),
        ({"currency": "XXQ"}, "ISO 4217"),
        ({"traded_on": "yesterday"}, "is no date"),
        ({"due_on": "2026-10-01"}, "must not precede"),
        ({"reference": ""}, "is empty"),
        ({"buyer": "nobody-knows"}, "nobody-knows"),
        ({"seller": "delta", "buyer": "cascade"}, "another company"),
        ({"description": "x" * 5_000}, "description"),
    ]
    cells, said = kinds[number % len(kinds)]
    return desk.row(number, **cells), said


def test_a_thousand_bad_lines_are_reported_with_number_and_reason_and_the_rest_only_imported_if_wanted(
    desk: Desk,
) -> None:
    rows, expected = [], {}
    for number in range(1_100):
        bad, said = bad_row(desk, number)
        if number < BAD:
            expected[len(rows) + 2] = said
            rows.append(bad)
        else:
            rows.append(desk.row(number))
    desk.write(rows)
    report = desk.folder / "refused.csv"
    head = desk.head()
    code, told, err = desk.imports("--report", str(report))
    assert (code, told["imported"], told["would_be_imported"]) == (1, 0, 100), err
    assert desk.head() == head, "nothing is imported unless it is said"
    refused = {line["line"]: line["reason"] for line in told["refused"]}
    assert refused.keys() == expected.keys()
    for line, said in expected.items():
        assert said in refused[line], (line, refused[line])
    with report.open(encoding="utf-8", newline="") as handle:
        assert [(int(row["line"]), row["reason"]) for row in csv.DictReader(handle)] == sorted(refused.items())

    code, told, _ = desk.imports("--continue")
    assert (code, told["imported"], len(told["refused"])) == (1, 100, BAD)
    assert len(desk.recorded()) == 100
    code, told, _ = desk.imports("--continue")
    assert (code, told["imported"], told["already_imported"]) == (1, 0, 100)


def test_a_person_sees_the_first_refusals_and_how_many_more_there_are(desk: Desk) -> None:
    desk.write([*(desk.row(n, buyer="nobody") for n in range(30)), desk.row(30)])
    code, out, err = desk.run()
    assert (code, out) == (1, {})
    assert "30 refused" in err
    assert "line 2: " in err
    assert "line 21: " in err
    assert "line 22: " not in err
    assert "and 10 more" in err
    assert "Nothing was imported" in err


def test_a_cell_steers_neither_the_screen_nor_the_spreadsheet_that_opens_the_report(desk: Desk) -> None:
    desk.write([desk.row(1, currency="=1+2", amount="\x1b[2J")])
    report = desk.folder / "refused.csv"
    code, _, err = desk.run("--report", str(report))
    assert code == 1
    assert "\x1b" not in err
    assert not report.read_text().splitlines()[1].partition(",")[2].startswith(("=", '"='))


def test_amounts_with_a_decimal_comma_are_read_as_such_only_when_it_is_said(desk: Desk) -> None:
    desk.write([desk.row(1, amount="1.234,50", currency="EUR"), desk.row(2, amount="7,5", currency="EUR")])
    code, told, _ = desk.imports()
    assert (code, told["imported"]) == (1, 0)
    assert desk.imports("--decimal-comma")[:1] == (0,)
    assert [data["amount"]["units"] for data in desk.recorded().values()] == ["123450", "750"]


def test_columns_and_lines_are_chosen_by_name(desk: Desk) -> None:
    rows = [desk.row(n, seller=(SELLER, BUYER)[n % 2], buyer=(BUYER, SELLER)[n % 2]) for n in range(6)]
    desk.write([{"Betrag": row.pop("amount"), **row} for row in rows])
    code, told, err = desk.imports()
    assert (code, told) == (2, {})
    assert "no column for amount" in err
    code, told, err = desk.imports("--map", "amount=Betrag", "--where", f"seller={SELLER}")
    assert (code, told["imported"]) == (0, 3), err
    assert {data["seller"] for data in desk.recorded().values()} == {SELLER}


def no_table(desk: Desk) -> Sequence[str]:
    desk.table.write_bytes(b"\xff\xfe\x00")
    return ()


def missing_file(desk: Desk) -> Sequence[str]:
    desk.table.unlink(missing_ok=True)
    return ()


def bad_token(desk: Desk) -> Sequence[str]:
    desk.write([desk.row(1)])
    desk.token.write_text("nonsense")
    return ()


def missing_token(desk: Desk) -> Sequence[str]:
    desk.write([desk.row(1)])
    desk.token.unlink()
    return ()


def token_with_a_line_break(desk: Desk) -> Sequence[str]:
    desk.write([desk.row(1)])
    desk.token.write_text("a\nb")
    return ()


def nobody_there(desk: Desk) -> Sequence[str]:
    desk.write([desk.row(1)])
    return ("--url", f"http://127.0.0.1:{free_port()}")


def no_address(desk: Desk) -> Sequence[str]:
    desk.write([desk.row(1)])
    return ("--url", "not an address")


def unknown_column(desk: Desk) -> Sequence[str]:
    desk.write([desk.row(1)])
    return ("--where", "shop=1")


def report_nowhere(desk: Desk) -> Sequence[str]:
    desk.write([desk.row(1)])
    return ("--report", str(desk.folder / "no" / "such" / "folder.csv"))


@pytest.mark.parametrize(
    "mishap",
    [
        no_table, missing_file, bad_token, missing_token, token_with_a_line_break, nobody_there, no_address,
        unknown_column, report_nowhere,
    ],
)  # fmt: skip
def test_what_cannot_work_is_one_clear_line_and_nothing_is_imported(
    desk: Desk, mishap: Callable[[Desk], Sequence[str]]
) -> None:
    options = list(mishap(desk))
    head = desk.head()
    url = options[1] if options[:1] == ["--url"] else ""
    code, told, err = desk.run("--json", *([] if url else options), url=url)
    assert (code, told) == (2, {}), err
    assert err.startswith("daicho: ")
    assert err.count("\n") == 1, err
    assert desk.head() == head

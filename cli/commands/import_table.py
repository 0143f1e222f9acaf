"""`daicho import`: an existing trade table, through the API."""

from pathlib import Path
from typing import Annotated

import httpx
from cyclopts import Parameter

from cli.importing.importer import Importer, Outcome, prepare
from cli.importing.mapping import ImportLine, find_columns
from cli.importing.table import TableError, read_table
from cli.screen import console, escaped, print_json, progress_bar
from cli.settings import SettingsError, load_settings

SHOWN_REFUSALS = 20
Pairs = Annotated[list[str] | None, Parameter(negative="")]


def import_table(
    file: Path,
    *,
    token_file: Path,
    url: str = "",
    map: Pairs = None,  # noqa: A002 the option's name
    where: Pairs = None,
    encoding: str = "auto",
    decimal_comma: bool = False,
    dry_run: bool = False,
    continue_: Annotated[bool, Parameter(name="--continue")] = False,
    report: Path | None = None,
    json: bool = False,
) -> int:
    """Record the trades of a CSV file for the token's company, signed as batches by its wallet.

    The whole file is tried first. If a line would be refused, nothing is imported unless --continue is given. Run it
    again after an interruption: nothing is imported twice. Exit code 1 when lines were refused.

    Parameters
    ----------
    file
        The table: comma, semicolon or tab; UTF-8, UTF-16, Shift-JIS or Windows-1252.
    token_file
        File with the token of a user whose wallet signs.
    url
        The service (default: where the settings let it listen).
    map
        FIELD=COLUMN where a header is not recognised; may be repeated. Fields: reference, seller, buyer, amount,
        currency, traded_on, due_on, description.
    where
        COLUMN=VALUE: import only such lines; may be repeated.
    encoding
        The file's encoding.
    decimal_comma
        Amounts are written 1.234,50.
    dry_run
        Only try; import nothing.
    continue_
        Import the good lines although others are refused.
    report
        Write the refused lines to this CSV file.
    json
        Print one JSON object.
    """
    _write_report(report, Outcome())  # a report that cannot be written is said before anything is imported
    table = read_table(file, encoding)
    columns = find_columns(table.headers, _pairs(map, "--map"))
    outcome = Outcome()
    filters = _pairs(where, "--where")
    unknown = [column for column in filters if column not in table.headers]
    if unknown:
        raise TableError(f"there is no column {unknown[0]!r}; columns are {', '.join(table.headers)}")
    lines = prepare(table.rows(), columns, where=filters, decimal_comma=decimal_comma, outcome=outcome)
    with httpx.Client(base_url=url or _own_url(), headers={"authorization": f"Bearer {_token(token_file)}"}) as client:
        only_try = None if continue_ and not dry_run else dry_run
        outcome = _send(Importer(client), lines, outcome, only_try=only_try, quiet=json)
    _write_report(report, outcome)
    _show(outcome, table.encoding, file.name, json=json)
    return 1 if outcome.refused else 0


def _send(
    importer: Importer, lines: list[ImportLine], outcome: Outcome, *, only_try: bool | None, quiet: bool
) -> Outcome:
    """Try the lines, then record them.

    `only_try`: True always stops after the trial, False if a line would be refused, None never.
    """
    with progress_bar(shown=not quiet) as bar:
        trial = Outcome(refused=list(outcome.refused))
        task = bar.add_task("trying", total=len(lines))
        importer.try_out(lines, trial, lambda done: bar.advance(task, done))
        if only_try or (only_try is False and trial.refused):
            return trial
        task = bar.add_task("importing", total=len(lines))
        importer.send(lines, outcome, lambda done: bar.advance(task, done))
    return outcome


def _show(outcome: Outcome, encoding: str, name: str, *, json: bool) -> None:
    refused = sorted(outcome.refused)
    if json:
        print_json(
            {
                "imported": outcome.imported,
                "already_imported": outcome.already,
                "would_be_imported": outcome.checked,
                "refused": [{"line": line, "reason": reason} for line, reason in refused],
                "encoding": encoding,
            }
        )
        return
    done = (
        f"{outcome.imported:,} imported" if outcome.imported or not outcome.checked else f"{outcome.checked:,} could be"
    )
    console.print(
        f"{escaped(name)} ({encoding}): {done}, {outcome.already:,} were there already, {len(refused):,} refused"
    )
    for line, reason in refused[:SHOWN_REFUSALS]:
        console.print(f"  line {line}: {escaped(reason)}", markup=False)
    if len(refused) > SHOWN_REFUSALS:
        console.print(f"  … and {len(refused) - SHOWN_REFUSALS:,} more (--report FILE writes them all)")
    if refused and outcome.checked:
        console.print("Nothing was imported. Mend the lines, or import the others with --continue.")
    if not (outcome.imported or outcome.already or outcome.checked or refused):
        console.print("No line of the table was looked at: is it empty, or does --where fit none?")


def _write_report(path: Path | None, outcome: Outcome) -> None:
    if path is None:
        return
    import csv

    try:
        with path.open("w", encoding="utf-8", newline="") as handle:
            writer = csv.writer(handle)
            writer.writerow(["line", "reason"])
            writer.writerows((line, _no_formula(reason)) for line, reason in sorted(outcome.refused))
    except OSError as error:
        raise SettingsError(f"--report: {error.strerror}: {path}") from None


def _no_formula(text: str) -> str:
    """A cell that no spreadsheet takes for a formula."""
    return f"'{text}" if text[:1] in "=+-@\t" else text


def _pairs(given: list[str] | None, option: str) -> dict[str, str]:
    pairs = {}
    for item in given or ():
        name, equals, value = item.partition("=")
        if not equals or not name:
            raise SettingsError(f"{option} takes NAME=VALUE, not {item!r}")
        pairs[name.strip()] = value.strip()
    return pairs


def _token(path: Path) -> str:
    try:
        token = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"the token file cannot be read: {error}") from None
    if not token or not token.isprintable():
        raise SettingsError(f"{path.name} holds no token")
    return token


def _own_url() -> str:
    settings = load_settings()
    return f"http://{settings.host}:{settings.port}"

"""`python -m benchmarks`: every row side by side in one run, as a table and in build/bench.json."""

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

from benchmarks import profiled
from benchmarks.encoding_rows import encoding_row
from benchmarks.group_commit_rows import group_commit_row
from benchmarks.http_rows import rows as http_rows
from benchmarks.ledger_rows import command_rows, raw_row, recorder_row
from benchmarks.merkle_rows import append_rows, proof_rows
from benchmarks.projection_rows import catch_up_row, read_your_writes_row
from benchmarks.rows import FULL, QUICK, Budget, Row, complete, significant
from benchmarks.store_rows import store_rows

OUT: Final = Path("build/bench.json")
Maker = Callable[[Budget, set[str]], list[Row]]
# the rows that a maker measures together, in the order of the table
MAKERS: Final[tuple[tuple[tuple[str, ...], Maker], ...]] = (
    (("recorder-256",), lambda budget, _: [recorder_row(budget)]),
    (("recorder-raw",), lambda budget, _: [raw_row(budget)]),
    (("ledger-new-256", "ledger-confirm-256"), lambda budget, _: command_rows(budget)),
    (("group-commit",), lambda budget, _: [group_commit_row(budget)]),
    (("http-single", "ndjson-1000", "signed-single", "signed-own"), http_rows),
    (("leaf-bytes",), lambda budget, _: [encoding_row(budget)]),
    (("merkle-append-limit", "merkle-append-pymerkle"), lambda *_: append_rows()),
    (("merkle-inclusion-memory", "merkle-inclusion-sqlite"), lambda *_: proof_rows()),
    (("projection-catch-up",), lambda *_: [catch_up_row()]),
    (("read-your-writes",), lambda *_: [read_your_writes_row()]),
    (("intake-apple", "intake-google"), lambda budget, _: store_rows(budget)),
)
ALL: Final = tuple(name for names, _ in MAKERS for name in names)


def main() -> int:
    """Measure, print, write. A missed gate is shown, never hidden, and ends with 0 all the same."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", nargs="+", metavar="ID", choices=ALL, help=f"rows to measure: {', '.join(ALL)}")
    parser.add_argument(
        "--quick", action="store_true", help="fewer operations and rounds: for a look, not for a verdict"
    )
    options = parser.parse_args()
    wanted = set(options.only or ALL)
    console = Console(width=None if sys.stdout.isatty() else 180)
    rows: list[Row] = []
    with console.status("measuring …") as status:
        for row in measured(QUICK if options.quick else FULL, wanted, status.update):
            rows.append(row)
            console.print(headline(row))
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps(rows, indent=1) + "\n")
    console.print(table(rows))
    for row in rows:
        if not row["met_gate"]:
            console.print(f"[red]{row['id']} misses its gate[/red]: {profiled.profile_of(row['id'], OUT.parent)}")
    console.print(f"written to {OUT}")
    return 0


def measured(budget: Budget, wanted: set[str], say: Callable[[str], object]) -> Iterator[Row]:
    """The wanted rows, as they are ready."""
    for names, make in MAKERS:
        if chosen := wanted.intersection(names):
            say(f"measuring {', '.join(sorted(chosen))} …")
            for row in make(budget, wanted):
                if row["id"] in wanted:
                    yield complete(row)


def headline(row: Row) -> str:
    """A row in one line."""
    colour, sign = ("green", "≤") if row["lower_is_better"] else ("green", "≥")
    if not row["met_gate"]:
        colour = "red"
    return (
        f"[{colour}]{row['id']:24}[/] {significant(row['ratio'], 3):<8} gate {sign} {row['gate']}, goal {row['goal']}"
    )


def table(rows: list[Row]) -> Table:
    """The result."""
    made = Table(title="Daicho beside its baselines, in turns in one run (median, lowest to highest)", show_lines=True)
    for name, style in (("measure", ""), ("baseline", ""), ("ours", "bold"), ("base", "")):
        made.add_column(name, style=style, overflow="fold")
    for name in ("ratio", "gate", "goal"):
        made.add_column(name, justify="right", no_wrap=True)
    made.add_column("conditions", style="dim", overflow="fold")
    for row in rows:
        colour = "green" if row["met_gate"] else "red"
        made.add_row(
            f"{row['id']}\n{row['measure']}", row["baseline"], _figure(row, "ours"), _figure(row, "base"),
            f"[{colour}]{significant(row['ratio'], 3)}[/{colour}]", str(row["gate"]), str(row["goal"]),
            row["conditions"],
        )  # fmt: skip
    return made


def _figure(row: Row, side: str) -> str:
    span = row.get(f"{side}_span")
    figure = f"{significant(row[side]):,}"
    return figure if span is None else f"{figure}\n{span[0]:,} to {span[1]:,}"


if __name__ == "__main__":
    raise SystemExit(main())

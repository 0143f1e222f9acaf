"""`python -m benchmarks.postgres`: the ledger on PostgreSQL beside the library on PostgreSQL, side by side in one run.

Needs what `make test` needs. The row over HTTP starts docker-compose.yml's processes on this machine.
"""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from rich.console import Console

from benchmarks.__main__ import headline, table
from benchmarks.postgres_http_row import http_row
from benchmarks.postgres_rows import append_row, catch_up_row, group_commit_row
from benchmarks.rows import FULL, QUICK, Budget, Row
from tests.postgres_server import PostgresServer

OUT: Final = Path("build/bench-postgres.json")
MAKERS: Final[dict[str, Callable[[PostgresServer, Budget], Row]]] = {
    "postgres-append-1024": append_row,
    "postgres-group-commit": group_commit_row,
    "postgres-http-single": http_row,
    "postgres-catch-up": catch_up_row,
}


def main() -> int:
    """Measure, print, write. A missed gate is shown, never hidden, and ends with 0 all the same."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.postgres", description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", metavar="ID", choices=MAKERS, help=f"rows: {', '.join(MAKERS)}")
    parser.add_argument("--quick", action="store_true", help="fewer operations and rounds: for a look only")
    options = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 180)
    rows: list[Row] = []
    with PostgresServer() as server:
        for name in options.only or MAKERS:
            rows.append(MAKERS[name](server, QUICK if options.quick else FULL))
            console.print(headline(rows[-1]))
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps(rows, indent=1) + "\n")
    console.print(table(rows))
    console.print(f"written to {OUT}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

"""`daicho deadletters`: work with the outside that has failed for good, and what waits behind it."""

import contextlib
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cyclopts import App
from rich.table import Table

from cli.screen import console, escaped, print_json
from cli.settings import load_settings
from cli.wiring.stores import open_stores
from storage.folder import DataFolder

LIMIT = 1_000
app = App(name="deadletters", help="Work that has failed for good: list, replay, skip.")
logger = logging.getLogger("daicho.deadletters")


@app.command(name="list")
def show(*, data: Path | None = None, json: bool = False) -> int:
    """List what has failed for good, the oldest first. What was put later in the same sequence waits behind it.

    Parameters
    ----------
    data
        The data folder.
    json
        Print a JSON array.
    """
    with _work(data) as work:
        rows = work.rows(time.time(), state="dead", limit=LIMIT)
    if json:
        print_json([{"key": r.key, "kind": r.kind, "attempts": r.attempts, "error": r.last_error} for r in rows])
        return 0
    table = Table("key", "kind", "attempts", "why")
    for row in rows:
        table.add_row(escaped(row.key), row.kind, str(row.attempts), escaped(row.last_error))
    console.print(table if rows else "Nothing has failed for good.")
    return 0


@app.command
def replay(key: str, *, data: Path | None = None) -> int:
    """Let it be tried again, as if for the first time; what waits behind it follows. Exit code 1 when there is none.

    Parameters
    ----------
    key
        Its key, as listed.
    data
        The data folder.
    """
    with _work(data) as work:
        found = work.revive(key, time.time())
    console.print("It is tried again." if found else f"Nothing of the key {escaped(key)} has failed.", markup=False)
    return 0 if found else 1


@app.command
def skip(key: str, *, reason: str, data: Path | None = None) -> int:
    """Give it up for good; what waits behind it goes on. Exit code 1 when there is none.

    Parameters
    ----------
    key
        Its key, as listed.
    reason
        Why, for the log.
    data
        The data folder.
    """
    with _work(data) as work:
        found = work.skip(key)
    if found:
        logger.warning("due work %s is given up: %s", escaped(key), escaped(reason))
    console.print("It is given up." if found else f"Nothing of the key {escaped(key)} has failed.", markup=False)
    return 0 if found else 1


@contextlib.contextmanager
def _work(data: Path | None) -> Iterator[Any]:
    """The due work of the ledger that the settings name, closed at the end."""
    settings = load_settings(data_dir=data)
    with contextlib.closing(open_stores(settings, DataFolder(settings.data_dir)).due_work()) as work:
        yield work

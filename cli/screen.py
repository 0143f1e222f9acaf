"""What the command line shows: one console for people on standard error, JSON for machines on standard output."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from chain.children import ChildError
from chain.envelope import VaultError
from chain.errors import ChainError
from chain.signer.client import SignerRefusedError
from cli.checking.run import NothingToCheck
from cli.development import NotStarted
from cli.importing.importer import ImportFailed
from cli.importing.table import TableError
from cli.settings import SettingsError
from domain.errors import DaichoError
from storage.folder import FolderInUse

WIDTH: Final = 120  # where nobody can say how wide the screen is: a pipe, a file
console: Final = Console(stderr=True, highlight=False, width=None if sys.stderr.isatty() else WIDTH)
EXPECTED: Final = (
    SettingsError,
    FolderInUse,
    TableError,
    ImportFailed,
    NothingToCheck,
    NotStarted,
    DaichoError,
    VaultError,
    ChildError,
    ChainError,
    SignerRefusedError,
    OSError,
)
# these belong to packages that not every command loads
EXPECTED_BY_NAME: Final = frozenset(
    {"SchemaError", "TopicsRefused", "TopicUnavailable", "StoreOutdated", "LaneMismatchError", "ProcessorError",
     "LogStoreError", "LogBehindError"}
)  # fmt: skip


def is_expected(error: BaseException) -> bool:
    """True for what an operator can mend, False for a defect."""
    return isinstance(error, EXPECTED) or any(kind.__name__ in EXPECTED_BY_NAME for kind in type(error).__mro__)


def fail(error: Exception) -> int:
    """Show an error: one line for what an operator can mend, a trace for a defect. The exit code."""
    if is_expected(error):
        console.print(f"daicho: {escaped(_words(error))}", style="bold red", markup=False, soft_wrap=True)
        return 2
    console.print_exception(show_locals=False)
    return 2


def _words(error: Exception) -> str:
    """An error's message, with the reason that our own trouble carries beside it."""
    reason = error.values.get("reason") if isinstance(error, DaichoError) else None
    return f"{error}: {reason}" if reason else str(error)


def escaped(text: str) -> str:
    """The text with control characters made visible: nothing that came from outside steers a terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def print_json(value: Any) -> None:
    """One JSON object on standard output."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=2) + "\n")


@contextmanager
def progress_bar(*, shown: bool = True) -> Iterator[Progress]:
    """A progress bar on standard error, for what may take longer than two seconds."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not shown, transient=True) as progress:
        yield progress

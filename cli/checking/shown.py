"""What the commands that check show while they look, and of what they have found."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import TaskID

from cli.checking.findings import Progress, Report
from cli.screen import console, escaped, progress_bar


@contextmanager
def checking_progress(*, shown: bool) -> Iterator[Progress]:
    """A bar for each part of a check."""
    with progress_bar(shown=shown) as bar:
        tasks: dict[str, TaskID] = {}

        def show(part: str, done: int, total: int) -> None:
            if part not in tasks:
                tasks[part] = bar.add_task(part, total=total)
            bar.update(tasks[part], completed=done, total=total)

        yield show


def show_counts(report: Report, parts: tuple[str, ...]) -> None:
    """How much of each part was looked at."""
    for part in parts:
        console.print(f"  {part}: {report.looked_at.get(part, 0):,}")


def show_findings(report: Report) -> None:
    """Each difference in a line."""
    for finding in report.findings:
        where = f" (position {finding.position})" if finding.position else ""
        console.print(escaped(f"  {finding.part}: {finding.what}{where}"), style="bold red", markup=False)

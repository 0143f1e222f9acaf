"""Sends a table's lines through the API in signed bulks, and reports what became of each.

Resumable and never twice: a line's command key is a hash of its content, so a line that was imported before is
recognised by the ledger (`Idempotency-Hit`), wherever an earlier run stopped.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import httpx
import msgspec

from cli.importing.mapping import ImportLine, to_line
from cli.importing.table import Row

BULK_LINES: Final = 1_000
TIMEOUT_SECONDS: Final = 120.0
Progress = Callable[[int], None]


class ImportFailed(Exception):
    """The service cannot be reached or refuses the whole bulk; running the import again goes on where it stopped."""


@dataclass(slots=True)
class Outcome:
    """What became of the lines: refused ones with line number and reason."""

    imported: int = 0
    already: int = 0
    checked: int = 0
    refused: list[tuple[int, str]] = field(default_factory=list)
    last_position: int = 0


def prepare(
    rows: Iterable[Row],
    columns: Mapping[str, str],
    *,
    where: Mapping[str, str],
    decimal_comma: bool,
    outcome: Outcome,
) -> list[ImportLine]:
    """The lines that can be sent; the others go into the outcome. `where` keeps rows by column value.

    A reference that stands in several lines with different content is refused from the second one on: the ledger would
    not notice before it has recorded the first.
    """
    lines: list[ImportLine] = []
    seen: dict[str, ImportLine] = {}
    for row in rows:
        if row.cells and any(row.cells.get(column) != value for column, value in where.items()):
            continue
        line = to_line(row, columns, decimal_comma=decimal_comma)
        if isinstance(line, str):
            outcome.refused.append((row.line, line))
            continue
        before = seen.setdefault(line.command["reference"], line)
        if before.key != line.key:
            reason = f"reference {line.command['reference']} stands in line {before.line} with other content"
            outcome.refused.append((row.line, reason))
        else:
            lines.append(line)
    return lines


class Importer:
    """Sends lines to one service with one token."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    def try_out(self, lines: Sequence[ImportLine], outcome: Outcome, progress: Progress) -> None:
        """Ask the service what it would say, without changing anything."""
        self._send(lines, outcome, progress, dry_run=True)

    def send(self, lines: Sequence[ImportLine], outcome: Outcome, progress: Progress) -> None:
        """Record the lines; those that the ledger refuses are left out of the batch and reported."""
        self._send(lines, outcome, progress, dry_run=False)

    def _send(self, lines: Sequence[ImportLine], outcome: Outcome, progress: Progress, *, dry_run: bool) -> None:
        for bulk in _bulks(lines):
            for line, answer in zip(bulk, self._post(bulk, dry_run=dry_run), strict=True):
                _take(line, answer, outcome, dry_run=dry_run)
            progress(len(bulk))

    def _post(self, bulk: Sequence[ImportLine], *, dry_run: bool) -> list[dict[str, Any]]:
        body = b"".join(msgspec.json.encode({**line.command, "key": line.key}) + b"\n" for line in bulk)
        try:
            response = self._client.post(
                "/v1/commands",
                params={"mode": "continue", "sign": "batch", "dry_run": "true" if dry_run else "false"},
                content=body,
                headers={"content-type": "application/x-ndjson", "idempotency-key": bulk[0].key},
                timeout=TIMEOUT_SECONDS,
            )
        except httpx.HTTPError as error:
            raise ImportFailed(f"the service does not answer: {error}") from None
        if response.status_code >= httpx.codes.BAD_REQUEST:
            raise ImportFailed(f"the service refuses the bulk: {problem_text(response)}")
        answers = [msgspec.json.decode(line) for line in response.content.splitlines() if line]
        return [answer for answer in answers if "promise" not in answer]


def problem_text(response: httpx.Response) -> str:
    """The one line of a problem document."""
    try:
        problem = response.json()
        return f"{response.status_code} {problem['title']}: {problem.get('detail', '')}"
    except (ValueError, KeyError, TypeError):
        return f"{response.status_code} {response.reason_phrase}"


def _bulks(lines: Sequence[ImportLine]) -> Iterator[Sequence[ImportLine]]:
    for start in range(0, len(lines), BULK_LINES):
        yield lines[start : start + BULK_LINES]


def _take(line: ImportLine, answer: Mapping[str, Any], outcome: Outcome, *, dry_run: bool) -> None:
    problem = answer.get("problem")
    if problem is not None:
        outcome.refused.append((line.line, f"{problem['title']}: {problem.get('detail', '')}"))
        return
    if answer.get("hit"):
        outcome.already += 1
    elif dry_run:
        outcome.checked += 1
        return
    else:
        outcome.imported += 1
    outcome.last_position = max(outcome.last_position, int(answer["position"]))

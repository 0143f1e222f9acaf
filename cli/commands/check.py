"""`daicho check`: re-derive everything and name the first position that differs."""

import contextlib
from pathlib import Path

from cli.checking.chain_heads import heads_of_node
from cli.checking.findings import Report
from cli.checking.run import run_check
from cli.checking.shown import checking_progress
from cli.checking.sources import FolderSource, Source, StoresSource
from cli.node_process import NodeProcess
from cli.screen import console, escaped, print_json
from cli.settings import load_settings
from cli.wiring.stores import open_stores
from storage.anchor_recorder import ANCHOR_TABLE
from storage.folder import DataFolder

PARTS = ("entries", "tree", "checkpoints", "anchors", "contract", "projections", "signatures")


def check(*, data: Path | None = None, signatures: bool = False, rpc: str = "", json: bool = False) -> int:
    """Re-derive events, entries, tree, checkpoints, anchors and read models, beside a running service.

    Exit code 0: everything agrees. 1: something differs. 2: there is nothing to check.

    Parameters
    ----------
    data
        The data folder.
    signatures
        Check every signature, too (a tenth of a millisecond each).
    rpc
        URL of an EVM node whose contract events are compared; `none` leaves them out. Default: the node that anchors
        are made on (DAICHO_RPC_URL for a book in PostgreSQL, the embedded chain's file else).
    json
        Print one JSON object.
    """
    settings = load_settings(data_dir=data)
    folder = DataFolder(settings.data_dir)
    independent = settings.chain_independent
    source: Source = FolderSource(folder, ANCHOR_TABLE, independent=independent)
    if settings.clustered:
        source = StoresSource(f"book {settings.book}", open_stores(settings, folder), independent=independent)
        rpc = rpc or str(settings.rpc_url)
    with contextlib.ExitStack() as stack:
        url = rpc
        if not rpc and folder.chain.exists():
            url = stack.enter_context(NodeProcess(folder.chain)).url
        heads = heads_of_node(url) if url and url != "none" else None
        show = stack.enter_context(checking_progress(shown=not json))
        report = run_check(source, signatures=signatures, progress=show, chain_heads=heads)
    if json:
        print_json(as_json(report))
    else:
        show_report(report)
    return 1 if report.findings else 0


def as_json(report: Report) -> dict[str, object]:
    """The report for machines."""
    first = report.first
    return {
        "pinned_position": report.pinned,
        "agrees": not report.findings,
        "first_difference": None
        if first is None
        else {"part": first.part, "position": first.position, "what": first.what},
        "differences": report.differences,
        "looked_at": report.looked_at,
        "not_checked": report.not_checked,
    }


def show_report(report: Report) -> None:
    """The report for people."""
    by_part = {part: [f for f in report.findings if f.part == part] for part in PARTS}
    for part in PARTS:
        if part in report.not_checked:
            console.print(f"  [yellow]not checked[/]  {part}: {escaped(report.not_checked[part])}")
        elif by_part[part]:
            first = min(by_part[part], key=lambda f: f.position)
            console.print(f"  [bold red]differs[/]      {part}: position {first.position}: ", end="")
            console.print(escaped(first.what), markup=False)
        elif part in report.looked_at:
            console.print(f"  [green]agrees[/]       {part} ({report.looked_at[part]:,})")
    if report.first is None:
        console.print(f"[bold green]Everything that was checked agrees[/], up to position {report.pinned:,}.")
    else:
        console.print(f"[bold red]The first difference is at position {report.first.position}.[/]")

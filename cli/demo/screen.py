"""What the demo shows: one line a step, the evidence of a trade, the balances."""

import base64
from typing import Any

from rich.markup import escape
from rich.table import Table

from cli.screen import console
from domain.money import Money


def step(text: str) -> None:
    """One line of the story."""
    console.print(f"[green]✓[/] {escape(text)}")


def show_evidence(evidence: dict[str, Any], recorded: dict[str, Any]) -> None:
    """Entry, position, proof, checkpoint and transaction of one trade."""
    anchor = evidence["anchor"]
    entry = base64.b64decode(evidence["entry"]["bytes"]).decode()
    size = evidence["checkpoint"].split("\n")[1]
    table = Table(show_header=False, box=None, padding=(0, 1))
    table.add_row("entry", escape(shortened(entry, 150)))
    table.add_row("position", f"{evidence['entry']['position']} (leaf {evidence['entry']['position'] - 1} of {size})")
    table.add_row("inclusion", f"{len(evidence['inclusion'])} hashes: {' '.join(h[:8] for h in evidence['inclusion'])}")
    table.add_row("checkpoint", escape(shortened(evidence["checkpoint"].replace("\n", " "), 150)))
    where = "" if anchor["independent"] else "  [yellow](local chain, not independent)[/]"
    table.add_row("transaction", f"{anchor['tx_hash']} in block {anchor['block_number']}{where}")
    table.add_row("promise", escape(shortened(recorded["promise"].replace("\n", " "), 150)))
    console.print(table)


def show_balances(rows: list[dict[str, Any]]) -> None:
    """Balances of the demo's first company, by currency."""
    sums: dict[str, int] = {}
    for row in rows:
        currency = row["balance"]["currency"] if "balance" in row else row["currency"]
        units = row["balance"]["units"] if "balance" in row else row["units"]
        sums[currency] = sums.get(currency, 0) + int(units)
    owed = [f"{Money.of(currency, units)}" for currency, units in sorted(sums.items()) if units > 0]
    owes = [f"{Money.of(currency, -units)}" for currency, units in sorted(sums.items()) if units < 0]
    step(f"aozora-foods is owed {', '.join(owed) or 'nothing'} and owes {', '.join(owes) or 'nothing'}")


def show_verdict(seen: str, evidence: str, policy: str, node: str) -> None:
    """What `daicho-verify` said about files, asked with a node."""
    console.print(f"[bold]$ daicho-verify {evidence} --policy {policy} --rpc {node}[/]")
    console.print(escape(seen.rstrip()), highlight=False)
    console.print("[dim](QUALIFIED is right here: this wallet and this chain are the operator's own)[/]")


def shortened(text: str, width: int) -> str:
    """The text's beginning."""
    return text if len(text) <= width else text[: width - 1] + "…"

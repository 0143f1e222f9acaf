"""`daicho demo`: the whole story on one screen, then the service goes on."""

import base64
import contextlib
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from cli.demo.service import DemoFailed, RunningService
from cli.demo.story import Story, attack_copies, verify_alone
from cli.development import prepare_secrets
from cli.screen import console, escaped
from cli.settings import Settings, SettingsError, load_settings
from domain.money import Money
from storage.folder import DataFolder

KEPT = Path("build/demo")


def demo(*, data: Path | None = None, exit: bool = False, report: Path | None = None) -> int:  # noqa: A002 the option's name
    """Play the main job on this machine: sign up, import, confirm, anchor, verify alone, two attacks.

    The data folder is kept: a second run continues the same ledger.

    Parameters
    ----------
    data
        The data folder.
    exit
        End instead of serving on.
    report
        Also write what was shown to this file, as JSON.
    """
    settings = load_settings(data_dir=data, log_level="warning")
    if not settings.development:
        raise SettingsError("the demo is for development: unset DAICHO_ENVIRONMENT")
    folder = DataFolder(settings.data_dir)
    prepare_secrets(folder)
    KEPT.mkdir(parents=True, exist_ok=True)
    try:
        port = play(settings, folder, report)
    except DemoFailed as failed:
        for line in str(failed).splitlines():
            console.print(escaped(line), style="bold red", markup=False)
        return 1
    if exit:
        return 0
    serve_on(settings, port, data)
    return 0


def play(settings: Settings, folder: DataFolder, report: Path | None) -> int:
    """The story. Returns the port that the service had."""
    began = time.monotonic()
    console.rule("Daicho: a ledger that nobody has to trust")
    evidence_file, policy_file = KEPT / "evidence.json", KEPT / "policy.json"
    with RunningService(settings, KEPT / "service.log") as service:
        with console.status("starting the service: signer, chain node, processors, API"):
            service.start()
        story = Story(service.url, settings, step)
        step(f"service at {service.url}, data in {folder.path.name}/, its words in {KEPT / 'service.log'}")
        story.sign_up()
        with console.status("importing"):
            story.import_table()
        with console.status("confirming"):
            story.confirm()
        recorded = story.one_trade()
        with console.status("waiting for the anchor"):
            evidence = story.anchor(int(recorded["position"]))
        story.write_policy(policy_file)
        evidence_file.write_text(json.dumps(evidence), encoding="utf-8")
        show_evidence(evidence, recorded)
        show_balances(story.balances())
    step("service stopped: from here on nobody is asked any more")
    code, verdict, seen = verify_alone(evidence_file, policy_file, folder.chain)
    console.print(f"[bold]$ daicho-verify {evidence_file} --policy {policy_file} --rpc (daicho node --read-only)[/]")
    console.print(escape(seen.rstrip()), highlight=False)
    console.print("[dim](QUALIFIED is right here: this wallet and this chain are the operator's own)[/]")
    if code:
        raise DemoFailed(f"daicho-verify ended with exit code {code}")
    with tempfile.TemporaryDirectory(prefix="daicho-demo-") as scratch, console.status("attacking copies"):
        tampered, refusal = attack_copies(folder, Path(scratch), story.facts)
    console.print("[bold]Two attacks of a dishonest operator, on copies[/]")
    console.print(
        f"  one byte in the database ({tampered.before} → {tampered.after} JPY at position {tampered.position}): "
        f"[green]✓ daicho check finds position {tampered.found_at} in {tampered.found_in}[/]"
    )
    console.print(f"  a rewritten history, offered to the contract: [green]✓ {escape(refusal)}[/]")
    facts = story.facts | {
        "size": verdict.get("size") or evidence["anchor"]["size"],
        "root": evidence["anchor"]["root"],
        "verified": {"exit_code": code, "verdict": verdict},
        "attacks": {"one_byte_found_at": tampered.found_at, "rewrite_refused": refusal},
        "seconds": round(time.monotonic() - began, 1),
    }
    if report is not None:
        report.parent.mkdir(parents=True, exist_ok=True)
        report.write_text(json.dumps(facts, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    step(f"done in {facts['seconds']} s; kept {evidence_file} and {policy_file}")
    return service.port


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


def shortened(text: str, width: int) -> str:
    """The text's beginning."""
    return text if len(text) <= width else text[: width - 1] + "…"


def serve_on(settings: Settings, port: int, data: Path | None) -> None:
    """Become the service, and say what to try next. Does not return."""
    url = f"http://{settings.host}:{port}"
    where = f" --data {data}" if data else ""
    console.print(f"""
[bold]The service goes on at {url}[/] (Ctrl-C ends it). Try, in another terminal:
  curl {url}/log/checkpoint
  TOKEN=$(.venv/bin/daicho token clerk@aozora-foods.example --company aozora-foods{where})
  curl -H "Authorization: Bearer $TOKEN" {url}/v1/balances
  .venv/bin/daicho check --signatures{where}
    {url}/openapi.json describes the API, docs/api.md explains it""")
    command = [sys.executable, "-m", "cli.main", "serve", "--data", str(settings.data_dir), "--port", str(port)]
    command += ["--log-level", settings.log_level]
    with contextlib.suppress(OSError):
        sys.stdout.flush()
    os.execv(sys.executable, command)  # noqa: S606 the demo's process becomes the service

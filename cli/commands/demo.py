"""`daicho demo`: the whole story on one screen, then the service goes on."""

import contextlib
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from rich.markup import escape

from cli.commands.simulate_store import write_files
from cli.demo.elsewhere import play_elsewhere
from cli.demo.screen import show_verdict, step
from cli.demo.service import DemoFailed, RunningService
from cli.demo.shop_story import COMPANY, SETTINGS, ShopStory
from cli.demo.story import Story, attack_copies, verify_alone
from cli.development import prepare_secrets
from cli.node_process import NodeProcess
from cli.screen import console, escaped
from cli.settings import Settings, SettingsError, load_settings
from simulator.world import World
from storage.folder import DataFolder

KEPT = Path("build/demo")


def demo(
    *,
    data: Path | None = None,
    exit: bool = False,  # noqa: A002 the option's name
    report: Path | None = None,
    api: Annotated[list[str] | None, Parameter(negative="")] = None,
    secrets: Path = Path("secrets"),
    rpc: str = "",
) -> int:
    """Play the main job on this machine: sign up, import, confirm, anchor, subscriptions, verify alone, attacks.

    The data folder is kept: a second run continues the same ledger. With --api the story is played on a cluster that
    runs already, without the attacks.

    Parameters
    ----------
    data
        The data folder.
    exit
        End instead of serving on.
    report
        Also write what was shown to this file, as JSON.
    api
        URL of a running API; again for each replica.
    secrets
        With --api: the folder of its secrets (`daicho secrets`).
    rpc
        With --api: the node that the verifier asks (default: the API's read-only door to its chain).
    """
    settings = load_settings(data_dir=data, log_level="warning")
    if not settings.development:
        raise SettingsError("the demo is for development: unset DAICHO_ENVIRONMENT")
    if api:
        return elsewhere(settings, [url.rstrip("/") for url in api], secrets, rpc, report)
    folder = DataFolder(settings.data_dir)
    prepare_secrets(folder)
    KEPT.mkdir(parents=True, exist_ok=True)
    try:
        port = play(settings, folder, report)
    except DemoFailed as failed:
        return show_failure(failed)
    if exit:
        return 0
    serve_on(settings, port, data)
    return 0


def play(settings: Settings, folder: DataFolder, report: Path | None) -> int:
    """The story. Returns the port that the service had."""
    began = time.monotonic()
    console.rule("Daicho: a ledger that nobody has to trust")
    evidence_file, policy_file = KEPT / "evidence.json", KEPT / "policy.json"
    with World().running() as world, RunningService(settings, KEPT / "service.log", shop_settings(world)) as service:
        with console.status("starting the service: signer, chain node, processors, API"):
            service.start()
        story = Story(service.url, settings, step)
        step(f"service at {service.url}, data in {folder.path.name}/, its words in {KEPT / 'service.log'}")
        story.tell(evidence_file, policy_file)
        shop = ShopStory(world, service.url, settings, step)
        shop.tell()
    step("service stopped: from here on nobody is asked any more")
    with NodeProcess(folder.chain) as node:
        code, verdict, seen = verify_alone(evidence_file, policy_file, node.url)
    show_verdict(seen, str(evidence_file), str(policy_file), "(daicho node --read-only)")
    with tempfile.TemporaryDirectory(prefix="daicho-demo-") as scratch, console.status("attacking copies"):
        tampered, refusal = attack_copies(folder, Path(scratch), story.facts)
    console.print("[bold]Two attacks of a dishonest operator, on copies[/]")
    console.print(
        f"  one byte in the database ({tampered.before} → {tampered.after} JPY at position {tampered.position}): "
        f"[green]✓ daicho check finds position {tampered.found_at} in {tampered.found_in}[/]"
    )
    console.print(f"  a rewritten history, offered to the contract: [green]✓ {escape(refusal)}[/]")
    facts = story.facts | {
        "size": verdict.get("size") or story.facts["anchor"]["size"],
        "root": story.facts["anchor"]["root"],
        "stores": shop.facts,
        "verified": {"exit_code": code, "verdict": verdict},
        "attacks": {"one_byte_found_at": tampered.found_at, "rewrite_refused": refusal},
        "seconds": round(time.monotonic() - began, 1),
    }
    write_report(report, facts)
    step(f"done in {facts['seconds']} s; kept {evidence_file} and {policy_file}")
    return service.port


def shop_settings(world: World) -> dict[str, str]:
    """What the service is told of the stores and the billing system around it."""
    return {**world.settings(COMPANY), **write_files(world, KEPT / "stores"), **SETTINGS}


def elsewhere(settings: Settings, urls: list[str], secrets: Path, rpc: str, report: Path | None) -> int:
    """The story on replicas that run already. The exit code."""
    console.rule("Daicho: a ledger that nobody has to trust")
    try:
        facts = play_elsewhere(urls, secrets, settings, KEPT, node_url=rpc)
    except DemoFailed as failed:
        return show_failure(failed)
    write_report(report, facts)
    step(f"done in {facts['seconds']} s")
    return 0


def show_failure(failed: DemoFailed) -> int:
    """Say what went wrong. The exit code."""
    for line in str(failed).splitlines():
        console.print(escaped(line), style="bold red", markup=False)
    return 1


def write_report(report: Path | None, facts: dict[str, Any]) -> None:
    """Write what was shown as JSON, where that is wanted."""
    if report is not None:
        report.parent.mkdir(parents=True, exist_ok=True)
        report.write_text(json.dumps(facts, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


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

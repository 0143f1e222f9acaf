"""`make demo-cluster`: the demo's story on the cluster of docker-compose.yml, started here without a container engine.

Kafka, PostgreSQL and the chain are real ones, the API has two replicas, every processor is a process of its own. The
cluster lives for the story only: its volumes are deleted at the end, its logs stay below build/demo-cluster.
"""

import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from rich.markup import escape

from cli.demo.elsewhere import play_elsewhere
from cli.demo.screen import step
from cli.demo.service import DemoFailed
from cli.screen import console, escaped
from cli.settings import load_settings
from tests.cluster.attacks import check, forge_as_service, one_byte_changed, rewrite
from tests.cluster.compose import ROOT
from tests.cluster.local_cluster import LocalCluster
from tests.cluster.members import ClusterError

KEPT = Path("build/demo-cluster")


def main(arguments: list[str]) -> int:
    """Play it. The exit code; `--report FILE` also writes what was learned as JSON."""
    report = Path(arguments[arguments.index("--report") + 1]) if "--report" in arguments else None
    folder = ROOT / KEPT
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    console.rule("Daicho: the same ledger on a cluster")
    try:
        facts = play(LocalCluster(folder, variables={"DAICHO_LOG_LEVEL": "info"}))
    except (pytest.skip.Exception, pytest.fail.Exception) as missing:
        console.print(escaped(str(missing)), style="bold red", markup=False)
        return 2
    except (DemoFailed, ClusterError) as failed:
        for line in str(failed).splitlines():
            console.print(escaped(line), style="bold red", markup=False)
        console.print(f"the logs are in {KEPT}/logs")
        return 1
    if report is not None:
        report.write_text(json.dumps(facts, ensure_ascii=False, indent=2) + "\n", "utf-8")
    return 0


def play(cluster: LocalCluster) -> dict[str, Any]:
    """Start the cluster, play, attack it, stop it; what was learned."""
    began = time.monotonic()
    with console.status(
        "starting Kafka, PostgreSQL, the chain (the first run fetches them), then the ledger's processes"
    ):
        cluster.start()
    try:
        seconds = time.monotonic() - began
        step(f"{len(cluster.members)} containers of docker-compose.yml run as processes, started in {seconds:.0f} s")
        facts = play_elsewhere(
            cluster.api_urls,
            cluster.secrets,
            load_settings(),
            KEPT,
            node_url=cluster.rpc_url,
            before_verifying=lambda: stop_api(cluster),
        )
        facts["attacks"] = attack(cluster, facts)
        facts["seconds"] = round(time.monotonic() - began, 1)
        step(f"done in {facts['seconds']} s; kept {KEPT}/evidence.json, policy.json and logs/")
    finally:
        with console.status("stopping"):
            cluster.stop()
    return facts


def attack(cluster: LocalCluster, facts: dict[str, Any]) -> dict[str, Any]:
    """Both attacks, and what stands against them."""
    position = int(facts["trade"]["position"])
    console.print("[bold]Two attacks of a dishonest operator[/]")
    with console.status("attacking"):
        denied = forge_as_service(cluster, position)
        with one_byte_changed(cluster, position) as (before, after):
            code, found = check(cluster)
        first = found["first_difference"]
        if code != 1 or first is None or first["position"] != position:
            raise DemoFailed(f"daicho check did not find the changed byte: {found}")
        code, found = check(cluster)
        if code:
            raise DemoFailed(f"daicho check finds a difference where there is none: {found['differences'][:3]}")
        refusal = rewrite(cluster, facts)
    console.print(f"  an entry changed with the services' login: [green]✓ PostgreSQL: {escape(denied)}[/]")
    console.print(
        f"  one byte changed by the machine's owner ({before} → {after} JPY at position {position}): "
        f"[green]✓ daicho check finds position {first['position']} in {first['part']}[/]"
    )
    console.print(f"  a rewritten history, offered to the contract: [green]✓ {escape(refusal)}[/]")
    return {"denied": denied, "one_byte_found_at": first["position"], "rewrite_refused": refusal}


def stop_api(cluster: LocalCluster) -> str:
    """End both replicas: the verifier asks nobody but the chain."""
    for member in cluster.of("api"):
        member.stop()
    return "both replicas of the API stopped: from here on only the chain is asked"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

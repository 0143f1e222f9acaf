"""The story on a service that runs already: the replicas of a cluster, given by their URLs."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cli.demo.screen import show_verdict, step
from cli.demo.service import DemoFailed, is_ready
from cli.demo.story import Story, verify_alone
from cli.screen import console
from cli.settings import Settings, SettingsError


def play_elsewhere(
    urls: Sequence[str],
    secrets: Path,
    settings: Settings,
    kept: Path,
    *,
    node_url: str = "",
    before_verifying: Callable[[], str] | None = None,
) -> dict[str, Any]:
    """The story with these replicas of an API, asked in turn; what it learned. Raises DemoFailed, SettingsError.

    `secrets`: the folder of the token issuer (`daicho secrets`). `kept`: where evidence and policy go. `node_url`: the
    auditor's node, else the first replica's read-only door to its chain. `before_verifying` ends what is not to be
    asked any more, and says so.
    """
    began = time.monotonic()
    if not (secrets / "issuer.pem").exists():
        raise SettingsError(f"{secrets} holds no token issuer: it is the folder that `daicho secrets` filled")
    for url in urls:
        if not is_ready(url):
            raise DemoFailed(f"the service at {url} is not ready: see {url}/readyz")
    kept.mkdir(parents=True, exist_ok=True)
    evidence_file, policy_file = kept / "evidence.json", kept / "policy.json"
    story = Story(urls, settings, step, secrets)
    step(f"{len(urls)} replicas, asked in turn: {' '.join(urls)}")
    story.tell(evidence_file, policy_file)
    if before_verifying is not None:
        with console.status("stopping"):
            ended = before_verifying()
        step(ended)
    node_url = node_url or f"{urls[0]}/chain/rpc"
    code, verdict, seen = verify_alone(evidence_file, policy_file, node_url)
    show_verdict(seen, str(evidence_file), str(policy_file), node_url)
    anchor = story.facts["anchor"]
    return story.facts | {
        "size": verdict.get("size") or anchor["size"],
        "root": anchor["root"],
        "verified": {"exit_code": code, "verdict": verdict},
        "seconds": round(time.monotonic() - began, 1),
    }

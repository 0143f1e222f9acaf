"""`daicho simulate-store`: both app stores and an existing billing system to try things on."""

import sys
import time
from contextlib import suppress
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from cli.settings import SettingsError

if TYPE_CHECKING:
    from simulator.world import World


def simulate_store(
    *,
    port: int = 0,
    company: str = "daily",
    notify: str | None = None,
    speed: float = 1.0,
    folder: Path | None = None,
    scenario: Annotated[tuple[str, ...], Parameter(negative=())] = (),
    account: str | None = None,
    list_scenarios: Annotated[bool, Parameter(name="--list", negative=())] = False,
    loss_test: int | None = None,
    seed: int = 1,
) -> int:
    """Play the App Store, Google Play and a billing system on this machine, until Ctrl-C.

    Parameters
    ----------
    port
        Port to listen on (0: any free one).
    company
        The company whose apps are sold, for the settings that are printed.
    notify
        Base URL of the ledger that notifications are posted to (default: nothing is posted).
    speed
        How many of the stores' seconds pass in one, for retries and deadlines.
    folder
        Where the root certificate and the key files are written (default: a temporary folder).
    scenario
        What happens at both stores, one after the other.
    account
        The account token that purchases carry.
    list_scenarios
        Show the scenarios and end.
    loss_test
        Instead: send so many notifications to a service of its own, which is killed and whose files refuse at random,
        and count what was lost.
    seed
        Of the loss test: which faults strike.
    """
    from simulator.scenarios import SCENARIOS

    if loss_test is not None:
        return run_loss_test(loss_test, seed, folder)
    if list_scenarios:
        return show_scenarios()
    unknown = [name for name in scenario if name not in SCENARIOS]
    if unknown:
        raise SettingsError(f"no scenario {unknown[0]!r}; there are {', '.join(SCENARIOS)}")
    serve_stores(folder or Path(mkdtemp(prefix="daicho-stores-")), port, company, notify, speed, scenario, account)
    return 0


def serve_stores(
    files: Path, port: int, company: str, notify: str | None, speed: float, scenario: tuple[str, ...],
    account: str | None,
) -> None:  # fmt: skip
    """Say where everything is, let the scenarios happen, serve until Ctrl-C."""
    from rich.console import Console

    from simulator.scenarios import play
    from simulator.world import World

    screen = Console()
    files.mkdir(mode=0o700, parents=True, exist_ok=True)
    with World(speed=speed).running(port=port) as world:
        settings = {**world.settings(company), **write_files(world, files)}
        screen.print(f"the stores are at {world.url}; what happens there is at {world.url}/simulator/state")
        screen.print("a ledger that they sell for is started with")
        for name, value in settings.items():
            print(f"export {name}='{value}'")  # noqa: T201 to be copied as it is
        sys.stdout.flush()
        if notify is not None:
            base = notify.rstrip("/")
            world.notify(apple=f"{base}/v1/stores/apple/notifications", google=f"{base}/v1/stores/google/notifications")
        for name in scenario:
            for store in (world.apple, world.google):
                lines = play(name, store, account)
                screen.print(f"{name} at {type(store).__name__}: {len(lines[-1].charges)} charges")
        with suppress(KeyboardInterrupt):
            while True:
                time.sleep(3_600)


def show_scenarios() -> int:
    """What may be played. The exit code."""
    from rich.console import Console

    from simulator.scenarios import SCENARIOS

    screen = Console()
    for name, steps in SCENARIOS.items():
        screen.print(f"[bold]{name}[/bold]: bought, {', '.join(step.verb for step in steps)}")
    return 0


def run_loss_test(count: int, seed: int, folder: Path | None) -> int:
    """Send, disturb, count. The exit code: 0 when nothing was lost, 1 otherwise."""
    from cli.screen import console
    from cli.settings import load_settings
    from cli.simulating.loss import LossTest

    if count < 20:  # noqa: PLR2004 a line of each store
        raise SettingsError("--loss-test takes 20 notifications or more")
    files = folder or Path(mkdtemp(prefix="daicho-loss-"))
    settings = load_settings(data_dir=files / "data", log_level="warning")
    began = time.monotonic()
    with console.status("sending"):
        found, faults = LossTest(settings, files, count, seed=seed, say=lambda fault: console.print(f"  {fault}")).run()
    console.print(f"[bold]{found.sent} notifications, {len(faults)} faults, {time.monotonic() - began:.0f} s[/]")
    console.print(
        f"accepted at the first try {found.first_try}, retried {found.retried}, found by asking {found.by_reconciler}, "
        f"lost {len(found.lost)}, altered {len(found.altered)}, recorded twice {len(found.doubled)}, "
        f"lines that stand wrongly {len(found.wrong_state)}, contracts made twice {len(found.wrong_contracts)}"
    )
    compared = ", ".join(f"{number} {part}" for part, number in found.compared.items())
    console.print(f"store, ledger and billing: {compared}; unexplained differences {len(found.differences)}")
    shown = (found.lost, found.altered, found.doubled, found.wrong_state, found.wrong_contracts, found.differences)
    for line in (line for kind in shown for line in kind[:5]):
        console.print(f"  {line}", markup=False)
    return 0 if found.clean else 1


def write_files(world: "World", folder: Path) -> dict[str, str]:
    """Write certificate and keys into a folder; the settings that name them."""
    content = {
        "DAICHO_APPLE_ROOT_FILE": ("apple-root.der", world.root),
        "DAICHO_APPLE_KEY_FILE": ("apple-key.p8", world.apple_key),
        "DAICHO_GOOGLE_KEY_FILE": ("google-key.json", world.play_key_file),
    }
    for name, data in content.values():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = folder / name
        path.touch(mode=0o600)
        path.write_bytes(data)
    return {setting: str(folder / name) for setting, (name, _) in content.items()}

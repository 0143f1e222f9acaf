"""`daicho simulate-store`: both app stores and an existing billing system to try things on."""

import sys
import time
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
    """
    from rich.console import Console

    from simulator.scenarios import SCENARIOS, play
    from simulator.world import World

    screen = Console()
    if list_scenarios:
        for name, steps in SCENARIOS.items():
            screen.print(f"[bold]{name}[/bold]: bought, {', '.join(step.verb for step in steps)}")
        return 0
    unknown = [name for name in scenario if name not in SCENARIOS]
    if unknown:
        raise SettingsError(f"no scenario {unknown[0]!r}; there are {', '.join(SCENARIOS)}")
    files = folder or Path(mkdtemp(prefix="daicho-stores-"))
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
        try:
            while True:
                time.sleep(3_600)
        except KeyboardInterrupt:
            return 0


def write_files(world: "World", folder: Path) -> dict[str, str]:
    """Write certificate and keys into a folder; the settings that name them."""
    content = {
        "DAICHO_APPLE_ROOT_FILE": ("apple-root.der", world.root),
        "DAICHO_APPLE_KEY_FILE": ("apple-key.p8", world.apple_key),
        "DAICHO_GOOGLE_KEY_FILE": ("google-key.json", world.play_key_file),
    }
    for name, data in content.values():
        path = folder / name
        path.touch(mode=0o600)
        path.write_bytes(data)
    return {setting: str(folder / name) for setting, (name, _) in content.items()}

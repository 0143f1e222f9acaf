"""The `daicho` command. Exit codes: 0 done, 1 refused or disagrees, 2 a bad setting or argument, or nothing to do."""

import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

from cyclopts import App

from cli.screen import fail

app = App(
    name="daicho",
    help="An event-sourced ledger whose every fact can be proven by somebody who does not trust its operator.",
    version="0.1.0",
)

# name → module:function; imported when called, so that `daicho token` does not load an EVM
COMMANDS = {
    "serve": "cli.commands.serve:serve",
    "stream": "cli.commands.stream:stream",
    "init": "cli.commands.init:init",
    "demo": "cli.commands.demo:demo",
    "import": "cli.commands.import_table:import_table",
    "check": "cli.commands.check:check",
    "token": "cli.commands.token:token",
    "keys": "cli.commands.keys:app",
    "node": "cli.commands.node:node",
    "secrets": "cli.commands.secrets:secrets",
    "database": "cli.commands.database:app",
    "topics": "cli.commands.topics:app",
    "deadletters": "cli.commands.deadletters:app",
    "rebuild": "cli.commands.rebuild:rebuild",
    "archive": "cli.commands.archive:app",
    "tieout": "cli.commands.tieout:tieout",
    "simulate-store": "cli.commands.simulate_store:simulate_store",
}


def _load(target: str) -> Callable[..., Any] | App:
    module, _, name = target.partition(":")
    loaded: Callable[..., Any] | App = getattr(import_module(module), name)
    return loaded


def main() -> None:
    """Run the command line."""
    wanted = [name for name in sys.argv[1:2] if name in COMMANDS]
    for name in wanted or COMMANDS:
        target = _load(COMMANDS[name])
        app.command(target, name=name)
    try:
        result = app(sys.argv[1:], exit_on_error=False, print_error=True, result_action="return_value")
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:  # noqa: BLE001 what is no defect is one clear line; a defect shows its trace
        if type(error).__module__.startswith("cyclopts"):
            sys.exit(2)
        sys.exit(fail(error))
    sys.exit(result if isinstance(result, int) else 0)


if __name__ == "__main__":
    main()

"""`make chaos`: kills and pauses everything of the cluster at random under load, then audits what is left.

python -m tests.cluster.chaos [--seed N] [--minutes M] [--commands N]
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.cluster.chaos.run import play


def main() -> int:
    """Play it and print what was found. The exit code."""
    parser = argparse.ArgumentParser(prog="chaos", description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--minutes", type=float, default=15.0)
    parser.add_argument("--commands", type=int, default=20_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="daicho-chaos-") as folder:
        outcome = play(Path(folder), seed=options.seed, seconds=60 * options.minutes, commands=options.commands)
    sys.stdout.write(outcome.text() + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

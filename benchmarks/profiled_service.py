"""`daicho` under a profiler that is switched on and off by SIGUSR2, so that start and stop stay out of the picture.

`python -m benchmarks.profiled_service FILE serve ...`: each time it is switched off, the profile is written to FILE.
"""

import cProfile
import signal
import sys

from cli.main import main


def run() -> None:
    """Run the command line; only the main thread, the event loop's, is seen."""
    path = sys.argv.pop(1)
    profile = cProfile.Profile()
    on = False

    def switch(*_: object) -> None:
        nonlocal on
        on = not on
        if on:
            profile.enable()
        else:
            profile.disable()
            profile.dump_stats(path)

    signal.signal(signal.SIGUSR2, switch)
    main()


if __name__ == "__main__":
    run()

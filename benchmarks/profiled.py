"""Where our side's time goes: the top of a profile for a row that misses its gate."""

import cProfile
import io
import pstats
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from benchmarks.http_rows import MAKERS as HTTP_ROWS
from benchmarks.http_rows import rows as http_rows
from benchmarks.ledger_rows import command_burst, recorder_burst
from benchmarks.rows import Budget

TOP: Final = 15
_SHORT: Final = Budget(rounds=1, scale=0.5)
_IN_PROCESS: Final[dict[str, Callable[[cProfile.Profile], object]]] = {
    "recorder-256": recorder_burst,
    "recorder-raw": recorder_burst,
    "ledger-new-256": lambda profile: command_burst(profile, "record"),
    "ledger-confirm-256": lambda profile: command_burst(profile, "confirm"),
}


def profile_of(identity: str, folder: Path) -> str:
    """Profile our side of a row again; the file with the functions that take most time, or why there is none."""
    if identity in _IN_PROCESS:
        profile = cProfile.Profile()
        _IN_PROCESS[identity](profile)
        return _write(folder / f"profile-{identity}.txt", pstats.Stats(profile, stream=io.StringIO()))
    if identity in HTTP_ROWS:
        with TemporaryDirectory(prefix="daicho-profile-") as name:
            raw = Path(name) / "service.profile"
            http_rows(_SHORT, {identity}, raw)
            return _write(folder / f"profile-{identity}.txt", pstats.Stats(str(raw), stream=io.StringIO()))
    return "no profile is made for this row"


def _write(path: Path, stats: pstats.Stats) -> str:
    stream = io.StringIO()
    stats.stream = stream  # type: ignore[attr-defined]
    stats.sort_stats("tottime").print_stats(TOP)
    path.write_text(stream.getvalue())
    return str(path)

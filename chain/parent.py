"""The child's side of a supervised process: say that it is ready, and end when the parent is gone."""

import ctypes
import json
import os
import select
import signal
import sys
import threading
import time
from typing import Any, Final

PR_SET_PDEATHSIG: Final = 1  # Linux, prctl(2)
POLL_SECONDS: Final = 1.0


def announce(**values: Any) -> None:
    """Tells the parent, in one JSON line on standard output, that requests are served from now on."""
    sys.stdout.write(json.dumps({"ready": True, "pid": os.getpid(), **values}) + "\n")
    sys.stdout.flush()


def end_with_parent(*, grace_seconds: float = 5.0) -> None:
    """Ends this process when its parent is gone: SIGTERM first, and for certain after the grace.

    The parent holds the other end of standard input and never writes to it, so its death, however sudden, reads
    as end of file. Where the pipe is held open by a copy, Linux sends a signal and elsewhere the parent's id changes.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    threading.Thread(target=_watch, args=(os.getppid(), grace_seconds), name="parent-watch", daemon=True).start()


def _watch(parent: int, grace_seconds: float) -> None:
    standard_input = sys.stdin.fileno()
    while os.getppid() == parent:
        readable, _, _ = select.select([standard_input], [], [], POLL_SECONDS)
        if readable and not os.read(standard_input, 1):
            break
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(grace_seconds)
    os._exit(1)

"""Arms the steps of a child process (signer, node) for the fault tests; in any other process it does nothing.

Python runs it at every start while this folder is on PYTHONPATH (`test_kill_at_every_step.py` puts it there).
"""

import os
import sys
from pathlib import Path

_TRIGGER = os.environ.get("FAULT_TRIGGER")
_COMMAND = sys.orig_argv

if _TRIGGER and "chain.signer" in _COMMAND:
    from tests.faults import crash_points

    crash_points.arm(Path(_TRIGGER), crash_points.IN_THE_SIGNER)
elif _TRIGGER and "chain.node" in _COMMAND:
    from tests.faults import crash_points

    crash_points.arm(Path(_TRIGGER), crash_points.IN_THE_NODE | crash_points.AT_THE_NODES_BIRTH)

"""Starts `daicho` processes fast: everything is imported once, each process is a fork that runs the command line.

What runs in the fork is `cli.main.main`, as in `daicho serve …`; its children (signer, node) are started as ever. One
JSON object a line on standard input asks for a process or for the exit code of one; one a line answers.
"""

import ctypes
import gc
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

PR_SET_PDEATHSIG = 1
PR_CAPBSET_DROP = 24
CAPABILITY_VERSION = 0x20080522
CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 1, 2
PRELOADED = (
    "anyio._backends._asyncio",
    "api.server",
    "cli.commands.check",
    "cli.commands.import_table",
    "cli.commands.serve",
    "cli.main",
    "cli.wiring.inside",
    "cli.wiring.service",
    "uvloop",
    "web3",
)


def main() -> None:
    """Serve requests until standard input ends."""
    from importlib import import_module

    for name in PRELOADED:
        import_module(name)
    gc.collect()
    gc.freeze()
    _answer({"ready": True})
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            _, status = os.waitpid(request["wait"], 0)
            _answer({"code": os.waitstatus_to_exitcode(status)})
            continue
        pid = os.fork()
        if not pid:
            _run(request)
        _answer({"pid": pid})


def obey_file_modes() -> None:
    """Give up root's right to write what a file's mode forbids; whoever is not root has none."""
    if os.getuid() or sys.platform != "linux":
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION, 0)
    rights = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable: twice 32 of them
    if libc.capget(header, rights):
        raise OSError(ctypes.get_errno(), "capget")
    for right in (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH):
        libc.prctl(PR_CAPBSET_DROP, right)
        for kind in range(3):
            rights[kind] &= ~(1 << right)
    if libc.capset(header, rights):
        raise OSError(ctypes.get_errno(), "capset")


def _answer(value: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


def _run(request: dict[str, Any]) -> None:
    """In the fork: become the process that was asked for. Does not return."""
    code = 70
    try:
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        out = log
        if "out" in request:
            out = os.open(request["out"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(out, 1)
        os.dup2(log, 2)
        os.environ.update(request["env"])
        if request.get("obeys_file_modes"):
            obey_file_modes()
        sys.argv = ["daicho", *request["arguments"]]
        if "FAULT_TRIGGER" in request["env"]:
            from tests.faults import crash_points

            crash_points.arm(Path(request["env"]["FAULT_TRIGGER"]), crash_points.IN_THE_SERVICE)
        from cli.main import main as command_line

        command_line()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException as error:  # noqa: BLE001 the fork must never go on as the zygote
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()

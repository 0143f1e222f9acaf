"""Supervised children start, come back, and end; their parent's death ends them too."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from chain.children import ChildError, ChildProcess, ChildState, Patience
from tests.chain_fixtures import wait_until

ROOT = Path(__file__).resolve().parents[2]
QUICK = Patience(ready_seconds=10, stop_seconds=10, first_pause_seconds=0.01, longest_pause_seconds=0.05)
GOOD = """
import sys
sys.path.insert(0, {root!r})
from chain.parent import announce, end_with_parent
end_with_parent(grace_seconds=1)
announce(port=int(sys.argv[1]))
import threading
threading.Event().wait()
"""


def script(text: str, *arguments: str) -> list[str]:
    return [sys.executable, "-c", text.format(root=str(ROOT)), *arguments]


def good(_: object = None) -> list[str]:
    return script(GOOD, "4711")


def is_alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 (outside processes set no event)
            await asyncio.sleep(0.01)


def test_a_started_child_is_ready_with_what_it_announced() -> None:
    async def scenario() -> None:
        child = ChildProcess("good", good, patience=QUICK)
        ready = await child.start()
        assert (ready["port"], ready["pid"]) == (4711, child.pid)
        assert child.state is ChildState.READY
        pid = child.pid
        await child.stop()
        assert child.state is ChildState.STOPPED
        assert not is_alive(pid)
        await child.stop()

    asyncio.run(scenario())


def test_a_killed_child_comes_back_with_the_port_it_had() -> None:
    async def scenario() -> None:
        ports = []

        def command(last: dict[str, int] | None) -> list[str]:
            ports.append(last["port"] if last else 0)
            return script(GOOD, str(4711 + len(ports)))

        child = ChildProcess("good", command, patience=QUICK)
        await child.start()
        for times in (1, 2):
            first = child.pid
            os.kill(first, signal.SIGKILL)
            await until(lambda first=first: child.state is ChildState.READY and child.pid != first)
            assert (await child.wait_ready(20))["port"] == 4712 + times
            assert child.restarts == times
        await child.stop()
        assert ports == [0, 4712, 4713]

    asyncio.run(scenario())


def test_a_child_that_cannot_come_back_is_tried_again_and_says_why() -> None:
    async def scenario() -> None:
        starts = []

        def command(last: object) -> list[str]:
            starts.append(last)
            if 1 < len(starts) < 4:
                return script("import sys; sys.exit('no room left')")
            return good()

        child = ChildProcess("shaky", command, patience=QUICK)
        await child.start()
        os.kill(child.pid, signal.SIGKILL)
        await until(lambda: child.last_error and "no room left" in child.last_error)
        if child.state is not ChildState.READY:
            with pytest.raises(ChildError, match="shaky is restarting"):
                _ = child.ready
        await child.wait_ready(20)
        assert len(starts) == 4
        await child.stop()

    asyncio.run(scenario())


def test_a_child_that_fails_at_once_is_an_error_with_its_last_words() -> None:
    async def scenario() -> None:
        child = ChildProcess("bad", lambda _: script("import sys; sys.exit('file is busy')"), patience=QUICK)
        with pytest.raises(ChildError, match="file is busy"):
            await child.start()
        assert (child.state, child.pid) == (ChildState.STOPPED, None)

    asyncio.run(scenario())


def test_a_program_that_does_not_exist_is_an_error() -> None:
    child = ChildProcess("missing", lambda _: ["/no/such/program"], patience=QUICK)
    with pytest.raises(ChildError, match="cannot be started"):
        asyncio.run(child.start())


def test_a_child_that_never_gets_ready_is_killed() -> None:
    async def scenario() -> None:
        patience = Patience(ready_seconds=1.0, stop_seconds=0.2)
        stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
        child = ChildProcess("slow", lambda _: script(stubborn), patience=patience)
        starting = asyncio.create_task(child.start())
        await until(lambda: child.pid)
        pid = child.pid
        with pytest.raises(ChildError, match="not ready within"):
            await starting
        assert not is_alive(pid)

    asyncio.run(scenario())


def test_a_child_that_stops_answering_is_replaced() -> None:
    async def scenario() -> None:
        answers = {"healthy": True}

        async def probe(_: object) -> bool:
            return answers["healthy"]

        patience = Patience(probe_seconds=0.02, first_pause_seconds=0.01)
        child = ChildProcess("hung", good, patience=patience, probe=probe)
        await child.start()
        first = child.pid
        os.kill(first, signal.SIGSTOP)  # hung, and deaf to SIGTERM
        answers["healthy"] = False
        await until(lambda: child.restarts == 1)
        answers["healthy"] = True
        await child.wait_ready(20)
        assert not is_alive(first)
        await child.stop()

    asyncio.run(scenario())


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_child_ends_with_its_parent_however_that_dies(how: signal.Signals) -> None:
    parent_script = f"""
import asyncio, sys
sys.path.insert(0, {str(ROOT)!r})
from tests.unit.test_chain_children import good
from chain.children import ChildProcess

async def main():
    child = ChildProcess("orphan", good)
    ready = await child.start()
    print(ready["pid"], flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""
    parent = subprocess.Popen([sys.executable, "-c", parent_script], stdout=subprocess.PIPE, cwd=ROOT)
    pid = int(parent.stdout.readline())
    assert is_alive(pid)
    parent.send_signal(how)
    parent.wait(20)
    wait_until(lambda: not is_alive(pid), "the child is gone")
    parent.stdout.close()


def test_a_child_without_the_kernels_help_still_ends_with_its_parent() -> None:
    # what remains where prctl does not exist: end of file on standard input
    child = subprocess.Popen(
        script(GOOD.replace("end_with_parent(grace", "import sys; sys.platform = 'other'\nend_with_parent(grace"), "1"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert b"ready" in child.stdout.readline()
    child.stdin.close()
    child.wait(20)
    child.stdout.close()

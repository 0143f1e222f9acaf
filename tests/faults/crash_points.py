"""Every durable step of the product by name, and how a test kills the process there: SIGKILL to itself, at once.

`arm` wraps the named methods in the process about to run; nothing happens until a test writes `<name>#<n>` into the
trigger file: the process dies at the n-th time from then on. The product knows nothing of this. In the signer and the
node `site/sitecustomize.py` arms their steps.
"""

import functools
import inspect
import os
import signal
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

BEFORE, AFTER = "before", "after"
TRIGGER = "FAULT_TRIGGER"


class Step(NamedTuple):
    """Where to kill: before or after a call of `module:Class.method`, if `when(arguments, result)` holds."""

    target: str
    moment: str
    when: Callable[[tuple[Any, ...], Any], bool] = lambda _arguments, _result: True


def _ledger(arguments: tuple[Any, ...], _result: Any) -> bool:
    """It is the ledger's recorder, not the anchor book's."""
    return bool(arguments[0].events_table_name == "stored_events")


def _some(_arguments: tuple[Any, ...], result: Any) -> bool:
    return bool(result)


def _rows_given(arguments: tuple[Any, ...], _result: Any) -> bool:
    return len(arguments) > 1


WHILE_WORKING: dict[str, Step] = {
    "writer: rows inserted, not committed": Step("storage.sqlite_recorder:LedgerRecorder.commit", BEFORE, _ledger),
    "writer: committed, not answered": Step("storage.sqlite_recorder:LedgerRecorder.commit", AFTER, _ledger),
    "sequencer: leaves stored": Step("storage.log_store:SqliteLogStore.append", AFTER),
    "publisher: head signed, not stored": Step("storage.log_store:SqliteLogStore.add_checkpoint", BEFORE),
    "publisher: checkpoint stored, not shown": Step("storage.log_store:SqliteLogStore.add_checkpoint", AFTER),
    "projector: read models committed": Step("projections.projector:Projector.process", AFTER),
    "anchorer: due work stored, nobody woken": Step("streams.anchorer:Anchorer.process", AFTER),
    "executor: work leased, not begun": Step("storage.due_work:DueWork.lease", AFTER, _some),
    "lane: transaction stored, not sent": Step("storage.lane_store:SqliteLaneStore.plan", AFTER),
    "lane: transaction sent, not marked": Step("chain.connection:Connection.send", AFTER),
    "lane: sent and marked": Step("storage.lane_store:SqliteLaneStore.mark_sent", AFTER),
    "lane: mined and marked, book not told": Step("storage.lane_store:SqliteLaneStore.mark_mined", AFTER),
    "lane: final and marked, book not told": Step("storage.lane_store:SqliteLaneStore.mark_final", AFTER),
    "anchor book: recorded, lane not told": Step("domain.anchor_book:AnchorBook.record", AFTER),
    "anchor projector: read models committed": Step(
        "projections.anchor_projector:AnchorProjector.process", AFTER, lambda arguments, _: bool(arguments[1])
    ),
    "executor: work done, its row gone": Step("storage.due_work:DueWork.done", AFTER, _rows_given),
}
WHILE_SIGNING_UP: dict[str, Step] = {
    "vault: pseudonym stored, no key yet": Step("storage.vault_store:SqliteVaultStore.add_subject", AFTER),
    "vault: key made, wallet not opened": Step("cli.wiring.ports:CustodialKeys.create", AFTER),
    "vault: possession proven, wallet not opened": Step("cli.wiring.ports:CustodialKeys.prove", AFTER),
}
WHILE_STARTING_FIRST: dict[str, Step] = {
    "secrets: one of them made": Step("cli.development:write_private", AFTER),
    "secrets: all made": Step("cli.wiring.service:prepare_secrets", AFTER),
    "identity: vault initialised": Step("cli.wiring.chain_side:ChainSide._identity", AFTER),
    "contract: deployed, not pinned": Step("cli.wiring.chain_side:ensure_deployed", AFTER),
    "contract: pinned": Step("cli.wiring.chain_side:ChainSide._pin_contract", AFTER),
    "log: registered in the contract": Step("cli.wiring.chain_side:ensure_registered", AFTER),
    "book: files made, streams wired": Step("cli.wiring.streams_side:StreamsSide._connect", AFTER),
    "book: opened": Step("storage.sqlite_recorder:LedgerRecorder.commit", AFTER, _ledger),
}
IN_THE_SIGNER: dict[str, Step] = {
    "signer: key stored, not answered": Step(
        "storage.vault_store:SqliteVaultStore.commit", AFTER, lambda arguments, _: bool(arguments[2])
    ),
    "signer: head remembered, signature not given out": Step(
        "storage.vault_store:SqliteVaultStore.commit", AFTER, lambda arguments, _: arguments[3] is not None
    ),
}
IN_THE_NODE: dict[str, Step] = {
    "node: block durable, not answered": Step("chain.node.store:ChainStore.commit", AFTER),
}
AT_THE_NODES_BIRTH: dict[str, Step] = {
    "node: file made, no genesis": Step("chain.node.store:ChainStore.__init__", AFTER),
    "node: genesis durable": Step("chain.node.store:ChainStore.commit", AFTER),
}
IN_THE_SERVICE = {**WHILE_WORKING, **WHILE_SIGNING_UP, **WHILE_STARTING_FIRST}


def arm(trigger: Path, steps: dict[str, Step]) -> None:
    """Let this process kill itself at a step as soon as the trigger file names it."""
    for name, step in steps.items():
        module, _, path = step.target.partition(":")
        owner: Any = import_module(module)
        *outer, method = path.split(".")
        for part in outer:
            owner = getattr(owner, part)
        setattr(owner, method, _wrapped(getattr(owner, method), name, step, trigger))


def _wrapped(inner: Callable[..., Any], name: str, step: Step, trigger: Path) -> Callable[..., Any]:
    point = _Point(name, step, trigger)
    if inspect.iscoroutinefunction(inner):

        @functools.wraps(inner)
        async def awaited(*arguments: Any, **named: Any) -> Any:
            point.reached(BEFORE, arguments, None)
            result = await inner(*arguments, **named)
            point.reached(AFTER, arguments, result)
            return result

        return awaited

    @functools.wraps(inner)
    def called(*arguments: Any, **named: Any) -> Any:
        point.reached(BEFORE, arguments, None)
        result = inner(*arguments, **named)
        point.reached(AFTER, arguments, result)
        return result

    return called


class _Point:
    """A step in this process, and how often it was come to since it is the one that is wanted."""

    def __init__(self, name: str, step: Step, trigger: Path) -> None:
        self._name, self._step, self._trigger = name, step, trigger
        self._seen = 0

    def reached(self, moment: str, arguments: tuple[Any, ...], result: Any) -> None:
        """Die here if this is where and when."""
        wanted, _, times = _read(self._trigger).partition("#")
        if wanted == self._name and moment == self._step.moment and self._step.when(arguments, result):
            self._seen += 1
            if self._seen == int(times):
                _die(self._trigger)


def pull(trigger: Path, name: str, times: int = 1) -> None:
    """Let the armed process die at this step, the n-th time that it comes there."""
    partial = trigger.with_suffix(".partial")
    partial.write_text(f"{name}#{times}")
    partial.replace(trigger)


def _read(trigger: Path) -> str:
    try:
        return trigger.read_text()
    except OSError:
        return ""


def _die(trigger: Path) -> None:
    # the name is taken away first: what runs after this process must not die of it as well
    trigger.rename(trigger.with_suffix(".fired"))
    os.kill(os.getpid(), signal.SIGKILL)
    while True:  # another thread may still run for a moment; this one must do nothing more
        signal.pause()

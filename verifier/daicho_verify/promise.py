"""Verification of a promise: the signed note with which the server answered a command.

1. promise: the note is of the policy's log and signed by its promise key.
2. log-signature: the log shown has a checkpoint signed by the log key.
3. kept: every promised leaf is at its position in that log, once publish-by has passed.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from daicho_verify.entry import micros
from daicho_verify.errors import DisagreesError, MalformedError, NotCheckedError
from daicho_verify.jsontext import MAX_INT, decode_base64
from daicho_verify.log import read_checkpoint
from daicho_verify.merkle import HASH_BYTES, verify_inclusion
from daicho_verify.notes import Checkpoint, Note, check_signed, parse_note
from daicho_verify.policy import Policy
from daicho_verify.report import Report, run_ring
from daicho_verify.source import Source
from daicho_verify.tiles import Tiles
from daicho_verify.verify import NO_POLICY, check_log_signature

MAX_PROMISE_BYTES = 1 << 22
_HEADER_LINES = 2


@dataclass(frozen=True, slots=True)
class Promise:
    """What was promised: origin, publish-by (as written), and (position, leaf hash) ascending."""

    origin: str
    publish_by: str
    leaves: tuple[tuple[int, bytes], ...]
    note: Note


def parse_promise(data: bytes) -> Promise:
    """Parse a promise note; raises MalformedError naming the field and the rule."""
    try:
        note = parse_note(data.decode(), "promise")
    except UnicodeDecodeError:
        raise MalformedError("promise", "must be UTF-8") from None
    lines = note.text.split("\n")[:-1]
    if len(lines) <= _HEADER_LINES or not lines[0].endswith("/promise"):
        raise MalformedError("promise", "must hold '<origin>/promise', a publish-by line and at least one leaf")
    time = re.fullmatch(r"publish-by ([0-9T:.-]{26}Z)", lines[1])
    try:
        micros(time[1] if time else "")
    except ValueError:
        raise MalformedError("promise publish-by", "must be a UTC time with six decimals") from None
    leaves: list[tuple[int, bytes]] = []
    for number, line in enumerate(lines[_HEADER_LINES:], 1):
        where = f"promise leaf line {number}"
        match = re.fullmatch(r"([1-9][0-9]{0,18}) (\S+)", line)
        if match is None or int(match[1]) > MAX_INT:
            raise MalformedError(where, "must be a position below 2^63 and a base64 leaf hash")
        leaf = decode_base64(match[2], where)
        if len(leaf) != HASH_BYTES:
            raise MalformedError(where, f"must be a hash of 32 bytes, has {len(leaf)}")
        if leaves and int(match[1]) <= leaves[-1][0]:
            raise MalformedError(where, "must have ascending positions")
        leaves.append((int(match[1]), leaf))
    return Promise(lines[0].removesuffix("/promise"), time[1] if time else "", tuple(leaves), note)


class _PromiseCheck:
    """One run over one promise and one log."""

    def __init__(self, promise: Promise, policy: Policy | None, log: Source | None, now: datetime) -> None:
        self.promise = promise
        self.policy = policy
        self.log = log
        self.now = now
        self.checkpoint: Checkpoint | None = None
        self.promised = False

    def ring1_promise(self) -> str:
        """1. Promise signature."""
        if self.policy is None:
            raise NotCheckedError(NO_POLICY)
        if self.policy.promise_key is None:
            raise NotCheckedError("the policy names no promise key")
        if self.promise.origin != self.policy.origin:
            raise DisagreesError(f"a promise of {self.promise.origin}, the policy is for {self.policy.origin}")
        what = f"promise of {len(self.promise.leaves)} entries by {self.promise.publish_by}"
        why = check_signed(self.promise.note, self.policy.promise_key, what)
        self.promised = True
        return why

    def ring2_log_signature(self) -> str:
        """2. Log signature."""
        if self.log is None:
            raise NotCheckedError("no log was named (--log)")
        checkpoint = read_checkpoint(self.log)
        why = check_log_signature(checkpoint, self.policy)
        self.checkpoint = checkpoint
        return why

    def _broken(self, why: str, checkpoint: Checkpoint) -> DisagreesError:
        proof = {
            "kind": "broken promise",
            "origin": self.promise.origin,
            "why": why,
            "first": {"promise": self.promise.note.raw},
            "second": {"checkpoint": checkpoint.note.raw, "seen_at": self.now.isoformat()},
        }
        return DisagreesError(why, proof)

    def ring3_kept(self) -> str:
        """3. Kept."""
        if self.checkpoint is None or self.log is None or not self.promised:
            raise NotCheckedError("the promise and the log's checkpoint are not both established")
        checkpoint, tiles = self.checkpoint, Tiles(self.log, self.checkpoint.size)
        if checkpoint.size and tiles.root(checkpoint.size) != checkpoint.root:
            raise DisagreesError("the log's tiles do not hash to its signed root")
        missing = [position for position, _ in self.promise.leaves if position > checkpoint.size]
        for position, leaf in self.promise.leaves:
            if position > checkpoint.size:
                continue
            path, shown = tiles.inclusion(position - 1, checkpoint.size), tiles.node(0, position - 1)
            if not verify_inclusion(position - 1, checkpoint.size, shown, path, checkpoint.root):
                raise DisagreesError(f"the tiles around position {position} do not hash to the signed root")
            if shown != leaf:
                raise self._broken(f"broken: the log has another leaf at position {position}", checkpoint)
        if missing:
            what = f"position {missing[0]} is not in the log shown (size {checkpoint.size})"
            if int(self.now.timestamp() * 1_000_000) <= micros(self.promise.publish_by):
                raise NotCheckedError(f"{what}, and is not due before {self.promise.publish_by}")
            raise self._broken(f"broken: {what}, though due by {self.promise.publish_by}", checkpoint)
        return f"all {len(self.promise.leaves)} promised leaves are at their positions"

    def run(self) -> Report:
        """Run the rings in their numbered order; with a log all are asked for, without one only the first."""
        required = frozenset({"promise"} if self.log is None else {"promise", "log-signature", "kept"})
        checks: list[tuple[str, Callable[[], str]]] = [
            ("promise", self.ring1_promise),
            ("log-signature", self.ring2_log_signature),
            ("kept", self.ring3_kept),
        ]
        rings = [run_ring(number, name, required, check) for number, (name, check) in enumerate(checks, 1)]
        subject: dict[str, object] = {"log": self.promise.origin, "publish-by": self.promise.publish_by}
        return Report("promise", subject, rings)


def verify_promise(
    promise: Promise, policy: Policy | None, log: Source | None = None, now: datetime | None = None
) -> Report:
    """Check a promise; `now` is the moment that publish-by is compared with (this machine's clock by default)."""
    return _PromiseCheck(promise, policy, log, now or datetime.now(UTC)).run()

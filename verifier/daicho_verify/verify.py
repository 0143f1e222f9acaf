"""Verification of one evidence file, ring by ring; none takes anything from the evidence on trust.

1. entry: the bytes are canonical JSON of the right form, for this position of this log.
2. author: a wallet's key that was valid at that position signed exactly this (see author.py).
3. inclusion: the entry's leaf is at that position in the checkpoint's tree.
4. log-signature: the checkpoint is signed by the log key of the policy.
5. witnesses: k of the policy's n witnesses cosigned the checkpoint.
6. chain: the user's own node shows the anchor, and the checkpoint extends it (see chain.py).
7. time: what the block, the witnesses and recorded_at prove about when.
8. head: the checkpoint extends the last one seen of this log (only with remembered heads).
"""

from collections.abc import Callable

from daicho_verify.author import AuthorResult, check_author
from daicho_verify.chain import ChainResult, check_chain, label
from daicho_verify.entry import Entry, parse_entry
from daicho_verify.errors import DisagreesError, NotCheckedError
from daicho_verify.evidence import Evidence
from daicho_verify.heads import Heads, check_head
from daicho_verify.merkle import leaf_hash, verify_inclusion
from daicho_verify.notes import Checkpoint, check_signed, cosigned_at
from daicho_verify.policy import CORE_RINGS, Policy
from daicho_verify.report import Report, Ring, merge_reservations, run_ring
from daicho_verify.rpc import Node
from daicho_verify.source import Source
from daicho_verify.tiles import Tiles
from daicho_verify.timebounds import check_time

NO_POLICY = "no policy was given (--policy): nobody is trusted yet"


def check_log_signature(checkpoint: Checkpoint, policy: Policy | None) -> str:
    """Ring 4, also for a log: the checkpoint is of the policy's log and signed by its key."""
    if policy is None:
        raise NotCheckedError(NO_POLICY)
    if checkpoint.origin != policy.origin:
        raise DisagreesError(f"the checkpoint is of the log {checkpoint.origin}, the policy is for {policy.origin}")
    return check_signed(checkpoint.note, policy.log_key, f"size {checkpoint.size}")


def check_witnesses(checkpoint: Checkpoint, policy: Policy | None) -> tuple[str, list[int]]:
    """Ring 5, also for a log: gives the reason and the cosignature times (unix s)."""
    if policy is None:
        raise NotCheckedError(NO_POLICY)
    if not policy.witnesses:
        raise NotCheckedError("the policy names no witness")
    times = [time for key in policy.witnesses if (time := cosigned_at(checkpoint.note, key)) is not None]
    counted = f"{len(times)} of {len(policy.witnesses)} witnesses cosigned, {policy.quorum} asked for"
    if len(times) < max(policy.quorum, 1):
        raise NotCheckedError(counted)
    return counted, times


class _EvidenceCheck:
    """One run over one evidence file; rings that build on others keep what those found."""

    def __init__(
        self, evidence: Evidence, policy: Policy | None, node: Node | None, heads: Heads | None, log: Source | None
    ) -> None:
        self.evidence = evidence
        self.checkpoint = evidence.checkpoint
        self.policy = policy
        self.node = node
        self.heads = heads
        self.log = log
        self.entry: Entry | None = None
        self.author: AuthorResult | None = None
        self.chain: ChainResult | None = None
        self.witnessed: list[int] = []
        self.signed = False

    def _parsed(self) -> Entry:
        if self.entry is None:
            raise NotCheckedError("the entry itself is refused")
        return self.entry

    def ring1_entry(self) -> str:
        """1. Entry."""
        evidence = self.evidence
        if self.policy is not None and evidence.origin != self.policy.origin:
            raise DisagreesError(f"evidence of the log {evidence.origin}, the policy is for {self.policy.origin}")
        if self.checkpoint.origin != evidence.origin:
            raise DisagreesError(f"evidence of {evidence.origin} with a checkpoint of {self.checkpoint.origin}")
        self.entry = parse_entry(evidence.main.raw, evidence.main.position, evidence.origin)
        known = "" if self.entry.known else "; this type is not known here, its data is not interpreted"
        return f"{self.entry.type}, {len(self.entry.raw)} canonical bytes at position {self.entry.position}{known}"

    def ring2_author(self) -> str:
        """2. Author."""
        entry = self._parsed()
        chain = self.policy.chain if self.policy is not None else None
        domain = chain.domain if chain is not None else None
        self.author = check_author(entry, self.evidence.author, self.checkpoint, domain)
        return self.author.why

    def ring3_inclusion(self) -> str:
        """3. Inclusion."""
        main, checkpoint = self.evidence.main, self.checkpoint
        leaf = leaf_hash(main.raw)
        if main.position > checkpoint.size:
            raise DisagreesError(f"position {main.position} is beyond the checkpoint's size {checkpoint.size}")
        if not verify_inclusion(main.position - 1, checkpoint.size, leaf, main.inclusion, checkpoint.root):
            raise DisagreesError(f"the leaf {leaf.hex()} is not at position {main.position} of that tree")
        return f"leaf {leaf.hex()} is at position {main.position} of {checkpoint.size}"

    def ring4_log_signature(self) -> str:
        """4. Log signature."""
        why = check_log_signature(self.checkpoint, self.policy)
        self.signed = True
        return why

    def ring5_witnesses(self) -> str:
        """5. Witnesses."""
        why, self.witnessed = check_witnesses(self.checkpoint, self.policy)
        return why

    def ring6_chain(self) -> str:
        """6. Chain."""
        if self.policy is None:
            raise NotCheckedError(NO_POLICY)
        self.chain = check_chain(
            self.evidence.anchor, self.checkpoint, self.evidence.main.position, self.policy.chain, self.node
        )
        return self.chain.why

    def ring7_time(self) -> str:
        """7. Time bounds."""
        entry = self._parsed()
        others = self.author.proven if self.author is not None else ()
        block = self.chain.block if self.chain is not None else None
        quorum, tolerance = (self.policy.quorum, self.policy.clock_tolerance_seconds) if self.policy else (0, 0)
        return check_time(entry, others, block, self.witnessed, quorum, tolerance)

    def ring8_head(self) -> str:
        """8. Remembered head; the file is written only after the signature and the step were proven."""
        if self.heads is None:
            raise NotCheckedError("no remembered heads were named (--heads)")
        if not self.signed:
            raise NotCheckedError("the checkpoint's own signature is not established")
        old = self.heads.get(self.checkpoint.origin)
        anchor = self.evidence.anchor
        anchored = None if anchor is None else (anchor.size, anchor.root, anchor.consistency)
        size = max(self.checkpoint.size, old.size if old is not None else 0)
        tiles = None if self.log is None else Tiles(self.log, size)
        why = check_head(old, self.checkpoint, anchored, tiles)
        self.heads.put(self.checkpoint)
        return why

    def run(self) -> list[Ring]:
        """Run all rings in their numbered order."""
        required = self.policy.require if self.policy is not None else frozenset(CORE_RINGS)
        checks: list[tuple[str, Callable[[], str]]] = [
            ("entry", self.ring1_entry),
            ("author", self.ring2_author),
            ("inclusion", self.ring3_inclusion),
            ("log-signature", self.ring4_log_signature),
            ("witnesses", self.ring5_witnesses),
            ("chain", self.ring6_chain),
            ("time", self.ring7_time),
        ]
        if self.heads is not None or "head" in required:
            checks.append(("head", self.ring8_head))
        return [run_ring(number, name, required, check) for number, (name, check) in enumerate(checks, 1)]

    def reservations(self, rings: list[Ring]) -> list[str]:
        """Give what keeps an agreement qualified although the ring is ok."""
        reserved = {}
        if self.policy is not None and self.policy.chain is not None and not self.policy.chain.independent:
            reserved["chain"] = label(self.policy.chain)
        if self.author is not None and self.author.custodial:
            reserved["author"] = "the operator keeps the signing key"
        return merge_reservations(rings, reserved)


def verify_evidence(
    evidence: Evidence,
    policy: Policy | None,
    node: Node | None = None,
    heads: Heads | None = None,
    log: Source | None = None,
) -> Report:
    """Check an evidence file against the user's own policy, node, remembered heads and log."""
    check = _EvidenceCheck(evidence, policy, node, heads, log)
    rings = check.run()
    subject: dict[str, object] = {"position": evidence.main.position, "log": evidence.origin}
    if check.entry is not None:
        subject |= {"type": check.entry.type, "recorded_at": check.entry.recorded_at}
    return Report("evidence", subject, rings, check.reservations(rings))

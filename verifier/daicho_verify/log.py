"""Verification of a log itself, from its checkpoint and tiles, against the chain and what was seen before.

1. log-signature: the checkpoint is signed by the log key of the policy.
2. witnesses: k of the policy's n witnesses cosigned it.
3. tree: all tiles (full), or N random leaves with their paths (sample), hash to the checkpoint's root.
4. entries: the bundles hold exactly the leaves; each entry is canonical, at its position, never earlier than the last.
5. chain: every Anchored event of the log shows the size and root that the tree has there, without a gap.
6. head: the checkpoint extends the last one seen.
"""

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from daicho_verify.chain import check_same_chain, label, log_id
from daicho_verify.entry import Entry, parse_entry
from daicho_verify.errors import DisagreesError, MissingError, NotCheckedError, UnavailableError
from daicho_verify.heads import Heads, check_head, contradiction
from daicho_verify.merkle import EMPTY_ROOT, Frontier, leaf_hash, perfect_root, verify_inclusion
from daicho_verify.notes import Checkpoint, parse_checkpoint
from daicho_verify.policy import CORE_RINGS, ChainPolicy, Policy, checksummed
from daicho_verify.report import Report, Ring, merge_reservations, run_ring
from daicho_verify.rpc import AnchoredEvent, Node
from daicho_verify.source import Source
from daicho_verify.tiles import WIDTH, Tiles
from daicho_verify.verify import NO_POLICY, check_log_signature, check_witnesses

MAX_CHECKPOINT_BYTES = 1 << 20
Progress = Callable[[str, int, int], None]  # (what, done, of)


@dataclass(frozen=True, slots=True)
class Depth:
    """How much is read: `sample` random leaves, or all of them when it is None; `entries` reads bundles too."""

    sample: int | None = None
    entries: bool = False


def read_checkpoint(source: Source) -> Checkpoint:
    """Fetch and parse the log's checkpoint."""
    raw = source.read("checkpoint", MAX_CHECKPOINT_BYTES)
    return parse_checkpoint(raw.decode(errors="replace"), "checkpoint")


def _no_progress(_what: str, _done: int, _of: int) -> None:
    """Say nothing."""


class _LogCheck:
    """One run over one log."""

    def __init__(
        self,
        source: Source,
        policy: Policy | None,
        node: Node | None,
        heads: Heads | None,
        depth: Depth,
        progress: Progress,
    ) -> None:
        self.policy = policy
        self.node = node
        self.heads = heads
        self.depth = depth
        self.progress = progress
        # The anchors and the remembered head are read before the checkpoint: what grows meanwhile makes the checkpoint
        # larger than they are, never smaller, so a live log is not taken for a shrunken one.
        self.anchors, self.anchors_refused = self._read_anchors()
        self.old = heads.get(policy.origin) if heads is not None and policy is not None else None
        self.checkpoint = read_checkpoint(source)
        self.tiles = Tiles(source, self.checkpoint.size)
        self.source = source
        self.roots: dict[int, bytes] = {}
        self.samples: list[int] = []
        self.uppers: list[bytes] = []
        self.signed = False
        self.tree_agrees = False

    @property
    def chain(self) -> ChainPolicy | None:
        """The policy's chain, if any."""
        return self.policy.chain if self.policy is not None else None

    def _read_anchors(self) -> tuple[list[AnchoredEvent], str]:
        """Give the anchors on chain, or none and the reason."""
        chain = self.chain
        if self.policy is None or chain is None:
            return [], NO_POLICY if self.policy is None else "the policy names no chain"
        if self.node is None:
            return [], "no node of your own was named (--rpc)"
        try:
            check_same_chain(chain, self.node)
            head = self.node.head()
            events = self.node.anchored(chain.contract, log_id(self.policy.origin), chain.from_block, head)
        except (NotCheckedError, UnavailableError) as error:
            return [], str(error)
        return events, "" if events else "the chain shows no anchor of this log yet"

    def ring1_log_signature(self) -> str:
        """1. Log signature."""
        why = check_log_signature(self.checkpoint, self.policy)
        self.signed = True
        return why

    def ring2_witnesses(self) -> str:
        """2. Witnesses."""
        return check_witnesses(self.checkpoint, self.policy)[0]

    def _marks(self) -> set[int]:
        """Give the sizes below the checkpoint's whose root is wanted."""
        sizes = {event.size for event in self.anchors} | ({self.old.size} if self.old is not None else set())
        return {size for size in sizes if 0 < size <= self.checkpoint.size}

    def _all_tiles(self) -> bytes:
        """Hash every leaf, note the roots at the marked sizes and the full tiles', give the whole root."""
        frontier, marks = Frontier(), self._marks()
        total = -(-self.checkpoint.size // WIDTH)
        for index in range(total):
            hashes = self.tiles.tile(0, index)
            for leaf in hashes:
                frontier.append(leaf)
                if frontier.size in marks:
                    self.roots[frontier.size] = frontier.root()
            if len(hashes) == WIDTH:
                self.uppers.append(perfect_root(hashes))
            self.progress("tiles", index + 1, total)
        return frontier.root()

    def _check_upper_tiles(self) -> None:
        """Compare the tiles above the leaves with what those hash to; nothing to do for a sample."""
        level, uppers = 1, self.uppers
        while uppers:
            rows = [uppers[i : i + WIDTH] for i in range(0, len(uppers), WIDTH)]
            for index, row in enumerate(rows):
                if self.tiles.tile(level, index) != row:
                    raise DisagreesError(f"tile {index} of level {level} is not what the tiles below it hash to")
            uppers = [perfect_root(row) for row in rows if len(row) == WIDTH]
            level += 1

    def _sampled(self) -> list[int]:
        """Give the 0-based indices to look at: unpredictable, so that a log cannot prepare for them."""
        size = self.checkpoint.size
        return sorted(random.SystemRandom().sample(range(size), min(self.depth.sample or 0, size)))

    def ring3_tree(self) -> str:
        """3. Tree."""
        size, root = self.checkpoint.size, self.checkpoint.root
        if self.depth.sample is None:
            computed = self._all_tiles()
            what = f"all {size} leaves"
        else:
            self.samples = self._sampled()
            computed = self.tiles.root(size) if size else EMPTY_ROOT
            what = f"{len(self.samples)} random leaves of {size}"
        if computed != root:
            raise DisagreesError(
                f"the tiles hash to {computed.hex()}, the signed root is {root.hex()}",
                {
                    "kind": "tiles against checkpoint",
                    "origin": self.checkpoint.origin,
                    "first": {"checkpoint": self.checkpoint.note.raw},
                    "second": {"size": size, "root": computed.hex()},
                },
            )
        self._check_upper_tiles()
        for done, index in enumerate(self.samples, 1):
            path, leaf = self.tiles.inclusion(index, size), self.tiles.node(0, index)
            if not verify_inclusion(index, size, leaf, path, root):
                raise DisagreesError(f"the leaf at position {index + 1} is not in the signed tree")
            self.progress("leaves", done, len(self.samples))
        self.tree_agrees = True
        return f"{what} hash to the signed root {root.hex()}"

    def _bundles(self) -> list[int]:
        if self.depth.sample is None:
            return list(range(-(-self.checkpoint.size // WIDTH)))
        return sorted({index // WIDTH for index in self.samples})

    def _check_first(self, entry: Entry) -> None:
        """Compare the book's own opening with the policy: a stranger's log would open otherwise."""
        if entry.type != "BookOpened":
            raise DisagreesError(f"the log opens with a {entry.type}, not with a BookOpened")
        chain = self.chain
        if chain is not None and entry.known:
            named = (entry.data["chain_id"], str(entry.data["contract"]).lower())
            if named != (chain.chain_id, checksummed(chain.contract).lower()):
                raise DisagreesError(f"the log opens with chain {named[0]} and contract {named[1]}, not the policy's")

    def _check_bundle(self, index: int, last: str) -> str:
        """Check all entries of one bundle; gives the time of its last."""
        leaves = self.tiles.tile(0, index)
        for inner, raw in enumerate(self.tiles.bundle(index)):
            position = index * WIDTH + inner + 1
            if leaf_hash(raw) != leaves[inner]:
                raise DisagreesError(f"the entry served at position {position} does not hash to its leaf")
            entry = parse_entry(raw, position, self.checkpoint.origin)
            if entry.recorded_at < last:
                raise DisagreesError(f"position {position} says {entry.recorded_at}, earlier than {last} before it")
            if position == 1:
                self._check_first(entry)
            last = entry.recorded_at
        return last

    def ring4_entries(self) -> str:
        """4. Entries."""
        if not self.tree_agrees:
            raise NotCheckedError("the tree itself is not established")
        bundles, last, before = self._bundles(), "", -2
        for done, index in enumerate(bundles, 1):
            last = self._check_bundle(index, last if index == before + 1 else "")
            before = index
            self.progress("bundles", done, len(bundles))
        count = sum(self.tiles.width(0, index) for index in bundles)
        return f"{count} entries are canonical, at their positions, hash to their leaves, in order of time"

    def _root_at(self, size: int) -> bytes:
        """Give the tree's root at a smaller size; ring 3 has established the tiles."""
        if size not in self.roots:
            if self.tiles.root(self.checkpoint.size, cut=size) != self.checkpoint.root:
                raise NotCheckedError(f"the tiles around size {size} do not hash to the signed root")
            self.roots[size] = self.tiles.root(size)
        return self.roots[size]

    def _disputed(self, event: AnchoredEvent, why: str) -> DisagreesError:
        anchored = {
            "size": event.size,
            "root": event.root.hex(),
            "contract": "0x" + event.contract.hex(),
            "tx_hash": "0x" + event.tx_hash.hex(),
            "block_number": event.block_number,
            "block_hash": "0x" + event.block_hash.hex(),
        }
        return DisagreesError(
            why,
            {
                "kind": "anchor against log",
                "origin": self.checkpoint.origin,
                "why": why,
                "first": {"checkpoint": self.checkpoint.note.raw},
                "second": {"anchored": anchored},
            },
        )

    def ring5_chain(self) -> str:
        """5. Chain."""
        if self.anchors_refused:
            raise NotCheckedError(self.anchors_refused)
        if not self.tree_agrees or not self.signed:
            raise NotCheckedError("the tree and its signature are not established")
        before = 0
        for event in self.anchors:
            where = f"the anchor of size {event.size} in block {event.block_number}"
            if event.previous_size != before:
                raise self._disputed(event, f"{where} follows size {event.previous_size}, not {before}: a gap")
            if event.size > self.checkpoint.size:
                raise self._disputed(event, f"{where} is larger than the log shown ({self.checkpoint.size}): shrunken")
            if self._root_at(event.size) != event.root:
                raise self._disputed(event, f"{where} has the root {event.root.hex()}, the log has another there")
            before = event.size
        found = self.chain
        labelled = label(found) if found is not None else ""
        return f"{len(self.anchors)} anchors agree, up to size {before} of {self.checkpoint.size}; {labelled}"

    def ring6_head(self) -> str:
        """6. Remembered head."""
        if self.heads is None:
            raise NotCheckedError("no remembered heads were named (--heads)")
        if not self.signed or not self.tree_agrees:
            raise NotCheckedError("the checkpoint's signature and tree are not established")
        old, new = self.old, self.checkpoint
        if old is not None and old.size > new.size:
            try:
                why = check_head(old, new, None, Tiles(self.source, old.size))
            except (NotCheckedError, MissingError):
                raise contradiction(
                    old, new, f"shrunken: the log shows size {new.size}, but was seen with {old.size}"
                ) from None
        else:
            why = check_head(old, new, None, self.tiles)
        self.heads.put(new)
        return why

    def run(self) -> Report:
        """Run the rings in their numbered order."""
        required = self.policy.require if self.policy is not None else frozenset(CORE_RINGS)
        required |= {"log-signature", "tree", "entries"}
        checks: Iterable[tuple[int, str, Callable[[], str]]] = [
            (1, "log-signature", self.ring1_log_signature),
            (2, "witnesses", self.ring2_witnesses),
            (3, "tree", self.ring3_tree),
            *([(4, "entries", self.ring4_entries)] if self.depth.entries else []),
            (5, "chain", self.ring5_chain),
            *([(6, "head", self.ring6_head)] if self.heads is not None or "head" in required else []),
        ]
        rings: list[Ring] = [run_ring(number, name, required, check) for number, name, check in checks]
        reserved = {}
        if self.chain is not None and not self.chain.independent:
            reserved["chain"] = label(self.chain)
        if self.depth.sample is not None:
            reserved["tree"] = "only a sample was read"
        subject: dict[str, object] = {"log": self.checkpoint.origin, "size": self.checkpoint.size}
        return Report("log", subject, rings, merge_reservations(rings, reserved))


def verify_log(
    source: Source,
    policy: Policy | None,
    node: Node | None = None,
    heads: Heads | None = None,
    depth: Depth | None = None,
    progress: Progress = _no_progress,
) -> Report:
    """Check a log; raises UnavailableError or MalformedError when its checkpoint cannot be read."""
    return _LogCheck(source, policy, node, heads, depth or Depth(), progress).run()

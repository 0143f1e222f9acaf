"""Ring 6, the chain: what the user's own node says about the anchor that the evidence names.

1. The evidence names the policy's chain and contract, and this log (no node needed).
2. The anchored tree holds the entry and is a prefix of the checkpoint's (no node needed).
3. The node is on that chain; the block that the evidence names is canonical and holds the transaction.
4. The transaction succeeded, and its event is Anchored, by that contract, for that log, with that size and root.
5. The block is as deep as the policy asks.
"""

import hashlib
from dataclasses import dataclass

from daicho_verify.errors import DisagreesError, NotCheckedError
from daicho_verify.evidence import Anchor
from daicho_verify.merkle import verify_consistency
from daicho_verify.notes import Checkpoint
from daicho_verify.policy import ChainPolicy
from daicho_verify.rpc import Block, Node, anchored_event, data_bytes, quantity


@dataclass(frozen=True, slots=True)
class ChainResult:
    """What ring 6 found: the reason in words, and the block whose time bounds the entry."""

    why: str
    block: Block


def log_id(origin: str) -> bytes:
    """Give the contract's name for a log: SHA-256 of the origin."""
    return hashlib.sha256(origin.encode()).digest()


def label(chain: ChainPolicy) -> str:
    """Say how much the chain's word weighs."""
    return "independent chain" if chain.independent else "local chain, not independent of the operator"


def check_same_chain(chain: ChainPolicy, node: Node) -> None:
    """Raise NotCheckedError when the user's node is on another chain than the policy names."""
    chain_id = node.chain_id()
    if chain_id != chain.chain_id:
        raise NotCheckedError(f"your node is on chain {chain_id}, the policy names chain {chain.chain_id}")


def _check_claims(anchor: Anchor, chain: ChainPolicy, origin: str) -> None:
    if anchor.chain_id != chain.chain_id:
        raise DisagreesError(f"anchored on chain {anchor.chain_id}, the policy names chain {chain.chain_id}")
    if anchor.contract != chain.contract:
        raise DisagreesError(
            f"anchored at contract 0x{anchor.contract.hex()}, the policy names 0x{chain.contract.hex()}"
        )
    if anchor.log_id != log_id(origin):
        raise DisagreesError(f"the anchor is of another log (id 0x{anchor.log_id.hex()})")


def _canonical_block(anchor: Anchor, node: Node, head: int) -> Block:
    if head < anchor.block_number:
        raise NotCheckedError(f"your node is at block {head}, the anchor is in block {anchor.block_number}")
    block = node.block(anchor.block_number)
    if block is None:
        raise NotCheckedError(f"your node does not show block {anchor.block_number}")
    if block.hash != anchor.block_hash:
        raise DisagreesError(
            f"block {anchor.block_number} is 0x{block.hash.hex()} on your node, not 0x{anchor.block_hash.hex()}"
        )
    if anchor.tx_hash not in block.transactions:
        raise DisagreesError(f"block {anchor.block_number} holds no transaction 0x{anchor.tx_hash.hex()}")
    return block


def _check_receipt(anchor: Anchor, node: Node) -> None:
    receipt = node.receipt(anchor.tx_hash)
    if receipt is None:
        raise NotCheckedError("your node has no receipt of the transaction (pruned?)")
    if data_bytes(receipt.get("blockHash"), 32, "receipt block") != anchor.block_hash:
        raise DisagreesError("the transaction's receipt is of another block")
    if quantity(receipt.get("status"), "receipt status") != 1:
        raise DisagreesError("the transaction failed on chain")
    logs = receipt.get("logs")
    events = [anchored_event(item) for item in logs] if isinstance(logs, list) else []
    found = [event for event in events if event is not None and event.log_index == anchor.log_index]
    if not found:
        raise DisagreesError(f"the transaction has no Anchored event at log index {anchor.log_index}")
    event = found[0]
    if event.contract != anchor.contract:
        raise DisagreesError(f"the event is of the contract 0x{event.contract.hex()}")
    if event.log_id != anchor.log_id:
        raise DisagreesError(f"the event is of another log (id 0x{event.log_id.hex()})")
    if (event.size, event.root) != (anchor.size, anchor.root):
        raise DisagreesError(
            f"anchored were size {event.size} and root {event.root.hex()}, "
            f"the evidence says {anchor.size} and {anchor.root.hex()}"
        )


def check_prefix(anchor: Anchor, checkpoint: Checkpoint, position: int) -> None:
    """Step 2: the anchored tree holds the entry and is a prefix of the checkpoint's; raises DisagreesError."""
    if anchor.size < position:
        raise DisagreesError(f"the anchor covers positions up to {anchor.size}, not {position}")
    if not verify_consistency(anchor.size, checkpoint.size, anchor.root, checkpoint.root, anchor.consistency):
        raise DisagreesError("the checkpoint is not proven to extend the anchored tree")


def check_chain(
    anchor: Anchor | None, checkpoint: Checkpoint, position: int, chain: ChainPolicy | None, node: Node | None
) -> ChainResult:
    """Check the anchor of an entry; raises DisagreesError, NotCheckedError or UnavailableError."""
    if chain is None:
        raise NotCheckedError("the policy names no chain")
    if anchor is None:
        raise NotCheckedError("the evidence holds no anchor (yet)")
    # Step 1: the same chain, contract and log. A contradiction counts even when no node is named.
    _check_claims(anchor, chain, checkpoint.origin)
    # Step 2: the anchored tree is a prefix.
    check_prefix(anchor, checkpoint, position)
    if node is None:
        raise NotCheckedError("no node of your own was named (--rpc)")
    # Step 3: the canonical block.
    check_same_chain(chain, node)
    head = node.head()
    block = _canonical_block(anchor, node, head)
    # Step 4: the event.
    _check_receipt(anchor, node)
    # Step 5: depth.
    confirmations = head - block.number + 1
    if confirmations < chain.confirmations:
        raise NotCheckedError(
            f"mined in block {block.number}, not final yet: {confirmations} of {chain.confirmations} confirmations"
        )
    return ChainResult(
        f"tree of {anchor.size} anchored in block {block.number} of chain {chain.chain_id} "
        f"(tx 0x{anchor.tx_hash.hex()}), {confirmations} confirmations; {label(chain)}",
        block,
    )

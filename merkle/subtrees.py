"""Making proofs about subtrees: a leaf inside a subtree, a subtree inside the log.

A subtree is a range start..end-1 whose start is a multiple of the least power of two >= its width
(draft-ietf-plants-merkle-tree-certs, section 4). Proofs about [0, size) are the ordinary ones of RFC 9162.
"""

from collections.abc import Callable

from merkle.proofs import is_subtree

SubtreeRoot = Callable[[int, int], bytes]
"""(start, end) to the root over the leaves start..end-1, as `FlatLog.subtree_root`."""


def subtree_inclusion_path(root_of: SubtreeRoot, index: int, start: int, end: int) -> list[bytes]:
    """The audit path of leaf `index` (counted in the log) in the subtree start..end-1, leaf sibling first."""
    if not is_subtree(start, end) or not start <= index < end:
        raise ValueError(f"leaf {index} is not in a subtree [{start}, {end})")
    siblings = []
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            siblings.append((middle, end))
            end = middle
        else:
            siblings.append((start, middle))
            start = middle
    return [root_of(*each) for each in reversed(siblings)]


def subtree_consistency_proof(root_of: SubtreeRoot, start: int, end: int, size: int) -> list[bytes]:
    """The proof that the subtree start..end-1 is part of the tree of `size`; empty for an empty subtree."""
    if not is_subtree(start, end) or end > size:
        raise ValueError(f"[{start}, {end}) is not a subtree of size {size}")
    if start == end:
        return []
    low, high = 0, size
    siblings = []
    known = True  # whether the checker can take the subtree's own root for the node reached
    while (start, end) != (low, high):
        middle = low + _split(high - low)
        if end <= middle:
            siblings.append((middle, high))
            high = middle
        else:
            siblings.append((low, middle))
            # A subtree that goes on past the middle starts with this left part: the rest is not its own root.
            if start < middle:
                start, known = middle, False
            low = middle
    rest = [root_of(*each) for each in reversed(siblings)]
    return rest if known else [root_of(start, end), *rest]


def _split(width: int) -> int:
    """The largest power of two below `width` (RFC 9162 section 2.1.1), `width` being 2 at least."""
    return 1 << (width - 1).bit_length() - 1

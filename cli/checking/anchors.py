"""Part 4: what the anchor book says was anchored has the tree's root, and the contract's own events say the same."""

from collections.abc import Callable, Sequence

import msgspec

from cli.checking.findings import Report
from cli.checking.heads import AnchorHead, check_anchors
from domain.entry import decode_envelope
from merkle.flat_log import FlatLog
from projections.rebuild import EntryLog

PAGE = 1000


class BookHead(msgspec.Struct, frozen=True):
    """A head out of the anchor book."""

    size: int
    root: bytes


class _Data(msgspec.Struct):
    nonce: int
    size: int
    root: str


def check_book(log: EntryLog, tree: FlatLog, report: Report) -> set[BookHead]:
    """Compare every head in the anchor book with the tree; those that are final by its word."""
    heads: list[AnchorHead] = []
    final: dict[int, BookHead] = {}
    position = 1
    try:
        while records := log.read(position, PAGE):
            for at, state in records:
                if at != position:
                    report.differs("anchors", 0, f"position {position} of the anchor book is missing")
                    position = at
                envelope = decode_envelope(state)
                data = msgspec.json.decode(envelope.data, type=_Data)
                head = BookHead(data.size, bytes.fromhex(data.root))
                heads.append(head)
                final.pop(data.nonce, None)
                if envelope.type == "AnchorFinal":
                    final[data.nonce] = head
                position += 1
    except (msgspec.MsgspecError, ValueError) as error:
        report.differs("anchors", 0, f"position {position} of the anchor book cannot be read: {error}")
    check_anchors("anchors", tree, heads, report)
    return set(final.values())


def check_contract(
    ask: Callable[[], Sequence[AnchorHead]], final: set[BookHead], tree: FlatLog, head: int, report: Report
) -> None:
    """Compare the contract's heads (`ask` raises OSError when no node answers) with the tree and with the book.

    `head` is the store's last position.
    """
    try:
        anchored = ask()
    except OSError as error:
        report.not_checked["contract"] = f"the node does not answer: {error}"
        return
    check_anchors("contract", tree, anchored, report)
    ahead = [found.size for found in anchored if found.size > head]
    if ahead:
        report.differs("contract", ahead[0], f"the contract holds size {ahead[0]}, the store ends at {head}")
    known = {(found.size, found.root) for found in anchored}
    for missing in sorted((entry.size, entry.root) for entry in final if (entry.size, entry.root) not in known):
        report.differs("contract", missing[0], f"the anchor of size {missing[0]} is final here, the contract has none")
        return

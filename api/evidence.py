"""One file that a stranger can check alone: the entry, who signed it, where it stands in the log, and on which chain.

Format `daicho-evidence/1` (docs/evidence.md). Everything in it is proven in one checkpoint, the one published when the
file is made:

1. entry and checkpoint, with the audit path between them
2. author: the wallet's entries up to then; the batch that signed it and its path in there; the trade's recorded terms
3. anchor: the first mined head that covers the entry, and that the checkpoint extends it
"""

from collections import OrderedDict
from threading import Lock
from typing import Any, Final, NamedTuple

import msgspec

from api.services import EntriesPort
from api.text import b64
from domain.batch import BatchSigned
from domain.entry import Envelope, decode_envelope
from domain.errors import EntryNotFound, NotYetVisible
from domain.signature import Signature
from domain.typed_data import PRIMARY_TYPES, signed_content
from merkle.flat_log import FlatLog
from merkle.hashing import leaf_hashes
from merkle.log_view import LogView, PublishedHead
from projections import anchors
from projections.views import AnchorView

FORMAT: Final = "daicho-evidence/1"
_CACHED_BATCHES: Final = 16
_PROVABLE: Final = frozenset({"mined", "final"})


class _Signed(msgspec.Struct):
    signature: Signature


class _SignedBy(NamedTuple):
    """Whose signature stands for an entry: a wallet's, alone or as number `place` (from 0) of a batch."""

    wallet: str
    batch: str | None
    place: int


_signed = msgspec.json.Decoder(_Signed).decode
_batch = msgspec.json.Decoder(BatchSigned).decode


class EvidenceMaker:
    """Makes evidence from the event store, the published log and the read models. Blocking; any thread."""

    def __init__(self, origin: str, entries: EntriesPort, view: LogView) -> None:
        self._origin = origin
        self._entries = entries
        self._view = view
        self._trees: OrderedDict[str, FlatLog] = OrderedDict()
        self._lock = Lock()

    def make(self, connection: Any, position: int) -> dict[str, Any]:
        """The evidence of an entry, JSON ready. Raises EntryNotFound, and NotYetVisible until it is published."""
        entry, head = self._entries.get(position), self._view.head
        if entry is None:
            raise EntryNotFound(f"no entry at position {position}", position=position)
        if head is None or head.size < position:
            raise NotYetVisible(f"position {position} is not published yet", position=position, size=self._view.size)
        return {
            "format": FORMAT,
            "origin": self._origin,
            "entry": {"position": position, "bytes": b64(entry)},
            "checkpoint": head.note.decode(),
            "inclusion": self._path(position, head),
            "author": self._author(position, decode_envelope(entry), head),
            "anchor": self._anchor(connection, position, head),
        }

    # -- 2 author ----------------------------------------------------------------------------------------------------

    def _author(self, position: int, envelope: Envelope, head: PublishedHead) -> dict[str, Any] | None:
        """Who signed the entry; None for what nobody signs."""
        if envelope.type not in PRIMARY_TYPES:
            return None
        by = _signed_by(_signed(envelope.data).signature)
        wallet = self._entries.of_aggregate(by.wallet, up_to=position)
        recorded = None
        if envelope.aggregate == "Trade" and envelope.type != "TradeRecorded":
            recorded = self._proved(self._entries.of_aggregate(envelope.aggregate_id, up_to=position)[0], head)
        return {
            "wallet": [self._proved(record, head) for record in wallet],
            "batch": self._batch(position, by, head) if by.batch is not None else None,
            "recorded": recorded,
        }

    def _batch(self, position: int, by: _SignedBy, head: PublishedHead) -> dict[str, Any]:
        at = position - 1 - by.place
        entry = self._entries.get(at) or b""
        tree = self._tree(str(by.batch), at, _batch(decode_envelope(entry).data).count)
        path = tree.inclusion_path(by.place, tree.size)
        return {"entry": self._proved((at, entry), head), "path": [b64(step) for step in path]}

    def _tree(self, batch: str, at: int, count: int) -> FlatLog:
        """The tree that a batch has signed, over the signed contents of the `count` entries after it."""
        with self._lock:
            tree = self._trees.get(batch)
            if tree is not None:
                self._trees.move_to_end(batch)
                return tree
        tree = FlatLog()
        tree.append(leaf_hashes([_content(entry) for _, entry in self._entries.read(at + 1, count)]))
        with self._lock:
            self._trees[batch] = tree
            while len(self._trees) > _CACHED_BATCHES:
                self._trees.popitem(last=False)
        return tree

    # -- 3 anchor ----------------------------------------------------------------------------------------------------

    def _anchor(self, connection: Any, position: int, head: PublishedHead) -> dict[str, Any] | None:
        anchor = anchors.anchor_covering(connection, position)
        if anchor is None or anchor.state not in _PROVABLE:  # the first one waits again: take the newest that is mined
            anchor = anchors.latest_anchor(connection, *_PROVABLE)
        if anchor is None or not position <= anchor.size <= head.size:
            return None
        return {
            **_anchor(anchor),
            "consistency": [b64(step) for step in self._view.consistency(anchor.size, head.size)],
        }

    # -- in the checkpoint's tree ------------------------------------------------------------------------------------

    def _proved(self, record: tuple[int, bytes], head: PublishedHead) -> dict[str, Any]:
        position, entry = record
        return {"position": position, "bytes": b64(entry), "inclusion": self._path(position, head)}

    def _path(self, position: int, head: PublishedHead) -> list[str]:
        return [b64(step) for step in self._view.inclusion_path(position - 1, head.size)]


def _signed_by(signature: Signature) -> _SignedBy:
    if isinstance(signature.batch, str) and isinstance(signature.index, int):
        return _SignedBy(signature.wallet, signature.batch, signature.index)
    return _SignedBy(signature.wallet, None, 0)


def _content(entry: bytes) -> bytes:
    """What an entry gave to its batch."""
    envelope = decode_envelope(entry)
    return signed_content(envelope.type, envelope.aggregate_id, msgspec.json.decode(envelope.data))


def _anchor(anchor: AnchorView) -> dict[str, Any]:
    return {
        "chain_id": anchor.chain_id,
        "contract": anchor.contract,
        "log_id": _hex(anchor.log_id),
        "tx_hash": _hex(anchor.tx_hash),
        "block_number": anchor.block_number,
        "block_hash": _hex(anchor.block_hash or ""),
        "log_index": anchor.log_index,
        "size": anchor.size,
        "root": b64(bytes.fromhex(anchor.root.removeprefix("0x"))),
        "state": anchor.state,
        "independent": anchor.independent,
    }


def _hex(text: str) -> str:
    return f"0x{text.removeprefix('0x')}"

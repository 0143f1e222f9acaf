"""What a server gives out about a book: checkpoints, evidence, promises, log files, and the policy that fits."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import rfc8785

from tests.vectors.verifier.book import BLOCK_TIME, CHAIN_ID, CONTRACT, Book, Data
from tests.vectors.verifier.oracle import (
    b64,
    checkpoint_text,
    key_id,
    leaf_hash,
    mth,
    note_key,
    path,
    proof,
    seed,
    sign_note,
    vkey,
)


class PublicBook(Book):
    """A book with the evidence of each of its entries."""

    @property
    def leaves(self) -> list[bytes]:
        return [leaf_hash(raw) for raw in self.raw]

    def checkpoint(
        self,
        size: Any = None,
        *,
        witnesses: Sequence[str] = (),
        time: int = BLOCK_TIME - 5,
        key: Any = None,
        origin: Any = None,
        root: Any = None,
    ) -> str:
        """A checkpoint of the first `size` entries; `witnesses` are labels of keys that cosign it at `time`."""
        leaves = self.leaves[: len(self.raw) if size is None else size]
        origin = self.origin if origin is None else origin
        key = self.log_key if key is None else key
        text = checkpoint_text(origin, leaves, root=root)
        lines = [(origin, key_id(origin, key), key.sign(text.encode()))]
        for label in witnesses:
            witness, name = note_key(label), f"{label}.example"
            value = witness.sign(f"cosignature/v1\ntime {time}\n{text}".encode())
            lines.append((name, key_id(name, witness, 4), time.to_bytes(8) + value))
        return sign_note(text, *lines)

    def proved(self, position: int, size: Any) -> Data:
        leaves = self.leaves[:size]
        return {
            "position": position,
            "bytes": b64(self.raw[position - 1]),
            "inclusion": [b64(h) for h in path(position - 1, leaves)],
        }

    def author(self, position: int, size: Any) -> Data | None:
        """The author part for an entry, or None."""
        entry = self.entries[position - 1]
        signature = entry["data"].get("signature")
        if not isinstance(signature, dict):
            return None
        wallet = entry["aggregate_id"] if entry["aggregate"] == "Wallet" else signature["wallet"]
        own = [
            self.proved(other["position"], size)
            for other in self.entries[:position]
            if other["aggregate"] == "Wallet" and other["aggregate_id"] == wallet
        ]
        recorded = batch = None
        if entry["aggregate"] == "Trade" and entry["type"] != "TradeRecorded":
            recorded = self.proved(self.recorded(entry["aggregate_id"]), size)
        if "batch" in signature:
            at = next(e["position"] for e in self.entries if e["aggregate_id"] == signature["batch"])
            count = self.entries[at - 1]["data"]["count"]
            contents = [
                leaf_hash(
                    rfc8785.dumps(
                        {
                            "aggregate_id": e["aggregate_id"],
                            "data": {k: v for k, v in e["data"].items() if k != "signature"},
                            "type": e["type"],
                        }
                    )
                )
                for e in self.entries[at : at + count]
            ]
            batch = {"entry": self.proved(at, size), "path": [b64(h) for h in path(signature["index"], contents)]}
        return {"wallet": own, "batch": batch, "recorded": recorded}

    def recorded(self, trade: str) -> int:
        """The position of a trade's TradeRecorded."""
        return next(e["position"] for e in self.entries if (e["type"], e["aggregate_id"]) == ("TradeRecorded", trade))

    def anchor(self, size: Any, checkpoint_size: int) -> Data:
        leaves = self.leaves
        return {
            "chain_id": CHAIN_ID,
            "contract": CONTRACT,
            "log_id": "0x" + hashlib.sha256(self.origin.encode()).hexdigest(),
            "tx_hash": "0x" + seed(f"tx {size}").hex(),
            "block_number": 7,
            "block_hash": "0x" + seed("block 7").hex(),
            "log_index": 0,
            "size": size,
            "root": b64(mth(leaves[:size])),
            "state": "final",
            "consistency": [b64(h) for h in proof(size, leaves[:checkpoint_size])],
            "independent": False,
        }

    def evidence(self, position: int, size: Any = None, anchored: Any = None, **checkpoint: Any) -> Data:
        """The evidence of an entry in the tree of `size`, anchored at size `anchored` (None: not anchored)."""
        size = len(self.raw) if size is None else size
        mine = self.proved(position, size)
        return {
            "format": "daicho-evidence/1",
            "origin": self.origin,
            "entry": {"position": position, "bytes": mine["bytes"]},
            "checkpoint": self.checkpoint(size, **checkpoint),
            "inclusion": mine["inclusion"],
            "author": self.author(position, size),
            "anchor": None if anchored is None else self.anchor(anchored, size),
        }

    def policy(self, **changes: Any) -> Data:
        return {
            "format": "daicho-policy/1",
            "origin": self.origin,
            "log_key": vkey(self.origin, self.log_key),
            "promise_key": vkey(f"{self.origin}/promise", self.promise_key),
            "chain": {"chain_id": CHAIN_ID, "contract": CONTRACT, "confirmations": 2, "independent": False},
            "witnesses": [vkey(f"{label}.example", note_key(label), 4) for label in ("kita", "minami", "higashi")],
            "quorum": 0,
            "require": ["entry", "author", "inclusion", "log-signature"],
            "clock_tolerance_seconds": 60,
        } | changes

    def promise(
        self,
        positions: Sequence[int],
        publish_by: str = "2026-11-22T05:10:00.000000Z",
        *,
        leaves: Any = None,
        origin: Any = None,
    ) -> str:
        name = f"{self.origin if origin is None else origin}/promise"
        shown = {p: leaf_hash(self.raw[p - 1]) for p in positions} if leaves is None else leaves
        text = f"{name}\npublish-by {publish_by}\n" + "".join(f"{p} {b64(h)}\n" for p, h in shown.items())
        return sign_note(text, (name, key_id(name, self.promise_key), self.promise_key.sign(text.encode())))

    def write_log(self, folder: Path, size: Any = None, **checkpoint: Any) -> None:
        """Write the log's files (C2SP tlog-tiles) for the tree of `size`."""
        size = len(self.raw) if size is None else size
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "checkpoint").write_text(self.checkpoint(size, **checkpoint), encoding="utf-8")
        row, level = self.leaves[:size], 0
        while row:
            for start in range(0, len(row), 256):
                self._write(
                    folder, level, start // 256, len(row[start : start + 256]), b"".join(row[start : start + 256])
                )
            row = [mth(row[i : i + 256]) for i in range(0, len(row) - 255, 256)]
            level += 1
        for start in range(0, size, 256):
            chunk = self.raw[start : min(start + 256, size)]
            self._write(folder, "entries", start // 256, len(chunk), b"".join(len(r).to_bytes(2) + r for r in chunk))

    @staticmethod
    def _write(folder: Path, level: Any, index: int, width: int, data: bytes) -> None:
        name = f"{index:03d}" if index < 1000 else f"x{index // 1000:03d}/{index % 1000:03d}"
        target = folder / "tile" / str(level) / (name if width == 256 else f"{name}.p/{width}")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)

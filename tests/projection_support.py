"""Shared by the tests of the projections: stores over temporary files, a log in memory, anchor entries."""

import json
import uuid
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from projections.projector import Projector
from projections.store import ReadStore
from tests.entry_factory import ORIGIN, EntryFactory, Record

CONTRACT = "0x5FbDB2315678afecb367f032d93F642f64180aa3"


class MemoryLog:
    """An EntryLog over a list of records."""

    def __init__(self, records: Sequence[Record]) -> None:
        self.records = list(records)

    def head(self) -> int:
        return len(self.records)

    def read(self, start: int, limit: int) -> list[Record]:
        return self.records[start - 1 : start - 1 + limit]


def projected(path: Path, records: Sequence[Record], *cuts: int) -> ReadStore:
    """A store that has applied the records, in batches that end at the given positions."""
    store = ReadStore(path)
    projector = Projector(store)
    start = 0
    for end in (*sorted(set(cuts)), len(records)):
        projector.process(records[start:end])
        start = end
    return store


def naive_balances(records: Sequence[Record]) -> dict[tuple[str, str, str], int]:
    """Balances by (company, counterparty, currency), worked out event by event from the entry format's own words."""
    trades: dict[str, Any] = {}
    confirmed: set[str] = set()
    balances: dict[tuple[str, str, str], int] = defaultdict(int)
    for _, entry in records:
        event = json.loads(entry)
        data, trade = event["data"], event["aggregate_id"]
        if event["type"] == "TradeRecorded":
            trades[trade] = data
            continue
        effect = 0
        if event["type"] == "TradeConfirmed":
            confirmed.add(trade)
            effect = int(trades[trade]["amount"]["units"])
        elif event["type"] == "TradeSettled":
            effect = -int(data["amount"]["units"])
        elif event["type"] == "TradeReversed" and trade in confirmed:
            effect = -int(trades[trade]["amount"]["units"])
        if effect:
            terms = trades[trade]
            balances[terms["seller"], terms["buyer"], terms["amount"]["currency"]] += effect
            balances[terms["buyer"], terms["seller"], terms["amount"]["currency"]] -= effect
    return balances


class AnchorFactory:
    """Entries of the anchor book."""

    def __init__(self, seed: int = 0, chain_id: int = 31337) -> None:
        self.factory = EntryFactory(seed, f"{ORIGIN}/anchors")
        self.chain_id = chain_id
        self.heads: dict[int, dict[str, Any]] = {}

    @property
    def records(self) -> list[Record]:
        return self.factory.records

    def add(self, event: str, nonce: int, size: int | None = None, tx_hash: str | None = None, **more: Any) -> Record:
        """One event of the anchor with that nonce; what is not said stays as it was."""
        last = self.heads.get(nonce, {})
        common = {
            "chain_id": self.chain_id,
            "contract": CONTRACT,
            "log_id": f"0x{'5a' * 32}",
            "nonce": nonce,
            "root": last.get("root", self.factory.hex(64)) if size is None else self.factory.hex(64),
            "size": last["size"] if size is None else size,
            "tx_hash": tx_hash or last.get("tx_hash") or f"0x{self.factory.hex(64)}",
        }
        self.heads[nonce] = common
        if event in {"AnchorMined", "AnchorFinal"}:
            block = {"block_hash": f"0x{nonce:064x}", "block_number": 100 + nonce, "block_time": 1_795_000_000 + nonce}
            more = {**block, "gas_used": 61_000, "log_index": 0, **more}
        elif event in {"AnchorReturned", "AnchorFailed"}:
            more = {"reason": "reorganised", **more}
        return self.factory.add("Anchor", anchor_id(nonce), event, {**common, **more})


def anchor_id(nonce: int) -> str:
    """The aggregate id of the anchor with that nonce."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"anchor:{nonce}"))

"""What must hold of a ledger after whatever was done to its service, re-derived without the code that made it.

1. answers      every acknowledged command is known by its key and answers with the same bytes; once, at those positions
2. unanswered   a command without an answer is there whole and once, or not at all
3. positions    gapless; canonical bytes, versions without a hole, time that never goes back, no command key twice
4. tree         the published root is that of a tree built from scratch out of the entries (recursive RFC 6962)
5. checkpoints  every one verifies by the log key of the first entry and has that tree's root at its size
6. anchors      the contract's heads are a chain from 0 without a gap, each a root of that tree; the book says the same
7. read models  balances equal those of a fold over the entries; `daicho check --signatures` agrees with everything
8. promises     a sample is kept, says `daicho-verify promise`
"""

import asyncio
import contextlib
import hashlib
import io
import json
import random
import sqlite3
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from daicho_verify.cli import main as daicho_verify
from daicho_verify.notes import ED25519, parse_checkpoint, parse_key
from domain.entry import Actor, command_key_hash
from tests.faults.harness import Service, wait_for
from tests.faults.load import Sent, post, read_answer
from tests.merkle_reference import ReferenceTree
from tests.merkle_reference import leaf as leaf_of

ANCHORED_TOPIC = "0x10d64b358a2a34d1aefd3923dfecde63ee095436d398bd873df1fd341db42724"
REPEATED_AT_ONCE = 8
PROMISES = 3


@dataclass(frozen=True)
class Facts:
    """What was found: numbers of entries, checkpoints and anchors, commands checked, unanswered ones that were done."""

    entries: int
    checkpoints: int
    anchors: int
    acknowledged: int
    unanswered: int
    unanswered_but_done: int


class Audit:
    """The audit of a running, ready service."""

    def __init__(self, service: Service, acknowledged: Sequence[Sent] = (), given_up: Sequence[Sent] = ()) -> None:
        self.service, self.acknowledged, self.given_up = service, acknowledged, given_up

    def run(self) -> Facts:
        """All of it. Fails with what does not hold."""
        asyncio.run(self._repeat_all())
        self._come_to_rest()
        self.rows = rows_of(self.service.folder.ledger, "stored_events")
        self.entries = [json.loads(state) for _, state in self.rows]
        self._check_positions()
        self._check_acknowledged()
        done = self._check_given_up()
        leaves = [leaf_of(state) for _, state in self.rows]
        self.tree = ReferenceTree(leaves)
        checkpoints = self._check_checkpoints()
        anchors = self._check_anchors()
        self._check_balances()
        self._check_with_daicho()
        self._check_promises()
        return Facts(len(self.rows), checkpoints, anchors, len(self.acknowledged), len(self.given_up), done)

    # -- 1 and 2 commands --------------------------------------------------------------------------------------------

    async def _repeat_all(self) -> None:
        """The same key again: recognised, and the same bytes."""
        free = asyncio.Semaphore(REPEATED_AT_ONCE)

        async def repeat(http: httpx.AsyncClient, sent: Sent) -> None:
            async with free:
                response = await post(http, self.service, sent)
            entries, _, _ = read_answer(response, bulk=sent.is_bulk)
            assert entries == sent.entries, f"another answer than at first to {sent.key}"
            if sent.is_bulk:
                hits = [json.loads(line).get("hit", False) for line in response.text.splitlines()[:-1]]
            else:
                hits = [response.headers.get("idempotency-hit") == "true"]
            assert all(hits), f"{sent.key} was not recognised"

        async with httpx.AsyncClient(base_url=self.service.url, timeout=60.0) as http:
            await asyncio.gather(*(repeat(http, sent) for sent in self.acknowledged))

    def _check_acknowledged(self) -> None:
        states = dict(self.rows)
        for sent in self.acknowledged:
            for position, entry in sent.entries:
                assert states.get(position) == entry.encode(), f"{sent.key}: not what was acknowledged at {position}"

    def _check_given_up(self) -> int:
        """How many of the unanswered requests were done all the same."""
        origin = self.entries[0]["log"]
        actors = {e["data"]["company"]: e["data"]["subject"] for e in self.entries if e["type"] == "WalletOpened"}
        stored = Counter(entry["command"]["key"] for entry in self.entries)
        done = 0
        for sent in self.given_up:
            actor = Actor(sent.company, actors[sent.company])
            found = [stored[command_key_hash(origin, actor, key)] for key in sent.command_keys()]
            assert set(found) in ({0}, {1}), f"{sent.key} was done {found} times"
            done += found[0]
        return done

    # -- 3 positions -------------------------------------------------------------------------------------------------

    def _check_positions(self) -> None:
        assert [position for position, _ in self.rows] == list(range(1, len(self.rows) + 1)), "a hole"
        versions: Counter[str] = Counter()
        keys: set[str] = set()
        last = ""
        for (position, state), entry in zip(self.rows, self.entries, strict=True):
            assert state == json.dumps(entry, ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode()
            versions[entry["aggregate_id"]] += 1
            assert (entry["position"], entry["version"]) == (position, versions[entry["aggregate_id"]])
            assert entry["recorded_at"] >= last, f"time goes back at {position}"
            last = entry["recorded_at"]
            assert entry["command"]["key"] not in keys, f"the command at {position} was done before"
            keys.add(entry["command"]["key"])

    # -- 4 to 6 tree, checkpoints, anchors ---------------------------------------------------------------------------

    def _check_checkpoints(self) -> int:
        book = self.entries[0]
        key, origin = parse_key(book["data"]["log_key"], "log key", ED25519), book["log"]
        public = Ed25519PublicKey.from_public_bytes(key.public)
        found = read(self.service.folder.log, "SELECT size, root, note FROM checkpoints ORDER BY size")
        for size, root, note in found:
            signed = parse_checkpoint(note.decode(), "checkpoint")
            (line,) = signed.note.signatures
            public.verify(line.value, signed.note.text.encode())
            assert (line.name, line.key_id) == (key.name, key.key_id)
            assert (signed.origin, signed.size, signed.root) == (origin, size, root)
            assert self._root(size) == root, f"the checkpoint of size {size} is of another tree"
        assert found, "no checkpoint"
        assert found[-1][0] == len(self.rows), "the log ends before the entries"
        shown = httpx.get(f"{self.service.url}/log/checkpoint").text
        assert parse_checkpoint(shown, "checkpoint").root == self._root(len(self.rows))
        return len(found)

    def _check_anchors(self) -> int:
        book = self.entries[0]
        log_id = "0x" + hashlib.sha256(book["log"].encode()).hexdigest()
        asked = {"address": book["data"]["contract"], "topics": [ANCHORED_TOPIC, log_id], "fromBlock": "0x0"}
        call = {"jsonrpc": "2.0", "id": 1, "method": "eth_getLogs", "params": [asked]}
        answer = httpx.post(f"{self.service.url}/chain/rpc", json=call, timeout=30.0).json()
        reached = 0
        on_chain = {}
        for event in answer["result"]:
            size, data = int(event["topics"][2], 16), bytes.fromhex(event["data"][2:])
            assert int.from_bytes(data[32:], "big") == reached, f"the anchor of size {size} leaves a gap"
            assert size > reached
            assert data[:32] == self._root(size), f"the anchor of size {size} is of another tree"
            reached = size
            on_chain[event["transactionHash"]] = size
        facts = [json.loads(state) for _, state in rows_of(self.service.folder.anchors, "anchor_events")]
        assert [fact["position"] for fact in facts] == list(range(1, len(facts) + 1))
        final = {f["data"]["tx_hash"]: f["data"]["size"] for f in facts if f["type"] == "AnchorFinal"}
        assert final == on_chain, "the anchor book and the contract differ"
        assert reached == len(self.rows)
        return len(on_chain)

    def _root(self, size: int) -> bytes:
        return self.tree.root(0, size)

    # -- 7 read models -----------------------------------------------------------------------------------------------

    def _check_balances(self) -> None:
        wanted: Counter[tuple[str, str]] = Counter()
        trades = {e["aggregate_id"]: e["data"] for e in self.entries if e["type"] == "TradeRecorded"}
        for entry in self.entries:
            if entry["type"] in {"TradeConfirmed", "TradeSettled"}:
                terms = trades[entry["aggregate_id"]]
                confirmed = entry["type"] == "TradeConfirmed"
                units = int(terms["amount"]["units"]) if confirmed else -int(entry["data"]["amount"]["units"])
                wanted[terms["seller"], terms["buyer"]] += units
                wanted[terms["buyer"], terms["seller"]] -= units
        companies = [e["data"]["code"] for e in self.entries if e["type"] == "CompanyRegistered"]
        shown: Counter[tuple[str, str]] = Counter()
        for code in companies:
            params = {"min_position": str(len(self.rows))}
            answer = self.service.ask("GET", "/v1/balances", company=code, params=params)
            assert answer.status_code == httpx.codes.OK, answer.text
            for item in answer.json()["items"]:
                shown[code, item["counterparty"]] = int(item["balance"]["units"])
        assert {pair: units for pair, units in shown.items() if units} == {p: u for p, u in wanted.items() if u}

    def _check_with_daicho(self) -> None:
        folder, rpc = str(self.service.folder.path), f"{self.service.url}/chain/rpc"
        code, out, err = self.service.daicho("check", "--signatures", "--json", "--data", folder, "--rpc", rpc)
        report = json.loads(out)
        assert (code, report["differences"], report["not_checked"]) == (0, [], {}), (report, err)
        assert report["pinned_position"] == len(self.rows)
        looked_at = report["looked_at"]
        assert looked_at["entries"] == looked_at["tree"] == len(self.rows)
        assert looked_at["projections"] == 1

    # -- 8 promises --------------------------------------------------------------------------------------------------

    def _check_promises(self) -> None:
        folder = self.service.folder.path.parent
        policy = folder / "policy.json"
        policy.write_text(json.dumps(self.service.ask("GET", "/v1/book").json()["policy"]))
        made = [sent for sent in self.acknowledged if sent.promise]
        for sent in random.Random(len(made)).sample(made, min(PROMISES, len(made))):
            note = folder / "promise.txt"
            note.write_text(sent.promise)
            seen = io.StringIO()
            with contextlib.redirect_stdout(seen):
                words = ["promise", str(note), "--policy", str(policy), "--log", f"{self.service.url}/log"]
                code = daicho_verify([*words, "--save", str(folder)])
            assert code == 0, seen.getvalue()

    # -- at rest -----------------------------------------------------------------------------------------------------

    def _come_to_rest(self) -> None:
        """Wait until everything has followed the last entry, up to a final anchor."""
        head = len(rows_of(self.service.folder.ledger, "stored_events"))
        self.service.ask("POST", "/v1/anchors:now")

        def at_rest() -> bool:
            status, body = self.service.readiness()
            return status == httpx.codes.OK and all(row["lag"] == 0 for row in body["processors"])

        wait_for(at_rest, f"every processor to reach position {head}", 60.0)


def rows_of(file: Path, table: str) -> list[tuple[int, bytes]]:
    """Position and bytes of every row."""
    return read(file, f"SELECT rowid, state FROM {table} ORDER BY rowid")


def read(file: Path, query: str) -> list[Any]:
    """A query's rows, by a connection that cannot write."""
    connection = sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=10.0)
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()

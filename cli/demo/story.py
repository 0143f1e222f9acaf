"""The demo's story, step by step, and what it learned on the way (the report of `--report`)."""

import datetime as dt
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import httpx
import msgspec

from cli.demo.attacks import Tampering, change_one_byte, copy_folder, rewrite_history
from cli.demo.cast import COMPANIES, TABLE, clerk_of, sellers, table_references
from cli.demo.screen import show_balances, show_evidence
from cli.demo.service import DemoFailed, Person
from cli.importing.importer import Importer, Outcome, prepare
from cli.importing.mapping import find_columns
from cli.importing.table import read_table
from cli.node_process import NodeProcess
from cli.screen import console
from cli.settings import Settings
from storage.entry_log import SqliteEntryLog
from storage.folder import DataFolder

ANCHOR_SECONDS: Final = 60.0
POLL_SECONDS: Final = 0.2
Say = Callable[[str], None]


class Story:
    """Plays the story against a running service, or its replicas in turn. `facts` collects what the report says."""

    def __init__(self, url: str | Sequence[str], settings: Settings, say: Say, secrets: Path | None = None) -> None:
        self._settings = settings
        self._say = say
        self.operator = Person(url, settings, "", secrets)
        self.clerks = {company: Person(url, settings, company, secrets) for company in COMPANIES}
        self.facts: dict[str, Any] = {}
        self._imported_up_to = 0

    def tell(self, evidence_file: Path, policy_file: Path) -> None:
        """All that needs the service: from signing up to the evidence of one trade, which is kept in the files."""
        self.sign_up()
        with console.status("importing"):
            self.import_table()
        with console.status("confirming"):
            self.confirm()
        recorded = self.one_trade()
        with console.status("waiting for the anchor"):
            evidence = self.anchor(int(recorded["position"]))
        self.write_policy(policy_file)
        evidence_file.write_text(json.dumps(evidence), encoding="utf-8")
        show_evidence(evidence, recorded)
        show_balances(self.balances())

    # -- its steps ---------------------------------------------------------------------------------------------

    def sign_up(self) -> None:
        """Companies are registered and their clerks get wallets; both are idempotent."""
        new = 0
        for code, name in COMPANIES.items():
            answer = self.operator.ask(
                "POST", "/v1/companies", key=f"demo-company-{code}", json={"code": code, "name": name}
            )
            new += not answer["hit"]
        for company, clerk in self.clerks.items():
            clerk.ask("POST", "/v1/users", json={"user": clerk_of(company)})
        self._say(f"{len(COMPANIES)} companies, a clerk with a wallet each ({new} new)")

    def import_table(self) -> None:
        """Every seller imports its own lines of the table, as batches signed once."""
        table = read_table(TABLE)
        columns = find_columns(table.headers, {})
        total = Outcome()
        for company in sellers():
            lines = prepare(
                table.rows(), columns, where={columns["seller"]: company}, decimal_comma=False, outcome=total
            )
            Importer(self.clerks[company].http).send(lines, total, lambda _: None)
        if total.refused:
            raise DemoFailed(f"line {total.refused[0][0]} of {TABLE.name} was refused: {total.refused[0][1]}")
        self._imported_up_to = total.last_position
        self.facts["imported"], self.facts["already_imported"] = total.imported, total.already
        self._say(f"{total.imported} trades imported from {TABLE.name} ({total.already} were there already)")

    def confirm(self) -> None:
        """Every buyer confirms what the table's sellers recorded with it, as bulks; other trades are left alone."""
        confirmed = 0
        ours = table_references()
        for clerk in self.clerks.values():
            waiting = self._waiting_for(clerk, ours)
            for start in range(0, len(waiting), 1000):
                confirmed += self._confirm_bulk(clerk, waiting[start : start + 1000])
        self.facts["confirmed"] = confirmed
        self._say(f"{confirmed} trades confirmed by their buyers")

    def one_trade(self) -> dict[str, Any]:
        """One trade by hand: recorded, confirmed, partly settled. Returns the answer that recorded it."""
        today = dt.datetime.now(dt.UTC).date()
        seller, buyer = self.clerks["aozora-foods"], self.clerks["cascade-paper"]
        reference = f"DEMO-{int(time.time() * 1000)}"
        recorded = seller.ask(
            "POST", "/v1/trades", key=reference,
            json={
                "seller": seller.company, "buyer": buyer.company, "reference": reference,
                "amount": {"currency": "JPY", "units": "1250000"}, "traded_on": today.isoformat(),
                "due_on": (today + dt.timedelta(days=30)).isoformat(), "description": "matcha, ceremonial grade, 25 kg",
            },
        )  # fmt: skip
        trade = recorded["id"]
        buyer.ask("POST", f"/v1/trades/{trade}:confirm", key=f"{reference}-confirm", json={})
        paid = {"amount": {"currency": "JPY", "units": "500000"}, "settled_on": today.isoformat()}
        last = seller.ask("POST", f"/v1/trades/{trade}:settle", key=f"{reference}-settle", json=paid)
        self.facts["trade"] = {"id": trade, "reference": reference, "position": recorded["position"]}
        self.facts["last_position"] = last["position"]
        self._say(
            f"{reference}: recorded by {seller.company}, confirmed by {buyer.company}, 500,000 of 1,250,000 JPY settled"
        )
        return recorded

    def anchor(self, position: int) -> dict[str, Any]:
        """Ask for an anchor now and wait until it is final for the position. Returns the evidence."""
        self.clerks["aozora-foods"].ask("POST", "/v1/anchors:now")
        deadline = time.monotonic() + ANCHOR_SECONDS
        while True:
            response = self.operator.http.get(f"/v1/entries/{position}/evidence")
            evidence: dict[str, Any] = response.json() if response.status_code == httpx.codes.OK else {}
            anchor = evidence.get("anchor")
            if anchor and anchor["state"] == "final":
                self.facts["anchor"] = anchor
                return evidence
            if time.monotonic() > deadline:
                raise DemoFailed(f"position {position} was not anchored within {ANCHOR_SECONDS:.0f} s")
            time.sleep(POLL_SECONDS)

    def balances(self) -> list[dict[str, Any]]:
        """What the demo's first company is owed and owes."""
        answer = self.clerks["aozora-foods"].ask(
            "GET", "/v1/balances", params={"min_position": self.facts["last_position"]}
        )
        return list(answer["items"])

    def write_policy(self, target: Path) -> None:
        """What an auditor writes down once, out of band: which log, which key, which contract."""
        book = self.operator.ask("GET", "/v1/book")
        self.facts |= {"origin": book["origin"], "chain_id": book["chain_id"], "contract": book["contract"]}
        command = [
            sys.executable,
            "-m",
            "daicho_verify",
            "policy",
            "--origin",
            book["origin"],
            "--log-key",
            book["log_key"],
        ]
        command += [
            "--promise-key",
            book["promise_key"],
            "--chain-id",
            str(book["chain_id"]),
            "--contract",
            book["contract"],
            "--require",
            "chain",
        ]
        done = subprocess.run(command, capture_output=True, check=False)
        if done.returncode:
            raise DemoFailed(f"no policy could be written: {done.stderr.decode(errors='replace')}")
        target.write_bytes(done.stdout)

    def _waiting_for(self, clerk: Person, ours: set[tuple[str, str]]) -> list[str]:
        found: list[str] = []
        cursor = ""
        # read your writes: the list is to hold what was just imported
        wait = {"min_position": str(self._imported_up_to)} if self._imported_up_to else {}
        while True:
            params = {"state": "recorded", "side": "buyer", "limit": "100", **wait} | (
                {"cursor": cursor} if cursor else {}
            )
            page = clerk.ask("GET", "/v1/trades", params=params)
            items = page["items"]
            found += [
                t["id"] for t in items if t["recorded_by"] == t["seller"] and (t["seller"], t["reference"]) in ours
            ]
            cursor = page.get("next") or ""
            if not cursor:
                return found

    def _confirm_bulk(self, clerk: Person, trades: list[str]) -> int:
        lines = [{"command": "ConfirmTrade", "trade": trade, "key": f"demo-confirm-{trade}"} for trade in trades]
        response = clerk.http.post(
            "/v1/commands",
            params={"mode": "continue", "sign": "batch"},
            content=b"".join(msgspec.json.encode(line) + b"\n" for line in lines),
            headers={"content-type": "application/x-ndjson", "idempotency-key": f"demo-confirm-{trades[0]}"},
        )
        answers = [json.loads(line) for line in response.text.splitlines() if line]
        refused = [answer["problem"] for answer in answers if "problem" in answer]
        if response.status_code >= httpx.codes.BAD_REQUEST or refused:
            raise DemoFailed(f"a confirmation was refused: {(refused or [response.text[:300]])[0]}")
        return len(trades)


# -- without the service ---------------------------------------------------------------------------------------------


def verify_alone(evidence: Path, policy: Path, node_url: str) -> tuple[int, dict[str, Any], str]:
    """Run `daicho-verify` with no service anywhere: exit code, its JSON, and what a person sees."""
    command = [sys.executable, "-m", "daicho_verify", str(evidence), "--policy", str(policy), "--rpc", node_url]
    seen = subprocess.run(command, capture_output=True, text=True, check=False)
    told = subprocess.run([*command, "--json"], capture_output=True, text=True, check=False)
    if told.returncode:
        raise DemoFailed(f"daicho-verify ended with exit code {told.returncode}:\n{seen.stdout}{seen.stderr}")
    return told.returncode, json.loads(told.stdout), seen.stdout


def attack_copies(folder: DataFolder, scratch: Path, facts: dict[str, Any]) -> tuple[Tampering, str]:
    """Both attacks, each on a copy of the stopped service's folder."""
    position = int(facts["trade"]["position"])
    tampered = change_one_byte(copy_folder(folder, scratch / "tampered"), position)
    rewritten = copy_folder(folder, scratch / "rewritten")
    entries = SqliteEntryLog(rewritten.ledger)
    with NodeProcess(rewritten.chain) as node:
        refusal = rewrite_history(node.url, entries, facts["origin"], facts["chain_id"], facts["contract"], position)
    entries.close()
    return tampered, refusal

"""Evidence and log as the API serves them convince the verifier, which shares no code with it; changed ones do not."""

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest

from daicho_verify.errors import MissingError
from daicho_verify.evidence import parse_evidence
from daicho_verify.log import Depth, verify_log
from daicho_verify.policy import Policy, parse_policy
from daicho_verify.promise import parse_promise, verify_promise
from daicho_verify.report import Report
from daicho_verify.verify import verify_evidence
from merkle.proofs import verify_inclusion
from tests.api_support import CHAIN_ID, CONTRACT, House, log_id, terms
from tests.projection_support import AnchorFactory


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A ledger with every kind of entry, some in batches, one wallet rotated, one in own custody, 300 entries long."""
    made = House(tmp_path_factory.mktemp("api"))
    made.admit("aozora", "kaede")
    first = made.record()["id"]
    assert made.post(f"/v1/trades/{first}:confirm", "kaede").status_code == 200
    wallet = made.get("/v1/wallets", "aozora").json()["items"][0]["id"]
    assert made.post(f"/v1/wallets/{wallet}:rotate", "aozora").status_code == 200
    lines = [{"command": "RecordTrade", **terms()} for _ in range(7)]
    assert made.bulk("aozora", lines, sign="batch").status_code == 200
    second = made.record()["id"]
    for verb, who, body in (
        ("dispute", "kaede", {"reason": "x"}), ("withdraw-dispute", "kaede", {"reason": "y"}),
        ("note", "aozora", {"note": "z", "attachments": [{"name": "a", "sha256": "00" * 32}]}),
        ("confirm", "kaede", None), ("propose-reversal", "kaede", {"reason": "r"}),
        ("reverse", "aozora", {"reason": "r"}),
    ):  # fmt: skip
        assert made.post(f"/v1/trades/{second}:{verb}", who, body).status_code == 200
    amount = {"amount": {"currency": "JPY", "units": "120000"}, "settled_on": "2026-12-01"}
    assert made.post(f"/v1/trades/{first}:propose-settlement", "kaede", amount).status_code == 200
    assert made.post(f"/v1/trades/{first}:settle", "aozora", amount).status_code == 200
    own = made.own_wallet("kaede", "second")
    made.tokens["second"] = made.token("second", "trade:write trade:read", "kaede")
    asked = {"command": "RecordTrade", **terms()}
    answer = made.post("/v1/typed-data", "second", asked).json()
    signed = {k: v for k, v in asked.items() if k != "command"} | {
        "trade": answer["trade"],
        "signature": own.sign(answer),
    }
    assert made.post("/v1/trades", "second", signed).status_code == 201
    for change in ("freeze", "unfreeze", "close"):
        assert made.post(f"/v1/wallets/{wallet}:{change}", "aozora", {"reason": change}).status_code == 200
    assert made.post("/v1/companies/kaede:suspend", "operator", {"reason": "s"}).status_code == 200
    assert made.post("/v1/companies/kaede:resume", "operator", {"reason": "s"}).status_code == 200
    house_bulk(made, 299 - made.head())  # and the entry that signs them
    made.publish()
    yield made
    made.close()


def house_bulk(house: House, count: int) -> None:
    """Fill the log up to more than one tile."""
    lines = [{"command": "RecordTrade", **terms(seller="kaede", buyer="aozora")} for _ in range(count)]
    assert house.bulk("kaede", lines, sign="batch").status_code == 200


@pytest.fixture(scope="module")
def policy(house: House) -> Policy:
    return parse_policy(json.dumps(house.get("/v1/book").json()["policy"]).encode())


class ApiLog:
    """The log as the API serves it, as the verifier reads it."""

    def __init__(self, house: House, who: str | None = "auditor") -> None:
        self.house, self.who = house, who

    def read(self, path: str, most_bytes: int, *, secret: bool = False) -> bytes:
        response = self.house.get(f"/log/{path}", self.who if secret else None)
        if response.status_code == 404:
            raise MissingError(path)
        assert response.status_code == 200, response.text
        assert response.headers["access-control-allow-origin"] == "*"
        assert len(response.content) <= most_bytes
        return response.content


def failed(report: Report) -> list[str]:
    return [f"{ring.name}: {ring.why}" for ring in report.rings if ring.verdict == "failed"]


def rings(report: Report) -> dict[str, str]:
    return {ring.name: ring.verdict for ring in report.rings}


def test_every_entry_of_every_type_is_proven_to_a_stranger(house: House, policy: Policy) -> None:
    types = set()
    for position in [*range(1, 42), 256, 257, 298, 299]:
        raw = house.get(f"/v1/entries/{position}/evidence", "auditor").content
        report = verify_evidence(parse_evidence(raw), policy)
        assert not failed(report), (position, failed(report))
        assert report.exit_code == 0
        assert rings(report)["author"] == "ok", report.as_text()
        types.add(report.subject["type"])
    assert types == {
        "BookOpened", "CompanyRegistered", "CompanySuspended", "CompanyResumed", "WalletOpened", "WalletKeyRotated",
        "WalletFrozen", "WalletUnfrozen", "WalletClosed", "BatchSigned", "TradeRecorded", "TradeConfirmed",
        "TradeDisputed", "TradeDisputeWithdrawn", "TradeSettlementProposed", "TradeSettled", "TradeReversalProposed",
        "TradeReversed", "TradeNoteAdded",
    }  # fmt: skip


def test_a_party_gets_the_evidence_of_its_trade_with_the_other_sides_wallet_in_it(house: House, policy: Policy) -> None:
    confirmed = next(p for p, entry in house.entries.read(1, 99) if b'"TradeConfirmed"' in entry)
    raw = house.get(f"/v1/entries/{confirmed}/evidence", "aozora")
    assert raw.headers["content-disposition"] == f'attachment; filename="daicho-entry-{confirmed}.json"'
    shown = raw.json()["author"]
    assert b"kaede" in base64.b64decode(shown["wallet"][0]["bytes"])
    assert not failed(verify_evidence(parse_evidence(raw.content), policy))


def test_evidence_in_which_anything_was_changed_convinces_nobody(house: House, policy: Policy) -> None:
    batched = next(p for p, entry in house.entries.read(1, 99) if b'"BatchSigned"' in entry) + 3
    whole = house.get(f"/v1/entries/{batched}/evidence", "auditor").json()

    def changed(change: Any) -> str:
        copy = json.loads(json.dumps(whole))
        change(copy)
        report = verify_evidence(parse_evidence(json.dumps(copy).encode()), policy)
        assert report.exit_code == 1, rings(report)
        return failed(report)[0].partition(":")[0]

    def swap(hashes: list[str]) -> None:
        hashes[0] = base64.b64encode(b"\x00" * 32).decode()

    assert changed(lambda e: swap(e["inclusion"])) == "inclusion"
    assert changed(lambda e: swap(e["author"]["batch"]["path"])) == "author"
    assert changed(lambda e: swap(e["author"]["wallet"][0]["inclusion"])) == "author"
    assert changed(lambda e: e.update(checkpoint=e["checkpoint"].replace("\n300\n", "\n299\n"))) != ""


def test_a_proof_leads_to_the_root_of_any_published_size(house: House) -> None:
    for size in (300, 299, 257, 256, 40):
        proof = house.get(f"/v1/entries/17/proof?size={size}", "auditor").json()
        leaf, root, *path = (base64.b64decode(h) for h in (proof["leaf_hash"], proof["root"], *proof["inclusion"]))
        verify_inclusion(16, size, leaf, path, root)
    assert house.get("/v1/entries/17/proof", "auditor").json()["size"] == 300
    assert house.get("/v1/entries/17/proof?size=16", "auditor").status_code == 400


def test_the_whole_log_agrees_with_its_checkpoint_tile_by_tile_and_entry_by_entry(house: House, policy: Policy) -> None:
    report = verify_log(ApiLog(house), policy, depth=Depth(entries=True))
    assert not failed(report)
    assert (rings(report)["tree"], rings(report)["entries"]) == ("ok", "ok")
    report = verify_log(ApiLog(house, None), policy)
    assert rings(report)["tree"] == "ok"


def test_every_promise_is_kept_once_the_log_is_published(house: House, policy: Policy) -> None:
    answer = house.bulk("kaede", [{"command": "RecordTrade", **terms()} for _ in range(3)], sign="batch")
    promise = parse_promise(json.loads(answer.text.splitlines()[-1])["promise"].encode())
    report = verify_promise(promise, policy, ApiLog(house))
    assert (rings(report)["promise"], rings(report)["kept"]) == ("ok", "not checked")
    early = house.get(f"/v1/entries/{house.head()}/evidence", "auditor")
    assert (early.status_code, early.json()["type"]) == (503, "urn:daicho:problem:not-yet-visible")
    house.publish()
    assert rings(verify_promise(promise, policy, ApiLog(house)))["kept"] == "ok"


def test_an_anchor_joins_the_evidence_once_it_is_mined(house: House, policy: Policy) -> None:
    head = house.sequencer.view.head
    assert head is not None
    factory = AnchorFactory(chain_id=CHAIN_ID)

    def event(name: str) -> Any:
        factory.add(name, 0, head.size, contract=CONTRACT, log_id=log_id(), root=head.root.hex())
        house.anchor_projector.process(factory.records[-1:])
        return house.get("/v1/entries/12/evidence", "auditor").json()["anchor"]

    assert event("AnchorSubmitted") is None
    anchor = event("AnchorMined")
    assert (anchor["state"], anchor["size"], anchor["log_id"]) == ("mined", head.size, log_id())
    house.bulk("kaede", [{"command": "RecordTrade", **terms()} for _ in range(5)], sign="batch")
    house.publish()
    raw = house.get("/v1/entries/12/evidence", "auditor").content
    assert json.loads(raw)["anchor"]["consistency"]
    report = verify_evidence(parse_evidence(raw), policy)
    assert not failed(report)
    assert rings(report)["chain"] == "not checked"  # no node of the auditor's own was named
    assert house.get(f"/v1/entries/{house.head()}/evidence", "auditor").json()["anchor"] is None
    assert event("AnchorReturned") is None
    assert event("AnchorMined")["tx_hash"] == anchor["tx_hash"]
    assert event("AnchorFinal")["state"] == "final"

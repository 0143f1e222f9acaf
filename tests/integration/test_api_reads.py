"""Reading: who sees what, filters and pages, as it was, read your writes, and the receipt beside every event."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from daicho_verify.policy import parse_policy
from domain.entry import decode_stamp
from tests.api_support import CHAIN_ID, CONTRACT, House, log_id
from tests.projection_support import AnchorFactory

YEN = {"currency": "JPY", "units": "120000"}


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path)
    made.admit("aozora", "kaede", "midori")
    yield made
    made.close()


def confirmed(house: House, **changes: Any) -> str:
    trade: str = house.record(**changes)["id"]
    assert house.post(f"/v1/trades/{trade}:confirm", "kaede").status_code == 200
    return trade


def ids(response: Any) -> list[str]:
    assert response.status_code == 200, response.text
    return [item["id"] for item in response.json()["items"]]


def test_both_sides_see_a_trade_and_nobody_else(house: House) -> None:
    trade = house.record()["id"]
    path = f"/v1/trades/{trade}"
    for who in ("aozora", "kaede", "operator", "auditor"):
        response = house.get(path, who)
        assert (response.json()["id"], response.headers["etag"]) == (trade, '"1"')
        assert ids(house.get("/v1/trades", who)) == [trade]
        assert house.get(f"{path}/history", who).json()["items"][0]["type"] == "TradeRecorded"
    assert house.get(path, "midori").status_code == 404
    assert house.get(f"{path}/history", "midori").status_code == 404
    assert ids(house.get("/v1/trades", "midori")) == []
    assert ids(house.get("/v1/trades?company=aozora", "midori")) == []


def test_trades_are_found_by_filter(house: House) -> None:
    plain = house.record()["id"]
    euro = house.record(amount={"currency": "EUR", "units": "5"}, description="Sencha 100%", traded_on="2026-10-01")[
        "id"
    ]
    bought = house.record(seller="kaede", buyer="aozora", reference="EXACT-1")["id"]
    done = confirmed(house)
    house.post(f"/v1/trades/{plain}:dispute", "kaede", {"reason": "wrong"})
    cases = {
        "": [done, bought, euro, plain],
        "state=confirmed": [done],
        "currency=EUR": [euro],
        "text=sencha": [euro],
        "text=100%25": [euro],
        "traded_until=2026-10-31": [euro],
        "traded_from=2026-11-01": [done, bought, plain],
        "reference=EXACT-1": [bought],
        "side=buyer": [bought],
        "disputed=true": [plain],
        "disputed=false": [done, bought, euro],
        "counterparty=kaede&side=seller": [done, euro, plain],
        "counterparty=midori": [],
        "text=%27%20OR%201=1--": [],
    }
    for query, expected in cases.items():
        assert ids(house.get(f"/v1/trades?{query}", "aozora")) == expected, query
    assert ids(house.get("/v1/trades?company=kaede&side=seller", "operator")) == [bought]


def test_pages_follow_each_other_and_new_trades_do_not_shift_them(house: House) -> None:
    trades = [house.record()["id"] for _ in range(5)][::-1]
    page = house.get("/v1/trades?limit=2", "aozora").json()
    assert [item["id"] for item in page["items"]] == trades[:2]
    house.record()
    seen, cursor = [], page["next"]
    while cursor is not None:
        page = house.get(f"/v1/trades?limit=2&cursor={cursor}", "aozora").json()
        seen += [item["id"] for item in page["items"]]
        cursor = page["next"]
    assert seen == trades[2:]
    first = house.get("/v1/trades?limit=2", "aozora").json()["next"]
    for path, who in (
        (f"/v1/trades?limit=2&state=recorded&cursor={first}", "aozora"),
        (f"/v1/trades?limit=2&cursor={first}", "kaede"),
        (f"/v1/companies?cursor={first}", "aozora"),
    ):
        assert house.get(path, who).json()["type"].endswith("bad-cursor")


def test_every_list_can_be_paged_to_its_end(house: House) -> None:
    for user in range(3):
        house.post("/v1/users", "aozora", {"user": f"user {user}"})
    for path, who, key, count in (
        ("/v1/companies", "aozora", "code", 3), ("/v1/wallets", "aozora", "id", 4),
        ("/v1/wallets?company=aozora", "operator", "id", 4),
    ):  # fmt: skip
        seen: list[str] = []
        cursor = None
        while cursor is not None or not seen:
            glue = "&" if "?" in path else "?"
            page = house.get(f"{path}{glue}limit=1" + (f"&cursor={cursor}" if cursor else ""), who).json()
            seen += [item[key] for item in page["items"]]
            cursor = page["next"]
        assert len(seen) == len(set(seen)) == count


def test_a_trade_is_shown_as_it_was_at_a_position_and_at_a_time(house: House) -> None:
    trade = house.record()["id"]
    at = house.head()
    moment = decode_stamp(house.entries.get(at) or b"").recorded_at
    house.post(f"/v1/trades/{trade}:confirm", "kaede")
    house.post(f"/v1/trades/{trade}:settle", "aozora", {"amount": YEN, "settled_on": "2026-12-01"})
    path = f"/v1/trades/{trade}"
    states = [house.get(f"{path}?as_of={position}", "kaede").json()["state"] for position in (at, at + 1, at + 2)]
    assert states == ["recorded", "confirmed", "settled"]
    assert house.get(f"{path}?as_of={moment}", "kaede").json()["state"] == "recorded"
    assert house.get(f"{path}?as_of={at - 1}", "kaede").status_code == 404
    assert len(house.get(f"{path}/history?as_of={at + 1}", "kaede").json()["items"]) == 2
    units = [
        [item["balance"]["units"] for item in house.get(f"/v1/balances?as_of={position}", "aozora").json()["items"]]
        for position in (at, at + 1, at + 2)
    ]
    assert units == [[], ["120000"], ["0"]]


def test_balances_of_all_companies_sum_to_zero(house: House) -> None:
    confirmed(house)
    confirmed(house, amount={"currency": "EUR", "units": "700"})
    own = house.get("/v1/balances", "aozora").json()
    assert own["totals"] == [{"currency": "EUR", "units": "700"}, {"currency": "JPY", "units": "120000"}]
    sums: dict[str, int] = {}
    for company in ("aozora", "kaede", "midori"):
        for total in house.get(f"/v1/balances?company={company}", "auditor").json()["totals"]:
            sums[total["currency"]] = sums.get(total["currency"], 0) + int(total["units"])
    assert sums == {"EUR": 0, "JPY": 0}
    assert len(house.get("/v1/balances?currency=EUR&counterparty=kaede", "aozora").json()["items"]) == 1


def test_a_read_waits_for_the_position_that_was_just_written(house: House) -> None:
    house.projecting = False
    written = house.record()
    path, position = f"/v1/trades/{written['id']}", written["position"]
    assert house.get(path, "aozora").status_code == 404
    late = house.get(f"{path}?min_position={position}", "aozora")
    assert (late.status_code, late.json()["type"]) == (503, "urn:daicho:problem:not-yet-visible")
    assert late.headers["retry-after"] == "1"

    async def both() -> Any:
        headers = {"authorization": f"Bearer {house.as_('aozora')}"}
        reading = asyncio.ensure_future(house.client.get(f"{path}?min_position={position}", headers=headers))
        while not house.board.waiters:  # noqa: ASYNC110 the board tells nobody that somebody waits
            await asyncio.sleep(0)
        house.catch_up()
        return await reading

    assert house.run(both()).json()["id"] == written["id"]


def test_an_entry_is_read_by_its_parties_and_by_auditors(house: House) -> None:
    house.publish()
    entry = house.record()
    path = f"/v1/entries/{entry['position']}"
    for who in ("aozora", "kaede", "auditor", "operator"):
        shown = house.get(path, who).json()
        assert shown["entry"] == entry["entries"][0]["entry"]
        assert shown["leaf_hash"] == entry["entries"][0]["leaf_hash"]
        assert (shown["checkpoint"], shown["anchor"]) == (None, None)
    foreign = house.get(path, "midori")
    missing = house.get("/v1/entries/999", "midori")
    assert foreign.text.replace(str(entry["position"]), "999") == missing.text
    assert house.get("/v1/entries/1", "midori").status_code == 200  # the book is everybody's
    wallet = next(p for p, e in house.entries.read(1, 50) if b'"WalletOpened"' in e and b'"company":"kaede"' in e)
    assert house.get(f"/v1/entries/{wallet}", "aozora").status_code == 404


def anchored(house: House, *events: str) -> AnchorFactory:
    """Anchor the published head, as the anchor book would tell it."""
    head = house.sequencer.view.head
    assert head is not None
    factory = AnchorFactory(chain_id=CHAIN_ID)
    for event in events:
        factory.add(event, 0, head.size, contract=CONTRACT, log_id=log_id(), root=head.root.hex())
    house.anchor_projector.process(factory.records)
    return factory


def test_the_transaction_hash_stands_beside_every_event_that_the_anchor_covers(house: House) -> None:
    trade = confirmed(house)
    house.publish()
    tx_hash = anchored(house, "AnchorSubmitted", "AnchorMined").heads[0]["tx_hash"]
    house.post(f"/v1/trades/{trade}:note", "kaede", {"note": "later"})
    recorded, confirmation, note = house.get(f"/v1/trades/{trade}/history", "aozora").json()["items"]
    for covered in (recorded, confirmation):
        assert covered["receipt"]["anchor"]["tx_hash"] == tx_hash
        assert covered["receipt"]["anchor"]["state"] == "mined"
        assert covered["receipt"]["anchor"]["independent"] is False
        assert covered["receipt"]["checkpoint"]["size"] == confirmation["position"]
    assert note["receipt"]["anchor"] is None
    assert note["receipt"]["checkpoint"] is None
    assert house.get(f"/v1/trades/{trade}", "kaede").json()["receipt"]["position"] == note["position"]
    anchors = house.get("/v1/anchors?state=mined").json()["items"]
    assert [item["tx_hash"] for item in anchors] == [tx_hash]
    assert house.get(f"/v1/anchors/{anchors[0]['id']}").json() == anchors[0]
    assert house.get("/v1/anchors?state=final").json()["items"] == []
    metrics = house.get("/metrics").text
    assert f"daicho_anchored_size {confirmation['position']}.0" in metrics
    assert "daicho_anchor_gas 61000.0" in metrics
    assert "daicho_anchor_age_seconds " in metrics


def test_an_anchor_is_asked_for_by_those_who_may(house: House) -> None:
    response = house.post("/v1/anchors:now", "operator", key=None)
    assert (response.status_code, response.json()) == (202, {"requested_size": 1})
    assert [actor.company for actor in house.anchoring.asked] == [""]
    assert house.post("/v1/anchors:now", "aozora", key=None).status_code == 403
    assert house.post("/v1/anchors:now", key=None).status_code == 401
    assert len(house.anchoring.asked) == 1


def test_the_book_names_its_keys_and_a_policy_that_the_verifier_takes(house: House) -> None:
    house.publish()
    book = house.get("/v1/book").json()
    assert (book["origin"], book["chain_id"], book["log_id"]) == (house.services.origin, CHAIN_ID, log_id())
    assert book["size"] == house.head()
    policy = parse_policy(json.dumps(book["policy"]).encode())
    assert policy.origin == book["origin"]
    assert policy.chain is not None
    assert not policy.chain.independent


def test_health_says_whether_to_send_traffic_and_why_not(house: House) -> None:
    assert house.get("/healthz").json() == {"status": "alive"}
    assert house.get("/readyz").status_code == 200
    house.health.reasons.append("read-only: the store may be behind")
    house.health.rows[0]["error"] = "GapError"
    response = house.get("/readyz")
    assert response.status_code == 503
    assert response.json()["reasons"] == ["read-only: the store may be behind"]
    metrics = house.get("/metrics").text
    assert 'daicho_processor_failed{processor="projector"} 1.0' in metrics
    assert 'daicho_processor_lag_entries{processor="projector"} 0.0' in metrics

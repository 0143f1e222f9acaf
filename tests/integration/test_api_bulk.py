"""Bulks: one line of answer a command in order, all or none or what is allowed, one signature, one promise."""

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from daicho_verify.promise import parse_promise
from domain.authorship import batch_root
from domain.entry import entry_leaf_hash
from domain.errors import LedgerReadOnly
from domain.ids import IdSource
from domain.typed_data import signed_content, terms_digest, typed_data_json, typed_message
from merkle.notes import open_note
from tests.api_support import CHAIN_ID, CONTRACT, ORIGIN, House, terms


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path)
    made.admit("aozora", "kaede", "midori")
    yield made
    made.close()


def record(**changes: Any) -> dict[str, Any]:
    return {"command": "RecordTrade", **terms(**changes)}


def split(response: Any) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The lines of the answer and its end."""
    *lines, end = [json.loads(line) for line in response.text.splitlines()]
    assert [line["line"] for line in lines] == list(range(len(lines)))
    assert response.headers["content-type"] == "application/x-ndjson"
    return lines, end


def problems(lines: list[dict[str, Any]]) -> list[str]:
    return [line["problem"]["type"].rpartition(":")[2] if "problem" in line else "done" for line in lines]


def new_trade() -> str:
    return IdSource().uuid7()


@pytest.mark.parametrize("sign", ["each", "batch"])
@pytest.mark.parametrize("mode", ["atomic", "continue"])
def test_every_command_is_answered_in_order_and_promised_once(house: House, mode: str, sign: str) -> None:
    head, trades = house.head(), [new_trade() for _ in range(5)]
    lines, end = split(house.bulk("aozora", [record(trade=trade) for trade in trades], mode=mode, sign=sign))
    assert [line["id"] for line in lines] == trades
    first = head + (2 if sign == "batch" else 1)
    assert [line["position"] for line in lines] == list(range(first, first + 5))
    assert (end["done"], end["refused"], end["dry_run"]) == (5, 0, False)
    promise = parse_promise(end["promise"].encode())
    stored = [(at, entry_leaf_hash(entry)) for at, entry in house.entries.read(head + 1, 100)]
    assert promise.leaves == tuple(stored)
    open_note(end["promise"].encode(), [house.promise_signer.key])
    for line in lines:
        assert line["entries"][0]["entry"].encode() == house.entries.get(line["position"])
    assert (end["batch"] is not None) == (sign == "batch")
    if sign == "batch":
        batch = json.loads(end["batch"]["entry"])
        assert (batch["type"], batch["position"], batch["data"]["count"]) == ("BatchSigned", head + 1, 5)


def test_a_trade_is_recorded_confirmed_and_settled_inside_one_bulk_each_by_its_side(house: House) -> None:
    trade = new_trade()
    settle = {"command": "SettleTrade", "trade": trade, "amount": {"currency": "JPY", "units": "120000"}}
    lines, _ = split(house.bulk("aozora", [record(trade=trade), {"command": "AddNote", "trade": trade, "note": "x"}]))
    assert [line["version"] for line in lines] == [1, 2]
    assert house.post(f"/v1/trades/{trade}:confirm", "kaede").status_code == 200
    lines, _ = split(house.bulk("aozora", [{**settle, "settled_on": "2026-12-01"}], sign="batch"))
    assert lines[0]["version"] == 4


@pytest.mark.parametrize("sign", ["each", "batch"])
def test_an_atomic_bulk_with_one_refused_line_does_nothing(house: House, sign: str) -> None:
    head = house.head()
    commands = [record(), record(buyer="nobody"), record()]
    response = house.bulk("aozora", commands, sign=sign)
    lines, end = split(response)
    assert response.status_code == 404
    assert problems(lines) == ["bulk-rejected", "company-not-found", "bulk-rejected"]
    assert (end["done"], end["promise"], end["batch"]) == (0, None, None)
    assert house.head() == head


@pytest.mark.parametrize("sign", ["each", "batch"])
def test_continue_does_what_is_allowed_and_says_why_the_rest_is_not(house: House, sign: str) -> None:
    head, twice = house.head(), terms()
    commands = [
        {"command": "RecordTrade", **twice}, record(buyer="nobody"), {"command": "RecordTrade", **twice}, record(),
        {"command": "ConfirmTrade", "trade": new_trade()}, b"{broken", record(seller="kaede", buyer="midori"),
    ]  # fmt: skip
    response = house.bulk("aozora", commands, mode="continue", sign=sign)
    lines, end = split(response)
    assert response.status_code == 200
    expected = ["done", "company-not-found", "reference-taken", "done", "trade-not-found", "malformed"]
    assert problems(lines) == [*expected, "not-your-company"]
    assert (end["done"], end["refused"]) == (2, 5)
    assert house.head() == head + (3 if sign == "batch" else 2)


@pytest.mark.parametrize("sign", ["each", "batch"])
@pytest.mark.parametrize("mode", ["atomic", "continue"])
def test_a_bulk_sent_again_is_answered_from_what_is_stored(house: House, mode: str, sign: str) -> None:
    commands = [record() for _ in range(4)]
    first, _ = split(house.bulk("aozora", commands, key="import-1", mode=mode, sign=sign))
    head = house.head()
    again, end = split(house.bulk("aozora", commands, key="import-1", mode=mode, sign=sign))
    assert [line["entries"] for line in again] == [line["entries"] for line in first]
    assert all(line["hit"] for line in again)
    assert not any("hit" in line for line in first)
    assert house.head() == head
    assert parse_promise(end["promise"].encode()).leaves
    more, end = split(house.bulk("aozora", [*commands, record()], key="import-1", mode="continue", sign=sign))
    assert [line.get("hit", False) for line in more] == [True] * 4 + [False]
    assert end["done"] == 5


def test_a_line_may_name_its_own_key_and_otherwise_has_the_bulks_with_its_number(house: House) -> None:
    single = terms()
    assert house.post("/v1/trades", "aozora", single, key="AF-1").status_code == 201
    lines, _ = split(house.bulk("aozora", [record(), {"command": "RecordTrade", "key": "AF-1", **single}], key="stem"))
    assert [line.get("hit", False) for line in lines] == [False, True]
    wanted = json.loads(house.entries.get(lines[0]["position"]) or b"")["data"]
    body = {name: wanted[name] for name in terms()}
    again = house.post("/v1/trades", "aozora", body, key="stem:0")
    assert again.headers["idempotency-hit"] == "true"
    lines, _ = split(house.bulk("aozora", [{**record(), "k\u0065y": "bad key"}], mode="continue"))
    assert lines[0]["problem"]["values"]["field"] == "key"


def test_a_key_spelt_with_escapes_is_the_same_key(house: House) -> None:
    raw = json.dumps(record()).encode()
    lines, _ = split(house.bulk("aozora", [raw[:-1] + b',"k\\u0065y":"x-1"}']))
    again, _ = split(house.bulk("aozora", [raw[:-1] + b',"key":"x-1"}']))
    assert again[0]["hit"]
    assert again[0]["id"] == lines[0]["id"]


def test_a_dry_run_of_a_bulk_writes_nothing_and_promises_nothing(house: House) -> None:
    head = house.head()
    for mode in ("atomic", "continue"):
        response = house.bulk("aozora", [record(), record(buyer="nobody")], mode=mode, dry_run="true", sign="batch")
        lines, end = split(response)
        assert response.status_code == (404 if mode == "atomic" else 200)
        assert problems(lines)[1] == "company-not-found"
        assert (end["promise"], end["batch"], end["dry_run"]) == (None, None, True)
    assert house.head() == head


def test_lines_need_the_scope_of_what_they_command(house: House) -> None:
    wallet = house.get("/v1/wallets", "aozora").json()["items"][0]["id"]
    freeze = {"command": "FreezeWallet", "wallet": wallet, "reason": "lost"}
    admit = {"command": "RegisterCompany", "code": "nami", "name": "Nami"}
    house.tokens["writer"] = house.token("user of aozora", "trade:write", "aozora")
    lines, _ = split(house.bulk("writer", [record(), freeze, admit], mode="continue"))
    assert problems(lines) == ["done", "missing-scope", "missing-scope"]
    lines, _ = split(house.bulk("operator", [record(), freeze, admit], mode="continue"))
    assert problems(lines) == ["missing-scope", "done", "done"]
    house.tokens["reader"] = house.token("r", "trade:read", "aozora")
    assert house.bulk("reader", [record()]).status_code == 403


@pytest.mark.parametrize(
    ("lines", "params", "field"),
    [
        ([], {}, "$"), ([b""], {}, "$"), ([b"{}"], {"mode": "some"}, "mode"), ([b"{}"], {"sign": "none"}, "sign"),
        ([b'{"batch":{}}', b"{}"], {}, "batch.batch"), ([b"{}"], {"modes": "atomic"}, "modes"),
    ],
)  # fmt: skip
def test_a_bulk_that_is_no_bulk_is_one_problem(
    house: House, lines: list[bytes], params: dict[str, str], field: str
) -> None:
    response = house.bulk("aozora", lines, **params)
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["values"]["field"] == field


def test_a_bulk_that_meets_our_trouble_is_503_and_may_be_sent_again(house: House) -> None:
    commands = [record(), record()]
    house.writer.refusal = LedgerReadOnly("behind")
    response = house.bulk("aozora", commands, key="again", mode="continue")
    assert response.status_code == 503
    assert int(response.headers["retry-after"]) > 0
    assert problems(split(response)[0]) == ["ledger-read-only"] * 2
    house.writer.refusal = None
    assert split(house.bulk("aozora", commands, key="again", mode="continue"))[1]["done"] == 2


class TestOwnCustody:
    """A wallet that only its user has signs a whole bulk at once; the first line carries the signature."""

    def batch(self, house: House, commands: list[dict[str, Any]], **changes: Any) -> dict[str, Any]:
        """What the client sends first: the contents of its lines, hashed and signed by itself."""
        wallet = house.own_wallet("aozora", "second")
        house.tokens["second"] = house.token("second", "trade:write", "aozora")
        contents = []
        for command in commands:
            data = {name: value for name, value in command.items() if name not in {"command", "trade"}}
            data |= {"recorded_by": "aozora", "description": "", "lines": []}
            content = {**data, "digest": terms_digest(data)}
            contents.append(signed_content("TradeRecorded", command["trade"], content))
        root = batch_root(contents).hex()
        mine = house.get("/v1/users/second/wallet", "aozora").json()["id"]
        nonce, deadline = IdSource().nonce(), 4_000_000_000
        data = {"wallet": mine, "company": "aozora", "root": root, "count": len(commands)}
        message = typed_message("BatchSigned", ORIGIN, str(uuid.uuid4()), data, int(nonce, 16), deadline)
        typed = {"typed_data": typed_data_json(message, CHAIN_ID, CONTRACT), "nonce": nonce, "deadline": deadline}
        given = {"batch": new_trade(), "root": root, "count": len(commands), "signature": wallet.sign(typed)}
        return {"batch": {**given, **changes}}

    def test_is_accepted_when_it_signs_exactly_these_lines(self, house: House) -> None:
        commands = [record(trade=new_trade()) for _ in range(3)]
        head = house.head() + 1
        first = self.batch(house, commands)
        lines, end = split(house.bulk("second", [first, *commands], sign="batch"))
        assert problems(lines) == ["done"] * 3
        assert [line["position"] for line in lines] == [head + 2, head + 3, head + 4]
        assert json.loads(end["batch"]["entry"])["aggregate_id"] == first["batch"]["batch"]
        assert len(parse_promise(end["promise"].encode()).leaves) == 4

    def test_is_refused_for_other_lines_another_order_or_another_key(self, house: House) -> None:
        commands = [record(trade=new_trade()) for _ in range(3)]
        first = self.batch(house, commands)
        head = house.head()
        for sent in (commands[::-1], commands[:2], [*commands[:2], record(trade=new_trade())]):
            lines, _ = split(house.bulk("second", [first, *sent], sign="batch"))
            assert set(problems(lines)) == {"signature-invalid"}
        lines, _ = split(house.bulk("aozora", [first, *commands], sign="batch"))
        assert set(problems(lines)) == {"wrong-signer"}
        response = house.bulk("second", [first, *commands], sign="each")
        assert response.json()["values"]["field"] == "sign"
        lines, _ = split(house.bulk("second", commands, sign="batch"))
        assert problems(lines)[0] == "signature-missing"
        assert house.head() == head

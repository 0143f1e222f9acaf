"""Users and wallets: the sign-up hook, keys that rotate, wallets in own custody, pseudonyms that hide the user."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from domain.errors import SignerUnavailable
from tests.api_support import House, OwnWallet, terms

SCOPES = "trade:write trade:read wallet:write"


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path)
    made.admit("aozora", "kaede")
    yield made
    made.close()


def kind(response: Any) -> str:
    return response.json()["type"].rpartition(":")[2]  # type: ignore[no-any-return]


def test_signing_up_opens_a_wallet_and_names_its_address(house: House) -> None:
    response = house.post("/v1/users", "aozora", {"user": "user-4711"})
    body = response.json()
    assert response.status_code == 201
    assert response.headers["location"] == f"/v1/wallets/{body['wallet']}"
    assert body["custody"] == "custodial"
    assert body["address"].startswith("0x")
    assert body["promise"]
    shown = house.get("/v1/users/user-4711/wallet", "aozora").json()
    assert (shown["id"], shown["address"], shown["state"]) == (body["wallet"], body["address"], "active")
    assert house.get(f"/v1/wallets/{body['wallet']}", "aozora").json() == shown
    assert house.get("/v1/users/user-4711/wallet?company=aozora", "operator").json() == shown


@pytest.mark.parametrize("who", ["aozora", "operator"])
def test_signing_up_again_answers_with_the_wallet_that_is_there(house: House, who: str) -> None:
    body = {"user": "user-1", "company": "aozora"}
    first = house.post("/v1/users", "aozora", body, key=None)
    head = house.head()
    again = house.post("/v1/users", who, body, key=None)
    other_key = house.post("/v1/users", who, body, key="another")
    for repeated in (again, other_key):
        assert repeated.status_code == 201
        assert repeated.headers["idempotency-hit"] == "true"
        assert repeated.json()["wallet"] == first.json()["wallet"]
        assert repeated.json()["entries"] == first.json()["entries"]
    assert house.head() == head


def test_a_hook_that_failed_half_way_goes_on_where_it_was(house: House) -> None:
    create = house.keys.create

    async def dies_after(wallet: str) -> str:
        await create(wallet)
        raise SignerUnavailable("the answer was lost")

    house.keys.create = dies_after  # type: ignore[method-assign]
    assert kind(house.post("/v1/users", "aozora", {"user": "u"})) == "signer-unavailable"
    assert kind(house.get("/v1/users/u/wallet", "aozora")) == "wallet-not-found"
    house.keys.create = create  # type: ignore[method-assign]
    body = house.post("/v1/users", "aozora", {"user": "u"}).json()
    assert len(house.keys.secrets[body["wallet"]]) == 1


def test_many_hooks_at_once_for_one_user_open_one_wallet(house: House) -> None:
    import asyncio

    async def together() -> list[Any]:
        headers = {"authorization": f"Bearer {house.as_('aozora')}", "content-type": "application/json"}
        posts = [house.client.post("/v1/users", content=b'{"user":"u"}', headers=headers) for _ in range(8)]
        return await asyncio.gather(*posts)

    head = house.head()
    answers = house.run(together())
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["wallet"] for answer in answers}) == 1
    assert house.head() == head + 1


def test_the_log_and_the_read_models_never_hold_the_real_user(house: House) -> None:
    house.post("/v1/users", "aozora", {"user": "hanako.yamada@aozora.example"})
    house.tokens["hanako"] = house.token("hanako.yamada@aozora.example", SCOPES, "aozora")
    house.post("/v1/trades", "hanako", terms())
    assert not any(b"hanako" in entry for _, entry in house.entries.read(1, 100))
    for path in house.folder.glob("*.db*"):
        assert b"hanako" not in path.read_bytes(), path.name


def test_asking_for_an_unknown_user_leaves_no_trace(house: House) -> None:
    known = dict(house.pseudonyms.of)
    assert kind(house.get("/v1/users/nobody/wallet", "aozora")) == "wallet-not-found"
    assert kind(house.get("/v1/users/user%20of%20aozora/wallet", "kaede")) == "wallet-not-found"
    assert {pair for pair in house.pseudonyms.of if pair not in known} <= {("kaede", "user of kaede")}


@pytest.mark.parametrize(
    ("body", "name"),
    [
        ({}, "malformed"), ({"user": ""}, "malformed"), ({"user": "a\nb"}, "malformed"),
        ({"user": "x" * 256}, "malformed"),
        ({"user": "u", "custody": "shared"}, "malformed"), ({"user": "u", "custody": "own"}, "malformed"),
        ({"user": "u", "address": "0x" + "11" * 20}, "malformed"), ({"user": "u", "admin": True}, "malformed"),
        ({"user": "u", "company": "kaede"}, "not-your-company"),
    ],
)  # fmt: skip
def test_a_sign_up_that_is_not_well_formed_makes_nothing(house: House, body: dict[str, Any], name: str) -> None:
    head, keys = house.head(), len(house.keys.secrets)
    assert kind(house.post("/v1/users", "aozora", body)) == name
    assert (house.head(), len(house.keys.secrets)) == (head, keys)


def test_nothing_is_made_for_a_company_that_is_unknown_or_suspended(house: House) -> None:
    keys = len(house.keys.secrets)
    assert kind(house.post("/v1/users", "operator", {"user": "u", "company": "nobody"})) == "company-not-found"
    assert kind(house.post("/v1/users", "operator", {"user": "u"})) == "bad-parameter"
    house.post("/v1/companies/aozora:suspend", "operator", {"reason": "x"})
    assert kind(house.post("/v1/users", "aozora", {"user": "u"})) == "company-suspended"
    assert len(house.keys.secrets) == keys


def test_a_custodial_wallet_rotates_once_per_key_and_signs_on(house: House) -> None:
    wallet = house.get("/v1/wallets", "aozora").json()["items"][0]
    path = f"/v1/wallets/{wallet['id']}"
    assert house.post("/v1/trades", "aozora", terms()).status_code == 201
    first = house.post(f"{path}:rotate", "aozora", key="rotate-1")
    again = house.post(f"{path}:rotate", "aozora", {}, key="rotate-1")
    assert (first.status_code, again.status_code) == (200, 200)
    assert again.headers["idempotency-hit"] == "true"
    assert first.json()["entries"] == again.json()["entries"]
    shown = house.get(path, "aozora").json()
    assert [key["address"] for key in shown["keys"]] == [wallet["address"], shown["address"]]
    assert len(house.keys.secrets[wallet["id"]]) == 2
    trade = house.post("/v1/trades", "aozora", terms(), key="after")
    assert json.loads(trade.json()["entries"][0]["entry"])["data"]["signature"]["address"] == shown["address"]
    assert kind(house.post(f"{path}:rotate", "aozora", key="after")) == "command-key-reused"
    stale = house.post(f"{path}:rotate", "aozora", headers={"if-match": '"1"'})
    assert kind(stale) == "version-mismatch"
    assert len(house.keys.secrets[wallet["id"]]) == 2


def test_a_rotation_whose_answer_was_lost_finds_the_same_key_again(house: House) -> None:
    wallet = house.get("/v1/wallets", "aozora").json()["items"][0]["id"]
    rotate = house.keys.rotate

    async def dies_after(*args: Any) -> Any:
        await rotate(*args)
        raise SignerUnavailable("the answer was lost")

    house.keys.rotate = dies_after  # type: ignore[method-assign]
    assert kind(house.post(f"/v1/wallets/{wallet}:rotate", "aozora", key="r")) == "signer-unavailable"
    house.keys.rotate = rotate  # type: ignore[method-assign]
    assert house.post(f"/v1/wallets/{wallet}:rotate", "aozora", key="r").status_code == 200
    assert len(house.keys.secrets[wallet]) == 2


def test_a_frozen_wallet_signs_nothing_until_it_is_unfrozen_and_a_closed_one_never_again(house: House) -> None:
    path = f"/v1/wallets/{house.get('/v1/wallets', 'aozora').json()['items'][0]['id']}"
    assert house.post(f"{path}:freeze", "aozora", {"reason": "lost"}).status_code == 200
    assert kind(house.post("/v1/trades", "aozora", terms())) == "wallet-not-active"
    assert kind(house.post(f"{path}:rotate", "aozora")) == "wallet-not-active"
    assert house.post(f"{path}:unfreeze", "operator", {"reason": "found"}).status_code == 200
    assert house.post("/v1/trades", "aozora", terms()).status_code == 201
    assert house.post(f"{path}:close", "aozora", {"reason": "left"}).status_code == 200
    assert kind(house.post("/v1/trades", "aozora", terms())) == "wallet-not-active"
    assert kind(house.post(f"{path}:unfreeze", "aozora", {"reason": "x"})) == "wrong-state"
    assert house.get(path, "aozora").json()["state"] == "closed"


def test_a_token_without_a_company_is_not_taken_for_the_operator(house: House) -> None:
    house.tokens["nobody"] = house.token("n", "trade:write trade:read wallet:write")
    wallet = house.get("/v1/wallets", "aozora").json()["items"][0]["id"]
    head = house.head()
    assert kind(house.post(f"/v1/wallets/{wallet}:freeze", "nobody", {"reason": "x"})) == "missing-company"
    assert kind(house.post(f"/v1/wallets/{wallet}:rotate", "nobody")) == "missing-company"
    assert kind(house.post("/v1/users", "nobody", {"user": "u", "company": "aozora"})) == "missing-company"
    line = {"command": "FreezeWallet", "wallet": wallet, "reason": "x"}
    assert kind(house.bulk("nobody", [line])) == "missing-company"
    mine = house.get("/v1/users/user%20of%20aozora/wallet?company=aozora", "nobody")
    for response in (mine, house.get("/v1/wallets?company=aozora", "nobody"), house.get("/v1/entries/1", "nobody")):
        assert kind(response) == "missing-company"
    asked = {"command": "OpenWallet", "user": "u", "company": "aozora", "address": OwnWallet().address}
    assert kind(house.post("/v1/typed-data", "nobody", asked)) == "missing-company"
    house.tokens["auditing"] = house.token("n", "wallet:write audit:read trade:read")
    assert kind(house.post(f"/v1/wallets/{wallet}:freeze", "auditing", {"reason": "x"})) == "missing-company"
    response = house.bulk("auditing", [line])
    assert kind(response) == "missing-company"
    assert house.head() == head


class TestOwnCustody:
    @pytest.fixture
    def wallet(self, house: House) -> OwnWallet:
        house.tokens["own"] = house.token("own", SCOPES, "aozora")
        return house.own_wallet("aozora", "own")

    def test_every_trade_command_can_be_signed_from_its_typed_data(self, house: House, wallet: OwnWallet) -> None:
        asked: dict[str, Any] = {
            "command": "RecordTrade",
            **terms(lines=[{"item": "茶", "quantity": "1", "unit_price": "2"}]),
        }
        answer = house.post("/v1/typed-data", "own", asked).json()
        body = {name: value for name, value in asked.items() if name != "command"}
        body |= {"trade": answer["trade"], "signature": wallet.sign(answer)}
        response = house.post("/v1/trades", "own", body)
        assert response.status_code == 201, response.text
        assert response.json()["id"] == answer["trade"]
        house.post(f"/v1/trades/{answer['trade']}:confirm", "kaede")
        money = {"currency": "JPY", "units": "1"}
        for verb, command in (
            ("note", {"command": "AddNote", "note": "x", "attachments": [{"name": "a", "sha256": "ab" * 32}]}),
            ("dispute", {"command": "DisputeTrade", "reason": "x"}),
            ("withdraw-dispute", {"command": "WithdrawDispute", "reason": "x"}),
            ("propose-reversal", {"command": "ProposeReversal", "reason": "x"}),
            ("settle", {"command": "SettleTrade", "amount": money, "settled_on": "2026-12-01"}),
        ):
            asked = {**command, "trade": answer["trade"]}
            typed = house.post("/v1/typed-data", "own", asked).json()
            fields = {k: v for k, v in command.items() if k != "command"} | {"signature": wallet.sign(typed)}
            done = house.post(f"/v1/trades/{answer['trade']}:{verb}", "own", fields)
            assert done.status_code == 200, (verb, done.text)
        assert house.post(
            "/v1/typed-data", "kaede", {"command": "ReverseTrade", "trade": answer["trade"], "reason": "x"}
        )

    def test_confirming_needs_no_more_than_the_trades_own_typed_data(self, house: House, wallet: OwnWallet) -> None:
        trade = house.record("kaede", seller="kaede", buyer="aozora")["id"]
        answer = house.get(f"/v1/trades/{trade}/typed-data?valid_seconds=600", "own").json()
        assert answer["typed_data"]["primaryType"] == "ConfirmTrade"
        signature = wallet.sign(answer)
        assert house.post(f"/v1/trades/{trade}:confirm", "own", {"signature": signature}).status_code == 200
        reversal = house.get(f"/v1/trades/{trade}/typed-data?command=ReverseTrade&reason=wrong", "own").json()
        assert reversal["typed_data"]["message"]["reason"] == "wrong"
        assert kind(house.get(f"/v1/trades/{trade}/typed-data?command=ReverseTrade", "own")) == "bad-parameter"
        assert kind(house.get(f"/v1/trades/{trade}/typed-data?reason=x", "own")) == "bad-parameter"
        house.admit("midori")
        assert kind(house.get(f"/v1/trades/{trade}/typed-data", "midori")) == "trade-not-found"

    def test_possession_of_the_key_is_proven_when_the_wallet_is_opened(self, house: House) -> None:
        mine, other = OwnWallet(), OwnWallet()
        asked = {"command": "OpenWallet", "user": "u", "address": mine.address}
        answer = house.post("/v1/typed-data", "aozora", asked).json()
        body = {"user": "u", "custody": "own", "address": mine.address}
        head = house.head()
        assert kind(house.post("/v1/users", "aozora", {**body, "proof": other.sign(answer)})) == "wrong-signer"
        assert (
            kind(house.post("/v1/users", "aozora", {**body, "user": "v", "proof": mine.sign(answer)})) == "wrong-signer"
        )
        assert house.head() == head
        assert house.post("/v1/users", "aozora", {**body, "proof": mine.sign(answer)}).status_code == 201
        again = house.post("/v1/users", "aozora", {**body, "proof": mine.sign(answer)})
        assert again.headers["idempotency-hit"] == "true"
        assert kind(house.post("/v1/users", "aozora", {"user": "u"})) == "already-exists"
        answer = house.post("/v1/typed-data", "aozora", {**asked, "address": other.address}).json()
        second = {"user": "u", "custody": "own", "address": other.address, "proof": other.sign(answer)}
        assert kind(house.post("/v1/users", "aozora", second)) == "already-exists"

    def test_a_rotation_is_signed_by_the_old_and_the_new_key(self, house: House, wallet: OwnWallet) -> None:
        mine = house.get("/v1/users/own/wallet", "aozora").json()["id"]
        fresh, path = OwnWallet(), f"/v1/wallets/{mine}:rotate"
        answer = house.post(
            "/v1/typed-data", "own", {"command": "RotateKey", "wallet": mine, "new": fresh.address}
        ).json()
        both = {"new": fresh.address, "signature": wallet.sign(answer), "new_signature": fresh.sign(answer)}
        swapped = {**both, "signature": fresh.sign(answer), "new_signature": wallet.sign(answer)}
        assert kind(house.post(path, "own", swapped)) == "wrong-signer"
        assert kind(house.post(path, "own")) == "signature-missing"
        assert kind(house.post(path, "own", {"new": fresh.address})) == "malformed"
        assert house.post(path, "own", both).status_code == 200
        trade = house.record("kaede", seller="kaede", buyer="aozora")["id"]
        typed = house.get(f"/v1/trades/{trade}/typed-data", "own").json()
        stale = house.post(f"/v1/trades/{trade}:confirm", "own", {"signature": wallet.sign(typed)})
        assert kind(stale) == "wrong-signer"
        fine = house.post(f"/v1/trades/{trade}:confirm", "own", {"signature": fresh.sign(typed)})
        assert fine.status_code == 200

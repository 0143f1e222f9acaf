"""Bad input: each case is a problem of its own type that names field and rule, writes nothing, and is never a 500."""

import base64
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import jwt
import pytest

from tests.api_support import AUDIENCE, ISSUER, House, terms

MISSING = "01938a5e-7c00-7aaa-aaaa-0123456789ab"
JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    made = House(tmp_path_factory.mktemp("api"), max_rpc_bytes=2000)
    made.admit("aozora", "kaede", "midori")
    yield made
    made.close()


def refused(house: House, response: Any, name: str, status: int) -> dict[str, Any]:
    """The problem, of that type and status, complete and well formed."""
    assert response.status_code == status, response.text[:500]
    assert response.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = response.json()
    assert body["type"] == f"urn:daicho:problem:{name}"
    assert body["status"] == status
    assert body["title"]
    assert body["detail"]
    assert len(response.content) < 4000
    return body


# -- bodies ------------------------------------------------------------------------------------------------------------


def changed(**changes: Any) -> bytes:
    return json.dumps({**terms(), **changes}, ensure_ascii=False).encode("utf-8", "surrogatepass")


def spliced(old: bytes, new: bytes) -> bytes:
    raw = json.dumps(terms(description="DESCRIPTION")).encode()
    assert old in raw
    return raw.replace(old, new)


def money(units: Any, currency: str = "JPY") -> dict[str, Any]:
    return {"amount": {"currency": currency, "units": units}}


BODIES: dict[str, tuple[Callable[[], bytes], str]] = {
    "an unknown field": (lambda: changed(colour="red"), "colour"),
    "an unknown field inside": (lambda: changed(amount={"currency": "JPY", "units": "1", "x": 1}), "amount.x"),
    "a missing field": (lambda: json.dumps({k: v for k, v in terms().items() if k != "buyer"}).encode(), "buyer"),
    "a float amount": (lambda: changed(**money(12.5)), "amount.units"),
    "an amount that is a number": (lambda: changed(**money(12)), "amount.units"),
    "an amount that is NaN": (lambda: changed(**money(float("nan"))), "$"),
    "an amount that is infinite": (lambda: changed(**money(float("inf"))), "$"),
    "a negative amount": (lambda: changed(**money("-1")), "amount.units"),
    "an amount that overflows": (lambda: changed(**money("9" * 19)), "amount.units"),
    "an amount in exponents": (lambda: changed(**money("1e5")), "amount.units"),
    "an amount in other digits": (lambda: changed(**money("١٢")), "amount.units"),
    "an amount with a line end": (lambda: changed(**money("12\n")), "amount.units"),
    "wrong minor units": (lambda: changed(**money("12.50", "EUR")), "amount.units"),
    "no amount at all": (lambda: changed(**money("0")), "amount.units"),
    "an unknown currency": (lambda: changed(**money("1", "XXX")), "amount.currency"),
    "a currency in small letters": (lambda: changed(**money("1", "jpy")), "amount.currency"),
    "a date that does not exist": (lambda: changed(traded_on="2026-02-30"), "traded_on"),
    "a date out of range": (lambda: changed(traded_on="1066-10-14"), "traded_on"),
    "a date in the far future": (lambda: changed(due_on="9999-12-31"), "due_on"),
    "due before it was traded": (lambda: changed(due_on="2026-11-19"), "due_on"),
    "a time in place of a date": (lambda: changed(traded_on="2026-11-20T10:00:00Z"), "traded_on"),
    "a description of 65 KiB": (lambda: changed(description="x" * 66_560), "description"),
    "a control character": (lambda: changed(reference="a\u0007"), "reference"),
    "a reference with the separator": (lambda: changed(reference="a|b"), "reference"),
    "a trade with itself": (lambda: changed(buyer="aozora"), "buyer"),
    "too many lines": (
        lambda: changed(lines=[{"item": "x", "quantity": "1", "unit_price": "1"}] * 201), "lines",
    ),
    "a trade id of another version": (lambda: changed(trade="01938a5e-7c00-4aaa-aaaa-0123456789ab"), "trade"),
    "invalid UTF-8": (lambda: spliced(b"DESCRIPTION", b"\xff\xfe"), "$"),
    "overlong UTF-8": (lambda: spliced(b"DESCRIPTION", b"\xc0\xaf"), "$"),
    "a lone surrogate": (lambda: spliced(b"DESCRIPTION", b"\\ud800"), "$"),
    "a lone surrogate in bytes": (lambda: changed(description="\ud800"), "$"),
    "a key given twice": (lambda: spliced(b'"buyer"', b'"buyer":"midori","buyer"'), "buyer"),
    "a key given twice, once escaped": (lambda: spliced(b'"buyer"', b'"b\\u0075yer":"midori","buyer"'), "buyer"),
    "a key given twice inside": (lambda: spliced(b'"units"', b'"units":"9","units"'), "units"),
    "deep nesting": (lambda: b'{"lines":' + b"[" * 300_000 + b"]" * 300_000 + b"}", "lines[0]"),
    "deep nesting behind an unknown name": (lambda: b'{"x":' * 100_000, "x"),
    "an array": (lambda: b"[]", "$"),
    "nothing": (lambda: b"", "$"),
    "half of it": (lambda: changed()[:-5], "$"),
    "two of it": (lambda: changed() * 2, "$"),
    "a byte order mark": (lambda: b"\xef\xbb\xbf" + changed(), "$"),
    "another JSON": (lambda: b"{'seller': 'aozora'}", "$"),
}  # fmt: skip


@pytest.mark.parametrize("case", BODIES, ids=str)
def test_a_body_that_is_not_well_formed_names_field_and_rule(house: House, case: str) -> None:
    make, field = BODIES[case]
    head = house.head()
    for path in ("/v1/trades", "/v1/trades?dry_run=true"):
        response = house.request("POST", path, "aozora", content=make(), headers=JSON)
        values = refused(house, response, "malformed", 422)["values"]
        assert values["field"] == field
        assert values["rule"]
    assert house.head() == head


BY_RULES = {"no amount at all", "a trade with itself"}  # read well, refused when decided: tested as a bulk's refusal


@pytest.mark.parametrize("case", [case for case in BODIES if case not in {*BY_RULES, "nothing"}])
def test_the_same_body_is_refused_as_a_line_of_a_bulk_and_takes_no_other_line_with_it(house: House, case: str) -> None:
    line = BODIES[case][0]().replace(b"{", b'{"command":"RecordTrade",', 1)
    head = house.head()
    response = house.bulk("aozora", [{"command": "RecordTrade", **terms()}, line], mode="continue")
    first, second, end = [json.loads(part) for part in response.text.splitlines()]
    assert response.status_code == 200
    assert (first["status"], second["status"]) == (200, 422)
    assert second["problem"]["type"] == "urn:daicho:problem:malformed"
    assert (end["done"], end["refused"], house.head()) == (1, 1, head + 1)
    response = house.bulk("aozora", [{"command": "RecordTrade", **terms()}, line])
    assert response.status_code == 422
    assert json.loads(response.text.splitlines()[0])["problem"]["type"] == "urn:daicho:problem:bulk-rejected"
    assert house.head() == head + 1


def test_a_body_of_ten_megabytes_is_refused_before_it_is_read(house: House) -> None:
    head = house.head()
    large = changed(description="x" * 10_000_000)
    for path, who in (("/v1/trades", "aozora"), ("/v1/users", "aozora"), ("/v1/companies", "operator")):
        response = house.request("POST", path, who, content=large, headers=JSON)
        body = refused(house, response, "body-too-large", 413)
        assert body["values"]["limit_bytes"] == 1024 * 1024
    response = house.bulk("aozora", [b"x" * 17_000_000])
    assert refused(house, response, "body-too-large", 413)["values"]["limit_bytes"] == 16 * 1024 * 1024
    response = house.bulk("aozora", [b"{}"] * 10_001)
    assert refused(house, response, "body-too-large", 413)["values"]["limit_lines"] == 10_000
    response = house.request("POST", "/chain/rpc", content=b"x" * 3000, headers=JSON)
    refused(house, response, "body-too-large", 413)
    assert house.head() == head


def test_an_entry_that_would_not_fit_the_log_is_refused(house: House) -> None:
    head = house.head()
    lines = [{"item": "茶" * 200, "quantity": "1", "unit_price": "1"}] * 150
    refused(house, house.post("/v1/trades", "aozora", terms(lines=lines)), "entry-too-large", 422)
    assert house.head() == head


@pytest.mark.parametrize(
    "media", [None, "text/plain", "application/x-www-form-urlencoded", "application/json; charset=shift_jis", "x", ""]
)
def test_another_media_type_is_refused(house: House, media: str | None) -> None:
    headers = {"content-type": media} if media is not None else {}
    for path in ("/v1/trades", "/v1/commands", "/chain/rpc", "/v1/users"):
        response = house.request("POST", path, "aozora", content=changed(), headers=headers)
        assert refused(house, response, "unsupported-media-type", 415)["values"]["field"] == "Content-Type"


def test_json_may_say_that_it_is_utf_8(house: House) -> None:
    headers = {"content-type": 'Application/JSON; charset="UTF-8"'}
    assert house.request("POST", "/v1/trades", "aozora", content=changed(), headers=headers).status_code == 201


# -- tokens ------------------------------------------------------------------------------------------------------------


def _unsigned(house: House) -> str:
    def part(value: Any) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "u", "exp": int(time.time()) + 60, "scope": "operator"}
    return f"{part({'alg': 'none'})}.{part(claims)}."


TOKENS: dict[str, Callable[[House], str | None]] = {
    "no token": lambda _: None,
    "an expired one": lambda house: house.token("u", "trade:write", "aozora", exp=int(time.time()) - 60),
    "an unsigned one": _unsigned,
    "one of another issuer": lambda house: house.token("u", "trade:write", "aozora", iss="https://other.invalid"),
    "one for another service": lambda house: house.token("u", "trade:write", "aozora", aud="other"),
    "one under an HMAC": lambda _: jwt.encode({"sub": "u", "exp": time.time() + 60}, "k" * 40, "HS256"),
    "no JWT at all": lambda _: "abc",
}


@pytest.mark.parametrize("case", TOKENS, ids=str)
def test_a_token_that_does_not_hold_is_401(house: House, case: str) -> None:
    head = house.head()
    token = TOKENS[case](house)
    headers = {"authorization": f"Bearer {token}"} if token is not None else {}
    for method, path in (("POST", "/v1/trades"), ("GET", "/v1/trades"), ("POST", "/v1/commands")):
        response = house.request(method, path, headers={**JSON, **headers}, content=changed())
        body = refused(house, response, "unauthenticated", 401)
        assert response.headers["www-authenticate"].startswith('Bearer realm="daicho"')
        assert not token or token not in json.dumps(body)
    assert house.head() == head


def test_two_tokens_in_one_request_are_refused(house: House) -> None:
    token = house.as_("aozora")
    headers = [("authorization", f"Bearer {token}"), ("authorization", "Bearer x")]
    response = house.run(house.client.get("/v1/trades", headers=headers))
    assert refused(house, response, "bad-parameter", 400)["values"]["field"] == "authorization"


# -- paths, queries, headers -------------------------------------------------------------------------------------------

READS: dict[str, tuple[str, str, str, int]] = {
    "an unknown position": ("/v1/entries/1000000", "aozora", "entry-not-found", 404),
    "the position 2^63": ("/v1/entries/9223372036854775808", "auditor", "bad-parameter", 400),
    "the position 2^63 - 1": ("/v1/entries/9223372036854775807", "auditor", "entry-not-found", 404),
    "the position 2^63 - 1 for a company": ("/v1/entries/9223372036854775807", "aozora", "entry-not-found", 404),
    "a negative position": ("/v1/entries/-1", "auditor", "bad-parameter", 400),
    "position 0": ("/v1/entries/0", "auditor", "bad-parameter", 400),
    "a position in words": ("/v1/entries/one", "auditor", "bad-parameter", 400),
    "a proof of an unknown position": ("/v1/entries/1000000/proof", "auditor", "entry-not-found", 404),
    "evidence of an unknown position": ("/v1/entries/1000000/evidence", "auditor", "entry-not-found", 404),
    "as of a position to come": (f"/v1/trades/{MISSING}?as_of=1000000", "aozora", "bad-parameter", 400),
    "as of position 2^63": ("/v1/balances?as_of=9223372036854775808", "aozora", "bad-parameter", 400),
    "as of no time": ("/v1/balances?as_of=noon", "aozora", "bad-parameter", 400),
    "a position not reached yet": ("/v1/trades?min_position=1000000", "aozora", "not-yet-visible", 503),
    "a bad cursor": ("/v1/trades?cursor=abc", "aozora", "bad-cursor", 400),
    "a cursor of nothing": ("/v1/companies?cursor=" + "A" * 32, "aozora", "bad-cursor", 400),
    "an empty cursor": ("/v1/anchors?cursor=", "aozora", "bad-parameter", 400),
    "an unknown trade": (f"/v1/trades/{MISSING}", "aozora", "trade-not-found", 404),
    "a trade that is no UUID": ("/v1/trades/abc", "aozora", "bad-parameter", 400),
    "an unknown trade's history": (f"/v1/trades/{MISSING}/history", "aozora", "trade-not-found", 404),
    "an unknown company": ("/v1/companies/nobody", "aozora", "company-not-found", 404),
    "a company with a strange code": ("/v1/companies/No%20Body", "aozora", "bad-parameter", 400),
    "an unknown wallet": (f"/v1/wallets/{MISSING}", "aozora", "wallet-not-found", 404),
    "an unknown user": ("/v1/users/nobody/wallet", "aozora", "wallet-not-found", 404),
    "an unknown anchor": (f"/v1/anchors/{MISSING}", "aozora", "anchor-not-found", 404),
    "a misspelt filter": ("/v1/trades?counterpary=kaede", "aozora", "bad-parameter", 400),
    "a filter given twice": ("/v1/trades?state=recorded&state=settled", "aozora", "bad-parameter", 400),
    "a limit too large": ("/v1/trades?limit=100000", "aozora", "bad-parameter", 400),
    "another company's balances": ("/v1/balances?company=kaede", "aozora", "not-your-company", 403),
    "nobody's balances": ("/v1/balances", "operator", "bad-parameter", 400),
    "a path that is nowhere": ("/v2/trades", "aozora", "no-such-resource", 404),
    "a path with a slash behind": ("/v1/trades/", "aozora", "no-such-resource", 404),
    "a path out of the house": ("/log/tile/../../etc/passwd", "aozora", "no-such-resource", 404),
    "a tile that is not there": ("/log/tile/0/999", "aozora", "log-not-found", 404),
    "a tile misspelt": ("/log/tile/0/1", "aozora", "bad-parameter", 400),
    "a tile of 2^63": ("/log/tile/0/x009/x223/x372/x036/x854/x775/808", "aozora", "bad-parameter", 400),
    "a bundle without the scope": ("/log/tile/entries/000", "aozora", "missing-scope", 403),
    "a proof for a size to come": ("/v1/entries/1/proof?size=1000000", "auditor", "bad-parameter", 400),
}


@pytest.mark.parametrize("case", READS, ids=str)
def test_a_question_that_cannot_be_answered_is_a_problem(house: House, case: str) -> None:
    house.publish()
    path, who, name, status = READS[case]
    response = house.get(path, who)
    body = refused(house, response, name, status)
    if name in {"bad-parameter", "bad-cursor"}:
        assert body["values"]["field"]
        assert body["values"]["rule"]
    if status == 503:
        assert int(response.headers["retry-after"]) > 0


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "TRACE"])
def test_a_method_that_is_not_done_names_those_that_are(house: House, method: str) -> None:
    response = house.request(method, "/v1/trades", "aozora")
    refused(house, response, "method-not-allowed", 405)
    assert response.headers["allow"] == "GET, HEAD, OPTIONS, POST"
    response = house.get(f"/v1/trades/{MISSING}:confirm", "aozora")
    assert response.headers["allow"] == "OPTIONS, POST"


@pytest.mark.parametrize("key", [None, " ", "a b", "x" * 256, "schlüssel"])
def test_a_command_without_a_usable_key_is_refused(house: House, key: str | None) -> None:
    headers = {**JSON, **({"idempotency-key": key.encode()} if key is not None else {})}
    response = house.request("POST", "/v1/trades", "aozora", key=None, content=changed(), headers=headers)
    assert refused(house, response, "bad-parameter", 400)["values"]["field"] == "Idempotency-Key"


# -- what the ledger's rules refuse ------------------------------------------------------------------------------------


def test_a_company_does_nothing_for_another(house: House) -> None:
    head = house.head()
    foreign = house.post("/v1/trades", "midori", terms())
    refused(house, foreign, "not-your-company", 403)
    unknown = house.post("/v1/trades", "aozora", terms(buyer="nobody"))
    refused(house, unknown, "company-not-found", 404)
    hook = house.post("/v1/users", "midori", {"user": "u", "company": "aozora"})
    refused(house, hook, "not-your-company", 403)
    assert house.head() == head


def test_a_debtor_does_not_settle_alone_and_one_side_does_not_reverse_a_confirmed_trade(house: House) -> None:
    trade = house.record()["id"]
    path = f"/v1/trades/{trade}"
    refused(house, house.post(f"{path}:confirm", "aozora"), "other-side-needed", 403)
    assert house.post(f"{path}:confirm", "kaede").status_code == 200
    head = house.head()
    settlement = {"amount": {"currency": "JPY", "units": "1"}, "settled_on": "2026-12-01"}
    refused(house, house.post(f"{path}:settle", "kaede", settlement), "creditor-needed", 403)
    refused(house, house.post(f"{path}:reverse", "aozora", {"reason": "x"}), "both-sides-needed", 403)
    refused(house, house.post(f"{path}:confirm", "kaede"), "wrong-state", 409)
    more = {"amount": {"currency": "JPY", "units": "120001"}, "settled_on": "2026-12-01"}
    refused(house, house.post(f"{path}:settle", "aozora", more), "amount-exceeds-open", 409)
    euros = {"amount": {"currency": "EUR", "units": "1"}, "settled_on": "2026-12-01"}
    refused(house, house.post(f"{path}:settle", "aozora", euros), "currency-mismatch", 409)
    refused(house, house.post(f"{path}:note", "aozora", {"note": "x", "digest": "00" * 32}), "digest-mismatch", 409)
    assert house.head() == head


def test_a_reference_is_used_once(house: House) -> None:
    wanted = terms()
    assert house.post("/v1/trades", "aozora", wanted).status_code == 201
    refused(house, house.post("/v1/trades", "aozora", wanted), "reference-taken", 409)


def test_a_signature_counts_once_here_and_for_nothing_else(house: House) -> None:
    wallet = house.own_wallet("aozora", "second")
    house.tokens["second"] = house.token("second", "trade:write trade:read wallet:write", "aozora")
    note: dict[str, Any] = {"command": "AddNote", "trade": house.record()["id"], "note": "signed by hand"}
    asked = house.post("/v1/typed-data", "second", note).json()
    body = {"note": "signed by hand"}
    path, head = f"/v1/trades/{note['trade']}:note", house.head()

    def sent(signature: dict[str, Any] | None, **changes: Any) -> Any:
        signed = {"signature": signature} if signature is not None else {}
        return house.post(path, "second", {**body, **signed, **changes})

    refused(house, sent(None), "signature-missing", 403)
    refused(house, sent(wallet.sign(asked, chainId=1)), "wrong-signer", 403)
    refused(house, sent(wallet.sign(asked, verifyingContract="0x" + "11" * 20)), "wrong-signer", 403)
    book = json.loads(json.dumps(asked))
    book["typed_data"]["message"]["book"] = "daicho.invalid/another"
    refused(house, sent(wallet.sign(book)), "wrong-signer", 403)
    good = wallet.sign(asked)
    refused(house, sent(good, note="another note"), "wrong-signer", 403)
    refused(house, sent({**good, "deadline": int(time.time()) - 5}), "signature-expired", 403)
    refused(house, sent({**good, "nonce": "0x" + "00" * 32}), "wrong-signer", 403)
    high_s = good["value"][:66] + "f" * 64 + good["value"][130:]
    refused(house, sent({**good, "value": high_s}), "signature-invalid", 403)
    refused(house, sent({**good, "value": good["value"][:-2] + "00"}), "signature-invalid", 403)
    refused(house, sent({**good, "value": "0x12"}), "malformed", 422)
    assert house.head() == head
    assert sent(good).status_code == 200
    refused(house, sent(good), "signature-replayed", 409)
    assert house.head() == head + 1

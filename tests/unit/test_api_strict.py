"""Strict JSON: what is refused names its field and rule; a key given twice is always found, however it is spelt."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api import strict
from api.strict import CommandBody, Strict
from domain import commands as c
from domain.errors import Malformed

BODY: dict[str, Any] = {
    "seller": "aozora", "buyer": "kaede", "amount": {"currency": "JPY", "units": "12"}, "traded_on": "2026-01-02",
    "due_on": "2026-01-03", "reference": "r1",
}  # fmt: skip
RECORD = CommandBody(c.RecordTrade)
LINE: Strict[c.Command] = Strict(c.union_of(c.CLIENT_COMMANDS))


def written(pairs: list[tuple[str, Any]]) -> bytes:
    """An object with its keys as given, also twice."""
    return ("{" + ",".join(f"{json.dumps(key)}:{json.dumps(value)}" for key, value in pairs) + "}").encode()


def refused(raw: bytes, decoder: Any = RECORD) -> dict[str, Any]:
    with pytest.raises(Malformed) as caught:
        decoder.decode(raw)
    assert set(caught.value.values) >= {"field", "rule"}
    return caught.value.values


@pytest.mark.parametrize("decoder", [RECORD, LINE])
@pytest.mark.parametrize("name", [*BODY, "description", "lines", "wallet"])
def test_a_key_given_twice_is_refused_by_name(name: str, decoder: Any) -> None:
    values = {**BODY, "description": "x", "lines": [], "wallet": None}
    pairs = [*values.items(), (name, values[name])]
    if decoder is LINE:
        pairs.insert(0, ("command", "RecordTrade"))
    assert refused(written(pairs), decoder) == {"field": name, "rule": "given once"}


def test_a_key_given_twice_inside_an_inner_object_is_refused() -> None:
    raw = written(list(BODY.items())).replace(b'"units": "12"', b'"units":"12","units":"13"')
    assert refused(raw)["field"] == "units"


def test_a_key_given_twice_is_found_behind_an_escape() -> None:
    raw = written(list(BODY.items()))[:-1] + b',"re\\u0066erence":"r2"}'
    assert refused(raw) == {"field": "reference", "rule": "given once"}


def test_a_line_names_its_command_once() -> None:
    pairs = [("command", "RecordTrade"), *BODY.items(), ("command", "RecordTrade")]
    assert refused(written(pairs), LINE)["field"] == "command"


def test_an_ordinary_body_never_takes_the_slow_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strict, "refuse_duplicates", lambda _: pytest.fail("parsed twice"))
    text = 'quotes " and \\ and 茶'
    lines = [{"item": 'a "b"', "quantity": "1.5", "unit_price": "3"}]
    assert RECORD.decode(json.dumps({**BODY, "description": "plain"}).encode()).description == "plain"
    body = json.dumps({**BODY, "description": text, "lines": lines}, ensure_ascii=False).encode()
    assert RECORD.decode(body).description == text
    assert LINE.decode(b'{"command":"RecordTrade",' + body[1:]) == RECORD.decode(body)


_scalar = st.one_of(st.none(), st.text(max_size=6), st.sampled_from(["", '"', '""', "\\", "茶"]))
_fields = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["description", "reference"]), st.text(max_size=8)),
        st.tuples(st.just("lines"), st.sampled_from([[], [{"item": 'x"y', "quantity": "1", "unit_price": "2"}]])),
        st.tuples(st.sampled_from(["wallet", "trade", "signature"]), st.none()),
        st.tuples(st.just("seller"), st.just("aozora")),
    ),
    max_size=6,
)


@settings(max_examples=300, deadline=None)
@given(extra=_fields, ascii_only=st.booleans(), tagged=st.booleans())
def test_duplicate_keys_are_refused_exactly_when_there_are_some(
    extra: list[tuple[str, Any]], ascii_only: bool, tagged: bool
) -> None:
    pairs = [*BODY.items(), *extra]
    if tagged:
        pairs.insert(0, ("command", "RecordTrade"))
    decoder: Any = LINE if tagged else RECORD
    items = (f"{json.dumps(key)}:{json.dumps(value, ensure_ascii=ascii_only)}" for key, value in pairs)
    raw = ("{" + ",".join(items) + "}").encode()
    twice = len({key for key, _ in pairs}) < len(pairs)
    rule = ""
    try:
        decoder.decode(raw)
    except Malformed as refusal:
        rule = refusal.values["rule"]
    assert bool(rule) or not twice
    assert twice or rule != "given once"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"amount": {"currency": "JPY", "units": 12.5}}, "amount.units"),
        ({"amount": {"currency": "JPY", "units": 12}}, "amount.units"),
        ({"amount": {"currency": "JPY", "units": "-12"}}, "amount.units"),
        ({"amount": {"currency": "JPY", "units": "1" * 19}}, "amount.units"),
        ({"amount": {"currency": "XXX", "units": "12"}}, "amount.currency"),
        ({"amount": {"currency": "JPY", "units": "12", "exponent": 2}}, "amount.exponent"),
        ({"amount": {"units": "12"}}, "amount.currency"),
        ({"traded_on": "2026-02-30"}, "traded_on"),
        ({"traded_on": "1600-01-01"}, "traded_on"),
        ({"due_on": "2025-12-31"}, "due_on"),
        ({"trade": "01938a5e-7c00-4aaa-aaaa-0123456789ab"}, "trade"),
        ({"lines": [{"item": "x", "quantity": "1"}]}, "lines[0].unit_price"),
        ({"lines": [{"item": "x", "quantity": "1e3", "unit_price": "1"}]}, "lines[0].quantity"),
        ({"seler": "aozora"}, "seler"),
        ({"command": "RecordTrade"}, "command"),
    ],
)
def test_a_refusal_names_the_field(change: dict[str, Any], field: str) -> None:
    assert refused(json.dumps({**BODY, **change}).encode())["field"] == field


@pytest.mark.parametrize(
    "raw",
    [b"", b"{", b"null", b"[]", b"\xff\xfe", b'{"seller":NaN}', b"{'seller':1}", b"[" * 100_000,
     b'{"seller":' + b"[" * 100_000, b'{"reference":"\\ud800"}', b'{"reference":"\xed\xa0\x80"}', b"\xef\xbb\xbf{}",
     b'{"lines":' + b'[{"item":' * 50_000],
)  # fmt: skip
def test_what_is_no_json_object_is_malformed_and_nothing_else(raw: bytes) -> None:
    refused(raw)


def test_a_refusal_never_repeats_a_flood() -> None:
    values = refused(json.dumps({**BODY, "x" * 1_000_000: 1}).encode())
    assert len(values["field"]) < 300
    assert len(values["rule"]) < 300

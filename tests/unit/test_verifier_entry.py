"""Entry bytes: every field of the envelope and of each type's data is held to its form."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import rfc8785

from daicho_verify.entry import micros, parse_entry
from daicho_verify.errors import DisagreesError
from tests.vectors.verifier import story
from tests.vectors.verifier.book import ORIGIN

BOOK = story.story()


def parse(position: int, change: Callable[[Any], Any]) -> None:
    value = json.loads(BOOK.raw[position - 1])
    change(value)
    parse_entry(rfc8785.dumps(value), position, ORIGIN)


def put(path: str, value: Any) -> Callable[[Any], None]:
    def change(entry: Any) -> None:
        *parents, last = [int(part) if part.isdigit() else part for part in path.split(".")]
        for part in parents:
            entry = entry[part]
        entry[last] = value

    return change


def test_every_entry_of_the_story_is_accepted_unchanged() -> None:
    for position, raw in enumerate(BOOK.raw, 1):
        entry = parse_entry(raw, position, ORIGIN)
        assert (entry.known, entry.raw, entry.position) == (True, raw, position)


@pytest.mark.parametrize(
    ("path", "value", "rule"),
    [
        ("actor", {}, "entry.actor: lacks the field 'company'"),
        ("actor.company", None, "entry.actor.company: must be a string"),
        ("command.key", "AB" * 32, "entry.command.key: must be 64 lower-case"),
        ("id", "x", "entry.id: must be a lower-case UUID"),
        ("aggregate_id", "x", "entry.aggregate_id: must be a lower-case UUID"),
        ("salt", "00", "entry.salt: must be 32 lower-case"),
        ("recorded_at", "2026-11-22T05:02:32Z", "entry.recorded_at: must be a UTC time with six decimals"),
        ("recorded_at", "2026-02-30T05:02:32.000000Z", "entry.recorded_at: must be a time that exists"),
        ("recorded_at", "٢٠٢٦-11-22T05:02:32.123456Z", "entry.recorded_at: must be a UTC time"),
        ("v", 0, "entry.v: must be between 1"),
        ("version", 0, "entry.version: must be between 1"),
        ("position", 0, "entry.position: must be between 1"),
        ("position", True, "entry.position: must be an integer"),
        ("aggregate", "Wallet", "entry.aggregate: must be Trade for a TradeConfirmed"),
        ("data", [], "entry.data: must be an object"),
        ("data.digest", "00", "entry.data.digest: must be 64 lower-case"),
        ("data.extra", "x", "entry.data: has the unknown field 'extra'"),
        ("data.signature", 5, "entry.data.signature: must be an object"),
        ("data.signature.address", "0x00", "entry.data.signature.address: must be 0x and 40"),
        ("data.signature.deadline", -1, "entry.data.signature.deadline: must be between 0"),
        ("data.signature.nonce", "0x00", "entry.data.signature.nonce: must be 0x and 64"),
        ("data.signature.value", "0x00", "entry.data.signature.value: must be 0x and 130"),
        ("data.signature.wallet", "x", "entry.data.signature.wallet: must be a lower-case UUID"),
        ("data.signature", {"batch": "x", "index": 0, "wallet": "x"}, "entry.data.signature.batch: must be a lower"),
    ],
)
def test_an_envelope_of_another_form_is_refused(path: str, value: Any, rule: str) -> None:
    with pytest.raises(DisagreesError) as refusal:
        parse(8, put(path, value))
    assert rule in str(refusal.value)


@pytest.mark.parametrize(
    ("position", "path", "value", "rule"),
    [
        (1, "data.contract", "0x", "entry.data.contract: must be 0x and 40"),
        (1, "data.previous", 5, "entry.data.previous: must be an object"),
        (1, "data.previous", {"origin": "a", "size": -1, "root": ""}, "entry.data.previous.size: must be between 0"),
        (4, "data.custody", "shared", "entry.data.custody: must be custodial or own"),
        (4, "data.signature", {"batch": "x"}, "entry.data.signature: lacks the field"),
        (7, "data.amount", "5", "entry.data.amount: must be an object"),
        (7, "data.amount.currency", "yen", "entry.data.amount.currency: must be three capital letters"),
        (7, "data.amount.units", "007", "entry.data.amount.units: must be a decimal integer"),
        (7, "data.amount.units", "-7", "entry.data.amount.units: must be a decimal integer"),
        (7, "data.lines", {}, "entry.data.lines: must be a list"),
        (7, "data.lines.0", "tea", "entry.data.lines[0]: must be an object"),
        (7, "data.lines.0.unit_price", 5, "entry.data.lines[0].unit_price: must be a string"),
        (10, "data.attachments.0.sha256", "x", "entry.data.attachments[0].sha256: must be 64 lower-case"),
        (11, "data.count", "5", "entry.data.count: must be an integer"),
        (11, "data.wallet", "x", "entry.data.wallet: must be a lower-case UUID"),
        (11, "data.count", -(2**53) + 1, "entry.data.count: must be between 0"),
    ],
)
def test_data_of_another_shape_is_refused(position: int, path: str, value: Any, rule: str) -> None:
    with pytest.raises(DisagreesError) as refusal:
        parse(position, put(path, value))
    assert rule in str(refusal.value)


def test_a_book_may_name_the_head_that_it_continues() -> None:
    parse(1, put("data.previous", {"origin": "daicho.invalid/old", "size": 5, "root": "abc"}))


def test_what_is_no_object_is_no_entry() -> None:
    with pytest.raises(DisagreesError, match="entry: must be an object"):
        parse_entry(b"[]", 1, ORIGIN)


def test_keys_beyond_ascii_are_refused_for_their_order_is_ambiguous() -> None:
    with pytest.raises(DisagreesError, match="canonical form"):
        parse(8, unknown_with({"鍵": [{"inner": 1}]}))


def unknown_with(data: Any) -> Callable[[Any], None]:
    def change(entry: Any) -> None:
        entry["type"], entry["data"] = "TradeInsured", data

    return change


def test_an_integer_in_data_of_the_future_stays_below_2_to_53() -> None:
    parse(8, unknown_with({"list": [{"n": 2**53 - 1}, -(2**53) + 1, True]}))
    raw = rfc8785.dumps(BOOK.entries[7]).replace(b'"type":"TradeConfirmed"', b'"type":"TradeInsured"')
    with pytest.raises(DisagreesError, match=r"2\^53"):
        parse_entry(raw.replace(b'"v":1', b'"v":-9007199254740992'), 8, ORIGIN)


def test_microseconds_are_counted_without_rounding() -> None:
    assert micros("2026-11-22T05:02:32.123457Z") == 1_795_323_752_123_457
    assert micros("1969-12-31T23:59:59.999999Z") == -1

"""Commands as they come in: what is not well formed is refused with the field's name, before anything else happens."""

import contextlib
import datetime as dt
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain import commands as c
from domain.entry import canonical
from domain.money import Money
from domain.store_commands import STORE_COMMANDS

LINE = msgspec.json.Decoder(c.union_of(c.CLIENT_COMMANDS)).decode
ID = "01938a5e-7c00-7aaa-aaaa-0123456789ab"
SIGNATURE = {"deadline": 1_900_000_000, "nonce": "0x" + "5a" * 32, "value": "0x" + "ab" * 65}
RECORD: dict[str, Any] = {
    "command": "RecordTrade",
    "seller": "aozora",
    "buyer": "kita",
    "amount": {"currency": "JPY", "units": "1000"},
    "traded_on": "2026-11-20",
    "due_on": "2026-12-31",
    "reference": "R-1",
    "description": "りんご\n20 箱",
    "lines": [{"item": "りんご", "quantity": "20.5", "unit_price": "600"}],
}
SETTLE: dict[str, Any] = {
    "command": "SettleTrade",
    "trade": ID,
    "amount": {"currency": "JPY", "units": "1"},
    "settled_on": "2026-12-01",
}
NOTE: dict[str, Any] = {
    "command": "AddNote",
    "trade": ID,
    "note": "n",
    "attachments": [{"name": "a.pdf", "sha256": "00" * 32}],
}


def changed(base: dict[str, Any], path: str, value: Any) -> bytes:
    """The command with another value at a dotted path ("amount.units", "lines.0.item")."""
    copy = json.loads(json.dumps(base))
    *parents, last = path.split(".")
    inner = copy
    for step in parents:
        inner = inner[int(step)] if step.isdigit() else inner[step]
    inner[last] = value
    return json.dumps(copy).encode()


@pytest.mark.parametrize("command", [RECORD, SETTLE, NOTE])
def test_a_well_formed_command_is_read_and_has_one_body(command: dict[str, Any]) -> None:
    decoded = LINE(json.dumps(command))
    assert type(decoded).__name__ == command["command"]
    reordered = LINE(json.dumps(dict(reversed(command.items())), ensure_ascii=False, indent=2))
    assert c.body_bytes(reordered) == c.body_bytes(decoded)
    assert LINE(c.body_bytes(decoded)) == decoded
    assert canonical(msgspec.json.decode(c.body_bytes(decoded))) == c.body_bytes(decoded)


BAD: list[tuple[dict[str, Any], str, Any, str]] = [
    # amounts
    (RECORD, "amount.units", 12.5, r"Expected `str`, got `float` - at `\$.amount.units`"),
    (RECORD, "amount.units", 1000, r"Expected `str`, got `int` - at `\$.amount.units`"),
    (RECORD, "amount.units", "12.50", r"regex.*\$.amount.units"),
    (RECORD, "amount.units", "-1", r"regex.*\$.amount.units"),
    (RECORD, "amount.units", "NaN", r"regex.*\$.amount.units"),
    (RECORD, "amount.units", "1" * 19, r"regex.*\$.amount.units"),
    (RECORD, "amount.currency", "XXX", r"'XXX' is not an active ISO 4217 code - at `\$.amount`"),
    (RECORD, "amount.currency", "yen", r"regex.*\$.amount.currency"),
    (RECORD, "amount.scale", 2, r"unknown field `scale` - at `\$.amount`"),
    (RECORD, "amount", "1000 JPY", r"Expected `object`, got `str` - at `\$.amount`"),
    (SETTLE, "amount.units", 1e3, r"\$.amount.units"),
    # dates
    (RECORD, "traded_on", "1899-12-31", "traded_on must lie in the years 1900 to 2200"),
    (RECORD, "due_on", "2201-01-01", "due_on must lie in the years 1900 to 2200"),
    (RECORD, "due_on", "2026-11-19", "due_on must not precede traded_on"),
    (RECORD, "traded_on", "2026-02-30", r"\$.traded_on"),
    (RECORD, "traded_on", "20-11-2026", r"\$.traded_on"),
    (RECORD, "traded_on", "2026-11-20T00:00:00Z", r"\$.traded_on"),
    (RECORD, "traded_on", 20261120, r"\$.traded_on"),
    (RECORD, "traded_on", "99999-01-01", r"\$.traded_on"),
    (SETTLE, "settled_on", "0001-01-01", "settled_on must lie in the years"),
    # texts
    (RECORD, "description", "x" * 65 * 1024, r"length <= 4000 - at `\$.description`"),
    (RECORD, "description", "a\x00b", r"\$.description"),
    (RECORD, "reference", "", r"length >= 1 - at `\$.reference`"),
    (RECORD, "reference", "x" * 65, r"length <= 64 - at `\$.reference`"),
    (RECORD, "reference", "a|b", r"\$.reference"),
    (RECORD, "reference", "a\nb", r"\$.reference"),
    (NOTE, "note", "", r"length >= 1 - at `\$.note`"),
    (NOTE, "note", "x" * 4001, r"length <= 4000 - at `\$.note`"),
    # names and ids
    (RECORD, "seller", "Aozora", r"\$.seller"),
    (RECORD, "seller", "a", r"\$.seller"),
    (RECORD, "seller", "-a", r"\$.seller"),
    (RECORD, "seller", "a" * 41, r"\$.seller"),
    (RECORD, "seller", "aozora\n", r"\$.seller"),
    (RECORD, "trade", "01938a5e-7c00-4aaa-aaaa-0123456789ab", "trade must be a UUIDv7"),
    (RECORD, "trade", "x", r"\$.trade"),
    (RECORD, "wallet", "'; DROP TABLE", r"\$.wallet"),
    (SETTLE, "trade", ID.upper(), r"\$.trade"),
    (SETTLE, "digest", "zz" * 32, r"\$.digest"),
    (NOTE, "attachments.0.sha256", "00" * 31, r"\$.attachments\[0\].sha256"),
    (NOTE, "attachments", [NOTE["attachments"][0]] * 51, r"length <= 50 - at `\$.attachments`"),
    # lines
    (RECORD, "lines.0.quantity", 20, r"\$.lines\[0\].quantity"),
    (RECORD, "lines.0.quantity", "1e3", r"\$.lines\[0\].quantity"),
    (RECORD, "lines.0.quantity", "1.1234567", r"\$.lines\[0\].quantity"),
    (RECORD, "lines.0.quantity", "-1", r"\$.lines\[0\].quantity"),
    (RECORD, "lines.0.unit_price", "1.5", r"\$.lines\[0\].unit_price"),
    (RECORD, "lines.0.colour", "red", r"unknown field `colour` - at `\$.lines\[0\]`"),
    (RECORD, "lines", [RECORD["lines"][0]] * 201, r"length <= 200 - at `\$.lines`"),
    (RECORD, "lines", {}, r"\$.lines"),
    # signatures
    (RECORD, "signature", SIGNATURE, "trade must be given beside a signature"),
    (SETTLE, "signature", {**SIGNATURE, "deadline": -1}, r"\$.signature.deadline"),
    (SETTLE, "signature", {**SIGNATURE, "deadline": 2**53}, r"\$.signature.deadline"),
    (SETTLE, "signature", {**SIGNATURE, "deadline": 1.5}, r"\$.signature.deadline"),
    (SETTLE, "signature", {**SIGNATURE, "nonce": "0x5a"}, r"\$.signature.nonce"),
    (SETTLE, "signature", {**SIGNATURE, "value": "0x" + "AB" * 65}, r"\$.signature.value"),
    (SETTLE, "signature", {**SIGNATURE, "value": "0x" + "ab" * 64}, r"\$.signature.value"),
    (SETTLE, "signature", {"deadline": 1}, r"missing required field `nonce` - at `\$.signature`"),
    # the command itself
    (RECORD, "command", "DropTable", r"Invalid value 'DropTable' - at `\$.command`"),
    (RECORD, "command", "SignBatch", r"Invalid value 'SignBatch' - at `\$.command`"),
    (RECORD, "command", "OpenBook", r"Invalid value 'OpenBook' - at `\$.command`"),
    (RECORD, "approved_by", "me", r"unknown field `approved_by`"),
    (RECORD, "seller", None, r"Expected `str`, got `null` - at `\$.seller`"),
]


@pytest.mark.parametrize(("base", "path", "value", "message"), BAD)
def test_a_bad_field_is_named(base: dict[str, Any], path: str, value: Any, message: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=message):
        LINE(changed(base, path, value))


@pytest.mark.parametrize("field", [name for name in RECORD if name not in {"description", "lines"}])
def test_a_missing_field_is_named(field: str) -> None:
    incomplete = {name: value for name, value in RECORD.items() if name != field}
    with pytest.raises(msgspec.ValidationError, match=f"missing required field `{field}`"):
        LINE(json.dumps(incomplete))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"NaN",
        b'{"command":"AddNote","trade":NaN}',
        b'{"command":"AddNote","note":"\xff\xfe"}',
        b'{"command":"AddNote","note":"\\ud800"}',
        b'{"command":"AddNote","note":"\\udc00 x"}',
        b'\xef\xbb\xbf{"command":"AddNote"}',
        b'{"command":"AddNote"} {"command":"AddNote"}',
        b'{"command":"AddNote","note":"a\nb"}',
        b"[" * 100_000,
        b'{"command":' * 100_000,
        b'{"command":"AddNote","lines":' + b"[" * 5_000 + b"]" * 5_000 + b"}",
    ],
)
def test_what_is_no_json_object_of_ours_is_refused_and_never_crashes(body: bytes) -> None:
    with pytest.raises((msgspec.MsgspecError, RecursionError, UnicodeDecodeError)):
        LINE(body)


@given(st.binary(max_size=60) | st.text(max_size=60).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_bytes_are_a_command_or_a_refusal(body: bytes) -> None:
    with contextlib.suppress(msgspec.MsgspecError, UnicodeDecodeError):
        assert isinstance(LINE(body), c.Command)


@pytest.mark.parametrize("day", [dt.date(1900, 1, 1), dt.date(2200, 12, 31)])
def test_the_first_and_the_last_day_are_allowed(day: dt.date) -> None:
    c.in_range(day, "day")
    allowed = c.ProposeSettlement(trade=ID, amount=Money("JPY", "1"), settled_on=day)
    assert allowed.settled_on == day
    with pytest.raises(ValueError, match="settled_on must lie"):
        c.ProposeSettlement(trade=ID, amount=Money("JPY", "1"), settled_on=dt.date(2201, 1, 1))


def test_both_signatures_of_a_rotation_are_over_one_message() -> None:
    old = c.ClientSignature(**SIGNATURE)
    assert c.RotateKey(wallet=ID, new="0x" + "1f" * 20, signature=old, new_signature=old)
    for change in ({"nonce": "0x" + "00" * 32}, {"deadline": 1}):
        other = c.ClientSignature(**{**SIGNATURE, **change})
        with pytest.raises(ValueError, match="new_signature must have the nonce and the deadline"):
            c.RotateKey(wallet=ID, new="0x" + "1f" * 20, signature=old, new_signature=other)


def test_a_clients_batch_takes_no_natural_id() -> None:
    signature = c.ClientSignature(**SIGNATURE)
    assert c.ClientBatch(batch=ID, root="00" * 32, count=1, signature=signature)
    with pytest.raises(ValueError, match="batch must be a UUIDv7"):
        c.ClientBatch(batch="4b4e6964-dc51-5c23-b8f7-b6ec561284b3", root="00" * 32, count=1, signature=signature)
    for count in (0, 10_001):
        with pytest.raises(msgspec.ValidationError, match=r"\$.count"):
            msgspec.json.decode(
                msgspec.json.encode({"batch": ID, "root": "00" * 32, "count": count, "signature": SIGNATURE}),
                type=c.ClientBatch,
            )


def test_every_command_is_documented_and_of_one_list() -> None:
    listed = {*c.CLIENT_COMMANDS, c.OpenWallet, c.OpenBook, c.SignBatch, *STORE_COMMANDS}
    assert all(command.__doc__ for command in listed)
    assert set(c.TRADE_COMMANDS) == {command for command in listed if issubclass(command, c.TradeCommand)}

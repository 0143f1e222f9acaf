import hashlib
from typing import Any

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from domain.typed_data import (
    PRIMARY_TYPES,
    TypedDataError,
    nonce_and_deadline,
    signed_content,
    terms_digest,
    typed_data_json,
    typed_message,
)
from tests.typed_samples import DATA, TRADE

ORIGIN = "daicho.invalid/3f9c"
TRADE_ID = "0190f3a0-0000-7000-a000-000000000001"
DIGEST = "ab" * 32
# the released types, word for word: a wallet shows them, a stored signature depends on them
BY = "string book,string trade,string by,bytes32 digest"
ONCE = "uint256 nonce,uint256 deadline"
RELEASED = {
    "TradeRecorded": (
        "RecordTrade(string book,string trade,string recordedBy,string seller,string buyer,string currency,"
        f"uint256 amount,string tradedOn,string dueOn,string description,string reference,bytes32 lines,{ONCE})"
    ),
    "TradeConfirmed": f"ConfirmTrade({BY},{ONCE})",
    "TradeDisputed": f"DisputeTrade({BY},string reason,{ONCE})",
    "TradeDisputeWithdrawn": f"WithdrawDispute({BY},string reason,{ONCE})",
    "TradeReversalProposed": f"ProposeReversal({BY},string reason,{ONCE})",
    "TradeReversed": f"ReverseTrade({BY},string reason,{ONCE})",
    "TradeSettlementProposed": f"ProposeSettlement({BY},string currency,uint256 amount,string settledOn,{ONCE})",
    "TradeSettled": f"SettleTrade({BY},string currency,uint256 amount,string settledOn,{ONCE})",
    "TradeNoteAdded": f"AddNote({BY},string note,bytes32 attachments,{ONCE})",
    "BatchSigned": f"SignBatch(string book,string wallet,string company,bytes32 root,uint256 count,{ONCE})",
    "WalletOpened": f"OpenWallet(string book,string wallet,string company,string custody,address key,{ONCE})",
    "WalletKeyRotated": f"RotateKey(string book,string wallet,address oldKey,address newKey,{ONCE})",
}


def confirm(**changes: Any) -> Any:
    return {"by": "kita-logistics", "digest": DIGEST, **changes}


def test_a_released_type_never_changes() -> None:
    assert {event: primary.encoded for event, primary in PRIMARY_TYPES.items()} == RELEASED


def test_a_recorded_trade_is_signed_field_by_field() -> None:
    message = typed_message("TradeRecorded", ORIGIN, TRADE_ID, TRADE, 7, 1_800_000_000)
    assert message.primary.name == "RecordTrade"
    assert {name: value for _, name, value in message.values} == {
        "book": ORIGIN,
        "trade": TRADE_ID,
        "recordedBy": "aozora-foods",
        "seller": "aozora-foods",
        "buyer": "kita-logistics",
        "currency": "JPY",
        "amount": 12000,
        "tradedOn": "2026-11-20",
        "dueOn": "2026-12-31",
        "description": "りんご 20 箱",
        "reference": "A-1",
        "lines": hashlib.sha256(rfc8785.dumps(TRADE["lines"])).digest(),
        "nonce": 7,
        "deadline": 1_800_000_000,
    }


def test_a_rotation_names_both_keys_and_a_wallet_is_named_by_its_aggregate() -> None:
    old, new = "0x" + "1f" * 20, "0x" + "2e" * 20
    message = typed_message("WalletKeyRotated", ORIGIN, "wallet-1", {"old": old, "new": new}, 1, 2)
    assert [value for _, _, value in message.values] == [ORIGIN, "wallet-1", old, new, 1, 2]


@pytest.mark.parametrize("event_type", sorted(DATA))
@given(data=st.data())
def test_every_signed_event_becomes_a_message_of_its_released_type(event_type: Any, data: Any) -> None:
    message = typed_message(event_type, ORIGIN, TRADE_ID, data.draw(DATA[event_type]), 1, 2)
    listed = ",".join(f"{kind} {name}" for kind, name, _ in message.values)
    assert f"{message.primary.name}({listed})" == RELEASED[event_type]


def test_signatures_already_in_the_data_play_no_part() -> None:
    signed = confirm(signature={"value": "0x00"})
    assert typed_message("TradeConfirmed", ORIGIN, TRADE_ID, signed, 1, 2) == typed_message(
        "TradeConfirmed", ORIGIN, TRADE_ID, confirm(), 1, 2
    )


@pytest.mark.parametrize("event_type", ["BookOpened", "CompanyRegistered", "WalletFrozen", "confirm", ""])
def test_an_event_that_no_wallet_signs_is_refused(event_type: Any) -> None:
    with pytest.raises(TypedDataError, match="no such signed event type"):
        typed_message(event_type, ORIGIN, TRADE_ID, {}, 1, 2)


def test_a_field_that_the_signature_would_not_cover_is_refused() -> None:
    with pytest.raises(TypedDataError, match="discount is not covered"):
        typed_message("TradeConfirmed", ORIGIN, TRADE_ID, confirm(discount="10"), 1, 2)


@pytest.mark.parametrize("field", ["by", "digest"])
def test_a_missing_field_is_named(field: Any) -> None:
    data = confirm()
    del data[field]
    with pytest.raises(TypedDataError, match=f"data.{field} is missing"):
        typed_message("TradeConfirmed", ORIGIN, TRADE_ID, data, 1, 2)


@pytest.mark.parametrize(
    "changes",
    [
        {"digest": "AB" * 32},
        {"digest": "0x" + "ab" * 31},
        {"digest": "ab" * 31},
        {"digest": b"\0" * 32},
        {"digest": DIGEST + "\n"},
        {"by": 7},
        {"by": None},
        {"by": "lone \ud800 surrogate"},
    ],
)
def test_a_value_outside_its_type_is_refused(changes: Any) -> None:
    with pytest.raises(TypedDataError, match="is no"):
        typed_message("TradeConfirmed", ORIGIN, TRADE_ID, confirm(**changes), 1, 2)


@pytest.mark.parametrize(
    "units", ["-1", "+1", "1_0", " 1", "01", "1.0", "", "1\n", "\u0661", str(2**256), 2**256, -1, True, 1.0]
)
def test_an_amount_that_is_no_plain_256_bit_number_is_refused(units: Any) -> None:
    data = {"by": "x", "digest": DIGEST, "amount": {"currency": "JPY", "units": units}, "settled_on": "2026-01-01"}
    with pytest.raises(TypedDataError, match=r"amount\.units is no uint256"):
        typed_message("TradeSettled", ORIGIN, TRADE_ID, data, 1, 2)


def test_a_money_that_is_no_object_is_refused() -> None:
    data = {"by": "x", "digest": DIGEST, "amount": "12000", "settled_on": "2026-01-01"}
    with pytest.raises(TypedDataError, match="amount"):
        typed_message("TradeSettled", ORIGIN, TRADE_ID, data, 1, 2)


@pytest.mark.parametrize("address", ["0x" + "1f" * 19, "1f" * 20, "0x" + "1g" * 20, "0x" + "1f" * 20 + "\n", 1])
def test_an_address_of_another_shape_is_refused(address: Any) -> None:
    with pytest.raises(TypedDataError, match="is no address"):
        typed_message("WalletKeyRotated", ORIGIN, "w", {"old": address, "new": address}, 1, 2)


@pytest.mark.parametrize(("nonce", "deadline"), [(-1, 2), (2**256, 2), (1, -2), (1.5, 2), (1, True), (b"", 2)])
def test_a_nonce_or_deadline_outside_its_type_is_refused(nonce: Any, deadline: Any) -> None:
    with pytest.raises(TypedDataError, match="is no uint256"):
        typed_message("TradeConfirmed", ORIGIN, TRADE_ID, confirm(), nonce, deadline)


def test_a_browser_wallet_gets_numbers_as_decimals_and_bytes_as_hex() -> None:
    message = typed_message("TradeConfirmed", ORIGIN, TRADE_ID, confirm(), 2**255, 1_800_000_000)
    shown = typed_data_json(message, 20260, "0x" + "11" * 20)
    assert shown["domain"] == {
        "name": "Daicho",
        "version": "1",
        "chainId": 20260,
        "verifyingContract": "0x" + "11" * 20,
    }
    assert shown["primaryType"] == "ConfirmTrade"
    assert shown["message"]["nonce"] == str(2**255)
    assert shown["message"]["digest"] == "0x" + DIGEST
    assert shown["types"]["ConfirmTrade"][3] == {"name": "digest", "type": "bytes32"}


def test_nonce_and_deadline_come_from_the_signature_object() -> None:
    assert nonce_and_deadline({"nonce": "0x" + "00" * 31 + "ff", "deadline": 5}) == (255, 5)


@pytest.mark.parametrize(
    "signature",
    [
        {"nonce": "ff" * 32, "deadline": 1},
        {"nonce": "0x" + "FF" * 32, "deadline": 1},
        {"nonce": 1, "deadline": 1},
        {"deadline": 1},
        {"nonce": "0x" + "ff" * 32, "deadline": "1"},
        {"nonce": "0x" + "ff" * 32, "deadline": True},
        {"nonce": "0x" + "ff" * 32, "deadline": -1},
        {"nonce": "0x" + "ff" * 32},
    ],
)
def test_another_spelling_of_nonce_or_deadline_is_refused(signature: Any) -> None:
    with pytest.raises(TypedDataError, match="signature"):
        nonce_and_deadline(signature)


@given(data=DATA["TradeRecorded"])
def test_signed_content_is_canonical_json_without_the_signature(data: Any) -> None:
    expected = rfc8785.dumps({"type": "TradeRecorded", "data": data, "aggregate_id": TRADE_ID})
    assert signed_content("TradeRecorded", TRADE_ID, {**data, "signature": {"batch": "b", "index": 0}}) == expected


@given(data=DATA["TradeRecorded"])
def test_the_digest_of_terms_covers_everything_but_itself_and_the_signature(data: Any) -> None:
    terms = {key: value for key, value in data.items() if key != "digest"}
    assert terms_digest({**data, "signature": {"value": "0x"}}) == hashlib.sha256(rfc8785.dumps(terms)).hexdigest()
    assert terms_digest({**data, "reference": data["reference"] + "!"}) != terms_digest(data)

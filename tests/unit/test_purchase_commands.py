"""Commands about purchases, bindings and cases: what cannot be meant is refused as it is decoded."""

from typing import Any

import msgspec
import pytest

from domain.commands import Command, body_bytes, union_of
from domain.ids import case_id, identity_id, purchase_id
from domain.orders import Order
from domain.purchase_commands import PURCHASE_COMMANDS
from tests.ledger_kit import OPERATOR, ORIGIN

ID, USER, HASH = "01938a5e-7c00-7aaa-aaaa-0123456789ab", "ab" * 16, "cd" * 32
DECODE = msgspec.json.Decoder(union_of(PURCHASE_COMMANDS)).decode
GOOD: dict[str, dict[str, Any]] = {
    "ClaimIdentity": {"subscription": ID, "user": USER},
    "ProveIdentity": {"subscription": ID, "user": USER},
    "TransferIdentity": {"subscription": ID, "before": USER, "after": "cd" * 16, "reason": "家族"},
    "ReleaseIdentity": {"subscription": ID, "user": USER, "reason": "r"},
    "AcceptPurchase": {
        "subscription": ID, "store": "apple", "environment": "sandbox", "user": None, "product": "p", "payload": HASH,
        "origin": "notification",
    },
    "ReportStep": {"purchase": ID, "round": 1, "step": "start", "outcome": "ok", "contract": "K-1"},
    "RequestContract": {"purchase": ID, "round": 1, "attempt": 1},
    "EndPurchase": {"purchase": ID, "reason": "superseded"},
    "DecidePurchase": {"purchase": ID, "case": ID, "action": "adopt"},
    "AskErasure": {"user": USER, "owners": [ID], "reason": "asked by letter"},
    "OpenCase": {"kind": "deadline", "about": ID, "number": 1, "reason": "late", "evidence": ["17", HASH]},
    "ProposeCaseAction": {"case": ID, "action": "skip", "reason": "by hand"},
    "ApproveCaseAction": {"case": ID, "action": "skip"},
    "WithdrawCaseAction": {"case": ID},
    "CloseCase": {"case": ID, "action": None},
}  # fmt: skip


def decoded(name: str, **changes: Any) -> Command:
    return DECODE(msgspec.json.encode({"command": name, **GOOD[name], **changes}))


def order(name: str) -> Order:
    return Order.of(ORIGIN, decoded(name), OPERATOR, "key")


@pytest.mark.parametrize("command", PURCHASE_COMMANDS, ids=lambda command: command.__name__)
def test_what_is_encoded_is_decoded_again(command: type[Command]) -> None:
    made = decoded(command.__name__)
    assert type(made) is command
    assert DECODE(body_bytes(made)) == made


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("ClaimIdentity", {"user": "ann@example.com"}),
        ("ClaimIdentity", {"subscription": "2000000123456789"}),
        ("TransferIdentity", {"reason": ""}),
        ("AcceptPurchase", {"payload": "ab"}),
        ("AcceptPurchase", {"origin": "somebody"}),
        ("AcceptPurchase", {"product": "a\nb"}),
        ("ReportStep", {"round": 0}),
        ("ReportStep", {"step": "jump"}),
        ("ReportStep", {"outcome": "perhaps"}),
        ("ReportStep", {"detail": "a\nb"}),
        ("ReportStep", {"detail": "x" * 501}),
        ("ReportStep", {"contract": ""}),
        ("RequestContract", {"attempt": 0}),
        ("EndPurchase", {"reason": "boredom"}),
        ("DecidePurchase", {"action": "ok"}),
        ("AskErasure", {"user": "ann@example.com"}),
        ("AskErasure", {"owners": [ID] * 1_001}),
        ("OpenCase", {"evidence": ["0"]}),
        ("OpenCase", {"evidence": ["token"]}),
        ("OpenCase", {"evidence": ["1"] * 101}),
        ("OpenCase", {"number": 0}),
        ("ApproveCaseAction", {"action": "refused"}),
        ("CloseCase", {"case": "x"}),
    ],
)
def test_what_cannot_be_meant_is_refused(name: str, changes: dict[str, Any]) -> None:
    assert decoded(name)
    with pytest.raises(msgspec.ValidationError):
        decoded(name, **changes)


def test_an_order_knows_what_it_reads_and_what_it_would_begin() -> None:
    began = {name: order(name).creates() for name in GOOD}
    assert {name: found for name, found in began.items() if found is not None} == {
        "ClaimIdentity": identity_id(ID),
        "ProveIdentity": identity_id(ID),
        "AcceptPurchase": purchase_id(ID),
        "OpenCase": case_id("deadline", ID, 1),
    }
    assert all(found is None or found in order(name).names() for name, found in began.items())
    assert order("TransferIdentity").names() == [ID, identity_id(ID)]
    assert order("DecidePurchase").names() == [ID, ID]

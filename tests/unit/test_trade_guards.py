"""Trade: who may do what in which state. Every rule is a public method's; replaying an event never refuses."""

from collections.abc import Callable
from typing import Any

import pytest

from domain.errors import (
    AmountExceedsOpen,
    BothSidesNeeded,
    CreditorNeeded,
    CurrencyMismatch,
    DaichoError,
    DigestMismatch,
    Malformed,
    NotAParty,
    OtherSideNeeded,
    TradePartlySettled,
    WrongState,
)
from domain.money import Money
from domain.signature import Signature
from domain.trade import Trade
from domain.trade_events import Terms

SELLER, BUYER = "seller", "buyer"
SIGNED = Signature("wallet")
Step = Callable[[Trade], None]


def terms(**changes: Any) -> Terms:
    base: dict[str, Any] = {
        "seller": SELLER,
        "buyer": BUYER,
        "recorded_by": SELLER,
        "amount": Money("JPY", "1000"),
        "traded_on": "2026-11-20",
        "due_on": "2026-12-31",
        "description": "",
        "lines": (),
        "reference": "R-1",
    }
    return Terms(**{**base, **changes})


def trade(*steps: Step, **changes: Any) -> Trade:
    made = terms(**changes)
    recorded = Trade.record("trade", made, made.digest(), SIGNED)
    for step in steps:
        step(recorded)
    return recorded


def confirm(by: str = BUYER) -> Step:
    return lambda trade: trade.confirm(by, SIGNED)


def dispute(by: str = BUYER) -> Step:
    return lambda trade: trade.dispute(by, "why", SIGNED)


def withdraw(by: str = BUYER) -> Step:
    return lambda trade: trade.withdraw_dispute(by, "why", SIGNED)


def propose(units: int = 1000, by: str = BUYER, currency: str = "JPY") -> Step:
    return lambda trade: trade.propose_settlement(by, Money(currency, str(units)), "2026-12-01", SIGNED)


def settle(units: int = 1000, by: str = SELLER, currency: str = "JPY") -> Step:
    return lambda trade: trade.settle(by, Money(currency, str(units)), "2026-12-01", SIGNED)


def propose_reversal(by: str = SELLER) -> Step:
    return lambda trade: trade.propose_reversal(by, "why", SIGNED)


def reverse(by: str = BUYER) -> Step:
    return lambda trade: trade.reverse(by, "why", SIGNED)


def note(by: str = BUYER) -> Step:
    return lambda trade: trade.add_note(by, "note", (), SIGNED)


ALLOWED: list[tuple[list[Step], str, int]] = [
    ([], "recorded", 1000),
    ([confirm()], "confirmed", 1000),
    ([dispute(), withdraw(), confirm()], "confirmed", 1000),
    ([dispute(SELLER), withdraw(SELLER), dispute(), withdraw()], "recorded", 1000),
    ([confirm(), settle()], "settled", 0),
    ([confirm(), settle(1), settle(999)], "settled", 0),
    ([confirm(), settle(999)], "confirmed", 1),
    ([confirm(), propose(400), settle(600)], "confirmed", 400),
    ([reverse(SELLER)], "reversed", 1000),
    ([dispute(), reverse(SELLER)], "reversed", 1000),
    ([confirm(), propose_reversal(), reverse()], "reversed", 1000),
    ([confirm(), propose_reversal(BUYER), reverse(SELLER)], "reversed", 1000),
    ([confirm(), propose_reversal(), propose_reversal(BUYER), reverse(SELLER)], "reversed", 1000),
    ([confirm(), propose_reversal(), settle()], "settled", 0),
    ([note(), confirm(), note(SELLER), settle(), note()], "settled", 0),
    ([reverse(SELLER), note()], "reversed", 1000),
    ([dispute(), note()], "recorded", 1000),
    ([confirm(), dispute(SELLER)], "confirmed", 1000),
]


@pytest.mark.parametrize(("steps", "state", "still_open"), ALLOWED)
def test_a_trade_takes_its_allowed_steps(steps: list[Step], state: str, still_open: int) -> None:
    walked = trade(*steps)
    assert (walked.state, walked.open, walked.version) == (state, still_open, 1 + len(steps))


@pytest.mark.parametrize(("steps", "state", "still_open"), ALLOWED)
def test_replaying_a_trades_events_leads_to_the_same_state(steps: list[Step], state: str, still_open: int) -> None:
    walked = trade(*steps)
    replayed: Any = None
    for event in walked.collect_events():
        replayed = event.mutate(replayed)
    names = {name for kind in Trade.__mro__ for name in getattr(kind, "__slots__", ()) if name != "_pending"}
    assert {name: getattr(replayed, name) for name in names} == {name: getattr(walked, name) for name in names}


REFUSED: list[tuple[list[Step], Step, type[DaichoError]]] = [
    ([], confirm(SELLER), OtherSideNeeded),
    ([confirm()], confirm(), WrongState),
    ([dispute()], confirm(), WrongState),
    ([confirm(), settle()], confirm(), WrongState),
    ([reverse(SELLER)], confirm(), WrongState),
    ([dispute()], dispute(SELLER), WrongState),
    ([confirm(), settle()], dispute(), WrongState),
    ([reverse(SELLER)], dispute(), WrongState),
    ([], withdraw(), WrongState),
    ([dispute()], withdraw(SELLER), OtherSideNeeded),
    ([], settle(), WrongState),
    ([confirm()], settle(by=BUYER), CreditorNeeded),
    ([confirm()], settle(1001), AmountExceedsOpen),
    ([confirm(), settle(600)], settle(401), AmountExceedsOpen),
    ([confirm()], settle(0), Malformed),
    ([confirm()], settle(currency="EUR"), CurrencyMismatch),
    ([confirm(), dispute()], settle(), WrongState),
    ([confirm(), settle()], settle(1), WrongState),
    ([confirm(), propose_reversal(), reverse()], settle(1), WrongState),
    ([], propose(), WrongState),
    ([confirm()], propose(by=SELLER), OtherSideNeeded),
    ([confirm()], propose(1001), AmountExceedsOpen),
    ([confirm()], propose(0), Malformed),
    ([confirm()], propose(currency="EUR"), CurrencyMismatch),
    ([confirm(), dispute(SELLER)], propose(), WrongState),
    ([], propose_reversal(), WrongState),
    ([confirm(), propose_reversal()], propose_reversal(), WrongState),
    ([confirm(), settle(1)], propose_reversal(), TradePartlySettled),
    ([confirm(), settle()], propose_reversal(), WrongState),
    ([confirm(), dispute()], propose_reversal(), WrongState),
    ([], reverse(BUYER), OtherSideNeeded),
    ([confirm()], reverse(SELLER), BothSidesNeeded),
    ([confirm()], reverse(BUYER), BothSidesNeeded),
    ([confirm(), propose_reversal(SELLER)], reverse(SELLER), BothSidesNeeded),
    ([confirm(), propose_reversal(), settle(1)], reverse(), TradePartlySettled),
    ([confirm(), propose_reversal(), dispute()], reverse(), WrongState),
    ([confirm(), propose_reversal(), reverse()], reverse(), WrongState),
    ([confirm(), settle()], reverse(SELLER), WrongState),
]


@pytest.mark.parametrize(("steps", "last", "refusal"), REFUSED)
def test_a_trade_refuses_every_other_step_and_stays_as_it_is(
    steps: list[Step], last: Step, refusal: type[DaichoError]
) -> None:
    walked = trade(*steps)
    walked.collect_events()
    before = (walked.version, walked.state, walked.open, walked.disputed_by, walked.reversal_by)
    with pytest.raises(refusal) as refused:
        last(walked)
    assert type(refused.value) is refusal
    assert (walked.version, walked.state, walked.open, walked.disputed_by, walked.reversal_by) == before
    assert walked.collect_events() == []


@pytest.mark.parametrize(
    "step",
    [
        confirm("x"),
        dispute("x"),
        withdraw("x"),
        propose(by="x"),
        settle(by="x"),
        propose_reversal("x"),
        reverse("x"),
        note("x"),
    ],
)
def test_a_stranger_may_do_nothing(step: Step) -> None:
    with pytest.raises(NotAParty):
        step(trade(confirm()))


@pytest.mark.parametrize(
    ("changes", "refusal"),
    [
        ({"buyer": SELLER}, Malformed),
        ({"recorded_by": "stranger"}, NotAParty),
        ({"amount": Money("JPY", "0")}, Malformed),
    ],
)
def test_terms_that_make_no_trade_are_not_recorded(changes: dict[str, Any], refusal: type[DaichoError]) -> None:
    with pytest.raises(refusal):
        trade(**changes)


def test_the_buyer_may_record_and_the_seller_confirm() -> None:
    bought = trade(confirm(SELLER), recorded_by=BUYER)
    assert bought.state == "confirmed"
    with pytest.raises(OtherSideNeeded):
        confirm(BUYER)(trade(recorded_by=BUYER))
    assert trade(reverse(BUYER), recorded_by=BUYER).state == "reversed"


def test_a_caller_that_saw_other_terms_is_told_so() -> None:
    recorded = trade()
    recorded.require_digest(None)
    recorded.require_digest(recorded.digest)
    with pytest.raises(DigestMismatch) as refused:
        recorded.require_digest("00" * 32)
    assert refused.value.values == {"trade": "trade", "expected": recorded.digest, "given": "00" * 32}


def test_the_digest_is_that_of_the_terms_and_of_every_one_of_them() -> None:
    changes: list[dict[str, Any]] = [
        {"seller": "other"},
        {"buyer": "other"},
        {"recorded_by": BUYER},
        {"amount": Money("JPY", "1001")},
        {"amount": Money("EUR", "1000")},
        {"traded_on": "2026-11-21"},
        {"due_on": "2027-01-01"},
        {"description": "x"},
        {"reference": "R-2"},
    ]
    digests = {terms(**change).digest() for change in [{}, *changes]}
    assert len(digests) == 1 + len(changes)


def test_refusals_carry_the_values_that_caused_them() -> None:
    with pytest.raises(AmountExceedsOpen, match="401 JPY is more than the open 400 JPY") as refused:
        settle(401)(trade(confirm(), settle(600)))
    assert refused.value.values == {"trade": "trade", "open": "400", "given": "401"}
    with pytest.raises(CreditorNeeded) as creditor:
        settle(by=BUYER)(trade(confirm()))
    assert creditor.value.values == {"company": BUYER, "trade": "trade", "needed": SELLER}

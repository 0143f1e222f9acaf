"""The three-way tie-out over a real ledger: all agrees after any story, and each way of not agreeing is named."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cli.checking.findings import Report
from cli.checking.tieout import Sides, TieOut
from cli.wiring.store_answers import StoreAnswers
from cli.wiring.store_intake import Payloads
from domain.store_notification import StoreEnvironment
from stores.apple.client import Status
from stores.errors import BillingAway, PurchaseGone, StoreAway
from stores.reading import Reader
from streams.store_work import Messages
from tests import google_pushes
from tests.apple_payloads import LINE
from tests.billing_double import Billing, Contract
from tests.contract.test_purchases import Play, apple, google, google_line, resource, says
from tests.store_house import StoreHouse, store_house

SILENT = lambda *_: None  # noqa: E731 nobody watches


class Apple:
    """Apple's word on each line: its number of the state, an exception is raised."""

    def __init__(self, number: int | Exception = 1) -> None:
        self.number = number

    def statuses(self, transaction_id: str) -> list[Status]:
        if isinstance(self.number, Exception):
            raise self.number
        other = Status("another line of the same customer", 2, "t", "r")
        return [other, Status(transaction_id, self.number, "t", "r")] if self.number else [other]


class All(Billing):
    """All contracts can be read, too."""

    def all(self) -> Iterator[Contract]:
        return iter(list(self.contracts))


@pytest.fixture
def at(tmp_path: Path) -> Iterator[StoreHouse]:
    with store_house(tmp_path) as house:
        yield house


@pytest.fixture
def billing() -> All:
    return All()


def tie(at: StoreHouse, billing: Any, *, apple: Any = None, play: Any = None, settling: float = 0.0) -> Report:
    messages = Messages(at.parcels, Payloads(at.keys), Reader(google_pushes.APP))
    production = StoreEnvironment.PRODUCTION
    ask = StoreAnswers(at.house.entries, messages, apple or Apple(), play, production)  # type: ignore[arg-type]
    sides = Sides(at.house.entries, at.house.ledger.load_at, at.reveal, ask, billing, {})
    return TieOut(sides, settling_seconds=settling, clock=at.now).run(SILENT)


def found(report: Report) -> list[str]:
    return [finding.what for finding in report.findings]


def both(at: StoreHouse, billing: Billing) -> Play:
    """A purchase at each store, all gone well."""
    play = Play(**{"token-1": resource()})
    apple(at)
    google(at)
    at.work_on(play, billing)
    return play


def test_where_all_went_well_all_three_agree(at: StoreHouse, billing: All) -> None:
    play = both(at, billing)
    report = tie(at, billing, play=play)
    assert found(report) == []
    assert {name: report.looked_at[name] for name in ("purchases", "contracts", "lines", "asked")} == {
        "purchases": 2, "contracts": 2, "lines": 2, "asked": 2,
    }  # fmt: skip


def test_what_has_ended_in_order_agrees_by_whatever_name(at: StoreHouse, billing: All) -> None:
    play = both(at, billing)
    says(at, "EXPIRED", "n1", status=2, later=60_000, appAccountToken=None)
    at.work_on(play, billing)
    for number in (2, 5, PurchaseGone("gone")):
        assert found(tie(at, billing, apple=Apple(number), play=play)) == []
    assert "EXPIRED" not in str(tie(at, billing, apple=Apple(0), play=play).findings)


@pytest.mark.parametrize(
    ("harm", "what"),
    [
        (lambda b: setattr(b.contracts[0], "active", False), "0 active contracts, not 1"),
        (lambda b: b.contracts.pop(0), "0 active contracts, not 1"),
        (lambda b: b.start("ann", "daily.monthly", b.contracts[0].key), "2 active contracts, not 1"),
        (lambda b: setattr(b.contracts[0], "plan", "daily.yearly"), "another plan"),
        (lambda b: setattr(b.contracts[0], "user", "eve"), "another user's"),
        (lambda b: setattr(b.contracts[0], "contract_id", "c-9"), "c-9, not c-1"),
        (lambda b: b.start("ann", "p", "00000000-0000-0000-0000-000000000000:1"), "belongs to no purchase"),
    ],
    ids=["cancelled", "gone", "doubled", "plan", "user", "another", "orphan"],
)
def test_each_way_of_not_agreeing_with_the_billing_system_is_named(
    at: StoreHouse, billing: All, harm: Any, what: str
) -> None:
    play = both(at, billing)
    harm(billing)
    (told,) = found(tie(at, billing, play=play))
    assert what in told
    assert "ann" not in told


def test_customers_that_the_billing_system_had_before_are_none_of_ours(at: StoreHouse, billing: All) -> None:
    play = both(at, billing)
    billing.start("zoe", "print", "subscription desk 17")
    report = tie(at, billing, play=play)
    assert (found(report), report.looked_at["contracts of others"]) == ([], 1)


def test_a_contract_of_a_purchase_that_is_over_is_a_difference(at: StoreHouse, billing: All) -> None:
    apple(at)
    at.work_on(billing=billing)
    says(at, "EXPIRED", "n1", status=2, later=60_000, appAccountToken=None)
    at.work_on(billing=billing)
    billing.contracts[0].active = True
    assert "1 active contracts of a purchase that is ended" in found(tie(at, billing, apple=Apple(2)))[0]


@pytest.mark.parametrize("number", [2, 3, 4, 5])
def test_a_line_that_stands_otherwise_at_its_store_is_a_difference(at: StoreHouse, billing: All, number: int) -> None:
    play = both(at, billing)
    (told,) = found(tie(at, billing, apple=Apple(number), play=play))
    assert told.endswith("at the store, active here")
    assert LINE not in told
    assert tie(at, billing, apple=Apple(number), play=play, settling=900.0).looked_at[
        "explained: heard of a moment ago"
    ] == 1  # fmt: skip


def test_google_is_asked_by_the_token_of_the_purchase(at: StoreHouse, billing: All) -> None:
    play = both(at, billing)
    play.resources["token-1"] = resource("ON_HOLD")
    (told,) = found(tie(at, billing, play=play))
    assert told == f"line {google_line()}: hold at the store, active here"
    assert tie(at, billing).looked_at["not asked: no way to"] == 1


def test_a_store_that_is_away_leaves_a_difference_and_not_silence(at: StoreHouse, billing: All) -> None:
    play = both(at, billing)
    (told,) = found(tie(at, billing, apple=Apple(StoreAway("statuses: status 503")), play=play))
    assert told.endswith("the store cannot be asked: statuses: status 503")


def test_a_billing_system_that_cannot_be_read_to_its_end_ends_it(at: StoreHouse, billing: All) -> None:
    def broken() -> Iterator[Contract]:
        yield from billing.contracts
        raise BillingAway("all: status 500")

    play = both(at, billing)
    billing.all = broken  # type: ignore[method-assign]
    with pytest.raises(BillingAway):
        tie(at, billing, play=play)


def test_a_purchase_in_course_or_with_people_explains_itself(at: StoreHouse, billing: All) -> None:
    billing.faults = ["away"]
    apple(at)
    at.work_on(billing=billing)
    assert tie(at, billing).looked_at["explained: in course"] == 1
    billing.faults = ["away"] * 20
    at.clock += 25 * 3_600
    at.work_on(billing=billing)
    report = tie(at, billing)
    assert (found(report), report.looked_at["explained: waits for people"]) == ([], 1)


def test_without_a_billing_system_it_says_that_nothing_was_compared_there(at: StoreHouse) -> None:
    apple(at)
    at.work_on()
    report = tie(at, None)
    assert list(report.not_checked) == ["ledger and billing"]
    assert found(report) == []


def test_the_command_says_so_where_nothing_can_be_compared(at: StoreHouse) -> None:
    apple(at)
    at.work_on()
    command = [sys.executable, "-m", "cli.main", "tieout", "--data", str(at.folder)]
    environment = {**os.environ, "DAICHO_MASTER_KEY_FILE": str(at.folder / "master.key")}
    for more in ([], ["--json"]):
        ran = subprocess.run([*command, *more], capture_output=True, text=True, check=False, env=environment)
        assert (ran.returncode, ran.stdout) == (2, "")
        assert "nothing could be compared" in " ".join(ran.stderr.split())

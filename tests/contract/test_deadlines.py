"""Deadlines: nobody hears of what is settled in time, people do at two thirds, and a case closes by itself."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from domain.ids import purchase_id
from streams.deadlines import SECONDS
from tests import google_pushes
from tests.billing_double import Billing
from tests.contract.test_purchases import APPLE_LINE, Play, apple, decide, google, google_line, resource, says
from tests.google_pushes import envelope
from tests.store_house import StoreHouse, store_house

HOUR = 3_600


@pytest.fixture
def at(tmp_path: Path) -> Iterator[StoreHouse]:
    with store_house(tmp_path) as house:
        yield house


def cases(at: StoreHouse) -> list[tuple[str, str]]:
    """(about, because) of the open ones that are about a deadline."""
    opened = {each["aggregate_id"]: each["data"] for each in at.entries() if each["type"] == "CaseOpened"}
    for each in at.entries():
        if each["type"] == "CaseClosed":
            opened.pop(each["aggregate_id"])
    found = opened.values()
    return [(each["about"], each["reason"].partition(":")[0]) for each in found if each["kind"] == "deadline"]


def later(at: StoreHouse, seconds: float, play: Any = None, billing: Any = None) -> None:
    at.clock += seconds
    at.work_on(play, billing)


def test_people_hear_of_a_purchase_that_does_not_move_and_no_more_when_it_does(at: StoreHouse) -> None:
    billing = Billing(faults=["away"] * 40)
    apple(at)
    at.work_on(billing=billing)
    later(at, 500, billing=billing)
    assert cases(at) == []
    later(at, 110, billing=billing)
    assert cases(at) == [(purchase_id(APPLE_LINE), "stuck-purchase")]
    billing.faults = []
    later(at, 3_700, billing=billing)
    later(at, 3_700, billing=billing)
    assert cases(at) == []
    assert len(billing.active()) == 1


def test_a_purchase_that_goes_well_is_no_case_and_neither_is_one_that_nobody_has_claimed(at: StoreHouse) -> None:
    play = Play(**{"token-1": resource(acknowledgementState="ACKNOWLEDGEMENT_STATE_ACKNOWLEDGED")})
    apple(at)
    at.post_google(envelope(google_pushes.notification()))
    at.work_on(play, Billing())
    later(at, 24 * HOUR, play, Billing())
    assert cases(at) == []


def test_google_waits_three_days_for_an_acknowledgement_and_people_hear_of_it_after_two(at: StoreHouse) -> None:
    """Whatever keeps the purchase from being acknowledged: here nobody has said whose it is."""
    play = Play(**{"token-1": resource()})
    at.post_google(envelope(google_pushes.notification()))
    at.work_on(play, Billing())
    later(at, 47 * HOUR, play, Billing())
    assert cases(at) == []
    later(at, 2 * HOUR, play, Billing())
    assert cases(at) == [(google_line(), "google-acknowledge")]
    play.resources["token-1"] = resource(acknowledgementState="ACKNOWLEDGEMENT_STATE_ACKNOWLEDGED")
    later(at, 2 * HOUR, play, Billing())
    assert cases(at) == []


def test_what_is_acknowledged_in_time_is_no_case(at: StoreHouse) -> None:
    play = Play(**{"token-1": resource()})
    google(at)
    at.work_on(play, Billing())
    assert play.acknowledged
    play.resources["token-1"] = resource(acknowledgementState="ACKNOWLEDGEMENT_STATE_ACKNOWLEDGED")
    later(at, 49 * HOUR, play, Billing())
    assert cases(at) == []


def test_google_that_is_away_when_it_counts_is_a_case(at: StoreHouse) -> None:
    play = Play(**{"token-1": resource()})
    google(at)
    at.work_on(play, Billing())
    play.away = True
    later(at, 49 * HOUR, play, Billing())
    assert cases(at) == [(google_line(), "google-acknowledge")]


def test_apple_asks_for_a_word_on_a_refund_within_twelve_hours(at: StoreHouse) -> None:
    apple(at)
    says(at, "CONSUMPTION_REQUEST", "n1", appAccountToken=None)
    at.work_on(billing=Billing())
    later(at, 7.9 * HOUR, billing=Billing())
    assert cases(at) == []
    later(at, 0.2 * HOUR, billing=Billing())
    assert cases(at) == [(APPLE_LINE, "apple-consumption")]
    says(
        at, "REFUND", "n2", later=60_000, revocationDate=int(at.clock * 1000), revocationReason=0, appAccountToken=None
    )  # fmt: skip
    later(at, 2 * HOUR, billing=Billing())
    assert cases(at) == []


def test_people_who_have_seen_to_it_are_not_asked_again(at: StoreHouse) -> None:
    apple(at)
    says(at, "CONSUMPTION_REQUEST", "n1", appAccountToken=None)
    at.work_on(billing=Billing())
    later(at, 9 * HOUR, billing=Billing())
    (case,) = [each for each in at.entries() if each["type"] == "CaseOpened"]
    decide(at, case["aggregate_id"], "retry")
    later(at, 9 * HOUR, billing=Billing())
    later(at, 9 * HOUR, billing=Billing())
    assert cases(at) == []
    assert len([each for each in at.entries() if each["type"] == "CaseOpened"]) == 1


def test_a_refund_review_of_googles_is_due_in_a_day(at: StoreHouse) -> None:
    data = google_pushes.notification()
    del data["subscriptionNotification"]
    data["pendingRefundReviewNotification"] = {"version": "1.0", "pendingRefundToken": "t", "orderId": "GPA.1"}
    at.post_google(envelope(data))
    at.work_on(Play(), Billing())
    later(at, 15.5 * HOUR, Play(), Billing())
    assert cases(at) == []
    later(at, 1 * HOUR, Play(), Billing())
    message = next(each for each in at.entries() if each["type"] == "NotificationReceived")
    assert cases(at) == [(message["aggregate_id"], "google-refund-review")]


def test_the_times_are_those_that_the_stores_name() -> None:
    assert {name: seconds / HOUR for name, seconds in SECONDS.items()} == {
        "google-acknowledge": 72, "apple-consumption": 12, "google-refund-review": 24, "stuck-purchase": 0.25,
    }  # fmt: skip

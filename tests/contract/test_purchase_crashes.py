"""The process ends anywhere in a purchase: before and after every command, every call to billing and to the store.

The places are not listed here: a tripwire counts them as a purchase goes by, and every one of them is tried.
"""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from domain.ids import identity_id, purchase_id, subscription_id
from domain.purchase import PurchaseSaga
from domain.purchase_table import Step
from domain.store_identity import StoreIdentity
from stores.google.envelope import line_of
from streams.ledger_bridge import Bridge
from tests.apple_payloads import body, notification, renewal, transaction
from tests.billing_double import Billing
from tests.contract.test_purchases import NOW, Play, resource
from tests.store_house import COMPANY, StoreHouse, store_house

MAX_PLACES = 200


class Killed(BaseException):
    """The process is gone."""


class Tripwire:
    """Ends the process at the `at`th place that is passed; counts them."""

    def __init__(self) -> None:
        self.passed, self.at, self.places = 0, -1, list[str]()
        self._lock = threading.Lock()

    def set(self, at: int) -> None:
        self.passed, self.at, self.places = 0, at, []

    def cross(self, where: str) -> None:
        with self._lock:
            here, self.passed = self.passed, self.passed + 1
            self.places.append(where)
        if here == self.at:
            raise Killed(where)

    def around(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def guarded(*arguments: Any) -> Any:
            self.cross(f"before {name}")
            result = call(*arguments)
            self.cross(f"after {name}")
            return result

        return guarded


@pytest.fixture(scope="module")
def wire() -> Tripwire:
    return Tripwire()


@pytest.fixture(scope="module")
def at(tmp_path_factory: pytest.TempPathFactory, wire: Tripwire) -> Iterator[StoreHouse]:
    patch = pytest.MonkeyPatch()
    execute = Bridge.execute

    def executed(self: Bridge, commands: Any) -> Any:
        names = "+".join(type(command).__name__ for _, command in commands) or "nothing"
        return wire.around(names, lambda: execute(self, commands))()

    patch.setattr(Bridge, "execute", executed)
    with store_house(Path(tmp_path_factory.mktemp("crashes"))) as house:
        house.house.admit(COMPANY)
        yield house
    patch.undo()


class Case(NamedTuple):
    """A way that a purchase may take, and where it ends."""

    store: str
    way: str
    ends: Step
    contracts: int


CASES = [
    Case("apple", "forward", Step.DONE, 1),
    Case("google", "forward", Step.DONE, 1),
    Case("apple", "refused", Step.COMPENSATED, 0),
    Case("google", "refused", Step.COMPENSATED, 0),
    Case("apple", "expired", Step.ENDED, 0),
    Case("google", "expired", Step.ENDED, 0),
    Case("google", "unknown", Step.REJECTED, 0),
]


class Story:
    """One purchase of its own, told from the beginning with the wire set at a place."""

    def __init__(self, at: StoreHouse, wire: Tripwire, case: Case, place: int) -> None:
        self.at, self.wire, self.case, self.place = at, wire, case, place
        self.billing = Billing()
        self.name = f"{case.store}-{case.way}-{place}"
        self.play = Play(**({} if case.way == "unknown" else {self.name: resource()}))
        for name in ("start", "of_key", "cancel"):
            setattr(self.billing, name, wire.around(f"billing.{name}", getattr(self.billing, name)))
        for name in ("subscription", "acknowledge", "revoke"):
            setattr(self.play, name, wire.around(f"play.{name}", getattr(self.play, name)))
        line = self.name if case.store == "apple" else line_of(self.name)
        self.subscription = subscription_id(case.store, "production", line)

    def tell(self) -> bool:
        """Hand in, let things happen, end the process at the place, start it again; False when it was never reached."""
        if self.case.way == "refused":
            self.billing.refuses = True
        self._hand_in()
        self.wire.set(self.place)
        killed = self._work()
        if killed:
            self._recover()
        if self.case.way == "expired":
            self._expire()
            killed = self._work() or killed
        self._recover()
        return killed

    def _recover(self) -> None:
        """The process is started again: leases run out, requests settle."""
        self.wire.set(-1)
        for _ in range(4):
            self.at.clock += 61
            self.at.work_on(self.play, self.billing)

    def _work(self) -> bool:
        try:
            self.at.work_on(self.play, self.billing)
        except Killed:
            self.at.at_billing = None  # what the process knew is gone
            self.at.clock += 61
            return True
        return False

    def _hand_in(self) -> None:
        if self.case.store == "apple":
            text = self.at.signed_transaction(
                originalTransactionId=self.name, transactionId=self.name, webOrderLineItemId=f"w-{self.name}",
                appAccountToken=None,
            )  # fmt: skip
            response = self.at.buy(user=self.name, store="apple", signed_transaction=text)
        else:
            response = self.at.buy(user=self.name, store="google", purchase_token=self.name, product="daily.monthly")
        assert response.status_code == 202

    def _expire(self) -> None:
        if self.case.store == "apple":
            signed_at = NOW + 3_600_000 - 1_000 * 3_600 + int((time.time() - NOW / 1000) * 1000)
            line = {"originalTransactionId": self.name}
            outer = notification(
                signed_at, "EXPIRED", status=2,
                signedTransactionInfo=self.at.ca.sign(
                    transaction(signed_at, transactionId=self.name, webOrderLineItemId=f"w-{self.name}",
                                appAccountToken=None, **line)
                ),
                signedRenewalInfo=self.at.ca.sign(renewal(signed_at, appAccountToken=None, **line)),
            )  # fmt: skip
            outer["notificationUUID"] = f"expired-{self.name}"
            assert self.at.post_apple(body(self.at.ca, outer)).status_code == 200
        else:
            from tests.google_pushes import envelope
            from tests.google_pushes import notification as announced

            self.play.resources[self.name] = resource("EXPIRED")
            message = "".join(letter for letter in self.name if letter.isalnum())
            assert self.at.post_google(envelope(announced(self.name, 13), message)).status_code == 204

    # -- what must be true whatever happened -------------------------------------------------------------------------

    def check(self) -> None:
        saga = self.at.house.ledger.load(purchase_id(self.subscription))
        assert isinstance(saga, PurchaseSaga)
        assert saga.state is self.case.ends, (self.name, saga.state, saga.waiting, self.at.failures[-3:])
        assert len(self.billing.active()) == self.case.contracts, self.name
        assert len(self.billing.contracts) <= 1, f"{self.name}: two contracts were made"
        identity = self.at.house.ledger.load(identity_id(self.subscription))
        bound = isinstance(identity, StoreIdentity) and identity.user is not None
        assert bound is (self.case.way in {"forward", "expired"}), self.name
        if self.case.store == "google":
            assert bool(self.play.acknowledged) is (self.case.way in {"forward", "expired"}), self.name
            assert bool(self.play.revoked) is (self.case.way == "refused"), self.name
        elif self.case.way == "refused":
            cases = [each for each in self.at.entries() if each["type"] == "CaseOpened"]
            assert [each["data"]["about"] for each in cases].count(saga.id) == 1


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.store}-{case.way}")
def test_a_purchase_ends_rightly_wherever_the_process_ends(at: StoreHouse, wire: Tripwire, case: Case) -> None:
    for place in range(MAX_PLACES):
        story = Story(at, wire, case, place)
        reached = story.tell()
        story.check()
        if not reached:
            break
    assert not reached
    assert place >= (10 if case.way != "unknown" else 4), "the wire was crossed"


def test_the_walk_without_a_crash_passes_every_step_of_the_table(at: StoreHouse, wire: Tripwire) -> None:
    seen: set[str] = set()
    for case in CASES:
        Story(at, wire, case, MAX_PLACES + 1).tell()
    for entry in at.entries():
        if entry["type"] == "PurchaseMoved":
            seen |= {entry["data"]["before"], entry["data"]["after"]}
    assert seen >= {step.value for step in Step} - {"parked"}

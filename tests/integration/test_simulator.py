"""The simulator speaks as the stores do: everything that verifies, reads and asks the real ones is tried on it."""

import itertools
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest

from domain.store_notification import StoreNotification
from domain.subscription_history import History
from simulator.apple import AppleNotification
from simulator.faults import Faults
from simulator.google import GoogleNotification
from simulator.scenarios import SCENARIOS, play, steps_of
from simulator.world import APP_ID, AUDIENCE, BUNDLE, ISSUER_ID, KEY_ID, PACKAGE, PUSH_ACCOUNT, SUBSCRIPTION, World
from stores.apple.translate import translate
from stores.apple.verify import AppleApp, AppleVerifier
from stores.billing import BillingClient
from stores.errors import BillingAway, BillingRefused, BillingUnknown, PurchaseGone, StoreAway
from stores.google.access import AccessToken
from stores.google.announce import announce
from stores.google.client import PlayClient
from stores.google.envelope import read_push
from stores.google.keys import KeySet, http_fetch
from stores.google.observe import observe
from stores.google.push import GoogleApp, PushVerifier
from stores.verdict import Verdict
from tests.http_stub import Answer, Asked, Stub, serving

GOOGLE = GoogleApp(PACKAGE, SUBSCRIPTION, AUDIENCE, PUSH_ACCOUNT)


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with World().running() as world:
        yield world


@pytest.fixture
def http() -> Iterator[httpx.Client]:
    with httpx.Client(timeout=5.0) as client:
        yield client


@pytest.fixture
def play_client(world: World, http: httpx.Client, tmp_path: Path) -> PlayClient:
    file = tmp_path / "key.json"
    file.write_bytes(world.play_key_file)
    return PlayClient(http, PACKAGE, AccessToken(http, file), base_url=f"{world.url}/google")


def billing_of(world: World, http: httpx.Client) -> BillingClient:
    return BillingClient(http, f"{world.url}/billing", lambda: world.billing_token)


def apple_said(world: World, sent: AppleNotification) -> StoreNotification:
    verifier = AppleVerifier(AppleApp(BUNDLE, APP_ID), [world.root], online=True)
    found = verifier.verify(sent.body)
    assert found.verdict is Verdict.VALID, found.reason
    return translate(found)


def google_said(world: World, keys: KeySet, sent: GoogleNotification) -> StoreNotification:
    """As it would be known if Google was asked at the very moment at which it was sent."""
    assert PushVerifier(GOOGLE, keys).verify(world.bearer()).verdict is Verdict.VALID
    message = read_push(GOOGLE, world.envelope(sent, 1))
    assert message.verdict is Verdict.VALID, message.reason
    announced = announce(message)
    if not announced.needs_fetch:
        return announced
    resource = world.google.resource(world.google.lines[message.fields["purchaseToken"]])
    return observe(announced, resource, sent.at).said


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_scenario_is_told_by_apple_in_words_that_verify(world: World, name: str) -> None:
    first = len(world.apple.sent)
    lines = play(name, world.apple)
    sent = world.apple.sent[first:]
    assert len(sent) == len(steps_of(name, world.apple)) + 1
    history = History()
    for each in sent:
        history.observe(apple_said(world, each))
    assert history.state == lines[-1].standing
    assert len(history.charges) == len(lines[-1].charges)


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_scenario_is_told_by_google_in_words_that_verify(world: World, name: str, http: httpx.Client) -> None:
    keys = KeySet(http_fetch(http, f"{world.url}/google/certs"))
    first = len(world.google.sent)
    said: list[StoreNotification] = []
    world.google.notify = lambda sent: said.append(google_said(world, keys, sent))
    lines = play(name, world.google)
    world.google.notify = world.delivery.send
    assert len(world.google.sent) - first >= len(steps_of(name, world.google)) + 1  # a revocation is voided, too
    history = History()
    for each in said:
        if each.line == said[-1].line:
            history.observe(each)
    # what Google answers of a revoked purchase, asked once more, is that it has expired
    assert history.state == {"revoked": "expired"}.get(lines[-1].standing, lines[-1].standing)


def test_the_story_of_seven_messages_ends_the_same_in_every_order_at_both_stores(
    world: World, http: httpx.Client
) -> None:
    keys = KeySet(http_fetch(http, f"{world.url}/google/certs"))
    first = len(world.apple.sent)
    play("long", world.apple)
    told = {"apple": [apple_said(world, each) for each in world.apple.sent[first:]]}
    said: list[StoreNotification] = []
    world.google.notify = lambda sent: said.append(google_said(world, keys, sent))
    play("long", world.google)
    world.google.notify = world.delivery.send
    told["google"] = said
    for store, messages in told.items():
        assert len(messages) == 7, store
        ends = set()
        for number, order in enumerate(itertools.permutations(range(7))):
            history = History()
            for index in (*order, order[number % 7], order[0]):  # two of them twice
                history.observe(messages[index])
            ends.add(_end_of(history))
        assert len(ends) == 1, store
        ((state, _, refunds),) = ends
        assert (state, refunds) == ("expired", 1), f"{store}: the late refund counts and ends nothing else"


def _end_of(history: History) -> tuple[str, str, int]:
    known = (history.plan, history.renewal, sorted(history.charges), sorted(each.charge for each in history.refunds))
    return history.state.value, repr(known), len(history.refunds)


# -- the stores' APIs -------------------------------------------------------------------------------------------------


def test_google_is_asked_told_and_refuses_strangers(world: World, play_client: PlayClient, http: httpx.Client) -> None:
    line = world.google.buy("daily.monthly", "a" * 32)
    found = play_client.subscription(line.name)
    assert found["acknowledgementState"].endswith("PENDING")
    play_client.acknowledge("daily.monthly", line.name)
    again = play_client.subscription(line.name)
    assert again["acknowledgementState"].endswith("ACKNOWLEDGED")
    assert found["etag"] != again["etag"]
    play_client.revoke(line.name)
    assert [each["orderId"] for each in play_client.voided(line.bought_at)][-1] == line.charges[0].key
    with pytest.raises(PurchaseGone):
        play_client.subscription("unknown")
    with pytest.raises(StoreAway):
        PlayClient(http, PACKAGE, lambda: "stranger", base_url=f"{world.url}/google").subscription(line.name)


def test_apples_history_is_read_page_by_page_and_by_failures(world: World, http: httpx.Client) -> None:
    first = len(world.apple.sent)
    line = world.apple.buy("daily.monthly", quiet=True)
    for _ in range(24):
        world.apple.renew(line, quiet=True)
    now = int(time.time())
    token = jwt.encode(
        {"iss": ISSUER_ID, "iat": now, "exp": now + 300, "aud": "appstoreconnect-v1", "bid": BUNDLE}, world.apple_key,
        "ES256", headers={"kid": KEY_ID},
    )  # fmt: skip
    headers = {"authorization": f"Bearer {token}"}
    asked = {"startDate": world.apple.sent[first].signed_at, "endDate": 2**50, "onlyFailures": True}
    url = f"{world.url}/apple/inApps/v1/notifications/history"
    page = http.post(url, json=asked, headers=headers).json()
    assert (len(page["notificationHistory"]), page["hasMore"]) == (20, True)
    rest = http.post(url, json=asked, headers=headers, params={"paginationToken": page["paginationToken"]}).json()
    assert (len(rest["notificationHistory"]), rest["hasMore"]) == (5, False)
    assert http.post(url, json=asked).status_code == 401
    status = http.get(f"{world.url}/apple/inApps/v1/subscriptions/{line.charges[3].key}", headers=headers).json()
    assert status["data"][0]["lastTransactions"][0]["status"] == 1
    url = f"{world.url}/apple/inApps/v2/transactions/consumption/{line.name}"
    assert http.put(url, json={"customerConsented": False}, headers=headers).status_code == 400


def test_billing_does_everything_as_often_as_it_is_told_and_fails_as_it_is_told(
    world: World, http: httpx.Client
) -> None:
    billing, faults = billing_of(world, http), world.faults
    made = [billing.start("ann", "monthly", "k1") for _ in range(2)]
    assert len({each.contract_id for each in made}) == 2
    billing.cancel(made[0].contract_id)
    billing.cancel(made[0].contract_id)
    assert [each.active for each in billing.of_key("k1")] == [False, True]
    world.billing.blocked.add("eve")
    with pytest.raises(BillingRefused, match="user_blocked"):
        billing.start("eve", "monthly", "k2")
    for change, error in (({"billing_away": True}, BillingAway), ({"billing_errors": 1.0}, BillingUnknown)):
        faults.set(**change)
        with pytest.raises(error):
            billing.start("ann", "monthly", "k3")
        faults.set(billing_away=False, billing_errors=0.0)
    impatient = billing_of(world, httpx.Client(timeout=0.2))
    for hang, there in (("billing_hang_before", 0), ("billing_hang_after", 1)):
        faults.set(**{hang: 1.0, "billing_hang_seconds": 0.5})
        with pytest.raises(BillingUnknown):
            impatient.start("ann", "monthly", hang)
        faults.set(**{hang: 0.0})
        time.sleep(0.5)
        assert len(billing.of_key(hang)) == there
    assert len(list(billing.all())) == len(world.billing.contracts)


def test_faults_are_set_over_http_and_unknown_ones_refused(world: World, http: httpx.Client) -> None:
    url = f"{world.url}/simulator/faults"
    assert http.post(url, json={"delay": 0.5}).json()["delay"] == 0.5
    for bad in ({"dealy": 0.5}, {"delay": "x"}, []):
        assert http.post(url, json=bad).status_code == 422
    http.post(url, json={"delay": 0.0})
    assert http.get(f"{world.url}/simulator/state").json()["billing"]["contracts"] >= 0


# -- delivery ---------------------------------------------------------------------------------------------------------


class Receiver:
    """Takes notifications, or refuses the first few of each."""

    def __init__(self, refuse: int = 0) -> None:
        self.refuse, self.seen = refuse, dict[str, int]()

    def answer(self, asked: Asked) -> Answer:
        body = json.loads(asked.body)
        id_ = body["message"]["messageId"] if "message" in body else asked.body[-80:].decode()
        self.seen[id_] = self.seen.get(id_, 0) + 1
        return Answer(status=503 if self.seen[id_] <= self.refuse else 200)


def delivered(receiver: Receiver, tell: Any, **options: Any) -> tuple[World, Stub]:
    with serving(receiver.answer) as stub, World(**options).running() as world:
        world.notify(apple=f"{stub.url}/apple", google=f"{stub.url}/google")
        tell(world)
        assert world.settle()
        return world, stub


def test_both_stores_repeat_until_they_are_answered_with_success() -> None:
    receiver = Receiver(refuse=3)

    def tell(world: World) -> None:
        world.apple.buy("p")
        world.google.buy("p")

    world, _ = delivered(receiver, tell, speed=1_000_000.0)
    assert sorted(receiver.seen.values()) == [4, 4]
    assert world.apple.sent[0].delivered
    assert world.google.sent[0].delivered
    assert [result for _, result in world.apple.sent[0].attempts][:3] == ["UNSUCCESSFUL_HTTP_RESPONSE_CODE"] * 3


def test_apple_gives_up_after_five_repetitions_and_google_keeps_what_is_dead() -> None:
    def tell(world: World) -> None:
        world.delivery._google_attempts = 7
        world.apple.buy("p")
        world.google.buy("p")

    world, _ = delivered(Receiver(refuse=99), tell, speed=1_000_000.0)
    assert len(world.apple.sent[0].attempts) == 6
    assert (len(world.google.sent[0].attempts), world.google.sent[0].dead) == (7, True)


def test_faults_of_the_way_lose_and_double_messages() -> None:
    receiver = Receiver()

    def tell(world: World) -> None:
        for _ in range(40):
            world.google.buy("p")

    world, _ = delivered(receiver, tell, faults=Faults(lose=0.3, duplicate=0.3))
    lost = sum(not each.delivered for each in world.google.sent)
    assert 2 <= lost <= 25
    assert len(receiver.seen) == 40 - lost
    assert sum(receiver.seen.values()) > len(receiver.seen)


def test_a_purchase_that_nobody_acknowledges_is_given_back() -> None:
    with World().running() as world:
        line = world.google.buy("p")
        world.google.abandon(line)
        assert (line.standing, world.google.voided[0]["voidedReason"]) == ("revoked", 8)
        kept = world.google.buy("p")
        kept.acknowledged = True
        world.google.abandon(kept)
        assert kept.standing == "active"


# -- the command ------------------------------------------------------------------------------------------------------


def test_the_command_lists_scenarios_and_refuses_unknown_ones() -> None:
    listed = subprocess.run(
        [sys.executable, "-m", "cli.main", "simulate-store", "--list"], capture_output=True, text=True, check=True
    )
    assert all(name in listed.stdout for name in SCENARIOS)
    refused = subprocess.run(
        [sys.executable, "-m", "cli.main", "simulate-store", "--scenario", "no such"], capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert refused.returncode == 2
    assert "no scenario 'no such'" in refused.stderr


def test_the_command_prints_what_a_ledger_needs_and_serves(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-u",
        "-m",
        "cli.main",
        "simulate-store",
        "--folder",
        str(tmp_path),
        "--scenario",
        "steady",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if "GooglePlay" in line:
                break
        exported = dict(line.removeprefix("export ").strip().split("=", 1) for line in lines if "export" in line)
        base = exported["DAICHO_BILLING_URL"].strip("'").removesuffix("/billing")
        assert httpx.get(f"{base}/simulator/state").json()["apple"]["lines"] == 1
        assert (tmp_path / "apple-root.der").stat().st_mode & 0o077 == 0
        process.send_signal(2)
        assert process.wait(20) in {0, 130}

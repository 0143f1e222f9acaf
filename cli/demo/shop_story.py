"""The demo's second story: subscriptions sold in two app stores, in front of an existing billing system."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import httpx
from rich.markup import escape
from rich.table import Table

from cli.demo.service import DemoFailed, Person
from cli.screen import console
from cli.settings import Settings
from simulator.lines import Line
from simulator.world import World

COMPANY: Final = "daily-press"
STEP_SECONDS: Final = 30.0
POLL_SECONDS: Final = 0.05
SETTINGS: Final = {"DAICHO_APPLE_HISTORY_SECONDS": "2", "DAICHO_BILLING_SETTLE_SECONDS": "2"}
Say = Callable[[str], None]


class ShopStory:
    """Plays it against a running service that the world's stores post to. `facts` collects what the report says.

    `secrets`: the folder of the token issuer, where it is not in the data folder.
    """

    def __init__(self, world: World, url: str, settings: Settings, say: Say, secrets: Path | None = None) -> None:
        self._world, self._say = world, say
        base = f"{url}/v1/stores"
        world.notify(apple=f"{base}/apple/notifications", google=f"{base}/google/notifications")
        self._operator = Person(url, settings, "", secrets)
        self._operator.ask("POST", "/v1/companies", key="demo-shop", json={"code": COMPANY, "name": "Daily Press K.K."})
        self._backend = Person(url, settings, COMPANY, secrets)
        self._run = f"{int(time.time() * 1000)}"
        self.facts: dict[str, Any] = {}

    def tell(self) -> None:
        """A purchase on each store, a renewal, a grace period, a refund, an upgrade, a loss; then support's view."""
        console.print("[bold]Subscriptions in two app stores[/], in front of a billing system that may not be changed")
        ann, ben = f"ann-{self._run}", f"ben-{self._run}"
        apple = self._apple_purchase(ann)
        google = self._google_purchase(ben)
        self._renewal(apple, ann)
        self._grace(google, ben)
        self._lost(apple, ann)
        self._upgrade(google, ben)
        self._refund(apple, ann)
        self._support(ann)

    # -- its steps ---------------------------------------------------------------------------------------------------

    def _apple_purchase(self, user: str) -> Line:
        apple = self._world.apple
        line = apple.buy("daily.monthly", self._account(user, "apple"))
        body = {"user": user, "store": "apple", "signed_transaction": apple.signed_transaction(line)}
        status, _, milliseconds = self._hand_in(body)
        self.facts["apple_purchase"] = status
        if status != httpx.codes.CREATED:
            raise DemoFailed(f"a purchase of Apple's was answered {status}")
        self._say(f"App Store: a purchase is verified, bound and contracted in {milliseconds:.0f} ms: 201")
        return line

    def _google_purchase(self, user: str) -> Line:
        world = self._world
        world.faults.set(billing_away=True)
        line = world.google.buy("daily.monthly", self._account(user, "google"))
        body = {"user": user, "store": "google", "purchase_token": line.name, "product": line.product}
        status, purchase, _ = self._hand_in(body)
        self.facts["google_purchase"] = status
        self._say(f"Google Play: the billing system is under maintenance, so the purchase is accepted: {status}")
        world.faults.set(billing_away=False)
        self._until("the purchase to be finished", lambda: self._state(purchase) == "done")
        self._say("  … and finished by itself once billing is back; Google was told that it is delivered")
        if not line.acknowledged:
            raise DemoFailed("a purchase of Google's was never acknowledged")
        return line

    def _renewal(self, line: Line, user: str) -> None:
        before = self._until_of(user)
        self._world.apple.renew(line)
        self._until("the renewal", lambda: self._until_of(user) > before)
        self._say(f"App Store: renewed, paid until {_day(self._until_of(user))}")

    def _grace(self, line: Line, user: str) -> None:
        self._world.google.fail(line, grace=True)
        self._until("the grace period", lambda: self._reason(user) == "grace")
        self._say("Google Play: a payment failed; access goes on through the grace period")
        self._world.google.renew(line)
        self._until("the recovery", lambda: self._reason(user) == "paid")

    def _lost(self, line: Line, user: str) -> None:
        before = self._until_of(user)
        self._world.apple.renew(line, quiet=True)
        self._until("the lost notification", lambda: self._until_of(user) > before)
        self._say("App Store: a notification was lost on the way, and found in Apple's history")
        self.facts["found_by_asking"] = True

    def _upgrade(self, line: Line, user: str) -> None:
        after = self._world.google.upgrade(line, "daily.yearly")
        self._until("the upgrade", lambda: "daily.yearly" in {each.plan for each in self._contracts(user)})
        self._until("the old contract's end", lambda: len(self._contracts(user)) == 1)
        self._say("Google Play: upgraded; the old contract ended, the new one is the only one")
        self._until("the acknowledgement", lambda: after.acknowledged)

    def _refund(self, line: Line, user: str) -> None:
        self._world.apple.refund(line)
        self._until("the refund", lambda: not self._access(user)["granted"])
        self._until("the contract's end", lambda: not self._contracts(user))
        self._say("App Store: refunded; access ended, and so did the contract")

    def _support(self, user: str) -> None:
        """What support sees of one customer."""
        support = self._operator
        story = support.ask("GET", f"/v1/users/{user}/timeline", params={"limit": "1000"})["items"]
        table = Table(title=f"support's view of {user}", box=None, padding=(0, 1), title_justify="left")
        for name in ("position", "when", "", "what"):
            table.add_column(name, justify="right" if name == "position" else "left")
        for item in story:
            table.add_row(str(item["position"]), _clock(item["at"]), item["kind"], escape(_what(item)))
        console.print(table)
        access = support.ask("GET", f"/v1/users/{user}/access", params={"explain": "true"})["lines"][0]
        link = access["because"][-1]
        self._say(
            f"why: payload {link['payload'][:12]}… ▶ entry {link['position']} ▶ {access['state']} ▶ {access['rule']}"
        )
        self.facts["timeline"] = len(story)
        self.facts["access"] = access["reason"]

    # -- what it asks ------------------------------------------------------------------------------------------------

    def _account(self, user: str, store: str) -> str:
        answer = self._backend.ask("GET", f"/v1/users/{user}/store-account", params={"store": store})
        return str(answer["account"])

    def _hand_in(self, body: dict[str, Any]) -> tuple[int, str, float]:
        began = time.perf_counter()
        response = self._backend.http.post(
            "/v1/purchases", json=body, headers={"idempotency-key": f"demo-{body['user']}"}
        )
        if response.status_code >= httpx.codes.BAD_REQUEST:
            raise DemoFailed(f"a purchase was refused: {response.text[:300]}")
        return response.status_code, response.json()["id"], (time.perf_counter() - began) * 1000

    def _state(self, purchase: str) -> str:
        return str(self._backend.ask("GET", f"/v1/purchases/{purchase}")["state"])

    def _access(self, user: str) -> dict[str, Any]:
        return self._backend.ask("GET", f"/v1/users/{user}/access")

    def _reason(self, user: str) -> str:
        return str(next((line["reason"] for line in self._access(user)["lines"] if line["granted"]), ""))

    def _until_of(self, user: str) -> int:
        return max((line["until"] or 0 for line in self._access(user)["lines"]), default=0)

    def _contracts(self, user: str) -> list[Any]:
        return [each for each in self._world.billing.active() if each.user_id == user]

    @staticmethod
    def _until(what: str, holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + STEP_SECONDS
        while not holds():
            if time.monotonic() > deadline:
                raise DemoFailed(f"waited {STEP_SECONDS:.0f} s for {what}")
            time.sleep(POLL_SECONDS)


def _what(item: dict[str, Any]) -> str:
    if item["kind"] == "message":
        return f"{item['label']} ({item['origin']}), {item.get('size', 0):,} bytes, payload {item['payload'][:12]}…"
    if item["kind"] == "access":
        return f"access {'given' if item['granted'] else 'ended'}: {item['reason']}"
    data = item.get("data") or {}
    if item["type"] == "PurchaseMoved":
        return f"purchase: {data['before']} ▶ {data['after']}"
    return str(item["type"])


def _day(millis: int) -> str:
    return datetime.fromtimestamp(millis / 1000, UTC).strftime("%Y-%m-%d")


def _clock(millis: int) -> str:
    return datetime.fromtimestamp(millis / 1000, UTC).strftime("%H:%M:%S.%f")[:-3]

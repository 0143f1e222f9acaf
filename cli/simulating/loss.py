"""The loss test: notifications of both stores while the service is killed and its files refuse, at random.

In the end everything that was sent must be archived byte for byte, and have had its effect exactly once.
"""

import random
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import httpx

from cli.settings import Settings
from cli.simulating.audit import Audit, audit, folder_of
from cli.simulating.shop import Shop
from simulator.apple import AppleStore
from simulator.google import GooglePlay
from simulator.lines import Line
from storage.locking import write_lock

SPEED: Final = 7_200.0
PER_LINE: Final = 10
HAND_IN_EVERY: Final = 10
QUIET_SHARE: Final = 0.01
MOST_PENDING: Final = 48
DRAIN_SECONDS: Final = 300.0
DRAIN_SECONDS_EACH: Final = 0.1
PAUSES: Final = (0.5, 3.0)
Store = AppleStore | GooglePlay


class LossTest:
    """One run. `say` hears of every fault; `seed` tells a run again, as far as time allows."""

    def __init__(
        self,
        settings: Settings,
        folder: Path,
        count: int,
        *,
        seed: int = 1,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._shop = Shop(
            settings, folder, speed=SPEED, DAICHO_APPLE_HISTORY_SECONDS="3", DAICHO_GOOGLE_VOIDED_SECONDS="5"
        )
        self._count, self._random, self._say = count, random.Random(seed), say  # noqa: S311 keeps no secret
        self._sending = threading.Event()
        self._faults: list[str] = []
        self._ledger_file = settings.data_dir / "ledger.db"
        self._vault_file = settings.data_dir / "vault.db"
        self._data = settings.data_dir

    def run(self) -> tuple[Audit, list[str]]:
        """Send, disturb, drain, stop, audit, tie out; the faults beside it."""
        with self._shop as shop:
            shop.open()
            self._sending.set()
            chaos = threading.Thread(target=self._disturb, name="chaos")
            chaos.start()
            try:
                self._send()
            finally:
                self._sending.clear()
                chaos.join()
            self._drain()
            world = shop.world
            if shop.service is not None:
                shop.service.stop()
            found = audit(world, folder_of(self._data))
            tied = shop.tie_out()
            found.differences += [each["what"] for each in tied["differences"]]
            found.compared.update(tied["looked_at"])
            return found, self._faults

    # -- the stores --------------------------------------------------------------------------------------------------

    def _send(self) -> None:
        world = self._shop.world
        lines: list[tuple[Store, Line]] = []
        per_store = max(1, self._count // 2 // PER_LINE)
        for number in range(per_store):
            for store in (world.apple, world.google):
                self._wait_for_room()
                line = store.buy("daily.monthly")
                lines.append((store, line))
                if number % HAND_IN_EVERY == 0:
                    self._hand_in(store, line, len(lines))
        for round_ in range(PER_LINE - 1):
            for store, line in lines:
                self._wait_for_room()
                self._happen(store, line, round_)

    def _happen(self, store: Store, line: Line, round_: int) -> None:
        """Renewals, a grace period, a refund of the first charge; Apple loses one in a hundred."""
        if round_ == 3:  # noqa: PLR2004
            store.fail(line, grace=True)
        elif round_ == 7:  # noqa: PLR2004
            store.refund(line, charge=0)
        else:
            quiet = isinstance(store, AppleStore) and self._random.random() < QUIET_SHARE
            store.renew(line, quiet=quiet)

    def _hand_in(self, store: Store, line: Line, number: int) -> None:
        """The app's back end hands a purchase in until it is answered, as apps do."""
        body = {"user": f"user-{number}", "store": "apple", "signed_transaction": ""}
        if isinstance(store, AppleStore):
            body["signed_transaction"] = store.signed_transaction(line)
        else:
            body = {"user": f"user-{number}", "store": "google", "purchase_token": line.name, "product": line.product}
        headers = {"idempotency-key": f"loss-{number}", "prefer": "wait=0"}
        backend = self._shop.backend
        while True:
            try:
                response = backend.http.post("/v1/purchases", json=body, headers=headers, timeout=10.0)
                if response.status_code < httpx.codes.INTERNAL_SERVER_ERROR:
                    response.raise_for_status()
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.2)

    def _wait_for_room(self) -> None:
        while self._shop.world.delivery.pending > MOST_PENDING:
            time.sleep(0.002)

    # -- faults ------------------------------------------------------------------------------------------------------

    def _disturb(self) -> None:
        """One fault after the other, as long as something is sent."""
        kinds = [self._kill, self._lock_ledger, self._lock_vault, self._apis_away, self._billing_away]
        waiting: list[Callable[[], None]] = []
        while self._pause(self._random.uniform(*PAUSES)):
            if not waiting:  # each of them comes, in another order each time
                waiting = self._random.sample(kinds, len(kinds))
            fault = waiting.pop()
            self._faults.append(fault.__name__.strip("_").replace("_", " "))
            self._say(self._faults[-1])
            fault()

    def _pause(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self._sending.is_set():
            time.sleep(0.05)
        return self._sending.is_set()

    def _kill(self) -> None:
        self._shop.restart(kill=True)

    def _lock_ledger(self) -> None:
        self._hold(self._ledger_file, self._random.uniform(1.0, 12.0))

    def _lock_vault(self) -> None:
        self._hold(self._vault_file, self._random.uniform(1.0, 8.0))

    @staticmethod
    def _hold(file: Path, seconds: float) -> None:
        """Somebody else has the database: every write to it waits, or is refused."""
        with write_lock(file):
            time.sleep(seconds)

    def _apis_away(self) -> None:
        self._switch("apis_away", self._random.uniform(1.0, 5.0))

    def _billing_away(self) -> None:
        self._switch("billing_away", self._random.uniform(1.0, 5.0))

    def _switch(self, name: str, seconds: float) -> None:
        self._shop.world.faults.set(**{name: True})
        time.sleep(seconds)
        self._shop.world.faults.set(**{name: False})

    # -- the end -----------------------------------------------------------------------------------------------------

    def _drain(self) -> None:
        """Until nothing is to be sent, the spool is empty, and nothing has been written for a while."""
        deadline = time.monotonic() + max(DRAIN_SECONDS, self._count * DRAIN_SECONDS_EACH)
        quiet_since, head = time.monotonic(), -1
        while time.monotonic() < deadline:
            now = self._head()
            spooled = list((self._data / "spool").glob("*.record")) if (self._data / "spool").exists() else []
            if now != head or spooled or self._shop.world.delivery.pending:
                quiet_since, head = time.monotonic(), now
            if time.monotonic() - quiet_since > 12.0:  # noqa: PLR2004 longer than any pause between two attempts
                return
            time.sleep(0.2)

    def _head(self) -> int:
        try:
            answer = httpx.get(f"{self._shop.url}/readyz", timeout=5.0).json()
        except httpx.HTTPError:
            return -2
        return max((int(row["position"]) for row in answer["processors"]), default=0)

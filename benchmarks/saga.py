"""`python -m benchmarks.saga`: purchases at both stores while one call in a hundred to the billing system goes wrong.

Prints how many were accepted, how many at once, how long that took, and what became of all of them.
"""

import argparse
import json
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import quantiles
from tempfile import TemporaryDirectory
from typing import Final

import httpx

from cli.settings import load_settings
from cli.simulating.shop import Shop
from simulator.faults import Faults

OUT: Final = Path("build/saga.json")
SETTLE_SECONDS: Final = 3.0
FINAL_SECONDS: Final = 180.0
BUDGET_SECONDS: Final = 2.5
CLIENTS: Final = 6
# together one in a hundred: an error page with status 200, no answer before and after it was done
FAULTS: Final = {"billing_errors": 0.004, "billing_hang_before": 0.003, "billing_hang_after": 0.003}


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.saga", description=__doc__)
    parser.add_argument("--purchases", type=int, default=2_000)
    options = parser.parse_args()
    with TemporaryDirectory(prefix="daicho-saga-") as name:
        found = measure(Path(name), options.purchases)
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps(found, indent=1) + "\n")
    for key, value in found.items():
        sys.stdout.write(f"{key:<28}{value}\n")
    return 0


def measure(folder: Path, count: int) -> dict[str, object]:
    """Buy, wait for the end, count."""
    settings = load_settings(data_dir=folder / "data", log_level="error")
    faults = Faults(billing_hang_seconds=2.5, **FAULTS)  # type: ignore[arg-type]
    more = {"DAICHO_BILLING_SETTLE_SECONDS": str(SETTLE_SECONDS), "DAICHO_BILLING_TIMEOUT_SECONDS": "1.0"}
    with Shop(settings, folder, faults=faults, **more) as shop:
        shop.open()
        buyers = _Buyers(shop)
        began = time.monotonic()
        with ThreadPoolExecutor(CLIENTS) as pool:
            list(pool.map(buyers.buy, range(count)))
        seconds = time.monotonic() - began
        faults.set(**dict.fromkeys(FAULTS, 0.0))
        settled = _settle(shop, buyers, FINAL_SECONDS)
        contracts = Counter(each.user_id for each in shop.world.billing.active())
    at_once = sorted(buyers.seconds)
    final = sum(contracts[f"user-{number}"] == 1 for number in range(count))
    return {
        "purchases": count,
        "purchases_a_second": round(count / seconds, 1),
        "accepted": sum(buyers.statuses[status] for status in (201, 202)) / count,
        "statuses": dict(buyers.statuses),
        "share_of_201": buyers.statuses[201] / count,
        "p50_of_201_ms": round(at_once[len(at_once) // 2] * 1000),
        "p95_of_201_ms": round(quantiles(at_once, n=20)[18] * 1000),
        "final_after_s": round(settled, 1),
        "in_the_right_final_state": final / count,
        "doubled": sum(number > 1 for number in contracts.values()),
        "lost": count - sum(contracts[f"user-{number}"] > 0 for number in range(count)),
        "conditions": f"billing fails in 1 of 100 calls ({FAULTS}), {CLIENTS} clients, budget {BUDGET_SECONDS} s",
    }


class _Buyers:
    """Hand purchases in, half of them at each store."""

    def __init__(self, shop: Shop) -> None:
        self._shop = shop
        self.statuses: Counter[int] = Counter()
        self.seconds: list[float] = []
        self.purchases: list[str] = []
        self._lock = threading.Lock()

    def buy(self, number: int) -> None:
        """One purchase."""
        world, user = self._shop.world, f"user-{number}"
        if number % 2:
            line = world.apple.buy("daily.monthly")
            body = {"user": user, "store": "apple", "signed_transaction": world.apple.signed_transaction(line)}
        else:
            line = world.google.buy("daily.monthly")
            body = {"user": user, "store": "google", "purchase_token": line.name, "product": line.product}
        began = time.perf_counter()
        response = self._shop.backend.http.post("/v1/purchases", json=body, headers={"idempotency-key": user})
        took = time.perf_counter() - began
        with self._lock:
            self.statuses[response.status_code] += 1
            if response.status_code == httpx.codes.CREATED:
                self.seconds.append(took)
            if response.is_success:
                self.purchases.append(response.json()["id"])


def _settle(shop: Shop, buyers: _Buyers, limit: float) -> float:
    """Seconds until every purchase is done, `limit` at most."""
    began, left = time.monotonic(), list(buyers.purchases)
    while left and time.monotonic() - began < limit:
        left = [each for each in left if shop.backend.ask("GET", f"/v1/purchases/{each}")["state"] != "done"]
        if left:
            time.sleep(0.5)
    return time.monotonic() - began


if __name__ == "__main__":
    sys.exit(main())

"""Asking Google Play: the state of a purchase, acknowledging it, what was voided, a word on a refund.

https://developers.google.com/android-publisher/api-ref/rest
"""

from collections.abc import Callable, Iterator
from typing import Any, Final
from urllib.parse import quote

import httpx

from stores.answers import AnswerTooLong, bounded, wait_seconds
from stores.errors import PurchaseGone, StoreAway, StoreRefused
from stores.strict_json import read_object
from stores.verdict import MessageRefused

BASE_URL: Final = "https://androidpublisher.googleapis.com"
SUBSCRIPTIONS_TOO: Final = "1"  # of voidedpurchases.list: purchases and subscriptions
_GONE: Final = {404, 410}
# of what was asked itself; everything else (a token of ours that has run out, too) is mended on one of the two sides
_REFUSED: Final = {400, 409, 412, 422}
_MAX_PAGES: Final = 1_000


class PlayClient:
    """Blocking. `http` has the time-outs; `access_token` gives a token for the androidpublisher scope, and may block.

    Every call raises StoreAway, StoreRefused or PurchaseGone.
    """

    def __init__(
        self, http: httpx.Client, package: str, access_token: Callable[[], str], *, base_url: str = BASE_URL
    ) -> None:
        self._http, self._access_token = http, access_token
        self._root = f"{base_url}/androidpublisher/v3/applications/{quote(package, safe='')}"

    def subscription(self, purchase_token: str) -> dict[str, Any]:
        """The subscription of a purchase token (`purchases.subscriptionsv2.get`)."""
        return self._call("subscriptionsv2.get", "GET", f"/purchases/subscriptionsv2/tokens/{_part(purchase_token)}")

    def acknowledge(self, product: str, purchase_token: str) -> None:
        """Tell Google that the user has what he paid for; without it he is given his money back after three days.

        Repeating it changes nothing (`purchases.subscriptions.acknowledge`).
        """
        path = f"/purchases/subscriptions/{_part(product)}/tokens/{_part(purchase_token)}:acknowledge"
        self._call("subscriptions.acknowledge", "POST", path, body={})

    def revoke(self, purchase_token: str) -> None:
        """End a subscription at once and give all of the money back (`purchases.subscriptionsv2.revoke`)."""
        path = f"/purchases/subscriptionsv2/tokens/{_part(purchase_token)}:revoke"
        self._call("subscriptionsv2.revoke", "POST", path, body={"revocationContext": {"fullRefund": {}}})

    def voided(self, since_ms: int) -> Iterator[dict[str, Any]]:
        """All that was refunded or charged back since then, 30 days ago at most (`purchases.voidedpurchases.list`)."""
        query = {"startTime": str(since_ms), "type": SUBSCRIPTIONS_TOO}
        for _ in range(_MAX_PAGES):
            page = self._call("voidedpurchases.list", "GET", "/purchases/voidedpurchases", query=query)
            listed = page.get("voidedPurchases")
            yield from (each for each in (listed if isinstance(listed, list) else []) if isinstance(each, dict))
            pagination = page.get("tokenPagination")
            token = pagination.get("nextPageToken") if isinstance(pagination, dict) else None
            if not isinstance(token, str) or not token:
                return
            query["token"] = token
        raise StoreRefused("voidedpurchases.list: more pages than there can be")

    def review_refund(self, order: str, review: dict[str, Any]) -> None:
        """Say what we think of a refund that a user has asked for; the first word counts (`orders.reviewrefund`)."""
        self._call("orders.reviewrefund", "POST", f"/orders/{_part(order)}:reviewrefund", body=review)

    def _call(
        self,
        name: str,
        method: str,
        path: str,
        *,
        body: dict[str, Any] | None = None,
        query: dict[str, str] | None = None,
    ) -> dict[str, Any]:
        try:
            with self._http.stream(
                method,
                self._root + path,
                json=body,
                params=query,
                headers={"authorization": f"Bearer {self._access_token()}"},
            ) as response:
                content = bounded(response)
        except (httpx.HTTPError, AnswerTooLong) as error:
            raise StoreAway(f"{name}: {type(error).__name__}") from None  # its text holds the address, and the token
        status = response.status_code
        if status in _GONE and _by_google(content):
            raise PurchaseGone(f"{name}: status {status}")
        if status in _REFUSED:
            raise StoreRefused(f"{name}: status {status}")
        if not response.is_success:
            raise StoreAway(f"{name}: status {status}", wait_seconds(response.headers.get("retry-after", "")))
        if not content:
            return {}
        try:
            return read_object(content)
        except MessageRefused as refused:
            raise StoreAway(f"{name}: an answer that is {refused.rule}") from None


def _part(text: str) -> str:
    return quote(text, safe="")


def _by_google(content: bytes) -> bool:
    """Whether an error is Google's own (https://google.aip.dev/193): a proxy's page says nothing of the purchase."""
    try:
        return isinstance(read_object(content).get("error"), dict)
    except MessageRefused:
        return False

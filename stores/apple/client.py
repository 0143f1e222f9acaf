"""Asking Apple: what was notified and never arrived, how a subscription stands, a word on a refund.

https://developer.apple.com/documentation/appstoreserverapi
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NamedTuple
from urllib.parse import quote

import httpx
import jwt

from stores.answers import LONGEST_WAIT_SECONDS, AnswerTooLong, bounded
from stores.errors import PurchaseGone, StoreAway, StoreRefused
from stores.fields import digits_of
from stores.strict_json import read_object
from stores.verdict import MessageRefused

PRODUCTION_URL: Final = "https://api.storekit.itunes.apple.com"
SANDBOX_URL: Final = "https://api.storekit-sandbox.itunes.apple.com"
_AUDIENCE: Final = "appstoreconnect-v1"
_TOKEN_SECONDS: Final = 300
_RENEW_BEFORE_SECONDS: Final = 60.0
_MAX_PAGES: Final = 100_000
# of the lookup itself; the retryable ones (4040002, 4040004, 4040006) say so themselves
_RETRYABLE: Final = {4040002, 4040004, 4040006, 4290000, 5000000, 5000001}
_NOT_FOUND: Final = 404
_NOT_FOUND_CODES: Final = range(4_040_000, 4_050_000)  # a proxy's 404 has none, and says nothing of the purchase
_REFUSED: Final = {400, 403, 409, 422}


class Missed(NamedTuple):
    """A notification out of Apple's own history. `delivered`: Apple has heard from us that it arrived."""

    signed_payload: str
    delivered: bool


class Status(NamedTuple):
    """How one subscription stands: Apple's number, and both parts as signed."""

    line: str
    status: int
    signed_transaction: str
    signed_renewal: str


class AppleClient:
    """Blocking; `http` has the time-outs. Every call raises StoreAway, StoreRefused or PurchaseGone."""

    def __init__(
        self,
        http: httpx.Client,
        key: bytes,
        key_id: str,
        issuer_id: str,
        bundle_id: str,
        *,
        base_url: str = PRODUCTION_URL,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`key`: the private key (PEM) made in App Store Connect. Raises ValueError for what is none."""
        self._http, self._root, self._now = http, f"{base_url.rstrip('/')}/inApps", now
        self._key, self._key_id, self._issuer, self._bundle = key, key_id, issuer_id, bundle_id
        self._lock = threading.Lock()
        self._token_text, self._until = "", float("-inf")
        self._token()

    def __repr__(self) -> str:
        return f"AppleClient({self._bundle}, key {self._key_id})"

    def history(self, start_ms: int, end_ms: int, *, only_failures: bool = False) -> Iterator[Missed]:
        """All notifications between two moments, 180 days ago at most (`Get Notification History`)."""
        body: dict[str, Any] = {"startDate": start_ms, "endDate": end_ms}
        if only_failures:
            body["onlyFailures"] = True
        query: dict[str, str] = {}
        for _ in range(_MAX_PAGES):
            page = self._call("history", "POST", "/v1/notifications/history", body=body, query=query)
            for item in _objects(page.get("notificationHistory")):
                payload = item.get("signedPayload")
                if isinstance(payload, str):
                    results = [each.get("sendAttemptResult") for each in _objects(item.get("sendAttempts"))]
                    yield Missed(payload, "SUCCESS" in results)
            if page.get("hasMore") is False:
                return
            token = page.get("paginationToken")
            if page.get("hasMore") is not True or not isinstance(token, str):
                raise StoreAway("history: a page that does not say whether it is the last")  # what if it is not?
            query["paginationToken"] = token
        raise StoreRefused("history: more pages than there can be")

    def statuses(self, transaction_id: str) -> list[Status]:
        """The subscriptions of whoever bought this (`Get All Subscription Statuses`)."""
        found = self._call("statuses", "GET", f"/v1/subscriptions/{_part(transaction_id)}")
        lasts = [last for group in _objects(found.get("data")) for last in _objects(group.get("lastTransactions"))]
        return [status for last in lasts if (status := _status(last)) is not None]

    def send_consumption(self, transaction_id: str, body: dict[str, Any]) -> None:
        """Say what we think of a refund that a user has asked for (`Send Consumption Information`, version 2)."""
        self._call("consumption", "PUT", f"/v2/transactions/consumption/{_part(transaction_id)}", body=body)

    def finish(self, transaction_id: str) -> None:
        """Tell Apple that the user has what he paid for; repeating it changes nothing."""
        self._call("finish", "POST", f"/v1/transactions/{_part(transaction_id)}/finish")

    def request_test(self) -> None:
        """Ask for a notification of type TEST."""
        self._call("test", "POST", "/v1/notifications/test")

    # -- inside ------------------------------------------------------------------------------------------------------

    def _token(self) -> str:
        """A token that holds for a minute at least."""
        with self._lock:
            if self._now() >= self._until - _RENEW_BEFORE_SECONDS:
                now = int(self._now())
                claims = {
                    "iss": self._issuer, "iat": now, "exp": now + _TOKEN_SECONDS, "aud": _AUDIENCE,
                    "bid": self._bundle,
                }  # fmt: skip
                try:
                    self._token_text = jwt.encode(claims, self._key, "ES256", headers={"kid": self._key_id})
                except (jwt.PyJWTError, ValueError, TypeError):
                    raise ValueError("not a private key for ES256") from None
                self._until = float(now + _TOKEN_SECONDS)
            return self._token_text

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
                params=query or None,
                headers={"authorization": f"Bearer {self._token()}"},
            ) as response:
                found = self._read(bounded(response))
        except (httpx.HTTPError, AnswerTooLong) as error:
            raise StoreAway(f"{name}: {type(error).__name__}") from None
        if response.is_success:
            if found is None:
                raise StoreAway(f"{name}: an answer that cannot be read")
            return found
        code = _code(found or {})
        told = f"{name}: status {response.status_code}, error {code or 'unnamed'}"
        if code not in _RETRYABLE:
            if response.status_code == _NOT_FOUND and code in _NOT_FOUND_CODES:
                raise PurchaseGone(told)
            if response.status_code in _REFUSED:
                raise StoreRefused(told)
        raise StoreAway(told, self._wait(response.headers.get("retry-after", "")))

    @staticmethod
    def _read(content: bytes) -> dict[str, Any] | None:
        """The object that was answered; an empty one for nothing, None for what is none."""
        if not content:
            return {}
        try:
            return read_object(content)
        except MessageRefused:
            return None

    def _wait(self, asked: str) -> float | None:
        """Apple names the moment, in milliseconds since 1970-01-01 UTC."""
        until = digits_of(asked)
        return None if until is None else min(LONGEST_WAIT_SECONDS, max(0.0, until / 1000 - self._now()))


def _code(found: dict[str, Any]) -> int:
    """Apple's number of an error; 0 where there is none."""
    code = found.get("errorCode")
    return code if type(code) is int else 0


def _part(text: str) -> str:
    return quote(text, safe="")


def _objects(value: Any) -> Sequence[dict[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _status(last: dict[str, Any]) -> Status | None:
    line, status = last.get("originalTransactionId"), last.get("status")
    transaction, renewal = last.get("signedTransactionInfo"), last.get("signedRenewalInfo")
    if not isinstance(line, str) or type(status) is not int:
        return None
    if not isinstance(transaction, str) or not isinstance(renewal, str):
        return None
    return Status(line, status, transaction, renewal)

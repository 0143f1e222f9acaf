"""Google's public keys: kept as long as Google allows, a day longer while they cannot be had, and not asked for often.

Keys change about daily. A key id that is not known may be a new key or a stranger's invention: it is worth one look at
Google in `COOLDOWN_SECONDS`, and until then the answer is "not now", which the sender repeats in seconds.
"""

import re
import threading
import time
from collections.abc import Callable
from typing import Final, NamedTuple

import httpx
import jwt

from stores.strict_json import read_object
from stores.verdict import MessageRefused

COOLDOWN_SECONDS: Final = 30.0
STALE_SECONDS: Final = 86_400.0
SHORTEST_SECONDS: Final = 60.0
LONGEST_SECONDS: Final = 86_400.0
DEFAULT_SECONDS: Final = 300.0
MAX_BYTES: Final = 65_536
_MAX_AGE: Final = re.compile(r"(?:^|[\s,])max-age=(\d{1,9})(?:$|[\s,])")


class KeyUnavailable(Exception):
    """The key is not there and cannot be had just now. Says nothing about whoever named it."""


class FetchFailed(Exception):
    """The keys could not be fetched."""


class Fetched(NamedTuple):
    """What a look at the key server gave: the body, and for how long it may be kept."""

    body: bytes
    seconds: float


def http_fetch(client: httpx.Client, url: str) -> Callable[[], Fetched]:
    """Fetching from a URL; FetchFailed for anything but a whole, small answer with status 200."""

    def fetch() -> Fetched:
        try:
            with client.stream("GET", url) as response:
                if response.status_code != httpx.codes.OK:
                    raise FetchFailed(f"status {response.status_code}")
                body = b""
                for part in response.iter_bytes():
                    body += part
                    if len(body) > MAX_BYTES:
                        raise FetchFailed(f"more than {MAX_BYTES} bytes")
                found = _MAX_AGE.search(response.headers.get("cache-control", ""))
        except httpx.HTTPError as error:
            raise FetchFailed(type(error).__name__) from error
        seconds = float(found[1]) if found else DEFAULT_SECONDS
        return Fetched(body, min(LONGEST_SECONDS, max(SHORTEST_SECONDS, seconds)))

    return fetch


class _Known(NamedTuple):
    """The keys of the last answer. Never changed, only replaced."""

    keys: dict[str, jwt.PyJWK]
    fresh_until: float
    usable_until: float


class KeySet:
    """Keys by id, from any thread. `now` in seconds on a clock that never goes back.

    One thread fetches at a time. Who has a usable key at hand does not wait for it.
    """

    def __init__(self, fetch: Callable[[], Fetched], *, now: Callable[[], float] = time.monotonic) -> None:
        self._fetch, self.now = fetch, now
        self._fetching = threading.Lock()
        self._known = _Known({}, float("-inf"), float("-inf"))
        self._next_try = float("-inf")

    def key(self, kid: str) -> jwt.PyJWK:
        """The key of that id. Raises KeyUnavailable."""
        found = self._usable(kid)
        if found is not None and self.now() < self._known.fresh_until:
            return found
        if self._fetching.acquire(blocking=found is None):
            try:
                self._renew_for(kid)
            finally:
                self._fetching.release()
        found = self._usable(kid)
        if found is None:
            raise KeyUnavailable("no such key just now")
        return found

    @property
    def usable_until(self) -> float:
        """When the keys that are known must not be used any more, on the clock `now`."""
        return self._known.usable_until

    def _usable(self, kid: str) -> jwt.PyJWK | None:
        known = self._known
        return known.keys.get(kid) if self.now() < known.usable_until else None

    def _renew_for(self, kid: str) -> None:
        now, known = self.now(), self._known
        if now < self._next_try or (kid in known.keys and now < known.fresh_until):
            return
        self._next_try = now + COOLDOWN_SECONDS
        try:
            fetched = self._fetch()
            keys = self._read(fetched.body)
        except (FetchFailed, MessageRefused):
            return  # what there is goes on for a while
        fresh_until = now + fetched.seconds
        self._known = _Known(keys, fresh_until, fresh_until + STALE_SECONDS)

    @staticmethod
    def _read(body: bytes) -> dict[str, jwt.PyJWK]:
        """The usable keys of a JWK set (RFC 7517); MessageRefused when there is none."""
        listed = read_object(body).get("keys")
        keys: dict[str, jwt.PyJWK] = {}
        for each in listed if isinstance(listed, list) else []:
            if not isinstance(each, dict) or each.get("kty") != "RSA" or not isinstance(each.get("kid"), str):
                continue
            try:
                keys[each["kid"]] = jwt.PyJWK(each, algorithm="RS256")
            except (jwt.PyJWTError, ValueError, TypeError, KeyError):
                continue
        if not keys:
            raise MessageRefused("no key in it")
        return keys

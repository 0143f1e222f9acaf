"""The access token for the Google Play API, out of a service account's key: a JWT bearer grant (RFC 7523).

https://developers.google.com/identity/protocols/oauth2/service-account
"""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import httpx
import jwt
import msgspec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from stores.errors import StoreAway
from stores.google.push import GoogleSettingsError

SCOPE: Final = "https://www.googleapis.com/auth/androidpublisher"
_GRANT: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_LIFETIME_SECONDS: Final = 3_600
_RENEW_BEFORE_SECONDS: Final = 60.0
_MAX_BYTES: Final = 65_536


class _KeyFile(msgspec.Struct):
    client_email: str
    private_key: str
    token_uri: str


class _Token(msgspec.Struct):
    access_token: str
    expires_in: float


class AccessToken:
    """Gives a token that holds for a minute at least. Blocking; one thread fetches at a time. Raises StoreAway."""

    def __init__(self, http: httpx.Client, key_file: Path, *, now: Callable[[], float] = time.time) -> None:
        """Raise GoogleSettingsError for a file that is no service account's key."""
        try:
            found = msgspec.json.decode(key_file.read_bytes(), type=_KeyFile)
            load_pem_private_key(found.private_key.encode(), None)
        except (OSError, msgspec.DecodeError, ValueError, TypeError) as error:
            raise GoogleSettingsError(f"{key_file} is no service account key: {type(error).__name__}") from None
        self._http, self._now, self._key = http, now, found
        self._lock = threading.Lock()
        self._token, self._until = "", float("-inf")

    def __repr__(self) -> str:
        return f"AccessToken({self._key.client_email})"

    def __call__(self) -> str:
        """The token."""
        with self._lock:
            if self._now() >= self._until - _RENEW_BEFORE_SECONDS:
                self._renew()
            return self._token

    def _renew(self) -> None:
        now = int(self._now())
        claims = {
            "iss": self._key.client_email, "scope": SCOPE, "aud": self._key.token_uri, "iat": now,
            "exp": now + _LIFETIME_SECONDS,
        }  # fmt: skip
        assertion = jwt.encode(claims, self._key.private_key, "RS256")
        try:
            response = self._http.post(self._key.token_uri, data={"grant_type": _GRANT, "assertion": assertion})
        except httpx.HTTPError as error:
            raise StoreAway(f"token: {type(error).__name__}") from None
        if not response.is_success or len(response.content) > _MAX_BYTES:
            raise StoreAway(f"token: status {response.status_code}")
        try:
            token = msgspec.json.decode(response.content, type=_Token)
        except msgspec.DecodeError:
            raise StoreAway("token: an answer that is none") from None
        self._token, self._until = token.access_token, self._now() + token.expires_in

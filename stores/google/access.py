"""The access token for the Google Play API, out of a service account's key: a JWT bearer grant (RFC 7523).

https://developers.google.com/identity/protocols/oauth2/service-account
"""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Final

import httpx
import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from msgspec import Meta

from stores.answers import AnswerTooLong, bounded
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

    def __repr__(self) -> str:
        return f"_KeyFile({self.client_email})"


class _Token(msgspec.Struct):
    access_token: Annotated[str, Meta(min_length=1, pattern=r"\A[\x21-\x7e]+\Z")]
    expires_in: Annotated[float, Meta(gt=0)]

    def __repr__(self) -> str:
        return f"_Token(for {self.expires_in} s)"


class AccessToken:
    """Gives a token that holds for a minute at least. Blocking; one thread fetches at a time. Raises StoreAway."""

    def __init__(self, http: httpx.Client, key_file: Path, *, now: Callable[[], float] = time.time) -> None:
        """Raise GoogleSettingsError for a file that is no service account's key."""
        try:
            found = msgspec.json.decode(key_file.read_bytes(), type=_KeyFile)
            key = load_pem_private_key(found.private_key.encode(), None)
        except (OSError, msgspec.DecodeError, ValueError, TypeError) as error:
            raise GoogleSettingsError(f"{key_file} is no service account key: {type(error).__name__}") from None
        if not isinstance(key, RSAPrivateKey):
            raise GoogleSettingsError(f"{key_file} is no service account key: {type(key).__name__}, not RSA")
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
            form = {"grant_type": _GRANT, "assertion": assertion}
            with self._http.stream("POST", self._key.token_uri, data=form) as response:
                content = bounded(response, max_bytes=_MAX_BYTES)
        except (httpx.HTTPError, AnswerTooLong) as error:
            raise StoreAway(f"token: {type(error).__name__}") from None
        if not response.is_success:
            raise StoreAway(f"token: status {response.status_code}")
        try:
            token = msgspec.json.decode(content, type=_Token)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise StoreAway("token: an answer that is none") from None
        self._token, self._until = token.access_token, self._now() + token.expires_in

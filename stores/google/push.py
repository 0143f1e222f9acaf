"""Whether a push is from our own Pub/Sub subscription: the OIDC token that Google puts on each.

Anybody at Google can have a token made for our audience. Who really speaks is told by the e-mail address of the service
account that pushes, and only where Google says that it has verified it.

https://cloud.google.com/pubsub/docs/authenticate-push-subscriptions
"""

import time
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import jwt

from stores.google.keys import KeySet, KeyUnavailable
from stores.verdict import Verdict

ISSUERS: Final = ("https://accounts.google.com", "accounts.google.com")
LEEWAY_SECONDS: Final = 30.0
MAX_TOKEN_CHARACTERS: Final = 8_192
MAX_HELD: Final = 1_000
HELD_SECONDS: Final = 60.0
_SCHEME: Final = "bearer "


class GoogleSettingsError(ValueError):
    """A setting under which anybody could speak for Google."""


@dataclass(frozen=True)
class GoogleApp:
    """Our app at Google, and the subscription that pushes to us.

    `audience`: what the subscription is told to name. `service_account`: the e-mail address that it pushes as.
    """

    package: str
    subscription: str
    audience: str
    service_account: str

    def __post_init__(self) -> None:
        for name in ("package", "subscription", "audience", "service_account"):
            if not getattr(self, name):
                raise GoogleSettingsError(f"{name} is missing")


class Push(NamedTuple):
    """What was found out about a token. `key` (a JWK) is kept beside the payload, to verify it again later."""

    verdict: Verdict
    reason: str = ""
    key: dict[str, Any] | None = None


class PushVerifier:
    """Thread-safe; blocks while keys are fetched. A token that holds is remembered for `held_seconds` at most."""

    def __init__(self, app: GoogleApp, keys: KeySet, *, held_seconds: float = HELD_SECONDS) -> None:
        self._app, self._keys, self._held_seconds = app, keys, held_seconds
        self._held: dict[str, tuple[Push, float]] = {}

    def verify(self, authorization: str) -> Push:
        """Judge the Authorization header of a push. Never raises for what a stranger may send.

        1. a bearer token, signed with RS256 and naming its key;
        2. the key is one of Google's; UNAVAILABLE when that cannot be known now;
        3. signature, issuer, audience, dates;
        4. the service account that pushes to us, its address verified.
        """
        token = authorization[len(_SCHEME) :].strip() if authorization.lower().startswith(_SCHEME) else ""
        if not token or len(token) > MAX_TOKEN_CHARACTERS:
            return Push(Verdict.INVALID, "no bearer token")
        held = self._held.get(token)  # Pub/Sub puts the same token on many pushes
        if held is not None and self._keys.now() < held[1]:
            return held[0]
        try:
            header = jwt.get_unverified_header(token)  # 1
        except jwt.PyJWTError:
            return Push(Verdict.INVALID, "not a JWT")
        kid = header.get("kid")
        if header.get("alg") != "RS256" or not isinstance(kid, str):
            return Push(Verdict.INVALID, "not signed with RS256 by a named key")
        try:
            key = self._keys.key(kid)  # 2
        except KeyUnavailable:
            return Push(Verdict.UNAVAILABLE, "the key cannot be had just now")
        return self._judge(token, key)

    def _judge(self, token: str, key: jwt.PyJWK) -> Push:
        try:
            claims = jwt.decode(  # 3
                token,
                key.key,
                algorithms=["RS256"],
                audience=self._app.audience,
                issuer=ISSUERS,
                leeway=LEEWAY_SECONDS,
                options={"require": ["exp", "iat", "aud", "iss", "sub"]},
            )
        except jwt.PyJWTError as error:
            return Push(Verdict.INVALID, f"token: {type(error).__name__}")
        if claims.get("email") != self._app.service_account or claims.get("email_verified") is not True:  # 4
            return Push(Verdict.INVALID, "not from the service account that pushes to us")
        jwk = jwt.algorithms.RSAAlgorithm.to_jwk(key.key, as_dict=True)
        return self._hold(token, claims, Push(Verdict.VALID, "", jwk))

    def _hold(self, token: str, claims: dict[str, Any], push: Push) -> Push:
        """Remember a token that holds, for a minute at most: a key may be withdrawn meanwhile."""
        if len(self._held) >= MAX_HELD:
            self._held.clear()
        left = min(float(claims["exp"]) - time.time(), self._held_seconds)
        self._held[token] = push, min(self._keys.now() + left, self._keys.usable_until)
        return push

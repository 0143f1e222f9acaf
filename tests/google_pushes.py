"""What Pub/Sub pushes, with a key server of our own: really signed tokens, envelopes as Google documents them."""

import base64
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa

from stores.google.push import GoogleApp
from tests.http_stub import Answer, Asked, Stub, serving

NOW = int(time.time() * 1000)
"""When everything happens that a test gives no time for; the same each time, so that a message may be repeated."""
APP = GoogleApp(
    "com.example.daily", "projects/p/subscriptions/s", "https://pay.example/push", "push@p.iam.gserviceaccount.com"
)


class KeyServer:
    """Google's keys by name; `published` are those that it gives out, `away` makes it answer 503."""

    def __init__(self) -> None:
        self.keys = {name: rsa.generate_private_key(65537, 2048) for name in ("one", "two")}
        self.published = ["one"]
        self.away = False
        self.url = ""

    def answer(self, _: Asked) -> Answer:
        """The JWKS."""
        if self.away:
            return Answer(status=503)
        listed = []
        for name in self.published:
            made: dict[str, Any] = jwt.algorithms.RSAAlgorithm.to_jwk(self.keys[name].public_key(), as_dict=True)
            listed.append({**made, "kid": name, "alg": "RS256", "use": "sig"})
        return Answer({"keys": listed}, headers={"cache-control": "max-age=3600"})

    def bearer(self, key: str = "one", **claims: Any) -> str:
        """An Authorization header; `claims` replace (None takes one away)."""
        now = int(time.time())
        content = {
            "iss": "https://accounts.google.com", "aud": APP.audience, "sub": "1", "email": APP.service_account,
            "email_verified": True, "iat": now, "exp": now + 3600, **claims,
        }  # fmt: skip
        content = {name: value for name, value in content.items() if value is not None}
        return "Bearer " + jwt.encode(content, self.keys[key], "RS256", headers={"kid": key})


@contextmanager
def key_server() -> Iterator[tuple[KeyServer, Stub]]:
    """A key server on loopback, until the end of the block."""
    server = KeyServer()
    with serving(server.answer) as stub:
        server.url = stub.url
        yield server, stub


def notification(token: str = "token-1", code: int = 4, at: int = NOW, **more: Any) -> dict[str, Any]:
    """A developer notification about a subscription."""
    return {
        "version": "1.0", "packageName": APP.package, "eventTimeMillis": str(at),
        "subscriptionNotification": {"version": "1.0", "notificationType": code, "purchaseToken": token}, **more,
    }  # fmt: skip


def envelope(data: Any, message: str = "136969346945", **more: Any) -> bytes:
    """The body of a push; `data` is sent as it is when it is text."""
    encoded = data if isinstance(data, str) else base64.b64encode(json.dumps(data).encode()).decode()
    inner = {"data": encoded, "messageId": message, "publishTime": "2026-11-27T00:00:00Z"}
    return json.dumps({"message": inner, "subscription": APP.subscription, **more}).encode()

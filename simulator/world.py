"""Both stores, the billing system and their servers as one: what a demo, a test or a person works with.

with World().running() as world:
world.notify(apple="http://…/v1/stores/apple/notifications", google="http://…")
line = world.apple.buy("daily.monthly", account)
"""

import base64
import json
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, Self

import jwt
import uvicorn
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from simulator.apple import AppleStore
from simulator.authority import OcspResponder, StoreCa
from simulator.billing import Billing
from simulator.clock import Clock
from simulator.delivery import Delivery
from simulator.faults import Faults
from simulator.google import GoogleNotification, GooglePlay

BUNDLE: Final = "com.example.daily"
APP_ID: Final = 1_234_567
PACKAGE: Final = "com.example.daily"
SUBSCRIPTION: Final = "projects/daily/subscriptions/rtdn"
AUDIENCE: Final = "https://daicho.example/google"
PUSH_ACCOUNT: Final = "push@daily.iam.gserviceaccount.com"
PLAY_ACCOUNT: Final = "play@daily.iam.gserviceaccount.com"
KEY_ID: Final = "2X9R4HXF34"
ISSUER_ID: Final = "57246542-96fe-1a63-e053-0824d011072a"
START_SECONDS: Final = 20.0


class World:
    """`speed` compresses waiting (retries, deadlines), never dates. `url` is set while it is running."""

    def __init__(self, *, speed: float = 1.0, faults: Faults | None = None, plans: set[str] | None = None) -> None:
        self.clock, self.faults, self.url = Clock(speed), faults or Faults(), ""
        self.ocsp = OcspResponder()
        self.billing = Billing(self.faults, plans)
        self.billing_token = secrets.token_urlsafe(24)
        self.push_keys = {"k1": rsa.generate_private_key(65537, 2048)}
        self.play_key = rsa.generate_private_key(65537, 2048)
        self.api_key = ec.generate_private_key(ec.SECP256R1())
        self.play_tokens: dict[str, float] = {}
        self.google = GooglePlay(PACKAGE, self.clock)
        self.delivery = Delivery(self.clock, self.faults, self.bearer, self.envelope)
        self.google.notify = self.delivery.send
        self._apple: AppleStore | None = None

    @property
    def apple(self) -> AppleStore:
        """The App Store; there once the world is running, since certificates name the responder's address."""
        if self._apple is None:
            raise RuntimeError("the world is not running")
        return self._apple

    @contextmanager
    def running(self, host: str = "127.0.0.1", port: int = 0) -> Iterator[Self]:
        """Serve in a thread until the end of the block."""
        from simulator.server import application

        server = uvicorn.Server(
            uvicorn.Config(application(self), host=host, port=port, log_level="error", lifespan="on", ws="none")
        )
        thread = threading.Thread(target=server.run, name="simulator", daemon=True)
        thread.start()
        deadline = time.monotonic() + START_SECONDS
        while not server.started and thread.is_alive() and time.monotonic() < deadline:
            time.sleep(0.01)
        if not server.started:
            raise RuntimeError("the simulator could not be started")
        bound = server.servers[0].sockets[0].getsockname()[1]
        self._open(f"http://{host}:{bound}")
        try:
            yield self
        finally:
            server.should_exit = True
            thread.join(START_SECONDS)

    def notify(self, *, apple: str | None = None, google: str | None = None) -> None:
        """Where notifications are posted."""
        self.delivery.apple_url, self.delivery.google_url = apple, google

    def settle(self, seconds: float = 30.0) -> bool:
        """Wait until nothing is left to be sent; False when that takes too long."""
        deadline = time.monotonic() + seconds
        while self.delivery.pending and time.monotonic() < deadline:
            time.sleep(0.01)
        return not self.delivery.pending

    # -- what the ledger has to be told ------------------------------------------------------------------------------

    @property
    def root(self) -> bytes:
        """The root certificate to trust in place of Apple's (DER)."""
        return self.apple.authority.root.der

    @property
    def play_key_file(self) -> bytes:
        """A service account's key file for the Play API (JSON)."""
        pem = self.play_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
        return json.dumps(
            {"type": "service_account", "client_email": PLAY_ACCOUNT, "private_key": pem,
             "token_uri": f"{self.url}/google/token"}
        ).encode()  # fmt: skip

    @property
    def apple_key(self) -> bytes:
        """The key for the App Store Server API (PEM)."""
        return self.api_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def settings(self, company: str) -> dict[str, str]:
        """The settings of a ledger that these stores sell for; files are up to the caller."""
        return {
            "DAICHO_STORE_COMPANY": company, "DAICHO_APPLE_BUNDLE_ID": BUNDLE, "DAICHO_APPLE_APP_ID": str(APP_ID),
            "DAICHO_APPLE_API_URL": f"{self.url}/apple", "DAICHO_APPLE_KEY_ID": KEY_ID,
            "DAICHO_APPLE_ISSUER_ID": ISSUER_ID, "DAICHO_GOOGLE_PACKAGE": PACKAGE,
            "DAICHO_GOOGLE_SUBSCRIPTION": SUBSCRIPTION, "DAICHO_GOOGLE_AUDIENCE": AUDIENCE,
            "DAICHO_GOOGLE_PUSH_ACCOUNT": PUSH_ACCOUNT, "DAICHO_GOOGLE_JWKS_URL": f"{self.url}/google/certs",
            "DAICHO_GOOGLE_API_URL": f"{self.url}/google", "DAICHO_BILLING_URL": f"{self.url}/billing",
            "DAICHO_BILLING_TOKEN": self.billing_token,
        }  # fmt: skip

    # -- formats of Pub/Sub ------------------------------------------------------------------------------------------

    def rotate_push_key(self) -> None:
        """Google signs with a new key from now on; the old one is published no longer."""
        self.push_keys = {f"k{len(self.push_keys) + int(time.time())}": rsa.generate_private_key(65537, 2048)}

    def bearer(self) -> str:
        """The Authorization header of a push."""
        ((kid, key),) = self.push_keys.items()
        now = int(time.time())
        claims = {
            "iss": "https://accounts.google.com", "aud": AUDIENCE, "azp": "1", "sub": "1", "email": PUSH_ACCOUNT,
            "email_verified": True, "iat": now, "exp": now + 3600,
        }  # fmt: skip
        return "Bearer " + jwt.encode(claims, key, "RS256", headers={"kid": kid})

    @staticmethod
    def envelope(message: GoogleNotification, attempt: int) -> bytes:
        """The body of a push."""
        data = base64.b64encode(json.dumps(message.data).encode()).decode()
        inner = {"data": data, "messageId": message.id, "message_id": message.id, "publishTime": "2026-01-01T00:00:00Z"}
        body: dict[str, Any] = {"message": inner, "subscription": SUBSCRIPTION}
        if attempt:
            body["deliveryAttempt"] = attempt
        return json.dumps(body).encode()

    def _open(self, url: str) -> None:
        self.url = url
        self.ocsp.url = f"{url}/ocsp"
        authority = StoreCa(ocsp_url=self.ocsp.url)
        self.ocsp.authorities.append(authority)
        self._apple = AppleStore(authority, BUNDLE, APP_ID, self.clock)
        self._apple.notify = self.delivery.send

"""Only our own Pub/Sub subscription is believed: every attack by its name, with real keys from a real key server."""

import base64
import contextlib
import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from stores.google.keys import (
    COOLDOWN_SECONDS,
    MAX_BYTES,
    STALE_SECONDS,
    FetchFailed,
    KeySet,
    KeyUnavailable,
    http_fetch,
)
from stores.google.push import GoogleApp, GoogleSettingsError, Push, PushVerifier
from stores.verdict import Verdict
from tests.http_stub import Answer, Asked, Stub, serving

APP = GoogleApp(
    "com.example.daily", "projects/p/subscriptions/s", "https://pay.example/push", "push@p.iam.gserviceaccount.com"
)
KEYS = {name: rsa.generate_private_key(65537, 2048) for name in ("one", "two", "stranger's")}


class Google:
    """The key server: `published` are the ids of its keys."""

    def __init__(self) -> None:
        self.published = ["one"]
        self.fault: Answer | None = None
        self.max_age = "max-age=3600"
        self.clock = 1_000.0

    def answer(self, _: Asked) -> Answer:
        if self.fault is not None:
            return self.fault
        return Answer({"keys": [self.jwk(name) for name in self.published]}, headers={"cache-control": self.max_age})

    @staticmethod
    def jwk(name: str) -> dict[str, Any]:
        made: dict[str, Any] = jwt.algorithms.RSAAlgorithm.to_jwk(KEYS[name].public_key(), as_dict=True)
        return {**made, "kid": name, "alg": "RS256", "use": "sig"}


@pytest.fixture
def google() -> Google:
    return Google()


@pytest.fixture
def server(google: Google) -> Iterator[Stub]:
    with serving(google.answer) as running:
        yield running


@pytest.fixture
def keys(google: Google, server: Stub) -> Iterator[KeySet]:
    with httpx.Client(timeout=5.0) as client:
        yield KeySet(http_fetch(client, server.url), now=lambda: google.clock)


@pytest.fixture
def verifier(keys: KeySet) -> PushVerifier:
    return PushVerifier(APP, keys)


def claims(**more: Any) -> dict[str, Any]:
    now = int(time.time())
    found = {
        "iss": "https://accounts.google.com", "aud": APP.audience, "azp": "1", "sub": "1", "iat": now,
        "exp": now + 3_600, "email": APP.service_account, "email_verified": True, **more,
    }  # fmt: skip
    return {name: value for name, value in found.items() if value is not None}


def token(kid: str | None = "one", key: Any = None, algorithm: str = "RS256", **more: Any) -> str:
    headers = {} if kid is None else {"kid": kid}
    return "Bearer " + jwt.encode(claims(**more), key or KEYS["one"], algorithm=algorithm, headers=headers)


def test_a_push_of_our_own_subscription_is_believed(verifier: PushVerifier) -> None:
    found = verifier.verify(token())
    assert found.verdict is Verdict.VALID
    assert found.key == jwt.algorithms.RSAAlgorithm.to_jwk(KEYS["one"].public_key(), as_dict=True)
    assert verifier.verify(token(iss="accounts.google.com")).verdict is Verdict.VALID
    assert verifier.verify(token(iat=int(time.time()) + 20)).verdict is Verdict.VALID, "clocks differ a little"


WRONG: dict[str, dict[str, Any]] = {
    "another issuer": {"iss": "https://accounts.example.com"},
    "no issuer": {"iss": None},
    "another audience": {"aud": "https://other.example/push"},
    "no audience": {"aud": None},
    "the token of another tenant": {"email": "push@other.iam.gserviceaccount.com"},
    "no e-mail": {"email": None},
    "an e-mail that is not verified": {"email_verified": False},
    "an e-mail verified in words": {"email_verified": "true"},
    "an e-mail verified by a number": {"email_verified": 1},
    "an e-mail of which nothing is said": {"email_verified": None},
    "expired": {"exp": int(time.time()) - 31},
    "no expiry": {"exp": None},
    "from the future": {"iat": int(time.time()) + 3_600},
    "no subject": {"sub": None},
    "another key under a known name": {"key": KEYS["stranger's"]},
    "no key named": {"kid": None},
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG.keys())
def test_a_token_that_is_not_our_subscriptions_is_refused(verifier: PushVerifier, wrong: dict[str, Any]) -> None:
    found = verifier.verify(token(**wrong))
    assert (found.verdict, found.key) == (Verdict.INVALID, None)
    assert found.reason


def signed_by_hand(algorithm: str) -> str:
    public = (
        KEYS["one"]
        .public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    header = base64.urlsafe_b64encode(json.dumps({"alg": algorithm, "kid": "one"}).encode()).rstrip(b"=")
    payload = base64.urlsafe_b64encode(json.dumps(claims()).encode()).rstrip(b"=")
    signature = b""
    if algorithm == "HS256":  # with the public key as the secret
        signature = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256).sign(
            header + b"." + payload, public
        )
    if algorithm == "ES256":
        es256 = jwt.get_algorithm_by_name("ES256")
        signature = es256.sign(header + b"." + payload, ec.generate_private_key(ec.SECP256R1()))
    return f"Bearer {header.decode()}.{payload.decode()}." + base64.urlsafe_b64encode(signature).rstrip(b"=").decode()


@pytest.mark.parametrize("algorithm", ["none", "HS256", "ES256"])
def test_another_algorithm_is_refused(verifier: PushVerifier, algorithm: str) -> None:
    assert verifier.verify(signed_by_hand(algorithm)) == Push(Verdict.INVALID, "not signed with RS256 by a named key")


@pytest.mark.parametrize("header", ["", "Bearer ", "Basic abc", "Bearer a.b", "Bearer é.é.é", "Bearer " + "a" * 9_000])
def test_what_is_no_token_is_refused_and_nobody_is_asked(verifier: PushVerifier, server: Stub, header: str) -> None:
    assert verifier.verify(header).verdict is Verdict.INVALID
    assert server.asked == []


# -- keys --------------------------------------------------------------------------------------------------------------


def test_keys_are_fetched_once_and_kept(verifier: PushVerifier, server: Stub) -> None:
    for _ in range(5):
        assert verifier.verify(token()).verdict is Verdict.VALID
    assert len(server.asked) == 1


def test_a_flood_of_unknown_key_ids_makes_one_fetch_in_thirty_seconds(
    google: Google, verifier: PushVerifier, server: Stub
) -> None:
    verifier.verify(token())
    for number in range(200):
        assert verifier.verify(token(f"unknown-{number}")).verdict is Verdict.UNAVAILABLE
    assert len(server.asked) == 1, "the first fetch was less than thirty seconds ago"
    google.clock += COOLDOWN_SECONDS
    for number in range(200):
        verifier.verify(token(f"unknown-{number}"))
    assert len(server.asked) == 2


def test_a_key_that_was_rotated_just_now_is_unavailable_first_and_then_believed(
    google: Google, verifier: PushVerifier
) -> None:
    assert verifier.verify(token()).verdict is Verdict.VALID
    google.published = ["two"]
    rotated = token("two", KEYS["two"])
    assert verifier.verify(rotated).verdict is Verdict.UNAVAILABLE
    google.clock += COOLDOWN_SECONDS
    assert verifier.verify(rotated).verdict is Verdict.VALID
    google.clock += COOLDOWN_SECONDS
    assert verifier.verify(token()).verdict is Verdict.UNAVAILABLE, "the old key is gone"


FAULTS = {
    "trouble": Answer(b"", 503),
    "no JSON": Answer(b"<html>"),
    "no keys": Answer({"keys": []}),
    "keys of other kinds": Answer(
        {"keys": [7, {"kty": "EC", "kid": "one"}, {"kty": "RSA"}, {"kty": "RSA", "kid": "one", "n": "*", "e": "AQAB"}]}
    ),
    "too big": Answer(b" " * (MAX_BYTES + 1)),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_known_keys_go_on_for_a_day_while_no_new_ones_can_be_had(
    google: Google, verifier: PushVerifier, server: Stub, fault: Answer
) -> None:
    assert verifier.verify(token()).verdict is Verdict.VALID
    google.fault = fault
    google.clock += 3_600 + STALE_SECONDS - 1
    assert verifier.verify(token()).verdict is Verdict.VALID
    assert len(server.asked) == 2, "but it was tried"
    google.clock += 1
    assert verifier.verify(token()).verdict is Verdict.UNAVAILABLE


def test_without_any_key_nothing_can_be_judged(google: Google, verifier: PushVerifier) -> None:
    google.fault = Answer(b"", 503)
    assert verifier.verify(token()) == Push(Verdict.UNAVAILABLE, "the key cannot be had just now")
    google.fault = None
    google.clock += COOLDOWN_SECONDS
    assert verifier.verify(token()).verdict is Verdict.VALID


@pytest.mark.parametrize(
    ("max_age", "seconds"),
    [
        ("public, max-age=7200, must-revalidate", 7_200.0),
        ("max-age=1", 60.0),
        ("max-age=999999999", 86_400.0),
        ("", 300.0),
    ],
)
def test_keys_are_kept_as_long_as_the_server_says_within_bounds(
    google: Google, server: Stub, max_age: str, seconds: float
) -> None:
    google.max_age = max_age
    with httpx.Client() as client:
        assert http_fetch(client, server.url)().seconds == seconds


def test_a_server_that_is_not_there_is_a_failed_fetch(server: Stub) -> None:
    with httpx.Client() as client, pytest.raises(FetchFailed):
        http_fetch(client, "http://127.0.0.1:1")()
    assert server.asked == []


def test_who_has_a_usable_key_does_not_wait_for_the_one_that_fetches(
    google: Google, keys: KeySet, server: Stub
) -> None:
    keys.key("one")
    google.clock += 3_601
    fetching, go_on = threading.Event(), threading.Event()

    def slow(_: Asked) -> Answer:
        fetching.set()
        go_on.wait(10)
        return Answer({"keys": [google.jwk("two")]})

    server.answer = slow

    def ask() -> None:
        with contextlib.suppress(KeyUnavailable):
            keys.key("one")

    first = threading.Thread(target=ask, daemon=True)
    first.start()
    assert fetching.wait(10)
    assert keys.key("one").key_id == "one", "stale, and at once"
    go_on.set()
    first.join(10)
    with pytest.raises(KeyUnavailable):
        keys.key("one")


@pytest.mark.parametrize("name", ["package", "subscription", "audience", "service_account"])
def test_an_empty_setting_is_refused(name: str) -> None:
    found = {field: getattr(APP, field) for field in ("package", "subscription", "audience", "service_account")}
    with pytest.raises(GoogleSettingsError, match=name):
        GoogleApp(**{**found, name: ""})


def test_a_token_that_holds_is_remembered_for_a_minute_at_most_and_never_beyond_its_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    decoded = [0]
    decode = jwt.decode

    def counting(*arguments: Any, **options: Any) -> Any:
        decoded[0] += 1
        return decode(*arguments, **options)

    monkeypatch.setattr("stores.google.push.jwt.decode", counting)
    monkeypatch.setattr("stores.google.push.MAX_HELD", 2)
    google, clock = Google(), [time.time()]
    with serving(google.answer) as stub, httpx.Client() as http:
        verifier = PushVerifier(APP, KeySet(http_fetch(http, stub.url), now=lambda: clock[0]))
        for number in range(3):
            assert verifier.verify(token(jti=str(number))).verdict is Verdict.VALID
        assert decoded[0] == 3  # another token each time
        same = token()
        decoded[0] = 0
        for step in (0, 30, 29, 2):
            clock[0] += step
            assert verifier.verify(same).verdict is Verdict.VALID
        assert decoded[0] == 2

"""Tokens: only the issuer's, only pinned algorithms, only until they expire; keys rotate without a restart."""

import asyncio
import base64
import json
import time
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from api.auth import Authenticator, Caller
from api.errors import KeysUnavailable, MissingCompany, MissingScope, Unauthenticated
from api.keys import JwksKeys, KeySource, PemKeys
from api.settings import ApiSettings
from domain.entry import Actor
from tests.api_support import Pseudonyms

ED, ED2 = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC = ec.generate_private_key(ec.SECP256R1())
PEM = ED.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
SETTINGS = ApiSettings(issuer="me", audience="daicho", cursor_secret=b"x" * 32, public_key_pem=PEM)


class Clock:
    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now


class Jwks:
    """A key server: counts its readers, can fail."""

    def __init__(self, **keys: Any) -> None:
        self.keys = keys
        self.reads = 0
        self.fails = False

    async def __call__(self) -> bytes:
        self.reads += 1
        await asyncio.sleep(0)
        if self.fails:
            raise OSError("down")
        return json.dumps({"keys": [jwk(kid, key) for kid, key in self.keys.items()]}).encode()


def jwk(kid: str, key: Any) -> dict[str, Any]:
    public = key.public_key()
    if isinstance(key, Ed25519PrivateKey):
        return {**json.loads(OKPAlgorithm.to_jwk(public)), "kid": kid, "alg": "EdDSA"}
    algorithm, name = (RSAAlgorithm, "RS256") if isinstance(key, rsa.RSAPrivateKey) else (ECAlgorithm, "ES256")
    return {**json.loads(algorithm.to_jwk(public)), "kid": kid, "alg": name, "use": "sig"}


def token(key: Any = ED, algorithm: str = "EdDSA", kid: str | None = None, **claims: Any) -> bytes:
    content = {"iss": "me", "aud": "daicho", "sub": "u", "exp": int(time.time()) + 60, "scope": "trade:read", **claims}
    content = {name: value for name, value in content.items() if value is not ...}
    headers = {"kid": kid} if kid is not None else None
    return b"Bearer " + jwt.encode(content, key, algorithm, headers=headers).encode()


def authenticator(
    keys: KeySource | None = None, clock: Clock | None = None, users: Pseudonyms | None = None, **changes: Any
) -> Authenticator:
    settings = ApiSettings(**{
        "issuer": "me", "audience": "daicho", "cursor_secret": b"x" * 32, "public_key_pem": PEM, **changes,
    })  # fmt: skip
    return Authenticator(settings, keys or PemKeys(PEM), users or Pseudonyms(), clock or time.time)  # type: ignore[arg-type]


def ask(auth: Authenticator, header: bytes | None) -> Caller:
    return asyncio.run(auth.caller(header))


def test_a_token_names_actor_company_and_scopes() -> None:
    users = Pseudonyms()
    caller = ask(authenticator(users=users), token(company="aozora-foods", scope="trade:read trade:write"))
    assert caller.actor == Actor("aozora-foods", users.of["aozora-foods", "u"])
    assert caller.scopes == {"trade:read", "trade:write"}
    assert caller.viewer == "aozora-foods"


def test_an_operator_and_an_auditor_see_everything_and_nobody_else_without_a_company_does() -> None:
    auth = authenticator()
    assert ask(auth, token(scope="operator")).viewer is None
    assert ask(auth, token(scope="audit:read")).viewer is None
    with pytest.raises(MissingCompany):
        _ = ask(auth, token(scope="trade:read")).viewer


def test_an_auditor_of_a_company_reads_all_entries_but_only_its_own_trades() -> None:
    caller = ask(authenticator(), token(scope="audit:read trade:read", company="aozora"))
    assert (caller.viewer, caller.entry_viewer) == ("aozora", None)


def test_a_scope_that_is_missing_is_named() -> None:
    with pytest.raises(MissingScope) as caught:
        ask(authenticator(), token()).require(frozenset({"trade:write", "operator"}))
    assert caught.value.values["needed"] == ["operator", "trade:write"]


def _none_token() -> bytes:
    part = lambda value: base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=")  # noqa: E731
    claims = {"iss": "me", "aud": "daicho", "sub": "u", "exp": int(time.time()) + 60, "scope": "operator"}
    return b"Bearer " + part({"alg": "none", "typ": "JWT"}) + b"." + part(claims) + b"."


BAD = {
    "no token": None,
    "another scheme": b"Basic dXNlcjpwYXNz",
    "no words": b"Bearer",
    "not a token": b"Bearer abc",
    "bytes": b"Bearer \xff\xfe.\x00.x",
    "far too long": b"Bearer " + b"a" * 10_000,
    "algorithm none": _none_token(),
    "algorithm none in capitals": _none_token().replace(b"none", b"NONE"),
    "public key taken for an HMAC secret": b"Bearer " + jwt.encode({"sub": "u"}, "k" * 64, "HS256").encode(),
    "another issuer's key": token(ED2),
    "an algorithm that is not pinned": token(RSA, "RS256"),
    "expired": token(exp=int(time.time()) - 31),
    "without expiry": token(exp=...),
    "expiry is no number": token(exp="soon"),
    "not yet valid": token(nbf=int(time.time()) + 120),
    "another audience": token(aud="other"),
    "without audience": token(aud=...),
    "another issuer": token(iss="you"),
    "without subject": token(sub=...),
    "empty subject": token(sub=""),
    "subject with a line break": token(sub="a\nb"),
    "endless subject": token(sub="a" * 300),
    "scope is a list": token(scope=["operator"]),
    "company is no code": token(company="Aozora Foods"),
    "company is a list": token(company=["aozora"]),
    "operator of a company": token(scope="operator", company="aozora"),
}


@pytest.mark.parametrize("header", BAD.values(), ids=BAD.keys())
def test_a_token_that_does_not_hold_is_refused(header: bytes | None) -> None:
    auth = authenticator()
    with pytest.raises(Unauthenticated) as caught:
        ask(auth, header)
    secret = (header or b"").partition(b" ")[2].decode("latin-1")
    assert not secret or secret[-20:] not in caught.value.message
    assert not auth._cache


def test_the_signature_counts_not_only_its_form() -> None:
    whole = token()
    head, payload, signature = whole.split(b".")
    forged = json.loads(base64.urlsafe_b64decode(payload + b"==")) | {"scope": "operator"}
    body = base64.urlsafe_b64encode(json.dumps(forged).encode()).rstrip(b"=")
    with pytest.raises(Unauthenticated):
        ask(authenticator(), b".".join([head, body, signature]))


def test_leeway_is_thirty_seconds_for_fresh_and_for_remembered_tokens() -> None:
    clock, users = Clock(), Pseudonyms()
    auth = authenticator(clock=clock, users=users)
    header = token(exp=int(time.time()) - 10)
    assert ask(auth, header).expires == pytest.approx(clock.now + 20, abs=2)
    ask(auth, header)
    assert users.asked == 1
    clock.now += 25  # for the memory it has expired: the token is looked at again, by the clock of PyJWT
    ask(auth, header)
    assert users.asked == 2


def test_a_remembered_token_is_not_verified_again_and_the_memory_is_bounded() -> None:
    users = Pseudonyms()
    auth = authenticator(users=users, max_cached_tokens=3)
    header = token()
    for _ in range(5):
        ask(auth, header)
    assert users.asked == 1
    for number in range(5):
        ask(auth, token(sub=f"user {number}"))
    assert len(auth._cache) == 3


@pytest.mark.parametrize(("key", "algorithm"), [(RSA, "RS256"), (EC, "ES256"), (ED, "EdDSA")])
def test_every_pinned_algorithm_works_from_a_jwks(key: Any, algorithm: str) -> None:
    keys = JwksKeys(Jwks(a=RSA, b=EC, c=ED), max_age_seconds=60, pause_seconds=0)
    auth = authenticator(keys, algorithms=("RS256", "ES256", "EdDSA"))
    kid = {"RS256": "a", "ES256": "b", "EdDSA": "c"}[algorithm]
    assert ask(auth, token(key, algorithm, kid))
    assert ask(auth, token(key, algorithm))  # one key of that algorithm: no name needed
    with pytest.raises(Unauthenticated):
        ask(auth, token(key, algorithm, "a" if kid != "a" else "b"))


def test_a_new_key_is_found_without_a_restart_and_a_withdrawn_one_stops_working() -> None:
    clock, server = Clock(), Jwks(old=ED)
    auth = authenticator(JwksKeys(server, max_age_seconds=300, pause_seconds=10, clock=clock), clock)
    ancient = token(ED, kid="old")
    assert ask(auth, ancient)
    server.keys = {"new": ED2}
    clock.now += 11
    assert ask(auth, token(ED2, kid="new"))
    with pytest.raises(Unauthenticated, match="unknown key"):
        ask(auth, ancient)  # although it was remembered


def test_a_withdrawn_key_stops_working_although_nobody_asks_for_a_new_one() -> None:
    clock, server = Clock(), Jwks(old=ED, new=ED2)
    auth = authenticator(JwksKeys(server, max_age_seconds=30, pause_seconds=10, clock=clock), clock)
    header = token(ED, kid="old", exp=int(time.time()) + 9000)
    assert ask(auth, header)
    server.keys = {"new": ED2}
    clock.now += 31
    with pytest.raises(Unauthenticated, match="unknown key"):
        ask(auth, header)


def test_invented_key_names_do_not_reach_the_issuer_each_time() -> None:
    clock, server = Clock(), Jwks(old=ED)
    auth = authenticator(JwksKeys(server, max_age_seconds=300, pause_seconds=10, clock=clock), clock)

    async def flood() -> None:
        for number in range(50):
            with pytest.raises(Unauthenticated):
                await auth.caller(token(ED, kid=f"invented {number}"))

    asyncio.run(flood())
    assert server.reads == 1


def test_many_who_wait_for_the_keys_cause_one_request() -> None:
    server = Jwks(old=ED)
    auth = authenticator(JwksKeys(server, max_age_seconds=300, pause_seconds=10))

    async def together() -> None:
        await asyncio.gather(*[auth.caller(token(ED, kid="old", sub=f"u{n}")) for n in range(20)])

    asyncio.run(together())
    assert server.reads == 1


def test_a_key_server_that_is_down_keeps_the_known_keys_and_is_trouble_before_the_first() -> None:
    clock, server = Clock(), Jwks(old=ED)
    auth = authenticator(JwksKeys(server, max_age_seconds=30, pause_seconds=10, clock=clock), clock)
    assert ask(auth, token(kid="old"))
    server.fails = True
    clock.now += 31
    assert ask(auth, token(kid="old", sub="another"))
    cold = Jwks(old=ED)
    cold.fails = True
    with pytest.raises(KeysUnavailable):
        ask(authenticator(JwksKeys(cold, max_age_seconds=30, pause_seconds=10)), token(kid="old"))


@pytest.mark.parametrize(
    "document",
    [b"", b"[]", b"{}", b'{"keys":{}}', b'{"keys":[]}', b'{"keys":[{"kty":"oct","k":"YWJj","kid":"x"}]}',
     b'{"keys":[1,"a",{"kty":"OKP"}]}', b"\xff", b'{"keys":[' + b"[" * 100_000],
)  # fmt: skip
def test_a_document_that_is_no_jwks_gives_no_keys(document: bytes) -> None:
    async def load() -> bytes:
        return document

    with pytest.raises(KeysUnavailable):
        ask(authenticator(JwksKeys(load, max_age_seconds=30, pause_seconds=10)), token(kid="x"))


@pytest.mark.parametrize(
    "wrong",
    [{"algorithms": ("HS256",)}, {"algorithms": ()}, {"algorithms": ("none",)}, {"cursor_secret": b""}, {"issuer": ""},
     {"audience": ""}, {"public_key_pem": None}, {"jwks_url": "https://x.invalid"}],
)  # fmt: skip
def test_settings_that_would_weaken_it_are_refused_at_start(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        authenticator(**wrong)

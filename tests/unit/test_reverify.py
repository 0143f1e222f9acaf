"""Verifying once more: what holds, what does not and why, judged by what lies beside the message alone."""

import time
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from domain.store_notification import Kind, Store, StoreEnvironment, StoreNotification
from simulator.authority import StoreCa
from stores.apple.verify import AppleApp, AppleVerifier
from stores.google.push import ISSUERS, GoogleApp
from stores.parcel_format import (
    FetchedFromStore,
    HandedIn,
    ParcelHeaders,
    ParcelProof,
    pack_fetched,
    pack_google,
    pack_handed_in,
)
from stores.reverify import Again, Reverifier
from tests.apple_payloads import APP_ID, BUNDLE, transaction, whole
from tests.google_pushes import APP

NOW = int(time.time())
CA = StoreCa()
KEY = rsa.generate_private_key(65537, 2048)
JWK = {**jwt.algorithms.RSAAlgorithm.to_jwk(KEY.public_key(), as_dict=True), "kid": "k", "alg": "RS256"}
VALID = ParcelHeaders(NOW * 1000, "valid")
NO_PROOF = ParcelProof()


def apple_verifier(bundle: str = BUNDLE) -> AppleVerifier:
    return AppleVerifier(AppleApp(bundle, APP_ID), [CA.root.der], online=False, max_age_seconds=None)


def reverifier(bundle: str = BUNDLE) -> Reverifier:
    return Reverifier(apple_verifier(bundle), APP)


def push(**changes: Any) -> bytes:
    claims = {
        "iss": next(iter(ISSUERS)), "aud": APP.audience, "sub": "1", "email": APP.service_account,
        "email_verified": True, "iat": NOW - 10, "exp": NOW + 3_000, **changes,
    }  # fmt: skip
    return pack_google("Bearer " + jwt.encode(claims, KEY, "RS256", headers={"kid": "k"}), b"{}")


def handed_in(text: str, store: Store = Store.APPLE) -> bytes:
    return pack_handed_in(HandedIn(store, text, "daily.monthly", StoreEnvironment.PRODUCTION))


def test_what_was_never_signed_is_not_judged() -> None:
    said = StoreNotification(Store.GOOGLE, StoreEnvironment.PRODUCTION, "n", Kind.STARTED, "x", 0, line="l")
    fetched = pack_fetched(FetchedFromStore(said, {}, 0, "token"))
    assert reverifier().judge(fetched, VALID, NO_PROOF).holds is None
    assert reverifier().judge(b"garbage", ParcelHeaders(0, "malformed"), NO_PROOF).holds is None
    assert reverifier().judge(handed_in("token", Store.GOOGLE), VALID, NO_PROOF).holds is None


def test_a_transaction_that_an_app_has_handed_in_holds_by_its_own_signature() -> None:
    genuine = handed_in(CA.sign(transaction(NOW * 1000)))
    assert reverifier().judge(genuine, VALID, NO_PROOF) == Again(holds=True)
    stranger = reverifier().judge(handed_in(StoreCa().sign(transaction(NOW * 1000))), VALID, NO_PROOF)
    assert (stranger.holds, bool(stranger.reason)) == (False, True)
    assert Reverifier(None, None).judge(genuine, VALID, NO_PROOF) == Again(False, "the App Store is not set up here")


def test_apples_message_holds_with_the_certificates_that_lie_beside_it_alone() -> None:
    plain = whole(CA, NOW * 1000)
    chain = apple_verifier().judge(plain).chain
    assert reverifier().judge(plain, VALID, ParcelProof(chain)) == Again(holds=True)
    assert "other certificates" in reverifier().judge(plain, VALID, ParcelProof(chain[:2])).reason
    assert "foreign now, valid then" in reverifier("com.other").judge(plain, VALID, ParcelProof(chain)).reason
    foreign_then = ParcelHeaders(NOW * 1000, "foreign")
    assert reverifier().judge(plain, foreign_then, ParcelProof(chain)).reason == "valid now, foreign then"
    assert reverifier().judge(whole(StoreCa(), NOW * 1000), VALID, ParcelProof(chain)).holds is False
    assert Reverifier(None, None).judge(plain, VALID, ParcelProof(chain)).holds is False
    assert reverifier().judge(b"garbage", VALID, ParcelProof(chain)).holds is False


def test_googles_token_holds_at_the_moment_it_was_received() -> None:
    proof = ParcelProof(key=JWK)
    assert reverifier().judge(push(), VALID, proof) == Again(holds=True)
    years_later = push(iat=NOW - 90_000_000, exp=NOW - 89_996_400)
    then = ParcelHeaders((NOW - 89_999_000) * 1000, "valid")
    assert reverifier().judge(years_later, then, proof) == Again(holds=True)
    assert reverifier().judge(years_later, VALID, proof).reason == "the token did not hold when it was received"
    assert reverifier().judge(push(), VALID, NO_PROOF).reason == "no key to verify it with"
    assert Reverifier(None, None).judge(push(), VALID, proof).holds is False
    cut = reverifier().judge(push()[:-20], VALID, proof)
    assert (cut.holds, bool(cut.reason)) == (False, True)


@pytest.mark.parametrize(
    "changes", [{"email": "someone@else"}, {"email_verified": False}, {"email_verified": "true"}, {"email": None}]
)
def test_only_the_service_account_that_pushes_to_us_speaks_for_google(changes: dict[str, Any]) -> None:
    found = reverifier().judge(push(**changes), VALID, ParcelProof(key=JWK))
    assert found == Again(False, "not from the service account that pushes to us")


@pytest.mark.parametrize(
    ("changes", "key"),
    [({"aud": "other"}, JWK), ({"iss": "other"}, JWK), ({}, {**JWK, "n": "AQAB"}), ({}, {}), ({}, {"kty": "odd"})],
    ids=["audience", "issuer", "another key", "no key", "odd key"],
)
def test_a_token_that_does_not_verify_is_told_by_the_kind_of_error_alone(
    changes: dict[str, Any], key: dict[str, Any]
) -> None:
    found = reverifier().judge(push(**changes), VALID, ParcelProof(key=key))
    assert (found.holds, found.reason.startswith("token: ")) == (False, True)


def test_another_app_s_google_settings_refuse_the_token() -> None:
    other = GoogleApp(**{**{name: getattr(APP, name) for name in APP.__dataclass_fields__}, "audience": "other"})
    assert Reverifier(None, other).judge(push(), VALID, ParcelProof(key=JWK)).holds is False

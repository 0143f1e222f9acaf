"""Only what Apple has signed about our app is believed: every attack, by its name."""

import base64
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from domain.store_notification import StoreEnvironment
from simulator.authority import OcspResponder, StoreCa, base64url, jws
from stores.apple.verify import MAX_AHEAD_SECONDS, AppleApp, AppleMessage, AppleSettingsError, AppleVerifier, chain_of
from stores.verdict import Verdict
from tests.apple_payloads import APP_ID, BUNDLE, DAY_MS, body, notification, renewal, transaction, whole
from tests.ocsp_server import ocsp_responder

NOW = int(time.time() * 1000)
APP = AppleApp(BUNDLE, APP_ID)


@pytest.fixture(scope="module")
def ca() -> StoreCa:
    return StoreCa()


@pytest.fixture(scope="module")
def stranger() -> StoreCa:
    """Another authority with the same names and OIDs."""
    return StoreCa()


def judge(ca: StoreCa, posted: bytes, **options: Any) -> AppleMessage:
    return AppleVerifier(APP, [ca.root.der], online=False, **options).verify(posted)


def refused(found: AppleMessage, *, reason: str, verdict: Verdict = Verdict.INVALID) -> None:
    assert (found.verdict, found.payload, found.transaction, found.renewal) == (verdict, None, None, None)
    assert reason in found.reason


def test_a_message_of_apples_is_believed_with_both_inner_parts(ca: StoreCa) -> None:
    found = judge(ca, whole(ca, NOW))
    assert (found.verdict, found.environment) == (Verdict.VALID, StoreEnvironment.PRODUCTION)
    assert found.payload is not None
    assert found.transaction == transaction(NOW)
    assert found.renewal == renewal(NOW)
    assert list(found.chain) == ca.chain()


def test_a_message_without_inner_parts_is_believed(ca: StoreCa) -> None:
    found = judge(ca, body(ca, notification(NOW, "TEST")))
    assert (found.verdict, found.transaction, found.renewal) == (Verdict.VALID, None, None)


def test_the_sandbox_is_tried_after_production(ca: StoreCa) -> None:
    inner = ca.sign(transaction(NOW, environment="Sandbox"))
    posted = body(ca, notification(NOW, environment="Sandbox", appAppleId=None, signedTransactionInfo=inner))
    assert judge(ca, posted).environment is StoreEnvironment.SANDBOX
    only = AppleApp(BUNDLE, APP_ID, (StoreEnvironment.PRODUCTION,))
    found = AppleVerifier(only, [ca.root.der], online=False).verify(posted)
    refused(found, verdict=Verdict.FOREIGN, reason="INVALID_")


# -- the outer signature -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["none", "HS256", "RS256"])
def test_another_algorithm_is_refused(ca: StoreCa, algorithm: str) -> None:
    public = ca.leaf.key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    key = {"none": None, "HS256": public, "RS256": rsa.generate_private_key(65537, 2048)}[algorithm]
    x5c = [base64.b64encode(each).decode() for each in ca.chain()]
    signed = jws({"alg": algorithm, "x5c": x5c}, json.dumps(notification(NOW)).encode(), key)
    refused(judge(ca, json.dumps({"signedPayload": signed}).encode()), reason="VERIFICATION_FAILURE")


@pytest.mark.parametrize("count", [0, 1, 2, 4])
def test_a_chain_of_another_length_is_refused(ca: StoreCa, count: int) -> None:
    chain = [*ca.chain(), ca.root.der][:count]
    found = judge(ca, body(ca, notification(NOW), chain=chain))
    refused(found, reason="VERIFICATION_FAILURE" if not count else "INVALID_CHAIN_LENGTH")


def test_a_message_without_a_chain_is_refused(ca: StoreCa) -> None:
    refused(judge(ca, body(ca, notification(NOW), x5c=None)), reason="VERIFICATION_FAILURE")


def test_a_chain_of_a_stranger_with_the_same_names_and_oids_is_refused(ca: StoreCa, stranger: StoreCa) -> None:
    refused(judge(ca, whole(stranger, NOW)), reason="VERIFICATION_FAILURE")


def test_a_strangers_leaf_with_the_real_root_appended_is_refused(ca: StoreCa, stranger: StoreCa) -> None:
    chain = [stranger.leaf.der, stranger.intermediate.der, ca.root.der]
    refused(judge(ca, body(stranger, notification(NOW), chain=chain)), reason="VERIFICATION_FAILURE")


def test_a_signature_by_another_key_than_the_leafs_is_refused(ca: StoreCa, stranger: StoreCa) -> None:
    refused(judge(ca, body(stranger, notification(NOW), chain=ca.chain())), reason="VERIFICATION_FAILURE")


def test_a_leaf_without_apples_oid_is_refused(ca: StoreCa) -> None:
    plain = ca.new_leaf(with_oid=False)
    refused(judge(ca, body(ca, notification(NOW), leaf=plain)), reason="VERIFICATION_FAILURE")


def test_an_intermediate_without_apples_oid_is_refused() -> None:
    plain = StoreCa(with_intermediate_oid=False)
    refused(judge(plain, whole(plain, NOW)), reason="VERIFICATION_FAILURE")


def test_a_payload_that_was_swapped_under_its_signature_is_refused(ca: StoreCa) -> None:
    header, _, signature = ca.sign(notification(NOW)).split(".")
    forged = f"{header}.{base64url(json.dumps(notification(NOW, status=4)).encode())}.{signature}"
    refused(judge(ca, json.dumps({"signedPayload": forged}).encode()), reason="VERIFICATION_FAILURE")


# -- the inner signatures ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "make"), [("signedTransactionInfo", transaction), ("signedRenewalInfo", renewal)])
def test_a_forged_inner_part_is_refused_though_the_outer_signature_holds(
    ca: StoreCa, stranger: StoreCa, name: str, make: Any
) -> None:
    refused(judge(ca, whole(ca, NOW, **{name: stranger.sign(make(NOW))})), reason="inner")
    refused(judge(ca, whole(ca, NOW, **{name: make(NOW)})), reason="not a JWS")
    refused(judge(ca, whole(ca, NOW, **{name: "rubbish"})), reason="inner")
    twice = json.dumps(make(NOW)).encode().replace(b"{", b'{"environment":"Sandbox",', 1)
    refused(judge(ca, whole(ca, NOW, **{name: ca.sign(twice)})), reason="a key stands twice")


def test_an_inner_part_of_another_purchase_is_refused(ca: StoreCa) -> None:
    swapped = ca.sign(transaction(NOW, originalTransactionId="400000000000777"))
    refused(judge(ca, whole(ca, NOW, signedTransactionInfo=swapped)), reason="two purchases")


def test_an_inner_part_of_another_app_is_refused(ca: StoreCa) -> None:
    other = ca.sign(transaction(NOW, bundleId="com.example.other"))
    refused(judge(ca, whole(ca, NOW, signedTransactionInfo=other)), reason="inner transaction: INVALID_APP_IDENTIFIER")


@pytest.mark.parametrize(("name", "make"), [("signedTransactionInfo", transaction), ("signedRenewalInfo", renewal)])
def test_an_inner_part_of_another_environment_is_refused(ca: StoreCa, name: str, make: Any) -> None:
    other = ca.sign(make(NOW, environment="Sandbox"))
    refused(judge(ca, whole(ca, NOW, **{name: other})), reason="INVALID_ENVIRONMENT")


@pytest.mark.parametrize("fields", [{"price": {"a": 1}}, {"advancedCommerceInfo": 5}, {"offerType": []}])
def test_a_field_of_a_type_that_nobody_expects_does_not_make_apples_message_less_true(
    ca: StoreCa, fields: dict[str, Any]
) -> None:
    found = judge(ca, whole(ca, NOW, signedTransactionInfo=ca.sign(transaction(NOW, **fields))))
    assert found.verdict is Verdict.VALID
    assert found.transaction == transaction(NOW, **fields)


def test_nor_does_it_make_another_apps_or_environments_message_ours(ca: StoreCa) -> None:
    other = ca.sign(transaction(NOW, bundleId="com.example.other", price={}))
    refused(judge(ca, whole(ca, NOW, signedTransactionInfo=other)), reason="inner transaction: of another app")
    other = ca.sign(renewal(NOW, environment="Sandbox", renewalPrice={}))
    refused(judge(ca, whole(ca, NOW, signedRenewalInfo=other)), reason="inner renewal: of another environment")


def test_nor_in_the_outer_part(ca: StoreCa) -> None:
    summary = {"environment": "Production", "appAppleId": APP_ID, "bundleId": BUNDLE, "storefrontCountryCodes": 5}
    outer = {**notification(NOW, "RENEWAL_EXTENSION"), "data": None, "summary": summary}
    assert judge(ca, body(ca, outer)).verdict is Verdict.VALID
    sandbox = {**summary, "environment": "Sandbox", "appAppleId": None}
    assert judge(ca, body(ca, {**outer, "summary": sandbox})).environment is StoreEnvironment.SANDBOX
    for wrong in ({"bundleId": "other"}, {"environment": "Xcode"}, {"appAppleId": 1}):
        found = judge(ca, body(ca, {**outer, "summary": {**summary, **wrong}}))
        refused(found, verdict=Verdict.FOREIGN, reason="of another app or environment")


# -- whose message it is -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [{"bundleId": "com.example.other"}, {"appAppleId": 1}, {"environment": "Xcode"}])
def test_a_message_about_another_app_or_environment_is_foreign_and_kept_with_its_chain(
    ca: StoreCa, data: dict[str, Any]
) -> None:
    found = judge(ca, body(ca, notification(NOW, **data)))
    refused(found, verdict=Verdict.FOREIGN, reason="INVALID_")
    assert list(found.chain) == ca.chain()


def test_data_of_another_type_is_refused_or_foreign_and_breaks_nothing(ca: StoreCa) -> None:
    for data in ("text", 7, [], None, [{}]):
        found = judge(ca, body(ca, {**notification(NOW), "data": data}))
        assert found.verdict in {Verdict.INVALID, Verdict.FOREIGN}
        assert found.payload is None


# -- when it was signed ------------------------------------------------------------------------------------------------


def test_a_back_dated_message_of_an_expired_leaf_is_refused_at_intake_and_allowed_in_recovery(ca: StoreCa) -> None:
    expired = ca.new_leaf(from_days=-300, to_days=-20)
    signed_at = NOW - 30 * DAY_MS
    posted = body(ca, notification(signed_at, "TEST"), leaf=expired)
    refused(judge(ca, posted), reason="signed more than 8 days ago")
    assert judge(ca, posted, max_age_seconds=None).verdict is Verdict.VALID


def test_a_leaf_that_had_expired_when_it_signed_is_refused_in_recovery_too(ca: StoreCa) -> None:
    expired = ca.new_leaf(from_days=-300, to_days=-20)
    posted = body(ca, notification(NOW, "TEST"), leaf=expired)
    refused(judge(ca, posted, max_age_seconds=None), reason="VERIFICATION_FAILURE")


def test_a_message_from_the_future_is_refused_in_recovery_too(ca: StoreCa) -> None:
    later = body(ca, notification(int(NOW + (MAX_AHEAD_SECONDS + 60) * 1000), "TEST"))
    for options in ({}, {"max_age_seconds": None}):
        refused(judge(ca, later, **options), reason="signed in the future")
    soon = body(ca, notification(int(NOW + (MAX_AHEAD_SECONDS - 60) * 1000), "TEST"))
    assert judge(ca, soon).verdict is Verdict.VALID


@pytest.mark.parametrize("signed_at", [None, "1700000000000", True, 1.5])
def test_a_message_without_a_date_is_refused(ca: StoreCa, signed_at: Any) -> None:
    posted = body(ca, {**notification(NOW, "TEST"), "signedDate": signed_at})
    assert judge(ca, posted).verdict is Verdict.INVALID


# -- what cannot be read -----------------------------------------------------------------------------------------------

GARBAGE: dict[str, bytes] = {
    "nothing": b"",
    "no JSON": b"signedPayload=1",
    "no UTF-8": b'{"signedPayload":"\xff"}',
    "no object": b'["signedPayload"]',
    "no payload": b"{}",
    "a payload that is no text": b'{"signedPayload":{"a":1}}',
    "a key twice": b'{"signedPayload":"a.b.c","signedPayload":"a.b.c"}',
    "NaN": b'{"signedPayload":"a.b.c","x":NaN}',
    "deep nesting": b'{"x":' + b"[" * 40 + b"]" * 40 + b"}",
    "very deep nesting": b"[" * 100_000,
    "no JWS": b'{"signedPayload":"abc"}',
    "no base64url": b'{"signedPayload":"a+b.c/d.e="}',
    "a letter of another alphabet": '{"signedPayload":"é.é.é"}'.encode(),
    "a payload that is no JSON": b'{"signedPayload":"e30.AAAA.e30"}',
    "more than a mebibyte": b'{"signedPayload":"' + b"a" * 1_048_576 + b'"}',
}


@pytest.mark.parametrize("posted", GARBAGE.values(), ids=GARBAGE.keys())
def test_what_cannot_be_read_is_malformed_and_nothing_of_it_is_repeated(ca: StoreCa, posted: bytes) -> None:
    found = judge(ca, posted)
    refused(found, verdict=Verdict.MALFORMED, reason="")
    assert 0 < len(found.reason) < 60


def test_a_signed_payload_with_a_key_twice_or_nan_is_malformed(ca: StoreCa) -> None:
    for payload in (b'{"a":1,"a":2}', b'{"signedDate":NaN}', b"[1]"):
        assert judge(ca, body(ca, payload)).verdict is Verdict.MALFORMED


def test_a_chain_that_cannot_be_read_is_none() -> None:
    header = base64url(b'{"x5c":["*"]}')
    assert chain_of("rubbish") == ()
    assert chain_of("e30.e30.e30") == ()
    assert chain_of(f"{header}.e30.e30") == ()


# -- revocation --------------------------------------------------------------------------------------------------------


@pytest.fixture
def responder() -> Iterator[OcspResponder]:
    with ocsp_responder() as running:
        yield running


def online(ca: StoreCa, posted: bytes) -> AppleMessage:
    return AppleVerifier(APP, [ca.root.der], online=True).verify(posted)


def asked_authority(responder: OcspResponder) -> StoreCa:
    made = StoreCa(ocsp_url=responder.url)
    responder.authorities.append(made)
    return made


def test_certificates_that_were_not_revoked_are_asked_for_and_believed(responder: OcspResponder) -> None:
    made = asked_authority(responder)
    found = online(made, whole(made, NOW))
    assert (found.verdict, found.reason) == (Verdict.VALID, "")
    assert responder.asked == 2


def test_a_message_under_a_revoked_certificate_is_not_applied(responder: OcspResponder) -> None:
    made = asked_authority(responder)
    responder.revoked.add(made.leaf.certificate.serial_number)
    found = online(made, whole(made, NOW))
    assert (found.verdict, found.reason) == (
        Verdict.UNVERIFIED, "certificates: Apple's service does not say that they are good",
    )  # fmt: skip


def test_while_nobody_answers_about_revocation_a_message_is_kept_unverified() -> None:
    with ocsp_responder() as gone:
        made = asked_authority(gone)
    found = online(made, whole(made, NOW))
    assert found.verdict is Verdict.UNVERIFIED
    assert found.transaction == transaction(NOW), "it is kept whole, to be judged later"


def test_an_answer_that_is_none_about_revocation_leaves_a_message_unverified(responder: OcspResponder) -> None:
    made = asked_authority(responder)
    responder.broken = b"<html>maintenance</html>"
    assert online(made, whole(made, NOW)).verdict is Verdict.UNVERIFIED


def test_nobody_is_asked_about_a_certificate_that_has_expired_since(responder: OcspResponder) -> None:
    made = asked_authority(responder)
    brief = made.new_leaf(from_days=-30, to_days=-1)
    found = online(made, body(made, notification(NOW - 2 * DAY_MS, "TEST"), leaf=brief))
    assert (found.verdict, responder.asked) == (Verdict.VALID, 0)


# -- settings ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        lambda: AppleApp("", APP_ID),
        lambda: AppleApp(BUNDLE, None),
        lambda: AppleApp(BUNDLE, APP_ID, ()),
        lambda: AppleApp(BUNDLE, APP_ID, ("Xcode",)),
        lambda: AppleApp(BUNDLE, APP_ID, ("LocalTesting",)),
        lambda: AppleVerifier(APP, [], online=False),
    ],
)
def test_settings_under_which_nothing_would_be_verified_are_refused(make: Any) -> None:
    with pytest.raises(AppleSettingsError):
        make()


def test_the_sandbox_alone_needs_no_apple_id() -> None:
    assert AppleApp(BUNDLE, None, (StoreEnvironment.SANDBOX,)).bundle_id == BUNDLE

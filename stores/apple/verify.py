"""Whether a message is Apple's, about our app: the outer signature and both inner ones.

Apple signs with ES256 under a chain of three certificates that it sends along (`x5c`); we trust the roots that we were
given, nothing else. Verification is Apple's own library's, called so that none of its ways around it is open.

https://developer.apple.com/documentation/appstoreservernotifications/responsebodyv2decodedpayload
"""

import base64
import binascii
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from appstoreserverlibrary.models.Environment import Environment
from appstoreserverlibrary.signed_data_verifier import SignedDataVerifier, VerificationException, VerificationStatus
from cryptography import x509

from domain.store_notification import StoreEnvironment
from stores.fields import object_of
from stores.strict_json import read_object
from stores.verdict import MessageRefused, Verdict

MAX_AHEAD_SECONDS: Final = 600.0  # clocks differ
MAX_AGE_SECONDS: Final = 8 * 86_400.0  # Apple repeats a message for 157 hours at most
_ENVIRONMENTS: Final = {
    StoreEnvironment.PRODUCTION: Environment.PRODUCTION,
    StoreEnvironment.SANDBOX: Environment.SANDBOX,
}
_FOREIGN: Final = {VerificationStatus.INVALID_APP_IDENTIFIER, VerificationStatus.INVALID_ENVIRONMENT}
_FOREIGN_NAMES: Final = tuple(status.name for status in _FOREIGN)
_JWS_PARTS: Final = 3
_LINE: Final = "originalTransactionId"
_PARTS: Final = ("data", "summary", "externalPurchaseToken", "appData")
logger = logging.getLogger("daicho.stores")


class AppleSettingsError(ValueError):
    """A setting under which signatures would not be verified."""


@dataclass(frozen=True)
class AppleApp:
    """Our app at Apple. `environments` in the order in which they are tried; a sandbox's is never production's."""

    bundle_id: str
    app_apple_id: int | None
    environments: tuple[StoreEnvironment, ...] = (StoreEnvironment.PRODUCTION, StoreEnvironment.SANDBOX)

    def __post_init__(self) -> None:
        if not self.bundle_id:
            raise AppleSettingsError("the bundle id is missing")
        if not self.environments or not set(self.environments) <= set(_ENVIRONMENTS):
            raise AppleSettingsError("environments are production and sandbox: no other one has signatures")
        if StoreEnvironment.PRODUCTION in self.environments and not self.app_apple_id:
            raise AppleSettingsError("the app's Apple id is missing, which production needs")


class AppleMessage(NamedTuple):
    """What was found out. `payload`, `transaction` and `renewal` are set for VALID and UNVERIFIED alone.

    `chain` are the certificates (DER) of the outer signature, kept beside the payload so that it can be verified when
    they have expired.
    """

    verdict: Verdict
    reason: str = ""
    environment: StoreEnvironment | None = None
    payload: dict[str, Any] | None = None
    transaction: dict[str, Any] | None = None
    renewal: dict[str, Any] | None = None
    chain: tuple[bytes, ...] = ()


class AppleVerifier:
    """Blocking: OCSP asks Apple's servers for up to a minute, so call it in a thread. Thread-safe.

    `online` asks whether certificates were revoked, as long as they have not expired by themselves. `max_age_seconds`
    is how long ago a message may have been signed, None for any age (recovery from Apple's own history, archive).
    `now` in seconds since 1970-01-01 UTC.
    """

    def __init__(
        self,
        app: AppleApp,
        roots: Sequence[bytes],
        *,
        online: bool,
        max_age_seconds: float | None = MAX_AGE_SECONDS,
        now: Callable[[], float] = time.time,
    ) -> None:
        if not roots:
            raise AppleSettingsError("there is no root certificate to trust")
        self.online, self._max_age, self._now = online, max_age_seconds, now
        self._lanes = [_Lane(app, environment, list(roots)) for environment in app.environments]

    def verify(self, body: bytes) -> AppleMessage:
        """Judge the body of a notification. Never raises for what a stranger may send.

        1. the body is one JSON object with the signed payload, the payload and its inner parts are JSON as well;
        2. the outer signature holds under our roots, as of the day it was made, for our app and an environment of ours;
        3. it was made lately, and not in the future;
        4. each inner signature holds, too, for the same app and environment;
        5. the inner parts speak of one purchase;
        6. no certificate was revoked.
        """
        return self.confirm(body, self.judge(body))

    def judge(self, body: bytes) -> AppleMessage:
        """Steps 1 to 5 of `verify`: all that can be told without asking anybody."""
        try:
            jws = _text(read_object(body), "signedPayload")
            outer = read_jws(jws)  # 1
        except MessageRefused as refused:
            return AppleMessage(Verdict.MALFORMED, refused.rule)
        foreign = ""
        for lane in self._lanes:  # 2
            try:
                lane.offline.verify_and_decode_notification(jws)
            except VerificationException as error:
                if error.status not in _FOREIGN:
                    return AppleMessage(Verdict.INVALID, f"outer signature: {error.status.name}")
                foreign = foreign or error.status.name
                continue
            except Exception:  # noqa: BLE001 rightly signed, with a field of a type that the library does not expect
                if not lane.is_ours(outer):
                    foreign = foreign or "of another app or environment"
                    continue
            return self._judge(lane, jws, outer)
        return AppleMessage(Verdict.FOREIGN, foreign, chain=chain_of(jws))

    def _judge(self, lane: "_Lane", jws: str, outer: dict[str, Any]) -> AppleMessage:
        signed_at = outer.get("signedDate")
        if type(signed_at) is not int:
            return AppleMessage(Verdict.INVALID, "signedDate is missing")
        age = self._now() - signed_at / 1000
        if age < -MAX_AHEAD_SECONDS:  # 3; in recovery as well: what is dated later than everything would count for ever
            return AppleMessage(Verdict.INVALID, "signed in the future")
        if self._max_age is not None and age > self._max_age:
            return AppleMessage(Verdict.INVALID, f"signed more than {self._max_age / 86_400:.0f} days ago")
        inner = object_of(outer, "data")
        try:
            transaction = lane.transaction(inner.get("signedTransactionInfo"))  # 4
            renewal = lane.renewal(inner.get("signedRenewalInfo"))
        except MessageRefused as refused:
            return AppleMessage(Verdict.INVALID, refused.rule)
        if transaction and renewal and transaction.get(_LINE) != renewal.get(_LINE):  # 5
            return AppleMessage(Verdict.INVALID, "the inner parts speak of two purchases")
        return AppleMessage(Verdict.VALID, "", lane.environment, outer, transaction, renewal, chain_of(jws))

    def judge_transaction(self, jws: str) -> AppleMessage:
        """Judge a signed transaction that an app has handed in, whatever its age: steps 2 to 4 of `verify` for it."""
        refusal = Verdict.INVALID, "no environment of ours"
        for lane in self._lanes:
            try:
                found = lane.transaction(jws) or {}
            except MessageRefused as refused:
                foreign = any(word in refused.rule for word in ("another app", "another environment", *_FOREIGN_NAMES))
                refusal = (Verdict.FOREIGN if foreign else Verdict.INVALID), refused.rule
                continue
            signed_at = found.get("signedDate")
            if type(signed_at) is not int:
                return AppleMessage(Verdict.INVALID, "signedDate is missing")
            if self._now() - signed_at / 1000 < -MAX_AHEAD_SECONDS:
                return AppleMessage(Verdict.INVALID, "signed in the future")
            return AppleMessage(Verdict.VALID, "", lane.environment, None, found, None, chain_of(jws))
        return AppleMessage(*refusal)

    def confirm(self, body: bytes, message: AppleMessage) -> AppleMessage:
        """Step 6 of `verify` for a message that `judge` has found VALID; every other one, and offline, as it is."""
        if not self.online or message.verdict is not Verdict.VALID:
            return message
        lane = next(each for each in self._lanes if each.environment is message.environment)
        verdict, reason = self._revoked(lane, _text(read_object(body), "signedPayload"), message.chain)
        return message._replace(verdict=verdict, reason=reason)

    def _revoked(self, lane: "_Lane", jws: str, chain: Sequence[bytes]) -> tuple[Verdict, str]:
        """Apple's answer on the certificates; nobody answers for those that have expired meanwhile."""
        leaf_and_intermediate = (x509.load_der_x509_certificate(each) for each in chain[:2])
        if any(each.not_valid_after_utc.timestamp() < self._now() for each in leaf_and_intermediate):
            return Verdict.VALID, "certificates have expired since"
        try:
            lane.online.verify_and_decode_notification(jws)
        except VerificationException as error:
            # the library does not tell a revoked certificate from a service that asks to try later, and Apple's
            # message is too dear to be refused for the latter: it is kept, and judged again
            away = error.status is VerificationStatus.RETRYABLE_VERIFICATION_FAILURE
            reason = "does not answer" if away else "does not say that they are good"
            return Verdict.UNVERIFIED, f"certificates: Apple's service {reason}"
        return Verdict.VALID, ""


class _Lane:
    """The library's verifiers for one environment: as of the signed date, and as of now with OCSP."""

    def __init__(self, app: AppleApp, environment: StoreEnvironment, roots: list[bytes]) -> None:
        self.environment, self._app = environment, app
        common = (_ENVIRONMENTS[environment], app.bundle_id, app.app_apple_id)
        self.offline = SignedDataVerifier(roots, False, *common)
        self.online = SignedDataVerifier(roots, True, *common)

    def transaction(self, jws: Any) -> dict[str, Any] | None:
        """The transaction, verified; MessageRefused when it is not Apple's or of another app."""
        found = self._inner("transaction", jws, self.offline.verify_and_decode_signed_transaction)
        if found is not None and found.get("bundleId") != self._app.bundle_id:
            raise MessageRefused("inner transaction: of another app")
        return found

    def renewal(self, jws: Any) -> dict[str, Any] | None:
        """The renewal information, verified; it names no app, its signature and environment have to do."""
        return self._inner("renewal", jws, self.offline.verify_and_decode_renewal_info)

    def is_ours(self, payload: dict[str, Any]) -> bool:
        """Whether a payload names our app and this environment, in any of the four parts that it may have."""
        parts = [part for name in _PARTS if isinstance(part := payload.get(name), dict)]
        return any(
            part.get("bundleId") == self._app.bundle_id
            and part.get("environment") == _ENVIRONMENTS[self.environment].value
            and (self.environment is StoreEnvironment.SANDBOX or part.get("appAppleId") == self._app.app_apple_id)
            for part in parts
        )

    def _inner(self, what: str, jws: Any, verify: Callable[[str], object]) -> dict[str, Any] | None:
        if jws is None:
            return None
        if not isinstance(jws, str):
            raise MessageRefused(f"inner {what}: not a JWS")
        try:
            verify(jws)
        except VerificationException as error:
            raise MessageRefused(f"inner {what}: {error.status.name}") from error
        except Exception as error:  # noqa: BLE001 rightly signed, a field has a type that the library does not expect
            logger.warning("inner %s: %s", what, type(error).__name__)
        try:
            found = read_jws(jws)
        except MessageRefused as refused:
            raise MessageRefused(f"inner {what}: {refused.rule}") from None
        if found.get("environment") != _ENVIRONMENTS[self.environment].value:
            raise MessageRefused(f"inner {what}: of another environment")
        return found


def read_jws(jws: str) -> dict[str, Any]:
    """The payload of a compact JWS (RFC 7515 section 7.1), not verified. Raises MessageRefused."""
    return read_object(_segments(jws)[1])


def already_judged(body: bytes) -> AppleMessage:
    """The parts of a body that was found VALID before, with nothing verified again. Raises MessageRefused.

    For what comes out of our own inbox, where the log's hash says that it is what was judged.
    """
    jws = _text(read_object(body), "signedPayload")
    payload = read_jws(jws)
    data = object_of(payload, "data")
    parts = [object_of(payload, name) for name in _PARTS]
    named = next((part["environment"] for part in parts if isinstance(part.get("environment"), str)), "")
    environment = next((ours for ours, theirs in _ENVIRONMENTS.items() if theirs.value == named), None)
    transaction, renewal = (
        read_jws(inner) if isinstance(inner := data.get(name), str) else None
        for name in ("signedTransactionInfo", "signedRenewalInfo")
    )
    return AppleMessage(Verdict.VALID, "", environment, payload, transaction, renewal, chain_of(jws))


def signed_content(body: bytes) -> bytes:
    """What the outer signature is over, the same when Apple repeats a message; the body itself where there is none."""
    try:
        return _segments(_text(read_object(body), "signedPayload"))[1]
    except MessageRefused:
        return body


def chain_of(jws: str) -> tuple[bytes, ...]:
    """The certificates (DER) that a JWS brings along, not verified; none when it brings none that can be read."""
    try:
        header = read_object(_segments(jws)[0])
        return tuple(base64.b64decode(each, validate=True) for each in _strings(header.get("x5c")))
    except (MessageRefused, binascii.Error):
        return ()


def _segments(jws: str) -> list[bytes]:
    parts = jws.split(".")
    if len(parts) != _JWS_PARTS:
        raise MessageRefused("not a JWS")
    try:
        return [base64.b64decode(_padded(part), altchars=b"-_", validate=True) for part in parts]
    except (binascii.Error, ValueError):
        raise MessageRefused("not base64url") from None


def _padded(part: str) -> bytes:
    if "+" in part or "/" in part or "=" in part:
        raise MessageRefused("not base64url")
    return part.encode("ascii", "replace") + b"=" * (-len(part) % 4)


def _strings(values: Any) -> Iterator[str]:
    if isinstance(values, list):
        yield from (value for value in values if isinstance(value, str))


def _text(found: dict[str, Any], name: str) -> str:
    value = found.get(name)
    if not isinstance(value, str):
        raise MessageRefused(f"{name} is missing")
    return value

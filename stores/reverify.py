"""Verifying once more what was verified when it came: offline, by the certificates and keys that lie beside it.

Apple's message is judged as of the day it was signed, Google's token as of the moment it was received: both hold after
their certificates and keys are long gone.
"""

from typing import Final, NamedTuple

import jwt

from stores.apple.verify import AppleVerifier
from stores.google.push import ISSUERS, LEEWAY_SECONDS, GoogleApp
from stores.parcel_format import (
    ParcelHeaders,
    ParcelProof,
    is_fetched,
    is_google,
    is_handed_in,
    unpack_google,
    unpack_handed_in,
)
from stores.verdict import MessageRefused, Verdict

_BY_THE_STORE: Final = {Verdict.VALID, Verdict.UNVERIFIED, Verdict.FOREIGN}


class Again(NamedTuple):
    """What was found this time. `holds` None: there is no signature to verify (an answer that we asked for)."""

    holds: bool | None
    reason: str = ""


class Reverifier:
    """`apple` offline and for any age. None where a store is not set up: its messages cannot be judged then."""

    def __init__(self, apple: AppleVerifier | None, google: GoogleApp | None) -> None:
        self._apple, self._google = apple, google

    def judge(self, plain: bytes, headers: ParcelHeaders, proof: ParcelProof) -> Again:
        """Judge a message by what was stored of it."""
        if is_fetched(plain) or headers.verdict == Verdict.MALFORMED:
            return Again(None, "nothing is signed")
        try:
            if is_handed_in(plain):
                return self._handed_in(plain)
            return self._of_google(plain, headers, proof) if is_google(plain) else self._of_apple(plain, headers, proof)
        except MessageRefused as refused:
            return Again(holds=False, reason=refused.rule)

    def _handed_in(self, plain: bytes) -> Again:
        handed_in = unpack_handed_in(plain)
        if handed_in.store != "apple":
            return Again(None, "a token proves nothing by itself")
        if self._apple is None:
            return Again(holds=False, reason="the App Store is not set up here")
        found = self._apple.judge_transaction(handed_in.text)
        return Again(found.verdict is Verdict.VALID, found.reason)

    def _of_apple(self, plain: bytes, headers: ParcelHeaders, proof: ParcelProof) -> Again:
        if self._apple is None:
            return Again(holds=False, reason="the App Store is not set up here")
        found = self._apple.judge(plain)
        if found.verdict not in _BY_THE_STORE:
            return Again(holds=False, reason=f"{found.verdict}: {found.reason}")
        if (found.verdict is Verdict.FOREIGN) != (headers.verdict == Verdict.FOREIGN):
            return Again(holds=False, reason=f"{found.verdict} now, {headers.verdict} then")
        if found.chain != proof.chain:
            return Again(holds=False, reason="other certificates than those stored beside it")
        return Again(holds=True)

    def _of_google(self, plain: bytes, headers: ParcelHeaders, proof: ParcelProof) -> Again:
        if self._google is None or proof.key is None:
            return Again(holds=False, reason="no key to verify it with")
        token = unpack_google(plain).authorization.partition(" ")[2].strip()
        try:
            claims = jwt.decode(
                token,
                jwt.PyJWK(proof.key, algorithm="RS256").key,
                algorithms=["RS256"],
                audience=self._google.audience,
                issuer=ISSUERS,
                options={"require": ["exp", "iat", "aud", "iss", "sub"], "verify_exp": False, "verify_iat": False},
            )
        except (jwt.PyJWTError, ValueError, TypeError, KeyError) as error:
            return Again(holds=False, reason=f"token: {type(error).__name__}")
        if claims.get("email") != self._google.service_account or claims.get("email_verified") is not True:
            return Again(holds=False, reason="not from the service account that pushes to us")
        at = headers.received_at / 1000
        if not float(claims["iat"]) - LEEWAY_SECONDS <= at <= float(claims["exp"]) + LEEWAY_SECONDS:
            return Again(holds=False, reason="the token did not hold when it was received")
        return Again(holds=True)

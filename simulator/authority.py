"""A certificate authority shaped as Apple's, for payloads that are really signed: root, intermediate, leaf, both OIDs.

Every knob makes one thing wrong that an attacker could make wrong. `OcspResponder` answers whether a certificate was
revoked, over HTTP, signed by the certificate's issuer.
"""

import base64
import datetime as dt
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import ocsp
from cryptography.x509.oid import AuthorityInformationAccessOID, NameOID

LEAF_OID = x509.ObjectIdentifier("1.2.840.113635.100.6.11.1")
INTERMEDIATE_OID = x509.ObjectIdentifier("1.2.840.113635.100.6.2.1")
DAY = dt.timedelta(days=1)
_NULL = b"\x05\x00"


@dataclass
class Issued:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.DER)


@dataclass
class StoreCa:
    """Root and intermediate, made at once; leaves as they are asked for. `now`: when all this happens."""

    now: dt.datetime = field(default_factory=lambda: dt.datetime.now(dt.UTC).replace(microsecond=0))
    with_intermediate_oid: bool = True
    ocsp_url: str | None = None

    def __post_init__(self) -> None:
        self.root = self._issue("Apple Root CA - G3", None, days=3_650, ca=True)
        oid = INTERMEDIATE_OID if self.with_intermediate_oid else None
        self.intermediate = self._issue(
            "Apple Worldwide Developer Relations Certification Authority", self.root, days=1_800, ca=True, oid=oid
        )
        self.leaf = self.new_leaf()

    def new_leaf(self, *, with_oid: bool = True, from_days: float = -30, to_days: float = 300) -> Issued:
        """A certificate that signs payloads, valid from and to so many days from now."""
        return self._issue(
            "Prod ECC Mac App Store and iTunes Store Receipt Signing", self.intermediate,
            days=to_days, from_days=from_days, oid=LEAF_OID if with_oid else None,
        )  # fmt: skip

    def chain(self, leaf: Issued | None = None) -> list[bytes]:
        """What Apple sends along: leaf, intermediate, root (DER)."""
        return [(leaf or self.leaf).der, self.intermediate.der, self.root.der]

    def sign(self, payload: Any, *, leaf: Issued | None = None, chain: list[bytes] | None = None, **header: Any) -> str:
        """A compact JWS over a payload; `header` replaces what it says (None takes it away)."""
        signer = leaf or self.leaf
        x5c = [base64.b64encode(each).decode() for each in (self.chain(leaf) if chain is None else chain)]
        data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        headers = {name: value for name, value in {"alg": "ES256", "x5c": x5c, **header}.items() if value is not None}
        return jws(headers, data, signer.key)

    def _issue(
        self,
        name: str,
        issuer: Issued | None,
        *,
        days: float,
        from_days: float = -400,
        ca: bool = False,
        oid: x509.ObjectIdentifier | None = None,
    ) -> Issued:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        above = issuer.certificate.subject if issuer else subject
        signing_key = issuer.key if issuer else key
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(above)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(self.now + from_days * DAY)
            .not_valid_after(self.now + days * DAY)
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(_usage(ca=ca), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signing_key.public_key()), critical=False)
        )
        if oid is not None:
            builder = builder.add_extension(x509.UnrecognizedExtension(oid, _NULL), critical=False)
        if self.ocsp_url is not None and issuer is not None:
            where = x509.UniformResourceIdentifier(self.ocsp_url)
            access = x509.AccessDescription(AuthorityInformationAccessOID.OCSP, where)
            builder = builder.add_extension(x509.AuthorityInformationAccess([access]), critical=False)
        return Issued(builder.sign(signing_key, hashes.SHA256()), key)


def _usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca, content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, key_cert_sign=ca, crl_sign=ca, encipher_only=False, decipher_only=False,
    )  # fmt: skip


def jws(header: Mapping[str, Any], payload: bytes, key: Any) -> str:
    """A compact JWS (RFC 7515) with this header, signed as its `alg` says; unsigned for `none`."""
    algorithm = jwt.get_algorithm_by_name(header.get("alg", "ES256"))
    parts = [base64url(json.dumps(dict(header)).encode()), base64url(payload)]
    signature = algorithm.sign(".".join(parts).encode(), key) if header.get("alg") != "none" else b""
    return ".".join([*parts, base64url(signature)])


def base64url(data: bytes) -> str:
    """Without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class OcspResponder:
    """Says of each certificate of an authority whether it was revoked. `broken` makes it answer with that instead."""

    def __init__(self) -> None:
        self.authorities: list[StoreCa] = []
        self.revoked: set[int] = set()
        self.broken: bytes | None = None
        self.asked = 0
        self.url = ""

    def answer(self, request: bytes) -> bytes:
        """The response (DER) to a request (DER)."""
        self.asked += 1
        if self.broken is not None:
            return self.broken
        wanted = ocsp.load_der_ocsp_request(request).serial_number
        certificate, issuer = next(
            (each, above)
            for ca in self.authorities
            for each, above in ((ca.leaf, ca.intermediate), (ca.intermediate, ca.root))
            if each.certificate.serial_number == wanted
        )
        gone = wanted in self.revoked
        now = dt.datetime.now(dt.UTC).replace(microsecond=0)
        builder = ocsp.OCSPResponseBuilder().add_response(
            cert=certificate.certificate, issuer=issuer.certificate, algorithm=hashes.SHA256(),
            cert_status=ocsp.OCSPCertStatus.REVOKED if gone else ocsp.OCSPCertStatus.GOOD,
            this_update=now - DAY, next_update=now + DAY, revocation_time=now - DAY if gone else None,
            revocation_reason=None,
        )  # fmt: skip
        signed = builder.responder_id(ocsp.OCSPResponderEncoding.HASH, issuer.certificate)
        return signed.sign(issuer.key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)

"""How what a store has sent is laid down beside the ledger: the sealed bytes, the headers, the proof.

Apple's body verifies by itself, so it is sealed as it came. Google's does not: the token of the push is sealed with it.
What was fetched from a store is sealed with the message that led to asking. Headers and proof are JSON in clear: they
say when and how a message came and what is needed to verify it once more, and nothing of what it says.
"""

import binascii
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, TypeVar

import msgspec

from domain.store_notification import Millis, Store, StoreEnvironment, StoreNotification
from stores.verdict import MessageRefused

T = TypeVar("T")
Origin = Literal["push", "pull", "client"]
"""A store pushed it, we asked the store, or a user's app handed it in."""
MAX_HEADER_CHARACTERS: Final = 512
KEPT_HEADERS: Final = ("content-type", "content-length", "user-agent", "x-forwarded-for", "x-request-id", "date")
"""What says how a message came. A bearer token is never among them: it is sealed."""


class PushedByGoogle(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="google-push"):
    """The plain bytes of a push: its Authorization header and the body (base64)."""

    authorization: str
    body: bytes


class FetchedFromStore(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="fetched"):
    """The plain bytes of an answer: what led to asking, the answer as it is, and when it was given.

    `token` is the store's name of the purchase, which the next call to the store needs.
    """

    announced: StoreNotification
    resource: dict[str, Any]
    at: Millis
    token: str


class HandedIn(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="handed-in"):
    """The plain bytes of what a user's app has handed in: a signed transaction of Apple's, or a token of Google's.

    `product` and `environment` as the app has named them, or as the store has signed them.
    """

    store: Store
    text: str
    product: str
    environment: StoreEnvironment


class ParcelHeaders(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """When and how a message came. `received_at` in milliseconds since 1970-01-01 UTC."""

    received_at: Millis
    verdict: str
    reason: str = ""
    origin: Origin = "push"
    label: str = ""
    headers: dict[str, str] = {}


class ParcelProof(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What verifying a message once more needs: Apple's certificates (DER, base64), or Google's key (JWK)."""

    chain: tuple[bytes, ...] = ()
    key: dict[str, Any] | None = None


_google: Final = msgspec.json.Decoder(PushedByGoogle)
_fetched: Final = msgspec.json.Decoder(FetchedFromStore)
_handed_in: Final = msgspec.json.Decoder(HandedIn)
_headers: Final = msgspec.json.Decoder(ParcelHeaders)
_proof: Final = msgspec.json.Decoder(ParcelProof)


def pack_google(authorization: str, body: bytes) -> bytes:
    """The plain bytes of a push."""
    return msgspec.json.encode(PushedByGoogle(authorization, body))


def unpack_google(plain: bytes) -> PushedByGoogle:
    """A push out of its plain bytes. Raises MessageRefused for anything else."""
    return _decoded(_google, plain)


def is_google(plain: bytes) -> bool:
    """True for plain bytes that `pack_google` has made."""
    return plain.startswith(b'{"type":"google-push"')


def pack_fetched(fetched: FetchedFromStore) -> bytes:
    """The plain bytes of an answer."""
    return msgspec.json.encode(fetched)


def is_fetched(plain: bytes) -> bool:
    """True for plain bytes that `pack_fetched` has made."""
    return plain.startswith(b'{"type":"fetched"')


def unpack_fetched(plain: bytes) -> FetchedFromStore:
    """An answer out of its plain bytes. Raises MessageRefused for anything else."""
    return _decoded(_fetched, plain)


def pack_handed_in(handed_in: HandedIn) -> bytes:
    """The plain bytes of what an app has handed in."""
    return msgspec.json.encode(handed_in)


def is_handed_in(plain: bytes) -> bool:
    """True for plain bytes that `pack_handed_in` has made."""
    return plain.startswith(b'{"type":"handed-in"')


def unpack_handed_in(plain: bytes) -> HandedIn:
    """What an app has handed in, out of its plain bytes. Raises MessageRefused for anything else."""
    return _decoded(_handed_in, plain)


def headers_json(headers: ParcelHeaders) -> bytes:
    """As they are stored."""
    return msgspec.json.encode(headers)


def read_headers(stored: bytes) -> ParcelHeaders:
    """As `headers_json` stored them. Raises MessageRefused."""
    return _decoded(_headers, stored)


def proof_json(*, chain: Sequence[bytes] = (), key: Mapping[str, Any] | None = None) -> bytes:
    """What verifies a message once more, as it is stored."""
    return msgspec.json.encode(ParcelProof(tuple(chain), None if key is None else dict(key)))


def read_proof(stored: bytes) -> ParcelProof:
    """As `proof_json` stored it. Raises MessageRefused."""
    return _decoded(_proof, stored)


def kept_headers(headers: Mapping[bytes, bytes]) -> dict[str, str]:
    """Those of a request's headers (names in lower case) that are kept, printable and bounded."""
    found: dict[str, str] = {}
    for name in KEPT_HEADERS:
        value = headers.get(name.encode())
        if value is not None:
            text = value.decode("latin-1")[:MAX_HEADER_CHARACTERS]
            found[name] = "".join(letter if letter.isascii() and letter.isprintable() else "?" for letter in text)
    return found


def _decoded(decoder: msgspec.json.Decoder[T], stored: bytes) -> T:
    try:
        return decoder.decode(stored)
    except (msgspec.DecodeError, msgspec.ValidationError, binascii.Error, UnicodeDecodeError):
        raise MessageRefused("not as it was laid down") from None

"""Every refusal and trouble as an RFC 9457 problem: one row a class, for the domain's tree and for what HTTP adds.

Refusal                         (the domain's)
├── Unauthenticated         401 no token, or one that does not hold
│   └── NotFromStore        401 a notification that its store has not sent
├── Forbidden
│   ├── MissingScope        403 the token's scopes do not allow it
│   └── MissingCompany      403 the operation belongs to a company, the token to none
├── NotFound
│   └── NoSuchResource      404 no such path
├── MethodNotAllowed        405
├── BodyTimeout             408 the body came too slowly
├── BodyTooLarge            413
├── UnsupportedMediaType    415
├── PayloadErased           410 the payload's key was destroyed for good
├── PurchaseNotGenuine      422 what was handed in is no purchase of our app at its store
├── LogNotFound             404 no checkpoint, tile or bundle there (yet)
└── Malformed               422 a body that is not well formed
    ├── StoreNotServed      422 no app of that store is set up here
    └── BadParameter        400 a header, path or query parameter that is not
        └── BadCursor       400 a cursor that was not given out for this list
Trouble
├── KeysUnavailable         503 the issuer's keys cannot be had
└── NotStored               503 no durable medium takes a notification: the store sends it again
"""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import msgspec

from api.text import json_bytes, kebab
from domain import errors as e

PROBLEM_TYPE: Final = "urn:daicho:problem:"
PROBLEM_MEDIA: Final = b"application/problem+json"
Header = tuple[bytes, bytes]


class Unauthenticated(e.Refusal):
    """No token, or one that does not hold."""


class NotFromStore(Unauthenticated):
    """The notification was not sent by the store."""


class MissingScope(e.Forbidden):
    """The token's scopes do not allow this."""


class MissingCompany(e.Forbidden):
    """The operation belongs to a company, and the token names none."""


class NoSuchResource(e.NotFound):
    """There is nothing at this path."""


class LogNotFound(e.NotFound):
    """The log has no such checkpoint, tile or bundle (yet)."""


class MethodNotAllowed(e.Refusal):
    """The path has no such method."""


class BodyTimeout(e.Refusal):
    """The body came too slowly."""


class BodyTooLarge(e.Refusal):
    """The body is larger than allowed."""


class UnsupportedMediaType(e.Refusal):
    """The body is of another media type than the operation takes."""


class PayloadErased(e.Refusal):
    """The payload was erased: its key was destroyed for good."""


class PurchaseNotGenuine(e.Refusal):
    """What was handed in is no purchase of our app at its store."""


class StoreNotServed(e.Malformed):
    """No app of that store is set up here."""


class BadParameter(e.Malformed):
    """A header, path or query parameter is not well formed."""


class BadCursor(BadParameter):
    """The cursor was not given out for this list."""


class KeysUnavailable(e.Trouble):
    """The issuer's keys cannot be had for now."""


class NotStored(e.Trouble):
    """The notification could not be stored: send it again."""


class InternalError(e.Trouble):
    """A defect of ours; it has been logged under the request's id."""


class Rule(NamedTuple):
    """How a class is answered: HTTP status and, for trouble, after how many seconds to try again."""

    status: int
    retry_after_seconds: int | None = None


RULES: Final[Mapping[type[e.DaichoError], Rule]] = {
    e.DaichoError: Rule(500),
    e.Refusal: Rule(400),
    e.Malformed: Rule(422),
    e.EntryTooLarge: Rule(422),
    PurchaseNotGenuine: Rule(422),
    StoreNotServed: Rule(422),
    BadParameter: Rule(400),
    BadCursor: Rule(400),
    Unauthenticated: Rule(401),
    NotFromStore: Rule(401),
    e.Forbidden: Rule(403),
    MissingScope: Rule(403),
    MissingCompany: Rule(403),
    e.NotYourCompany: Rule(403),
    e.NotAParty: Rule(403),
    e.OperatorOnly: Rule(403),
    e.PersonNeeded: Rule(403),
    e.SecondPersonNeeded: Rule(403),
    e.OtherSideNeeded: Rule(403),
    e.CreditorNeeded: Rule(403),
    e.BothSidesNeeded: Rule(403),
    e.NotFound: Rule(404),
    NoSuchResource: Rule(404),
    LogNotFound: Rule(404),
    e.CompanyNotFound: Rule(404),
    e.WalletNotFound: Rule(404),
    e.TradeNotFound: Rule(404),
    e.EntryNotFound: Rule(404),
    e.AnchorNotFound: Rule(404),
    e.MessageNotFound: Rule(404),
    e.SubscriptionNotFound: Rule(404),
    e.IdentityNotFound: Rule(404),
    e.PurchaseNotFound: Rule(404),
    e.CaseNotFound: Rule(404),
    MethodNotAllowed: Rule(405),
    BodyTimeout: Rule(408),
    e.Conflict: Rule(409),
    e.CommandKeyReused: Rule(409),
    e.AlreadyExists: Rule(409),
    e.NothingNew: Rule(409),
    e.ReferenceTaken: Rule(409),
    e.WrongState: Rule(409),
    e.CompanySuspended: Rule(409),
    e.WalletNotActive: Rule(409),
    e.TradePartlySettled: Rule(409),
    e.OutcomeNotAllowed: Rule(409),
    e.AskFirst: Rule(409),
    e.LineTaken: Rule(409),
    e.AmountExceedsOpen: Rule(409),
    e.CurrencyMismatch: Rule(409),
    e.DigestMismatch: Rule(409),
    e.BulkRejected: Rule(409),
    PayloadErased: Rule(410),
    e.VersionMismatch: Rule(412),
    BodyTooLarge: Rule(413),
    UnsupportedMediaType: Rule(415),
    e.SignatureRefused: Rule(403),
    e.SignatureMissing: Rule(403),
    e.SignatureInvalid: Rule(403),
    e.SignatureExpired: Rule(403),
    e.SignatureReplayed: Rule(409),
    e.WrongSigner: Rule(403),
    e.Trouble: Rule(503, 5),
    e.LedgerReadOnly: Rule(503, 60),
    e.StorageUnavailable: Rule(503, 5),
    e.ClockJumped: Rule(503, 30),
    e.Overloaded: Rule(503, 1),
    e.SignerUnavailable: Rule(503, 2),
    e.ChainUnavailable: Rule(503, 5),
    e.NotYetVisible: Rule(503, 1),
    KeysUnavailable: Rule(503, 5),
    NotStored: Rule(503, 10),
    InternalError: Rule(500),
}


class Problem(msgspec.Struct, frozen=True):
    """RFC 9457. `values` are the facts behind `detail`: for a malformed request its `field` and the broken `rule`."""

    type: str
    title: str
    status: int
    detail: str
    values: dict[str, Any]


def rule_of(kind: type[e.DaichoError]) -> Rule:
    """The row of a class, or of the nearest class above it."""
    for base in kind.__mro__:
        rule = RULES.get(base)
        if rule is not None:
            return rule
    return RULES[e.DaichoError]


def problem_name(kind: type[e.DaichoError]) -> str:
    """The class's name in a problem's type: CompanyNotFound is company-not-found."""
    return kebab(kind.__name__)


def title_of(kind: type[e.DaichoError]) -> str:
    """The first sentence of the class's docstring."""
    return (kind.__doc__ or kind.__name__).partition("\n")[0].rstrip(".")


def problem_of(error: e.DaichoError) -> Problem:
    """The problem that answers a refusal or trouble."""
    kind = type(error)
    name = f"{PROBLEM_TYPE}{problem_name(kind)}"
    return Problem(name, title_of(kind), rule_of(kind).status, error.message, error.values)


def problem_headers(error: e.DaichoError) -> list[Header]:
    """Its headers: Retry-After (RFC 9110 section 10.2.3), WWW-Authenticate (RFC 6750 section 3), Allow."""
    headers: list[Header] = []
    rule = rule_of(type(error))
    if rule.retry_after_seconds is not None:
        headers.append((b"retry-after", str(rule.retry_after_seconds).encode()))
    if isinstance(error, Unauthenticated):
        code = ', error="invalid_token"' if error.values.get("given") else ""
        headers.append((b"www-authenticate", f'Bearer realm="daicho"{code}'.encode()))
    elif isinstance(error, MissingScope):
        scopes = " ".join(error.values.get("needed", ()))
        text = f'Bearer realm="daicho", error="insufficient_scope", scope="{scopes}"'
        headers.append((b"www-authenticate", text.encode()))
    elif isinstance(error, MethodNotAllowed):
        headers.append((b"allow", ", ".join(error.values.get("allowed", ())).encode()))
    elif isinstance(error, BodyTooLarge | BodyTimeout):
        headers.append((b"connection", b"close"))  # the rest of the body is not read
    return headers


def problem_bytes(error: e.DaichoError) -> bytes:
    """The problem as JSON."""
    return json_bytes(problem_of(error))

"""Who calls: a verified JWT turned into an actor of the ledger. A token is never logged and never sent back.

1. one `Authorization: Bearer` header of bounded length
2. the algorithm is one of the pinned ones, the key is the issuer's for exactly that algorithm
3. signature, issuer, audience, expiry (required) and not-before hold
4. subject, scopes and company are well formed; an operator belongs to no company

The company comes from the claim alone. Verified tokens are kept by their full text until they expire or keys rotate.
"""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import jwt

from api.errors import MissingCompany, MissingScope, Unauthenticated
from api.keys import KeySource
from api.services import UsersPort
from api.settings import ApiSettings
from domain.entry import Actor

OPERATOR: Final = "operator"
TRADE_WRITE: Final = "trade:write"
TRADE_READ: Final = "trade:read"
WALLET_WRITE: Final = "wallet:write"
AUDIT_READ: Final = "audit:read"
ANCHOR_NOW: Final = "anchor:now"
PURCHASE_WRITE: Final = "purchase:write"
SUPPORT_READ: Final = "support:read"
SCOPES: Final = {
    OPERATOR: "admit and suspend companies, act for any company's users, read everything",
    TRADE_WRITE: "record, confirm, dispute, settle and reverse the company's trades",
    TRADE_READ: "read the company's trades, balances and entries",
    WALLET_WRITE: "open, rotate, freeze and close the company's wallets",
    AUDIT_READ: "read every entry, its proofs and the log's entry bundles",
    PURCHASE_WRITE: "begin purchases, read purchases and access of the company's users",
    SUPPORT_READ: "answer customers: read users' lines, their timelines and the raw payloads; every read is logged",
    ANCHOR_NOW: "ask for an anchor at once",
}
_OF_COMPANIES: Final = frozenset({TRADE_WRITE, TRADE_READ, WALLET_WRITE, PURCHASE_WRITE})
MAX_TOKEN_BYTES: Final = 8 * 1024
MAX_SUBJECT_CHARACTERS: Final = 255
_CODE: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,38}[a-z0-9]")


@dataclass(slots=True, frozen=True)
class Caller:
    """A verified caller. `viewer` is whom read models answer for: a company's code, None for who may read all."""

    actor: Actor
    company: str
    scopes: frozenset[str]
    expires: float

    @property
    def is_operator(self) -> bool:
        """True for the ledger's operator."""
        return OPERATOR in self.scopes

    @property
    def viewer(self) -> str | None:
        """Whose trades, balances and wallets may be read."""
        if self.company:
            return self.company
        if self.scopes & {OPERATOR, AUDIT_READ}:
            return None
        raise MissingCompany("the token names no company whose data could be read")

    @property
    def entry_viewer(self) -> str | None:
        """Whose entries may be read: an auditor reads all, also one of a company."""
        return None if self.scopes & {OPERATOR, AUDIT_READ} else self.viewer

    def require_company(self) -> str:
        """The company that acts. Raises MissingCompany."""
        if not self.company:
            raise MissingCompany("this is done by a company; the token names none")
        return self.company

    def require(self, allowed: frozenset[str]) -> None:
        """Raise MissingScope unless the token has one of the scopes; an empty set asks for none.

        MissingCompany when it has only such as are a company's and names none: for the ledger, an actor without a
        company is the operator, and that is for the scope `operator` alone.
        """
        if not allowed:
            return
        held = allowed & self.scopes
        if not held:
            needed = sorted(allowed)
            raise MissingScope(f"this needs the scope {' or '.join(needed)}", needed=needed)
        if not self.company and held <= _OF_COMPANIES:
            raise MissingCompany(f"the scope {min(held)} is a company's, and the token names none")


class Authenticator:
    """Turns the Authorization header into a caller."""

    def __init__(
        self, settings: ApiSettings, keys: KeySource, users: UsersPort, clock: Callable[[], float] = time.time
    ) -> None:
        self._settings = settings
        self._keys = keys
        self._users = users
        self._clock = clock
        self._cache: dict[bytes, Caller] = {}
        self._generation = keys.generation

    async def caller(self, header: bytes | None) -> Caller:
        """The caller. Raises Unauthenticated, KeysUnavailable."""
        now = self._clock()
        if now >= self._keys.due:
            await self._keys.refresh()
        if self._generation != self._keys.generation:
            self._forget()
        if header is None:
            raise Unauthenticated("this needs a token: Authorization: Bearer …")
        known = self._cache.get(header)
        if known is not None and now < known.expires:
            return known
        caller, generation = await self._verify(header)
        if generation == self._keys.generation:  # else keys rotated meanwhile: verify it anew next time
            if self._generation != generation:
                self._forget()
            if len(self._cache) >= self._settings.max_cached_tokens:
                del self._cache[next(iter(self._cache))]
            self._cache[header] = caller
        return caller

    def _forget(self) -> None:
        self._cache.clear()
        self._generation = self._keys.generation

    async def _verify(self, header: bytes) -> tuple[Caller, int]:
        """The caller, and the generation of keys that it was verified with."""
        scheme, _, token = header.partition(b" ")
        if scheme.lower() != b"bearer" or not token or len(token) > MAX_TOKEN_BYTES:
            raise _refused("the Authorization header is no Bearer token")
        claims = await self._claims(token.strip())
        generation = self._keys.generation
        subject, company, scopes = self._read(claims)
        actor = Actor(company, await self._users.pseudonym(company, subject))
        expires = float(claims["exp"]) + self._settings.token_leeway_seconds
        return Caller(actor, company, scopes, expires), generation

    async def _claims(self, token: bytes) -> dict[str, Any]:
        settings = self._settings
        try:
            text = token.decode("ascii")
            head = jwt.get_unverified_header(text)
            algorithm, kid = head.get("alg"), head.get("kid")
            if algorithm not in settings.algorithms or not isinstance(kid, str | None):
                raise _refused("the token's algorithm is not accepted")
            key = await self._keys.find(kid, algorithm)
            if key is None:
                raise _refused("the token is signed by an unknown key")
            claims: dict[str, Any] = jwt.decode(
                text,
                key,
                algorithms=[algorithm],
                audience=settings.audience,
                issuer=settings.issuer,
                leeway=settings.token_leeway_seconds,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
        except jwt.ExpiredSignatureError:
            raise _refused("the token has expired") from None
        except (jwt.InvalidAudienceError, jwt.InvalidIssuerError):
            raise _refused("the token is not for this service") from None
        except (jwt.PyJWTError, ValueError, TypeError, AttributeError, OverflowError, RecursionError):
            raise _refused("the token does not hold") from None
        return claims

    def _read(self, claims: dict[str, Any]) -> tuple[str, str, frozenset[str]]:
        """Subject, company ("" for none) and scopes."""
        subject, scope = claims.get("sub"), claims.get("scope", "")
        company = claims.get(self._settings.company_claim)
        if not isinstance(subject, str) or not 0 < len(subject) <= MAX_SUBJECT_CHARACTERS or not subject.isprintable():
            raise _refused("the token's subject is not usable")
        if not isinstance(scope, str):
            raise _refused("the token's scope is no text")
        if company is None or company == "":
            company = ""
        elif not isinstance(company, str) or not _CODE.fullmatch(company):
            raise _refused("the token's company is no company code")
        scopes = frozenset(scope.split())
        if company and OPERATOR in scopes:
            raise _refused("an operator belongs to no company")
        return subject, company, scopes


def _refused(reason: str) -> Unauthenticated:
    return Unauthenticated(reason, given=True)

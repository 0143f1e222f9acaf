"""Real users and their pseudonyms: the log names only the latter, this table alone knows whom they mean.

The look-up key is an HMAC under a sealed index key, the real subject is sealed under a data key of its own:
erasing one subject destroys that data key and the look-up key, and leaves a pseudonym that means nobody any
more.
"""

import hashlib
import hmac
import secrets
import threading
from typing import Final, Protocol

import msgspec

from chain.envelope import Context, Sealed, seal, unseal
from chain.vault import AuditRow, SealedKey, Vault

SUBJECT: Final = "subject"
INDEX: Final = "subject-index"
_INDEX_KEY_BYTES: Final = 32
_PSEUDONYM_BYTES: Final = 16
_MAX_NAME_BYTES: Final = 4_096
SubjectRow = tuple[str, int, bytes, bytes, bytes, bytes]


class SubjectStore(Protocol):
    """Where sealed subjects lie: pseudonym, then the five parts of `Sealed`. Writes are on disk on return."""

    def subject_by_lookup(self, lookup: bytes) -> str | None:
        """The pseudonym under a look-up key of 32 bytes."""
        ...

    def subject(self, pseudonym: str) -> SubjectRow | None:
        """One subject, None when unknown or erased."""
        ...

    def add_subject(self, lookup: bytes, row: SubjectRow) -> str:
        """Store it unless the look-up key exists; the pseudonym that stands there then, also under races."""
        ...

    def erase_subject(self, pseudonym: str, audit: AuditRow) -> bool:
        """Destroy data key and look-up key for good; False when there was nothing left."""
        ...


class Subjects:
    """Pseudonyms of companies' users. Usable from any thread; needs the service's part of the master key."""

    def __init__(self, vault: Vault, store: SubjectStore) -> None:
        self._vault = vault
        self._store = store
        self._index_key = b""
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return "Subjects()"

    def pseudonym(self, company: str, subject: str) -> str:
        """The pseudonym (32 hex digits) of a company's user: durable on first use, the same ever after.

        After an erasure the same user would get a new one.
        """
        lookup = self._lookup(company, subject)
        known = self._store.subject_by_lookup(lookup)
        if known is not None:
            return known
        fresh = secrets.token_hex(_PSEUDONYM_BYTES)
        sealed = seal(msgspec.json.encode([company, subject]), _context(fresh), self._vault.provider)
        return self._store.add_subject(lookup, (fresh, *sealed))

    def known(self, company: str, subject: str) -> str | None:
        """The pseudonym of a company's user if there is one already."""
        return self._store.subject_by_lookup(self._lookup(company, subject))

    def reveal(self, pseudonym: str) -> tuple[str, str] | None:
        """(company, real subject) of a pseudonym, None when unknown or erased."""
        row = self._store.subject(pseudonym)
        if row is None:
            return None
        plain = unseal(Sealed(*row[1:]), _context(pseudonym), self._vault.provider)
        return msgspec.json.decode(plain, type=tuple[str, str])

    def erase_subject(self, pseudonym: str, who: str = "service") -> bool:
        """Forget for good whom a pseudonym means, with an audit row; False when nobody was known under it."""
        return self._store.erase_subject(pseudonym, self._vault.audit_row(who, "erase subject", pseudonym, b""))

    def _lookup(self, company: str, subject: str) -> bytes:
        if not subject or len(company) + len(subject) > _MAX_NAME_BYTES:
            raise ValueError(f"a subject has 1 to {_MAX_NAME_BYTES} characters")
        message = msgspec.json.encode([company, subject])
        return hmac.digest(self._index(), message, hashlib.sha256)

    def _index(self) -> bytes:
        """The index key, opened once per process; made on first use (a race leaves the first one stored)."""
        with self._lock:
            if not self._index_key:
                if not self._vault.store.keys(INDEX, ""):
                    fresh = seal(secrets.token_bytes(_INDEX_KEY_BYTES), Context(INDEX, "", ""), self._vault.provider)
                    audit = self._vault.audit_row("service", "create index key", "", b"")
                    self._vault.store.commit(None, (SealedKey(INDEX, "", 1, "", "", *fresh),), None, (audit,))
                self._index_key = self._vault.unseal(self._vault.sealed(INDEX, ""))
            return self._index_key


def _context(pseudonym: str) -> Context:
    return Context(SUBJECT, pseudonym, "")

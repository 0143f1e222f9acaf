"""Identifiers: UUIDv7 for what is new, UUIDv5 for what has a natural key, random bits for salts and nonces."""

import os
import time
from collections.abc import Iterator
from uuid import UUID, uuid5

NAMESPACE = UUID("8b0f0f3e-5d0a-5b8e-9a35-0d8f4a1c7e52")  # of this project; never changes
_BLOCK = 512
_TIME_ORDERED = 7  # the version of RFC 9562 section 5.7


def _entropy() -> Iterator[str]:
    """Yield 32 hex digits at a time from one system call per 512: a call each costs more than an encoding."""
    while True:
        digits = os.urandom(16 * _BLOCK).hex()
        for start in range(0, len(digits), 32):
            yield digits[start : start + 32]


class IdSource:
    """Makes identifiers. One per process and thread of decisions; holds entropy, never hands out a bit twice."""

    def __init__(self) -> None:
        self._next = _entropy().__next__
        self._pid = os.getpid()

    def random128(self) -> str:
        """128 random bits as 32 hex digits."""
        if self._pid != os.getpid():  # a fork must not repeat its parent's bits
            self.__init__()  # type: ignore[misc]
        return self._next()

    def uuid7(self) -> str:
        """A UUIDv7 (RFC 9562 section 5.7): ordered by milliseconds, so that indexes grow at one end."""
        millis = f"{time.time_ns() // 1_000_000:012x}"
        bits = self.random128()
        return f"{millis[:8]}-{millis[8:]}-7{bits[:3]}-a{bits[3:6]}-{bits[6:18]}"

    def nonce(self) -> str:
        """A 256-bit signature nonce as 0x and 64 hex digits, ordered by time for the sake of the index."""
        return f"0x{time.time_ns() // 1_000_000:012x}{self.random128()}{self.random128()[:20]}"


def company_id(code: str) -> str:
    """The aggregate id of the company with that code."""
    return str(uuid5(NAMESPACE, f"company:{code}"))


def wallet_id(company: str, subject: str) -> str:
    """The aggregate id of the one wallet that a company's user (by pseudonym) has."""
    return str(uuid5(NAMESPACE, f"wallet:{company}:{subject}"))


def book_id(origin: str) -> str:
    """The aggregate id of the book itself."""
    return str(uuid5(NAMESPACE, f"book:{origin}"))


def anchor_id(chain_id: int, contract: str, publisher: str, nonce: int) -> str:
    """The aggregate id of the anchor that a publisher's nonce carries."""
    return str(uuid5(NAMESPACE, f"anchor:{chain_id}:{contract.lower()}:{publisher.lower()}:{nonce}"))


def is_uuid7(text: str) -> bool:
    """True for the canonical lower-case form of a UUIDv7."""
    try:
        parsed = UUID(text)
    except ValueError:
        return False
    return parsed.version == _TIME_ORDERED and str(parsed) == text

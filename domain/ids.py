"""Identifiers: UUIDv7 for what is new, UUIDv5 for what has a natural key, random bits for salts and nonces."""

import os
import time
import weakref
from collections.abc import Callable, Iterator
from functools import lru_cache
from uuid import UUID, uuid5

NAMESPACE = UUID("8b0f0f3e-5d0a-5b8e-9a35-0d8f4a1c7e52")  # of this project; never changes
_BLOCK = 512
_REMEMBERED = 65_536  # natural keys whose id is kept: computing one costs as much as deciding a command
_TIME_ORDERED = 7  # the version of RFC 9562 section 5.7


def _entropy() -> Iterator[str]:
    """Yield 32 hex digits at a time from one system call per 512: a call each costs more than an encoding."""
    while True:
        digits = os.urandom(16 * _BLOCK).hex()
        for start in range(0, len(digits), 32):
            yield digits[start : start + 32]


class IdSource:
    """Makes identifiers. One per process and thread of decisions; holds entropy, never hands out a bit twice."""

    random128: Callable[[], str]
    """128 random bits as 32 hex digits."""

    def __init__(self) -> None:
        self._refill()
        self._millis, self._prefix = 0, ""
        me = weakref.ref(self)
        os.register_at_fork(after_in_child=lambda: _refill(me()))  # a fork must not repeat its parent's bits

    def _refill(self) -> None:
        self.random128 = _entropy().__next__  # the generator's own method: no call of ours around it

    def uuid7(self) -> str:
        """A UUIDv7 (RFC 9562 section 5.7): ordered by milliseconds, so that indexes grow at one end."""
        millis = time.time_ns() // 1_000_000
        if millis != self._millis:  # many ids are made within a millisecond
            digits = f"{millis:012x}"
            self._millis, self._prefix = millis, f"{digits[:8]}-{digits[8:]}-7"
        bits = self.random128()
        return f"{self._prefix}{bits[:3]}-a{bits[3:6]}-{bits[6:18]}"

    def nonce(self) -> str:
        """A 256-bit signature nonce as 0x and 64 hex digits, ordered by time for the sake of the index."""
        return f"0x{time.time_ns() // 1_000_000:012x}{self.random128()}{self.random128()[:20]}"


def _refill(source: IdSource | None) -> None:
    if source is not None:
        source._refill()  # noqa: SLF001 of this module


@lru_cache(maxsize=_REMEMBERED)
def company_id(code: str) -> str:
    """The aggregate id of the company with that code."""
    return str(uuid5(NAMESPACE, f"company:{code}"))


@lru_cache(maxsize=_REMEMBERED)
def wallet_id(company: str, subject: str) -> str:
    """The aggregate id of the one wallet that a company's user (by pseudonym) has."""
    return str(uuid5(NAMESPACE, f"wallet:{company}:{subject}"))


def book_id(origin: str) -> str:
    """The aggregate id of the book itself."""
    return str(uuid5(NAMESPACE, f"book:{origin}"))


def anchor_id(chain_id: int, contract: str, publisher: str, nonce: int) -> str:
    """The aggregate id of the anchor that a publisher's nonce carries."""
    return str(uuid5(NAMESPACE, f"anchor:{chain_id}:{contract.lower()}:{publisher.lower()}:{nonce}"))


def subscription_id(store: str, environment: str, line: str) -> str:
    """The aggregate id of a subscription by the name that its store has for it."""
    return str(uuid5(NAMESPACE, f"subscription:{store}:{environment}:{line}"))


def message_id(store: str, environment: str, notification: str) -> str:
    """The aggregate id of a message by the id that its store gave it."""
    return str(uuid5(NAMESPACE, f"message:{store}:{environment}:{notification}"))


def payload_owner(store: str, line: str) -> str:
    """The name of the key that all payloads about a line at a store are sealed under, whatever their environment."""
    return str(uuid5(NAMESPACE, f"payloads:{store}:{line}"))


def erasure_id(user: str) -> str:
    """The aggregate id of a user's erasure."""
    return str(uuid5(NAMESPACE, f"erasure:{user}"))


def charge_id(store: str, environment: str, key: str) -> str:
    """Our name of a charge at a store."""
    return str(uuid5(NAMESPACE, f"charge:{store}:{environment}:{key}"))


def identity_id(subscription: str) -> str:
    """The aggregate id of the binding of a subscription (by aggregate id) to a user."""
    return str(uuid5(NAMESPACE, f"identity:{subscription}"))


def purchase_id(subscription: str) -> str:
    """The aggregate id of the one saga that a subscription (by aggregate id) has."""
    return str(uuid5(NAMESPACE, f"purchase:{subscription}"))


def case_id(kind: str, about: str, number: int) -> str:
    """The aggregate id of the `number`th case of a kind about an aggregate."""
    return str(uuid5(NAMESPACE, f"case:{kind}:{about}:{number}"))


def is_uuid7(text: str) -> bool:
    """True for the canonical lower-case form of a UUIDv7."""
    try:
        parsed = UUID(text)
    except ValueError:
        return False
    return parsed.version == _TIME_ORDERED and str(parsed) == text

"""The token issuer's public keys: one PEM, or a JWKS from a file or URL that is read again when keys rotate.

Read again: when it is older than its maximum age (a withdrawn key stops working), and when a token names an unknown
key, though never more often than the pause allows (a flood of invented key names costs the issuer nothing).
"""

import asyncio
import hashlib
import json
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol

import httpx
import jwt
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from api.errors import KeysUnavailable
from api.settings import ApiSettings

MAX_JWKS_BYTES: Final = 1024 * 1024
_FETCH_SECONDS: Final = 5.0
logger = logging.getLogger("daicho.auth")


class KeySource(Protocol):
    """The issuer's keys. `due` (Unix seconds) is when `refresh` wants to be called; `generation` counts changes."""

    due: float
    generation: int

    async def find(self, kid: str | None, algorithm: str) -> Any | None:
        """The key of that name for that algorithm, None when the issuer has none. Raises KeysUnavailable."""

    async def refresh(self) -> None:
        """Read the keys again. A failure keeps the old ones."""


class PemKeys:
    """One public key that only a restart changes."""

    def __init__(self, pem: bytes) -> None:
        """Raises ValueError for what is no public key."""
        self._key = load_pem_public_key(pem)
        self.due = float("inf")
        self.generation = 0

    async def find(self, kid: str | None, algorithm: str) -> Any | None:  # noqa: ARG002 one key for all names
        return self._key

    async def refresh(self) -> None:
        """Nothing to read again."""


class JwksKeys:
    """A JWKS (RFC 7517) that `load` reads. Symmetric keys and keys for encryption in it are left out."""

    def __init__(
        self,
        load: Callable[[], Awaitable[bytes]],
        *,
        max_age_seconds: float,
        pause_seconds: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._load = load
        self._max_age = max_age_seconds
        self._pause = pause_seconds
        self._clock = clock
        self._keys: list[jwt.PyJWK] = []
        self._fingerprint = b""
        self._lock = asyncio.Lock()
        self._tried = float("-inf")
        self._ended = 0
        self.due = float("-inf")
        self.generation = 0

    async def find(self, kid: str | None, algorithm: str) -> Any | None:
        await self.refresh()
        key = self._pick(kid, algorithm)
        if key is None and self._clock() >= self._tried + self._pause:
            await self._read(self._ended)
            key = self._pick(kid, algorithm)
        if key is None and not self._keys:
            raise KeysUnavailable("the issuer's keys cannot be read for now")
        return key

    async def refresh(self) -> None:
        if self._clock() >= self.due:
            await self._read(self._ended)

    def _pick(self, kid: str | None, algorithm: str) -> Any | None:
        fitting = [key for key in self._keys if key.algorithm_name == algorithm]
        if kid is None:  # RFC 7515 section 4.1.4: the name may be left out where there is no choice
            return fitting[0].key if len(fitting) == 1 else None
        return next((key.key for key in fitting if key.key_id == kid), None)

    async def _read(self, ended_before: int) -> None:
        """Read once for all who wait: whoever waited for somebody else's try uses its result."""
        async with self._lock:
            if self._ended != ended_before:
                return
            self._tried = self._clock()
            try:
                raw = await self._load()
                keys = _parse(raw)
            except (OSError, ValueError, RecursionError, httpx.HTTPError) as error:
                self.due = self._tried + self._pause
                logger.warning("the issuer's keys could not be read: %s", type(error).__name__)
                return
            finally:
                self._ended += 1
            self.due = self._tried + self._max_age
            fingerprint = hashlib.sha256(raw).digest()
            if fingerprint != self._fingerprint:
                self._keys, self._fingerprint = keys, fingerprint
                self.generation += 1


def key_source(settings: ApiSettings) -> KeySource:
    """The source that the settings name."""
    if settings.public_key_pem is not None:
        return PemKeys(settings.public_key_pem)
    path, url = settings.jwks_file, settings.jwks_url

    async def load() -> bytes:
        if path is not None:
            return await asyncio.to_thread(path.read_bytes)
        return await _fetch(str(url))

    return JwksKeys(load, max_age_seconds=settings.jwks_max_age_seconds, pause_seconds=settings.jwks_pause_seconds)


async def _fetch(url: str) -> bytes:
    """The document at a URL; no redirects, bounded in time and size."""
    async with (
        httpx.AsyncClient(timeout=_FETCH_SECONDS, follow_redirects=False) as client,
        client.stream("GET", url, headers={"accept": "application/json"}) as response,
    ):
        response.raise_for_status()
        received = bytearray()
        async for chunk in response.aiter_bytes():
            received += chunk
            if len(received) > MAX_JWKS_BYTES:
                raise ValueError("the JWKS is too large")
        return bytes(received)


def _parse(raw: bytes) -> list[jwt.PyJWK]:
    """The usable keys; ValueError for what is no JWKS or has none."""
    if len(raw) > MAX_JWKS_BYTES:
        raise ValueError("the JWKS is too large")
    document = json.loads(raw)
    listed = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(listed, list):
        raise ValueError("no JWKS")  # noqa: TRY004 the document is wrong, not a type of ours
    keys: list[jwt.PyJWK] = []
    for entry in listed:
        if not isinstance(entry, dict) or entry.get("kty") == "oct" or entry.get("use", "sig") != "sig":
            continue
        try:
            keys.append(jwt.PyJWK(entry))
        except (jwt.PyJWTError, ValueError, TypeError):  # a key of a kind that we do not know does not spoil the others
            continue
    if not keys:
        raise ValueError("the JWKS holds no usable key")
    return keys

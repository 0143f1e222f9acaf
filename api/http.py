"""One HTTP exchange: the call that comes in, the answer that goes out. As little as the hot route can afford."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any, Final

from api.errors import (
    PROBLEM_MEDIA,
    BadParameter,
    BodyTimeout,
    BodyTooLarge,
    Header,
    problem_bytes,
    problem_headers,
    rule_of,
)
from api.text import json_bytes
from domain.errors import DaichoError

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
JSON: Final = b"application/json"
_NO_CONTENT: Final = frozenset({204, 304})
_MAX_LENGTH_DIGITS: Final = 18
_ONCE: Final = frozenset({b"authorization", b"idempotency-key", b"if-match", b"content-type", b"content-length"})


class ClientGone(Exception):
    """The client closed the connection before its body was whole: there is nobody to answer."""


@dataclass(slots=True)
class Answer:
    """What is sent back. `headers` come after content-type and content-length."""

    status: int
    body: bytes = b""
    media: bytes = JSON
    headers: list[Header] = field(default_factory=list)

    async def send(self, send: Send, *, head: bool = False) -> None:
        """Send it; for HEAD without the body."""
        headers = self.headers
        if self.status not in _NO_CONTENT:
            headers = [(b"content-type", self.media), (b"content-length", b"%d" % len(self.body)), *headers]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if head else self.body})


def json_answer(value: Any, status: int = 200, headers: list[Header] | None = None) -> Answer:
    """An answer of one JSON value."""
    return Answer(status, json_bytes(value), JSON, headers or [])


def problem_answer(error: DaichoError) -> Answer:
    """The answer to a refusal or trouble."""
    body = problem_bytes(error)
    return Answer(_status(error), body, PROBLEM_MEDIA, problem_headers(error))


class Call:
    """A request: what the server took apart, the body on demand, and what the operation's row made of it.

    `args` holds the parsed query parameters, `path` the parsed path parameters. `caller` is set where the operation
    asks for a token.
    """

    __slots__ = ("_receive", "args", "caller", "headers", "path", "scope")

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self.scope = scope
        self._receive = receive
        raw: list[Header] = scope["headers"]
        self.headers: dict[bytes, bytes] = dict(raw)
        if len(self.headers) != len(raw):
            _refuse_repeated(raw)
        self.args: dict[str, Any] = {}
        self.path: dict[str, Any] = {}
        self.caller: Any = None

    async def body(self, limit_bytes: int, timeout_seconds: float) -> bytes:
        """The whole body. Raises BodyTooLarge, BodyTimeout, ClientGone."""
        length = self.headers.get(b"content-length")
        if length is not None and (
            len(length) > _MAX_LENGTH_DIGITS or not length.isdigit() or int(length) > limit_bytes
        ):
            raise _too_large(limit_bytes)
        message = await self._receive()
        if not message.get("more_body"):
            return _chunk(message, limit_bytes)
        chunks = [_chunk(message, limit_bytes)]
        left = limit_bytes - len(chunks[0])
        try:
            async with asyncio.timeout(timeout_seconds):
                while message.get("more_body"):
                    message = await self._receive()
                    chunks.append(_chunk(message, left, limit_bytes))
                    left -= len(chunks[-1])
        except TimeoutError:
            raise BodyTimeout(
                f"the body was not whole after {timeout_seconds:g} s", limit_seconds=timeout_seconds
            ) from None
        return b"".join(chunks)

    async def body_or_start(self, limit_bytes: int, start_bytes: int, timeout_seconds: float) -> tuple[bytes, bool]:
        """The whole body and True; of one that is larger than allowed its first bytes and False. Raises as `body`."""
        read, more = bytearray(), True
        try:
            async with asyncio.timeout(timeout_seconds):
                while more and len(read) <= limit_bytes:
                    message = await self._receive()
                    if message["type"] == "http.disconnect":
                        raise ClientGone
                    read += message.get("body", b"")
                    more = bool(message.get("more_body"))
        except TimeoutError:
            raise BodyTimeout(
                f"the body was not whole after {timeout_seconds:g} s", limit_seconds=timeout_seconds
            ) from None
        if len(read) > limit_bytes:
            return bytes(read[:start_bytes]), False
        return bytes(read), True


def _chunk(message: Message, left: int, limit_bytes: int | None = None) -> bytes:
    if message["type"] == "http.disconnect":
        raise ClientGone
    chunk: bytes = message.get("body", b"")
    if len(chunk) > left:
        raise _too_large(limit_bytes or left)
    return chunk


def _too_large(limit_bytes: int) -> BodyTooLarge:
    return BodyTooLarge(f"a body has at most {limit_bytes} bytes here", limit_bytes=limit_bytes)


def _status(error: DaichoError) -> int:
    return rule_of(type(error)).status


def _refuse_repeated(raw: list[Header]) -> None:
    """Two values of a header that has one meaning leave open which of them counts: refused."""
    seen: set[bytes] = set()
    for name, _ in raw:
        if name in seen and name in _ONCE:
            field_name = name.decode("latin-1")
            raise BadParameter(f"the header {field_name} is given twice", field=field_name, rule="given once")
        seen.add(name)

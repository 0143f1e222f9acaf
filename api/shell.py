"""Around every request: its id, the security headers, the access log, and the answer to what nobody expected.

One JSON line a request: method, path without its query, status, milliseconds, company, request id. Whatever comes from
outside is escaped by the JSON encoder; tokens, bodies and queries are never written.
"""

import logging
import re
import time
import traceback
from typing import Any, Final

from api.errors import Header, InternalError, NoSuchResource
from api.http import Answer, ClientGone, Message, Receive, Scope, Send, problem_answer
from api.metrics import Metrics
from api.text import json_bytes, quoted
from domain.ids import IdSource

access_log = logging.getLogger("daicho.access")
error_log = logging.getLogger("daicho.error")
REQUEST_ID: Final = b"x-request-id"
_ID: Final = re.compile(rb"[A-Za-z0-9._-]{8,64}")
_ALWAYS: Final[list[Header]] = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
]
_NO_STORE: Final[Header] = (b"cache-control", b"no-store")
_SERVER_ERROR: Final = 500


class Shell:
    """The outermost ASGI application."""

    def __init__(self, app: Any, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics
        self._ids = IdSource()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1003})
                return
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(send, self._request_id(scope["headers"]))
        try:
            await self._app(scope, receive, exchange.send)
        except ClientGone:
            pass
        except Exception as error:  # noqa: BLE001 whatever it is, the client gets an answer and we get a line
            self._log_error(scope, exchange, error)
            if not exchange.status:
                refusal = InternalError("something went wrong here; it has been logged", request=exchange.request_id)
                await problem_answer(refusal).send(exchange.send)
        finally:
            self._metrics.response(exchange.status)
            if access_log.isEnabledFor(logging.INFO):
                access_log.info("%s", _line(scope, exchange))

    def _request_id(self, headers: list[Header]) -> str:
        """The client's own id if it is a plain word, or a new one."""
        for name, value in headers:
            if name == REQUEST_ID and _ID.fullmatch(value):
                return value.decode()
        return self._ids.random128()

    @staticmethod
    def _log_error(scope: Scope, exchange: "_Exchange", error: Exception) -> None:
        where = traceback.extract_tb(error.__traceback__)
        error_log.error(
            "%s",
            json_bytes({
                "event": "unhandled",
                "request": exchange.request_id,
                "method": scope["method"],
                "path": quoted(scope["path"]),
                "error": type(error).__name__,
                "message": quoted(str(error)),
                "at": [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in where[-12:]],
            }).decode(),
        )  # fmt: skip


class _Exchange:
    """Completes the headers of the one response and remembers its status."""

    __slots__ = ("_send", "request_id", "started", "status")

    def __init__(self, send: Send, request_id: str) -> None:
        self._send = send
        self.request_id = request_id
        self.status = 0
        self.started = time.perf_counter()

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers: list[Header] = [*message["headers"], *_ALWAYS, (REQUEST_ID, self.request_id.encode())]
            if not any(name == b"cache-control" for name, _ in message["headers"]):
                headers.append(_NO_STORE)
            message["headers"] = headers
        await self._send(message)


def _line(scope: Scope, exchange: _Exchange) -> str:
    return json_bytes({
        "event": "request",
        "request": exchange.request_id,
        "method": scope["method"],
        "path": quoted(scope["path"]),
        "status": exchange.status,
        "milliseconds": round((time.perf_counter() - exchange.started) * 1000, 2),
        "company": scope.get("daicho.company"),
        "client": (scope.get("client") or [None])[0],
    }).decode()  # fmt: skip


async def not_found(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001 ASGI
    """The answer to a path that is nowhere in the table."""
    path = quoted(scope["path"])
    answer: Answer = problem_answer(NoSuchResource(f"nothing is at {path}", path=path))
    await answer.send(send)

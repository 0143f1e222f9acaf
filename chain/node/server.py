"""HTTP on loopback in front of the chain: bounded bodies and times, one thread that touches the chain.

Only requests that a web page in somebody's browser cannot forge are served: the Host must be loopback (DNS
rebinding) and the content type JSON (cross-site forms). Nothing is sent that would let such a page read an answer.
"""

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import uvicorn

from chain.node.dispatch import answer
from chain.node.evm import Evm

HOST: Final = "127.0.0.1"
MAX_BODY_BYTES: Final = 1024 * 1024
BODY_TIMEOUT_SECONDS: Final = 10
KEEP_ALIVE_SECONDS: Final = 30
MAX_CONNECTIONS: Final = 64
SHUTDOWN_SECONDS: Final = 3
CHAIN_STACK_BYTES: Final = 256 * 1024 * 1024  # address space only; pages are taken as they are touched
LOOPBACK_NAMES: Final = frozenset({"127.0.0.1", "localhost", "[::1]"})

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class BodyTooLargeError(Exception):
    """The request body is over the limit."""


def listen(port: int) -> socket.socket:
    """A listening socket on loopback; port 0 takes a free one."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((HOST, port))
    listener.listen(MAX_CONNECTIONS)
    return listener


class RpcApp:
    """ASGI application: POST a JSON-RPC request or batch to any path."""

    def __init__(self, evm: Evm) -> None:
        self._evm = evm
        self._chain_thread = _deep_thread()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answers one HTTP request; anything else (websockets, lifespan) is not spoken."""
        if scope["type"] != "http":
            return
        status, body = await self._respond(scope, receive)
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        if status != 200:  # noqa: PLR2004 (HTTP)
            # what is left of a refused body is not read
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _respond(self, scope: Message, receive: Receive) -> tuple[int, bytes]:
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        host = headers.get(b"host", "").lower().removesuffix(f":{scope['server'][1]}")
        if host not in LOOPBACK_NAMES:
            return 403, b'{"error":"this node answers on loopback only"}'
        if scope["method"] != "POST":
            return 405, b'{"error":"POST a JSON-RPC request"}'
        if headers.get(b"content-type", "").split(";")[0].strip().lower() != "application/json":
            return 415, b'{"error":"the content type is application/json"}'
        try:
            async with asyncio.timeout(BODY_TIMEOUT_SECONDS):
                body = await _read(receive)
        except TimeoutError:
            return 408, b'{"error":"the body did not arrive in time"}'
        except BodyTooLargeError:
            return 413, b'{"error":"the body is too large"}'
        loop = asyncio.get_running_loop()
        response = await loop.run_in_executor(self._chain_thread, answer, self._evm, body)
        return 200, response or b""

    def close(self) -> None:
        """Waits for the request that is running and closes the chain file."""
        self._chain_thread.submit(self._evm.close)
        self._chain_thread.shutdown(wait=True)


def _deep_thread() -> ThreadPoolExecutor:
    """One thread, for py-evm and its database are not safe with more, and with room for deep recursion.

    py-evm raises Python's recursion limit tenfold: with a usual stack, nested JSON or nested calls would end
    the process where they should end in an error.
    """
    usual_size = threading.stack_size(CHAIN_STACK_BYTES)
    try:
        executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="chain")
        executor.submit(int).result()  # the thread starts now, while the size holds
    finally:
        threading.stack_size(usual_size)
    return executor


async def _read(receive: Receive) -> bytes:
    parts: list[bytes] = []
    size_bytes = 0
    more = True
    while more:
        message = await receive()
        part: bytes = message.get("body", b"")
        size_bytes += len(part)
        if size_bytes > MAX_BODY_BYTES:
            raise BodyTooLargeError
        parts.append(part)
        more = message.get("more_body", False)
    return b"".join(parts)


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_ready()


def serve(evm: Evm, listener: socket.socket, on_ready: Callable[[], None]) -> None:
    """Serves until SIGTERM or SIGINT, then closes the chain. Calls `on_ready` when requests are accepted."""
    app = RpcApp(evm)
    config = uvicorn.Config(
        app,
        lifespan="off",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
    )
    try:
        _Server(config, on_ready).run(sockets=[listener])
    finally:
        app.close()

"""Several addresses of one API as one: what a load balancer does, on the client's side."""

import threading
from collections.abc import Sequence

import httpx


class Replicas(httpx.BaseTransport):
    """Sends each request to the next replica, and past one that does not take the connection. Thread-safe.

    Nothing that may have arrived is sent a second time: who repeats a command does so with its idempotency key.
    """

    def __init__(self, urls: Sequence[str]) -> None:
        self._urls = [httpx.URL(url) for url in urls]
        self._inner = httpx.HTTPTransport()
        self._lock = threading.Lock()
        self._turn = 0

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """The answer of the first replica that can be reached. Raises httpx.ConnectError when none can."""
        trouble: httpx.ConnectError | None = None
        for _ in self._urls:
            url = self._next()
            request.url = request.url.copy_with(scheme=url.scheme, host=url.host, port=url.port)
            request.headers["host"] = url.netloc.decode("ascii")
            try:
                return self._inner.handle_request(request)
            except httpx.ConnectError as error:
                trouble = error
        raise trouble or httpx.ConnectError("there is no replica to ask")

    def close(self) -> None:
        """Close the connections."""
        self._inner.close()

    def _next(self) -> httpx.URL:
        with self._lock:
            self._turn += 1
            return self._urls[self._turn % len(self._urls)]

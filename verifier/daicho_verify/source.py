"""Where a log is read from: a folder or an HTTP address. Bounded in bytes and seconds, no redirect is followed."""

import http.client
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from daicho_verify.errors import MalformedError, MissingError, UnavailableError
from daicho_verify.files import read_bounded

TIMEOUT_SECONDS = 20.0
_CHUNK_BYTES = 1 << 16
_GZIP_WINDOW = 31
_GZIP_FRAME_BYTES = 64  # what cannot be squeezed grows by its frame and some bytes a block (RFC 1951 section 3.2.4)
_HTTP_NOT_FOUND = 404
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


class Source(Protocol):
    """A log's files by their path below the prefix."""

    def read(self, path: str, most_bytes: int, *, secret: bool = False) -> bytes:
        """Give a file; `secret` paths are asked for with the bearer token.

        Raises MissingError when it is not there, UnavailableError when it cannot be read whole.
        """


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follow no redirect: only addresses that the user named are asked, and a token goes nowhere else."""

    def redirect_request(self, *_args: object, **_kwargs: object) -> None:
        """Refuse; urllib then raises the answer as an HTTPError."""


def check_url(url: str, field: str) -> str:
    """Give the URL without a trailing slash; raises MalformedError unless it is plain http or https."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable or any(c <= " " or c > "~" for c in url):
        raise MalformedError(field, "must be an http or https address")
    return url.rstrip("/")


def is_loopback(url: str) -> bool:
    """Say whether the address is on this machine."""
    return urlsplit(url).hostname in _LOOPBACK


def _opener(url: str) -> urllib.request.OpenerDirector:
    """Make an opener; the proxy of the environment is left out for addresses on this machine."""
    handlers: list[urllib.request.BaseHandler] = [_NoRedirect()]
    if is_loopback(url):
        handlers.append(urllib.request.ProxyHandler({}))
    return urllib.request.build_opener(*handlers)


def _inflate(data: bytes, most_bytes: int, url: str) -> bytes:
    inflater = zlib.decompressobj(_GZIP_WINDOW)
    try:
        result = inflater.decompress(data, most_bytes + 1)
    except zlib.error:
        raise UnavailableError(f"{url} answers with broken gzip") from None
    if len(result) > most_bytes or not inflater.eof:
        raise UnavailableError(f"{url} answers with more than {most_bytes} bytes, or not whole")
    return result


def fetch(
    url: str,
    most_bytes: int,
    *,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    timeout_seconds: float = TIMEOUT_SECONDS,
) -> bytes:
    """Get (or post `body` to) a URL and give the answer's bytes; raises MissingError or UnavailableError."""
    request = urllib.request.Request(url, body, dict(headers or {}))  # noqa: S310 - check_url allowed http(s) only
    deadline = time.monotonic() + timeout_seconds
    received = bytearray()
    try:
        with _opener(url).open(request, timeout=timeout_seconds) as response:
            squeezed = response.headers.get("Content-Encoding", "identity").lower() == "gzip"
            most_received = most_bytes + (most_bytes >> 8) + _GZIP_FRAME_BYTES if squeezed else most_bytes
            while chunk := response.read1(_CHUNK_BYTES):
                received += chunk
                if len(received) > most_received:
                    raise UnavailableError(f"{url} answers with more than {most_bytes} bytes")
                if time.monotonic() > deadline:
                    raise UnavailableError(f"{url} did not answer whole within {timeout_seconds:g} s")
    except urllib.error.HTTPError as error:
        error.close()
        kind = MissingError if error.code == _HTTP_NOT_FOUND else UnavailableError
        raise kind(f"{url} answers with HTTP status {error.code}") from None
    except (OSError, http.client.HTTPException) as error:
        raise UnavailableError(f"{url} cannot be reached: {error}") from None
    return _inflate(bytes(received), most_bytes, url) if squeezed else bytes(received)


class HttpSource:
    """A log behind an HTTP prefix; the token goes to entry bundles only."""

    def __init__(self, prefix: str, token: str | None = None) -> None:
        self._prefix = prefix
        self._token = token

    def read(self, path: str, most_bytes: int, *, secret: bool = False) -> bytes:
        """Fetch one file of the log."""
        headers = {"Authorization": f"Bearer {self._token}"} if secret and self._token else {}
        return fetch(f"{self._prefix}/{path}", most_bytes, headers=headers)


class FolderSource:
    """A copy of a log in a folder, in the same layout."""

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)

    def read(self, path: str, most_bytes: int, *, secret: bool = False) -> bytes:  # noqa: ARG002 - a file has no token
        """Read one file of the log."""
        whole = self._folder / path
        if not whole.is_file():
            raise MissingError(f"{whole} is not there")
        return read_bounded(str(whole), most_bytes, "log file")


def open_source(where: str, token: str | None = None) -> Source:
    """Give the source for a URL or a folder; a token is refused where it would travel in the clear."""
    if "://" not in where:
        if not Path(where).is_dir():
            raise UnavailableError(f"log {where} is neither a folder nor an http(s) address")
        return FolderSource(where)
    prefix = check_url(where, "log")
    if token is not None and prefix.startswith("http:") and not is_loopback(prefix):
        raise MalformedError("--token-file", "a token is sent over https, or to this machine, only")
    return HttpSource(prefix, token)

"""The signer's socket: frames in, frames out, one message at a time, and nothing a caller sends can stop it."""

import asyncio
import contextlib
import logging
import os
import socket
import stat
import struct
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from chain.signer.desk import Desk
from chain.signer.protocol import (
    HEADER_BYTES,
    MAX_REQUESTS,
    FrameError,
    Refused,
    Result,
    decode_message,
    encode,
    frame,
    frame_length,
)

MAX_SOCKET_PATH_BYTES: Final = 103 if sys.platform == "darwin" else 107  # sun_path without its final NUL
_MAX_CONNECTIONS: Final = 64
_BODY_TIMEOUT_SECONDS: Final = 30.0  # between a frame's header and its last byte
_MAX_WHO: Final = 64
_PEER_CREDENTIALS: Final = struct.Struct("3i")  # pid, uid, gid: unix(7), SO_PEERCRED
_log = logging.getLogger(__name__)


class SocketError(Exception):
    """The socket cannot be placed where it was asked for."""


def bind_socket(path: Path) -> socket.socket:
    """A listening unix socket, mode 0600, in a folder of mode 0700 that is made if it is missing.

    Raises SocketError when the path is longer than a socket address holds, the folder is open to others, or
    another signer listens there. A socket left behind by a killed process is replaced.
    """
    if len(os.fsencode(path)) > MAX_SOCKET_PATH_BYTES:
        raise SocketError(f"{path}: a socket's path has at most {MAX_SOCKET_PATH_BYTES} bytes; take a shorter folder")
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = path.parent.stat()
    if status.st_mode & 0o077 or status.st_uid != os.geteuid():
        raise SocketError(f"{path.parent} is open to others, a signer's folder has mode 0700")
    if path.exists():
        _remove_stale(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        listener.bind(os.fspath(path))
    except OSError as error:
        listener.close()
        raise SocketError(f"{path}: {error.strerror}") from None
    finally:
        os.umask(before)
    listener.listen(_MAX_CONNECTIONS)
    listener.setblocking(False)
    return listener


def _remove_stale(path: Path) -> None:
    if not stat.S_ISSOCK(path.lstat().st_mode):
        raise SocketError(f"{path} exists and is no socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(os.fspath(path))
        except ConnectionRefusedError:
            path.unlink()
            return
    raise SocketError(f"{path}: another signer listens there")


class SignerServer:
    """Serves one desk on one listening socket until `stop`."""

    def __init__(self, desk: Desk, listener: socket.socket) -> None:
        self._desk = desk
        self._listener = listener
        self._stopped = asyncio.Event()
        self._connections: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    def stop(self) -> None:
        """End `serve` after the message in hand. Call it on the event loop."""
        self._stopped.set()

    async def serve(self) -> None:
        """Answer until stopped. Messages are worked on one after the other, so the vault has one user."""
        server = await asyncio.start_unix_server(self._connected, sock=self._listener)
        async with server:
            await self._stopped.wait()
            server.close()
            for writer in self._connections.values():
                writer.close()  # its reader sees the end; a cancelled connection would be reported as an error (3.11)
            await asyncio.gather(*self._connections, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 (narrows the type: this is a coroutine of a task)
        self._connections[task] = writer
        try:
            peer = _peer(writer)
            if len(self._connections) > _MAX_CONNECTIONS or peer is None:
                return
            await self._converse(reader, writer, peer)
        except (asyncio.IncompleteReadError, ConnectionError, TimeoutError):
            pass  # the caller went away: it asks again, requests are idempotent
        except FrameError as error:
            _log.warning("signer: closing a connection: %s", error)
        finally:
            self._connections.pop(task, None)
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, peer: int) -> None:
        while not self._stopped.is_set():
            length = frame_length(await reader.readexactly(HEADER_BYTES))
            async with asyncio.timeout(_BODY_TIMEOUT_SECONDS):
                payload = await reader.readexactly(length)
            writer.write(frame(encode(self._results(payload, peer))))
            await writer.drain()

    def _results(self, payload: bytes, peer: int) -> Sequence[Result]:
        try:
            message = decode_message(payload)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise FrameError(f"no message of requests: {error}") from None
        count = len(message.requests)
        if count > MAX_REQUESTS:
            raise FrameError(f"{count} requests in a message, {MAX_REQUESTS} at most")
        try:
            return self._desk.answer(message.requests, f"{message.who[:_MAX_WHO]} pid {peer}")
        except Exception as error:  # noqa: BLE001 (disk full, locked: every caller gets an answer, the signer stays)
            # the type alone: an error's text could quote what it was working on
            _log.error("signer: a message of %d requests failed: %s", count, type(error).__name__)
            return [Refused("unavailable", f"the vault cannot be used now ({type(error).__name__})")] * count


def _peer(writer: asyncio.StreamWriter) -> int | None:
    """The caller's process id (0 where the system does not tell), None when it runs as another user."""
    if not hasattr(socket, "SO_PEERCRED"):
        return 0  # the folder's and the socket's mode keep others out
    connection = writer.get_extra_info("socket")
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER_CREDENTIALS.size)
    pid, uid, _ = _PEER_CREDENTIALS.unpack(raw)
    return pid if uid in {os.geteuid(), 0} else None

"""Clients of the signer: an asyncio one that gathers concurrent requests into batches, and a blocking one for threads.

Both repeat a request whose answer was lost (every request is idempotent) until their time is up, then raise
domain.errors.SignerUnavailable; a refusal of the signer is raised as SignerRefusedError at once.
"""

import asyncio
import contextlib
import os
import socket
import threading
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple, cast

import msgspec

from chain.signer.protocol import (
    HEADER_BYTES,
    Answer,
    FrameError,
    Message,
    Refused,
    Request,
    Result,
    SignAnchor,
    SignCheckpoint,
    SignDeploy,
    SignRegisterLog,
    Transaction,
    decode_results,
    encode,
    frame,
    frame_length,
)
from chain.transactions import AnchorTx, DeployTx, RegisterLogTx, SignedTx
from domain.errors import Overloaded, SignerUnavailable

BATCH_REQUESTS: Final = 256
_BATCH_BYTES: Final = 4 * 1024 * 1024
_QUEUE_REQUESTS: Final = 16_384
_FIRST_PAUSE_SECONDS: Final = 0.02
_LONGEST_PAUSE_SECONDS: Final = 0.5
_LOST: Final = (OSError, EOFError, TimeoutError, FrameError, msgspec.DecodeError)


class SignerRefusedError(Exception):
    """The signer said no. `code` is one of chain.signer.protocol.Refused; repeating is pointless."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(f"{code}: {reason}")
        self.code = code
        self.reason = reason


class _Waiting(NamedTuple):
    encoded: bytes
    answer: asyncio.Future[Result]
    deadline: float


class SignerClient:
    """One connection to the signer, shared by everything on one event loop.

    While a batch is on its way new requests gather for the next one, so the batches grow with the load. Connects on
    first use and again after every loss.
    """

    def __init__(self, path: Path, who: str, timeout_seconds: float = 10.0) -> None:
        """`who` names the caller in the audit rows; `timeout_seconds` bounds a request with all its repeats."""
        self._path = path
        self._who = who
        self._timeout_seconds = timeout_seconds
        self._waiting: deque[_Waiting] = deque()
        self._sender: asyncio.Task[None] | None = None
        self._stream: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._closed = False

    async def ask(self, request: Request[Answer]) -> Answer:
        """The answer to one request. Raises SignerRefusedError, SignerUnavailable, Overloaded."""
        return _unwrap(request, await self._enqueue(encode(request)))

    async def ask_all(self, requests: Sequence[Request[Answer]]) -> list[Answer | Refused]:
        """An answer or a refusal for each request, in order. Raises SignerUnavailable, Overloaded."""
        answers = [self._enqueue(encode(request)) for request in requests]
        results = await asyncio.gather(*answers, return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result
        return cast("list[Answer | Refused]", results)

    async def sign_transaction(self, tx: AnchorTx | RegisterLogTx | DeployTx) -> SignedTx:
        """Sign one of this log's own transactions with the publisher's key."""
        return _signed_tx(await self.ask(_transaction_request(tx)))

    async def close(self) -> None:
        """Close the connection; whoever still waits gets SignerUnavailable."""
        self._closed = True
        if self._sender is not None:
            self._sender.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._sender
        self._drop()
        self._fail(self._waiting, "the client was closed")

    def _enqueue(self, encoded: bytes) -> asyncio.Future[Result]:
        if self._closed:
            raise SignerUnavailable("the client of the signer is closed")
        if len(self._waiting) >= _QUEUE_REQUESTS:
            raise Overloaded(f"{len(self._waiting)} requests wait for the signer")
        loop = asyncio.get_running_loop()
        waiting = _Waiting(encoded, loop.create_future(), loop.time() + self._timeout_seconds)
        self._waiting.append(waiting)
        if self._sender is None or self._sender.done():
            self._sender = loop.create_task(self._send_all(), name="signer client")
        return waiting.answer

    async def _send_all(self) -> None:
        """Send batches until nobody waits. A lost connection puts the batch back in front."""
        pause = _FIRST_PAUSE_SECONDS
        await asyncio.sleep(0)  # let everybody who is about to ask join the first batch
        while batch := self._next_batch():
            try:
                async with asyncio.timeout_at(max(waiting.deadline for waiting in batch)):
                    results = await self._exchange([waiting.encoded for waiting in batch])
            except _LOST as error:
                self._drop()
                self._put_back(batch, error)
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
            except BaseException:
                self._drop()
                self._fail(batch, "interrupted")
                raise
            else:
                pause = _FIRST_PAUSE_SECONDS
                for waiting, result in zip(batch, results, strict=True):
                    if not waiting.answer.done():
                        waiting.answer.set_result(result)

    def _next_batch(self) -> list[_Waiting]:
        batch: list[_Waiting] = []
        size = 0
        while self._waiting and len(batch) < BATCH_REQUESTS and size < _BATCH_BYTES:
            waiting = self._waiting.popleft()
            if not waiting.answer.done():  # cancelled by its caller
                batch.append(waiting)
                size += len(waiting.encoded)
        return batch

    def _put_back(self, batch: list[_Waiting], error: BaseException) -> None:
        now = asyncio.get_running_loop().time()
        late = [waiting for waiting in batch if waiting.deadline <= now]
        self._fail(late, f"no answer in {self._timeout_seconds} s ({type(error).__name__})")
        self._waiting.extendleft(reversed([waiting for waiting in batch if waiting.deadline > now]))

    @staticmethod
    def _fail(batch: Sequence[_Waiting] | deque[_Waiting], reason: str) -> None:
        for waiting in batch:
            if not waiting.answer.done():
                waiting.answer.set_exception(SignerUnavailable(f"signer: {reason}"))

    async def _exchange(self, encoded: list[bytes]) -> list[Result]:
        if self._stream is None:
            self._stream = await asyncio.open_unix_connection(os.fspath(self._path))
        reader, writer = self._stream
        writer.write(_message(self._who, encoded))
        await writer.drain()
        length = frame_length(await reader.readexactly(HEADER_BYTES))
        return _results(await reader.readexactly(length), len(encoded))

    def _drop(self) -> None:
        if self._stream is not None:
            self._stream[1].close()
            self._stream = None


class BlockingSigner:
    """The same over a blocking socket, for a thread without an event loop. Callers of several threads take turns."""

    def __init__(self, path: Path, who: str, timeout_seconds: float = 10.0) -> None:
        """As SignerClient."""
        self._path = path
        self._who = who
        self._timeout_seconds = timeout_seconds
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None

    def ask(self, request: Request[Answer]) -> Answer:
        """The answer to one request. Raises SignerRefusedError, SignerUnavailable."""
        deadline = time.monotonic() + self._timeout_seconds
        pause = _FIRST_PAUSE_SECONDS
        payload = _message(self._who, [encode(request)])
        with self._lock:
            while True:
                try:
                    return _unwrap(request, self._exchange(payload, deadline))
                except _LOST as error:
                    self._drop()
                    if time.monotonic() + pause >= deadline:
                        reason = f"signer: no answer in {self._timeout_seconds} s ({type(error).__name__})"
                        raise SignerUnavailable(reason) from None
                    time.sleep(pause)
                    pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    def sign_transaction(self, tx: AnchorTx | RegisterLogTx | DeployTx) -> SignedTx:
        """Sign one of this log's own transactions with the publisher's key."""
        return _signed_tx(self.ask(_transaction_request(tx)))

    def sign(self, text: bytes) -> bytes:
        """The log's signature line (with its LF) for a checkpoint's text."""
        return self.ask(SignCheckpoint(text)).line

    def close(self) -> None:
        """Close the connection; a later request opens it again."""
        with self._lock:
            self._drop()

    def _exchange(self, payload: bytes, deadline: float) -> Result:
        if self._socket is None:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self._socket.settimeout(self._timeout_seconds)
            self._socket.connect(os.fspath(self._path))
        self._socket.settimeout(max(deadline - time.monotonic(), _FIRST_PAUSE_SECONDS))
        self._socket.sendall(payload)
        length = frame_length(_receive(self._socket, HEADER_BYTES))
        return _results(_receive(self._socket, length), 1)[0]

    def _drop(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _message(who: str, encoded: list[bytes]) -> bytes:
    return frame(encode(Message(who, [msgspec.Raw(request) for request in encoded])))


def _results(payload: bytes, expected: int) -> list[Result]:
    results = decode_results(payload)
    if len(results) != expected:
        raise FrameError(f"{len(results)} results to {expected} requests")
    return results


def _unwrap(request: Request[Answer], result: Result) -> Answer:
    if isinstance(result, Refused):
        if result.code == "unavailable":
            raise SignerUnavailable(f"signer: {result.reason}")
        raise SignerRefusedError(result.code, f"{type(request).__name__}: {result.reason}")
    return cast("Answer", result)


def _transaction_request(tx: AnchorTx | RegisterLogTx | DeployTx) -> Request[Transaction]:
    match tx:
        case AnchorTx():
            return SignAnchor(tx)
        case RegisterLogTx():
            return SignRegisterLog(tx)
        case DeployTx():
            return SignDeploy(tx)


def _signed_tx(signed: Transaction) -> SignedTx:
    return SignedTx(signed.raw, signed.tx_hash)


def _receive(connection: socket.socket, size: int) -> bytes:
    received = bytearray()
    while len(received) < size:
        chunk = connection.recv(min(size - len(received), 1 << 20))
        if not chunk:
            raise EOFError("the signer closed the connection")
        received += chunk
    return bytes(received)

"""Small real servers on loopback for the verifier's tests: a JSON-RPC node with a chain of its own, a log's files."""

import gzip
import hashlib
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.vectors.verifier.book import BLOCK_TIME, CHAIN_ID, CONTRACT
from tests.vectors.verifier.oracle import mth, seed
from tests.vectors.verifier.proofs import PublicBook

# keccak256("Anchored(bytes32,uint64,bytes32,uint64)"), as eth_utils gives it (a test compares)
TOPIC = "0x10d64b358a2a34d1aefd3923dfecde63ee095436d398bd873df1fd341db42724"
Answer = tuple[int, Mapping[str, str], bytes]


@contextmanager
def serve(answer: Callable[[str, Mapping[str, str], bytes], Answer]) -> Iterator[str]:
    """Serve on a free loopback port while inside; gives the address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(b"")

        def do_POST(self) -> None:
            self._answer(self.rfile.read(int(self.headers["Content-Length"])))

        def _answer(self, body: bytes) -> None:
            status, headers, data = answer(self.path, dict(self.headers), body)
            self.send_response(status)
            for name, value in {"Content-Length": str(len(data)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_args: object) -> None:
            """Stay silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def files(folder: Path, *, token: str | None = None, squeeze: bool = False) -> Callable[..., Answer]:
    """Answer with a log's files below /log; entries only with the token."""

    def answer(path: str, headers: Mapping[str, str], _body: bytes) -> Answer:
        target = folder / path.removeprefix("/log/")
        if token is not None and "/entries/" in path and headers.get("Authorization") != f"Bearer {token}":
            return 401, {}, b"a token is needed"
        if token is not None and "/entries/" not in path and "Authorization" in headers:
            return 500, {}, b"the token was sent where nobody asked for it"
        if not target.is_file():
            return 404, {}, b"not there"
        data = target.read_bytes()
        return (200, {"Content-Encoding": "gzip"}, gzip.compress(data)) if squeeze else (200, {}, data)

    return answer


class Chain:
    """A chain as a node would report it; tests alter the parts before they ask."""

    def __init__(self, book: PublicBook, sizes: list[int], head: int = 9) -> None:
        self.log_id = "0x" + hashlib.sha256(book.origin.encode()).hexdigest()
        self.chain_id: Any = hex(CHAIN_ID)
        self.head: Any = hex(head)
        self.logs: list[Any] = []
        self.blocks: dict[int, Any] = {}
        self.receipts: dict[str, Any] = {}
        self.refuse_ranges_above = 1 << 64
        self.calls: list[str] = []
        before = 0
        for number, size in enumerate(sizes, 8 - len(sizes)):
            self._anchor(number, size, before, mth(book.leaves[:size]))
            before = size

    def _anchor(self, number: int, size: int, before: int, root: bytes) -> None:
        tx, block = "0x" + seed(f"tx {size}").hex(), "0x" + seed(f"block {number}").hex()
        log = {
            "address": CONTRACT.lower(),
            "topics": [TOPIC, self.log_id, f"0x{size:064x}"],
            "data": f"0x{root.hex()}{before:064x}",
            "transactionHash": tx,
            "blockNumber": hex(number),
            "blockHash": block,
            "logIndex": "0x0",
            "removed": False,
        }
        self.logs.append(log)
        self.blocks[number] = {
            "number": hex(number),
            "hash": block,
            "timestamp": hex(BLOCK_TIME),
            "transactions": [tx],
        }
        self.receipts[tx] = {"blockHash": block, "status": "0x1", "logs": [log]}

    @property
    def last_receipt(self) -> Any:
        """The receipt of the last anchor."""
        return list(self.receipts.values())[-1]

    def __call__(self, _path: str, _headers: Mapping[str, str], body: bytes) -> Answer:
        call = json.loads(body)
        self.calls.append(call["method"])
        try:
            reply = {"result": self.result(call["method"], call["params"])}
        except PermissionError as error:
            reply = {"error": {"code": -32005, "message": str(error)}}
        return 200, {"Content-Type": "application/json"}, json.dumps({"jsonrpc": "2.0", "id": 1, **reply}).encode()

    def result(self, method: str, params: list[Any]) -> Any:
        """Give what the chain says to one call."""
        if method == "eth_getBlockByNumber":
            return self.blocks.get(int(params[0], 16))
        if method == "eth_getTransactionReceipt":
            return self.receipts.get(params[0])
        if method == "eth_getLogs":
            low, high = int(params[0]["fromBlock"], 16), int(params[0]["toBlock"], 16)
            if high - low > self.refuse_ranges_above:
                raise PermissionError("query returns too many blocks")
            if not isinstance(self.logs, list):
                return self.logs
            return [log for log in self.logs if low <= int(log["blockNumber"], 16) <= high]
        return {"eth_chainId": self.chain_id, "eth_blockNumber": self.head}[method]

"""The chain's JSON-RPC endpoint, for reading only: so that an auditor can look at the anchors without a node.

Nothing of a request is passed on as it came: it is decoded, held against the list of methods that only read, and
written anew. Logs are asked for in bounded ranges, calls get bounded gas.
"""

import asyncio
from typing import Any, Final

import msgspec

from api.commanding import require_media
from api.context import Context
from api.http import JSON, Answer, Call
from api.operations import Body, Operation, Success
from api.shapes import RpcRequest
from api.text import json_bytes, quoted
from domain.errors import ChainUnavailable, DaichoError, Overloaded

MAX_BATCH: Final = 20
MAX_CALL_GAS: Final = 10_000_000
METHODS: Final = frozenset({
    "eth_blockNumber", "eth_call", "eth_chainId", "eth_feeHistory", "eth_gasPrice", "eth_getBalance",
    "eth_getBlockByHash", "eth_getBlockByNumber", "eth_getCode", "eth_getLogs", "eth_getTransactionByHash",
    "eth_getTransactionCount", "eth_getTransactionReceipt", "eth_maxPriorityFeePerGas", "eth_syncing", "net_version",
    "web3_clientVersion",
})  # fmt: skip
_PARSE, _INVALID, _NO_METHOD, _BAD_PARAMS, _UNAVAILABLE = -32700, -32600, -32601, -32602, -32000
_TAGS: Final = frozenset({"latest", "finalized", "safe", "pending"})
_RPC_SCHEMA: Final = {"oneOf": [{"type": "object"}, {"type": "array"}], "description": "a JSON-RPC 2.0 response"}


class _Refused(Exception):
    """A JSON-RPC error."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class _Request(RpcRequest, frozen=True, omit_defaults=False, forbid_unknown_fields=True):
    """What is passed on."""


_decode = msgspec.json.Decoder(_Request | list[_Request]).decode
_result = msgspec.json.Decoder(dict[str, Any]).decode


class Chain:
    """The pass-through."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._port = context.services.chain_rpc
        self._free = asyncio.Semaphore(context.settings.rpc_in_flight)

    def rows(self) -> list[Operation]:
        """The table."""
        request = {"jsonrpc": "2.0", "id": 1, "method": "eth_blockNumber", "params": []}
        return [
            Operation(
                method="POST", path="/chain/rpc", handler=self.call, summary="Read the chain", tag="chain", scopes=None,
                description=f"JSON-RPC 2.0, single or up to {MAX_BATCH} at once. Offered: "
                + ", ".join(f"`{name}`" for name in sorted(METHODS)) + ".",
                body=Body((RpcRequest, list[RpcRequest]), request),
                success=Success("the node's answer", _RPC_SCHEMA, {"jsonrpc": "2.0", "id": 1, "result": "0x1c"}),
                problems=(Overloaded,),
            )
        ]  # fmt: skip

    async def call(self, call: Call) -> Answer:
        """Pass a request on, or answer it with a JSON-RPC error."""
        require_media(call.headers.get(b"content-type"), JSON)
        settings = self._context.settings
        raw = await call.body(settings.max_rpc_bytes, settings.body_timeout_seconds)
        try:
            asked = _decode(raw)
        except msgspec.ValidationError as error:
            return _error(None, _INVALID, quoted(str(error)))
        except (ValueError, RecursionError):
            return _error(None, _PARSE, "not JSON")
        requests = asked if isinstance(asked, list) else [asked]
        if not 0 < len(requests) <= MAX_BATCH:
            return _error(None, _INVALID, f"a batch has 1 to {MAX_BATCH} requests")
        if self._free.locked():
            raise Overloaded("too many questions to the chain at once")
        async with self._free:
            answers = [await self._one(request) for request in requests]
        body = b"[" + b",".join(answers) + b"]" if isinstance(asked, list) else answers[0]
        return Answer(200, body)

    async def _one(self, request: _Request) -> bytes:
        try:
            params = _offered(request)
            if request.method == "eth_getLogs":
                await self._check_range(params)
            elif request.method == "eth_call":
                params = _bounded_call(params)
            return await self._pass(msgspec.structs.replace(request, params=params))
        except _Refused as refused:
            return _error_bytes(request.id, refused.code, refused.message)
        except DaichoError as trouble:
            return _error_bytes(request.id, _UNAVAILABLE, trouble.message)

    async def _pass(self, request: _Request) -> bytes:
        try:
            async with asyncio.timeout(self._context.settings.rpc_timeout_seconds):
                return await self._port.call(json_bytes(request))
        except TimeoutError:
            raise ChainUnavailable("the chain did not answer in time") from None

    async def _check_range(self, params: list[Any]) -> None:
        """The blocks asked for must be a bounded range, as numbers or tags, or one block by its hash."""
        wanted = params[0] if len(params) == 1 else None
        if not isinstance(wanted, dict):
            raise _Refused(_BAD_PARAMS, "one filter object")
        if "blockHash" in wanted:
            return
        bounds = [wanted.get("fromBlock", "latest"), wanted.get("toBlock", "latest")]
        head = await self._head() if any(bound in _TAGS for bound in bounds if isinstance(bound, str)) else 0
        first, last = (_block(bound, head) for bound in bounds)
        limit = self._context.settings.rpc_block_range
        if last - first >= limit:
            raise _Refused(_BAD_PARAMS, f"at most {limit} blocks at once")

    async def _head(self) -> int:
        answer = _result(await self._pass(_Request(method="eth_blockNumber", id=0)))
        return _block(answer.get("result"), 0)


def _offered(request: _Request) -> list[Any]:
    """The parameters of a method that only reads."""
    if request.method not in METHODS:
        raise _Refused(_NO_METHOD, f"{quoted(request.method)} is not offered here")
    return request.params


def _block(bound: Any, head: int) -> int:
    """A block's number as a 0x quantity, or a tag."""
    if bound == "earliest":
        return 0
    if isinstance(bound, str) and bound in _TAGS:
        return head
    try:
        if isinstance(bound, str) and bound.startswith("0x") and len(bound) <= 18:  # noqa: PLR2004 64 bits
            return int(bound, 16)
    except ValueError:
        pass
    raise _Refused(_BAD_PARAMS, "fromBlock and toBlock are 0x quantities or tags")


def _bounded_call(params: list[Any]) -> list[Any]:
    """The call with bounded gas; state overrides (a third parameter) are not offered."""
    if not 1 <= len(params) <= 2 or not isinstance(params[0], dict):  # noqa: PLR2004 message and block
        raise _Refused(_BAD_PARAMS, "a call message and a block")
    given = params[0].get("gas")
    gas = min(_block(given, 0), MAX_CALL_GAS) if given is not None else MAX_CALL_GAS
    return [{**params[0], "gas": hex(gas)}, *params[1:]]


def _error_bytes(request_id: int | str | None, code: int, message: str) -> bytes:
    return json_bytes({"jsonrpc": "2.0", "id": request_id, "error": {"code": code, "message": message}})


def _error(request_id: int | str | None, code: int, message: str) -> Answer:
    return Answer(200, _error_bytes(request_id, code, message))

"""JSON-RPC 2.0: from the bytes of a request body to the bytes of its answer. Nothing a client sends raises here."""

import json
import logging
from typing import Any, Final, NoReturn

from chain.node.errors import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    INVALID_REQUEST,
    METHOD_NOT_FOUND,
    PARSE_ERROR,
    RESPONSE_TOO_LARGE,
    RpcError,
)
from chain.node.evm import Evm
from chain.node.methods import METHODS

MAX_BATCH: Final = 100
MAX_ANSWER_BYTES: Final = 16 * 1024 * 1024

logger = logging.getLogger(__name__)


def answer(evm: Evm, body: bytes) -> bytes | None:
    """The response to one request or a batch; None when the body holds only notifications."""
    try:
        request = json.loads(body, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return _encode(_failure(None, RpcError(PARSE_ERROR, "parse error")))
    if isinstance(request, list):
        return _batch(evm, request)
    response = _single(evm, request)
    return None if response is None else _encode(response)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _batch(evm: Evm, requests: list[Any]) -> bytes | None:
    if not requests:
        return _encode(_failure(None, RpcError(INVALID_REQUEST, "empty batch")))
    if len(requests) > MAX_BATCH:
        return _encode(_failure(None, RpcError(INVALID_REQUEST, f"batch too large: at most {MAX_BATCH}")))
    parts: list[bytes] = []
    size_bytes = 0
    for request in requests:
        if size_bytes > MAX_ANSWER_BYTES:
            refusal = RpcError(RESPONSE_TOO_LARGE, "response too large")
            parts.append(_encode(_failure(_id(request), refusal)))
            continue
        response = _single(evm, request)
        if response is not None:
            parts.append(_encode(response))
            size_bytes += len(parts[-1])
    return b"[" + b",".join(parts) + b"]" if parts else None


def _id(request: Any) -> Any:
    identifier = request.get("id") if isinstance(request, dict) else None
    return identifier if isinstance(identifier, str | int) else None


def _single(evm: Evm, request: Any) -> dict[str, Any] | None:
    identifier = _id(request)
    try:
        result = _run(evm, request)
    except RpcError as error:
        response = _failure(identifier, error)
    except Exception:
        # a fault of ours, or a disk that is full: the request fails, the node goes on
        logger.exception("request failed")
        response = _failure(identifier, RpcError(INTERNAL_ERROR, "internal error"))
    else:
        response = {"jsonrpc": "2.0", "id": identifier, "result": result}
    is_notification = isinstance(request, dict) and "method" in request and "id" not in request
    return None if is_notification else response


def _run(evm: Evm, request: Any) -> Any:
    if not isinstance(request, dict) or not isinstance(request.get("method"), str):
        raise RpcError(INVALID_REQUEST, "invalid request")
    name, parameters = request["method"], request.get("params")
    method = METHODS.get(name)
    if method is None:
        raise RpcError(METHOD_NOT_FOUND, f"the method {name[:100]} does not exist/is not available")
    if not isinstance(parameters, list | None):
        raise RpcError(INVALID_PARAMS, "params: expected a list")
    with evm.snapshot():
        return method(evm, parameters or [])


def _failure(identifier: Any, error: RpcError) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": identifier, "error": error.as_object()}


def _encode(response: dict[str, Any]) -> bytes:
    return json.dumps(response, separators=(",", ":")).encode()

"""The OpenAPI 3.1 document, written from the same rows that serve the requests."""

import re
from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from api.auth import SCOPES
from api.errors import (
    BadParameter,
    BodyTimeout,
    BodyTooLarge,
    InternalError,
    KeysUnavailable,
    MissingCompany,
    MissingScope,
    Problem,
    Unauthenticated,
    UnsupportedMediaType,
    problem_name,
    rule_of,
    title_of,
)
from api.operations import Operation, Success
from api.params import Param
from api.shapes import CommandAnswer, UserAnswer
from domain import errors as e

_CREATED: Final = 201
REF: Final = "#/components/schemas/{name}"
_PLACE: Final = re.compile(r"\{(\w+)(?::\w+)?\}")
_HEADERS: Final[dict[str, tuple[str, dict[str, Any], str]]] = {
    "Idempotency-Key": (
        "the command's key: the same key and body again are answered from what is stored, with Idempotency-Hit: true",
        {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[\\x21-\\x7e]+$"},
        "2f1d7c0e-record-17",
    ),
    "Prefer": (
        "how long the answer may be waited for (RFC 7240): `wait=0` to `wait=10` seconds",
        {"type": "string"},
        "wait=5",
    ),
    "If-Match": ("the ETag of the version that the command is meant for", {"type": "string"}, '"1"'),
}
_ANSWER_HEADERS: Final[dict[str, Any]] = {
    "ETag": {"description": "the version after the command", "schema": {"type": "string"}, "example": '"2"'},
    "Idempotency-Hit": {
        "description": "`true` when an earlier answer is repeated",
        "schema": {"type": "string", "enum": ["true"]},
        "example": "true",
    },
    "Location": {"description": "where what is new is found", "schema": {"type": "string"}, "example": "/v1/trades/…"},
}
_TAGS: Final = {
    "trades": "what two companies agree on",
    "commands": "many commands at once",
    "balances": "what is owed, derived from confirmed trades",
    "companies": "who takes part",
    "users": "users of companies",
    "wallets": "the keys that sign",
    "typed data": "what wallets in own custody sign",
    "entries": "the log's entries and their proofs",
    "anchors": "the log's heads on a chain",
    "log": "the public log, C2SP tlog-tiles",
    "chain": "the chain, for reading",
    "purchases": "what users buy at app stores",
    "support": "what customers ask, answered from what stores have said",
    "cases": "what people decide",
    "stores": "where app stores post their notifications",
    "service": "about the service itself",
}


def document(rows: Sequence[Operation], version: str) -> dict[str, Any]:
    """The whole document, JSON ready."""
    schemas = _Schemas(rows)
    paths: dict[str, dict[str, Any]] = {}
    for row in rows:
        paths.setdefault(_PLACE.sub(r"{\1}", row.path), {})[row.method.lower()] = _operation(row, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Daicho",
            "version": version,
            "summary": "An event-sourced ledger whose every fact can be proven to whoever does not trust its operator.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "tags": [{"name": name, "description": text} for name, text in _TAGS.items()],
        "paths": paths,
        "components": {
            "schemas": schemas.components,
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": "Scopes: " + "; ".join(f"`{name}` {text}" for name, text in SCOPES.items()),
                }
            },
        },
    }


class _Schemas:
    """JSON schemas of all msgspec types that the rows name."""

    def __init__(self, rows: Sequence[Operation]) -> None:
        kinds: list[Any] = [Problem]
        for row in rows:
            kinds += [kind for kind in (row.success.type, *(row.body.types if row.body else ())) if _is_type(kind)]
        found, components = msgspec.json.schema_components(kinds, ref_template=REF)
        self._of = {_key(kind): _portable(schema) for kind, schema in zip(kinds, found, strict=True)}
        self.components: dict[str, Any] = _portable(components)

    def of(self, kind: Any) -> Any:
        """The schema of a type, or the schema that was given in its place."""
        return self._of[_key(kind)] if _is_type(kind) else kind

    def one_of(self, kinds: Sequence[Any]) -> Any:
        """The schema of one of several types."""
        return self.of(kinds[0]) if len(kinds) == 1 else {"anyOf": [self.of(kind) for kind in kinds]}


def _is_type(kind: Any) -> bool:
    return not isinstance(kind, dict)


def _key(kind: Any) -> str:
    return f"{getattr(kind, '__module__', '')}.{kind!r}"


def _portable(schema: Any) -> Any:
    """Python's anchors in patterns as those that every regex dialect knows."""
    if isinstance(schema, dict):
        return {
            key: value.replace("\\A", "^").replace("\\Z", "$") if key == "pattern" and isinstance(value, str)
            else _portable(value)
            for key, value in schema.items()
        }  # fmt: skip
    if isinstance(schema, list | tuple):
        return [_portable(item) for item in schema]
    return schema


def _operation(row: Operation, schemas: _Schemas) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": row.name,
        "summary": row.summary,
        "tags": [row.tag],
        "parameters": [*_parameters(row)],
        "responses": {
            **{str(each.status): _success(each, schemas) for each in (row.success, *row.also)},
            **_problems(row),
        },
    }
    if row.description:
        described["description"] = row.description
    if row.scopes is not None:
        described["security"] = [{"token": sorted(row.scopes)}]
    if row.body is not None:
        content = {"schema": schemas.one_of(row.body.types), "example": row.body.example}
        described["requestBody"] = {"required": row.body.required, "content": {row.body.media: content}}
    return described


def _parameters(row: Operation) -> Iterable[dict[str, Any]]:
    for param in row.path_params:
        yield {"in": "path", "required": True, **_parameter(param)}
    for param in row.query:
        yield {"in": "query", "required": False, **_parameter(param)}
    for header in row.headers:
        name = header.rstrip("?")
        text, schema, example = _HEADERS[name]
        required = name == "Idempotency-Key" and not header.endswith("?")
        yield {
            "in": "header", "name": name, "required": required, "description": text, "schema": schema,
            "example": example,
        }  # fmt: skip


def _parameter(param: Param) -> dict[str, Any]:
    described = {"name": param.name, "description": param.description, "schema": dict(param.schema)}
    if param.example is not None:
        described["example"] = param.example
    return described


def _success(success: Success, schemas: _Schemas) -> dict[str, Any]:
    content = {"schema": schemas.of(success.type), "example": success.example}
    described: dict[str, Any] = {"description": success.description, "content": {success.media: content}}
    if success.type in (CommandAnswer, UserAnswer):
        names = [name for name in _ANSWER_HEADERS if name != "Location" or success.status == _CREATED]
        described["headers"] = {name: _ANSWER_HEADERS[name] for name in names}
    return described


def problems_of(row: Operation) -> list[type[e.DaichoError]]:
    """Every class of problem that an operation may answer with: its own, and those that its form brings along."""
    kinds: list[type[e.DaichoError]] = list(row.problems)
    if row.path_params or row.query or row.headers:
        kinds.append(BadParameter)
    if row.scopes is not None:
        kinds += [Unauthenticated, KeysUnavailable]
    if row.scopes:
        kinds += [MissingScope, MissingCompany]
    if row.body is not None:
        kinds += [e.Malformed, BodyTimeout, BodyTooLarge, UnsupportedMediaType]
    if row.method == "POST" and row.scopes is not None:
        kinds += [e.LedgerReadOnly, e.StorageUnavailable, e.ClockJumped]
    kinds += [e.Overloaded, InternalError]
    return list(dict.fromkeys(kinds))


def _problems(row: Operation) -> dict[str, Any]:
    by_status: dict[int, list[type[e.DaichoError]]] = {}
    for kind in problems_of(row):
        by_status.setdefault(rule_of(kind).status, []).append(kind)
    return {str(status): _problem(status, kinds) for status, kinds in sorted(by_status.items())}


def _problem(status: int, kinds: Sequence[type[e.DaichoError]]) -> dict[str, Any]:
    examples = {
        problem_name(kind): {
            "value": {
                "type": f"urn:daicho:problem:{problem_name(kind)}",
                "title": title_of(kind),
                "status": status,
                "detail": f"{title_of(kind)}.",
                "values": {},
            }
        }
        for kind in kinds
    }
    return {
        "description": "; ".join(title_of(kind) for kind in kinds),
        "content": {"application/problem+json": {"schema": {"$ref": REF.format(name="Problem")}, "examples": examples}},
    }

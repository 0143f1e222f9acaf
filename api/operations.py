"""A row of the API's table, and the endpoint that serves the rows of one path.

One row says who may call, which parameters and body there are, what is answered and how it is refused: the endpoint
obeys it, the OpenAPI document is written from it, and a test holds docs/api.md against it.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from api.auth import Authenticator
from api.errors import MethodNotAllowed
from api.http import Answer, Call, Receive, Scope, Send, problem_answer
from api.params import Param, parse_query
from domain.errors import DaichoError

Handler = Callable[[Call], Awaitable[Answer]]
ANYBODY: Final[frozenset[str]] = frozenset()
_CORS: Final = [
    (b"access-control-allow-methods", b"GET, HEAD, OPTIONS"),
    (b"access-control-allow-headers", b"authorization"),
    (b"access-control-max-age", b"86400"),
]


@dataclass(frozen=True, slots=True)
class Body:
    """A request body: the types that it is decoded to, an example, the media types that are taken."""

    types: tuple[Any, ...]
    example: Any
    media: str = "application/json"
    required: bool = True
    description: str = ""


@dataclass(frozen=True, slots=True)
class Success:
    """What is answered when all is well: a msgspec type, or a JSON schema for what has none."""

    description: str
    type: Any
    example: Any
    status: int = 200
    media: str = "application/json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """A method of a path. `scopes`: None for everybody, empty for any token, else one of them is needed.

    `also`: what else may be answered when all is well, under other statuses.
    """

    method: str
    path: str
    handler: Handler
    summary: str
    tag: str
    success: Success
    scopes: frozenset[str] | None
    description: str = ""
    path_params: tuple[Param, ...] = ()
    query: tuple[Param, ...] = ()
    headers: tuple[str, ...] = ()
    body: Body | None = None
    problems: tuple[type[DaichoError], ...] = ()
    cors: bool = False
    also: tuple[Success, ...] = ()

    @property
    def name(self) -> str:
        """The operation's id: method and path in words."""
        words = "".join(letter if letter.isalnum() else " " for letter in self.path.removeprefix("/v1")).split()
        return "_".join([self.method.lower(), *words])


class Endpoint:
    """The ASGI application of one path: authorises, parses what its row names, and answers refusals as problems."""

    def __init__(self, rows: Sequence[Operation], auth: Authenticator) -> None:
        self._auth = auth
        self._rows = {row.method: (row, {p.name: p for p in row.query}, _defaults(row)) for row in rows}
        if "GET" in self._rows:
            self._rows["HEAD"] = self._rows["GET"]
        self._allowed = sorted([*self._rows, "OPTIONS"])
        self._cors = rows[0].cors

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        try:
            answer = await self._answer(scope, receive)
        except DaichoError as refusal:
            answer = problem_answer(refusal)
        if self._cors:
            answer.headers.append((b"access-control-allow-origin", b"*"))
        await answer.send(send, head=scope["method"] == "HEAD")

    async def _answer(self, scope: Scope, receive: Receive) -> Answer:
        method = scope["method"]
        found = self._rows.get(method)
        if found is None:
            if method == "OPTIONS":
                allow = (b"allow", ", ".join(self._allowed).encode())
                return Answer(204, headers=[allow, *(_CORS if self._cors else [])])
            raise MethodNotAllowed(f"{method} is not done here", allowed=self._allowed)
        row, known, defaults = found
        call = Call(scope, receive)
        if row.scopes is not None:
            call.caller = caller = await self._auth.caller(call.headers.get(b"authorization"))
            caller.require(row.scopes)
            scope["daicho.company"] = caller.company
        query = scope["query_string"]
        call.args = {**defaults, **parse_query(query, known)} if query else defaults
        if row.path_params:
            given = scope["path_params"]
            call.path = {param.name: param.value_of(given[param.name]) for param in row.path_params}
        return await row.handler(call)


def _defaults(row: Operation) -> dict[str, Any]:
    return {param.name: param.default for param in row.query}

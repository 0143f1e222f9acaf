"""The application factory: services and settings in, a FastAPI application out.

The routes are plain ASGI endpoints in FastAPI's router, and the middleware stack is one shell: a request then costs a
quarter of what FastAPI's own routes with dependencies and pydantic cost (docs/api.md), and every check of a request is
made in one place, `operations.Endpoint`.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final

from fastapi import FastAPI
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from api.commanding import Commanding
from api.context import Context
from api.http import Answer, Call
from api.openapi import document
from api.operations import Endpoint, Operation, Success
from api.routes.anchors import Anchors
from api.routes.balances import Balances
from api.routes.bulk import Bulk
from api.routes.cases import Cases
from api.routes.chain import Chain
from api.routes.companies import Companies
from api.routes.entries import Entries
from api.routes.log import Log
from api.routes.purchases import Purchases
from api.routes.service import Service
from api.routes.stores import StoreNotifications
from api.routes.support import SupportRoutes
from api.routes.trade_commands import TradeCommands
from api.routes.trades import Trades
from api.routes.typed_data import TypedData
from api.routes.users import Users
from api.routes.wallets import Wallets
from api.services import Services
from api.settings import ApiSettings
from api.shell import Shell, not_found
from api.text import json_bytes

VERSION: Final = "0.1.0"
OPENAPI_PATH: Final = "/openapi.json"


class Api(FastAPI):
    """A FastAPI application whose routes, document and shell come from the table of operations."""

    def __init__(self, context: Context, rows: Sequence[Operation]) -> None:
        super().__init__(
            title="Daicho", version=VERSION, openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False,
            lifespan=_lifespan(context),
        )  # fmt: skip
        self.context = context
        self.operations = list(rows)
        by_path: dict[str, list[Operation]] = {}
        for row in rows:
            by_path.setdefault(row.path, []).append(row)
        for path in sorted(by_path, key=_order):
            self.router.routes.append(Route(path, Endpoint(by_path[path], context.auth)))
        self.router.default = not_found

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI, without the look for FastAPI's own telemetry in the environment at every request: we have `metrics`."""
        if self.middleware_stack is None:
            self.middleware_stack = self.build_middleware_stack()
        scope["app"] = self
        await self.middleware_stack(scope, receive, send)

    def build_middleware_stack(self) -> ASGIApp:
        """FastAPI's hook: our shell in place of its stack."""
        return Shell(self.router, self.context.metrics)

    def openapi(self) -> dict[str, Any]:
        """FastAPI's hook: the document, written once."""
        if not self.openapi_schema:
            self.openapi_schema = document(self.operations, VERSION)
        return self.openapi_schema


def create_app(services: Services, settings: ApiSettings) -> FastAPI:
    """The API over these services. Serve it with `server.server_config`; `app.state.metrics` holds its metrics."""
    context = Context(services, settings)
    rows = table(context)
    app = Api(context, rows)
    app.state.metrics = context.metrics
    services.group_listeners.append(context.metrics.group)
    if services.intake is not None:
        services.intake.count = context.metrics.notification
    written: list[bytes] = []

    async def schema(_: Call) -> Answer:
        if not written:
            written.append(json_bytes(app.openapi()))
        return Answer(200, written[0])

    row = Operation(
        method="GET", path=OPENAPI_PATH, handler=schema, summary="Get this document", tag="service", scopes=None,
        success=Success("OpenAPI 3.1", {"type": "object"}, {"openapi": "3.1.0"}),
    )  # fmt: skip
    app.operations.append(row)
    app.router.routes.append(Route(OPENAPI_PATH, Endpoint([row], context.auth)))
    return app


def table(context: Context) -> list[Operation]:
    """Every operation; the hot ones first."""
    commanding = Commanding(context)
    parts = (
        TradeCommands(commanding), Bulk(context, commanding), Trades(context), Balances(context),
        Companies(context, commanding), Users(context, commanding), Wallets(context, commanding),
        TypedData(context, commanding), Entries(context), Anchors(context), Log(context), Chain(context),
        StoreNotifications(context), Purchases(context, commanding), SupportRoutes(context, commanding),
        Cases(context, commanding), Service(context),
    )  # fmt: skip
    return [row for part in parts for row in part.rows()]


def _order(path: str) -> tuple[int, int]:
    """Which path is tried first: the hot ones, then what its shorter kin would swallow (verbs, more parts)."""
    if path in {"/v1/trades", "/v1/commands"}:
        return (0, 0)
    verb = "}:" in path or "{" not in path
    return (1 if verb else 2, -path.count("/"))


def _lifespan(context: Context) -> Any:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        try:
            yield
        finally:
            for close in context.services.on_shutdown:
                await close()
            context.reads.close()

    made: AbstractAsyncContextManager[None] | Any = lifespan
    return made

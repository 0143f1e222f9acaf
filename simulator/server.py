"""The servers of both stores and of the billing system, under one address: /apple, /google, /billing, /ocsp."""

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from simulator.apple import AppleNotification
from simulator.billing import ErrorPage, Refused
from simulator.google import GooglePlay
from simulator.lines import Line
from simulator.world import BUNDLE, World

HISTORY_PAGE: Final = 20
VOIDED_PAGE: Final = 100
ACKNOWLEDGE_SECONDS: Final = 3 * 86_400.0
Endpoint = Callable[[Request], Awaitable[Response]]


def application(world: World) -> Starlette:
    """All of it."""
    apple, google, billing = _Apple(world), _Google(world), _Billing(world)
    root = "/google/androidpublisher/v3/applications/{package}"

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        await world.delivery.start()
        yield
        await world.delivery.stop()

    async def ocsp(request: Request) -> Response:
        answer = world.ocsp.answer(await request.body())
        return Response(answer, media_type="application/ocsp-response")

    async def faults(request: Request) -> Response:
        if request.method == "POST":
            try:
                world.faults.set(**json.loads(await request.body()))
            except (ValueError, TypeError) as error:
                return JSONResponse({"error": str(error)}, 422)
        return JSONResponse(world.faults.shown())

    async def state(_: Request) -> Response:
        return JSONResponse(_state(world))

    return Starlette(
        lifespan=lifespan,
        routes=[
            Route("/ocsp", ocsp, methods=["POST"]),
            Route("/apple/inApps/v1/notifications/history", apple.guard(apple.history), methods=["POST"]),
            Route("/apple/inApps/v1/notifications/test", apple.guard(apple.test), methods=["POST"]),
            Route("/apple/inApps/v1/subscriptions/{id}", apple.guard(apple.statuses)),
            Route("/apple/inApps/v2/transactions/consumption/{id}", apple.guard(apple.consumption), methods=["PUT"]),
            Route("/apple/inApps/v1/transactions/{id}/finish", apple.guard(apple.finish), methods=["POST"]),
            Route("/google/certs", google.certs),
            Route("/google/token", google.token, methods=["POST"]),
            Route(root + "/purchases/subscriptionsv2/tokens/{token}:revoke", google.guard(google.revoke),
                  methods=["POST"]),
            Route(root + "/purchases/subscriptionsv2/tokens/{token}", google.guard(google.get)),
            Route(root + "/purchases/subscriptions/{product}/tokens/{token}:acknowledge",
                  google.guard(google.acknowledge), methods=["POST"]),
            Route(root + "/purchases/voidedpurchases", google.guard(google.voided)),
            Route(root + "/orders/{order}:reviewrefund", google.guard(google.review), methods=["POST"]),
            Route("/billing/contracts", billing.guard(billing.contracts), methods=["GET", "POST"]),
            Route("/billing/contracts/{id}/cancel", billing.guard(billing.cancel), methods=["POST"]),
            Route("/simulator/faults", faults, methods=["GET", "POST"]),
            Route("/simulator/state", state),
        ],
    )  # fmt: skip


class _Apple:
    """The App Store Server API."""

    def __init__(self, world: World) -> None:
        self._world = world

    def guard(self, endpoint: Endpoint) -> Endpoint:
        """Ask for Apple's bearer token first, and let faults strike."""

        async def guarded(request: Request) -> Response:
            if not self._is_ours(request.headers.get("authorization", "")):
                return Response("Unauthenticated\n\n\n", 401)
            if _api_away(self._world):
                return _apple_error(5000001, "General internal error. Please try again.", 503)
            return await endpoint(request)

        return guarded

    async def history(self, request: Request) -> Response:
        """Twenty at a time."""
        asked = await request.json()
        start, end = asked.get("startDate"), asked.get("endDate")
        if not isinstance(start, int) or not isinstance(end, int) or start > end:
            return _apple_error(4000010, "Invalid start or end date.", 400)
        found = [
            each for each in self._world.apple.sent
            if start <= each.signed_at <= end and not (asked.get("onlyFailures") and each.delivered)
        ]  # fmt: skip
        at = int(request.query_params.get("paginationToken") or 0)
        page = found[at : at + HISTORY_PAGE]
        more = len(found) > at + HISTORY_PAGE
        listed = {"notificationHistory": [_history_item(each) for each in page], "hasMore": more}
        return JSONResponse({**listed, **({"paginationToken": str(at + HISTORY_PAGE)} if more else {})})

    async def test(self, _: Request) -> Response:
        """Ask for a test notification."""
        await run_in_threadpool(self._world.apple.say, None, "TEST")
        return JSONResponse({"testNotificationToken": self._world.apple.sent[-1].id})

    async def statuses(self, request: Request) -> Response:
        """How a subscription stands."""
        line = self._line(request.path_params["id"])
        if line is None:
            return _apple_error(4040010, "Transaction id not found.", 404)
        apple = self._world.apple
        last = {
            "originalTransactionId": line.name, "status": apple.status_of(line),
            "signedTransactionInfo": apple.signed_transaction(line), "signedRenewalInfo": apple.signed_renewal(line),
        }  # fmt: skip
        group = {"subscriptionGroupIdentifier": "20", "lastTransactions": [last]}
        return JSONResponse(
            {"environment": apple.environment, "bundleId": apple.bundle, "appAppleId": apple.app_id, "data": [group]}
        )

    async def consumption(self, request: Request) -> Response:
        """What we think of a refund."""
        body = await request.json()
        if body.get("customerConsented") is not True:
            return _apple_error(4000035, "Invalid request. The customer consented field is invalid.", 400)
        self._world.apple.consumption.append((request.path_params["id"], body))
        return Response(status_code=202)

    async def finish(self, request: Request) -> Response:
        """It was delivered."""
        line = self._line(request.path_params["id"])
        if line is None:
            return _apple_error(4040010, "Transaction id not found.", 404)
        line.finished = True
        return Response(status_code=200)

    def _line(self, name: str) -> Line | None:
        lines = self._world.apple.lines
        found = lines.get(name)
        return found or next((each for each in lines.values() if any(c.key == name for c in each.charges)), None)

    def _is_ours(self, header: str) -> bool:
        try:
            claims = jwt.decode(
                header.removeprefix("Bearer "), self._world.api_key.public_key(), ["ES256"],
                audience="appstoreconnect-v1",
            )  # fmt: skip
        except jwt.PyJWTError:
            return False
        return bool(claims.get("bid") == BUNDLE)


class _Google:
    """The Play API, its token server, and Google's public keys."""

    def __init__(self, world: World) -> None:
        self._world = world

    def guard(self, endpoint: Endpoint) -> Endpoint:
        """Ask for an access token first, and let faults strike."""

        async def guarded(request: Request) -> Response:
            if _api_away(self._world):
                return JSONResponse({"error": {"code": 503, "status": "UNAVAILABLE"}}, 503)
            token = request.headers.get("authorization", "").removeprefix("Bearer ")
            if self._world.play_tokens.get(token, 0) < time.time():
                return JSONResponse({"error": {"code": 401, "status": "UNAUTHENTICATED"}}, 401)
            return await endpoint(request)

        return guarded

    async def certs(self, _: Request) -> Response:
        """The keys that pushes are signed with (JWKS)."""
        keys = [_jwk(kid, key) for kid, key in self._world.push_keys.items()]
        return JSONResponse({"keys": keys}, headers={"cache-control": "public, max-age=600"})

    async def token(self, request: Request) -> Response:
        """An access token for a service account's grant (RFC 7523)."""
        form = await request.body()
        assertion = dict(part.split("=", 1) for part in form.decode().split("&")).get("assertion", "")
        try:
            audience = f"{self._world.url}/google/token"
            jwt.decode(assertion, self._world.play_key.public_key(), ["RS256"], audience=audience)
        except jwt.PyJWTError:
            return JSONResponse({"error": "invalid_grant"}, 400)
        made = secrets.token_urlsafe(32)
        self._world.play_tokens[made] = time.time() + 3600
        return JSONResponse({"access_token": made, "expires_in": 3600, "token_type": "Bearer"})

    async def get(self, request: Request) -> Response:
        """How a purchase stands."""
        line = self._line(request)
        return _google_gone() if line is None else JSONResponse(self._google.resource(line))

    async def acknowledge(self, request: Request) -> Response:
        """It was delivered."""
        line = self._line(request)
        if line is None or line.product != request.path_params["product"]:
            return _google_gone()
        line.acknowledged = True
        line.changed()
        return Response(status_code=200)

    async def revoke(self, request: Request) -> Response:
        """End it, and give the money back."""
        line = self._line(request)
        if line is None:
            return _google_gone()
        await run_in_threadpool(self._google.revoke, line)
        return JSONResponse({})

    async def voided(self, request: Request) -> Response:
        """What was given back."""
        since = int(request.query_params.get("startTime") or 0)
        at = int(request.query_params.get("token") or 0)
        found = [each for each in self._google.voided if int(each["voidedTimeMillis"]) >= since]
        page: dict[str, Any] = {"voidedPurchases": found[at : at + VOIDED_PAGE]}
        if len(found) > at + VOIDED_PAGE:
            page["tokenPagination"] = {"nextPageToken": str(at + VOIDED_PAGE)}
        return JSONResponse(page)

    async def review(self, request: Request) -> Response:
        """What we think of a refund: the first word counts."""
        self._google.reviewed.append((request.path_params["order"], await request.json()))
        return JSONResponse({})

    @property
    def _google(self) -> GooglePlay:
        return self._world.google

    def _line(self, request: Request) -> Line | None:
        return self._google.lines.get(request.path_params["token"])


class _Billing:
    """The existing billing system."""

    def __init__(self, world: World) -> None:
        self._world = world

    def guard(self, endpoint: Endpoint) -> Endpoint:
        """Ask for the token first; show an error page for what is wrong with it today."""

        async def guarded(request: Request) -> Response:
            if request.headers.get("authorization") != f"Bearer {self._world.billing_token}":
                return JSONResponse({"error": {"code": "unauthorized"}}, 401)
            try:
                return await endpoint(request)
            except Refused as refused:
                return JSONResponse({"error": {"code": refused.code}}, refused.status, headers=refused.headers)
            except ErrorPage:
                return HTMLResponse("<html><h1>We are sorry</h1></html>", 200)

        return guarded

    async def contracts(self, request: Request) -> Response:
        """Start one, or list them."""
        billing = self._world.billing
        if request.method == "POST":
            asked = await request.json()
            made = await _slowly(billing.start, asked["user_id"], asked["plan"], asked["external_key"])
            return JSONResponse(made, 201)
        key = request.query_params.get("external_key")
        if key is not None:
            return JSONResponse(await _slowly(billing.of_key, key))
        return JSONResponse(await _slowly(billing.page, int(request.query_params.get("page") or 1)))

    async def cancel(self, request: Request) -> Response:
        """End one."""
        return JSONResponse(await _slowly(self._world.billing.cancel, request.path_params["id"]))


async def _slowly(call: Callable[..., Any], *arguments: Any) -> Any:
    """In a thread of its own: what hangs holds up nobody else."""
    return await asyncio.get_running_loop().run_in_executor(None, call, *arguments)


def _api_away(world: World) -> bool:
    return world.faults.apis_away or world.faults.strikes("api_errors")


def _apple_error(code: int, message: str, status: int) -> Response:
    return JSONResponse({"errorCode": code, "errorMessage": message}, status)


def _google_gone() -> Response:
    return JSONResponse({"error": {"code": 404, "status": "NOT_FOUND"}}, 404)


def _history_item(sent: AppleNotification) -> dict[str, Any]:
    attempts = [{"attemptDate": at, "sendAttemptResult": result} for at, result in sent.attempts]
    return {"signedPayload": sent.signed_payload, "sendAttempts": attempts}


def _jwk(kid: str, key: rsa.RSAPrivateKey) -> dict[str, Any]:
    made: dict[str, Any] = jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
    return {**made, "kid": kid, "alg": "RS256", "use": "sig"}


def _state(world: World) -> dict[str, Any]:
    apple, google = world.apple, world.google
    return {
        "apple": {"lines": len(apple.lines), "notifications": len(apple.sent),
                  "delivered": sum(each.delivered for each in apple.sent)},
        "google": {"lines": len(google.lines), "notifications": len(google.sent),
                   "delivered": sum(each.delivered for each in google.sent),
                   "dead": sum(each.dead for each in google.sent), "voided": len(google.voided)},
        "billing": {"contracts": len(world.billing.contracts), "active": len(world.billing.active())},
        "pending": world.delivery.pending,
    }  # fmt: skip

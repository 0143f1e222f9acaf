"""Where app stores post: server-to-server notifications. They carry their own proof of origin, no token of ours."""

from typing import Any, Final

from api.context import Context
from api.errors import BodyTooLarge, KeysUnavailable, NoSuchResource, NotFromStore, NotStored
from api.http import Answer, Call
from api.operations import Body, Operation, Success
from domain.errors import Overloaded
from domain.store_notification import Store

MAX_BODY_BYTES: Final = 1024 * 1024
SAMPLE_BYTES: Final = 64 * 1024
_ENDLESS: Final = ("Answered with success only when the message is on disk. 503 asks the store to send it again, which "
                   "both do for days; no trouble of ours is ever answered with 4xx.")  # fmt: skip


class StoreNotifications:
    """The two endpoints."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def rows(self) -> list[Operation]:
        """The table."""
        shared: dict[str, Any] = {
            "method": "POST", "tag": "stores", "scopes": None, "description": _ENDLESS,
            "problems": (NotFromStore, NoSuchResource, NotStored, KeysUnavailable, Overloaded),
        }  # fmt: skip
        apple, google = {"signedPayload": "eyJhbGciOiJFUzI1NiIsIng1YyI6Wy…"}, {
            "message": {"data": "eyJ2ZXJzaW9uIjoiMS4wIn0=", "messageId": "136969346945"},
            "subscription": "projects/daily/subscriptions/rtdn",
        }  # fmt: skip
        nothing = {"type": "null"}
        return [
            Operation(
                path="/v1/stores/apple/notifications", handler=self.apple,
                summary="Take an App Store server notification (version 2)", body=Body((dict,), apple),
                success=Success("it is stored", nothing, None), **shared,
            ),
            Operation(
                path="/v1/stores/google/notifications", handler=self.google,
                summary="Take a real-time developer notification, pushed by Pub/Sub", body=Body((dict,), google),
                success=Success("it is stored", nothing, None, 204), **shared,
            ),
        ]  # fmt: skip

    async def apple(self, call: Call) -> Answer:
        """What Apple posts: 200 when it is safe."""
        await self._take(call, Store.APPLE)
        return Answer(200, b"null")

    async def google(self, call: Call) -> Answer:
        """What Pub/Sub pushes: 204 when it is safe."""
        await self._take(call, Store.GOOGLE)
        return Answer(204)

    async def _take(self, call: Call, store: Store) -> None:
        intake, settings = self._context.services.intake, self._context.settings
        if intake is None or not intake.serves(store):
            raise NoSuchResource(f"no app of {store} is set up here", store=store)
        body, whole = await call.body_or_start(MAX_BODY_BYTES, SAMPLE_BYTES, settings.body_timeout_seconds)
        if not whole:
            await intake.refuse_large(store, body)
            raise BodyTooLarge(f"a notification has at most {MAX_BODY_BYTES} bytes", limit_bytes=MAX_BODY_BYTES)
        await intake.take(store, call.headers, body)

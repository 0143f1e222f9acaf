"""What support asks: a user's access, the story of his lines, the raw payloads, erasure.

Reads of stories and payloads are written down before they are answered.
"""

import asyncio
import base64
import json
import time
from typing import Any, Final

import msgspec

from api.auth import Caller
from api.context import Context
from api.errors import NoSuchResource, PayloadErased
from api.lines_of_users import LineAccess, Lines, UserAccess
from api.services import SupportPorts
from api.timeline import Item, Timeline
from domain.commands import Command
from domain.errors import CompanyNotFound, MessageNotFound, NothingNew
from domain.ids import charge_id, identity_id, subscription_id
from domain.orders import Order, Receipt
from domain.purchase_commands import AskErasure
from domain.store_identity import StoreIdentity
from domain.store_notification import Store, StoreEnvironment
from projections import store_lines
from stores.google.envelope import line_of
from stores.parcel_format import is_fetched, is_google, is_handed_in, read_headers, unpack_google
from stores.receive import OwnerErased

MAX_OWNERS: Final = 1_000


class PayloadAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A payload as it came. `body` is its text, or base64 where it is no UTF-8; a push's own token is left out."""

    payload: str
    position: int
    received_at: int
    origin: str
    verdict: str
    label: str
    headers: dict[str, str]
    form: str
    body: str


class Support:
    """The questions, for a caller who may ask them."""

    def __init__(self, context: Context) -> None:
        self._context = context

    @property
    def ports(self) -> SupportPorts:
        """What is read; NoSuchResource where no store is set up."""
        ports = self._context.services.support
        if ports is None:
            raise NoSuchResource("no store is set up here")
        return ports

    @property
    def company(self) -> str:
        """The company whose apps the stores sell."""
        purchasing = self._context.services.purchasing
        if purchasing is None:
            raise NoSuchResource("no store is set up here")
        return purchasing.company

    async def note(self, caller: Caller, what: str, about: str) -> None:
        """Write down who reads what; without that nothing is answered."""
        await asyncio.to_thread(self.ports.audit.record, caller.actor.subject, what, about)

    # -- users -------------------------------------------------------------------------------------------------------

    async def access(self, user: str, *, explain: bool) -> UserAccess:
        """What a user may use now. A user who was never heard of has nothing."""
        now = time.time_ns() // 1_000_000
        subject = await self._context.services.users.known(self.company, user)
        lines: list[LineAccess] = []
        if subject is not None:
            found, reader = await self.lines_of(subject), self._lines()
            lines = [await reader.access(each, subject, now, explain=explain) for each in found]
        return UserAccess(granted=any(line.granted for line in lines), at=now, lines=lines)

    async def line_access(self, subscription: str, *, explain: bool) -> LineAccess:
        """One line's access for whoever it is bound to."""
        identity = await self.ports.load(identity_id(subscription))
        user = identity.user if isinstance(identity, StoreIdentity) and identity.user else ""
        now = time.time_ns() // 1_000_000
        return await self._lines().access(subscription, user, now, explain=explain)

    async def lines_of(self, subject: str) -> list[str]:
        """The lines that are, or were, a user's (a pseudonym)."""
        return await self._context.reads.ask(lambda connection: store_lines.lines_of_user(connection, subject))

    async def story_of_user(self, user: str) -> list[Item]:
        """Everything about all lines that are, or were, a user's."""
        subject = await self._context.services.users.known(self.company, user)
        return [] if subject is None else await self.story(await self.lines_of(subject))

    async def story(self, subscriptions: list[str]) -> list[Item]:
        """Everything about these lines."""
        timeline = Timeline(self._context.services.entries, self.ports.parcels, self._soft_gap)
        return await self._context.reads.run(lambda: timeline.of(subscriptions))

    async def found(
        self, store: Store, environment: StoreEnvironment, line: str | None, order: str | None
    ) -> list[str]:
        """The lines that go by this name at a store, or that this order was for."""
        if line is not None:
            ours = line_of(line) if store is Store.GOOGLE else line
            return [subscription_id(store, environment, ours)]
        charge = charge_id(store, environment, order or "")
        return await self._context.reads.ask(lambda connection: store_lines.lines_of_charge(connection, charge))

    # -- payloads ----------------------------------------------------------------------------------------------------

    async def payload(self, payload: str) -> PayloadAnswer:
        """A payload as it came. MessageNotFound, PayloadErased."""
        parcel: Any = await self._context.reads.run(lambda: self.ports.parcels.of_payload(payload))
        if parcel is None:
            raise MessageNotFound("no such payload", notification=payload)
        try:
            plain = await asyncio.to_thread(self.ports.opener.open, parcel.owner, parcel.sealed)
        except OwnerErased:
            raise PayloadErased("this payload was erased", payload=payload) from None
        headers = read_headers(parcel.headers)
        form, body = _shown(plain)
        return PayloadAnswer(
            payload=payload, position=parcel.position, received_at=headers.received_at, origin=headers.origin,
            verdict=headers.verdict, label=headers.label, headers=headers.headers, form=form, body=body,
        )  # fmt: skip

    # -- erasure -----------------------------------------------------------------------------------------------------

    async def erase(self, caller: Caller, user: str, reason: str, key: str) -> Receipt | None:
        """Ask for a user to be forgotten; None when nobody of that name is known, or all was asked for before."""
        subject = await self._context.services.users.known(self.company, user)
        if subject is None:
            return None
        story = await self.story(await self.lines_of(subject))
        payloads = sorted({item.payload for item in story if item.payload})
        owners = await self._context.reads.run(lambda: self.ports.parcels.owners(payloads))
        command: Command = AskErasure(
            user=subject, owners=tuple(sorted(set(owners.values())))[:MAX_OWNERS], reason=reason
        )
        order = Order.of(self._context.origin, command, caller.actor, key)
        try:
            return await self._context.services.ledger.execute(order)
        except NothingNew:
            return None

    # -- inside ------------------------------------------------------------------------------------------------------

    @property
    def _soft_gap(self) -> int:
        return int(self._context.settings.soft_gap_seconds * 1000)

    def _lines(self) -> Lines:
        entries = self._context.services.entries
        return Lines(self.ports.load, entries.of_aggregate, self._context.reads.run, self._soft_gap)


def company_of(caller: Caller, company: str) -> None:
    """Raise CompanyNotFound for a caller of another company: what is not his is not there."""
    if caller.company not in {"", company}:
        raise CompanyNotFound("the stores sell for another company", company=caller.company)


def _shown(plain: bytes) -> tuple[str, str]:
    """What form a payload has, and its text. The token of a push is a credential and is not shown."""
    if is_google(plain):
        return "google-push", _text(unpack_google(plain).body)
    if is_fetched(plain) or is_handed_in(plain):
        found = json.loads(plain)
        return str(found.pop("type")), json.dumps(found, ensure_ascii=False)
    return "apple-notification", _text(plain)


def _text(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return base64.b64encode(data).decode()

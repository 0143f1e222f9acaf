"""Doing one command for a caller: order, execution, receipt, promise, answer. The hot path of the API."""

from collections.abc import Iterable
from typing import Final

from api.auth import Caller
from api.context import Context
from api.errors import Header, UnsupportedMediaType
from api.http import JSON, Answer, Call
from api.params import bad, command_key, etag, expected_version
from api.shapes import CommandAnswer, EntryShown
from api.text import b64, json_bytes, quoted
from domain import commands as c
from domain.entry import entry_leaf_hash
from domain.errors import DaichoError, NotAParty, NotYourCompany, TradeNotFound, WalletNotFound
from domain.orders import Order, Receipt

HIT: Final[Header] = (b"idempotency-hit", b"true")
EMPTY: Final = b"{}"


class Commanding:
    """Executes commands on behalf of callers."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._ledger = context.services.ledger
        self._origin = context.origin
        self._metrics = context.metrics

    async def body(self, call: Call, *, may_be_empty: bool = False) -> bytes:
        """The JSON body of a command. Raises UnsupportedMediaType, BodyTooLarge, BodyTimeout."""
        settings = self._context.settings
        media = call.headers.get(b"content-type")
        if media is not None or not may_be_empty:
            require_media(media, JSON)
        raw = await call.body(settings.max_body_bytes, settings.body_timeout_seconds)
        if not raw and may_be_empty:
            return EMPTY
        if raw and media is None:
            require_media(media, JSON)
        return raw

    async def execute(self, call: Call, command: c.Command, *, location: str = "", versioned: bool = True) -> Answer:
        """Do the command under the call's Idempotency-Key and answer with its entries and their promise.

        `location` is the collection that a new resource belongs to. Raises refusals and trouble.
        """
        caller: Caller = call.caller
        headers = call.headers
        key = command_key(headers.get(b"idempotency-key"))
        condition = headers.get(b"if-match")
        if condition is not None and not versioned:
            raise bad("If-Match", "not for what does not exist yet")
        order = Order.of(
            self._origin,
            command,
            caller.actor,
            key,
            expected_version=expected_version(condition) if condition else None,
        )
        if call.args.get("dry_run"):
            return await self._dry_run(order)
        receipt = await self.receipt(order)
        return await self.answer(receipt, location=location)

    async def receipt(self, order: Order) -> Receipt:
        """Execute the order; refusals are raised as the caller may see them, and counted."""
        kind = type(order.command).__name__
        try:
            receipt = await self._ledger.execute(order)
        except DaichoError as refusal:
            self._metrics.command(kind, refusal)
            raise as_seen(refusal, order.command) from None
        self._metrics.command(kind, None, repeated=receipt.hit)
        return receipt

    async def answer(self, receipt: Receipt, *, location: str = "") -> Answer:
        """The answer to a command that was done: 201 with the new resource's place, or 200."""
        leaves: dict[int, bytes] = {}
        entries = shown(receipt.records, leaves)
        body = CommandAnswer(
            id=receipt.aggregate_id,
            version=receipt.version,
            position=receipt.position,
            entries=entries,
            promise=await self._context.promiser.promise(leaves),
        )
        return Answer(201 if location else 200, json_bytes(body), JSON, receipt_headers(receipt, location))

    async def _dry_run(self, order: Order) -> Answer:
        outcome = (await self._ledger.dry_run([order], "atomic"))[0]
        if isinstance(outcome, DaichoError):
            raise as_seen(outcome, order.command)
        body = CommandAnswer(
            id=outcome.aggregate_id,
            version=outcome.version,
            position=outcome.position,
            entries=shown(outcome.records, {}),
            promise=None,
            dry_run=True,
        )
        return Answer(200, json_bytes(body), JSON, [HIT] if outcome.hit else [])


def shown(records: Iterable[tuple[int, bytes]], leaves: dict[int, bytes]) -> list[EntryShown]:
    """The entries as they are answered; their leaf hashes are added to `leaves`. Position 0 is a preview."""
    entries: list[EntryShown] = []
    for position, entry in records:
        if not position:
            entries.append(EntryShown(0, None, entry.decode()))
            continue
        leaf = entry_leaf_hash(entry)
        leaves[position] = leaf
        entries.append(EntryShown(position, b64(leaf), entry.decode()))
    return entries


def receipt_headers(receipt: Receipt, location: str = "") -> list[Header]:
    """ETag, the place of a new resource, and whether this is a repetition."""
    headers: list[Header] = [(b"etag", etag(receipt.version))]
    if location:
        headers.append((b"location", f"{location}/{receipt.aggregate_id}".encode()))
    if receipt.hit:
        headers.append(HIT)
    return headers


def as_seen(refusal: DaichoError, command: c.Command) -> DaichoError:
    """A refusal as the caller may see it: what belongs to others is answered exactly like what does not exist."""
    if isinstance(refusal, NotAParty) and isinstance(command, c.TradeFollowUp):
        return TradeNotFound(f"no trade {command.trade}", trade=command.trade)
    if isinstance(refusal, NotYourCompany):
        wallet = getattr(command, "wallet", None)
        if isinstance(command, c.WALLET_COMMANDS) or (wallet is not None and refusal.values.get("wallet") == wallet):
            return WalletNotFound(f"no wallet {wallet}", wallet=wallet)
    return refusal


def require_media(header: bytes | None, *taken: bytes) -> None:
    """Raise UnsupportedMediaType unless the content type is one of those taken (parameters: charset=utf-8 only)."""
    if header == taken[0]:
        return
    media, _, parameters = (header or b"").partition(b";")
    charset = parameters.strip().lower().replace(b'"', b"")
    if media.strip().lower() in taken and charset in {b"", b"charset=utf-8"}:
        return
    names = " or ".join(name.decode() for name in taken)
    given = quoted((header or b"none").decode("latin-1"))
    raise UnsupportedMediaType(f"the body must be {names}, not {given}", field="Content-Type", rule=names, given=given)

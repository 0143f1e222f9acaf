"""Users of companies: the sign-up hook that opens a wallet, and the wallet of a user."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from api import examples as x
from api.auth import AUDIT_READ, OPERATOR, TRADE_READ, WALLET_WRITE, Caller
from api.commanding import Commanding, receipt_headers, shown
from api.context import Context
from api.http import JSON, Answer, Call, json_answer
from api.operations import Body, Operation, Success
from api.params import CODE, MIN_POSITION, Param, bad, command_key, etag
from api.shapes import EntryShown, UserAnswer
from api.strict import Strict
from api.text import json_bytes
from domain import errors as e
from domain.commands import Code
from domain.orders import Receipt
from domain.signature import Address, ClientSignature
from domain.wallet import WalletOpened
from projections import queries
from projections.views import WalletView

MAX_USER_CHARACTERS = 255


def _user(text: str) -> str:
    if not 0 < len(text) <= MAX_USER_CHARACTERS or not text.isprintable():
        raise ValueError(f"1 to {MAX_USER_CHARACTERS} printable characters")
    return text


_USER = Param(
    "user",
    _user,
    {"type": "string", "minLength": 1, "maxLength": MAX_USER_CHARACTERS},
    "the user's subject at the identity provider",
    "user-4711",
)


class SignUp(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Give a company's user a wallet. `user` is the subject (`sub`) of the user's tokens; the log never holds it.

    `company` is the token's own unless the operator calls. In own custody the user sends the `address` of the key and
    the `proof` of its possession: the signature over the typed data for OpenWallet (POST /v1/typed-data).
    """

    user: Annotated[str, Meta(min_length=1, max_length=MAX_USER_CHARACTERS, examples=["user-4711"])]
    company: Code | None = None
    custody: Literal["custodial", "own"] = "custodial"
    address: Address | None = None
    proof: ClientSignature | None = None

    def __post_init__(self) -> None:
        if not self.user.isprintable():
            raise ValueError("user must be printable")
        if (self.custody == "own") != (self.address is not None) or (self.custody == "own") != (self.proof is not None):
            raise ValueError("custody `own` needs address and proof, `custodial` takes neither")


class Users:
    """The operations on users."""

    def __init__(self, context: Context, commanding: Commanding) -> None:
        self._context = context
        self._commanding = commanding
        self._sign_up: Strict[SignUp] = Strict(SignUp)

    def rows(self) -> list[Operation]:
        """The table."""
        answer = {**x.COMMAND_ANSWER, "id": x.WALLET, "wallet": x.WALLET, "company": "aozora-foods"}
        answer |= {"custody": "custodial", "address": x.ADDRESS, "version": 1}
        return [
            Operation(
                method="POST", path="/v1/users", handler=self.sign_up, tag="users",
                summary="Sign a user up: open the user's wallet", scopes=frozenset({WALLET_WRITE, OPERATOR}),
                description="Made for the identity provider's post-confirmation hook. Idempotent per user, so the "
                "Idempotency-Key may be left out; a repetition answers with the wallet that is there.",
                headers=("Idempotency-Key?",), body=Body((SignUp,), {"user": "user-4711"}),
                success=Success("the wallet and its address", UserAnswer, answer, 201),
                problems=(e.CompanyNotFound, e.CompanySuspended, e.AlreadyExists, e.NotYourCompany, e.SignatureInvalid,
                          e.SignatureExpired, e.WrongSigner, e.SignerUnavailable, e.CommandKeyReused),
            ),
            Operation(
                method="GET", path="/v1/users/{user}/wallet", handler=self.wallet, tag="users",
                summary="Get a user's wallet", path_params=(_USER,),
                scopes=frozenset({WALLET_WRITE, TRADE_READ, OPERATOR, AUDIT_READ}),
                query=(CODE.named("company", "the user's company (needed unless the token names it)"), MIN_POSITION),
                success=Success("the wallet", WalletView, x.WALLET_VIEW),
                problems=(e.WalletNotFound, e.NotYetVisible),
            ),
        ]  # fmt: skip

    async def sign_up(self, call: Call) -> Answer:
        """Open the user's wallet, or answer with the one that is there."""
        wanted = self._sign_up.decode(await self._commanding.body(call))
        caller: Caller = call.caller
        company = _company_of(caller, wanted.company, "company")
        header = call.headers.get(b"idempotency-key")
        key = command_key(header) if header is not None else None
        metrics = self._context.metrics
        try:
            receipt = await self._context.services.users.open_wallet(
                caller.actor, company, wanted.user, wanted.custody, wanted.address, wanted.proof, key=key
            )
        except e.DaichoError as refusal:
            metrics.command("OpenWallet", refusal)
            raise
        metrics.command("OpenWallet", None, repeated=receipt.hit)
        leaves: dict[int, bytes] = {}
        entries = shown(receipt.records, leaves)
        body = _answer(receipt, entries, await self._context.promiser.promise(leaves))
        return Answer(201, json_bytes(body), JSON, receipt_headers(receipt, "/v1/wallets"))

    async def wallet(self, call: Call) -> Answer:
        """A user's wallet."""
        caller: Caller = call.caller
        user, company = call.path["user"], _company_of(call.caller, call.args["company"], "company")
        await self._context.reads.reach(call.args["min_position"])
        subject = await self._context.services.users.known(company, user)
        found = None
        if subject is not None:
            known: str = subject
            viewer = caller.company or None
            found = await self._context.reads.ask(lambda store: queries.wallet_of(store, viewer, company, known))
        if found is None:
            raise e.WalletNotFound("this user has no wallet", user=user, company=company)
        return json_answer(found, headers=[(b"etag", etag(found.version))])


def _company_of(caller: Caller, named: str | None, field: str) -> str:
    """The company that is meant: the token's, or the one that somebody who belongs to none names."""
    if caller.company:
        if named not in {None, caller.company}:
            raise e.NotYourCompany(f"{caller.company} may not act for {named}", company=caller.company)
        return caller.company
    if named is None:
        raise bad(field, "required, since the token names no company")
    return named


def _answer(receipt: Receipt, entries: list[EntryShown], promise: str | None) -> UserAnswer:
    opened = _opened(receipt.records[0][1])
    return UserAnswer(
        id=receipt.aggregate_id,
        version=receipt.version,
        position=receipt.position,
        entries=entries,
        promise=promise,
        wallet=receipt.aggregate_id,
        company=opened.company,
        custody=opened.custody,
        address=opened.address,
    )


class _Opened(msgspec.Struct):
    data: WalletOpened


_decode_opened = msgspec.json.Decoder(_Opened).decode


def _opened(entry: bytes) -> WalletOpened:
    """What a WalletOpened entry says."""
    return _decode_opened(entry).data

"""The existing billing system: contracts under the company's own user ids. It may not be changed, and it repeats.

    POST {base}/contracts {"user_id", "plan", "external_key"}    201 a contract, each time a new one
    GET  {base}/contracts?external_key=…                         200 {"contracts": […]}
    GET  {base}/contracts?page=N                                 200 {"contracts": […], "next_page": N+1 or null}
    POST {base}/contracts/{id}/cancel                            200 the contract, or 409 already_cancelled

It answers with a page of HTML and status 200 when it is unwell, and so do the proxies before it, with any status. So
nothing is believed but what answers the question: a contract for whom and under which key it was asked, a refusal
with a code. A request that may have been carried out is BillingUnknown; what surely was not is BillingAway. Nothing
here is tried a second time.
"""

from collections.abc import Callable, Collection, Iterator
from typing import Annotated, Final, Literal, TypeVar
from urllib.parse import quote

import httpx
import msgspec
from msgspec import Meta

from stores.answers import AnswerTooLong, bounded, wait_seconds
from stores.errors import BillingAway, BillingRefused, BillingUnknown

T = TypeVar("T")
MAX_PAGES: Final = 100_000
_MAINTENANCE: Final = 503
_CONFLICT: Final = 409
_REFUSED: Final = 422
_UNKNOWN_CONTRACT: Final = 404
_ALREADY: Final = "already_cancelled"
_QUESTIONS: Final = ("of_key", "all")
_SURELY_NOT_SENT: Final = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol)
_Text = Annotated[str, Meta(min_length=1, max_length=256, pattern=r"\A[\x21-\x7e][\x20-\x7e]*\Z")]


class Contract(msgspec.Struct, frozen=True):
    """A contract as the billing system has it; `key` is ours."""

    contract_id: _Text
    user: str = msgspec.field(name="user_id")
    plan: str
    key: str = msgspec.field(name="external_key")
    status: Literal["active", "cancelled"]

    @property
    def active(self) -> bool:
        """Whether the user is charged for it, or would be."""
        return self.status == "active"


class _Page(msgspec.Struct):
    contracts: list[Contract]


class _OneOfAll(msgspec.Struct):
    contracts: list[Contract]
    next_page: int | None  # no default: an answer cut short is none


class _Reason(msgspec.Struct):
    code: Annotated[str, Meta(max_length=64, pattern=r"\A[a-z0-9_.-]+\Z")]


class _Error(msgspec.Struct):
    error: _Reason


_contract: Final = msgspec.json.Decoder(Contract)
_page: Final = msgspec.json.Decoder(_Page)
_one_of_all: Final = msgspec.json.Decoder(_OneOfAll)
_error: Final = msgspec.json.Decoder(_Error)


class BillingClient:
    """Blocking; `http` has the time-outs. Every call raises BillingAway, BillingUnknown or BillingRefused."""

    def __init__(self, http: httpx.Client, base_url: str, token: Callable[[], str]) -> None:
        self._http, self._base, self._token = http, base_url.rstrip("/"), token

    def __repr__(self) -> str:
        return f"BillingClient({self._base})"

    def start(self, user: str, plan: str, key: str) -> Contract:
        """A new contract, each time it is called."""
        body = {"user_id": user, "plan": plan, "external_key": key}
        _, content = self._call("start", "POST", "/contracts", body=body, refusals={_REFUSED})
        made = self._read(_contract, "start", content)
        if (made.user, made.plan, made.key, made.active) != (user, plan, key, True):
            raise BillingUnknown("start: an answer to another question")
        return made

    def of_key(self, key: str) -> list[Contract]:
        """All contracts that were ever started under a key of ours."""
        found = self._read(_page, "of_key", self._ask("of_key", {"external_key": key})).contracts
        if any(contract.key != key for contract in found):
            raise BillingAway("of_key: an answer to another question")
        return found

    def cancel(self, contract_id: str) -> None:
        """End a contract; one that is ended stays so."""
        path = f"/contracts/{quote(contract_id, safe='')}/cancel"
        status, content = self._call("cancel", "POST", path, refusals={_REFUSED, _UNKNOWN_CONTRACT, _CONFLICT})
        if status == _CONFLICT:
            return
        ended = self._read(_contract, "cancel", content)
        if ended.contract_id != contract_id or ended.active:
            raise BillingUnknown("cancel: an answer to another question")

    def all(self) -> Iterator[Contract]:
        """Every contract there is."""
        return (contract for page in self.pages() for contract in page)

    def pages(self) -> Iterator[list[Contract]]:
        """The same, page by page."""
        page: int | None = 1
        for _ in range(MAX_PAGES):
            found = self._read(_one_of_all, "all", self._ask("all", {"page": str(page)}))
            yield found.contracts
            page = found.next_page
            if page is None:
                return
        raise BillingAway("all: more pages than there can be")

    # -- inside ------------------------------------------------------------------------------------------------------

    def _ask(self, name: str, query: dict[str, str]) -> bytes:
        """A question changes nothing: whatever goes wrong, it may be asked again."""
        try:
            return self._call(name, "GET", "/contracts", query=query)[1]
        except BillingUnknown as unknown:
            raise BillingAway(str(unknown)) from None

    def _call(
        self,
        name: str,
        method: str,
        path: str,
        *,
        body: dict[str, str] | None = None,
        query: dict[str, str] | None = None,
        refusals: Collection[int] = (),
    ) -> tuple[int, bytes]:
        """The status and the body of a success, or of a contract that was cancelled before."""
        try:
            with self._http.stream(
                method,
                self._base + path,
                json=body,
                params=query,
                headers={"authorization": f"Bearer {self._token()}", "accept": "application/json"},
            ) as response:
                content = bounded(response)
        except _SURELY_NOT_SENT as error:
            raise BillingAway(f"{name}: {type(error).__name__}") from None
        except (httpx.HTTPError, AnswerTooLong) as error:
            raise BillingUnknown(f"{name}: {type(error).__name__}") from None
        status = response.status_code
        if response.is_success:
            return status, content
        if status == _MAINTENANCE:
            raise BillingAway(f"{name}: status {status}", wait_seconds(response.headers.get("retry-after", "")))
        code = _code(content) if status in refusals else None
        if code == _ALREADY and status == _CONFLICT:
            return status, content
        if code is not None and status != _CONFLICT:
            raise BillingRefused(code)
        raise BillingUnknown(f"{name}: status {status}")

    @staticmethod
    def _read(decoder: msgspec.json.Decoder[T], name: str, content: bytes) -> T:
        try:
            return decoder.decode(content)
        except (msgspec.DecodeError, UnicodeDecodeError):
            error = BillingAway if name in _QUESTIONS else BillingUnknown
            raise error(f"{name}: an answer that is none of its own") from None


def _code(content: bytes) -> str | None:
    """The billing system's own word for why; never anything else of its answer. None: it has not said anything."""
    try:
        return _error.decode(content).error.code
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None

"""The existing billing system: contracts under the company's own user ids. It may not be changed, and it repeats.

    POST {base}/contracts {"user_id", "plan", "external_key"}    201 a contract, each time a new one
    GET  {base}/contracts?external_key=…                         200 {"contracts": […]}
    GET  {base}/contracts?page=N                                 200 {"contracts": […], "next_page": N+1 or null}
    POST {base}/contracts/{id}/cancel                            200, or 409 when it is cancelled already

It answers with a page of HTML and status 200 when it is unwell. A request that may have been carried out is
BillingUnknown; what surely was not is BillingAway. Nothing here is tried a second time.
"""

from collections.abc import Callable, Iterator
from typing import Annotated, Final, TypeVar
from urllib.parse import quote

import httpx
import msgspec
from msgspec import Meta

from stores.errors import BillingAway, BillingRefused, BillingUnknown

T = TypeVar("T")
MAX_BYTES: Final = 1_048_576
MAX_PAGES: Final = 100_000
_LONGEST_WAIT_SECONDS: Final = 3_600.0
_MAINTENANCE: Final = 503
_CONFLICT: Final = 409
_GONE: Final = 404
_REFUSED: Final = 422
_SURELY_NOT_SENT: Final = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol)
_Text = Annotated[str, Meta(min_length=1, max_length=256, pattern=r"\A[\x21-\x7e][\x20-\x7e]*\Z")]


class Contract(msgspec.Struct, frozen=True):
    """A contract as the billing system has it; `key` is ours."""

    contract_id: _Text
    user: str = msgspec.field(name="user_id")
    plan: str
    key: str = msgspec.field(name="external_key")
    status: str

    @property
    def active(self) -> bool:
        """Whether the user is charged for it, or would be."""
        return self.status != "cancelled"


class _Page(msgspec.Struct):
    contracts: list[Contract]
    next_page: int | None = None


class _Reason(msgspec.Struct):
    code: Annotated[str, Meta(max_length=64, pattern=r"\A[a-z0-9_.-]+\Z")]


class _Error(msgspec.Struct):
    error: _Reason


_contract: Final = msgspec.json.Decoder(Contract)
_page: Final = msgspec.json.Decoder(_Page)
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
        return self._read(_contract, "start", self._call("start", "POST", "/contracts", body=body))

    def of_key(self, key: str) -> list[Contract]:
        """All contracts that were ever started under a key of ours."""
        content = self._ask("of_key", {"external_key": key})
        return self._read(_page, "of_key", content).contracts

    def cancel(self, contract_id: str) -> None:
        """End a contract; one that is ended stays so."""
        path = f"/contracts/{quote(contract_id, safe='')}/cancel"
        self._call("cancel", "POST", path, also=_CONFLICT)

    def all(self) -> Iterator[Contract]:
        """Every contract there is."""
        page: int | None = 1
        for _ in range(MAX_PAGES):
            found = self._read(_page, "all", self._ask("all", {"page": str(page)}))
            yield from found.contracts
            page = found.next_page
            if page is None:
                return
        raise BillingAway("all: more pages than there can be")

    # -- inside ------------------------------------------------------------------------------------------------------

    def _ask(self, name: str, query: dict[str, str]) -> bytes:
        """A question changes nothing: whatever goes wrong, it may be asked again."""
        try:
            return self._call(name, "GET", "/contracts", query=query)
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
        also: int | None = None,
    ) -> bytes:
        try:
            with self._http.stream(
                method,
                self._base + path,
                json=body,
                params=query,
                headers={"authorization": f"Bearer {self._token()}", "accept": "application/json"},
            ) as response:
                content = _bounded(response)
        except _SURELY_NOT_SENT as error:
            raise BillingAway(f"{name}: {type(error).__name__}") from None
        except httpx.HTTPError as error:
            raise BillingUnknown(f"{name}: {type(error).__name__}") from None
        status = response.status_code
        if response.is_success or status == also:
            return content
        if status == _MAINTENANCE:
            raise BillingAway(f"{name}: status {status}", _wait(response))
        if status in {_REFUSED, _GONE}:
            raise BillingRefused(_code(content))
        raise BillingUnknown(f"{name}: status {status}")

    @staticmethod
    def _read(decoder: msgspec.json.Decoder[T], name: str, content: bytes) -> T:
        try:
            return decoder.decode(content)
        except (msgspec.DecodeError, UnicodeDecodeError):
            error = BillingUnknown if name == "start" else BillingAway
            raise error(f"{name}: an answer that is none of its own") from None


def _bounded(response: httpx.Response) -> bytes:
    content = bytearray()
    for part in response.iter_bytes():
        content += part
        if len(content) > MAX_BYTES:
            raise BillingUnknown("an answer that is too long")
    return bytes(content)


def _code(content: bytes) -> str:
    """The billing system's own word for why; never anything else of its answer."""
    try:
        return _error.decode(content).error.code
    except (msgspec.DecodeError, UnicodeDecodeError):
        return "no_code"


def _wait(response: httpx.Response) -> float | None:
    asked = response.headers.get("retry-after", "")
    return min(float(asked), _LONGEST_WAIT_SECONDS) if asked.isascii() and asked.isdigit() else None

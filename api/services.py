"""What the API needs of the rest, as ports: `cli` wires them, the tests do it the same way."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol

from api.purchasing import Purchasing
from api.store_intake import NotificationIntake
from domain.aggregate import Aggregate
from domain.commands import ClientBatch
from domain.entry import Actor
from domain.orders import Answer, BulkMode, Order, Receipt
from domain.signature import ClientSignature
from merkle.log_view import LogView

Record = tuple[int, bytes]
Custody = Literal["custodial", "own"]


class LedgerPort(Protocol):
    """`domain.ledger.Ledger`: answers are given after the commit; `execute` raises refusals, the others return them."""

    async def execute(self, order: Order) -> Receipt: ...
    async def execute_each(self, orders: Sequence[Order]) -> list[Answer]: ...
    async def execute_atomic(self, orders: Sequence[Order]) -> list[Answer]: ...
    async def execute_batch(
        self, orders: Sequence[Order], mode: BulkMode, given: ClientBatch | None = None
    ) -> list[Answer]: ...
    async def dry_run(self, orders: Sequence[Order], mode: BulkMode) -> list[Answer]: ...


class EntriesPort(Protocol):
    """`storage.entry_log.SqliteEntryLog`: stored entries by position, from any thread."""

    def head(self) -> int: ...
    def read(self, start: int, limit: int) -> list[Record]: ...
    def get(self, position: int) -> bytes | None: ...
    def of_aggregate(self, aggregate_id: str, *, up_to: int | None = None) -> list[Record]: ...


class ReadStorePort(Protocol):
    """`projections.store.ReadStore`: a read connection for each thread. Its connections raise `DATABASE_ERRORS`."""

    DATABASE_ERRORS: ClassVar[tuple[type[BaseException], ...]]

    def reader(self) -> Any: ...
    def snapshot(self) -> AbstractContextManager[Any]: ...


class BoardPort(Protocol):
    """`projections.waiting.PositionBoard`: what the read models show, and waiting for more without polling."""

    @property
    def position(self) -> int: ...
    async def wait(self, min_position: int, timeout_seconds: float) -> bool: ...


class PromisesPort(Protocol):
    """The promise key. Duties: signs under the name `<origin>/promise`, nothing but promises."""

    @property
    def publish_by_seconds(self) -> float:
        """How long after the answer an entry must be in the published log at the latest."""

    async def sign(self, text: bytes) -> bytes:
        """The whole signed note over a promise's text. Raises SignerUnavailable."""


class UsersPort(Protocol):
    """Users of companies and their wallets (`accounts.Accounts`).

    Duties: a pseudonym never changes; opening a wallet is idempotent per user and survives a crash at any point.
    """

    async def pseudonym(self, company: str, subject: str) -> str:
        """The pseudonym (32 hex digits) of a company's user ("" for the operator's), made on first use."""

    async def known(self, company: str, subject: str) -> str | None:
        """The pseudonym if there is one already."""

    async def open_wallet(
        self,
        actor: Actor,
        company: str,
        user: str,
        custody: Custody,
        address: str | None,
        proof: ClientSignature | None,
        *,
        key: str | None,
    ) -> Receipt:
        """The receipt of the user's WalletOpened; a hit when the wallet was there. Raises refusals."""

    async def rotate(self, actor: Actor, wallet: str, *, key: str, expected_version: int | None) -> Receipt:
        """Give a custodial wallet a new key. Raises refusals."""


class AnchoringPort(Protocol):
    """Whoever anchors."""

    async def request_now(self, actor: Actor) -> Mapping[str, Any]:
        """Ask for an anchor of the present head at once; the status to answer, JSON ready. Raises ChainUnavailable."""


class ChainRpcPort(Protocol):
    """The chain's JSON-RPC endpoint."""

    async def call(self, payload: bytes) -> bytes:
        """The node's answer to one request or batch. Raises ChainUnavailable."""


class HealthPort(Protocol):
    """What the hosts know of themselves; asked from the event loop, answers at once."""

    def readiness(self) -> Sequence[str]:
        """Why the service should get no traffic; empty when it should."""

    def processors(self) -> Sequence[Mapping[str, Any]]:
        """For each processor: name, position, lag (entries), state, error."""


class TypedDataPort(Protocol):
    """EIP-712 documents for wallets in own custody (`signing.TypedData`)."""

    def of_order(self, order: Order, nonce: str, deadline: int) -> dict[str, Any]:
        """What a trade command's wallet signs; sets the trade's id in `order.trade_id`. Raises refusals."""

    def of_wallet(
        self, event_type: str, wallet: str, data: Mapping[str, Any], nonce: str, deadline: int
    ) -> dict[str, Any]:
        """What a wallet signs for its own opening or rotation."""


class ParcelsPort(Protocol):
    """`storage.parcels.SqliteParcels`. Blocking, from any thread."""

    def of_payload(self, payload: str) -> Any: ...
    def owners(self, payloads: Sequence[str]) -> dict[str, str]: ...
    def of_owner(self, owner: str, start: int, limit: int) -> list[Any]: ...


class OpenerPort(Protocol):
    """Opens payloads. Blocking; raises `stores.receive.OwnerErased`."""

    def open(self, owner: str, sealed: bytes) -> bytes: ...


class ReadAuditPort(Protocol):
    """Where it is written down who has read what. Blocking; durable on return."""

    def record(self, who: str, what: str, about: str) -> None: ...


@dataclass(slots=True, kw_only=True)
class SupportPorts:
    """What support reads besides the ledger. `load` gives an aggregate as stored."""

    load: Callable[[str], Awaitable[Aggregate | None]]
    parcels: ParcelsPort
    opener: OpenerPort
    audit: ReadAuditPort


@dataclass(slots=True, kw_only=True)
class Services:
    """Everything behind the API. `group_listeners` is the writer's `on_group`: called with (commands, seconds).

    `intake` and `purchasing`: None where no app of a store is set up.
    """

    origin: str
    ledger: LedgerPort
    entries: EntriesPort
    log_view: LogView
    read_store: ReadStorePort
    board: BoardPort
    promises: PromisesPort
    users: UsersPort
    anchoring: AnchoringPort
    chain_rpc: ChainRpcPort
    health: HealthPort
    typed_data: TypedDataPort
    intake: NotificationIntake | None = None
    purchasing: Purchasing | None = None
    support: SupportPorts | None = None
    group_listeners: list[Callable[[int, float], None]] = field(default_factory=list)
    on_shutdown: list[Callable[[], Awaitable[None]]] = field(default_factory=list)

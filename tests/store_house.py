"""A ledger behind the real API with both stores set up: real verifiers and vault, an OCSP responder, a key server."""

import asyncio
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from api.pulse import Pulse
from api.purchasing import Purchasing
from api.reserve import Reserve
from api.services import SupportPorts
from api.store_intake import NotificationIntake
from chain.payload_keys import PayloadKeys
from cli.wiring.store_intake import MasterKeySeal, Payloads
from domain.errors import StorageUnavailable
from domain.ids import subscription_id
from domain.store_notification import Store
from domain.subscription import Subscription
from simulator.authority import OcspResponder, StoreCa
from storage.due_work import DueWork
from storage.parcels import SqliteParcels
from storage.quarantine import Quarantine
from storage.spool import Spool
from stores.apple.verify import AppleApp, AppleVerifier
from stores.google.keys import KeySet, http_fetch
from stores.google.push import PushVerifier
from stores.intake import AppleIntake, GoogleIntake
from stores.purchases import HandIn
from stores.reading import Reader
from stores.receive import Receiver
from streams.billing_steps import BillingSteps, NoBilling
from streams.deadline_work import DeadlineWork, told
from streams.deadlines import DEADLINE
from streams.erase_work import EraseWork
from streams.ledger_bridge import Bridge
from streams.people_work import DecideWork, PeopleWork
from streams.purchase_follow import FollowWork
from streams.purchase_steps import PurchaseSteps
from streams.purchase_work import PurchaseWork
from streams.store_identities import Identities
from streams.store_intake import StoreIntake
from streams.store_tasks import DECIDE, ERASE, FETCH, FOLLOW, JUDGE, OBSERVE, PEOPLE, PURCHASE
from streams.store_work import FetchWork, JudgeWork, Messages, ObserveWork
from tests import google_pushes
from tests.api_support import ORIGIN, House
from tests.apple_payloads import APP_ID, BUNDLE, transaction, whole
from tests.google_pushes import KeyServer, envelope, key_server
from tests.http_stub import Stub
from tests.ocsp_server import ocsp_responder
from tests.vault_support import Folder

COMPANY = "daily"
APPLE, GOOGLE = "/v1/stores/apple/notifications", "/v1/stores/google/notifications"


class FlakySpool(Spool):
    """A spool whose disk can be made to refuse."""

    refuses = False

    def put(self, record: bytes) -> None:
        if self.refuses:
            raise StorageUnavailable("the spool cannot be written", reason="No space left on device")
        super().put(record)


@dataclass
class StoreHouse:
    """The whole of it. `counted` are the outcomes, in order."""

    folder: Path
    ca: StoreCa
    ocsp: OcspResponder
    google: KeyServer
    key_stub: Stub
    counted: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.work: DueWork | None = None
        self.hurried = self.ticking = False
        self.audited: list[tuple[str, str, str]] = []
        self.at_billing: BillingSteps | None = None
        self.clock = time.time() + 0.1
        self.failures: list[str] = []
        self.vault = Folder(self.folder).open(("service",))
        self.keys = PayloadKeys(self.vault.vault, self.vault.store)
        self.spool = FlakySpool(self.folder / "spool")
        self.quarantine = Quarantine(self.folder / "quarantine")
        self.http = httpx.Client(timeout=5.0)
        self.house = House(self.folder, more=self._services, body_timeout_seconds=0.5)
        self.run = self.house.run
        self.parcels = SqliteParcels(self.folder / "ledger.db")
        assert self.house.services.intake is not None
        self.intake = self.house.services.intake
        self.intake.count = lambda store, outcome: self.counted.append((str(store), outcome))

    def _services(self, house: House) -> dict[str, Any]:
        intake = self._intake(house)
        offline = AppleVerifier(AppleApp(BUNDLE, APP_ID), [self.ca.root.der], online=False, max_age_seconds=None)
        pulse = Pulse()
        house.writer.on_commit.append(pulse.beat)

        async def load(aggregate: str) -> Any:
            return house.ledger.load(aggregate)

        purchasing = Purchasing(
            ORIGIN, COMPANY, house.ledger, load, self.receiver, HandIn(offline, google=True), pulse,
            hurried=lambda: self.hurried,
        )  # fmt: skip
        self.pulse = pulse
        support = SupportPorts(
            load=load, parcels=SqliteParcels(self.folder / "ledger.db"), opener=Payloads(self.keys), audit=self
        )
        return {"intake": intake, "purchasing": purchasing, "support": support}

    def record(self, who: str, what: str, about: str) -> None:
        """The audit of reads."""
        self.audited.append((who, what, about))

    def _intake(self, house: House) -> NotificationIntake:
        app = AppleApp(BUNDLE, APP_ID)
        self.later_verifier = AppleVerifier(app, [self.ca.root.der], online=True, max_age_seconds=None)
        keys = self.google_keys = KeySet(http_fetch(self.http, self.google.url))
        self.receiver = Receiver(
            ORIGIN, house.ledger, Payloads(self.keys), lambda: house.pseudonyms.pseudonym("", "daicho")
        )
        self.reserve = Reserve(self.spool, MasterKeySeal(self.vault.vault), self.receiver, drain_seconds=0.05)
        return NotificationIntake(
            {
                Store.APPLE: AppleIntake(AppleVerifier(app, [self.ca.root.der], online=True)),
                Store.GOOGLE: GoogleIntake(google_pushes.APP, PushVerifier(google_pushes.APP, keys)),
            },
            self.receiver, self.reserve, self.quarantine, confirm_seconds=1.0, record_seconds=2.0,
        )  # fmt: skip

    # -- what stores do ----------------------------------------------------------------------------------------------

    def apple_body(self, **more: Any) -> bytes:
        """A rightly signed renewal, signed now."""
        return whole(self.ca, int(time.time() * 1000), **more)

    def post_apple(self, body: bytes) -> httpx.Response:
        """What Apple does."""
        return self.house.request("POST", APPLE, key=None, content=body, headers={"content-type": "application/json"})

    def post_google(self, body: bytes | None = None, authorization: str | None = None) -> httpx.Response:
        """What Pub/Sub does."""
        headers = {"content-type": "application/json"}
        headers["authorization"] = self.google.bearer() if authorization is None else authorization
        content = envelope(google_pushes.notification()) if body is None else body
        return self.house.request("POST", GOOGLE, key=None, content=content, headers=headers)

    def buy(self, who: str = COMPANY, **body: Any) -> httpx.Response:
        """What the company's app back end does; `prefer` seconds are waited for."""
        headers = {"prefer": f"wait={body.pop('wait', 0)}"}
        key = body.pop("key", "")
        return self.house.request("POST", "/v1/purchases", who, key=key, json_body=body, headers=headers)

    def signed_transaction(self, **changes: Any) -> str:
        """What StoreKit gives an app."""
        return self.ca.sign(transaction(int(time.time() * 1000), **changes))

    # -- what follows from it ----------------------------------------------------------------------------------------

    def work_on(
        self, play: Any = None, billing: Any = None, *, settle_seconds: float = 60.0, apple: Any = None,
        ticking: bool = False,
    ) -> None:  # fmt: skip
        """Let intake and executors do all that is due now, and all that follows from it.

        `ticking`: their clock goes on by a millisecond with every look.
        """
        self.ticking = ticking
        self.clock = max(self.clock, time.time() + 0.1)  # nothing has come in later than it is being worked on
        self.run(self.working(play, billing, settle_seconds=settle_seconds, apple=apple))

    async def working(
        self, play: Any = None, billing: Any = None, *, settle_seconds: float = 60.0, apple: Any = None
    ) -> None:
        """The same on the event loop."""
        if self.work is None:
            self.work = DueWork(self.folder / "ledger.db")
            self.store_intake = StoreIntake(self.work, self.parcels, clock=self.now)
            self.bridge = Bridge(ORIGIN, self.house.ledger, self.house.entries, self.receiver)
        kinds = self.works(play, billing, settle_seconds, apple)

        def rounds() -> None:
            while True:
                self._take_in()
                done = [self._do(doing, leases) for kind, doing in kinds if (leases := self._lease(kind))]
                if not done:
                    return

        self.bridge.loop = asyncio.get_running_loop()
        await asyncio.to_thread(rounds)

    def now(self) -> float:
        """The executors' clock, which tests put forward."""
        if self.ticking:
            self.clock += 0.001
        return self.clock

    def works(self, play: Any, billing: Any, settle_seconds: float, apple: Any) -> list[tuple[str, Any]]:
        """Everything that does work, as `cli` wires it."""
        assert self.work is not None
        messages = Messages(self.parcels, Payloads(self.keys), Reader(google_pushes.APP))
        identities = Identities(lambda user: self.reveal(user) is not None)
        observe = ObserveWork(
            self.bridge, messages, self.work, then=identities.commands, later=told, clock=self.now
        )  # fmt: skip
        if self.at_billing is None or self.at_billing.billing is not billing:
            self.at_billing = BillingSteps(
                self.bridge, billing or NoBilling(), self.reveal, settle_seconds=settle_seconds, clock=self.now
            )
        steps = PurchaseSteps(
            self.bridge, messages, self.at_billing, play, apple, observed=observe.now, clock=self.now
        )  # fmt: skip
        return [
            (OBSERVE, observe),
            (FETCH, FetchWork(self.bridge, messages, play, clock=self.now)),
            (JUDGE, JudgeWork(self.bridge, messages, self.later_verifier)),
            (FOLLOW, FollowWork(self.bridge, self.work, clock=self.now)),
            (PURCHASE, PurchaseWork(self.bridge, steps, clock=self.now)),
            (PEOPLE, PeopleWork(self.bridge)),
            (DECIDE, DecideWork(self.bridge)),
            (ERASE, EraseWork(self.bridge, self.keys, self)),
            (DEADLINE, DeadlineWork(self.bridge, messages, play, clock=self.now)),
        ]

    def reveal(self, pseudonym: str) -> tuple[str, str] | None:
        """Whom a pseudonym means."""
        return next((who for who, known in self.house.pseudonyms.of.items() if known == pseudonym), None)

    def erase_subject(self, pseudonym: str, who: str = "service") -> bool:
        """Forget whom a pseudonym means."""
        known = [name for name, each in self.house.pseudonyms.of.items() if each == pseudonym]
        for name in known:
            del self.house.pseudonyms.of[name]
        return bool(known and who)

    def _take_in(self) -> None:
        at = self.store_intake.position()[0]
        while records := self.house.entries.read(at + 1, 1000):
            self.store_intake.process(records)
            at = records[-1][0]

    def _lease(self, kind: str) -> Any:
        assert self.work is not None
        return self.work.lease(kind, "test", 60.0, self.clock, 100)

    def _do(self, doing: Any, leases: Any) -> bool:
        assert self.work is not None
        verdict = doing.run(leases, lambda: None)
        self.work.done(*verdict.done)
        self.work.again(*verdict.again, due_at=self.clock + 300)
        self.failures += [failure.reason for failure in verdict.failed]
        for lease, seconds in verdict.later:
            self.work.again(lease, due_at=self.clock + seconds)
        for failure in verdict.failed:
            self.work.retry(failure.lease, error=failure.reason, due_at=self.clock + max(5.0, failure.after_seconds))
        return True

    def subscription(self, store: str, line: str, environment: str = "production") -> Subscription:
        """What the ledger has of a subscription."""
        found = self.house.ledger.load(subscription_id(store, environment, line))
        assert isinstance(found, Subscription)
        return found

    # -- what is to be seen afterwards -------------------------------------------------------------------------------

    def outcomes(self) -> list[str]:
        """What became of the messages, in order."""
        return [outcome for _, outcome in self.counted]

    def entries(self) -> list[dict[str, Any]]:
        """All entries behind the book's first."""
        return [json.loads(entry) for _, entry in self.house.entries.read(2, 100_000)]

    def opened(self, number: int) -> bytes:
        """The plain bytes of a parcel."""
        found = self.parcels.read(number, 1)[0]
        return self.keys.open(found.owner, found.sealed)

    def drain(self, until: int) -> None:
        """Let the spool be drained until the inbox has so many parcels."""

        async def draining() -> None:
            await self.reserve.start()
            for _ in range(100):
                if self.parcels.head() >= until and not self.spool.names():
                    break
                await asyncio.sleep(0.05)
            await self.reserve.stop()

        self.run(draining())

    def close(self) -> None:
        self.run(self.intake.stop())
        if self.work is not None:
            self.work.close()
        self.parcels.close()
        self.house.close()
        self.http.close()


@contextmanager
def store_house(folder: Path) -> Iterator[StoreHouse]:
    """A house with both stores, until the end of the block."""
    with ocsp_responder() as ocsp, key_server() as (google, stub):
        ca = StoreCa(ocsp_url=ocsp.url)
        ocsp.authorities.append(ca)
        made = StoreHouse(folder, ca, ocsp, google, stub)
        try:
            yield made
        finally:
            made.close()

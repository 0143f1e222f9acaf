"""What is done about stores' messages and purchases, wired: the intake of work, and the executors that do it."""

import asyncio
import time
from collections.abc import Callable
from typing import Any, Final

import httpx

from cli.settings import Settings, SettingsError
from cli.wiring.ledger_side import LedgerSide
from cli.wiring.store_intake import Payloads, apple_verifier, google_app, receiver_of
from cli.wiring.stores import Stores
from stores.apple.client import PRODUCTION_URL, SANDBOX_URL, AppleClient
from stores.billing import BillingClient
from stores.breaker import GuardedBilling
from stores.google.access import AccessToken
from stores.google.client import BASE_URL, PlayClient
from stores.google.push import GoogleSettingsError
from stores.intake import AppleIntake
from stores.reading import Reader
from streams.billing_steps import BillingSteps, NoBilling
from streams.deadline_work import DeadlineWork, told
from streams.deadlines import DEADLINE
from streams.erase_work import EraseWork
from streams.executors import Executor
from streams.ledger_bridge import Bridge
from streams.local import FAILED, RUNNING, ProcessorStatus
from streams.people_work import DecideWork, PeopleWork
from streams.purchase_follow import FollowWork
from streams.purchase_steps import PurchaseSteps
from streams.purchase_work import PurchaseWork
from streams.reconcilers import (
    ACKNOWLEDGE,
    APPLE_HISTORY,
    SWEEP,
    VOIDED,
    AcknowledgeWork,
    AppleHistoryWork,
    Sweeps,
    SweepWork,
    VoidedWork,
    recurring,
)
from streams.store_identities import Identities
from streams.store_intake import StoreIntake
from streams.store_tasks import DECIDE, ERASE, FETCH, FOLLOW, JUDGE, OBSERVE, PEOPLE, PURCHASE
from streams.store_work import FetchWork, JudgeWork, Messages, ObserveWork

MAX_ATTEMPTS: Final = 40  # with pauses that grow to a minute: what fails for half an hour is for people
OBSERVED_AT_ONCE: Final = 200
FETCHED_AT_ONCE: Final = 20
PURCHASE_WORKERS: Final = 4
"""So many purchases are driven at once: one that the billing system keeps waiting does not hold up the others."""
STORE_SECONDS: Final = 10.0
BILLING: Final = "billing"


class StoreSide:
    """The intake is given to a host by whoever wires it; `start` and `stop` are for the executors. SettingsError."""

    def __init__(self, settings: Settings, stores: Stores, ledger: LedgerSide) -> None:
        self.work = stores.store_work()
        self._parcels = stores.parcels()
        self.receiver = receiver_of(ledger)
        self.bridge = Bridge(ledger.description.origin, ledger.ledger, ledger.entries, self.receiver)
        self.intake = StoreIntake(self.work, self._parcels)
        self.play = play_client(settings)
        self.billing = billing_client(settings)
        messages = Messages(self._parcels, Payloads(ledger.payload_keys), Reader(google_app(settings)))
        identities = Identities(lambda user: ledger.subjects.reveal(user) is not None)
        sweeps = Sweeps()
        observe = ObserveWork(
            self.bridge,
            messages,
            self.work,
            then=identities.commands,
            later=lambda task, said: [*sweeps.works(task, said), *told(task, said)],
        )
        follow = FollowWork(self.bridge, self.work)
        at_billing = BillingSteps(
            self.bridge,
            self.billing or NoBilling(),
            ledger.subjects.reveal,
            settings.billing_plans,
            settings.billing_settle_seconds,
        )
        self.apple = apple_client(settings)
        steps = PurchaseSteps(self.bridge, messages, at_billing, self.play, self.apple, observed=observe.now)
        verifier = apple_verifier(settings, online=settings.apple_revocation == "online", max_age_seconds=None)
        sweep = SweepWork(self.bridge, messages, self.work)
        self.executors = [
            self._executor(OBSERVE, observe, OBSERVED_AT_ONCE),
            self._executor(FETCH, FetchWork(self.bridge, messages, self.play), FETCHED_AT_ONCE),
            self._executor(JUDGE, JudgeWork(self.bridge, messages, verifier), FETCHED_AT_ONCE),
            self._executor(FOLLOW, follow, OBSERVED_AT_ONCE),
            *(
                self._executor(PURCHASE, PurchaseWork(self.bridge, steps), 1, max_attempts=None)
                for _ in range(PURCHASE_WORKERS)
            ),
            self._executor(PEOPLE, PeopleWork(self.bridge), FETCHED_AT_ONCE),
            self._executor(DECIDE, DecideWork(self.bridge), FETCHED_AT_ONCE),
            self._executor(SWEEP, sweep, OBSERVED_AT_ONCE),
            self._executor(
                ERASE, EraseWork(self.bridge, ledger.payload_keys, ledger.subjects), FETCHED_AT_ONCE, max_attempts=None
            ),
            self._executor(
                DEADLINE, DeadlineWork(self.bridge, messages, self.play), FETCHED_AT_ONCE, max_attempts=None
            ),
            *self._reconcilers(settings, messages),
        ]
        sweep.on_fetch.append(self.wake)
        self.intake.on_due.append(self.wake)
        observe.on_fetch.append(self.wake)
        follow.on_purchase.append(self.wake)

    def _reconcilers(self, settings: Settings, messages: Messages) -> list[Executor]:
        """Those whose store's API is set up."""
        made: list[Executor] = []
        offline = apple_verifier(settings, online=False, max_age_seconds=None)
        if self.apple is not None and offline is not None:
            history = AppleHistoryWork(
                self.bridge, self.apple, AppleIntake(offline), every_seconds=settings.apple_history_seconds
            )
            made.append(self._executor(APPLE_HISTORY, history, 1, max_attempts=None))
        if self.play is not None:
            voided = VoidedWork(self.bridge, self.play, self.work, every_seconds=settings.google_voided_seconds)
            acknowledge = AcknowledgeWork(self.bridge, messages, self.play)
            made.append(self._executor(VOIDED, voided, 1, max_attempts=None))
            made.append(self._executor(ACKNOWLEDGE, acknowledge, FETCHED_AT_ONCE, max_attempts=None))
        return made

    async def start(self) -> None:
        """Begin to do what is due. What an earlier process held is taken over at once: there is only one at a time."""
        self.bridge.loop = asyncio.get_running_loop()
        await asyncio.to_thread(self._prepare)
        for executor in self.executors:
            await executor.start()

    def _prepare(self) -> None:
        kinds = {executor.kind for executor in self.executors}
        for kind in kinds:
            self.work.release(kind)
        self.work.put(*(recurring(kind, time.time()) for kind in kinds & {APPLE_HISTORY, VOIDED}))

    async def stop(self) -> None:
        """Finish the work in hand."""
        await asyncio.gather(*(executor.stop() for executor in self.executors))

    def close(self) -> None:
        """Close the files, when nobody puts work any more."""
        self.work.close()
        self._parcels.close()

    def wake(self) -> None:
        """There may be work. From any thread."""
        for executor in self.executors:
            executor.wake()

    def status(self) -> list[ProcessorStatus]:
        """A row for each kind of work (failed when one of its executors is), and one for the billing system."""
        rows: dict[str, ProcessorStatus] = {}
        for executor in self.executors:
            status = executor.status()
            name = f"store-{status.name}"
            if name not in rows or status.state == FAILED:
                rows[name] = ProcessorStatus(name, 0, 0, status.state, status.error)
        if self.billing is not None:
            away = self.billing.is_open
            rows[BILLING] = ProcessorStatus(
                BILLING, 0, 0, FAILED if away else RUNNING, "it does not answer, and is left alone" if away else ""
            )
        return list(rows.values())

    def _executor(self, kind: str, work: Any, at_once: int, max_attempts: int | None = MAX_ATTEMPTS) -> Executor:
        return Executor(self.work, kind, work, max_leases=at_once, max_attempts=max_attempts, sole=False)


def apple_client(settings: Settings) -> AppleClient | None:
    """The App Store Server API, None where no key for it is set up. Raises SettingsError."""
    if not settings.apple_bundle_id or settings.apple_key_file is None:
        return None
    if not settings.apple_key_id or not settings.apple_issuer_id:
        raise SettingsError("DAICHO_APPLE_KEY_FILE needs DAICHO_APPLE_KEY_ID and DAICHO_APPLE_ISSUER_ID")
    if settings.apple_api_url is not None:
        url = str(settings.apple_api_url)
    else:
        url = PRODUCTION_URL if settings.apple_environments[0] == "production" else SANDBOX_URL
    http = httpx.Client(timeout=STORE_SECONDS)
    try:
        key = settings.apple_key_file.read_bytes()
        return AppleClient(
            http, key, settings.apple_key_id, settings.apple_issuer_id, settings.apple_bundle_id, base_url=url
        )
    except (OSError, ValueError) as error:
        raise SettingsError(f"DAICHO_APPLE_KEY_FILE: {type(error).__name__}: {settings.apple_key_file}") from None


def play_client(settings: Settings) -> PlayClient | None:
    """The Google Play API, None where no key for it is set up. Raises SettingsError."""
    if not settings.google_package or settings.google_key_file is None:
        return None
    http = httpx.Client(timeout=STORE_SECONDS)
    try:
        access = AccessToken(http, settings.google_key_file)
    except GoogleSettingsError as error:
        raise SettingsError(f"DAICHO_GOOGLE_KEY_FILE: {error}") from None
    base = BASE_URL if settings.google_api_url is None else str(settings.google_api_url).rstrip("/")
    return PlayClient(http, settings.google_package, access, base_url=base)


def billing_client(settings: Settings) -> GuardedBilling | None:
    """The existing billing system, None where none is set up. Raises SettingsError."""
    if settings.billing_url is None:
        return None
    token = billing_token(settings)
    http = httpx.Client(timeout=settings.billing_timeout_seconds)
    return GuardedBilling(BillingClient(http, str(settings.billing_url), token))


def billing_token(settings: Settings) -> Callable[[], str]:
    """Gives the token for the billing system; a file is read again at each use, so that it may be renewed."""
    secret, file = settings.billing_token, settings.billing_token_file
    if secret is not None:
        return secret.get_secret_value

    def read() -> str:
        return file.read_text("utf-8").strip() if file is not None else ""

    try:
        read()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"DAICHO_BILLING_TOKEN_FILE: {type(error).__name__}: {file}") from None
    return read

"""What is done about stores' messages, wired: the intake that follows the entries, and the executors of its work."""

import asyncio
from collections.abc import Callable
from typing import Any, Final

from cli.settings import Settings
from cli.wiring.ledger_side import LedgerSide
from cli.wiring.store_intake import Payloads, apple_verifier, google_app, receiver_of
from cli.wiring.stores import Stores
from stores.reading import Reader
from streams.executors import Executor
from streams.ledger_bridge import Bridge
from streams.local import ProcessorStatus
from streams.store_intake import StoreIntake
from streams.store_tasks import FETCH, JUDGE, OBSERVE
from streams.store_work import FetchWork, JudgeWork, Messages, ObserveWork

MAX_ATTEMPTS: Final = 40  # with pauses that grow to a minute: what fails for half an hour is for people
OBSERVED_AT_ONCE: Final = 200
FETCHED_AT_ONCE: Final = 20


class StoreSide:
    """The intake is given to a host by whoever wires it; `start` and `stop` are for the executors."""

    def __init__(self, settings: Settings, stores: Stores, ledger: LedgerSide) -> None:
        self.work = stores.store_work()
        self._parcels = stores.parcels()
        self.receiver = receiver_of(ledger)
        self._bridge = Bridge(ledger.description.origin, ledger.ledger, ledger.entries, self.receiver)
        self.intake = StoreIntake(self.work, self._parcels)
        messages = Messages(self._parcels, Payloads(ledger.payload_keys), Reader(google_app(settings)))
        observe = ObserveWork(self._bridge, messages, self.work)
        fetch = FetchWork(self._bridge, messages, None)
        verifier = apple_verifier(settings, online=settings.apple_revocation == "online", max_age_seconds=None)
        judge = JudgeWork(self._bridge, messages, verifier)
        self.executors = [
            self._executor(OBSERVE, observe, OBSERVED_AT_ONCE),
            self._executor(FETCH, fetch, FETCHED_AT_ONCE),
            self._executor(JUDGE, judge, FETCHED_AT_ONCE),
        ]
        self.intake.on_due += [executor.wake for executor in self.executors]
        observe.on_fetch.append(self.executors[1].wake)

    async def start(self) -> None:
        """Begin to do what is due."""
        self._bridge.loop = asyncio.get_running_loop()
        for executor in self.executors:
            await executor.start()

    async def stop(self) -> None:
        """Finish the work in hand."""
        for executor in self.executors:
            await executor.stop()

    def close(self) -> None:
        """Close the files, when nobody puts work any more."""
        self.work.close()
        self._parcels.close()

    def status(self) -> list[ProcessorStatus]:
        """A row for each executor."""
        rows = [executor.status() for executor in self.executors]
        return [ProcessorStatus(f"store-{row.name}", 0, 0, row.state, row.error) for row in rows]

    def wakes(self) -> list[Callable[[], None]]:
        """What is called when there may be work that nobody in this process has put."""
        return [executor.wake for executor in self.executors]

    def _executor(self, kind: str, work: Any, at_once: int) -> Executor:
        return Executor(self.work, kind, work, max_leases=at_once, max_attempts=MAX_ATTEMPTS)

"""What the API of a cluster knows of the processors, which are processes of their own.

It reads the log and the read models from the database, which also wakes it, and every worker's own report of how it
is. It asks Kafka only before the ledger opens.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, cast

from chain.registry import Head
from cli.settings import Settings
from cli.wiring.chain_side import ChainSide
from cli.wiring.ledger_side import LedgerSide
from cli.wiring.postgres_stores import PostgresStores
from cli.wiring.stores import Stores
from domain.anchor_book import AnchorBook
from domain.errors import DaichoError
from projections import anchors
from projections.waiting import PositionBoard
from storage.postgres.processor_status import ProcessorStatusTable
from storage.postgres.recorder import PostgresAnchorRecorder
from storage.postgres.wakeups import Wakeups
from streams.anchorer import Anchorer
from streams.faults import one_line
from streams.fork_guard import ForkGuard
from streams.local import FAILED
from streams.log_follower import LogFollower
from streams.own_thread import OwnThread
from streams.publisher import Publisher
from streams.topic_heads import TopicHeads

POLL_SECONDS: Final = 1.0  # nobody should have to wait for it: a lost wake-up costs this much
SILENT_SECONDS: Final = 15.0  # a worker reports once a second
WORKERS: Final = ("sequencer", "publisher", "projector", "anchor-projector", "anchorer", "anchor", "relay-entries")
logger = logging.getLogger("daicho.reading")


class ReadingSide:
    """The processors as the API sees them: `cli.wiring.ports.Following`."""

    def __init__(self, settings: Settings, stores: Stores, chain: ChainSide, ledger: LedgerSide) -> None:
        database = cast("PostgresStores", stores).database
        origin = chain.description.origin
        self._ledger = ledger
        self._log = stores.log()
        follower = LogFollower(origin, self._log)
        self.view = follower.view
        self._follower = Publisher(follower, POLL_SECONDS, "log-follower")
        self.read_store = stores.reads()
        self.board = PositionBoard()
        self._work = stores.due_work()
        self._anchorer = Anchorer(self._work, ledger.entries, self.view)
        self._book = AnchorBook(stores.anchor_environment())
        stores.attach(self._book.recorder)
        self._book.connect(origin, ledger.clock)
        self._topics = TopicHeads(settings.kafka_bootstrap, settings.book)
        self._guard = ForkGuard(ledger.entries, self.view, self._log, self._book, self._contract_head, self._topics)
        self._chain = chain
        self._table = ProcessorStatusTable(database)
        self._heard: list[Callable[[int], None]] = []
        self._reports: dict[str, Mapping[str, Any]] = {}
        self._thread = OwnThread("processor-reports")
        self._watching: asyncio.Task[None] | None = None
        self._wakeups = Wakeups(
            database,
            {
                "reads": self.board.publish,
                "checkpoints": lambda _: self._follower.wake(),
                "events": self._committed,
            },
            on_connected=[self._look],
        )

    def on_commit(self, heard: Callable[[int], None]) -> None:
        """Tell of everything that is committed, by whichever process."""
        self._heard.append(heard)

    def _committed(self, head: int) -> None:
        for heard in self._heard:
            heard(head)

    async def start(self) -> None:
        """Start to follow. The ledger stays read-only until `open_ledger`."""
        await self._follower.start()
        await asyncio.to_thread(self._wakeups.start)
        self._watching = asyncio.create_task(self._watch(), name="processor-reports")

    async def open_ledger(self) -> bool:
        """Compare the store with what was signed, sent and anchored; True when the ledger takes commands."""
        return await self._guard.check_until_open(self._set_refusal)

    async def request_anchor(self) -> Mapping[str, Any]:
        """Ask for an anchor of the published head at once: the anchorer's process finds the work in the database."""
        size = await self._anchorer.request_now()
        return {"requested_size": size, **await asyncio.to_thread(self._anchored)}

    async def stop(self) -> None:
        """Stop following and close everything."""
        self._guard.stop()
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        self._thread.close()
        await asyncio.to_thread(self._wakeups.stop)
        await self._follower.stop()
        self._work.close()
        cast("PostgresAnchorRecorder", self._book.recorder).close()
        self._table.close()
        self._log.close()
        self.read_store.close()

    def processors(self) -> list[Mapping[str, Any]]:
        """Every processor of the cluster by its own report, and the follower of the log in this process."""
        status = self._follower.status()
        own = {"name": status.name, "position": status.position, "lag": status.lag, "state": status.state}
        return [self._reported(name) for name in sorted({*WORKERS, *self._reports})] + [{**own, "error": status.error}]

    # -- inside ------------------------------------------------------------------------------------------------------

    def _reported(self, name: str) -> Mapping[str, Any]:
        """What a worker says of itself; failed when it says nothing (any more)."""
        found = self._reports.get(name)
        if found is None:
            return {"name": name, "position": 0, "lag": 0, "state": FAILED, "error": "no worker has reported yet"}
        row = {key: found[key] for key in ("name", "position", "lag", "state", "error")}
        silent = time.time() - found["reported_at"]
        if silent > SILENT_SECONDS:
            row |= {"state": FAILED, "error": f"its worker is silent for {silent:.0f} s"}
        return row

    async def _watch(self) -> None:
        """Read the workers' reports once a second; while the database is away, the last ones grow old."""
        while True:
            try:
                rows = await self._thread.run(self._table.rows)
                self._reports = {row["name"]: row for row in rows}
            except Exception as error:  # noqa: BLE001 the reports are for people, nothing hangs on them
                logger.debug("the processors' reports cannot be read: %s", one_line(error))
            await asyncio.sleep(POLL_SECONDS)

    def _look(self) -> None:
        """After the database was away: what it would have told meanwhile. In the wake-ups' thread."""
        with self.read_store.snapshot() as connection:
            (position,) = connection.execute("SELECT coalesce(max(position), 0) FROM entries").fetchone()
        self.board.publish(position)
        self._follower.wake()

    def _anchored(self) -> dict[str, int]:
        with self.read_store.snapshot() as connection:
            final = anchors.latest_anchor(connection, "final")
            mined = anchors.latest_anchor(connection, "mined", "final")
        return {"final_size": final.size if final else 0, "mined_size": mined.size if mined else 0}

    def _set_refusal(self, refusal: DaichoError | None) -> None:
        self._ledger.writer.refusal = refusal

    def _contract_head(self) -> Head:
        return self._chain.contract_head()

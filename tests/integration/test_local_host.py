"""The whole way on one machine: a command becomes an entry, a leaf, a signed head, an anchor, and a receipt."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from chain.errors import ChainUnavailableError
from chain.lane_events import Forked, LaneEvent
from domain import commands as c
from domain.errors import LedgerReadOnly
from domain.ids import anchor_id
from streams.lane_reports import AnchorLane, LaneStatus
from tests.anchoring_kit import Service, Setup, deploy
from tests.chain_fixtures import CHAIN_ID, EmbeddedNode, KeySigner
from tests.ledger_kit import OPERATOR, record

pytest_plugins = ("tests.chain_fixtures",)


@pytest.fixture
def setup(tmp_path: Path, embedded_node: EmbeddedNode, publisher: KeySigner) -> Setup:
    """A folder and a chain; `dataclasses.replace` it to change one thing."""
    folder = tmp_path / "data"
    folder.mkdir()
    return Setup(folder, embedded_node.url, publisher, deploy(embedded_node.url, publisher))


def run(setup: Setup, story: Callable[[Service], Coroutine[Any, Any, None]]) -> None:
    """One life of the service."""

    async def live() -> None:
        service = Service(setup)
        await service.start()
        try:
            await story(service)
        finally:
            await service.stop()

    asyncio.run(live())


async def some_entries(service: Service, code: str) -> int:
    """One more entry; its position."""
    receipt = await service.book.do(OPERATOR, c.RegisterCompany(code=code, name=code))
    return receipt.records[-1][0]


class LaneAround:
    """A real lane with something between it and the executor."""

    def __init__(self, lane: AnchorLane) -> None:
        self.lane = lane

    def tick(self, *, may_plan: bool = True) -> list[LaneEvent]:
        return self.lane.tick(may_plan=may_plan)

    def pending_events(self) -> list[LaneEvent]:
        return self.lane.pending_events()

    def acknowledge(self, seq: int) -> None:
        self.lane.acknowledge(seq)

    def status(self) -> LaneStatus:
        return self.lane.status()


def test_a_recorded_trade_gets_its_receipt_with_the_anchors_transaction(setup: Setup) -> None:
    async def story(service: Service) -> None:
        seller, _ = await service.book.two_sides()
        recorded = await service.book.do(seller, record())
        position = recorded.records[-1][0]
        await service.until(lambda: service.anchored_at(position) == "final")
        found = service.receipt(position)
        assert found is not None
        assert found.anchor is not None
        (last,) = [event for event in service.on_chain() if event.size == found.anchor.size]
        assert (found.anchor.tx_hash, found.anchor.block_number) == (f"0x{last.tx_hash.hex()}", last.block_number)
        assert last.root == service.sequencer.view.root(last.size)
        name = anchor_id(CHAIN_ID, setup.contract, setup.signer.address, found.anchor.nonce)
        assert found.anchor.id == name
        for status in service.host.status():
            assert (status.state, status.lag, status.error) == ("running", 0, "")

    run(setup, story)


def test_a_restarted_service_goes_on_with_everything_and_doubles_nothing(setup: Setup) -> None:
    async def story(service: Service) -> None:
        for turn in range(3):
            position = await some_entries(service, f"c-{service.book.entries.head()}-{turn}")
            await service.until(lambda at=position: service.anchored_at(at) == "final")

    for _ in range(3):
        run(setup, story)

    async def look(service: Service) -> None:
        events = service.on_chain()
        assert [event.previous_size for event in events[1:]] == [event.size for event in events[:-1]]
        await service.until(lambda: not service.waiting())
        assert service.on_chain() == events, "a restart alone anchors nothing"

    run(setup, look)


def test_an_anchor_is_made_at_once_when_asked_for(setup: Setup) -> None:
    setup = replace(setup, interval_seconds=3600.0)

    async def story(service: Service) -> None:
        first = await some_entries(service, "first")
        await service.until(lambda: service.anchored_at(first) == "final")
        second = await some_entries(service, "second")
        await service.until(lambda: service.anchorer.position()[0] == second)
        assert service.anchored_at(second) == "", "the interval has not passed"
        assert await service.anchorer.request_now() == second
        await service.until(lambda: service.anchored_at(second) == "final")
        assert [event.size for event in service.on_chain()] == [first, second]
        await service.until(lambda: not service.waiting())

    run(setup, story)


def test_what_anchoring_logs_leads_to_no_other_anchor(setup: Setup) -> None:
    async def story(service: Service) -> None:
        position = await some_entries(service, "only")
        await service.until(lambda: service.anchored_at(position) == "final" and not service.waiting())
        rounds = asyncio.Event()
        real, count = service.sequencer.publish, 0

        def counted(now: Any) -> bytes | None:
            nonlocal count
            count += 1
            if count == 20:
                loop.call_soon_threadsafe(rounds.set)
            return real(now)

        loop = asyncio.get_running_loop()
        service.sequencer.publish = counted
        async with asyncio.timeout(20):
            await rounds.wait()
        assert len(service.on_chain()) == 1
        assert service.waiting() == []

    run(setup, story)


def test_a_node_that_hangs_holds_up_nothing_but_anchoring(setup: Setup) -> None:
    hanging, let_go = threading.Event(), threading.Event()

    class Hanging(LaneAround):
        def tick(self, *, may_plan: bool = True) -> list[LaneEvent]:
            hanging.set()
            let_go.wait(20)
            return super().tick(may_plan=may_plan)

    async def story(service: Service) -> None:
        assert await asyncio.to_thread(hanging.wait, 20)
        for turn in range(5):
            position = await some_entries(service, f"meanwhile-{turn}")
            await service.until(lambda at=position: service.receipt(at) and service.sequencer.view.size >= at)
        assert service.on_chain() == []
        let_go.set()
        await service.until(lambda: service.anchored_at(position) == "final")

    run(replace(setup, wrap_lane=Hanging), story)


def test_a_node_that_is_away_is_waited_for_and_the_reason_can_be_seen(setup: Setup) -> None:
    away = threading.Event()
    away.set()

    class Away(LaneAround):
        def tick(self, *, may_plan: bool = True) -> list[LaneEvent]:
            if away.is_set():
                raise ChainUnavailableError("connection refused\nby peer")
            return super().tick(may_plan=may_plan)

    async def story(service: Service) -> None:
        position = await some_entries(service, "patient")
        await service.until(lambda: service.executor.status().state == "failed")
        assert "connection refused\\nby peer" in service.executor.status().error
        away.clear()
        await service.until(lambda: service.anchored_at(position) == "final")
        await service.until(lambda: service.executor.status().state == "running")

    run(replace(setup, wrap_lane=Away), story)


@pytest.mark.parametrize("moment", ["before the book", "before the acknowledgement"])
def test_a_crash_between_lane_and_book_tells_everything_once(setup: Setup, moment: str) -> None:
    crashes = 0

    class Crashing(LaneAround):
        def acknowledge(self, seq: int) -> None:
            nonlocal crashes
            if moment == "before the acknowledgement" and crashes < 3:
                crashes += 1
                raise OSError("killed")
            super().acknowledge(seq)

    def crash_before_the_book(service: Service) -> None:
        real = service.anchors.record

        def record_or_crash(report: Any) -> None:
            nonlocal crashes
            if moment == "before the book" and crashes < 3:
                crashes += 1
                raise OSError("killed")
            real(report)

        service.anchors.record = record_or_crash

    async def story(service: Service) -> None:
        position = await some_entries(service, "crash")
        await service.until(lambda: service.anchored_at(position) == "final" and not service.waiting())

    run(replace(setup, wrap_lane=Crashing, prepare=crash_before_the_book), story)
    assert crashes == 3

    async def look(service: Service) -> None:
        types = [entry.topic for entry in service.anchors.recorder.select_notifications(1, 100)]
        assert types == ["AnchorSubmitted", "AnchorMined", "AnchorFinal"]
        assert service.lane_store.pending_events(10) == []

    run(setup, look)


def test_a_fork_seen_by_the_lane_makes_the_ledger_read_only(setup: Setup) -> None:
    class Forking(LaneAround):
        def tick(self, *, may_plan: bool = True) -> list[LaneEvent]:
            return [Forked(seq=1, size=99, root=bytes(32), own_size=1, own_root=b"")]

    async def story(service: Service) -> None:
        await service.until(lambda: isinstance(service.book.writer.refusal, LedgerReadOnly))
        with pytest.raises(LedgerReadOnly) as refused:
            await some_entries(service, "late")
        assert refused.value.values == {"source": "contract", "size": 99}
        assert service.publisher.status().state == "stopped", "nothing is signed any more"

    run(replace(setup, wrap_lane=Forking), story)


def test_a_folder_restored_from_a_backup_refuses_to_write(setup: Setup) -> None:
    async def grow(service: Service) -> None:
        for turn in range(3):
            position = await some_entries(service, f"company-{turn}")
        await service.until(lambda: service.anchored_at(position) == "final")

    async def refuse(service: Service) -> None:
        assert service.is_open is False
        with pytest.raises(LedgerReadOnly) as refused:
            await some_entries(service, "lost")
        assert refused.value.values == {"source": "contract", "size": 3}

    run(setup, grow)
    empty = setup.folder.with_name("restored")
    empty.mkdir()
    run(replace(setup, folder=empty), refuse)

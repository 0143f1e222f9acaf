"""Under load a processor gathers records for one batch; whoever waits for an entry does not wait for that."""

import asyncio

import pytest

from projections.waiting import PositionBoard
from streams import local
from streams.local import LocalHost
from streams.processor import Record
from tests.host_support import TIMEOUT_SECONDS, GrowingLog

LONG_SECONDS = 3600.0


class Counting:
    """Publishes what it has processed, and remembers its batches."""

    name = "counting"

    def __init__(self, board: PositionBoard) -> None:
        self.board = board
        self.batches: list[list[int]] = []
        self.reached = 0

    def position(self) -> tuple[int, bytes]:
        return self.reached, b""

    def process(self, records: list[Record]) -> None:
        fresh = [position for position, _ in records if position > self.reached]
        if fresh:
            self.batches.append(fresh)
            self.reached = fresh[-1]
            self.board.publish(self.reached)


def test_a_waiting_reader_ends_the_gathering(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "GATHER_SECONDS", LONG_SECONDS)

    async def scene() -> list[list[int]]:
        board, log = PositionBoard(), GrowingLog([(1, b"first")])
        host, processor = LocalHost(), Counting(board)
        source = host.source(log)
        host.add(source, processor)  # type: ignore[arg-type]
        board.on_wait = source.hurry
        await host.start()
        assert await board.wait(1, TIMEOUT_SECONDS)
        for position in (2, 3, 4):  # commits while the follower gathers: it would stay so for an hour
            log.records.append((position, b"more"))
            source.wake(position)
            await asyncio.sleep(0)
        assert await board.wait(4, TIMEOUT_SECONDS)
        await host.stop()
        return processor.batches

    batches = asyncio.run(scene())
    assert [position for batch in batches for position in batch] == [1, 2, 3, 4]


def test_a_stop_does_not_wait_for_the_gathering(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "GATHER_SECONDS", LONG_SECONDS)

    async def scene() -> str:
        board = PositionBoard()
        host = LocalHost()
        source = host.source(GrowingLog([(1, b"first")]))
        host.add(source, Counting(board))  # type: ignore[arg-type]
        await host.start()
        assert await board.wait(1, TIMEOUT_SECONDS)
        async with asyncio.timeout(TIMEOUT_SECONDS):
            await host.stop()
        return host.status()[0].state

    assert asyncio.run(scene()) == local.ENDED

"""Read-your-writes: a waiter wakes when its position is visible, not before, and never by polling."""

import asyncio
import threading

import pytest

from domain.errors import Overloaded
from projections.waiting import PositionBoard

LONG_SECONDS = 60.0


async def _waiting(board: PositionBoard, count: int) -> None:
    """Until so many wait on the board."""
    while board.waiters < count:  # noqa: ASYNC110 -- gives the turn to tasks that are ready, waits for nothing
        await asyncio.sleep(0)


def _publish_from_a_thread(board: PositionBoard, *positions: int) -> None:
    def run() -> None:
        for position in positions:
            board.publish(position)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()


def test_a_position_that_is_visible_already_is_not_waited_for() -> None:
    assert asyncio.run(PositionBoard(7).wait(7, 0.0)) is True
    assert asyncio.run(PositionBoard(7).wait(8, 0.0)) is False


def test_a_publication_wakes_exactly_the_waiters_it_satisfies() -> None:
    async def scene() -> None:
        board = PositionBoard(10)
        tasks = {at: asyncio.create_task(board.wait(at, LONG_SECONDS)) for at in (15, 11, 30, 12, 20, 12)}
        more = asyncio.create_task(board.wait(12, LONG_SECONDS))
        await _waiting(board, 7)
        _publish_from_a_thread(board, 12)
        assert await tasks[11]
        assert await tasks[12]
        assert await more
        assert not any(tasks[at].done() for at in (15, 20, 30))
        _publish_from_a_thread(board, 29)
        assert await tasks[15]
        assert await tasks[20]
        assert not tasks[30].done()
        _publish_from_a_thread(board, 30)
        assert await tasks[30]
        assert board.waiters == 0

    asyncio.run(scene())


def test_a_waiter_whose_time_is_over_is_told_so_and_is_not_kept() -> None:
    async def scene() -> None:
        board = PositionBoard()
        assert await board.wait(1, 0.01) is False
        assert board.waiters == 0
        board.publish(1)
        assert await board.wait(1, 0.01) is True

    asyncio.run(scene())


def test_a_cancelled_waiter_is_not_kept() -> None:
    async def scene() -> None:
        board = PositionBoard()
        tasks = [asyncio.create_task(board.wait(5, LONG_SECONDS)) for _ in range(100)]
        await _waiting(board, 100)
        for task in tasks[:90]:
            task.cancel()
        results = await asyncio.gather(*tasks[:90], return_exceptions=True)
        assert all(isinstance(result, asyncio.CancelledError) for result in results)
        assert board.waiters == 10
        assert len(board._heap) <= 2 * 10 + 16
        board.publish(5)
        assert await asyncio.gather(*tasks[90:]) == [True] * 10
        assert board.waiters == 0

    asyncio.run(scene())


def test_a_waiter_cancelled_right_after_it_was_woken_is_counted_once() -> None:
    async def scene() -> None:
        board = PositionBoard()
        task = asyncio.create_task(board.wait(1, LONG_SECONDS))
        other = asyncio.create_task(board.wait(2, LONG_SECONDS))
        await _waiting(board, 2)
        board.publish(1)
        asyncio.get_running_loop().call_soon(task.cancel)
        with pytest.raises(asyncio.CancelledError):
            await task
        assert board.waiters == 1
        board.publish(2)
        assert await other

    asyncio.run(scene())


def test_positions_never_go_back() -> None:
    board = PositionBoard(5)
    board.publish(3)
    assert board.position == 5


def test_no_waiter_is_forgotten_while_positions_come_from_another_thread() -> None:
    """Waits that begin while publications rush in: every one of them ends."""
    last = 5_000

    async def scene() -> list[bool]:
        board = PositionBoard()
        thread = threading.Thread(target=lambda: [board.publish(at) for at in range(1, last + 1)])
        thread.start()

        async def waiter(at: int) -> bool:
            for _ in range(at % 7):
                await asyncio.sleep(0)
            return await board.wait(at, LONG_SECONDS)

        try:
            return await asyncio.gather(*(waiter(at) for at in range(1, last + 1)))
        finally:
            thread.join()

    assert asyncio.run(scene()) == [True] * last


def test_a_publication_between_the_first_look_and_the_first_wait_is_not_missed() -> None:
    class Late(PositionBoard):
        """Publishes at the last moment at which the board does not know its loop yet."""

        def _adopt(self, loop: asyncio.AbstractEventLoop) -> None:
            self._position = 9
            super()._adopt(loop)

    assert asyncio.run(asyncio.wait_for(Late().wait(9, LONG_SECONDS), 10)) is True


def test_more_waiters_than_the_limit_are_refused_instead_of_queued() -> None:
    async def scene() -> None:
        board = PositionBoard(max_waiters=3)
        tasks = [asyncio.create_task(board.wait(1, LONG_SECONDS)) for _ in range(3)]
        await _waiting(board, 3)
        with pytest.raises(Overloaded):
            await board.wait(1, LONG_SECONDS)
        board.publish(1)
        assert await asyncio.gather(*tasks) == [True] * 3
        assert await board.wait(1, LONG_SECONDS)

    asyncio.run(scene())


def test_publishing_after_the_loop_has_ended_harms_nobody() -> None:
    board = PositionBoard()

    async def scene() -> None:
        await board.wait(1, 0.001)

    asyncio.run(scene())
    board.publish(4)
    assert board.position == 4
    assert asyncio.run(board.wait(4, LONG_SECONDS)) is True


def test_a_second_running_loop_is_refused() -> None:
    board = PositionBoard()
    refused: list[BaseException] = []

    async def other() -> None:
        try:
            await board.wait(1, LONG_SECONDS)
        except RuntimeError as error:
            refused.append(error)

    async def scene() -> None:
        task = asyncio.create_task(board.wait(1, LONG_SECONDS))
        await _waiting(board, 1)
        await asyncio.to_thread(lambda: asyncio.run(other()))
        board.publish(1)
        assert await task

    asyncio.run(scene())
    assert len(refused) == 1

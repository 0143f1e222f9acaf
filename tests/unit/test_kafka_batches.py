"""Records that come one by one are processed in batches: alone when there is one, many when many have come."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import wraps

from streams.kafka.batches import BUSY_RECORDS, Batches


def on_a_loop(test: Callable[[], Awaitable[None]]) -> Callable[[], None]:
    @wraps(test)
    def run() -> None:
        async def limited() -> None:
            await asyncio.wait_for(test(), 10)

        asyncio.run(limited())

    return run


@on_a_loop
async def test_a_record_that_comes_alone_does_not_wait_for_others() -> None:
    batches = Batches(1_000, gather_seconds=60.0)
    await batches.put(1)
    assert await asyncio.wait_for(batches.take(), 1) == [1]


@on_a_loop
async def test_what_came_while_a_batch_was_in_work_is_the_next_one_in_order() -> None:
    batches = Batches(1_000)
    await batches.put(1)
    assert await batches.take() == [1]
    for record in range(2, 40):
        await batches.put(record)
    assert await batches.take() == list(range(2, 40))


@on_a_loop
async def test_after_a_big_batch_the_next_is_gathered_for_a_moment() -> None:
    batches = Batches(1_000, gather_seconds=60.0)
    for record in range(BUSY_RECORDS):
        await batches.put(record)
    await batches.take()
    await batches.put("first")
    taking = asyncio.create_task(batches.take())
    await asyncio.sleep(0.01)
    assert not taking.done()
    for record in range(999):
        await batches.put(record)
    assert len(await asyncio.wait_for(taking, 1)) == 1_000, "and no longer than until it is full"


@on_a_loop
async def test_who_puts_waits_while_a_full_batch_waits() -> None:
    batches = Batches(2)
    await batches.put(1)
    await batches.put(2)
    third = asyncio.create_task(batches.put(3))
    await asyncio.sleep(0.01)
    assert not third.done()
    assert await batches.take() == [1, 2]
    await asyncio.wait_for(third, 1)
    assert await batches.take() == [3]

"""The whole service killed at random moments under load, fifty times, and its children alone.

Every kill is SIGKILL of the real process with everything in it (API, ledger, streams) beside its two real children,
the signer and the node. A fifth of the kills come while it still starts. The seed is logged and can be set again
with FAULT_SEED; FAULT_KILLS sets another number of kills.
"""

import asyncio
import logging
import os
import random

import pytest

from tests.faults.auditor import Audit
from tests.faults.harness import COMPANIES, Service, running, wait_for
from tests.faults.load import Load

pytest_plugins = ("tests.faults.fixtures",)

KILLS = int(os.environ.get("FAULT_KILLS", "50"))
CHILD_KILLS = 4
WHILE_STARTING = 0.2
LONGEST_LIFE_SECONDS = 0.7
CHILDREN_END_SECONDS = 15.0
logger = logging.getLogger("tests.faults")


def seed() -> int:
    chosen = int(os.environ.get("FAULT_SEED", str(random.SystemRandom().randrange(10**6))))
    logger.warning("FAULT_SEED=%d", chosen)
    return chosen


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_fifty_kills_under_load_lose_double_and_reorder_nothing(service: Service) -> None:
    number = seed()
    chance = random.Random(number)
    with running(service):
        service.sign_up(COMPANIES)
        load = Load(service, COMPANIES, number)
        asyncio.run(kill_again_and_again(service, load, chance))
        facts = Audit(service, load.acknowledged, load.given_up).run()
        logger.warning("%s", facts)
    assert service.starts == KILLS + 1
    assert facts.acknowledged >= KILLS
    assert facts.unanswered >= KILLS / 10


async def kill_again_and_again(service: Service, load: Load, chance: random.Random) -> None:
    async with load.at_work():
        for _ in range(KILLS):
            if chance.random() < WHILE_STARTING:
                await asyncio.sleep(chance.uniform(0.0, 3.0))
            else:
                await until_ready(service)
                await load.until(more=chance.randrange(1, 5))
                await asyncio.sleep(chance.uniform(0.0, LONGEST_LIFE_SECONDS))
            await asyncio.to_thread(service.kill)
            # started again at once, as a supervisor does, while the old children may still be about to end
            service.start()
            await asyncio.to_thread(wait_for, service.children_are_gone, "old children to end", CHILDREN_END_SECONDS)
        await until_ready(service)
        await load.until(more=5)


async def until_ready(service: Service) -> None:
    await asyncio.to_thread(service.wait_ready)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_killed_signer_or_node_comes_back_alone_and_no_command_is_lost(service: Service) -> None:
    number = seed()
    with running(service):
        service.sign_up(COMPANIES)
        load = Load(service, COMPANIES, number)
        asyncio.run(kill_children(service, load))
        facts = Audit(service, load.acknowledged, load.given_up).run()
    assert service.starts == 1
    assert facts.unanswered == 0, "the service itself answered every command"


async def kill_children(service: Service, load: Load) -> None:
    async with load.at_work():
        for name in ["signer", "node"] * CHILD_KILLS:
            await load.until(more=3)
            await asyncio.to_thread(kill_child, service, name)
            await load.until(more=3)


def kill_child(service: Service, name: str) -> None:
    """Kill it, and wait until the service has another one."""
    killed = service.children()[name]
    killed.kill()
    wait_for(lambda: service.children().get(name, killed) != killed, f"another {name}")


@pytest.mark.slow
def test_children_end_with_a_service_that_was_killed(service: Service) -> None:
    with running(service):
        children = service.children()
        assert set(children) == {"signer", "node"}
        service.kill()
        wait_for(service.children_are_gone, "signer and node to end", CHILDREN_END_SECONDS)

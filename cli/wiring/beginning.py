"""How a book begins that several processes share: schema, topics, identity, contract, registration, in this order.

Each step looks before it acts, so a crash between two of them is repaired by the next run. One run at a time: the
others wait for the lock and then find everything done.
"""

import asyncio
from typing import Any, Final

from cli.settings import Settings
from cli.wiring.chain_side import ChainSide
from cli.wiring.master_key import master_key_of
from cli.wiring.postgres_stores import PostgresStores, migrate_all, owner_database, service_database
from storage.folder import DataFolder
from storage.postgres.database import Database
from storage.postgres.leader import Leadership
from streams import topics

LOCK_SECONDS: Final = 120.0
RELAY: Final = "relay"  # the name under which one of the relays leads


async def begin_book(settings: Settings) -> dict[str, Any]:
    """Do what is missing; what the book is now: origin, chain, contract and public keys."""
    await asyncio.to_thread(migrate_all, owner_database(settings))
    database = service_database(settings)
    lock = Leadership(database, "init")
    if not await asyncio.to_thread(lock.acquire, LOCK_SECONDS):
        raise TimeoutError("another `daicho init` works on this book")
    try:
        await asyncio.to_thread(make_topics, settings, database)
        await asyncio.to_thread(topics.require, settings.kafka_bootstrap, settings.book)
        return await _identify(settings, PostgresStores(database))
    finally:
        await asyncio.to_thread(lock.release)


def make_topics(settings: Settings, database: Database) -> list[str]:
    """Create the topics that are missing; what was done, a line a topic.

    Raises TopicsRefused, with nothing created, while a relay is at work: what it has on its way would stand first in a
    topic made anew, with a hole before it.
    """
    missing = topics.missing(settings.kafka_bootstrap, settings.book)
    if not missing:
        return topics.apply(settings.kafka_bootstrap, settings.book)
    relay = Leadership(database, RELAY)
    if not relay.acquire(0.0):
        raise topics.TopicsRefused([f"{name} is missing and a relay is at work: stop it first" for name in missing])
    try:
        return topics.apply(settings.kafka_bootstrap, settings.book)
    finally:
        relay.release()


async def _identify(settings: Settings, stores: PostgresStores) -> dict[str, Any]:
    folder = DataFolder(settings.data_dir)
    chain = ChainSide(settings, folder, stores, master_key_of(settings, folder))
    try:
        await chain.start()
        head = await asyncio.to_thread(chain.contract_head)
        found = chain.description
        return {
            "origin": found.origin,
            "chain_id": found.chain_id,
            "contract": found.contract,
            "publisher": found.publisher,
            "log_key": found.log_key,
            "promise_key": found.promise_key,
            "anchored": head.size,
        }
    finally:
        await chain.stop()

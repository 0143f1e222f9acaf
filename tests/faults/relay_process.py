"""A relay in a process of its own whose position is never saved: to be killed between an acknowledgement and that.

Arguments: bootstrap servers, topic, connection string, book. Prints each acknowledged position on a line.
"""

import asyncio
import logging
import sys
import time

from storage.postgres.database import Database
from storage.postgres.entry_log import PostgresEntryLog
from streams.relay import Relay
from streams.topic_record import EntryRecords


def hang(position: int, _: bytes) -> None:
    """What was acknowledged is told; that it is saved never happens."""
    print(position, flush=True)  # noqa: T201 read by the test
    time.sleep(3_600)


async def main() -> None:
    bootstrap, topic, conninfo, book = sys.argv[1:]
    logging.getLogger("kafka").setLevel(logging.CRITICAL)
    feed = PostgresEntryLog(Database(conninfo, book))
    relay = Relay("relay", bootstrap, topic, EntryRecords(""), feed, save=hang, still_leader=lambda: True)
    await relay.start()
    await asyncio.sleep(3_600)


asyncio.run(main())

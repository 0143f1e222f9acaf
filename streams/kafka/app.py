"""Faust, asked for what it does well: a member of a consumer group that reads one topic and begins where we say.

Faust begins at the group's committed offsets, which know nothing of our database: after `on_partitions_assigned` its
consumer seeks there (`perform_seek`). So the consumer is ours: it lets Faust seek, then seeks to the place that belongs
to the processor's own position. That is no public interface of Faust: its version is pinned, and a test fails when it
stops working.

Never `exactly_once`: messages leave its transaction, and a rebalance doubles them (faust-streaming #177, #323, #517).
"""

import asyncio
import contextlib
import secrets
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from time import monotonic
from typing import Any, Final, cast

import faust
from faust.transport.drivers import aiokafka as driver

SESSION_SECONDS: Final = 6.0  # how long a killed member blocks the next one, but for the same `group_instance_id`
HEARTBEAT_SECONDS: Final = 1.0
REQUEST_SECONDS: Final = 10.0
UNASSIGNED_SECONDS: Final = 2 * SESSION_SECONDS  # joining behind a killed member takes one session
LOOK_SECONDS: Final = 0.5
MAX_POLL_RECORDS: Final = 1_000
BUFFER_RECORDS: Final = 4_096  # what is read ahead while the processor works: more than that is left in the topic
AT_LEAST_ONCE: Final = "at_least_once"
Place = Callable[[], Awaitable[int]]
"""The offset to begin at."""


class Unassigned(Exception):
    """The group has not given us the topic."""


class FaustRefused(ValueError):
    """A setting of Faust that would lose or double records."""


class _Consumer(driver.Consumer):
    """Begins where the app's `place` says, whatever the group has committed."""

    async def perform_seek(self) -> None:
        """Faust's seek, then ours."""
        await super().perform_seek()
        app = cast("TopicApp", self.app)
        if app.place is None:
            return
        for partition in self.assignment():
            if partition.topic == app.read_topic:
                offset = await app.place()
                await self.seek(partition, offset)
                self._committed_offset[partition] = offset or None


class _Transport(driver.Transport):
    Consumer = _Consumer


class TopicApp(faust.App):
    """An App that reads one topic. `place`: where to begin, None for the group's own offsets."""

    def __init__(self, name: str, read_topic: str, place: Place | None, **settings: Any) -> None:
        self.read_topic, self.place = read_topic, place
        super().__init__(name, **settings)

    async def unassigned_too_long(self, leave: asyncio.Event) -> bool:
        """Wait until told to leave (False), or until the group has given us nothing for `UNASSIGNED_SECONDS` (True).

        A static member that comes again is given what it had, without a new look at the topics (KIP-345): nothing, when
        it joined while the topic was missing. Another name among the members makes the group look again.
        """
        since = monotonic()
        while not leave.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(leave.wait(), LOOK_SECONDS)
            if self.consumer.assignment():
                since = monotonic()
            elif monotonic() - since > UNASSIGNED_SECONDS:
                return not leave.is_set()
        return False

    def _new_transport(self) -> Any:
        return _Transport(self.conf.broker_consumer, self)


def other_instance(group: str) -> str:
    """A name among the members that nobody had before."""
    return f"{group}-{secrets.token_hex(4)}"


def topic_app(
    bootstrap: str,
    group: str,
    topic: str,
    place: Place | None,
    *,
    begin: str = "earliest",
    guarantee: str = AT_LEAST_ONCE,
    instance: str = "",
) -> TopicApp:
    """An App of the group `group`, not started; `instance` is its name among the members.

    Raises FaustRefused for another guarantee than at-least-once.
    """
    if guarantee != AT_LEAST_ONCE:
        raise FaustRefused(f"processing_guarantee {guarantee}: Faust's exactly_once loses and doubles records")
    return TopicApp(
        group,
        topic,
        place,
        broker=[f"kafka://{address}" for address in bootstrap.split(",")],
        processing_guarantee=guarantee,
        store="memory://",
        key_serializer="raw",
        value_serializer="raw",
        web_enabled=False,
        topic_disable_leader=True,  # else it creates a topic for its assignor
        topic_allow_declare=False,  # topics are made by `daicho topics apply` alone
        topic_partitions=1,
        broker_session_timeout=SESSION_SECONDS,
        broker_heartbeat_interval=HEARTBEAT_SECONDS,
        broker_request_timeout=REQUEST_SECONDS,
        broker_rebalance_timeout=SESSION_SECONDS,
        broker_commit_interval=1.0,
        broker_max_poll_records=MAX_POLL_RECORDS,
        stream_buffer_maxsize=BUFFER_RECORDS,
        stream_wait_empty=False,
        consumer_auto_offset_reset=begin,
        consumer_group_instance_id=instance or group,
        worker_redirect_stdouts=False,
        datadir=str(Path(tempfile.gettempdir()) / f"{group}-data"),  # made, but never used: there are no tables
    )

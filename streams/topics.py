"""The topics of a book: one table of what each must be, so that what was written once is never deleted or rewritten.

`apply` creates what is missing and changes nothing that exists; `check` names every deviation; `require` is asked by
each process at its start. A topic that is to live for ever has no retention in time or bytes and is never compacted.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import TopicAlreadyExistsError, for_code

FOR_EVER: Final = -1
DAY_MS: Final = 86_400_000
ANSWER_TIMEOUT_MS: Final = 10_000
_MIB: Final = 1_048_576
_ANY_TIME: Final = 9_223_372_036_854_775_807  # milliseconds that a time may be off before a broker refuses the record
_REPLICAS: Final = 3
_UNKNOWN_TOPIC: Final = 3  # Kafka protocol, error UNKNOWN_TOPIC_OR_PARTITION
_LEAST: Final = frozenset({"retention.ms", "retention.bytes", "max.message.bytes", "min.insync.replicas"})


class TopicsRefused(Exception):
    """The topics are not what they must be; `deviations` names everything, one a line."""

    def __init__(self, deviations: Sequence[str]) -> None:
        super().__init__("the topics would lose or change what is written: " + "; ".join(deviations))
        self.deviations = list(deviations)


@dataclass(frozen=True, slots=True)
class Topic:
    """What one topic of a book must be. One partition each: its order is the log's order.

    `retention_ms` and `retention_bytes`: at least so long and so much, FOR_EVER for no limit. `max_message_bytes`
    bounds a batch. `broker_time`: records carry the time of their arrival, else that of what they tell of.
    """

    suffix: str
    key: str
    writer: str
    readers: tuple[str, ...]
    partitions: int = 1
    retention_ms: int = FOR_EVER
    retention_bytes: int = FOR_EVER
    cleanup: str = "delete"
    max_message_bytes: int = _MIB
    broker_time: bool = False

    def settings(self, replicas: int) -> dict[str, str]:
        """Kafka's names of what it must be, for a topic with so many replicas."""
        return {
            "cleanup.policy": self.cleanup,
            "retention.ms": str(self.retention_ms),
            "retention.bytes": str(self.retention_bytes),
            "max.message.bytes": str(self.max_message_bytes),
            "message.timestamp.type": "LogAppendTime" if self.broker_time else "CreateTime",
            "message.timestamp.before.max.ms": str(_ANY_TIME),
            "message.timestamp.after.max.ms": str(_ANY_TIME),
            "compression.type": "producer",
            "unclean.leader.election.enable": "false",
            "min.insync.replicas": str(min_in_sync(replicas)),
        }


TOPICS: Final = (
    Topic("entries", "aggregate id", "relay", ("sequencer", "projector", "rebuild")),
    Topic("anchors", "anchor id", "relay", ("anchor-projector", "rebuild")),
    Topic("checkpoints", "log's origin", "relay", ("anchorer", "rebuild")),
    Topic("notifications", "store line", "archiver", ("rebuild",), max_message_bytes=4 * _MIB),
    Topic(
        "spool",
        "store line",
        "api",
        ("intake",),
        retention_ms=14 * DAY_MS,
        max_message_bytes=4 * _MIB,
        broker_time=True,
    ),
    Topic("deadletters", "aggregate id", "processors", ("deadletters",)),
)


def topic_name(book: str, suffix: str) -> str:
    """The full name of a book's topic; KeyError for a suffix that is none."""
    if suffix not in {topic.suffix for topic in TOPICS}:
        raise KeyError(suffix)
    return f"daicho.{book}.{suffix}"


def min_in_sync(replicas: int) -> int:
    """How many replicas must hold a record before it counts as written: two wherever there are two."""
    return min(2, max(1, replicas))


def apply(bootstrap: str, book: str) -> list[str]:
    """Create the book's missing topics with up to three replicas; what was done, a line a topic.

    A topic that exists is left as it is, whatever it is. Raises KafkaError when Kafka does not answer.
    """
    with _admin(bootstrap) as admin:
        replicas = min(_REPLICAS, len(admin.describe_cluster()["brokers"]))
        return [_create(admin, topic_name(book, topic.suffix), topic, replicas) for topic in TOPICS]


def missing(bootstrap: str, book: str) -> list[str]:
    """The names of the book's topics that Kafka does not have. Raises KafkaError when Kafka does not answer."""
    names = [topic_name(book, topic.suffix) for topic in TOPICS]
    with _admin(bootstrap) as admin:
        known = {each["name"] for each in admin.describe_topics(names) if each["error_code"] != _UNKNOWN_TOPIC}
    return [name for name in names if name not in known]


def check(bootstrap: str, book: str) -> list[str]:
    """Everything about the book's topics that is not as it must be, a line each; empty when all is well.

    Raises KafkaError when Kafka does not answer.
    """
    with _admin(bootstrap) as admin:
        names = {topic_name(book, topic.suffix): topic for topic in TOPICS}
        found = {each["name"]: each for each in admin.describe_topics(list(names))}
        codes = {name: found[name]["error_code"] if name in found else _UNKNOWN_TOPIC for name in names}
        known = [name for name, code in codes.items() if code == 0]
        resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in known]
        settings = admin.describe_configs(resources, config_filter="all")["topic"] if resources else {}
    deviations = []
    for name, topic in names.items():
        if codes[name] == _UNKNOWN_TOPIC:
            deviations.append(f"{name} is missing")
        elif codes[name]:
            raise for_code(codes[name])(name)
        else:
            values = {key: str(setting["value"]) for key, setting in settings[name].items()}
            partitions = [len(each["replica_nodes"]) for each in found[name]["partitions"]]
            deviations += [f"{name}: {each}" for each in deviations_of(topic, values, partitions)]
    return deviations


def require(bootstrap: str, book: str) -> None:
    """TopicsRefused unless `check` finds nothing; KafkaError when Kafka does not answer."""
    deviations = check(bootstrap, book)
    if deviations:
        raise TopicsRefused(deviations)


def deviations_of(topic: Topic, settings: Mapping[str, str], partitions: Sequence[int]) -> Iterator[str]:
    """What differs from `topic` in a topic with these settings and partitions (the number of replicas of each)."""
    if len(partitions) != topic.partitions:
        yield f"{len(partitions)} partitions, must be {topic.partitions}"
    replicas = min(partitions, default=0)
    for name, wanted in topic.settings(replicas).items():
        value = settings.get(name, "")
        if not _good_enough(name, value, wanted):
            more = " or more" if name in _LEAST and wanted != str(FOR_EVER) else ""
            yield f"{name} is {value or 'not set'}, must be {wanted}{more}"
    needed = settings.get("min.insync.replicas", "")
    if needed.isdigit() and int(needed) > replicas:
        yield f"min.insync.replicas is {needed} with {replicas} replicas, nothing could be written"


def _good_enough(name: str, value: str, wanted: str) -> bool:
    if value == wanted:
        return True
    if name not in _LEAST:
        return False
    try:
        found, least = int(value), int(wanted)
    except ValueError:
        return False
    if name.startswith("retention."):
        return found == FOR_EVER or (least != FOR_EVER and found >= least)
    return found >= least


def _create(admin: Any, name: str, topic: Topic, replicas: int) -> str:
    wanted = {
        "num_partitions": topic.partitions,
        "replication_factor": replicas,
        "configs": topic.settings(replicas),
    }
    try:
        admin.create_topics({name: wanted}, wait_for_metadata=True)
    except TopicAlreadyExistsError:
        return f"{name} exists"
    return f"{name} created"


@contextmanager
def _admin(bootstrap: str) -> Iterator[Any]:
    admin = KafkaAdminClient(
        bootstrap_servers=bootstrap.split(","),
        client_id="daicho-topics",
        bootstrap_timeout_ms=ANSWER_TIMEOUT_MS,
        request_timeout_ms=ANSWER_TIMEOUT_MS,
    )
    try:
        yield admin
    finally:
        admin.close()

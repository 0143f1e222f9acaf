"""The topics of a book on a real broker: made once, never changed, and refused when they would lose something."""

import pytest
from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import KafkaError

from streams import topics
from streams.topics import TOPICS, Topic, TopicsRefused, deviations_of, topic_name
from tests.kafka_broker import KafkaBroker, NamedBroker, new_name
from tests.postgres_server import free_port
from tests.topic_support import admin, read_raw, send_raw, wait_for, wires
from tests.topic_support import make_entries as made

Broker = KafkaBroker | NamedBroker


def alter(broker: Broker, name: str, **settings: str) -> None:
    """Change settings of a topic behind our back; underscores for dots."""
    wanted = {key.replace("_", "."): value for key, value in settings.items()}
    with admin(broker.bootstrap) as client:
        client.alter_configs([ConfigResource(ConfigResourceType.TOPIC, name, wanted)])


def test_a_new_book_gets_all_its_topics_and_a_second_run_changes_nothing(broker: Broker) -> None:
    book = new_name("b")
    names = [topic_name(book, topic.suffix) for topic in TOPICS]
    assert topics.check(broker.bootstrap, book) == [f"{name} is missing" for name in names]
    with pytest.raises(TopicsRefused, match=f"{names[0]} is missing; {names[1]} is missing"):
        topics.require(broker.bootstrap, book)
    assert topics.apply(broker.bootstrap, book) == [f"{name} created" for name in names]
    assert topics.check(broker.bootstrap, book) == []
    topics.require(broker.bootstrap, book)
    send_raw(broker.bootstrap, names[0], wires(made(3)))
    assert topics.apply(broker.bootstrap, book) == [f"{name} exists" for name in names]
    assert len(read_raw(broker.bootstrap, names[0])) == 3


def test_a_topic_that_exists_is_left_as_it_is_and_its_deviation_named(broker: Broker) -> None:
    book = new_name("b")
    name = topic_name(book, "anchors")
    with admin(broker.bootstrap) as client:
        client.create_topics({name: {"num_partitions": 3, "replication_factor": 1}}, wait_for_metadata=True)
    assert f"{name} exists" in topics.apply(broker.bootstrap, book)
    with pytest.raises(TopicsRefused) as refused:
        topics.require(broker.bootstrap, book)
    assert f"{name}: 3 partitions, must be 1" in refused.value.deviations
    assert f"{name}: retention.ms is 604800000, must be -1" in refused.value.deviations
    assert all(each.startswith(name) for each in refused.value.deviations)


@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [
        ("cleanup_policy", "compact", "cleanup.policy is compact, must be delete"),
        ("cleanup_policy", "compact,delete", "cleanup.policy is compact,delete, must be delete"),
        ("retention_ms", "86400000", "retention.ms is 86400000, must be -1"),
        ("retention_bytes", "1000000", "retention.bytes is 1000000, must be -1"),
        ("max_message_bytes", "65535", "max.message.bytes is 65535, must be 1048576 or more"),
        ("message_timestamp_type", "LogAppendTime", "message.timestamp.type is LogAppendTime, must be CreateTime"),
        (
            "message_timestamp_after_max_ms",
            "1000",
            "message.timestamp.after.max.ms is 1000, must be 9223372036854775807",
        ),
        ("message_timestamp_before_max_ms", "1", "message.timestamp.before.max.ms is 1, must be 9223372036854775807"),
        ("compression_type", "gzip", "compression.type is gzip, must be producer"),
        ("unclean_leader_election_enable", "true", "unclean.leader.election.enable is true, must be false"),
        ("min_insync_replicas", "2", "min.insync.replicas is 2 with 1 replicas, nothing could be written"),
    ],
)
def test_a_setting_that_would_lose_or_change_something_makes_every_process_refuse(
    broker: Broker, book: str, setting: str, value: str, said: str
) -> None:
    name = topic_name(book, "entries")
    alter(broker, name, **{setting: value})
    expected = [f"{name}: {said}"]
    wait_for(lambda: topics.check(broker.bootstrap, book) == expected, "the change is not seen")
    with pytest.raises(TopicsRefused, match="would lose or change what is written"):
        topics.require(broker.bootstrap, book)


@pytest.fixture
def book(broker: Broker) -> str:
    name = new_name("b")
    topics.apply(broker.bootstrap, name)
    return name


def test_more_than_is_asked_for_is_no_deviation(broker: Broker, book: str) -> None:
    alter(broker, topic_name(book, "entries"), max_message_bytes="9000000")
    alter(broker, topic_name(book, "spool"), retention_ms="-1")
    alter(broker, topic_name(book, "notifications"), max_message_bytes="8000000", retention_ms="-1")
    alter(broker, topic_name(book, "deadletters"), compression_type="gzip")
    expected = [f"{topic_name(book, 'deadletters')}: compression.type is gzip, must be producer"]
    wait_for(lambda: topics.check(broker.bootstrap, book) == expected)
    assert topics.check(broker.bootstrap, book) == expected


def test_only_the_spool_may_forget_and_not_before_its_time(broker: Broker, book: str) -> None:
    finite = [topic for topic in TOPICS if topic.retention_ms != topics.FOR_EVER]
    assert [topic.suffix for topic in finite] == ["spool"]
    assert all(topic.cleanup == "delete" and topic.retention_bytes == topics.FOR_EVER for topic in TOPICS)
    alter(broker, topic_name(book, "spool"), retention_ms="3600000")
    said = f"{topic_name(book, 'spool')}: retention.ms is 3600000, must be {14 * topics.DAY_MS} or more"
    wait_for(lambda: topics.check(broker.bootstrap, book) == [said])


def test_where_there_are_replicas_two_must_hold_what_counts_as_written() -> None:
    topic = Topic("entries", "aggregate id", "relay", ())
    for replicas, needed in ((1, "1"), (2, "2"), (3, "2")):
        assert topic.settings(replicas)["min.insync.replicas"] == needed
        assert list(deviations_of(topic, topic.settings(replicas), [replicas])) == []
    alone = topic.settings(3) | {"min.insync.replicas": "1"}
    assert list(deviations_of(topic, alone, [3])) == ["min.insync.replicas is 1, must be 2 or more"]
    assert list(deviations_of(topic, topic.settings(3) | {"retention.ms": "soon"}, [3])) == [
        "retention.ms is soon, must be -1"
    ]
    assert next(deviations_of(topic, {}, [])) == "0 partitions, must be 1"


def test_a_broker_that_is_not_there_is_no_verdict_about_topics(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topics, "ANSWER_TIMEOUT_MS", 500)
    for ask in (topics.apply, topics.check, topics.require):
        with pytest.raises(KafkaError):
            ask(f"127.0.0.1:{free_port()}", "main")


def test_a_topic_of_no_book_has_no_name() -> None:
    assert topic_name("main", "entries") == "daicho.main.entries"
    with pytest.raises(KeyError):
        topic_name("main", "entrys")


def test_two_runs_at_once_make_each_topic_once(broker: Broker) -> None:
    book = new_name("b")
    name = topic_name(book, "entries")

    class Racing(KafkaAdminClient):  # type: ignore[misc]
        """Somebody else creates it after we looked."""

        def create_topics(self, new_topics: dict[str, object], **options: object) -> object:
            with admin(broker.bootstrap) as other:
                other.create_topics(new_topics, wait_for_metadata=True)
            return super().create_topics(new_topics, **options)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(topics, "KafkaAdminClient", Racing)
        assert f"{name} exists" in topics.apply(broker.bootstrap, book)
    assert topics.check(broker.bootstrap, book) == []

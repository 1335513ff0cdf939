import random

import pytest

from barnabas.controller.partitions import MorePartitions, create_partitions
from barnabas.controller.topics import NewTopic, create_topics, delete_topics
from barnabas.errors import ErrorCode, KafkaError
from barnabas.metadata.identifiers import UNASSIGNED_DIRECTORY
from tests.controller.cluster import DIRECTORY, after, broker, config, image_of, topic

ONE = image_of(topics=[topic("orders"), topic("a.b")])


def create(*topics, image=ONE, settings=None):
    return create_topics(image, settings or config(), topics, chance=random.Random(0))


def more(*topics, image=ONE):
    return create_partitions(image, topics, chance=random.Random(0))


def test_a_topic_gets_defaults_settings_and_an_id():
    """-1 stands for the broker's settings; the records make the topic that the result describes."""
    records, (created,) = create(
        NewTopic("new", configs={"retention.ms": "5"}), settings=config(num_partitions=3)
    )
    assert created.error is None
    assert (created.partition_count, created.replication_factor) == (3, 1)
    image = after(ONE, records)
    made = image.topics["new"]
    assert made.id == created.topic_id
    assert [(each.leader, each.replicas, each.isr, each.directories) for each in made.partitions] == [
        (1, (1,), (1,), (DIRECTORY,))
    ] * 3
    assert image.topic_config("new") == {"retention.ms": "5"}
    # Topic, then settings, then partitions: as Kafka writes them.
    assert [record.API_KEY for record in records] == [2, 4, 3, 3, 3]


@pytest.mark.parametrize(
    ("wanted", "code", "message"),
    [
        (NewTopic("orders"), ErrorCode.TOPIC_ALREADY_EXISTS, "Topic 'orders' already exists."),
        (
            NewTopic("__cluster_metadata"),
            ErrorCode.INVALID_REQUEST,
            "Creation of internal topic __cluster_metadata is prohibited.",
        ),
        (
            NewTopic(""),
            ErrorCode.INVALID_TOPIC_EXCEPTION,
            "Topic name is invalid: the empty string is not allowed",
        ),
        (
            NewTopic("a_b"),
            ErrorCode.INVALID_TOPIC_EXCEPTION,
            "Topic 'a_b' collides with existing topic: a.b",
        ),
        (
            NewTopic("n", 0),
            ErrorCode.INVALID_PARTITIONS,
            "Number of partitions was set to an invalid non-positive value.",
        ),
        (
            NewTopic("n", -2),
            ErrorCode.INVALID_PARTITIONS,
            "Number of partitions was set to an invalid non-positive value.",
        ),
        (
            NewTopic("n", 1, 0),
            ErrorCode.INVALID_REPLICATION_FACTOR,
            "Replication factor must be larger than 0, or -1 to use the default value.",
        ),
        (
            NewTopic("n", 1, 2),
            ErrorCode.INVALID_REPLICATION_FACTOR,
            (
                "Unable to replicate the partition 2 time(s): The target replication factor of 2 cannot be reached "
                "because only 1 broker(s) are registered or some brokers have all their log directories cordoned."
            ),
        ),
        (NewTopic("n", configs={"no": "1"}), ErrorCode.INVALID_CONFIG, "Unknown topic config name: no"),
        (
            NewTopic("n", configs={"retention.ms": None}),
            ErrorCode.INVALID_CONFIG,
            "Null value not supported for topic configs: retention.ms",
        ),
        (
            NewTopic("n", configs={"retention.ms": "x"}),
            ErrorCode.INVALID_CONFIG,
            "Invalid value x for configuration retention.ms: Not a number of type LONG",
        ),
        (
            NewTopic("n", 1, -1, [(0, [1])]),
            ErrorCode.INVALID_REQUEST,
            "A manual partition assignment was specified, but numPartitions was not set to -1.",
        ),
        (
            NewTopic("n", -1, 1, [(0, [1])]),
            ErrorCode.INVALID_REQUEST,
            "A manual partition assignment was specified, but replication factor was not set to -1.",
        ),
        (
            NewTopic("n", assignments=[(0, [])]),
            ErrorCode.INVALID_REPLICA_ASSIGNMENT,
            "The manual partition assignment includes an empty replica list.",
        ),
        (
            NewTopic("n", assignments=[(0, [5])]),
            ErrorCode.INVALID_REPLICA_ASSIGNMENT,
            "The manual partition assignment includes broker 5, but no such broker is registered.",
        ),
        (
            NewTopic("n", assignments=[(0, [1, 1])]),
            ErrorCode.INVALID_REPLICA_ASSIGNMENT,
            "The manual partition assignment includes the broker 1 more than once.",
        ),
        (
            NewTopic("n", assignments=[(0, [1]), (2, [1])]),
            ErrorCode.INVALID_REPLICA_ASSIGNMENT,
            "partitions should be a consecutive 0-based integer sequence",
        ),
        (
            NewTopic("n", assignments=[(0, [1]), (0, [1])]),
            ErrorCode.INVALID_REPLICA_ASSIGNMENT,
            "Found multiple manual partition assignments for partition 0",
        ),
    ],
    ids=lambda value: value.name if isinstance(value, ErrorCode) else None,
)
def test_a_topic_that_cannot_be_is_refused_in_kafkas_words(wanted, code, message):
    """Code and message are Kafka's, nothing is written, and the next topic of the request is created all the same."""
    records, (refused, fine) = create(wanted, NewTopic("fine"))
    assert (refused.error.code, refused.error.message) == (code, message)
    assert fine.error is None
    assert set(after(ONE, records).topics) == {"orders", "a.b", "fine"}


def test_a_name_that_stands_twice_in_a_request_is_refused_once():
    """Neither of the two is created."""
    records, results = create(NewTopic("twice", 1), NewTopic("twice", 2))
    assert records == []
    assert [(each.name, each.error.code, each.error.message) for each in results] == [
        ("twice", ErrorCode.INVALID_REQUEST, "Duplicate topic name.")
    ]


@pytest.mark.parametrize(
    "topics",
    [
        [NewTopic("n", 10_001)],
        [NewTopic("n", 6000), NewTopic("m", 6000), NewTopic("k", -5)],
        [NewTopic("n", assignments=[(0, [1])] * 10_001)],
    ],
)
def test_too_many_partitions_at_once_are_refused_as_a_whole(topics):
    """Before anything is placed."""
    with pytest.raises(KafkaError) as refusal:
        create(*topics)
    assert refusal.value.code is ErrorCode.POLICY_VIOLATION


def test_replicas_by_hand_on_several_brokers():
    """The first active broker of the list leads; fenced ones are no members of the ISR; several directories are left open."""
    image = image_of(broker(1, fenced=True), broker(2, log_dirs=(b"x" * 16, b"y" * 16)), broker(3))
    records, (created,) = create(NewTopic("n", assignments=[(1, [3, 2]), (0, [1, 2])]), image=image)
    assert (created.partition_count, created.replication_factor) == (2, 2)
    first, second = after(image, records).topics["n"].partitions
    assert (first.replicas, first.isr, first.leader) == ((1, 2), (2,), 2)
    assert first.directories == (DIRECTORY, UNASSIGNED_DIRECTORY)
    assert (second.replicas, second.isr, second.leader) == ((3, 2), (3, 2), 3)
    _, (refused,) = create(NewTopic("n", assignments=[(0, [1])]), image=image)
    assert "are fenced or in controlled shutdown" in refused.error.message
    _, (refused,) = create(NewTopic("n", assignments=[(0, [2, 3]), (1, [2])]), image=image)
    assert "not consistent with previous partitions" in refused.error.message


def test_deletion_by_id():
    """Known ids go, unknown ones are told."""
    records, results = delete_topics(ONE, [topic("orders").id, b"x" * 16, topic("orders").id])
    assert set(after(ONE, records).topics) == {"a.b"}
    assert results[topic("orders").id] is None
    assert results[b"x" * 16].code is ErrorCode.UNKNOWN_TOPIC_ID


def test_more_partitions_are_placed_after_those_that_exist():
    """`total` counts all of them; those that exist do not change."""
    records, results = more(MorePartitions("orders", 3), MorePartitions("a.b", 2, [[1]]))
    assert results == {"orders": None, "a.b": None}
    image = after(ONE, records)
    assert len(image.topics["orders"].partitions) == 3
    assert image.topics["orders"].partitions[0] == ONE.topics["orders"].partitions[0]
    assert len(image.topics["a.b"].partitions) == 2


@pytest.mark.parametrize(
    ("wanted", "code", "message"),
    [
        (MorePartitions("orders", 1), ErrorCode.INVALID_PARTITIONS, "Topic already has 1 partition(s)."),
        (
            MorePartitions("orders", -1),
            ErrorCode.INVALID_PARTITIONS,
            "The topic orders currently has 1 partition(s); -1 would not be an increase.",
        ),
        (
            MorePartitions("none", 2),
            ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
            "This server does not host this topic-partition.",
        ),
        (
            MorePartitions("orders", 3, [[1]]),
            ErrorCode.INVALID_REPLICA_ASSIGNMENT,
            "Attempted to add 2 additional partition(s), but only 1 assignment(s) were specified.",
        ),
        (
            MorePartitions("orders", 2, [[9]]),
            ErrorCode.INVALID_REPLICA_ASSIGNMENT,
            "The manual partition assignment includes broker 9, but no such broker is registered.",
        ),
        (
            MorePartitions("orders", 2_000_000_000),
            ErrorCode.POLICY_VIOLATION,
            "Excessively large number of partitions per request.",
        ),
    ],
    ids=lambda value: value.name if isinstance(value, ErrorCode) else None,
)
def test_partitions_that_cannot_be_are_refused_in_kafkas_words(wanted, code, message):
    """Code and message are Kafka's, and the next topic of the request is served all the same."""
    records, results = more(wanted, MorePartitions("a.b", 2))
    assert (results[wanted.name].code, results[wanted.name].message) == (code, message)
    assert results["a.b"] is None
    assert len(records) == 1


def test_more_partitions_have_limits_and_no_doubles():
    """A name counts once, and a request has a limit."""
    _, results = more(MorePartitions("orders", 2), MorePartitions("orders", 3))
    assert results["orders"].message == "Duplicate topic name."
    records, results = more(MorePartitions("orders", 6000), MorePartitions("a.b", 6000))
    assert results["orders"] is None
    assert results["a.b"].code is ErrorCode.POLICY_VIOLATION
    assert len(records) == 5999

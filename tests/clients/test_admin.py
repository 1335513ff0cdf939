"""The admin clients: topics, settings, groups, records."""

from __future__ import annotations

import time

import pytest

from tests.broker_process import wait_until
from tests.clients.peer import JobFailedError, encoded
from tests.our_broker import replicas_at, wait_until_known

pytestmark = pytest.mark.clients

# What an admin client has no call for.
LACKS = {
    "confluent-kafka": {"delete_group_offsets", "log_directories", "replace_configs"},
    "aiokafka": {
        "alter_configs",
        "alter_group_offsets",
        "delete_group",
        "delete_group_offsets",
        "list_offsets",
        "log_directories",
    },
    "kafka-python": {"replace_configs"},
    "kafkajs": {"alter_configs", "delete_group_offsets", "log_directories"},
    "java-4.3": {"replace_configs"},
    "java-3.9": {"replace_configs"},
    "franz-go": set(),
}
_SHOWS_CREATED = {"kafka-python", "java-4.3", "java-3.9", "franz-go"}

UNKNOWN_TOPIC_OR_PARTITION = 3
OFFSET_OUT_OF_RANGE = 1
TOPIC_ALREADY_EXISTS = 36
INVALID_TOPIC = 17
INVALID_PARTITIONS = 37
INVALID_REPLICATION_FACTOR = 38
INVALID_CONFIG = 40
NON_EMPTY_GROUP = 68
GROUP_ID_NOT_FOUND = 69

DYNAMIC_TOPIC_CONFIG = 1


class Admin:
    """One client's admin calls: `admin.create_topic(topic="events")`."""

    def __init__(self, client, bootstrap) -> None:
        self.client = client
        self.bootstrap = bootstrap
        self.replicas = replicas_at(bootstrap)

    def can(self, call) -> bool:
        return call not in LACKS[self.client.name]

    def __getattr__(self, call):
        assert self.can(call)

        def ask(**fields):
            answer = self.client.call("admin", call=call, bootstrap=self.bootstrap, **fields)
            wait_until_known(self.bootstrap)
            return answer

        return ask

    def refusal(self, call, **fields):
        """The error code that a call fails with."""
        with pytest.raises(JobFailedError) as failure:
            getattr(self, call)(**fields)
        return failure.value.code


def now_ms():
    return time.time_ns() // 1_000_000


@pytest.fixture
def admin(client, bootstrap):
    return Admin(client, bootstrap)


def test_topics_are_created_listed_described_grown_and_deleted(admin, unique):
    """A topic's whole life, by each admin client."""
    topic = unique("events")
    created = admin.create_topic(
        topic=topic,
        partitions=3,
        replication_factor=admin.replicas,
        configs={"retention.ms": "3600000", "segment.bytes": "1048576"},
    )
    if admin.client.name in _SHOWS_CREATED:
        assert (created["partitions"], created["replication_factor"]) == (3, admin.replicas)
        assert created["configs"]["retention.ms"] == "3600000"
        assert created["configs"]["cleanup.policy"] == "delete"
    assert topic in admin.list_topics()
    described = admin.describe_topic(topic=topic)
    cluster = admin.describe_cluster()
    nodes = sorted(node for node, _, _ in cluster["brokers"])
    assert sorted(f"{host}:{port}" for _, host, port in cluster["brokers"]) == sorted(
        admin.bootstrap.split(",")
    )
    assert cluster["cluster_id"]
    assert [each["partition"] for each in described["partitions"]] == [0, 1, 2]
    for partition in described["partitions"]:
        assert sorted(partition["replicas"]) == sorted(partition["isr"]) == nodes
    # Each leads as many as the others.
    assert sorted(each["leader"] for each in described["partitions"]) == nodes * (3 // len(nodes))
    if "topic_id" in described and "topic_id" in created:
        assert described["topic_id"] == created["topic_id"]
    admin.create_partitions(topic=topic, count=5)
    wait_until(lambda: len(admin.describe_topic(topic=topic)["partitions"]) == 5, what="5 partitions")
    admin.delete_topic(topic=topic)
    wait_until(lambda: topic not in admin.list_topics(), what="the topic's end")


def test_a_topic_without_wishes_gets_the_defaults(admin, unique):
    """-1 partitions and -1 replicas mean the broker's defaults."""
    if admin.client.name == "aiokafka":
        return  # it refuses -1 by itself
    topic = unique("defaults")
    admin.create_topic(topic=topic)
    assert len(admin.describe_topic(topic=topic)["partitions"]) == 1


def test_what_cannot_be_is_refused_with_kafkas_codes(admin, unique):
    """Wrong requests about topics get the error that Kafka gives."""
    topic = unique("refused")
    admin.create_topic(topic=topic, partitions=2, replication_factor=admin.replicas)
    new = {"partitions": 1, "replication_factor": admin.replicas}
    assert admin.refusal("create_topic", topic=topic, **new) == TOPIC_ALREADY_EXISTS
    assert admin.refusal("create_topic", topic="no/slashes", **new) == INVALID_TOPIC
    assert admin.refusal("create_topic", topic="x" * 250, **new) == INVALID_TOPIC
    missing = unique("missing")
    assert (
        admin.refusal("create_topic", topic=missing, partitions=0, replication_factor=admin.replicas)
        == INVALID_PARTITIONS
    )
    assert (
        admin.refusal("create_topic", topic=missing, partitions=1, replication_factor=5)
        == INVALID_REPLICATION_FACTOR
    )
    wrong = {"retention.ms": "soon"}
    assert admin.refusal("create_topic", topic=missing, **new, configs=wrong) == INVALID_CONFIG
    assert admin.refusal("create_topic", topic=missing, **new, configs={"no.such.key": "1"}) == INVALID_CONFIG
    assert admin.refusal("create_partitions", topic=topic, count=2) == INVALID_PARTITIONS
    assert admin.refusal("create_partitions", topic=topic, count=1) == INVALID_PARTITIONS
    assert admin.refusal("delete_topic", topic=missing) == UNKNOWN_TOPIC_OR_PARTITION
    assert missing not in admin.list_topics()


def test_validate_only_creates_nothing(admin, unique):
    """A validated creation answers as a real one and leaves nothing."""
    topic = unique("validated")
    admin.create_topic(topic=topic, partitions=1, replication_factor=admin.replicas, validate_only=True)
    assert topic not in admin.list_topics()


def test_topic_settings_are_described_and_changed(admin, unique):
    """Each client sees where a setting comes from, sets it, and sees it changed."""
    topic = unique("settings")
    admin.create_topic(
        topic=topic,
        partitions=1,
        replication_factor=admin.replicas,
        configs={"segment.bytes": "1048576"},
    )
    resource = {"type": "topic", "name": topic}

    def setting(name):
        return admin.describe_configs(**resource)[name]

    assert setting("segment.bytes")["value"] == "1048576"
    assert setting("segment.bytes")["source"] == DYNAMIC_TOPIC_CONFIG
    assert setting("cleanup.policy")["value"] == "delete"
    assert setting("retention.ms")["source"] != DYNAMIC_TOPIC_CONFIG
    if admin.can("alter_configs"):
        admin.alter_configs(**resource, set={"retention.ms": "1234567"})
        wait_until(lambda: setting("retention.ms")["value"] == "1234567", what="the new retention")
        assert setting("segment.bytes")["value"] == "1048576"
        admin.alter_configs(**resource, delete=["segment.bytes", "retention.ms"])
        wait_until(lambda: setting("segment.bytes")["value"] == "1073741824", what="the default")
        assert admin.refusal("alter_configs", **resource, set={"retention.ms": "soon"}) == INVALID_CONFIG
        assert admin.refusal("alter_configs", **resource, set={"no.such.key": "1"}) == INVALID_CONFIG
    if admin.can("replace_configs"):
        admin.replace_configs(**resource, set={"retention.ms": "7654321"})
        wait_until(lambda: setting("retention.ms")["value"] == "7654321", what="the new retention")
        wait_until(lambda: setting("segment.bytes")["value"] == "1073741824", what="the default")


def test_broker_settings_are_described(admin):
    """Each client reads the broker's settings; a dynamic one can be changed by those that can."""
    node, _, _ = admin.describe_cluster()["brokers"][-1]
    resource = {"type": "broker", "name": str(node)}
    settings = admin.describe_configs(**resource)
    assert settings["node.id"]["value"] == str(node)
    assert settings["num.partitions"]["value"] == "1"
    assert all(setting["value"] is None for setting in settings.values() if setting["sensitive"])
    if admin.can("alter_configs"):
        # A setting per client, since they share the broker.
        name, value = {
            "confluent-kafka": ("log.cleaner.threads", "2"),
            "kafka-python": ("log.cleaner.io.buffer.size", "600000"),
            "java-4.3": ("num.io.threads", "9"),
            "java-3.9": ("log.flush.interval.ms", "5000000"),
            "franz-go": ("log.message.timestamp.after.max.ms", "3500000"),
        }[admin.client.name]
        admin.alter_configs(**resource, set={name: value})
        wait_until(lambda: admin.describe_configs(**resource)[name]["value"] == value, what="the new value")
        admin.alter_configs(**resource, delete=[name])
        wait_until(lambda: admin.describe_configs(**resource)[name]["value"] != value, what="the old value")


def test_groups_are_listed_described_reset_and_deleted(admin, bootstrap, peers, unique):
    """A group with a member is seen as it is; an empty one can be moved and deleted."""
    topic = unique("group-topic")
    group = unique("group")
    client = admin.client
    admin.create_topic(topic=topic, partitions=2, replication_factor=admin.replicas)
    records = [
        {
            "partition": number % 2,
            "key": None,
            "value": encoded(b"value"),
            "headers": [],
            "timestamp": now_ms(),
        }
        for number in range(10)
    ]
    client.call("produce", bootstrap=bootstrap, topic=topic, codec="none", idempotent=True, records=records)
    member = client.start(
        "member",
        bootstrap=bootstrap,
        topics=[topic],
        group=group,
        strategy="roundrobin",
        instance=None,
    )
    member.wait_for(lambda: len(member.assigned) == 2, "the assignment")

    # The group's state may be seen while its member still settles.
    wait_until(lambda: admin.describe_group(group=group)["state"].upper() == "STABLE", what="a stable group")
    described = admin.describe_group(group=group)
    assert described["protocol"].lower() in {"roundrobin", "roundrobinassigner"}
    (one,) = described["members"]
    assert one["client_id"]
    assert one["host"].lstrip("/") == "127.0.0.1"
    assert one.get("assigned", [[topic, 0], [topic, 1]]) == [[topic, 0], [topic, 1]]
    assert group in [listed["group"] for listed in admin.list_groups()]
    wait_until(
        lambda: admin.group_offsets(group=group) == [[topic, 0, 5], [topic, 1, 5]],
        what="the committed offsets",
    )
    if admin.can("delete_group"):
        assert admin.refusal("delete_group", group=group) == NON_EMPTY_GROUP
    member.stop()
    wait_until(lambda: admin.describe_group(group=group)["state"].upper() == "EMPTY", what="an empty group")
    if admin.can("alter_group_offsets"):
        admin.alter_group_offsets(group=group, offsets=[[topic, 0, 1], [topic, 1, 2]])
        assert admin.group_offsets(group=group) == [[topic, 0, 1], [topic, 1, 2]]
    if admin.can("delete_group_offsets"):
        admin.delete_group_offsets(group=group, topic=topic, partitions=[0])
        assert admin.group_offsets(group=group) == [[topic, 1, 2]]
    if admin.can("delete_group"):
        admin.delete_group(group=group)
        assert group not in [listed["group"] for listed in admin.list_groups()]
        assert admin.refusal("delete_group", group=group) == GROUP_ID_NOT_FOUND


def test_records_are_deleted_up_to_an_offset(admin, bootstrap, unique):
    """Deleted records are gone for every reader, and the partition begins at the offset."""
    topic = unique("deleted")
    admin.create_topic(topic=topic, partitions=1, replication_factor=admin.replicas)
    records = [
        {"partition": 0, "key": None, "value": encoded(b"value"), "headers": [], "timestamp": now_ms()}
        for _ in range(10)
    ]
    admin.client.call(
        "produce", bootstrap=bootstrap, topic=topic, codec="none", idempotent=True, records=records
    )
    low_watermark = admin.delete_records(topic=topic, partition=0, before=4)
    assert low_watermark in (4, None)  # KafkaJS does not tell
    job = admin.client.start("read", bootstrap=bootstrap, topic=topic, **{"from": "earliest"})
    job.result()
    assert [record.offset for record in job.records] == list(range(4, 10))
    if admin.can("list_offsets"):
        assert admin.list_offsets(topic=topic, at="earliest") == [[0, 4]]
    if admin.client.name != "kafkajs":  # it answers itself, from what it read before
        assert admin.refusal("delete_records", topic=topic, partition=0, before=11) == OFFSET_OUT_OF_RANGE


def test_log_directories_are_described(admin, bootstrap, unique):
    """Each client that can sees the directory and the size of each partition."""
    if not admin.can("log_directories"):
        return
    topic = unique("sized")
    admin.create_topic(topic=topic, partitions=2, replication_factor=admin.replicas)
    records = [
        {"partition": 1, "key": None, "value": encoded(bytes(1000)), "headers": [], "timestamp": now_ms()}
    ]
    admin.client.call(
        "produce", bootstrap=bootstrap, topic=topic, codec="none", idempotent=True, records=records
    )
    directories = admin.log_directories(topic=topic)
    assert len(directories) == admin.replicas
    for directory in directories:
        assert directory["path"].startswith("/")
        (empty, filled) = directory["partitions"]
        assert empty == [0, 0]
        assert filled[0] == 1
        assert filled[1] > 1000

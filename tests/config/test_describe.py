from __future__ import annotations

import pytest

from barnabas.config.broker import BrokerConfig
from barnabas.config.definition import ConfigType
from barnabas.config.describe import (
    ConfigSource,
    describe_broker,
    describe_cluster_default,
    describe_group,
    describe_topic,
)
from barnabas.config.keys import BROKER_KEYS


def by_name(entries):
    found = {entry.name: entry for entry in entries}
    assert len(found) == len(entries)
    return found


def chain(entry):
    return [(step.name, step.value, step.source) for step in entry.synonyms]


def test_a_topics_own_value_stands_before_the_brokers():
    """The chain of a topic key begins with the topic and ends with the broker's default."""
    broker = BrokerConfig({"min.insync.replicas": "2"})
    broker.update({"log.retention.ms": "9"}, {"log.retention.ms": "8"})
    entries = by_name(describe_topic(broker, {"retention.ms": "7"}))
    retention = entries["retention.ms"]
    assert (retention.value, retention.source, retention.read_only) == (
        "7",
        ConfigSource.DYNAMIC_TOPIC_CONFIG,
        False,
    )
    assert chain(retention) == [
        ("retention.ms", "7", ConfigSource.DYNAMIC_TOPIC_CONFIG),
        ("log.retention.ms", "9", ConfigSource.DYNAMIC_BROKER_CONFIG),
        ("log.retention.ms", "8", ConfigSource.DYNAMIC_DEFAULT_BROKER_CONFIG),
        ("log.retention.hours", "168", ConfigSource.DEFAULT_CONFIG),
    ]
    assert chain(entries["min.insync.replicas"]) == [
        ("min.insync.replicas", "2", ConfigSource.STATIC_BROKER_CONFIG),
        ("min.insync.replicas", "1", ConfigSource.DEFAULT_CONFIG),
    ]
    assert retention.type is ConfigType.LONG
    assert retention.documentation


def test_a_topic_without_overrides_has_the_brokers_values():
    """Each key answers with the value in force and the layer that it comes from."""
    broker = BrokerConfig()
    broker.update({}, {"message.max.bytes": "5"})
    entry = by_name(describe_topic(broker, {}))["max.message.bytes"]
    assert (entry.value, entry.source) == ("5", ConfigSource.DYNAMIC_DEFAULT_BROKER_CONFIG)


def test_only_the_keys_asked_for():
    """A list of names chooses among the keys; an empty one means all."""
    broker = BrokerConfig()
    assert [entry.name for entry in describe_topic(broker, {}, ["segment.ms", "x"])] == ["segment.ms"]
    assert [entry.name for entry in describe_broker(broker, ["node.id"])] == ["node.id"]
    assert len(describe_topic(broker, {}, [])) == 33


def test_secrets_are_never_said():
    """A password has no value in an entry, nor in its chain."""
    broker = BrokerConfig({"ssl.key.password": "secret", "listener.name.a.sasl.jaas.config": "secret"})
    for name in ("ssl.key.password", "listener.name.a.sasl.jaas.config"):
        entry = by_name(describe_broker(broker))[name]
        assert entry.sensitive
        assert "secret" not in repr(entry)


def test_what_is_unknown_may_be_a_secret():
    """A plug-in's key shows that it is set, not to what."""
    broker = BrokerConfig()
    broker.update({}, {"plug.in": "x"})
    for entries in (describe_broker(broker), describe_cluster_default(broker)):
        entry = by_name(entries)["plug.in"]
        assert (entry.value, entry.sensitive, entry.type) == (None, True, ConfigType.UNKNOWN)
        assert chain(entry) == [("plug.in", None, ConfigSource.DYNAMIC_DEFAULT_BROKER_CONFIG)]


def test_the_cluster_default_has_only_what_was_set():
    """The empty broker name answers with the dynamic settings of all brokers alone."""
    broker = BrokerConfig({"message.max.bytes": "1"})
    broker.update({"message.max.bytes": "3"}, {"message.max.bytes": "2"})
    (entry,) = describe_cluster_default(broker)
    assert (entry.name, entry.value, entry.source) == (
        "message.max.bytes",
        "2",
        ConfigSource.DYNAMIC_DEFAULT_BROKER_CONFIG,
    )
    assert chain(entry) == [("message.max.bytes", "2", ConfigSource.DYNAMIC_DEFAULT_BROKER_CONFIG)]
    assert describe_cluster_default(broker, ["log.dirs"]) == []


def test_a_broker_answers_with_every_key_that_is_not_internal():
    """Internal keys, and throttles that nobody set, are left out."""
    entries = by_name(describe_broker(BrokerConfig()))
    assert "log.initial.task.delay.ms" not in entries
    assert "leader.replication.throttled.rate" not in entries
    assert "barnabas.durability" in entries
    broker = BrokerConfig({"log.initial.task.delay.ms": "1"})
    broker.update({"leader.replication.throttled.rate": "7"})
    entries = by_name(describe_broker(broker))
    assert entries["log.initial.task.delay.ms"].value == "1"
    assert entries["leader.replication.throttled.rate"].value == "7"


def test_a_group_key_without_broker_key_answers_for_itself():
    """A group key's chain begins with the group, or with its default."""
    entries = by_name(describe_group(BrokerConfig(), {"consumer.session.timeout.ms": "50000"}))
    assert chain(entries["consumer.session.timeout.ms"]) == [
        ("consumer.session.timeout.ms", "50000", ConfigSource.GROUP_CONFIG),
        ("group.consumer.session.timeout.ms", "45000", ConfigSource.DEFAULT_CONFIG),
    ]
    assert chain(entries["share.isolation.level"]) == [
        ("share.isolation.level", "read_uncommitted", ConfigSource.DEFAULT_CONFIG)
    ]


@pytest.mark.oracle
@pytest.mark.clients
def test_entries_are_kafkas(kafka_with_settings):
    """Names, values, sources, read-only and secret flags of every entry are those of a running Apache Kafka."""
    from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType

    kafka, overrides = kafka_with_settings
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap, "log_level": 0})
    ours_broker = BrokerConfig.load(kafka.directory / "server.properties")
    # Kafka 4.3 sets this itself, for eligible leader replicas.
    ours_broker.update(overrides, {"min.insync.replicas": "1"})

    def theirs(kind, name):
        resource = ConfigResource(kind, name)
        (future,) = admin.describe_configs([resource], request_timeout=30).values()
        return {
            entry.name: (entry.value, entry.source, entry.is_read_only, entry.is_sensitive)
            for entry in future.result().values()
        }

    def ours(entries):
        return {
            entry.name: (entry.value, int(entry.source), entry.read_only, entry.sensitive)
            for entry in entries
            if not entry.name.startswith("barnabas.")
        }

    found = ours(describe_broker(ours_broker))
    expected = theirs(ResourceType.BROKER, "1")
    for name, key in BROKER_KEYS.items():
        if key.default != key.kafka_default and found.get(name, (0, 0))[1] == ConfigSource.DEFAULT_CONFIG:
            found[name] = expected[name]  # differs on purpose, see the reference
    for name in ("listeners", "listener.security.protocol.map"):
        found[name] = (*found[name][:2], False, found[name][3])  # likewise
    assert found == expected
    assert ours(describe_topic(ours_broker, {"retention.ms": "77", "cleanup.policy": "compact"})) == theirs(
        ResourceType.TOPIC, "described"
    )
    assert ours(describe_group(ours_broker, {})) == theirs(ResourceType.GROUP, "g")

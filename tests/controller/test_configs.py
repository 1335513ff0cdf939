import pytest

from barnabas.controller.configs import (
    ConfigChange,
    ConfigReplacement,
    alter_configs,
    incremental_alter_configs,
)
from barnabas.errors import ErrorCode
from tests.controller.cluster import after, config, image_of, topic

TOPIC, BROKER, LOGGER, METRICS, GROUP = 2, 4, 8, 16, 32
SET, DELETE, APPEND, SUBTRACT = range(4)

IMAGE = image_of(
    topics=[topic("orders")],
    configs={
        (TOPIC, "orders"): {"retention.ms": "5", "cleanup.policy": "compact"},
        (BROKER, ""): {"log.retention.ms": "7"},
    },
)


def change(*changes, image=IMAGE, settings=None):
    return incremental_alter_configs(
        image, settings or config(), 1, [ConfigChange(*each) for each in changes]
    )


def replace(*replacements, image=IMAGE):
    return alter_configs(image, config(), 1, [ConfigReplacement(*each) for each in replacements])


def outcome(error):
    return None if error is None else (error.code.name, error.message)


@pytest.mark.parametrize(
    ("operations", "settings"),
    [
        ([("retention.ms", SET, "6")], {"retention.ms": "6", "cleanup.policy": "compact"}),
        ([("retention.ms", SET, "5")], {"retention.ms": "5", "cleanup.policy": "compact"}),
        ([("retention.ms", DELETE, None)], {"cleanup.policy": "compact"}),
        (
            [("segment.ms", DELETE, None), ("no.such.key", DELETE, None)],
            {"retention.ms": "5", "cleanup.policy": "compact"},
        ),
        ([("cleanup.policy", APPEND, "delete")], {"retention.ms": "5", "cleanup.policy": "compact,delete"}),
        ([("cleanup.policy", APPEND, "compact")], {"retention.ms": "5", "cleanup.policy": "compact"}),
        ([("cleanup.policy", SUBTRACT, "delete,compact")], {"retention.ms": "5", "cleanup.policy": ""}),
        (
            [("leader.replication.throttled.replicas", APPEND, "0:1,1:1"), ("retention.ms", DELETE, None)],
            {"leader.replication.throttled.replicas": "0:1,1:1", "cleanup.policy": "compact"},
        ),
    ],
)
def test_operations_on_a_topic(operations, settings):
    """Each operation changes one setting; lists are appended to and subtracted from without doubles."""
    records, (error,) = change((TOPIC, "orders", operations))
    assert error is None
    assert after(IMAGE, records).topic_config("orders") == settings


def test_a_list_that_is_not_set_is_appended_to_its_default():
    """As Kafka has it: the key's own default, not the broker's setting."""
    image = image_of(topics=[topic("orders")])
    records, _ = change((TOPIC, "orders", [("cleanup.policy", APPEND, "compact")]), image=image)
    assert after(image, records).topic_config("orders") == {"cleanup.policy": "delete,compact"}


# What Apache Kafka 4.3 answered to these, word for word.
REFUSALS = [
    (TOPIC, "orders", [("foo", SET, "1")], "INVALID_CONFIG", "Unknown topic config name: foo"),
    (
        TOPIC,
        "orders",
        [("retention.ms", SET, "abc")],
        "INVALID_CONFIG",
        "Invalid value abc for configuration retention.ms: Not a number of type LONG",
    ),
    (
        TOPIC,
        "orders",
        [("retention.ms", APPEND, "1")],
        "INVALID_CONFIG",
        "Can't APPEND to key retention.ms because its type is not LIST.",
    ),
    (
        TOPIC,
        "orders",
        [("foo", SUBTRACT, "1")],
        "INVALID_CONFIG",
        "Can't SUBTRACT to key foo because its type is not LIST.",
    ),
    (
        TOPIC,
        "orders",
        [("retention.ms", SET, None)],
        "INVALID_REQUEST",
        "Null value not supported for : retention.ms",
    ),
    (
        TOPIC,
        "orders",
        [("retention.ms", SET, "1"), ("retention.ms", SET, "2")],
        "INVALID_REQUEST",
        "Error due to duplicate config keys",
    ),
    (TOPIC, "orders", [("retention.ms", 9, "1")], "INVALID_REQUEST", "Unknown operations type 9"),
    (
        TOPIC,
        "none",
        [("retention.ms", SET, "1")],
        "UNKNOWN_TOPIC_OR_PARTITION",
        "The topic 'none' does not exist.",
    ),
    (TOPIC, "", [("retention.ms", SET, "1")], "INVALID_REQUEST", "Default topic resources are not allowed."),
    (
        BROKER,
        "1",
        [("node.id", SET, "2")],
        "INVALID_REQUEST",
        "Cannot update these configs dynamically: [node.id]",
    ),
    (
        BROKER,
        "2",
        [("log.retention.ms", SET, "2")],
        "INVALID_REQUEST",
        "Unexpected broker id, expected 1, but received 2",
    ),
    (
        BROKER,
        "x",
        [("log.retention.ms", SET, "2")],
        "INVALID_REQUEST",
        "Node id must be an integer, but it is: x",
    ),
    (BROKER, "1", [("foo", APPEND, "2")], "INVALID_CONFIG", "Unknown config name: foo"),
    (
        BROKER,
        "1",
        [("log.retention.ms", APPEND, "2")],
        "INVALID_CONFIG",
        "Config value append is not allowed for config key: log.retention.ms",
    ),
    (
        BROKER,
        "",
        [("listener.name.plaintext.ssl.keystore.type", SET, "JKS")],
        "INVALID_REQUEST",
        (
            "Cannot update these configs at default cluster level, broker id must be specified: "
            "[listener.name.plaintext.ssl.keystore.type]"
        ),
    ),
    (GROUP, "g", [("foo", SET, "5")], "INVALID_CONFIG", "Unknown group config name: foo"),
    (
        GROUP,
        "",
        [("consumer.session.timeout.ms", SET, "5")],
        "INVALID_REQUEST",
        "Default group resources are not allowed.",
    ),
    (METRICS, "m", [("foo", SET, "5")], "INVALID_REQUEST", "Unknown client metrics configuration: foo"),
    (METRICS, "", [("metrics", SET, "5")], "INVALID_REQUEST", "Subscription name can't be empty"),
    (
        METRICS,
        "m",
        [("interval.ms", SET, "10")],
        "INVALID_REQUEST",
        "Invalid value 10 for interval.ms, interval must be between 100 and 3600000 (1 hour)",
    ),
    (
        METRICS,
        "m",
        [("interval.ms", SET, "x")],
        "INVALID_CONFIG",
        "Invalid value x for configuration interval.ms: Not a number of type INT",
    ),
    (METRICS, "m", [("match", SET, "foo=1")], "INVALID_CONFIG", "Illegal client matching pattern: foo=1"),
    (
        METRICS,
        "m",
        [("match", SET, "client_id=(")],
        "INVALID_CONFIG",
        "Illegal client matching pattern: client_id=(",
    ),
    (
        METRICS,
        "m",
        [("metrics", APPEND, "a")],
        "INVALID_CONFIG",
        "Can't APPEND to key metrics because its type is not LIST.",
    ),
    (LOGGER, "1", [("root", SET, "INFO")], "INVALID_REQUEST", "Unknown resource type 8"),
    (99, "x", [], "INVALID_REQUEST", "Unknown resource type 99"),
]


@pytest.mark.parametrize(("resource_type", "name", "operations", "code", "message"), REFUSALS)
def test_what_cannot_be_is_refused_in_kafkas_words(resource_type, name, operations, code, message):
    """Nothing of the resource is changed; the next resource of the request is."""
    records, (error, fine) = change(
        (resource_type, name, operations), (GROUP, "fine", [("consumer.session.timeout.ms", SET, "50000")])
    )
    assert outcome(error) == (code, message)
    assert fine is None
    assert [record.resource_name for record in records] == ["fine"]


def test_a_resource_that_stands_twice_is_changed_neither_time():
    """In both APIs."""
    repeated = ("INVALID_REQUEST", "Each resource must appear at most once.")
    records, errors = change((TOPIC, "orders", []), (TOPIC, "orders", [("retention.ms", SET, "1")]))
    assert [outcome(error) for error in errors] == [repeated, repeated]
    assert records == []
    records, errors = replace((TOPIC, "orders", []), (TOPIC, "orders", []))
    assert [outcome(error) for error in errors] == [repeated, repeated]
    assert records == []


def test_a_change_is_made_as_a_whole_or_not_at_all():
    """One bad setting spoils the others of its resource."""
    records, (error,) = change((TOPIC, "orders", [("segment.ms", SET, "1"), ("retention.ms", SET, "x")]))
    assert error.code is ErrorCode.INVALID_CONFIG
    assert records == []


def test_settings_are_judged_together_with_those_that_stay():
    """A setting that contradicts another is refused."""
    image = image_of(topics=[topic("orders")], configs={(TOPIC, "orders"): {"max.compaction.lag.ms": "10"}})
    _, (error,) = change((TOPIC, "orders", [("min.compaction.lag.ms", SET, "20")]), image=image)
    assert outcome(error) == (
        "INVALID_CONFIG",
        "conflict topic config setting min.compaction.lag.ms (20) > max.compaction.lag.ms (10)",
    )


def test_what_a_topic_brought_along_does_not_stand_in_the_way():
    """A data directory of Apache Kafka has settings that would be refused anew; others can be changed, both ways."""
    stored = {"local.retention.ms": "5"}
    image = image_of(topics=[topic("orders")], configs={(TOPIC, "orders"): stored})
    _, (error,) = change((TOPIC, "orders", [("retention.ms", SET, "6")]), image=image)
    assert error is None
    _, (error,) = replace((TOPIC, "orders", [("retention.ms", "6"), *stored.items()]), image=image)
    assert error is None
    _, (error,) = change((TOPIC, "orders", [("local.retention.ms", SET, "6")]), image=image)
    assert error.code is ErrorCode.INVALID_CONFIG


def test_a_broker_setting_is_written_again_even_if_it_stays_the_same():
    """That is how an operator says: load it again."""
    records, _ = change((BROKER, "", [("log.retention.ms", SET, "7")]))
    assert len(records) == 1
    records, _ = change((TOPIC, "orders", [("retention.ms", SET, "5")]))
    assert records == []


def test_what_is_not_named_is_reset_by_a_replacement():
    """The older API replaces all settings of a resource."""
    records, (error,) = replace((TOPIC, "orders", [("segment.ms", "6"), ("retention.ms", "5")]))
    assert error is None
    assert after(IMAGE, records).topic_config("orders") == {"segment.ms": "6", "retention.ms": "5"}
    records, _ = replace((TOPIC, "orders", []))
    assert after(IMAGE, records).topic_config("orders") == {}


@pytest.mark.parametrize(
    ("replacement", "code", "message"),
    [
        ((TOPIC, "orders", [("foo", "5")]), "INVALID_CONFIG", "Unknown topic config name: foo"),
        (
            (TOPIC, "orders", [("retention.ms", None)]),
            "INVALID_REQUEST",
            "Null value not supported for : retention.ms",
        ),
        (
            (TOPIC, "none", [("retention.ms", "5")]),
            "UNKNOWN_TOPIC_OR_PARTITION",
            "The topic 'none' does not exist.",
        ),
        (
            (BROKER, "1", [("node.id", "5")]),
            "INVALID_REQUEST",
            "Cannot update these configs dynamically: [node.id]",
        ),
        ((LOGGER, "1", [("root", "INFO")]), "INVALID_REQUEST", "Unknown resource type 8"),
    ],
)
def test_a_replacement_that_cannot_be_is_refused_in_kafkas_words(replacement, code, message):
    """The same rules hold as for single changes."""
    records, (error,) = replace(replacement)
    assert outcome(error) == (code, message)
    assert records == []

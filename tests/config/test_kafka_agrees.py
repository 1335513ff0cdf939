"""The tables and their types against Apache Kafka 4.3's own classes."""

from __future__ import annotations

import pytest

from barnabas.config.definition import ConfigType, to_text
from barnabas.config.group import GROUP_KEYS, GROUP_SYNONYMS
from barnabas.config.keys import BROKER_KEYS
from barnabas.config.topic import TOPIC_KEYS, TOPIC_SYNONYMS
from barnabas.errors import ConfigError

pytestmark = pytest.mark.oracle

TABLES = {"broker": BROKER_KEYS, "topic": TOPIC_KEYS, "group": GROUP_KEYS}


# Kafka 4 has left ZooKeeper.
NOT_KAFKAS = ("barnabas.", "zookeeper.")

# The voters and bootstrap servers of a quorum that we do not have are kept as they are; Kafka looks at the limits by
# address only when it starts.
NOT_COMPARED = {
    "controller.quorum.voters",
    "controller.quorum.bootstrap.servers",
    "max.connections.per.ip.overrides",
}


def test_every_key_of_kafka_is_here_with_its_facts(kafka_config):
    """Name, type, default, importance and scope of every key are Kafka's, in every table."""
    theirs = {(row[0], row[1]): row[2:] for row in kafka_config.tables()}
    ours = {
        (table, key.name): [
            key.type.name,
            to_text(key.kafka_default),
            key.importance.upper(),
            key.scope if table == "broker" else "",
            "true" if key.internal else "false",
        ]
        for table, keys in TABLES.items()
        for key in keys.values()
        if not key.name.startswith(NOT_KAFKAS)
    }
    # What Kafka has no default for, we give one; the row has no room for "required".
    required = {"node.id", "process.roles", "controller.listener.names"}
    for name in required:
        ours["broker", name][1] = theirs["broker", name][1] = None
    for name in ("listeners", "listener.security.protocol.map"):
        assert theirs["broker", name][3] == "per-broker"
        theirs["broker", name][3] = "read-only"  # differs on purpose, see the reference
    assert ours == theirs


def test_topic_and_group_keys_fall_back_on_the_same_broker_keys(kafka_config):
    """The broker keys behind each topic and group key are Kafka's, in Kafka's order."""
    theirs = {(table, name): synonyms for table, name, synonyms in kafka_config.synonyms() if synonyms}
    ours = {("topic", name): " ".join(names) for name, names in TOPIC_SYNONYMS.items()}
    ours |= {("group", name): synonym for name, synonym in GROUP_SYNONYMS.items()}
    assert ours == theirs


NUMBERS = [
    *(
        "-131073",
        "-131072",
        "-3",
        "-2",
        "-1",
        "0",
        "1",
        "2",
        "4",
        "5",
        "9",
        "10",
        "17",
        "18",
        "22",
        "23",
        "25",
        "26",
    ),
    *(
        "99",
        "100",
        "500",
        "501",
        "1000",
        "1001",
        "1023",
        "1024",
        "2000",
        "10000",
        "10001",
        "30000",
        "32767",
        "32768",
    ),
    *("1048575", "1048576", "3600000", "3600001", "8388608", "2147483647", "2147483648", "-2147483649"),
    *("9223372036854775807", "9223372036854775808", "-9223372036854775809"),
    *("", " 7 ", "+7", "-0", "1_000", "1.0", "1e3", "0x10", "seven", "\u0667"),
]
DOUBLES = [
    "-0.1",
    "0",
    "0.5",
    "0.51",
    "1",
    "1.01",
    "1e-1",
    "5E-5",
    "1.5f",
    "2d",
    "123456789",
    "0.001",
    "Infinity",
    "x",
    "",
]
TEXTS = [
    "",
    " ",
    "x",
    "producer",
    "gzip",
    "GZIP",
    "CreateTime",
    "logappendtime",
    "REQUIRED",
    "required",
    "SSL",
    "upgrade",
]
TEXTS += ["read_committed", "earliest", "by_duration:P1D", "by_duration:", "rs256", "bidirectional"]
LISTS = [
    "",
    " ",
    "delete",
    "compact , delete",
    "delete,delete",
    "delete,",
    ",",
    "Delete",
    "none",
    "a,b",
    "broker",
    "x,,y",
]
LISTS += ["*", "0:1,2:3", "0:1,*", "a:b", "0:1:2", "classic,share", "classic,old"]
BOOLEANS = ["true", " FALSE ", "yes", "1", ""]

TRIES = {
    ConfigType.INT: NUMBERS,
    ConfigType.SHORT: NUMBERS,
    ConfigType.LONG: NUMBERS,
    ConfigType.DOUBLE: DOUBLES,
    ConfigType.STRING: TEXTS,
    ConfigType.LIST: LISTS,
    ConfigType.BOOLEAN: BOOLEANS,
}


@pytest.mark.parametrize("table", sorted(TABLES))
def test_values_are_taken_and_refused_as_by_kafka(kafka_config, table):
    """Every key takes what Kafka takes, writes it as Kafka does, and refuses the rest in the same words."""
    differences = []
    for key in TABLES[table].values():
        if key.name.startswith(NOT_KAFKAS) or key.name in NOT_COMPARED:
            continue
        for text in TRIES.get(key.type, ()):
            try:
                ours = True, to_text(key.parse(text))
            except ConfigError as error:
                ours = False, str(error)
            theirs = kafka_config.parse(table, key.name, text)
            if ours != theirs:
                differences.append((key.name, text, ours, theirs))
    assert differences == []

"""Broker keys: the node itself and what does not belong elsewhere."""

from __future__ import annotations

from barnabas.config.definition import (
    BOOLEAN,
    CLUSTER_WIDE,
    HIGH,
    INT,
    LIST,
    LOW,
    MEDIUM,
    STRING,
    ConfigKey,
    at_least,
    list_of,
)

__all__ = ["KEYS"]

# fmt: off
KEYS = (
    ConfigKey("broker.id", INT, 1, HIGH,
      "The number of this node, by its old name.",
      kafka_default=-1,
      differs="Kafka's default is -1; here it is always the same as node.id."),
    ConfigKey("num.io.threads", INT, 8, HIGH,
      "Threads that serve requests.",
      at_least(1), CLUSTER_WIDE, effective=False),
    ConfigKey("background.threads", INT, 10, HIGH,
      "Threads for work besides requests.",
      at_least(1), CLUSTER_WIDE, effective=False),
    ConfigKey("request.timeout.ms", INT, 30_000, HIGH,
      "Time that this node waits for another's answer, and a change of a transaction for its commit."),
    ConfigKey("config.providers", LIST, (), LOW,
      "Plug-ins that replace placeholders in values, by name.",
      list_of(empty_allowed=True), CLUSTER_WIDE, effective=False),
    ConfigKey("broker.rack", STRING, None, MEDIUM,
      "Where this node stands, so that replicas are spread and consumers can read nearby."),
    ConfigKey("controlled.shutdown.enable", BOOLEAN, True, MEDIUM,
      "Whether a node hands its leaderships over before it stops."),
    ConfigKey("max.incremental.fetch.session.cache.slots", INT, 1000, MEDIUM,
      "Incremental fetch sessions kept at most; clients beyond that send full fetch requests.",
      at_least(0)),
    ConfigKey("fetch.max.bytes", INT, 57_671_680, MEDIUM,
      "Bytes that one answer to a fetch request carries at most; the first batch always fits.",
      at_least(1024)),
    ConfigKey("max.request.partition.size.limit", INT, 2000, MEDIUM,
      "Partitions in one answer to DescribeTopicPartitions at most.",
      at_least(1)),
    ConfigKey("process.roles", LIST, ("broker", "controller"), HIGH,
      "What this node is: broker, controller, or both.",
      list_of("broker", "controller"), effective=False, kafka_default=None,
      differs="Kafka has no default; every node is both here."),
    ConfigKey("node.id", INT, 1, HIGH,
      "The number of this node in its cluster.",
      at_least(0), kafka_default=None,
      differs="Kafka has no default; one node needs no number of its own."),
)
# fmt: on

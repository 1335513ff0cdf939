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
    ConfigKey("broker.id", INT, -1, HIGH,
      "",
      differs="Falls back on node.id, and node.id on it."),
    ConfigKey("num.io.threads", INT, 8, HIGH,
      "",
      at_least(1), CLUSTER_WIDE),
    ConfigKey("background.threads", INT, 10, HIGH,
      "",
      at_least(1), CLUSTER_WIDE),
    ConfigKey("request.timeout.ms", INT, 30_000, HIGH,
      ""),
    ConfigKey("config.providers", LIST, (), LOW,
      "",
      list_of(empty_allowed=True), CLUSTER_WIDE),
    ConfigKey("broker.rack", STRING, None, MEDIUM,
      ""),
    ConfigKey("controlled.shutdown.enable", BOOLEAN, True, MEDIUM,
      ""),
    ConfigKey("max.incremental.fetch.session.cache.slots", INT, 1000, MEDIUM,
      "",
      at_least(0)),
    ConfigKey("fetch.max.bytes", INT, 57_671_680, MEDIUM,
      "",
      at_least(1024)),
    ConfigKey("max.request.partition.size.limit", INT, 2000, MEDIUM,
      "",
      at_least(1)),
    ConfigKey("process.roles", LIST, ("broker", "controller"), HIGH,
      "",
      list_of("broker", "controller"), kafka_default=None,
      differs="Kafka has no default; every node is both here."),
    ConfigKey("node.id", INT, 1, HIGH,
      "",
      at_least(0), kafka_default=None,
      differs="Kafka has no default; one node needs no number of its own."),
)
# fmt: on

"""The tables of broker keys, a file per concern.

Facts (names, types, defaults, ranges, what may change while the broker runs) are those of Apache Kafka 4.3.0's
`AbstractKafkaConfig`, `DynamicConfig` and `DynamicBrokerConfig`; a test compares them with the jars. The keys that
begin with `barnabas.` are ours (`own.py`, `zookeeper.py`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from barnabas.config.keys import (
    compaction,
    controller,
    group,
    groups_on_the_broker,
    log,
    network,
    node,
    own,
    quota,
    replication,
    security,
    tiered,
    transaction,
    zookeeper,
)

if TYPE_CHECKING:
    from barnabas.config.definition import ConfigKey

__all__ = ["BROKER_KEYS"]

BROKER_KEYS: dict[str, ConfigKey] = {
    key.name: key
    for table in (
        own.KEYS,
        node.KEYS,
        network.KEYS,
        log.KEYS,
        compaction.KEYS,
        replication.KEYS,
        group.KEYS,
        groups_on_the_broker.KEYS,
        transaction.KEYS,
        controller.KEYS,
        security.KEYS,
        quota.KEYS,
        tiered.KEYS,
        zookeeper.KEYS,
    )
    for key in table
}
"""Every broker key by name: ours first, then Kafka's, nearest concerns together."""

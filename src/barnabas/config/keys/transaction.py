"""Broker keys: producer ids and transactions."""

from __future__ import annotations

from barnabas.config.definition import BOOLEAN, CLUSTER_WIDE, HIGH, INT, LOW, SHORT, ConfigKey, at_least

__all__ = ["KEYS"]

# fmt: off
KEYS = (
    ConfigKey("transaction.state.log.min.isr", INT, 2, HIGH,
      "",
      at_least(1),
      differs="Not more than the replicas that the topic was created with, where Kafka would refuse every transaction."),
    ConfigKey("transaction.state.log.load.buffer.size", INT, 5_242_880, HIGH,
      "",
      at_least(1)),
    ConfigKey("transaction.state.log.replication.factor", SHORT, 3, HIGH,
      "",
      at_least(1),
      differs="The topic is created with as many replicas as brokers are alive when those are fewer, where Kafka refuses to create it."),
    ConfigKey("transaction.state.log.num.partitions", INT, 50, HIGH,
      "",
      at_least(1)),
    ConfigKey("transaction.state.log.segment.bytes", INT, 104_857_600, HIGH,
      "",
      at_least(1)),
    ConfigKey("transaction.partition.verification.enable", BOOLEAN, True, LOW,
      "",
      scope=CLUSTER_WIDE),
    ConfigKey("producer.id.expiration.ms", INT, 86_400_000, LOW,
      "",
      at_least(1), CLUSTER_WIDE),
    ConfigKey("producer.id.expiration.check.interval.ms", INT, 600_000, LOW,
      "",
      at_least(1), internal=True),
    ConfigKey("transactional.id.expiration.ms", INT, 604_800_000, HIGH,
      "",
      at_least(1)),
    ConfigKey("transaction.max.timeout.ms", INT, 900_000, HIGH,
      "",
      at_least(1)),
    ConfigKey("transaction.abort.timed.out.transaction.cleanup.interval.ms", INT, 10_000, LOW,
      "",
      at_least(1)),
    ConfigKey("transaction.remove.expired.transaction.cleanup.interval.ms", INT, 3_600_000, LOW,
      "",
      at_least(1)),
    ConfigKey("transaction.two.phase.commit.enable", BOOLEAN, False, LOW,
      ""),
    ConfigKey("add.partitions.to.txn.retry.backoff.max.ms", INT, 100, HIGH,
      "",
      at_least(0)),
    ConfigKey("add.partitions.to.txn.retry.backoff.ms", INT, 20, HIGH,
      "",
      at_least(1)),
)
# fmt: on

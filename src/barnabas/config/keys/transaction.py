"""Broker keys: producer ids and transactions."""

from __future__ import annotations

from barnabas.config.definition import BOOLEAN, CLUSTER_WIDE, HIGH, INT, LOW, SHORT, ConfigKey, at_least

__all__ = ["KEYS"]

# fmt: off
KEYS = (
    ConfigKey("transaction.state.log.min.isr", INT, 2, HIGH,
      "In-sync replicas that the transaction topic needs to be written.",
      at_least(1),
      differs="Not more than the replicas that the topic was created with, where Kafka would refuse every transaction."),
    ConfigKey("transaction.state.log.load.buffer.size", INT, 5_242_880, HIGH,
      "Bytes read at once when a coordinator loads its partition of the transaction topic.",
      at_least(1)),
    ConfigKey("transaction.state.log.replication.factor", SHORT, 3, HIGH,
      "Replicas of each partition of the transaction topic, which is created with the first transactional producer.",
      at_least(1),
      differs="A single node without ZooKeeper gives the topic one replica, where Kafka refuses to create it. A cluster waits for as many brokers, as Kafka does."),
    ConfigKey("transaction.state.log.num.partitions", INT, 50, HIGH,
      "Partitions of the transaction topic; fixed once the topic exists.",
      at_least(1)),
    ConfigKey("transaction.state.log.segment.bytes", INT, 104_857_600, HIGH,
      "Size of a segment of the transaction topic.",
      at_least(1),
      differs="Less than 1 MiB, which no topic may have, is refused at the start. Kafka starts, cannot create the topic, and its coordinator is never available."),
    ConfigKey("transaction.partition.verification.enable", BOOLEAN, True, LOW,
      "Whether a write is checked to belong to an open transaction.",
      scope=CLUSTER_WIDE),
    ConfigKey("producer.id.expiration.ms", INT, 86_400_000, LOW,
      "Time after its last write at which a producer id is forgotten.",
      at_least(1), CLUSTER_WIDE),
    ConfigKey("producer.id.expiration.check.interval.ms", INT, 600_000, LOW,
      "How often producer ids to forget are looked for.",
      at_least(1), internal=True),
    ConfigKey("transactional.id.expiration.ms", INT, 604_800_000, HIGH,
      "Time after which an unused transactional id is forgotten.",
      at_least(1)),
    ConfigKey("transaction.max.timeout.ms", INT, 900_000, HIGH,
      "Transaction timeout that a producer may ask for at most.",
      at_least(1)),
    ConfigKey("transaction.abort.timed.out.transaction.cleanup.interval.ms", INT, 10_000, LOW,
      "How often transactions that took too long are looked for and aborted.",
      at_least(1)),
    ConfigKey("transaction.remove.expired.transaction.cleanup.interval.ms", INT, 3_600_000, LOW,
      "How often transactional ids to forget are looked for.",
      at_least(1)),
    ConfigKey("transaction.two.phase.commit.enable", BOOLEAN, False, LOW,
      "Whether a producer may take part in another system's two-phase commit.",
      effective=False),
    ConfigKey("add.partitions.to.txn.retry.backoff.max.ms", INT, 100, HIGH,
      "Time for which the broker lets a request wait while its transactional id is busy, before it answers CONCURRENT_TRANSACTIONS.",
      at_least(0),
      differs="For all requests of transactional producers, where Kafka does it for writes alone."),
    ConfigKey("add.partitions.to.txn.retry.backoff.ms", INT, 20, HIGH,
      "Wait between the repetitions of a check.",
      at_least(1), effective=False,
      differs="Nothing is repeated: a request goes on as soon as its transactional id is free."),
)
# fmt: on

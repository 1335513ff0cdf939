"""Topics that are created when they are first asked for: what they are created with. Pure.

The brokers' own topics have settings of their own. A node that is a cluster of its own gives them one replica, so that it works
without being configured for it. In a cluster they wait until there are as many brokers as their replication factor asks for, as in
Kafka: what the first broker creates before the others have come would never be replicated.

Source: Kafka's `AutoTopicCreationManager`, `GroupCoordinatorService`, `TransactionLog.configs`, `ShareCoordinatorService`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from barnabas.controller.topics import NewTopic
from barnabas.metadata.identifiers import (
    CONSUMER_OFFSETS_TOPIC,
    SHARE_GROUP_STATE_TOPIC,
    TRANSACTION_STATE_TOPIC,
)

if TYPE_CHECKING:
    from barnabas.config.broker import BrokerConfig
    from barnabas.metadata.image import MetadataImage

__all__ = ["automatic_topic"]


def automatic_topic(
    image: MetadataImage, config: BrokerConfig, name: str, *, is_alone: bool = True
) -> NewTopic:
    """The topic that comes into being under this name when somebody asks for it; `is_alone` says that there is one node for ever."""
    if name == CONSUMER_OFFSETS_TOPIC:
        return NewTopic(
            name,
            config["offsets.topic.num.partitions"],
            _factor(image, config["offsets.topic.replication.factor"], is_alone=is_alone),
            configs={
                "cleanup.policy": "compact",
                "compression.type": "producer",
                "segment.bytes": str(config["offsets.topic.segment.bytes"]),
            },
        )
    if name == TRANSACTION_STATE_TOPIC:
        factor = _factor(image, config["transaction.state.log.replication.factor"], is_alone=is_alone)
        return NewTopic(
            name,
            config["transaction.state.log.num.partitions"],
            factor,
            configs={
                "cleanup.policy": "compact",
                "compression.type": "uncompressed",
                "min.insync.replicas": str(min(factor, config["transaction.state.log.min.isr"])),
                "segment.bytes": str(config["transaction.state.log.segment.bytes"]),
                "unclean.leader.election.enable": "false",
            },
        )
    if name == SHARE_GROUP_STATE_TOPIC:
        factor = _factor(image, config["share.coordinator.state.topic.replication.factor"], is_alone=is_alone)
        return NewTopic(
            name,
            config["share.coordinator.state.topic.num.partitions"],
            factor,
            configs={
                "cleanup.policy": "delete",
                "compression.type": "uncompressed",
                "min.insync.replicas": str(min(factor, config["share.coordinator.state.topic.min.isr"])),
                "retention.ms": "-1",
                "segment.bytes": str(config["share.coordinator.state.topic.segment.bytes"]),
            },
        )
    return NewTopic(name)


def _factor(image: MetadataImage, replication_factor: int, *, is_alone: bool) -> int:
    if not is_alone:
        return int(replication_factor)
    active = sum(broker.is_active for broker in image.brokers.values())
    return max(1, min(int(replication_factor), active))

"""Which replicas of a partition cannot be reached; Metadata and DescribeTopicPartitions tell it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from barnabas.metadata.identifiers import UNTOLD_DIRECTORIES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from barnabas.metadata.image import Broker, Partition

__all__ = ["offline_replicas"]


def offline_replicas(brokers: Mapping[int, Broker], listener: str, partition: Partition) -> list[int]:
    """The replicas whose broker is gone, fenced or not on this listener, or whose log directory failed.

    Source: `KRaftMetadataCache.getOfflineReplicas`, `DirectoryId.isOnline` of Apache Kafka.
    """
    offline = []
    for broker_id in partition.replicas:
        broker = brokers.get(broker_id)
        if broker is None or broker.fenced or listener not in broker.endpoints:
            offline.append(broker_id)
            continue
        directory = partition.directory_of(broker_id)
        if directory is None or directory in UNTOLD_DIRECTORIES or not broker.log_dirs:
            continue
        if directory not in broker.log_dirs:
            offline.append(broker_id)
    return offline

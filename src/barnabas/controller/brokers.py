"""Brokers that come and go, and who leads what then. Pure.

A broker registers fenced, loads its logs, and is unfenced when it can serve; partitions whose leader it is or has to
become get it as their leader then. Source: `ClusterControlManager` and `ReplicationControlManager` of Apache Kafka.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from barnabas.controller.partition_changes import Change
from barnabas.errors import ErrorCode, KafkaError
from barnabas.metadata.features import (
    ELR_FEATURE,
    INITIAL_FEATURES,
    METADATA_VERSION,
    METADATA_VERSION_FEATURE,
    METADATA_VERSION_OF_KAFKA_40,
    SUPPORTED_FEATURES,
)
from barnabas.metadata.image import NO_LEADER, Broker
from barnabas.metadata.snapshot import register_broker_record
from barnabas.wire.messages.metadata.broker_registration_change_record import BrokerRegistrationChangeRecord
from barnabas.wire.messages.metadata.feature_level_record import FeatureLevelRecord
from barnabas.wire.messages.metadata.partition_change_record import PartitionChangeRecord
from barnabas.wire.primitives import uuid_to_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from barnabas.controller.topic_rules import TopicRules
    from barnabas.metadata.image import MetadataImage

__all__ = [
    "BrokerRegistration",
    "check_registration",
    "missing_feature_levels",
    "register_broker",
    "unfence_broker",
]

_UNFENCED = -1


class BrokerRegistration(NamedTuple):
    """What a broker says of itself when it starts.

    Attributes:
        broker_id: `node.id`.
        incarnation_id: A random id for this run of its process.
        endpoints: Advertised host and port by listener name; an empty host advertises none, so that clients are told
            the address by which they reached the broker.
        security_protocols: The protocol's number by listener name; PLAINTEXT (0) where it is not given.
        rack: `broker.rack`.
        log_dirs: The ids of its log directories.
        features: The feature levels that it knows, lowest and highest, by feature.
        clean: Whether its last run ended in order, so that its logs hold all that they held.
    """

    broker_id: int
    incarnation_id: bytes
    endpoints: Mapping[str, tuple[str, int]]
    security_protocols: Mapping[str, int] = {}
    rack: str | None = None
    log_dirs: tuple[bytes, ...] = ()
    features: Mapping[str, tuple[int, int]] = SUPPORTED_FEATURES
    clean: bool = True


def missing_feature_levels(image: MetadataImage, node_id: int) -> list[FeatureLevelRecord]:
    """The records that give a cluster the initial levels of features that a newer version of this node `node_id` brings.

    A feature that another broker does not know yet has to wait for it; eligible leader replicas wait for whoever wants them. A cluster that Apache Kafka before 4.0 made keeps the levels
    that it has, so that there is a way back; whoever wants more raises them (`kafka-features upgrade`).
    """
    if image.features.get(METADATA_VERSION_FEATURE, METADATA_VERSION) < METADATA_VERSION_OF_KAFKA_40:
        return []
    is_new = METADATA_VERSION_FEATURE not in image.features
    others = [broker for broker in image.brokers.values() if broker.id != node_id]
    return [
        FeatureLevelRecord(name=name, feature_level=level)
        for name, level in INITIAL_FEATURES.items()
        if name not in image.features
        and (is_new or name != ELR_FEATURE)
        and all(low <= level <= high for low, high in (each.features.get(name, (0, 0)) for each in others))
    ]


def check_registration(image: MetadataImage, registration: BrokerRegistration) -> None:
    """Refuses a broker that cannot join this cluster.

    Raises:
        KafkaError: UNSUPPORTED_VERSION when the cluster works at a feature level that this broker does not know,
            INVALID_REGISTRATION when another broker has one of its log directories.
    """
    for feature, level in image.features.items():
        lowest, highest = registration.features.get(feature, (0, level))
        if not lowest <= level <= highest:
            raise KafkaError(
                ErrorCode.UNSUPPORTED_VERSION,
                f"Unable to register because the broker does not support finalized version {level} of {feature}. "
                f"The broker wants a version between {lowest} and {highest}, inclusive.",
            )
    for other in image.brokers.values():
        shared = set(other.log_dirs).intersection(registration.log_dirs)
        if other.id != registration.broker_id and shared:
            raise KafkaError(
                ErrorCode.INVALID_REGISTRATION,
                f"Broker {other.id} is already registered with directory {uuid_to_text(shared.pop())}; give this one a "
                "data directory of its own.",
            )


def register_broker(image: MetadataImage, registration: BrokerRegistration, *, epoch: int) -> list[Any]:
    """The records that register a broker, fenced, under the epoch `epoch` (the offset of the first of them).

    Raises:
        KafkaError: as `check_registration`.
    """
    check_registration(image, registration)
    broker = Broker(
        id=registration.broker_id,
        epoch=epoch,
        endpoints=registration.endpoints,
        rack=registration.rack,
        fenced=True,
        log_dirs=registration.log_dirs,
        incarnation_id=registration.incarnation_id,
        security_protocols=registration.security_protocols,
        features=registration.features,
    )
    return [register_broker_record(broker)]


def unfence_broker(image: MetadataImage, broker_id: int, *, clean: bool, rules: TopicRules) -> list[Any]:
    """The records that let a registered broker serve.

    Args:
        image: What is known.
        broker_id: The broker.
        clean: Whether its last run ended in order, so that its logs hold all that they held. After any other end
            the partitions that it leads get a new leader epoch, by which clients notice that offsets may be gone.
        rules: The topics' rules.

    Raises:
        KafkaError: BROKER_ID_NOT_REGISTERED.
    """
    broker = image.brokers.get(broker_id)
    if broker is None:
        raise KafkaError(ErrorCode.BROKER_ID_NOT_REGISTERED, f"Broker {broker_id} is not registered.")
    records: list[Any] = []
    if broker.fenced:
        records.append(
            BrokerRegistrationChangeRecord(broker_id=broker_id, broker_epoch=broker.epoch, fenced=_UNFENCED)
        )
    for topic in image.topics.values():
        for partition in topic.partitions:
            if partition.leader == broker_id:
                if not clean:
                    records.append(
                        PartitionChangeRecord(
                            partition_id=partition.index, topic_id=topic.id, leader=broker_id
                        )
                    )
            elif partition.leader == NO_LEADER and broker_id in partition.replicas:
                record = rules.change(
                    topic,
                    partition,
                    Change(election=rules.election(topic.name)),
                    is_active=lambda other: other == broker_id or image.is_active(other),
                    # Where nobody is in sync, somebody else kept such replicas before; they count.
                    has_elr=rules.has_elr or not partition.isr,
                )
                if record is not None:
                    records.append(record)
    return records

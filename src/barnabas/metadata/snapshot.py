"""An image as the shortest list of records that makes it: what a snapshot of the metadata log holds.

The order is that of Kafka's `MetadataImage.write`: features (`metadata.version` first, because it decides how the rest is
read), brokers and controllers, topics, settings, quotas, producer ids, ACLs, SCRAM users, delegation tokens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from barnabas.metadata.features import METADATA_VERSION_FEATURE
from barnabas.wire.messages.metadata.client_quota_record import ClientQuotaRecord
from barnabas.wire.messages.metadata.config_record import ConfigRecord
from barnabas.wire.messages.metadata.feature_level_record import FeatureLevelRecord
from barnabas.wire.messages.metadata.partition_record import PartitionRecord
from barnabas.wire.messages.metadata.producer_ids_record import ProducerIdsRecord
from barnabas.wire.messages.metadata.register_broker_record import RegisterBrokerRecord
from barnabas.wire.messages.metadata.topic_record import TopicRecord
from barnabas.wire.messages.metadata.user_scram_credential_record import UserScramCredentialRecord

if TYPE_CHECKING:
    from collections.abc import Iterator

    from barnabas.metadata.image import Broker, MetadataImage, Partition, QuotaEntity

__all__ = ["image_records", "partition_record", "quota_record", "register_broker_record"]


def image_records(image: MetadataImage) -> Iterator[Any]:
    """The records that turn the empty image into this one, whatever its offset and epoch."""
    yield from _features(image)
    for _, broker in sorted(image.brokers.items()):
        yield register_broker_record(broker)
    yield from _kept(image, "controller")
    for name, topic in sorted(image.topics.items()):
        yield TopicRecord(name=name, topic_id=topic.id)
        for partition in topic.partitions:
            yield partition_record(topic.id, partition)
    for (resource_type, resource_name), settings in sorted(image.configs.items()):
        for name, value in sorted(settings.items()):
            yield ConfigRecord(
                resource_type=resource_type, resource_name=resource_name, name=name, value=value
            )
    for entity, values in image.client_quotas.items():
        for key, quota in values.items():
            yield quota_record(entity, key, quota)
    if image.next_producer_id > 0:
        yield ProducerIdsRecord(broker_id=-1, broker_epoch=-1, next_producer_id=image.next_producer_id)
    yield from _kept(image, "acl")
    for (name, mechanism), credential in image.scram_credentials.items():
        yield UserScramCredentialRecord(
            name=name,
            mechanism=mechanism,
            salt=credential.salt,
            stored_key=credential.stored_key,
            server_key=credential.server_key,
            iterations=credential.iterations,
        )
    for kind in ("token", "unknown"):
        yield from _kept(image, kind)


def _features(image: MetadataImage) -> Iterator[Any]:
    for name in sorted(image.features, key=lambda name: (name != METADATA_VERSION_FEATURE, name)):
        yield FeatureLevelRecord(name=name, feature_level=image.features[name])


def _kept(image: MetadataImage, kind: str) -> Iterator[Any]:
    return (record for key, record in image.uninterpreted.items() if key[0] == kind)


def partition_record(topic_id: bytes, partition: Partition) -> PartitionRecord:
    """The `PartitionRecord` that makes this partition."""
    return PartitionRecord(
        partition_id=partition.index,
        topic_id=topic_id,
        replicas=list(partition.replicas),
        isr=list(partition.isr),
        removing_replicas=list(partition.removing_replicas),
        adding_replicas=list(partition.adding_replicas),
        leader=partition.leader,
        leader_recovery_state=int(partition.recovering),
        leader_epoch=partition.leader_epoch,
        partition_epoch=partition.partition_epoch,
        directories=list(partition.directories),
        eligible_leader_replicas=list(partition.elr) or None,
        last_known_elr=list(partition.last_known_elr) or None,
    )


def quota_record(entity: QuotaEntity, key: str, value: float | None) -> ClientQuotaRecord:
    """The `ClientQuotaRecord` that sets a quota, or takes it away (None)."""
    return ClientQuotaRecord(
        entity=[ClientQuotaRecord.EntityData(entity_type=kind, entity_name=name) for kind, name in entity],
        key=key,
        value=0.0 if value is None else value,
        remove=value is None,
    )


def register_broker_record(broker: Broker) -> RegisterBrokerRecord:
    """The `RegisterBrokerRecord` that makes this broker."""
    return RegisterBrokerRecord(
        broker_id=broker.id,
        incarnation_id=broker.incarnation_id,
        broker_epoch=broker.epoch,
        end_points=[
            RegisterBrokerRecord.BrokerEndpoint(
                name=name, host=host, port=port, security_protocol=broker.security_protocols.get(name, 0)
            )
            for name, (host, port) in broker.endpoints.items()
        ],
        features=[
            RegisterBrokerRecord.BrokerFeature(
                name=name, min_supported_version=lowest, max_supported_version=highest
            )
            for name, (lowest, highest) in broker.features.items()
        ],
        rack=broker.rack,
        fenced=broker.fenced,
        in_controlled_shutdown=broker.in_controlled_shutdown,
        log_dirs=list(broker.log_dirs),
        cordoned_log_dirs=None if broker.cordoned_log_dirs is None else list(broker.cordoned_log_dirs),
    )

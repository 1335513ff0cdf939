"""From one image to the next: metadata records replayed on top of an image.

`apply` is all that most callers need. A `MetadataDelta` says what changed, so that listeners look at that alone. Pure:
the same image and records give the same result on every broker.

Source: the `replay` methods of Kafka's `MetadataDelta` and its parts; `PartitionRegistration.merge`.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

from barnabas.errors import StorageError
from barnabas.metadata.image import Broker, MetadataImage, Partition, ScramCredential, Topic
from barnabas.metadata.shared_map import GONE, with_changes

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Mapping

    from barnabas.metadata.framing import UnknownRecord
    from barnabas.metadata.image import QuotaEntity
    from barnabas.wire.messages.metadata.access_control_entry_record import AccessControlEntryRecord
    from barnabas.wire.messages.metadata.broker_registration_change_record import (
        BrokerRegistrationChangeRecord,
    )
    from barnabas.wire.messages.metadata.clear_elr_record import ClearElrRecord
    from barnabas.wire.messages.metadata.client_quota_record import ClientQuotaRecord
    from barnabas.wire.messages.metadata.config_record import ConfigRecord
    from barnabas.wire.messages.metadata.delegation_token_record import DelegationTokenRecord
    from barnabas.wire.messages.metadata.feature_level_record import FeatureLevelRecord
    from barnabas.wire.messages.metadata.fence_broker_record import FenceBrokerRecord
    from barnabas.wire.messages.metadata.partition_change_record import PartitionChangeRecord
    from barnabas.wire.messages.metadata.partition_record import PartitionRecord
    from barnabas.wire.messages.metadata.producer_ids_record import ProducerIdsRecord
    from barnabas.wire.messages.metadata.register_broker_record import RegisterBrokerRecord
    from barnabas.wire.messages.metadata.register_controller_record import RegisterControllerRecord
    from barnabas.wire.messages.metadata.remove_access_control_entry_record import (
        RemoveAccessControlEntryRecord,
    )
    from barnabas.wire.messages.metadata.remove_delegation_token_record import RemoveDelegationTokenRecord
    from barnabas.wire.messages.metadata.remove_topic_record import RemoveTopicRecord
    from barnabas.wire.messages.metadata.remove_user_scram_credential_record import (
        RemoveUserScramCredentialRecord,
    )
    from barnabas.wire.messages.metadata.topic_record import TopicRecord
    from barnabas.wire.messages.metadata.unfence_broker_record import UnfenceBrokerRecord
    from barnabas.wire.messages.metadata.unregister_broker_record import UnregisterBrokerRecord
    from barnabas.wire.messages.metadata.user_scram_credential_record import UserScramCredentialRecord

__all__ = ["MetadataDelta", "apply", "changed_partition"]

logger = logging.getLogger(__name__)

_NO_LEADER_CHANGE = -2
_TOPIC_RESOURCE = 2


def apply(
    image: MetadataImage, records: Iterable[Any], *, offset: int, epoch: int
) -> tuple[MetadataImage, MetadataDelta]:
    """The image after `records`, the last of which lies at `offset`, and what they changed.

    Raises:
        StorageError: A record speaks of a topic, partition or broker that does not exist: the log is damaged.
    """
    delta = MetadataDelta(image)
    for record in records:
        delta.replay(record)
    return delta.finish(offset=offset, epoch=epoch), delta


class _TopicDraft:
    """A topic that is being changed."""

    __slots__ = ("id", "name", "partitions")

    def __init__(self, name: str, topic_id: bytes, partitions: tuple[Partition, ...] = ()) -> None:
        self.name = name
        self.id = topic_id
        self.partitions = {partition.index: partition for partition in partitions}

    def finish(self) -> Topic:
        partitions = self.partitions
        count = len(partitions)
        try:
            return Topic(self.name, self.id, tuple([partitions[index] for index in range(count)]))
        except KeyError as error:
            raise StorageError(
                f"the metadata log is damaged: topic {self.name} has {count} partitions, but none with number {error}"
            ) from None


class MetadataDelta:
    """What a run of records changed.

    `image` is the state before and `finish` gives the state after; the sets and maps below are complete once it has
    been called.

    Attributes:
        created_topics: New topics by id.
        deleted_topics: Topics that are no more, by id, in their last state.
        changed_topics: Topics by id whose partitions changed: state before and after.
        changed_configs: Resources (type, name) whose settings changed, those of deleted topics left out.
        changed_brokers: Brokers that were registered, unregistered, fenced or unfenced.
        features_changed: A feature level was finalized.
    """

    __slots__ = (
        "_brokers",
        "_client_quotas",
        "_configs",
        "_features",
        "_next_producer_id",
        "_scram_credentials",
        "_topics",
        "_uninterpreted",
        "changed_brokers",
        "changed_configs",
        "changed_topics",
        "created_topics",
        "deleted_topics",
        "features_changed",
        "image",
    )

    def __init__(self, image: MetadataImage) -> None:
        self.image = image
        self.created_topics: dict[bytes, Topic] = {}
        self.deleted_topics: dict[bytes, Topic] = {}
        self.changed_topics: dict[bytes, tuple[Topic, Topic]] = {}
        self.changed_configs: set[tuple[int, str]] = set()
        self.changed_brokers: set[int] = set()
        self.features_changed = False
        # Drafts of what changes; a map stays `None` until its first change, so that an unchanged one is not copied.
        self._topics: dict[bytes, _TopicDraft] = {}
        self._configs: dict[tuple[int, str], dict[str, str]] = {}
        self._brokers: dict[int, Broker] | None = None
        self._features: dict[str, int] | None = None
        self._client_quotas: dict[QuotaEntity, dict[str, float]] | None = None
        self._scram_credentials: dict[tuple[str, int], ScramCredential] | None = None
        self._uninterpreted: dict[tuple[Hashable, ...], Any] | None = None
        self._next_producer_id = image.next_producer_id

    def replay(self, record: Any) -> None:
        """Takes one record into account.

        Raises:
            StorageError: It speaks of something that does not exist.
        """
        self._REPLAY[record.API_KEY](self, record)

    def finish(self, *, offset: int, epoch: int) -> MetadataImage:
        """The image after all records that were replayed, the last of which lies at `offset`."""
        image = self.image
        topics, topics_by_id = image.topics, image.topics_by_id
        if self._topics or self.deleted_topics:
            topics, topics_by_id = self._finish_topics()
        configs = image.configs
        if self._configs:
            changed = dict(configs)
            for resource, settings in self._configs.items():
                if settings:
                    changed[resource] = settings
                else:
                    changed.pop(resource, None)
            configs = changed
        return replace(
            image,
            offset=offset,
            epoch=epoch,
            features=image.features if self._features is None else self._features,
            brokers=image.brokers if self._brokers is None else self._brokers,
            topics=topics,
            topics_by_id=topics_by_id,
            configs=configs,
            client_quotas=image.client_quotas if self._client_quotas is None else self._client_quotas,
            scram_credentials=image.scram_credentials
            if self._scram_credentials is None
            else self._scram_credentials,
            next_producer_id=self._next_producer_id,
            uninterpreted=image.uninterpreted if self._uninterpreted is None else self._uninterpreted,
        )

    def _finish_topics(self) -> tuple[Mapping[str, Topic], Mapping[bytes, Topic]]:
        by_name: dict[str, Topic] = {}
        by_id: dict[bytes, Topic] = {}
        for topic in self.deleted_topics.values():
            by_name[topic.name] = by_id[topic.id] = GONE
        for draft in self._topics.values():
            before = None if draft.id in by_id else self.image.topics_by_id.get(draft.id)
            after = draft.finish()
            by_name[after.name] = by_id[after.id] = after
            if before is None:
                self.created_topics[after.id] = after
            else:
                self.changed_topics[after.id] = before, after
        return with_changes(self.image.topics, by_name), with_changes(self.image.topics_by_id, by_id)

    # ----- drafts

    def _topic(self, topic_id: bytes) -> _TopicDraft:
        draft = self._topics.get(topic_id)
        if draft is None:
            topic = self.image.topics_by_id.get(topic_id)
            if topic is None or topic_id in self.deleted_topics:
                raise StorageError(
                    f"the metadata log is damaged: it changes topic id {topic_id.hex()}, which is unknown"
                )
            draft = self._topics[topic_id] = _TopicDraft(topic.name, topic.id, topic.partitions)
        return draft

    def _all_brokers(self) -> dict[int, Broker]:
        if self._brokers is None:
            self._brokers = dict(self.image.brokers)
        return self._brokers

    def _change_broker(self, broker_id: int, epoch: int, **changes: Any) -> None:
        brokers = self._all_brokers()
        broker = brokers.get(broker_id)
        if broker is None or broker.epoch != epoch:
            known = "none" if broker is None else str(broker.epoch)
            raise StorageError(
                f"the metadata log is damaged: it changes broker {broker_id} of epoch {epoch}, registered is {known}"
            )
        brokers[broker_id] = replace(broker, **changes)
        self.changed_brokers.add(broker_id)

    def _settings(self, resource: tuple[int, str]) -> dict[str, str]:
        settings = self._configs.get(resource)
        if settings is None:
            settings = self._configs[resource] = dict(self.image.configs.get(resource, {}))
        return settings

    def _keep(self, key: tuple[Hashable, ...], record: Any) -> None:
        if self._uninterpreted is None:
            self._uninterpreted = dict(self.image.uninterpreted)
        self._uninterpreted[key] = record

    def _forget(self, key: tuple[Hashable, ...]) -> None:
        if self._uninterpreted is None:
            self._uninterpreted = dict(self.image.uninterpreted)
        self._uninterpreted.pop(key, None)

    # ----- topics

    def _create_topic(self, record: TopicRecord) -> None:
        self._topics[record.topic_id] = _TopicDraft(record.name, record.topic_id)

    def _create_partition(self, record: PartitionRecord) -> None:
        self._topic(record.topic_id).partitions[record.partition_id] = Partition(
            index=record.partition_id,
            leader=record.leader,
            leader_epoch=record.leader_epoch,
            replicas=_shared(tuple(record.replicas)),
            isr=_shared(tuple(record.isr)),
            partition_epoch=record.partition_epoch,
            directories=_shared(tuple(record.directories)),
            adding_replicas=tuple(record.adding_replicas),
            removing_replicas=tuple(record.removing_replicas),
            elr=tuple(record.eligible_leader_replicas or ()),
            last_known_elr=tuple(record.last_known_elr or ()),
            recovering=record.leader_recovery_state == 1,
        )

    def _change_partition(self, record: PartitionChangeRecord) -> None:
        partitions = self._topic(record.topic_id).partitions
        before = partitions.get(record.partition_id)
        if before is None:
            raise StorageError(
                f"the metadata log is damaged: it changes partition {record.partition_id} of topic id "
                f"{record.topic_id.hex()}, which is unknown"
            )
        partitions[record.partition_id] = changed_partition(before, record)

    def _remove_topic(self, record: RemoveTopicRecord) -> None:
        draft = self._topic(record.topic_id)
        del self._topics[record.topic_id]
        before = self.image.topics_by_id.get(record.topic_id)
        if before is not None:
            self.deleted_topics[before.id] = before
        resource = (_TOPIC_RESOURCE, draft.name)
        self.changed_configs.discard(resource)
        if resource in self._configs or resource in self.image.configs:
            self._configs[resource] = {}

    def _clear_elr(self, record: ClearElrRecord) -> None:
        for topic in list(self.image.topics.values()):
            if record.topic_name in ("", topic.name) and topic.id not in self.deleted_topics:
                partitions = self._topic(topic.id).partitions
                for index, partition in partitions.items():
                    partitions[index] = replace(partition, elr=(), last_known_elr=())

    # ----- settings, features, producer ids

    def _set_config(self, record: ConfigRecord) -> None:
        resource = (record.resource_type, record.resource_name)
        settings = self._settings(resource)
        if record.value is None:
            settings.pop(record.name, None)
        else:
            settings[record.name] = record.value
        self.changed_configs.add(resource)

    def _set_feature(self, record: FeatureLevelRecord) -> None:
        if self._features is None:
            self._features = dict(self.image.features)
        # Level 0 is kept: a feature that was turned off is not one that nobody has heard of.
        self._features[record.name] = record.feature_level
        self.features_changed = True

    def _set_next_producer_id(self, record: ProducerIdsRecord) -> None:
        self._next_producer_id = record.next_producer_id

    # ----- brokers

    def _register_broker(self, record: RegisterBrokerRecord) -> None:
        cordoned = record.cordoned_log_dirs
        self._all_brokers()[record.broker_id] = Broker(
            id=record.broker_id,
            epoch=record.broker_epoch,
            endpoints={point.name: (point.host, point.port) for point in record.end_points},
            rack=record.rack,
            fenced=record.fenced,
            log_dirs=tuple(record.log_dirs),
            incarnation_id=record.incarnation_id,
            security_protocols={point.name: point.security_protocol for point in record.end_points},
            features={
                feature.name: (feature.min_supported_version, feature.max_supported_version)
                for feature in record.features
            },
            in_controlled_shutdown=record.in_controlled_shutdown,
            cordoned_log_dirs=None if cordoned is None else tuple(cordoned),
        )
        self.changed_brokers.add(record.broker_id)

    def _unregister_broker(self, record: UnregisterBrokerRecord) -> None:
        self._all_brokers().pop(record.broker_id, None)
        self.changed_brokers.add(record.broker_id)

    def _change_registration(self, record: BrokerRegistrationChangeRecord) -> None:
        changes: dict[str, Any] = {}
        if record.fenced:
            changes["fenced"] = record.fenced == 1
        if record.in_controlled_shutdown:
            changes["in_controlled_shutdown"] = record.in_controlled_shutdown == 1
        if record.log_dirs:
            changes["log_dirs"] = tuple(record.log_dirs)
        if record.cordoned_log_dirs is not None:
            changes["cordoned_log_dirs"] = tuple(record.cordoned_log_dirs)
        self._change_broker(record.broker_id, record.broker_epoch, **changes)

    def _fence_broker(self, record: FenceBrokerRecord) -> None:
        self._change_broker(record.id, record.epoch, fenced=True)

    def _unfence_broker(self, record: UnfenceBrokerRecord) -> None:
        self._change_broker(record.id, record.epoch, fenced=False)

    # ----- users and their quotas

    def _set_quota(self, record: ClientQuotaRecord) -> None:
        quotas = self._client_quotas
        if quotas is None:
            quotas = self._client_quotas = dict(self.image.client_quotas)  # type: ignore[arg-type]  # values are replaced, never changed
        entity = tuple(
            sorted(((part.entity_type, part.entity_name) for part in record.entity), key=lambda part: part[0])
        )
        values = dict(quotas.pop(entity, {}))
        if record.remove:
            values.pop(record.key, None)
        else:
            values[record.key] = record.value
        if values:
            quotas[entity] = values

    def _users(self) -> dict[tuple[str, int], ScramCredential]:
        if self._scram_credentials is None:
            self._scram_credentials = dict(self.image.scram_credentials)
        return self._scram_credentials

    def _set_scram(self, record: UserScramCredentialRecord) -> None:
        self._users()[record.name, record.mechanism] = ScramCredential(
            salt=bytes(record.salt),
            stored_key=bytes(record.stored_key),
            server_key=bytes(record.server_key),
            iterations=record.iterations,
        )

    def _remove_scram(self, record: RemoveUserScramCredentialRecord) -> None:
        self._users().pop((record.name, record.mechanism), None)

    # ----- kept without being understood

    def _keep_controller(self, record: RegisterControllerRecord) -> None:
        self._keep(("controller", record.controller_id), record)

    def _keep_acl(self, record: AccessControlEntryRecord) -> None:
        self._keep(("acl", record.id), record)

    def _forget_acl(self, record: RemoveAccessControlEntryRecord) -> None:
        self._forget(("acl", record.id))

    def _keep_token(self, record: DelegationTokenRecord) -> None:
        self._keep(("token", record.token_id), record)

    def _forget_token(self, record: RemoveDelegationTokenRecord) -> None:
        self._forget(("token", record.token_id))

    def _keep_unknown(self, record: UnknownRecord) -> None:
        logger.warning(
            "unknown metadata record is kept but has no effect type=%d version=%d",
            record.record_type,
            record.version,
        )
        self._keep(("unknown", record.data), record)

    def _ignore(self, _record: Any) -> None:
        """Records that change nothing: no-ops, what is left of ZooKeeper, and transaction markers."""

    _REPLAY: ClassVar[dict[int, Callable[[MetadataDelta, Any], None]]] = {
        -1: _keep_unknown,
        0: _register_broker,
        1: _unregister_broker,
        2: _create_topic,
        3: _create_partition,
        4: _set_config,
        5: _change_partition,
        7: _fence_broker,
        8: _unfence_broker,
        9: _remove_topic,
        10: _keep_token,
        11: _set_scram,
        12: _set_feature,
        14: _set_quota,
        15: _set_next_producer_id,
        17: _change_registration,
        18: _keep_acl,
        19: _forget_acl,
        20: _ignore,
        21: _ignore,
        22: _remove_scram,
        23: _ignore,
        24: _ignore,
        25: _ignore,
        26: _forget_token,
        27: _keep_controller,
        28: _clear_elr,
    }


def changed_partition(before: Partition, record: PartitionChangeRecord) -> Partition:
    """A partition after a change."""
    elected = record.leader != _NO_LEADER_CHANGE
    return Partition(
        index=before.index,
        leader=record.leader if elected else before.leader,
        leader_epoch=before.leader_epoch + 1 if elected else before.leader_epoch,
        replicas=_changed(record.replicas, before.replicas),
        isr=_changed(record.isr, before.isr),
        partition_epoch=before.partition_epoch + 1,
        directories=_changed(record.directories, before.directories),
        adding_replicas=_changed(record.adding_replicas, before.adding_replicas),
        removing_replicas=_changed(record.removing_replicas, before.removing_replicas),
        elr=_changed(record.eligible_leader_replicas, before.elr),
        last_known_elr=_changed(record.last_known_elr, before.last_known_elr),
        recovering=before.recovering
        if record.leader_recovery_state < 0
        else record.leader_recovery_state == 1,
    )


def _changed(after: Any, before: tuple[Any, ...]) -> tuple[Any, ...]:
    return before if after is None else _shared(tuple(after))


@lru_cache(maxsize=1024)
def _shared(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """One tuple for all partitions that have the same: most clusters have few different ones."""
    return values

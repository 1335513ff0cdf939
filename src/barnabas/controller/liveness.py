"""Brokers that come, stop and vanish, and what becomes of the partitions that they lead. Pure.

The store says who is alive. `next_step` compares that with the image and gives the records for one broker at a time, so that
the effect of each is visible to the next; it is called until there is nothing left to do. What a broker says of itself comes
by heartbeats (`heartbeat`): that it has loaded its logs and wants to serve, that it wants to stop, that a disk is gone or all are full.

    registered, fenced ──heartbeat──> serving ──wants to stop──> handing over ──> fenced
                                         └────────vanishes──────────────────────────^

Source: `ClusterControlManager`, `ReplicationControlManager` and `BrokerHeartbeatManager` of Apache Kafka. One thing is
different: the only in-sync replica of a partition stays its leader while its process restarts, since nobody else could lead.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, NamedTuple

from barnabas.controller.brokers import check_registration, register_broker, unfence_broker
from barnabas.controller.partition_changes import Change
from barnabas.errors import ErrorCode, KafkaError
from barnabas.wire.messages.metadata.broker_registration_change_record import BrokerRegistrationChangeRecord
from barnabas.wire.messages.metadata.unregister_broker_record import UnregisterBrokerRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    from barnabas.controller.brokers import BrokerRegistration
    from barnabas.controller.topic_rules import TopicRules
    from barnabas.metadata.image import Broker, MetadataImage, Partition, Topic

__all__ = ["Heartbeat", "HeartbeatReply", "heartbeat", "next_step", "unregister_broker"]

logger = logging.getLogger(__name__)

_FENCED = 1
_IN_CONTROLLED_SHUTDOWN = 1


class Heartbeat(NamedTuple):
    """What a broker says (`BrokerHeartbeat`)."""

    broker_id: int
    broker_epoch: int
    metadata_offset: int
    want_fence: bool = False
    want_shut_down: bool = False
    offline_log_dirs: Collection[bytes] = ()
    """Those that failed, and those that are full if there are no others."""


class HeartbeatReply(NamedTuple):
    """What it is told."""

    is_caught_up: bool
    is_fenced: bool
    should_shut_down: bool


def next_step(
    image: MetadataImage, rules: TopicRules, live: Mapping[int, BrokerRegistration], *, next_offset: int
) -> list[Any]:
    """The records for the next broker that has vanished or come; none when the image says what the store says.

    Args:
        image: What is known.
        rules: The topics' rules.
        live: Who is alive, by the store.
        next_offset: The offset that the first of the records will have.
    """
    for broker in image.brokers.values():
        if broker.id not in live and not broker.fenced:
            return fence_broker(image, rules, broker)
    for registration in live.values():
        known = image.brokers.get(registration.broker_id)
        if known is not None and known.incarnation_id == registration.incarnation_id:
            continue
        try:
            check_registration(image, registration)
        except KafkaError as error:
            logger.warning(
                "broker is not registered broker=%d reason=%s", registration.broker_id, error.message
            )
            continue
        records = _forget_last_run(image, rules, registration) if known is not None else []
        return [*records, *register_broker(image, registration, epoch=next_offset + len(records))]
    return []


def _partitions(
    image: MetadataImage, is_meant: Callable[[Partition], bool]
) -> Iterator[tuple[Topic, Partition]]:
    for topic in image.topics.values():
        for partition in topic.partitions:
            if is_meant(partition):
                yield topic, partition


def _without(partition: Partition, broker_id: int) -> list[int]:
    return [replica for replica in partition.isr if replica != broker_id]


def _leave(
    image: MetadataImage,
    rules: TopicRules,
    broker_id: int,
    is_meant: Callable[[Partition], bool],
    *,
    without: frozenset[int] = frozenset(),
) -> list[Any]:
    """A broker is out of sync and leads no more, in these partitions."""
    records = []
    for topic, partition in _partitions(image, is_meant):
        change = Change(
            isr=_without(partition, broker_id), election=rules.election(topic.name), without=without
        )
        record = rules.change(
            topic,
            partition,
            change,
            is_active=lambda other: other != broker_id and image.is_active(other),
        )
        if record is not None:
            records.append(record)
    return records


def fence_broker(image: MetadataImage, rules: TopicRules, broker: Broker) -> list[Any]:
    """The records by which a broker serves nobody any more."""
    records = _leave(
        image,
        rules,
        broker.id,
        lambda partition: broker.id in partition.isr or broker.id == partition.leader,
    )
    return [
        *records,
        BrokerRegistrationChangeRecord(broker_id=broker.id, broker_epoch=broker.epoch, fenced=_FENCED),
    ]


def _forget_last_run(image: MetadataImage, rules: TopicRules, registration: BrokerRegistration) -> list[Any]:
    """What ends with the last run of a broker: it is out of sync wherever somebody else is in sync.

    After a run that ended in disorder it may lack records that it had, and is not eligible any more (KIP-966).
    """
    broker_id = registration.broker_id

    def is_meant(partition: Partition) -> bool:
        if broker_id not in partition.isr and broker_id != partition.leader:
            return not registration.clean and broker_id in partition.elr
        if len(partition.isr) > 1:
            return True
        return rules.has_elr and not registration.clean and len(partition.replicas) > 1

    without = frozenset() if registration.clean else frozenset((broker_id,))
    return _leave(image, rules, broker_id, is_meant, without=without)


def heartbeat(
    image: MetadataImage, rules: TopicRules, said: Heartbeat, live: Mapping[int, BrokerRegistration]
) -> tuple[list[Any], HeartbeatReply]:
    """The records that follow from what a broker says, and the answer.

    Raises:
        KafkaError: STALE_BROKER_EPOCH when the broker has registered anew since, or is not registered.
    """
    broker = check_broker_epoch(image, said.broker_id, said.broker_epoch)
    is_caught_up = said.metadata_offset >= broker.epoch
    is_fenced, should_shut_down = broker.fenced, False
    records: list[Any] = []
    if broker.fenced:
        registration = live.get(broker.id)
        if said.want_shut_down:
            should_shut_down = True
        elif (
            not said.want_fence
            and is_caught_up
            and registration is not None
            and registration.incarnation_id == broker.incarnation_id
        ):
            records = unfence_broker(image, broker.id, clean=registration.clean, rules=rules)
            is_fenced = False
    elif said.want_fence:
        records = fence_broker(image, rules, broker)
        is_fenced, should_shut_down = True, said.want_shut_down
    elif said.want_shut_down:
        leads = any(True for _ in _partitions(image, lambda partition: partition.leader == broker.id))
        if leads:
            records = _hand_over(image, rules, broker)
        else:
            records = fence_broker(image, rules, broker)
            is_fenced = should_shut_down = True
    offline = frozenset(said.offline_log_dirs) & frozenset(broker.log_dirs)
    if offline == frozenset(broker.log_dirs):
        records += _resign(image, rules, broker) if offline else []
    elif offline:
        records += _lose_directories(image, rules, broker, offline)
    return records, HeartbeatReply(is_caught_up, is_fenced, should_shut_down)


def check_broker_epoch(image: MetadataImage, broker_id: int, broker_epoch: int) -> Broker:
    """The broker, if that is its newest registration.

    Raises:
        KafkaError: STALE_BROKER_EPOCH.
    """
    broker = image.brokers.get(broker_id)
    if broker is None:
        raise KafkaError(
            ErrorCode.STALE_BROKER_EPOCH, f"No broker registration found for broker id {broker_id}"
        )
    if broker.epoch != broker_epoch:
        raise KafkaError(
            ErrorCode.STALE_BROKER_EPOCH,
            f"Expected broker epoch {broker.epoch}, but got broker epoch {broker_epoch}",
        )
    return broker


def _hand_over(image: MetadataImage, rules: TopicRules, broker: Broker) -> list[Any]:
    """Controlled shutdown: others lead what it leads."""
    records: list[Any] = []
    if not broker.in_controlled_shutdown:
        records.append(
            BrokerRegistrationChangeRecord(
                broker_id=broker.id,
                broker_epoch=broker.epoch,
                in_controlled_shutdown=_IN_CONTROLLED_SHUTDOWN,
            )
        )
    return records + _leave(
        image,
        rules,
        broker.id,
        lambda partition: broker.id in partition.isr or broker.id == partition.leader,
    )


def _lose_directories(
    image: MetadataImage, rules: TopicRules, broker: Broker, offline: frozenset[bytes]
) -> list[Any]:
    """What lies in these directories is led and kept by others; where there are none it stays as it is."""
    records = _leave(
        image,
        rules,
        broker.id,
        lambda partition: (
            broker.id in partition.isr
            and len(partition.isr) > 1
            and partition.directory_of(broker.id) in offline
        ),
    )
    left = [directory for directory in broker.log_dirs if directory not in offline]
    change = BrokerRegistrationChangeRecord(broker_id=broker.id, broker_epoch=broker.epoch, log_dirs=left)
    return [*records, change]


def _resign(image: MetadataImage, rules: TopicRules, broker: Broker) -> list[Any]:
    """A broker that cannot write lets others lead. It is as good as before once it has room, has caught up and is in sync again.

    What it follows stays as it is: the leaders notice who lags. (One whose disks have all failed ends by itself.)
    """
    return _leave(
        image,
        rules,
        broker.id,
        lambda partition: partition.leader == broker.id and len(partition.isr) > 1,
    )


def unregister_broker(image: MetadataImage, rules: TopicRules, broker_id: int) -> list[Any]:
    """The records that forget a broker that will not come back; its partitions get another leader where there is one.

    Raises:
        KafkaError: BROKER_ID_NOT_REGISTERED; INVALID_REQUEST for a broker that serves: it would go on serving nobody.
    """
    broker = image.brokers.get(broker_id)
    if broker is None:
        raise KafkaError(
            ErrorCode.BROKER_ID_NOT_REGISTERED, f"Broker ID {broker_id} is not currently registered"
        )
    if not broker.fenced:
        raise KafkaError(ErrorCode.INVALID_REQUEST, f"Broker {broker_id} is in use; stop it first.")
    records = _leave(
        image,
        rules,
        broker_id,
        lambda partition: broker_id in (*partition.isr, *partition.elr, partition.leader),
        without=frozenset((broker_id,)),
    )
    return [*records, UnregisterBrokerRecord(broker_id=broker_id, broker_epoch=broker.epoch)]

"""Creating and deleting topics: what is refused and why, and the records of what is not. Pure.

Refusals and their words: `ReplicationControlManager` and `ControllerApis` of Apache Kafka.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

from barnabas.config.topic import validate_topic_configs
from barnabas.controller.placement import place
from barnabas.errors import ErrorCode, KafkaError
from barnabas.metadata.identifiers import (
    CLUSTER_METADATA_TOPIC,
    UNASSIGNED_DIRECTORY,
    ZERO_ID,
    ResourceType,
)
from barnabas.metadata.image import Partition
from barnabas.metadata.snapshot import partition_record
from barnabas.metadata.topic_names import unify_collisions, validate_topic_name
from barnabas.wire.messages.metadata.config_record import ConfigRecord
from barnabas.wire.messages.metadata.remove_topic_record import RemoveTopicRecord
from barnabas.wire.messages.metadata.topic_record import TopicRecord
from barnabas.wire.primitives import random_uuid

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from barnabas.config.broker import BrokerConfig
    from barnabas.metadata.image import MetadataImage

__all__ = [
    "PARTITIONS_MAX",
    "CreatedTopic",
    "NewTopic",
    "create_topics",
    "delete_topics",
    "new_partition",
    "validate_assignment",
]

PARTITIONS_MAX = 10_000
"""The most partitions that one request may create, and records that it may write (Kafka's `MAX_RECORDS_PER_USER_OP`)."""

DEFAULT = -1


class NewTopic(NamedTuple):
    """A topic to create; -1 stands for the broker's default.

    `assignments` gives each partition's replicas by hand: pairs of partition and broker ids.
    """

    name: str
    partition_count: int = DEFAULT
    replication_factor: int = DEFAULT
    assignments: Sequence[tuple[int, Sequence[int]]] = ()
    configs: Mapping[str, str | None] = {}


class CreatedTopic(NamedTuple):
    """What became of a `NewTopic`: either `error`, or the rest."""

    name: str
    error: KafkaError | None = None
    topic_id: bytes = ZERO_ID
    partition_count: int = -1
    replication_factor: int = -1
    configs: Mapping[str, str] = {}


def create_topics(
    image: MetadataImage,
    config: BrokerConfig,
    topics: Sequence[NewTopic],
    *,
    chance: random.Random,
    new_id: Callable[[], bytes] = random_uuid,
) -> tuple[list[Any], list[CreatedTopic]]:
    """The records that create these topics, and one result for each name, in the order of the request.

    Raises:
        KafkaError: POLICY_VIOLATION when all of them together are too many partitions.
    """
    _limit_partitions(config, topics)
    count_by_name = Counter(topic.name for topic in topics)
    collisions = _CollidingNames(image)
    records: list[Any] = []
    results: dict[str, CreatedTopic] = {}
    for topic in topics:
        if topic.name in results:
            continue
        try:
            if count_by_name[topic.name] > 1:
                raise KafkaError(ErrorCode.INVALID_REQUEST, "Duplicate topic name.")
            created, topic_records = _create_topic(image, config, topic, collisions, chance, new_id)
        except KafkaError as error:
            results[topic.name] = CreatedTopic(topic.name, error)
        else:
            records += topic_records
            results[topic.name] = created
    return records, list(results.values())


def _limit_partitions(config: BrokerConfig, topics: Iterable[NewTopic]) -> None:
    total = 0
    for topic in topics:
        if topic.assignments:
            total += len(topic.assignments)
        else:
            count = config["num.partitions"] if topic.partition_count == DEFAULT else topic.partition_count
            total += max(0, count)
    if total > PARTITIONS_MAX:
        raise KafkaError(ErrorCode.POLICY_VIOLATION, "Excessively large number of partitions per request.")


class _CollidingNames:
    """The names that look the same as another in metrics; collected when first asked for."""

    __slots__ = ("_image", "_names")

    def __init__(self, image: MetadataImage) -> None:
        self._image = image
        self._names: dict[str, str] | None = None

    def colliding(self, name: str) -> str | None:
        if "." not in name and "_" not in name:
            return None
        if self._names is None:
            self._names = {unify_collisions(other): other for other in self._image.topics}
        return self._names.get(unify_collisions(name))


def _create_topic(
    image: MetadataImage,
    config: BrokerConfig,
    topic: NewTopic,
    collisions: _CollidingNames,
    chance: random.Random,
    new_id: Callable[[], bytes],
) -> tuple[CreatedTopic, list[Any]]:
    name = topic.name
    if name == CLUSTER_METADATA_TOPIC:
        raise KafkaError(
            ErrorCode.INVALID_REQUEST, f"Creation of internal topic {CLUSTER_METADATA_TOPIC} is prohibited."
        )
    if name in image.topics:
        raise KafkaError(ErrorCode.TOPIC_ALREADY_EXISTS, f"Topic '{name}' already exists.")
    validate_topic_name(name)
    colliding = collisions.colliding(name)
    if colliding is not None:
        raise KafkaError(
            ErrorCode.INVALID_TOPIC_EXCEPTION, f"Topic '{name}' collides with existing topic: {colliding}"
        )
    validate_topic_configs(config, topic.configs)
    settings = {key: value for key, value in topic.configs.items() if value is not None}
    partitions = _partitions(image, config, topic, chance)
    topic_id = new_id()
    records: list[Any] = [TopicRecord(name=name, topic_id=topic_id)]
    records += [
        ConfigRecord(resource_type=ResourceType.TOPIC, resource_name=name, name=key, value=value)
        for key, value in settings.items()
    ]
    records += [partition_record(topic_id, partition) for partition in partitions]
    created = CreatedTopic(
        name,
        topic_id=topic_id,
        partition_count=len(partitions),
        replication_factor=len(partitions[0].replicas),
        configs=settings,
    )
    return created, records


def _partitions(
    image: MetadataImage, config: BrokerConfig, topic: NewTopic, chance: random.Random
) -> list[Partition]:
    if topic.assignments:
        return _assigned_partitions(image, topic)
    if topic.replication_factor < DEFAULT or topic.replication_factor == 0:
        raise KafkaError(
            ErrorCode.INVALID_REPLICATION_FACTOR,
            "Replication factor must be larger than 0, or -1 to use the default value.",
        )
    if topic.partition_count < DEFAULT or topic.partition_count == 0:
        raise KafkaError(
            ErrorCode.INVALID_PARTITIONS, "Number of partitions was set to an invalid non-positive value."
        )
    count = config["num.partitions"] if topic.partition_count == DEFAULT else topic.partition_count
    factor = topic.replication_factor
    if factor == DEFAULT:
        factor = config["default.replication.factor"]
    try:
        placed = place(
            image.brokers.values(), partition_count=count, replication_factor=factor, chance=chance
        )
    except KafkaError as error:
        raise KafkaError(
            error.code, f"Unable to replicate the partition {factor} time(s): {error.message}"
        ) from None
    return [new_partition(image, index, replicas) for index, replicas in enumerate(placed)]


def _assigned_partitions(image: MetadataImage, topic: NewTopic) -> list[Partition]:
    for value, what in (
        (topic.replication_factor, "replication factor"),
        (topic.partition_count, "numPartitions"),
    ):
        if value != DEFAULT:
            raise KafkaError(
                ErrorCode.INVALID_REQUEST,
                f"A manual partition assignment was specified, but {what} was not set to -1.",
            )
    partitions: dict[int, Partition] = {}
    factor: int | None = None
    for index, replicas in topic.assignments:
        if index in partitions:
            raise KafkaError(
                ErrorCode.INVALID_REPLICA_ASSIGNMENT,
                f"Found multiple manual partition assignments for partition {index}",
            )
        validate_assignment(image, index, replicas, factor)
        factor = len(replicas)
        partitions[index] = new_partition(image, index, replicas)
    if sorted(partitions) != list(range(len(partitions))):
        raise KafkaError(
            ErrorCode.INVALID_REPLICA_ASSIGNMENT,
            "partitions should be a consecutive 0-based integer sequence",
        )
    return [partitions[index] for index in range(len(partitions))]


def validate_assignment(
    image: MetadataImage, index: int, replicas: Sequence[int], replication_factor: int | None
) -> None:
    """Refuses replicas that were chosen by hand and cannot be.

    Raises:
        KafkaError: INVALID_REPLICA_ASSIGNMENT, and why.
    """
    complaint = _assignment_complaint(image, index, replicas, replication_factor)
    if complaint:
        raise KafkaError(ErrorCode.INVALID_REPLICA_ASSIGNMENT, complaint)


def _assignment_complaint(
    image: MetadataImage, index: int, replicas: Sequence[int], replication_factor: int | None
) -> str | None:
    if not replicas:
        return "The manual partition assignment includes an empty replica list."
    seen: set[int] = set()
    for broker_id in sorted(replicas):
        if broker_id not in image.brokers:
            return f"The manual partition assignment includes broker {broker_id}, but no such broker is registered."
        if broker_id in seen:
            return f"The manual partition assignment includes the broker {broker_id} more than once."
        seen.add(broker_id)
    if replication_factor is not None and len(replicas) != replication_factor:
        return (
            f"The manual partition assignment includes a partition with {len(replicas)} replica(s), but this is not "
            f"consistent with previous partitions, which have {replication_factor} replica(s)."
        )
    if not any(image.is_active(broker_id) for broker_id in replicas):
        return (
            f"All brokers specified in the manual partition assignment for partition {index} are fenced or in "
            "controlled shutdown."
        )
    return None


def new_partition(image: MetadataImage, index: int, replicas: Sequence[int]) -> Partition:
    """A partition on these brokers, at least one of which is active: the active ones are in sync, the first leads."""
    isr = tuple(broker_id for broker_id in replicas if image.is_active(broker_id))
    return Partition(
        index=index,
        leader=isr[0],
        leader_epoch=0,
        replicas=tuple(replicas),
        isr=isr,
        directories=tuple(_directory(image, broker_id) for broker_id in replicas),
    )


def _directory(image: MetadataImage, broker_id: int) -> bytes:
    """A broker that has several directories chooses one itself; with a single one there is no choice."""
    log_dirs = image.brokers[broker_id].log_dirs
    return log_dirs[0] if len(log_dirs) == 1 else UNASSIGNED_DIRECTORY


def delete_topics(
    image: MetadataImage, topic_ids: Iterable[bytes]
) -> tuple[list[Any], dict[bytes, KafkaError | None]]:
    """The records that delete these topics, and what is wrong with each id, if anything."""
    records: list[Any] = []
    results: dict[bytes, KafkaError | None] = {}
    for topic_id in topic_ids:
        if topic_id in results:
            continue
        if image.topic_by_id(topic_id) is None:
            results[topic_id] = KafkaError(
                ErrorCode.UNKNOWN_TOPIC_ID, "This server does not host this topic ID."
            )
        else:
            results[topic_id] = None
            records.append(RemoveTopicRecord(topic_id=topic_id))
    return records, results

"""What every broker knows of the cluster: an immutable image of the metadata log up to some offset.

An image never changes once it exists; `deltas.MetadataDelta` makes the next one and shares with it whatever stayed the
same. A handler takes `broker.image` once and may rely on it until it returns, across every `await`.

Whatever Barnabas does not interpret yet (ACLs, delegation tokens, controllers, records of a newer Kafka) is kept in
`uninterpreted`, so that a snapshot loses none of it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from barnabas.metadata.identifiers import INTERNAL_TOPICS, ResourceType

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping

__all__ = ["NO_LEADER", "Broker", "MetadataImage", "Partition", "QuotaEntity", "ScramCredential", "Topic"]

NO_LEADER = -1

QuotaEntity = tuple[tuple[str, str | None], ...]
"""Whom a quota is for: pairs of type (`user`, `client-id`, `ip`) and name, sorted by type; no name means all others."""


@dataclass(frozen=True, slots=True)
class Partition:
    """Where a partition lies and who leads it.

    Attributes:
        index: Its number within the topic.
        leader: The broker that leads it, or `NO_LEADER`.
        leader_epoch: Goes up by one with every election.
        replicas: The brokers that hold it, the preferred leader first.
        isr: The replicas that are in sync, a subset of `replicas`.
        partition_epoch: Goes up by one with every change of this partition.
        directories: The id of the log directory of each replica, in the order of `replicas`.
        adding_replicas: Replicas that a reassignment is bringing in.
        removing_replicas: Replicas that a reassignment is taking away.
        elr: Replicas outside the ISR that hold everything committed (KIP-966).
        last_known_elr: What `elr` and ISR were when the last of them went.
        recovering: The leader was elected uncleanly and still repairs what that left behind.
    """

    index: int
    leader: int
    leader_epoch: int
    replicas: tuple[int, ...]
    isr: tuple[int, ...]
    partition_epoch: int = 0
    directories: tuple[bytes, ...] = ()
    adding_replicas: tuple[int, ...] = ()
    removing_replicas: tuple[int, ...] = ()
    elr: tuple[int, ...] = ()
    last_known_elr: tuple[int, ...] = ()
    recovering: bool = False

    def directory_of(self, broker_id: int) -> bytes | None:
        """The id of the log directory in which this broker keeps its replica, if it is known."""
        try:
            return self.directories[self.replicas.index(broker_id)]
        except (ValueError, IndexError):
            return None


@dataclass(slots=True)
class Topic:
    """A topic and all its partitions; partition `n` stands at `partitions[n]`. Not to be changed.

    `prebuilt` is for whoever answers from this topic again and again: it lives and dies with the topic's state, and is
    no part of it.
    """

    name: str
    id: bytes
    partitions: tuple[Partition, ...]
    prebuilt: dict[Hashable, Any] = field(default_factory=dict, compare=False, repr=False)

    @property
    def is_internal(self) -> bool:
        """Whether it belongs to the brokers themselves."""
        return self.name in INTERNAL_TOPICS


@dataclass(frozen=True, slots=True)
class Broker:
    """A registered broker.

    Attributes:
        id: Its node id.
        epoch: The offset of its registration in the metadata log; a later registration has a higher one.
        endpoints: Host and port by listener name. An empty host means that the broker advertises none: clients are
            told the address by which they reached it.
        rack: Where it stands (`broker.rack`).
        fenced: Registered, but not to be sent to clients: starting, stopping or out of contact.
        log_dirs: The ids of its log directories that work.
        incarnation_id: Another one with every start of its process.
        security_protocols: The protocol's number (0 PLAINTEXT, 1 SSL, 2 SASL_PLAINTEXT, 3 SASL_SSL) by listener name.
        features: Supported feature levels, lowest and highest, by feature.
        in_controlled_shutdown: It is handing over its partitions.
        cordoned_log_dirs: Directories that take no new partitions, or `None` where it never said.
    """

    id: int
    epoch: int
    endpoints: Mapping[str, tuple[str, int]]
    rack: str | None = None
    fenced: bool = False
    log_dirs: tuple[bytes, ...] = ()
    incarnation_id: bytes = bytes(16)
    security_protocols: Mapping[str, int] = field(default_factory=dict)
    features: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    in_controlled_shutdown: bool = False
    cordoned_log_dirs: tuple[bytes, ...] | None = None

    @property
    def is_active(self) -> bool:
        """Whether new partitions may be led by it."""
        return not self.fenced and not self.in_controlled_shutdown


@dataclass(frozen=True, slots=True)
class ScramCredential:
    """What a broker keeps of a user's password (RFC 5802); it is no way back to it."""

    salt: bytes
    stored_key: bytes
    server_key: bytes
    iterations: int

    def __repr__(self) -> str:
        return "<ScramCredential>"


@dataclass(frozen=True, slots=True)
class MetadataImage:
    """The cluster after the record at `offset` of the metadata log.

    Attributes:
        cluster_id: The cluster's id, 22 characters of URL-safe base64.
        offset: The last record that is in the image; -1 before the first.
        epoch: The controller's epoch in which that record was written.
        controller_id: The node that writes the log, or -1 while there is none.
        features: Finalized feature levels (`metadata.version`, `group.version`, ...); 0 for one that was turned off.
        brokers: Registered brokers by id, fenced ones included.
        topics: Topics by name.
        topics_by_id: The same topics by id.
        configs: Settings by resource: `configs[ResourceType.TOPIC, "orders"]["retention.ms"]`.
        client_quotas: Quotas by whom they are for, and by their key (`producer_byte_rate`, ...).
        scram_credentials: By user and number of the mechanism (1 SCRAM-SHA-256, 2 SCRAM-SHA-512).
        next_producer_id: The first producer id that no broker was given yet.
        uninterpreted: Records that are kept but not understood, by what they are about.
        prebuilt: For whoever answers from the whole image again and again: it lives and dies with the image, and is no
            part of it.
    """

    cluster_id: str
    offset: int = -1
    epoch: int = 0
    controller_id: int = -1
    features: Mapping[str, int] = field(default_factory=dict)
    brokers: Mapping[int, Broker] = field(default_factory=dict)
    topics: Mapping[str, Topic] = field(default_factory=dict)
    topics_by_id: Mapping[bytes, Topic] = field(default_factory=dict)
    configs: Mapping[tuple[int, str], Mapping[str, str]] = field(default_factory=dict)
    client_quotas: Mapping[QuotaEntity, Mapping[str, float]] = field(default_factory=dict)
    scram_credentials: Mapping[tuple[str, int], ScramCredential] = field(default_factory=dict)
    next_producer_id: int = 0
    uninterpreted: Mapping[tuple[Hashable, ...], Any] = field(default_factory=dict)
    prebuilt: dict[Hashable, Any] = field(default_factory=dict, init=False, compare=False, repr=False)

    def topic_by_id(self, topic_id: bytes) -> Topic | None:
        """The topic that has this id, if there is one."""
        return self.topics_by_id.get(topic_id)

    def partition(self, topic: str, index: int) -> Partition | None:
        """One partition, if topic and partition exist."""
        found = self.topics.get(topic)
        if found is None or not 0 <= index < len(found.partitions):
            return None
        return found.partitions[index]

    def config(self, resource_type: int, name: str) -> Mapping[str, str]:
        """The settings of one resource; empty when it has none."""
        return self.configs.get((resource_type, name), {})

    def topic_config(self, name: str) -> Mapping[str, str]:
        """The settings of one topic; empty when it has none."""
        return self.configs.get((ResourceType.TOPIC, name), {})

    def is_active(self, broker_id: int) -> bool:
        """Whether a broker is registered, not fenced and not shutting down."""
        broker = self.brokers.get(broker_id)
        return broker is not None and broker.is_active

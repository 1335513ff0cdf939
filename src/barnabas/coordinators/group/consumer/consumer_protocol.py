"""What consumers of the classic protocol say to each other, which the broker has to understand once it assigns for them.

Subscriptions and assignments begin with their version. An assignor of a client's own may put data of its own into an
assignment; that would be lost, so it is told.

Source: Kafka's `ConsumerProtocol`.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

from barnabas.errors import DecodeError
from barnabas.wire.messages.client.consumer_protocol_assignment import ConsumerProtocolAssignment
from barnabas.wire.messages.client.consumer_protocol_subscription import ConsumerProtocolSubscription

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from barnabas.coordinators.group.consumer.topics import TopicCatalog

__all__ = ["ClassicSubscription", "decode_assignment", "decode_subscription", "encode_assignment"]

_INT16 = struct.Struct(">h")


class ClassicSubscription(NamedTuple):
    """A member's protocol metadata.

    Attributes:
        topics: What it subscribes to.
        owned: What it says that it owns, by topic id; topics that do not exist are left out.
        rack_id: Where it runs, if it says so.
    """

    topics: frozenset[str]
    owned: Mapping[bytes, frozenset[int]]
    rack_id: str | None


def decode_subscription(metadata: bytes, topics: TopicCatalog) -> ClassicSubscription:
    """What a member says; DecodeError if it does not parse."""
    version = _version(metadata, ConsumerProtocolSubscription.MAX_VERSION)
    subscription = ConsumerProtocolSubscription.decode(metadata, version, _INT16.size)
    return ClassicSubscription(
        frozenset(subscription.topics),
        _by_id([(each.topic, each.partitions) for each in subscription.owned_partitions], topics),
        subscription.rack_id or None,
    )


def decode_assignment(assignment: bytes, topics: TopicCatalog) -> tuple[dict[bytes, frozenset[int]], bool]:
    """What a member was given by its leader, and whether that came with data of an assignor's own; DecodeError if it does not parse."""
    if not assignment:
        return {}, False
    version = _version(assignment, ConsumerProtocolAssignment.MAX_VERSION)
    decoded = ConsumerProtocolAssignment.decode(assignment, version, _INT16.size)
    given = _by_id([(each.topic, each.partitions) for each in decoded.assigned_partitions], topics)
    return given, bool(decoded.user_data)


def encode_assignment(
    assignment: Mapping[bytes, Iterable[int]], metadata: bytes, topics: TopicCatalog
) -> bytes:
    """An assignment in the version in which the member's metadata came; topics that are gone are left out."""
    version = _version(metadata, ConsumerProtocolAssignment.MAX_VERSION)
    partitions = []
    for topic_id, indexes in assignment.items():
        name = topics.name_of(topic_id)
        if name is not None:
            partitions.append(
                ConsumerProtocolAssignment.TopicPartition(topic=name, partitions=sorted(indexes))
            )
    partitions.sort(key=lambda each: each.topic)
    message = ConsumerProtocolAssignment(assigned_partitions=partitions, user_data=None)
    return _INT16.pack(version) + message.encode(version)


def _version(data: bytes, highest: int) -> int:
    """The version in front; a later one than we know begins like those that we know."""
    if len(data) < _INT16.size:
        raise DecodeError(f"{len(data)} bytes of a consumer's protocol have no version")
    (version,) = _INT16.unpack_from(data)
    if version < 0:
        raise DecodeError(f"a consumer's protocol has version {version}")
    return min(int(version), highest)


def _by_id(
    partitions: Iterable[tuple[str, Iterable[int]]], topics: TopicCatalog
) -> dict[bytes, frozenset[int]]:
    found: dict[bytes, frozenset[int]] = {}
    for name, indexes in partitions:
        topic_id = topics.id_of(name)
        if topic_id is not None:
            found[topic_id] = found.get(topic_id, frozenset()).union(indexes)
    return found

"""Who leads instead, for the answers NOT_LEADER_OR_FOLLOWER and FENCED_LEADER_EPOCH of Produce and Fetch (KIP-951).

A client that is told the new leader and its address goes there at once, without asking for metadata first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from barnabas.errors import ErrorCode
from barnabas.handlers.addresses import address_by_id

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from barnabas.handlers.services import BrokerServices, RequestContext

__all__ = ["MOVED", "CurrentLeader", "Node", "current_leader", "nodes_of"]

MOVED = frozenset((ErrorCode.NOT_LEADER_OR_FOLLOWER, ErrorCode.FENCED_LEADER_EPOCH))

_UNKNOWN = -1


class CurrentLeader(NamedTuple):
    """Node id, -1 while there is none, and leader epoch."""

    leader_id: int
    leader_epoch: int


class Node(NamedTuple):
    """Where a leader is reached from the listener on which the client came."""

    node_id: int
    host: str
    port: int
    rack: str | None


def current_leader(broker: BrokerServices, topic: str, topic_id: bytes, index: int) -> CurrentLeader:
    """The leader of a partition as this broker knows it; the topic by name, or by id where there is no name."""
    image = broker.image
    found = image.topics.get(topic) if topic else image.topic_by_id(topic_id)
    if found is None or not 0 <= index < len(found.partitions):
        return CurrentLeader(_UNKNOWN, _UNKNOWN)
    partition = found.partitions[index]
    return CurrentLeader(partition.leader, partition.leader_epoch)


def nodes_of(broker: BrokerServices, context: RequestContext, leader_ids: Iterable[int]) -> Iterator[Node]:
    """Where these leaders are, each once; who has no such listener is left out."""
    brokers = broker.image.brokers
    for node_id in dict.fromkeys(leader_ids):
        address = address_by_id(brokers, node_id, context.connection)
        if address is not None:
            yield Node(node_id, *address, brokers[node_id].rack)

"""ListPartitionReassignments (46), version 0: the moves of replicas that are under way (KIP-455).

Behaviour: null topics mean all. What is not on its way anywhere, or not there at all, is left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from barnabas.controller.reassignments import is_reassigned
from barnabas.wire.messages.list_partition_reassignments import (
    ListPartitionReassignmentsRequest,
    ListPartitionReassignmentsResponse,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from barnabas.handlers.services import BrokerServices, RequestContext

__all__ = ["API_KEY", "handle"]

API_KEY = 46

_Topic = ListPartitionReassignmentsResponse.OngoingTopicReassignment
_Partition = ListPartitionReassignmentsResponse.OngoingPartitionReassignment


def handle(
    broker: BrokerServices, _context: RequestContext, request: ListPartitionReassignmentsRequest
) -> ListPartitionReassignmentsResponse:
    """Answers at once."""
    image = broker.image
    wanted: Iterable[tuple[str, Iterable[int]]]
    if request.topics is None:
        wanted = [(topic.name, range(len(topic.partitions))) for topic in image.topics.values()]
    else:
        wanted = [(topic.name, topic.partition_indexes) for topic in request.topics]
    response = ListPartitionReassignmentsResponse(error_message=None)
    for name, indexes in wanted:
        partitions = [image.partition(name, index) for index in indexes]
        moving = [
            _Partition(
                partition_index=partition.index,
                replicas=list(partition.replicas),
                adding_replicas=list(partition.adding_replicas),
                removing_replicas=list(partition.removing_replicas),
            )
            for partition in partitions
            if partition is not None and is_reassigned(partition)
        ]
        if moving:
            response.topics.append(_Topic(name=name, partitions=moving))
    return response

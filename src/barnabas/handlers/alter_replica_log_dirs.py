"""AlterReplicaLogDirs (34), versions 0-2: move replicas to other log directories of this broker (KIP-113).

    1   throttle time      2   flexible

Behaviour: answers when the moves are begun; DescribeLogDirs shows how far they are. Directories are named as it names them. A
replica that is there already is left alone, and a move to another directory that is under way is given up.

Deliberately not done: remembering a directory for a replica that is still to come.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from barnabas.errors import KafkaError
from barnabas.wire.messages.alter_replica_log_dirs import (
    AlterReplicaLogDirsRequest,
    AlterReplicaLogDirsResponse,
)

if TYPE_CHECKING:
    from barnabas.handlers.services import BrokerServices, RequestContext

__all__ = ["API_KEY", "handle"]

API_KEY = 34

_Topic = AlterReplicaLogDirsResponse.AlterReplicaLogDirTopicResult
_Partition = AlterReplicaLogDirsResponse.AlterReplicaLogDirPartitionResult


def handle(
    broker: BrokerServices, context: RequestContext, request: AlterReplicaLogDirsRequest
) -> AlterReplicaLogDirsResponse:
    """Begins the moves, and answers at once."""
    # A partition that is named twice goes to the later directory.
    wanted = {
        (topic.name, index): directory.path
        for directory in request.dirs
        for topic in directory.topics
        for index in topic.partitions
    }
    topics: dict[str, AlterReplicaLogDirsResponse.AlterReplicaLogDirTopicResult] = {}
    for (name, index), path in wanted.items():
        result = _Partition(partition_index=index)
        try:
            broker.directory_moves.request(name, index, path)
        except KafkaError as error:
            broker.log_refusal(context, f"{name}-{index}", error)
            result.error_code = error.code
        topics.setdefault(name, _Topic(topic_name=name)).partitions.append(result)
    return AlterReplicaLogDirsResponse(results=list(topics.values()))

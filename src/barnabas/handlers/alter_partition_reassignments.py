"""AlterPartitionReassignments (45), versions 0-1: move replicas to other brokers, or call that off (KIP-455).

    1   whether the number of replicas may change (KIP-860)

Behaviour: each partition is judged for itself, as Kafka does it. What only takes away or reorders replicas is done at once. The
answer comes when the move is begun; a time-out of 0 or less is over before that (REQUEST_TIMED_OUT).

Deliberately not done yet: copying to a new replica. On one broker there is nowhere to move to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from barnabas.controller.reassignments import Reassignment
from barnabas.errors import ErrorCode, KafkaError
from barnabas.handlers.replies import after, codes
from barnabas.wire.messages.alter_partition_reassignments import (
    AlterPartitionReassignmentsRequest,
    AlterPartitionReassignmentsResponse,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence

    from barnabas.handlers.services import BrokerServices, RequestContext

__all__ = ["API_KEY", "handle"]

API_KEY = 45

_Topic = AlterPartitionReassignmentsResponse.ReassignableTopicResponse
_Partition = AlterPartitionReassignmentsResponse.ReassignablePartitionResponse


def handle(
    broker: BrokerServices, context: RequestContext, request: AlterPartitionReassignmentsRequest
) -> AlterPartitionReassignmentsResponse | Awaitable[AlterPartitionReassignmentsResponse]:
    """Answers once all moves that can be begun are."""
    moves = [
        Reassignment(topic.name, partition.partition_index, partition.replicas)
        for topic in request.topics
        for partition in topic.partitions
    ]

    def answer(results: Sequence[KafkaError | None] | KafkaError) -> AlterPartitionReassignmentsResponse:
        response = AlterPartitionReassignmentsResponse(error_message=None)
        if isinstance(results, KafkaError):
            response.error_code, response.error_message = codes(results)
            results = [results] * len(moves)
        else:
            response.allow_replication_factor_change = request.allow_replication_factor_change
        errors = iter(results)
        for topic in request.topics:
            response.responses.append(_Topic(name=topic.name))
            for partition in topic.partitions:
                error = next(errors)
                if error is not None:
                    broker.log_refusal(context, f"{topic.name}-{partition.partition_index}", error)
                code, message = codes(error)
                response.responses[-1].partitions.append(
                    _Partition(
                        partition_index=partition.partition_index, error_code=code, error_message=message
                    )
                )
        return response

    if not request.topics:
        return AlterPartitionReassignmentsResponse(error_message="")
    if request.timeout_ms <= 0:
        return answer(KafkaError(ErrorCode.REQUEST_TIMED_OUT))
    return after(
        broker,
        lambda: broker.controller.alter_partition_reassignments(
            moves, allow_replication_factor_change=request.allow_replication_factor_change
        ),
        answer,
    )

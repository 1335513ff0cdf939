"""AlterPartition (56), versions 2-3: a leader proposes who is in sync with it. Between brokers only.

    2   topic ids (KIP-841)          3   the epochs of the brokers that are to be in sync (KIP-903)

Behaviour: each partition is judged for itself; what is accepted is answered once it is in the log, with the partition's new
state. NEW_LEADER_ELECTED where that ended a reassignment that took the leader away.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from barnabas.controller.in_sync_replicas import ANY_EPOCH, Proposal
from barnabas.errors import KafkaError
from barnabas.handlers.replies import after
from barnabas.wire.messages.alter_partition import AlterPartitionRequest, AlterPartitionResponse

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from barnabas.controller.in_sync_replicas import Outcome
    from barnabas.handlers.services import BrokerServices, RequestContext

__all__ = ["API_KEY", "handle"]

API_KEY = 56

_RECOVERING = 1

_Topic = AlterPartitionResponse.TopicData
_Partition = AlterPartitionResponse.PartitionData


def handle(
    broker: BrokerServices, context: RequestContext, request: AlterPartitionRequest
) -> Awaitable[AlterPartitionResponse]:
    """Answers once everything that was accepted is in the log."""
    has_epochs = context.api_version >= 3
    proposals = [
        Proposal(
            topic_id=topic.topic_id,
            partition_index=partition.partition_index,
            leader_epoch=partition.leader_epoch,
            partition_epoch=partition.partition_epoch,
            isr=[(each.broker_id, each.broker_epoch) for each in partition.new_isr_with_epochs]
            if has_epochs
            else [(replica, ANY_EPOCH) for replica in partition.new_isr],
            is_recovering=partition.leader_recovery_state == _RECOVERING,
        )
        for topic in request.topics
        for partition in topic.partitions
    ]

    def answer(outcomes: list[Outcome] | KafkaError) -> AlterPartitionResponse:
        if isinstance(outcomes, KafkaError):
            return AlterPartitionResponse(error_code=outcomes.code)
        results = iter(outcomes)
        return AlterPartitionResponse(
            topics=[
                _Topic(
                    topic_id=topic.topic_id,
                    partitions=[
                        _result(partition.partition_index, next(results)) for partition in topic.partitions
                    ],
                )
                for topic in request.topics
            ]
        )

    return after(
        broker,
        lambda: broker.controller.alter_in_sync_replicas(request.broker_id, request.broker_epoch, proposals),
        answer,
    )


def _result(index: int, outcome: Outcome) -> AlterPartitionResponse.PartitionData:
    partition = outcome.partition
    if partition is None:
        return _Partition(partition_index=index, error_code=outcome.error)
    return _Partition(
        partition_index=index,
        leader_id=partition.leader,
        leader_epoch=partition.leader_epoch,
        isr=list(partition.isr),
        leader_recovery_state=int(partition.recovering),
        partition_epoch=partition.partition_epoch,
    )

"""TxnOffsetCommit: the group coordinator and the transaction coordinator together.

The partition of `__consumer_offsets` that holds the group belongs to the transaction as any other partition does. Once that is
certain, the offsets are written there on the producer's behalf; the transaction's end marker makes them count (KIP-98, KIP-447).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from barnabas.coordinators.shard_batches import TransactionalWriter
from barnabas.coordinators.transaction.initialize import ProducerIdentity
from barnabas.coordinators.transaction_verifier import Enlistment
from barnabas.errors import ErrorCode, KafkaError
from barnabas.metadata.identifiers import CONSUMER_OFFSETS_TOPIC

if TYPE_CHECKING:
    from barnabas.coordinators.group_coordinator import GroupCoordinator
    from barnabas.coordinators.transaction.transaction import TopicPartition
    from barnabas.coordinators.transaction_verifier import TransactionVerifier
    from barnabas.wire.messages.txn_offset_commit import TxnOffsetCommitRequest, TxnOffsetCommitResponse

__all__ = ["TransactionalOffsets"]


class TransactionalOffsets:
    """See the module."""

    __slots__ = ("_groups", "_loop", "_verifier")

    def __init__(
        self, groups: GroupCoordinator, verifier: TransactionVerifier, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._groups = groups
        self._verifier = verifier
        self._loop = loop

    def commit(
        self, request: TxnOffsetCommitRequest, version: int
    ) -> TxnOffsetCommitResponse | asyncio.Future[TxnOffsetCommitResponse]:
        """Commits offsets of partitions that exist.

        Raises:
            KafkaError: INVALID_GROUP_ID, what `GroupCoordinator.commit_transactional_offsets` raises, and what the transaction's
                coordinator refuses with.
        """
        producer = ProducerIdentity(request.producer_id, request.producer_epoch)
        enlistment = Enlistment.of_offset_commit(version)
        guard = None
        if self._verifier.is_needed(enlistment) and request.transactional_id:
            guard = self._groups.begin_verification(
                request.group_id, producer, supports_epoch_bump=enlistment.supports_epoch_bump
            )
        writer = TransactionalWriter(*producer, guard)
        if guard is None:
            return self._groups.commit_transactional_offsets(request, version, writer)
        partition = (CONSUMER_OFFSETS_TOPIC, self._groups.runtime.partition_for(request.group_id))
        refusals = self._verifier.enlist(request.transactional_id, producer, [partition], enlistment)
        if isinstance(refusals, asyncio.Future):
            return self._loop.create_task(
                self._later(refusals, partition, request, version, writer),
                name=f"offsets in a transaction of {request.transactional_id}",
            )
        _check(refusals, partition)
        return self._groups.commit_transactional_offsets(request, version, writer)

    async def _later(
        self,
        refusals: asyncio.Future[dict[TopicPartition, ErrorCode]],
        partition: TopicPartition,
        request: TxnOffsetCommitRequest,
        version: int,
        writer: TransactionalWriter,
    ) -> TxnOffsetCommitResponse:
        _check(await refusals, partition)
        response = self._groups.commit_transactional_offsets(request, version, writer)
        return await response if isinstance(response, asyncio.Future) else response


def _check(refusals: dict[TopicPartition, ErrorCode], partition: TopicPartition) -> None:
    code = refusals.get(partition)
    if code is None:
        return
    if code is ErrorCode.NETWORK_EXCEPTION:
        code = ErrorCode.COORDINATOR_LOAD_IN_PROGRESS  # older clients do not know the other here
    raise KafkaError(code, "the group's partition is not known to belong to the transaction")

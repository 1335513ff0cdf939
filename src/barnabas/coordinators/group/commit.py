"""OffsetCommit, OffsetFetch and OffsetDelete: who may commit, and what is answered.

A consumer that assigns partitions itself commits without member id and generation (-1). It may do so while the group has no
members; a group that exists for nothing else is called simple.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from barnabas.coordinators.group.consumer.commit import check_consumer_commit, check_consumer_fetch
from barnabas.coordinators.group.consumer.group import ConsumerGroup
from barnabas.coordinators.group.offsets import CommittedOffset
from barnabas.coordinators.group.records import OffsetRecordWriter, offset_tombstone
from barnabas.coordinators.group.state import GroupState
from barnabas.errors import ErrorCode, KafkaError
from barnabas.wire.messages.offset_commit import OffsetCommitRequest, OffsetCommitResponse
from barnabas.wire.messages.offset_delete import OffsetDeleteRequest, OffsetDeleteResponse
from barnabas.wire.messages.offset_fetch import OffsetFetchRequest, OffsetFetchResponse
from barnabas.wire.messages.txn_offset_commit import TxnOffsetCommitRequest, TxnOffsetCommitResponse

if TYPE_CHECKING:
    from collections.abc import Callable

    from barnabas.coordinators.group.group import ClassicGroup
    from barnabas.coordinators.group.offsets import Offsets
    from barnabas.coordinators.group.settings import GroupSettings
    from barnabas.coordinators.shard import CoordinatorRecord

__all__ = [
    "check_commit",
    "check_fetch",
    "check_transactional_commit",
    "commit_offsets",
    "commit_transactional_offsets",
    "delete_group_offsets",
    "delete_offsets",
    "fetch_offsets",
]

_GROUP_ID_NOT_FOUND_FROM = 9
_DEFAULT_RETENTION = -1
_DEFAULT_TIMESTAMP = -1
_INVALID_OFFSET = -1
_LONG_MAX = 2**63 - 1

_CommitResponseTopic = OffsetCommitResponse.OffsetCommitResponseTopic
_CommitResponsePartition = OffsetCommitResponse.OffsetCommitResponsePartition
_FetchedTopic = OffsetFetchResponse.OffsetFetchResponseTopics
_FetchedPartition = OffsetFetchResponse.OffsetFetchResponsePartitions


# ----- committing


def check_commit(
    group: ClassicGroup | ConsumerGroup | None, request: OffsetCommitRequest, version: int, now_ms: float
) -> Callable[[bytes, int], None] | None:
    """Whether the commit may go ahead; gives what each partition (topic id, index) is to be checked with, if anything.

    A commit of a classic group's member is a sign of life.

    Raises:
        KafkaError: UNKNOWN_MEMBER_ID, ILLEGAL_GENERATION, FENCED_INSTANCE_ID, REBALANCE_IN_PROGRESS, or GROUP_ID_NOT_FOUND from
            version 9 on; and those of `check_consumer_commit`.
    """
    generation_id = request.generation_id_or_member_epoch
    if isinstance(group, ConsumerGroup):
        return check_consumer_commit(
            group, request.member_id, request.group_instance_id, generation_id, version
        )
    _check_classic_commit(group, request, version, now_ms)
    return None


def _check_classic_commit(
    group: ClassicGroup | None, request: OffsetCommitRequest, version: int, now_ms: float
) -> None:
    generation_id = request.generation_id_or_member_epoch
    if group is None:
        if generation_id < 0:
            return
        raise KafkaError(
            ErrorCode.GROUP_ID_NOT_FOUND
            if version >= _GROUP_ID_NOT_FOUND_FROM
            else ErrorCode.ILLEGAL_GENERATION
        )
    state = group.state
    if generation_id < 0 and state is GroupState.EMPTY:
        return
    if generation_id < 0 and not request.member_id and request.group_instance_id is None:
        # Only an empty group takes commits of somebody who is no member.
        raise KafkaError(ErrorCode.UNKNOWN_MEMBER_ID)
    member = group.check_member(request.member_id, request.group_instance_id, "commit offsets")
    if generation_id != group.generation_id:
        raise KafkaError(ErrorCode.ILLEGAL_GENERATION)
    if state is GroupState.COMPLETING_REBALANCE:
        # The member knows the generation and not yet its assignment: what it commits is from the one before.
        raise KafkaError(ErrorCode.REBALANCE_IN_PROGRESS)
    group.touch(member, now_ms)


def check_transactional_commit(
    group: ClassicGroup | ConsumerGroup | None,
    request: TxnOffsetCommitRequest,
    id_of: Callable[[str], bytes | None],
) -> None:
    """Whether a producer may commit on behalf of a group, or of one of its members (KIP-447).

    A rebalance does not stop it, as it would stop a member: its transaction may have to end before the rebalance can. `id_of`
    gives the id of a topic, None if it does not exist.

    Raises:
        KafkaError: UNKNOWN_MEMBER_ID, ILLEGAL_GENERATION, FENCED_INSTANCE_ID.
    """
    if isinstance(group, ConsumerGroup):
        _check_transaction_of_consumer_group(group, request, id_of)
        return
    generation_id = request.generation_id
    if group is None:
        if generation_id >= 0:
            raise KafkaError(ErrorCode.ILLEGAL_GENERATION)
        return
    if generation_id < 0 and group.state is GroupState.EMPTY:
        return
    if generation_id >= 0 or request.member_id or request.group_instance_id is not None:
        group.check_member(request.member_id, request.group_instance_id, "commit offsets in a transaction")
        if generation_id != group.generation_id:
            raise KafkaError(ErrorCode.ILLEGAL_GENERATION)


def _check_transaction_of_consumer_group(
    group: ConsumerGroup, request: TxnOffsetCommitRequest, id_of: Callable[[str], bytes | None]
) -> None:
    try:
        check_partition = check_consumer_commit(
            group, request.member_id, request.group_instance_id, request.generation_id, None
        )
        if check_partition is None:
            return
        for topic in request.topics:
            topic_id = id_of(topic.name)
            if topic_id is None:
                raise KafkaError(ErrorCode.ILLEGAL_GENERATION)
            for partition in topic.partitions:
                check_partition(topic_id, partition.partition_index)
    except KafkaError as error:
        if error.code is ErrorCode.STALE_MEMBER_EPOCH:
            # Producers know generations alone.
            raise KafkaError(ErrorCode.ILLEGAL_GENERATION) from None
        raise


def commit_transactional_offsets(
    request: TxnOffsetCommitRequest, settings: GroupSettings, now_ms: int
) -> tuple[TxnOffsetCommitResponse, list[CoordinatorRecord]]:
    """The answer, and the records of all partitions whose metadata is not too long."""
    records: list[CoordinatorRecord] = []
    topics = []
    for topic in request.topics:
        writer = OffsetRecordWriter(request.group_id, topic.name)
        partitions = []
        for partition in topic.partitions:
            index = partition.partition_index
            metadata = partition.committed_metadata or ""
            error = ErrorCode.NONE
            if len(metadata) > settings.offset_metadata_max_bytes:
                error = ErrorCode.OFFSET_METADATA_TOO_LARGE
            else:
                offset = CommittedOffset(
                    partition.committed_offset, partition.committed_leader_epoch, metadata, now_ms
                )
                records.append(writer.record(index, offset))
            partitions.append(
                TxnOffsetCommitResponse.TxnOffsetCommitResponsePartition(
                    partition_index=index, error_code=error
                )
            )
        topics.append(
            TxnOffsetCommitResponse.TxnOffsetCommitResponseTopic(name=topic.name, partitions=partitions)
        )
    return TxnOffsetCommitResponse(topics=topics), records


def commit_offsets(
    request: OffsetCommitRequest,
    settings: GroupSettings,
    now_ms: int,
    check_partition: Callable[[bytes, int], None] | None = None,
) -> tuple[OffsetCommitResponse, list[CoordinatorRecord]]:
    """The answer, and the records of all partitions whose metadata is not too long; raises what `check_partition` does."""
    group_id = request.group_id
    metadata_max_length = settings.offset_metadata_max_bytes
    retention_ms = request.retention_time_ms
    expire_ms = None if retention_ms == _DEFAULT_RETENTION else min(now_ms + retention_ms, _LONG_MAX)
    records: list[CoordinatorRecord] = []
    topics = []
    for topic in request.topics:
        name = topic.name
        topic_id = topic.topic_id
        writer = OffsetRecordWriter(group_id, name)
        partitions = []
        for partition in topic.partitions:
            index = partition.partition_index
            metadata = partition.committed_metadata or ""
            error = ErrorCode.NONE
            if len(metadata) > metadata_max_length:
                error = ErrorCode.OFFSET_METADATA_TOO_LARGE
            else:
                if check_partition is not None:
                    check_partition(topic_id, index)
                timestamp_ms = partition.commit_timestamp
                offset = CommittedOffset(
                    partition.committed_offset,
                    partition.committed_leader_epoch,
                    metadata,
                    now_ms if timestamp_ms == _DEFAULT_TIMESTAMP else timestamp_ms,
                    expire_ms,
                    topic_id,
                )
                records.append(writer.record(index, offset))
            partitions.append(_CommitResponsePartition(partition_index=index, error_code=error))
        topics.append(_CommitResponseTopic(name=name, topic_id=topic_id, partitions=partitions))
    return OffsetCommitResponse(topics=topics), records


# ----- fetching


def check_fetch(
    group: ClassicGroup | ConsumerGroup | None, request: OffsetFetchRequest.OffsetFetchRequestGroup
) -> None:
    """Whether the offsets may be fetched: members of a consumer group must be up to date.

    Raises:
        KafkaError: as `check_consumer_fetch`.
    """
    if isinstance(group, ConsumerGroup):
        check_consumer_fetch(group, request.member_id, request.member_epoch)


def fetch_offsets(
    offsets: Offsets, request: OffsetFetchRequest.OffsetFetchRequestGroup, *, require_stable: bool
) -> OffsetFetchResponse.OffsetFetchResponseGroup:
    """What a group has committed for these topics, or for all (`topics` is None); -1 for what it has not.

    With `require_stable`, offsets that an open transaction may move are UNSTABLE_OFFSET_COMMIT (KIP-447).
    """
    group_id = request.group_id
    stable_only = require_stable and offsets.has_open_transactions(group_id)
    committed = offsets.committed.of_group(group_id)
    topics = []
    if request.topics is None:
        for name, partitions in committed.items():
            answers = []
            for index, offset in partitions.items():
                unstable = stable_only and offsets.is_pending(group_id, name, index)
                answers.append(_unstable(index) if unstable else _fetched(index, offset))
            topics.append(_FetchedTopic(name=name, partitions=answers))
    else:
        for topic in request.topics:
            known = committed.get(topic.name, {})
            answers = []
            for index in topic.partition_indexes:
                found = known.get(index)
                if stable_only and offsets.is_pending(group_id, topic.name, index):
                    answers.append(_unstable(index))
                elif found is None or not found.is_for(topic.topic_id):
                    answers.append(_not_committed(index))
                else:
                    answers.append(_fetched(index, found))
            topics.append(_FetchedTopic(name=topic.name, topic_id=topic.topic_id, partitions=answers))
    return OffsetFetchResponse.OffsetFetchResponseGroup(group_id=group_id, topics=topics)


def _fetched(index: int, offset: CommittedOffset) -> _FetchedPartition:
    return _FetchedPartition(
        partition_index=index,
        committed_offset=offset.offset,
        committed_leader_epoch=offset.leader_epoch,
        metadata=offset.metadata,
    )


def _not_committed(index: int) -> _FetchedPartition:
    return _FetchedPartition(partition_index=index, committed_offset=_INVALID_OFFSET, metadata="")


def _unstable(index: int) -> _FetchedPartition:
    return _FetchedPartition(
        partition_index=index,
        committed_offset=_INVALID_OFFSET,
        metadata="",
        error_code=ErrorCode.UNSTABLE_OFFSET_COMMIT,
    )


# ----- deleting


def delete_offsets(
    group: ClassicGroup | ConsumerGroup, offsets: Offsets, request: OffsetDeleteRequest
) -> tuple[OffsetDeleteResponse, list[CoordinatorRecord]]:
    """Removes offsets of topics that the group does not subscribe to.

    Raises:
        KafkaError: NON_EMPTY_GROUP if the group is alive and its subscriptions can not be known.
    """
    if (
        not isinstance(group, ConsumerGroup)
        and group.state is not GroupState.EMPTY
        and not group.uses_consumer_protocol
    ):
        raise KafkaError(ErrorCode.NON_EMPTY_GROUP)
    group_id = request.group_id
    records: list[CoordinatorRecord] = []
    topics = []
    for topic in request.topics:
        in_use = group.is_subscribed_to(topic.name)
        partitions = []
        for partition in topic.partitions:
            index = partition.partition_index
            error = ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC if in_use else ErrorCode.NONE
            partitions.append(
                OffsetDeleteResponse.OffsetDeleteResponsePartition(partition_index=index, error_code=error)
            )
            if not in_use and (
                offsets.committed.get(group_id, topic.name, index) is not None
                or offsets.is_pending(group_id, topic.name, index)
            ):
                records.append(offset_tombstone(group_id, topic.name, index))
        topics.append(OffsetDeleteResponse.OffsetDeleteResponseTopic(name=topic.name, partitions=partitions))
    return OffsetDeleteResponse(topics=topics), records


def delete_group_offsets(offsets: Offsets, group_id: str) -> list[CoordinatorRecord]:
    """Tombstones for everything that a group has committed, within transactions or not."""
    committed = [
        (topic, partition)
        for topic, partitions in offsets.committed.of_group(group_id).items()
        for partition in partitions
    ]
    partitions = dict.fromkeys([*committed, *offsets.pending_partitions(group_id)])
    return [offset_tombstone(group_id, topic, partition) for topic, partition in partitions]

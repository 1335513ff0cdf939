"""The group coordinator: what handlers ask about groups and offsets.

It finds the shard, runs the state machine on it and turns parked requests into futures. Refusals are KafkaError, raised or in
the future; the handlers know the shape of each API's error answer. Who may do what is checked before (security).

Wiring, by `broker.py`: `on_leadership` is called for each change of a partition's leader, `on_metadata` for each change of the
metadata image.
"""

from __future__ import annotations

import logging
import os
from base64 import urlsafe_b64encode
from functools import partial
from typing import TYPE_CHECKING, NoReturn, TypeVar

from barnabas.coordinators.coordinator_errors import coordinator_error
from barnabas.coordinators.coordinator_topic import CoordinatorTopic
from barnabas.coordinators.group.consumer.heartbeat import HeartbeatClient, check_heartbeat
from barnabas.coordinators.group.consumer.state import ConsumerGroupState
from barnabas.coordinators.group.consumer.topics import TopicCatalog
from barnabas.coordinators.group.counters import GroupCounters
from barnabas.coordinators.group.describe import GroupFilter
from barnabas.coordinators.group.join import Joining
from barnabas.coordinators.group.settings import GroupSettings
from barnabas.coordinators.group.shard import GroupShard
from barnabas.coordinators.group.state import GroupState
from barnabas.coordinators.outcome import combine, settle
from barnabas.coordinators.runtime import CoordinatorRuntime, RuntimeSettings
from barnabas.errors import ErrorCode, KafkaError, StorageError
from barnabas.metadata.features import GROUP_VERSION, GROUP_VERSION_FEATURE
from barnabas.metadata.identifiers import CONSUMER_OFFSETS_TOPIC
from barnabas.wire.messages.delete_groups import DeleteGroupsResponse

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable, Sequence

    from barnabas.clock import Clock
    from barnabas.config.broker import BrokerConfig
    from barnabas.controller.controller import Controller
    from barnabas.coordinators.hosted_shard import HostedShard
    from barnabas.coordinators.shard import CoordinatorResult, Now
    from barnabas.coordinators.shard_batches import TransactionalWriter
    from barnabas.log.producer_entry import VerificationGuard
    from barnabas.metadata.deltas import MetadataDelta
    from barnabas.metadata.image import MetadataImage
    from barnabas.metrics import Registry
    from barnabas.replication.partition import Partition
    from barnabas.wire.messages.consumer_group_describe import ConsumerGroupDescribeResponse
    from barnabas.wire.messages.consumer_group_heartbeat import (
        ConsumerGroupHeartbeatRequest,
        ConsumerGroupHeartbeatResponse,
    )
    from barnabas.wire.messages.describe_groups import DescribeGroupsResponse
    from barnabas.wire.messages.join_group import JoinGroupRequest, JoinGroupResponse
    from barnabas.wire.messages.leave_group import LeaveGroupRequest, LeaveGroupResponse
    from barnabas.wire.messages.list_groups import ListGroupsResponse
    from barnabas.wire.messages.offset_commit import OffsetCommitRequest, OffsetCommitResponse
    from barnabas.wire.messages.offset_delete import OffsetDeleteRequest, OffsetDeleteResponse
    from barnabas.wire.messages.offset_fetch import OffsetFetchRequest, OffsetFetchResponse
    from barnabas.wire.messages.sync_group import SyncGroupRequest, SyncGroupResponse
    from barnabas.wire.messages.txn_offset_commit import TxnOffsetCommitRequest, TxnOffsetCommitResponse

__all__ = ["GroupCoordinator"]

logger = logging.getLogger(__name__)

R = TypeVar("R")

MEMBER_NAME_BYTES_MAX = 32_000
_LOAD_CHUNK_BYTES_MAX = 1_048_576


class GroupCoordinator:
    """Coordinates the groups whose partition of `__consumer_offsets` this broker leads.

    Args:
        controller: Creates `__consumer_offsets` when the first client looks for its coordinator, and knows the image.
        config: Limits and retention; read anew when settings change.
        clock: The time.
        loop: The event loop.
        metrics: Where groups and offsets are counted.
        random_bytes: For member ids.
    """

    __slots__ = (
        "_catalog",
        "_config",
        "_controller",
        "_loop",
        "_random_bytes",
        "_settings",
        "_topic",
        "runtime",
    )

    def __init__(
        self,
        *,
        controller: Controller,
        config: BrokerConfig,
        clock: Clock,
        loop: asyncio.AbstractEventLoop,
        metrics: Registry | None = None,
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._controller = controller
        self._config = config
        self._loop = loop
        self._random_bytes = random_bytes
        self._catalog = TopicCatalog(controller.image)
        self._settings = GroupSettings.of(config, controller.image)
        counters = GroupCounters() if metrics is None else GroupCounters.of(metrics)
        self._topic = CoordinatorTopic(
            CONSUMER_OFFSETS_TOPIC,
            controller=controller,
            partition_count=config["offsets.topic.num.partitions"],
            loop=loop,
        )
        self.runtime: CoordinatorRuntime[GroupShard] = CoordinatorRuntime(
            CONSUMER_OFFSETS_TOPIC,
            new_shard=lambda: GroupShard(self._settings, counters, self._catalog),
            partition_count=lambda: self._topic.partition_count,
            settings=RuntimeSettings(
                load_chunk_bytes=min(config["offsets.load.buffer.size"], _LOAD_CHUNK_BYTES_MAX),
                commit_timeout_ms=config["offsets.commit.timeout.ms"],
                compression=config["offsets.topic.compression.codec"],
            ),
            clock=clock,
            loop=loop,
        )
        if metrics is not None:
            self._measure(metrics)

    # ----- following the cluster

    def on_leadership(self, partition: Partition) -> None:
        """Takes over or gives up the groups of a partition. For partitions of other topics nothing happens."""
        if partition.topic == CONSUMER_OFFSETS_TOPIC:
            self._topic.follow(self._controller.image)
            self.runtime.on_leadership(partition)

    def on_metadata(self, image: MetadataImage, delta: MetadataDelta) -> None:
        """Follows changed settings, tells groups of changed topics, and forgets the offsets of deleted ones."""
        self._topic.follow(image)
        self._catalog.update(image, delta)
        if delta.changed_configs:
            self._configure()
        changed = [
            *[topic.name for topic in delta.created_topics.values()],
            *[topic.name for topic, _ in delta.changed_topics.values()],
            *[topic.name for topic in delta.deleted_topics.values()],
        ]
        if delta.changed_brokers:
            # A rack may have changed, and with it what every topic looks like.
            changed = list(image.topics)
        if changed:
            for hosted in self.runtime:
                hosted.shard.on_topics_changed(changed)
        if delta.deleted_topics:
            topics = {topic.name: topic_id for topic_id, topic in delta.deleted_topics.items()}
            for hosted in self.runtime:
                hosted.run_unasked(lambda shard, _: shard.on_topics_deleted(topics))

    def _configure(self) -> None:
        settings = GroupSettings.of(self._config, self._controller.image)
        if settings != self._settings:
            self._settings = settings
            for hosted in self.runtime:
                hosted.shard.settings = settings

    async def close(self) -> None:
        """Writes what is to be written, and tells everyone who waits to look for another coordinator."""
        await self.runtime.close()

    # ----- finding the coordinator

    def coordinator_id(self, group_id: str) -> int | asyncio.Future[int]:
        """The broker that coordinates a group; creates `__consumer_offsets` if there is none yet.

        Raises:
            KafkaError: COORDINATOR_NOT_AVAILABLE, also in the future.
        """
        return self._topic.coordinator_of(group_id)

    def _shard(self, group_id: str) -> HostedShard[GroupShard]:
        return self.runtime.shard_for(group_id)

    # ----- members

    def join_group(
        self, request: JoinGroupRequest, version: int, client_id: str | None, client_address: str
    ) -> JoinGroupResponse | asyncio.Future[JoinGroupResponse]:
        """JoinGroup. The response of a refusal by the group says why; only what comes before that is raised.

        Args:
            request: The rebalance timeout of version 0 is not looked at.
            version: Of the request.
            client_id: The client's name for itself.
            client_address: Its IP address.

        Raises:
            KafkaError: INVALID_GROUP_ID, INVALID_SESSION_TIMEOUT, INVALID_REQUEST for a name that is too long, or that of
                `CoordinatorRuntime.shard_for`.
        """
        settings = self._settings
        _check_group_id(request.group_id)
        client_id = client_id or ""
        member_name = request.group_instance_id or client_id
        _check_member_name(member_name)
        session_timeout_ms = request.session_timeout_ms
        shortest_ms = settings.group_min_session_timeout_ms
        longest_ms = settings.group_max_session_timeout_ms
        if not shortest_ms <= session_timeout_ms <= longest_ms:
            raise KafkaError(
                ErrorCode.INVALID_SESSION_TIMEOUT,
                f"a session timeout of {session_timeout_ms} ms is not within {shortest_ms} to {longest_ms} ms",
            )
        if version == 0:
            request.rebalance_timeout_ms = session_timeout_ms
        hosted = self._shard(request.group_id)
        waiter: asyncio.Future[JoinGroupResponse] = self._loop.create_future()
        joining = Joining(
            request,
            version=version,
            client_id=client_id,
            client_host=f"/{client_address}",
            new_member_id=self._random_id()
            if hosted.shard.is_consumer_group(request.group_id)
            else f"{member_name}-{self._random_uuid()}",
            waiter=waiter,
        )
        return _parked(hosted, waiter, lambda shard, now: shard.join(joining, now))

    def sync_group(self, request: SyncGroupRequest) -> SyncGroupResponse | asyncio.Future[SyncGroupResponse]:
        """SyncGroup; refusals as in `join_group`."""
        _check_group_id(request.group_id)
        hosted = self._shard(request.group_id)
        waiter: asyncio.Future[SyncGroupResponse] = self._loop.create_future()
        return _parked(hosted, waiter, lambda shard, now: shard.sync(request, waiter, now))

    def heartbeat(
        self, group_id: str, member_id: str, group_instance_id: str | None, generation_id: int
    ) -> ErrorCode:
        """Heartbeat; while the group is still being loaded every member is taken for alive.

        Raises:
            KafkaError: INVALID_GROUP_ID, or that of `CoordinatorRuntime.shard_for` but for COORDINATOR_LOAD_IN_PROGRESS.
        """
        _check_group_id(group_id)
        try:
            hosted = self._shard(group_id)
        except KafkaError as error:
            if error.code is ErrorCode.COORDINATOR_LOAD_IN_PROGRESS:
                return ErrorCode.NONE
            raise
        return hosted.shard.heartbeat(
            group_id, member_id, group_instance_id, generation_id, hosted.monotonic_ms()
        )

    def leave_group(
        self, group_id: str, identities: list[LeaveGroupRequest.MemberIdentity]
    ) -> LeaveGroupResponse | asyncio.Future[LeaveGroupResponse]:
        """LeaveGroup, in the form of version 3 and later."""
        _check_group_id(group_id)
        return self._shard(group_id).write(lambda shard, now: shard.leave(group_id, identities, now))

    @property
    def serves_consumer_groups(self) -> bool:
        """Whether the cluster has agreed on groups of KIP-848, and the configuration has them."""
        return (
            self._controller.image.features.get(GROUP_VERSION_FEATURE, 0) >= GROUP_VERSION
            and "consumer" in self._config["group.coordinator.rebalance.protocols"]
        )

    def consumer_heartbeat(
        self,
        request: ConsumerGroupHeartbeatRequest,
        version: int,
        client_id: str | None,
        client_address: str,
    ) -> ConsumerGroupHeartbeatResponse | asyncio.Future[ConsumerGroupHeartbeatResponse]:
        """ConsumerGroupHeartbeat.

        Raises:
            KafkaError: as `check_heartbeat`, `ConsumerGroups.heartbeat` and `CoordinatorRuntime.shard_for`; INVALID_REQUEST for a name
                that is too long.
        """
        check_heartbeat(request, version, self._settings.consumer.assignors)
        for name in (request.member_id, request.instance_id, client_id):
            _check_member_name(name or "")
        client = HeartbeatClient(
            client_id or "", f"/{client_address}", "" if request.member_id else self._random_id()
        )
        return self._shard(request.group_id).write(
            lambda shard, now: shard.consumer_heartbeat(request, client, now)
        )

    # ----- offsets

    def commit_offsets(
        self, request: OffsetCommitRequest, version: int
    ) -> OffsetCommitResponse | asyncio.Future[OffsetCommitResponse]:
        """OffsetCommit of partitions that exist; topics have both their name and their id.

        Raises:
            KafkaError: as `group.commit.check_commit` and `CoordinatorRuntime.shard_for`.
        """
        return self._shard(request.group_id).write_batched(
            lambda shard, now: shard.commit_offsets(request, version, now)
        )

    def begin_verification(
        self, group_id: str, producer: tuple[int, int], *, supports_epoch_bump: bool
    ) -> VerificationGuard | None:
        """Begins to ask whether a producer's transaction may hold offsets of a group; None if it does already.

        Raises:
            KafkaError: INVALID_GROUP_ID, INVALID_PRODUCER_EPOCH, or that of `CoordinatorRuntime.shard_for`.
        """
        _check_group_id(group_id)
        hosted = self._shard(group_id)
        hosted.flush()
        producer_id, epoch = producer
        try:
            return hosted.partition.begin_verification(
                producer_id, 0, epoch, supports_epoch_bump=supports_epoch_bump, now_ms=hosted.now().wall_ms
            )
        except StorageError as error:
            raise coordinator_error(error) from error

    def commit_transactional_offsets(
        self, request: TxnOffsetCommitRequest, version: int, writer: TransactionalWriter
    ) -> TxnOffsetCommitResponse | asyncio.Future[TxnOffsetCommitResponse]:
        """TxnOffsetCommit of partitions that exist: they count once the transaction commits.

        Raises:
            KafkaError: INVALID_GROUP_ID, as `group.commit.check_transactional_commit` and `CoordinatorRuntime.shard_for`.
        """
        del version
        _check_group_id(request.group_id)
        return self._shard(request.group_id).write_in_transaction(
            writer, lambda shard, now: shard.commit_transactional_offsets(request, now)
        )

    def end_transaction(
        self,
        index: int,
        producer_id: int,
        producer_epoch: int,
        *,
        committed: bool,
        coordinator_epoch: int,
        transaction_version: int,
    ) -> asyncio.Future[None] | None:
        """Ends a producer's transaction in one partition of `__consumer_offsets`; None if that is committed at once.

        Raises:
            KafkaError: that of `CoordinatorRuntime.shard`, or the partition's refusal.
            StorageError: its log can not be written.
        """
        return self.runtime.shard(index).end_transaction(
            producer_id,
            producer_epoch,
            committed=committed,
            coordinator_epoch=coordinator_epoch,
            transaction_version=transaction_version,
        )

    def fetch_offsets(
        self, request: OffsetFetchRequest.OffsetFetchRequestGroup, *, require_stable: bool
    ) -> (
        OffsetFetchResponse.OffsetFetchResponseGroup
        | asyncio.Future[OffsetFetchResponse.OffsetFetchResponseGroup]
    ):
        """OffsetFetch for one group. Topics have their name, and their id if the topic exists.

        Raises:
            KafkaError: NOT_COORDINATOR or COORDINATOR_LOAD_IN_PROGRESS. Clients before 3.9 know no other that is worth a retry.
                For a member of a consumer group, UNKNOWN_MEMBER_ID and STALE_MEMBER_EPOCH.
        """
        hosted = self._shard(request.group_id)
        response = hosted.read().fetch_offsets(request, require_stable=require_stable)
        try:
            return hosted.when_committed(response)
        except KafkaError as error:
            raise KafkaError(ErrorCode.NOT_COORDINATOR, error.message) from error

    def delete_offsets(
        self, request: OffsetDeleteRequest
    ) -> OffsetDeleteResponse | asyncio.Future[OffsetDeleteResponse]:
        """OffsetDelete of partitions that exist.

        Raises:
            KafkaError: INVALID_GROUP_ID, GROUP_ID_NOT_FOUND, NON_EMPTY_GROUP, or that of `CoordinatorRuntime.shard_for`.
        """
        _check_group_id(request.group_id)
        return self._shard(request.group_id).write(lambda shard, _: shard.delete_offsets(request))

    # ----- administration

    def list_groups(
        self, states: Sequence[str], types: Sequence[str]
    ) -> list[ListGroupsResponse.ListedGroup]:
        """ListGroups: the groups of this broker.

        Raises:
            KafkaError: COORDINATOR_LOAD_IN_PROGRESS while some of them are not known yet.
        """
        if self.runtime.loading:
            raise KafkaError(ErrorCode.COORDINATOR_LOAD_IN_PROGRESS)
        wanted = GroupFilter(states, types)
        return [group for hosted in self.runtime for group in hosted.read().list_groups(wanted)]

    def describe_group(self, group_id: str, version: int) -> DescribeGroupsResponse.DescribedGroup:
        """DescribeGroups, for one group; raises as `CoordinatorRuntime.shard_for`."""
        return self._shard(group_id).read().describe_group(group_id, version)

    def describe_consumer_group(
        self, group_id: str
    ) -> (
        ConsumerGroupDescribeResponse.DescribedGroup
        | asyncio.Future[ConsumerGroupDescribeResponse.DescribedGroup]
    ):
        """ConsumerGroupDescribe, for one group; what it says is committed for good.

        Raises:
            KafkaError: INVALID_GROUP_ID, or that of `CoordinatorRuntime.shard_for`.
        """
        _check_group_id(group_id)
        hosted = self._shard(group_id)
        return hosted.when_committed(hosted.read().describe_consumer_group(group_id))

    def delete_groups(
        self, group_ids: Iterable[str]
    ) -> (
        list[DeleteGroupsResponse.DeletableGroupResult]
        | asyncio.Future[list[DeleteGroupsResponse.DeletableGroupResult]]
    ):
        """DeleteGroups; every refusal is the result of its group."""
        by_shard: dict[int, list[str]] = {}
        for group_id in dict.fromkeys(group_ids):
            by_shard.setdefault(self.runtime.partition_for(group_id), []).append(group_id)
        return settle(
            lambda: combine([self._delete_groups(index, ids) for index, ids in by_shard.items()]),
            then=lambda results: [result for of_shard in results for result in of_shard],
            refuse=_never,
        )

    def _delete_groups(
        self, index: int, group_ids: list[str]
    ) -> (
        list[DeleteGroupsResponse.DeletableGroupResult]
        | asyncio.Future[list[DeleteGroupsResponse.DeletableGroupResult]]
    ):
        return settle(
            lambda: self.runtime.shard(index).write(lambda shard, _: shard.delete_groups(group_ids)),
            then=lambda results: results,
            refuse=lambda error: [
                DeleteGroupsResponse.DeletableGroupResult(group_id=group_id, error_code=error.code)
                for group_id in group_ids
            ],
        )

    # ----- what else

    def _random_id(self) -> str:
        """A random id as Kafka writes them, 22 characters of URL-safe base64."""
        return urlsafe_b64encode(self._random_bytes(16)).rstrip(b"=").decode()

    def _random_uuid(self) -> str:
        """A random UUID (RFC 9562, version 4) as text."""
        number = int.from_bytes(self._random_bytes(16), "big")
        number = number & ~(0xF << 76) | 0x4 << 76
        number = number & ~(0x3 << 62) | 0x2 << 62
        digits = f"{number:032x}"
        return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"

    def _measure(self, metrics: Registry) -> None:
        prefix = "kafka_coordinator_group_groupmetadatamanager_"
        metrics.gauge_function(
            f"{prefix}numgroups", lambda: sum(len(hosted.shard.groups) for hosted in self.runtime)
        )
        metrics.gauge_function(
            f"{prefix}numoffsets",
            lambda: sum(hosted.shard.offsets.committed.count for hosted in self.runtime),
        )
        for state in GroupState:
            metrics.gauge_function(
                f"{prefix}numgroups{state.value.lower()}", partial(self._count_groups, state)
            )
        for consumer_state in ConsumerGroupState:
            metrics.gauge_function(
                "kafka_server_group_coordinator_metrics_consumer_group_count",
                partial(self._count_groups, consumer_state),
                state=consumer_state.value.lower(),
            )

    def _count_groups(self, state: GroupState | ConsumerGroupState) -> int:
        return sum(group.state is state for hosted in self.runtime for group in hosted.shard.groups.values())


def _check_group_id(group_id: str) -> None:
    if not group_id:
        raise KafkaError(ErrorCode.INVALID_GROUP_ID, "the group id is empty")


def _check_member_name(name: str) -> None:
    """Member ids are made of the name and a random part, and have to fit into records, too."""
    size = len(name.encode())
    if size > MEMBER_NAME_BYTES_MAX:
        raise KafkaError(
            ErrorCode.INVALID_REQUEST, f"a name of {size} bytes is longer than {MEMBER_NAME_BYTES_MAX}"
        )


def _parked(
    hosted: HostedShard[GroupShard],
    waiter: asyncio.Future[R],
    operation: Callable[[GroupShard, Now], CoordinatorResult[None]],
) -> R | asyncio.Future[R]:
    """Runs an operation that answers `waiter`, now or some time later."""
    try:
        hosted.run(operation)
    except KafkaError:
        # The answer tells what went wrong, if there is one: the group has seen the failure.
        if not waiter.done():
            raise
    return waiter.result() if waiter.done() else waiter


def _never(error: KafkaError) -> NoReturn:
    raise AssertionError(error)

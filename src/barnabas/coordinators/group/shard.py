"""The groups of one partition of `__consumer_offsets`: finds the group, lets its state machine decide, keeps its timers.

Groups live in memory from their first JoinGroup or offset; they go with their tombstone, or, if nothing was ever written of
them, with the last member that was given an id and did not come back.
"""

from __future__ import annotations

import heapq
import logging
from typing import TYPE_CHECKING, Any

from barnabas.coordinators.group.commit import (
    check_commit,
    check_fetch,
    check_transactional_commit,
    commit_offsets,
    commit_transactional_offsets,
    delete_group_offsets,
    delete_offsets,
    fetch_offsets,
)
from barnabas.coordinators.group.consumer.describe import (
    describe_consumer_group,
    describe_not_consumer,
)
from barnabas.coordinators.group.consumer.group import ConsumerGroup
from barnabas.coordinators.group.consumer.groups import ConsumerGroups
from barnabas.coordinators.group.consumer.records import group_tombstones
from barnabas.coordinators.group.consumer.state import ConsumerGroupState
from barnabas.coordinators.group.consumer.topics import TopicCatalog
from barnabas.coordinators.group.counters import GroupCounters
from barnabas.coordinators.group.describe import GroupFilter, describe, describe_missing, listed
from barnabas.coordinators.group.effects import Effects
from barnabas.coordinators.group.expiry import expire_group, topics_deleted
from barnabas.coordinators.group.group import NEVER, ClassicGroup
from barnabas.coordinators.group.heartbeat import heartbeat
from barnabas.coordinators.group.join import UNKNOWN_MEMBER, Joining, join
from barnabas.coordinators.group.leave import leave
from barnabas.coordinators.group.member import Member
from barnabas.coordinators.group.offsets import Offsets
from barnabas.coordinators.group.rebalance import prepare_rebalance
from barnabas.coordinators.group.records import decode_key, decode_value, group_tombstone, is_offset_key
from barnabas.coordinators.group.state import GroupState
from barnabas.coordinators.group.sync import sync
from barnabas.coordinators.group.timeouts import on_deadline
from barnabas.coordinators.shard import CoordinatorResult
from barnabas.errors import ErrorCode, KafkaError
from barnabas.metadata.image import MetadataImage
from barnabas.wire.messages.delete_groups import DeleteGroupsResponse
from barnabas.wire.messages.group.group_metadata_key import GroupMetadataKey
from barnabas.wire.messages.group.group_metadata_value import GroupMetadataValue
from barnabas.wire.messages.group.offset_commit_key import OffsetCommitKey
from barnabas.wire.messages.group.offset_commit_value import OffsetCommitValue
from barnabas.wire.messages.join_group import JoinGroupResponse
from barnabas.wire.messages.leave_group import LeaveGroupResponse
from barnabas.wire.messages.sync_group import SyncGroupResponse

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from barnabas.coordinators.group.consumer.heartbeat import HeartbeatClient
    from barnabas.coordinators.group.settings import GroupSettings
    from barnabas.coordinators.shard import Answer, Completion, CoordinatorRecord, Now
    from barnabas.wire.messages.consumer_group_describe import ConsumerGroupDescribeResponse
    from barnabas.wire.messages.consumer_group_heartbeat import (
        ConsumerGroupHeartbeatRequest,
        ConsumerGroupHeartbeatResponse,
    )
    from barnabas.wire.messages.describe_groups import DescribeGroupsResponse
    from barnabas.wire.messages.leave_group import LeaveGroupRequest
    from barnabas.wire.messages.list_groups import ListGroupsResponse
    from barnabas.wire.messages.offset_commit import OffsetCommitRequest, OffsetCommitResponse
    from barnabas.wire.messages.offset_delete import OffsetDeleteRequest, OffsetDeleteResponse
    from barnabas.wire.messages.offset_fetch import OffsetFetchRequest, OffsetFetchResponse
    from barnabas.wire.messages.sync_group import SyncGroupRequest
    from barnabas.wire.messages.txn_offset_commit import TxnOffsetCommitRequest, TxnOffsetCommitResponse

__all__ = ["GroupShard"]

logger = logging.getLogger(__name__)

GROUPS_PER_TIMER_CALL = 64
RECORDS_PER_CLEANUP_CALL = 1_000
GROUPS_PER_CLEANUP_CALL = 1_000


class GroupShard:
    """State machine of one partition of `__consumer_offsets` (`coordinators.shard.Shard`).

    Attributes:
        settings: May be replaced at any time; what is under way keeps its deadlines.
        groups: By group id.
        offsets: What they have committed.
        counters: What is counted for all shards of a broker together.
        topics: What there is to subscribe to, for all shards of a broker.
        consumers: What is done for consumer groups.
    """

    __slots__ = (
        "_cleanup",
        "_cleanup_ms",
        "_deadlines",
        "_unknown_types",
        "consumers",
        "counters",
        "groups",
        "offsets",
        "settings",
        "topics",
    )

    def __init__(
        self,
        settings: GroupSettings,
        counters: GroupCounters | None = None,
        topics: TopicCatalog | None = None,
    ) -> None:
        self.settings = settings
        self.counters = counters or GroupCounters()
        self.topics = topics or TopicCatalog(MetadataImage(""))
        self.consumers = ConsumerGroups(self)
        self.groups: dict[str, ClassicGroup | ConsumerGroup] = {}
        self.offsets = Offsets()
        self._deadlines: list[tuple[float, str]] = []
        self._cleanup_ms = NEVER
        self._cleanup: Iterator[str] | None = None
        self._unknown_types: set[int] = set()

    # ----- members

    def join(self, joining: Joining, now: Now) -> CoordinatorResult[None]:
        """JoinGroup; the answer goes to `joining.waiter`, now or once the next generation is known."""
        effects = Effects(now, self.settings)
        request = joining.request
        group = self.groups.get(request.group_id)
        if isinstance(group, ConsumerGroup):
            if group.members:
                return self.consumers.join_classic(group, joining, now)
            if request.member_id == UNKNOWN_MEMBER:
                logger.info("empty consumer group becomes a classic group group=%s", request.group_id)
                effects.records += group_tombstones(group)
            group = None
        is_new = group is None
        if group is None:
            if request.member_id != UNKNOWN_MEMBER:
                effects.refuse_join(joining.waiter, request.member_id, ErrorCode.UNKNOWN_MEMBER_ID)
                return effects.result(None)
            group = ClassicGroup(request.group_id, state_timestamp_ms=now.wall_ms)
            self.groups[request.group_id] = group
        join(group, joining, effects)
        return self._finish(group, effects, None, may_forget=is_new)

    def is_consumer_group(self, group_id: str) -> bool:
        """Whether members of the classic protocol join a consumer group here."""
        group = self.groups.get(group_id)
        return isinstance(group, ConsumerGroup) and bool(group.members)

    def sync(self, request: SyncGroupRequest, waiter: Any, now: Now) -> CoordinatorResult[None]:
        """SyncGroup; the answer goes to `waiter`, now or once the assignment is committed."""
        effects = Effects(now, self.settings)
        group = self.groups.get(request.group_id)
        if group is None:
            effects.refuse_sync(waiter, ErrorCode.UNKNOWN_MEMBER_ID)
            return effects.result(None)
        if isinstance(group, ConsumerGroup):
            return self.consumers.sync_classic(group, request, waiter, now)
        sync(group, request, waiter, effects)
        return self._finish(group, effects, None, may_forget=False)

    def heartbeat(
        self, group_id: str, member_id: str, group_instance_id: str | None, generation_id: int, now_ms: float
    ) -> ErrorCode:
        """Heartbeat, at monotonic `now_ms`."""
        group = self.groups.get(group_id)
        if group is None:
            return ErrorCode.UNKNOWN_MEMBER_ID
        if isinstance(group, ConsumerGroup):
            return self.consumers.heartbeat_classic(
                group, member_id, group_instance_id, generation_id, now_ms
            )
        return heartbeat(group, member_id, group_instance_id, generation_id, now_ms)

    def consumer_heartbeat(
        self, request: ConsumerGroupHeartbeatRequest, client: HeartbeatClient, now: Now
    ) -> CoordinatorResult[ConsumerGroupHeartbeatResponse]:
        """ConsumerGroupHeartbeat; raises KafkaError as `ConsumerGroups.heartbeat`."""
        return self.consumers.heartbeat(request, client, now)

    def leave(
        self, group_id: str, identities: list[LeaveGroupRequest.MemberIdentity], now: Now
    ) -> CoordinatorResult[LeaveGroupResponse]:
        """LeaveGroup, in the form of version 3 and later: an error for each member."""
        effects = Effects(now, self.settings)
        group = self.groups.get(group_id)
        if group is None:
            unknown = [
                LeaveGroupResponse.MemberResponse(
                    member_id=identity.member_id,
                    group_instance_id=identity.group_instance_id,
                    error_code=ErrorCode.UNKNOWN_MEMBER_ID,
                )
                for identity in identities
            ]
            return effects.result(LeaveGroupResponse(members=unknown))
        if isinstance(group, ConsumerGroup):
            return self.consumers.leave_classic(group, identities, now)
        members = leave(group, identities, effects)
        has_changed = any(member.error_code == ErrorCode.NONE for member in members)
        return self._finish(group, effects, LeaveGroupResponse(members=members), may_forget=has_changed)

    # ----- offsets

    def commit_offsets(
        self, request: OffsetCommitRequest, version: int, now: Now
    ) -> CoordinatorResult[OffsetCommitResponse]:
        """OffsetCommit of topics and partitions that exist; raises KafkaError as `commit.check_commit`."""
        check_partition = check_commit(self.groups.get(request.group_id), request, version, now.monotonic_ms)
        response, records = commit_offsets(request, self.settings, now.wall_ms, check_partition)
        self.counters.commits.add(len(records))
        return CoordinatorResult(response, records)

    def commit_transactional_offsets(
        self, request: TxnOffsetCommitRequest, now: Now
    ) -> CoordinatorResult[TxnOffsetCommitResponse]:
        """TxnOffsetCommit of topics and partitions that exist; raises KafkaError as `commit.check_transactional_commit`."""
        check_transactional_commit(self.groups.get(request.group_id), request, self.topics.id_of)
        response, records = commit_transactional_offsets(request, self.settings, now.wall_ms)
        self.counters.commits.add(len(records))
        return CoordinatorResult(response, records, atomic=True)

    def fetch_offsets(
        self, request: OffsetFetchRequest.OffsetFetchRequestGroup, *, require_stable: bool
    ) -> OffsetFetchResponse.OffsetFetchResponseGroup:
        """OffsetFetch for one group; one that does not exist has committed nothing. Raises KafkaError as `commit.check_fetch`."""
        check_fetch(self.groups.get(request.group_id), request)
        return fetch_offsets(self.offsets, request, require_stable=require_stable)

    def delete_offsets(self, request: OffsetDeleteRequest) -> CoordinatorResult[OffsetDeleteResponse]:
        """OffsetDelete; raises KafkaError GROUP_ID_NOT_FOUND or NON_EMPTY_GROUP."""
        group = self.groups.get(request.group_id)
        if group is None:
            raise KafkaError(ErrorCode.GROUP_ID_NOT_FOUND, f"Group {request.group_id} not found.")
        response, records = delete_offsets(group, self.offsets, request)
        self.counters.deletions.add(len(records))
        return CoordinatorResult(response, records)

    def on_topics_changed(self, names: Iterable[str]) -> None:
        """Has groups look at the topics that they subscribe to, if some of these changed."""
        changed = set(names)
        for group in self.groups.values():
            if isinstance(group, ConsumerGroup) and any(map(group.is_subscribed_to, changed)):
                group.request_refresh()

    def on_topics_deleted(self, topics: Mapping[str, bytes]) -> CoordinatorResult[None]:
        """Removes all offsets of topics (ids by name) that are gone."""
        return CoordinatorResult(None, topics_deleted(self.offsets, topics))

    # ----- administration

    def list_groups(self, wanted: GroupFilter) -> list[ListGroupsResponse.ListedGroup]:
        """ListGroups, for this shard."""
        return [listed(group) for group in self.groups.values() if wanted.matches(group)]

    def describe_group(self, group_id: str, version: int) -> DescribeGroupsResponse.DescribedGroup:
        """DescribeGroups, for one group."""
        group = self.groups.get(group_id)
        if isinstance(group, ClassicGroup):
            return describe(group)
        return describe_missing(group_id, version, exists=group is not None)

    def describe_consumer_group(self, group_id: str) -> ConsumerGroupDescribeResponse.DescribedGroup:
        """ConsumerGroupDescribe, for one group."""
        group = self.groups.get(group_id)
        if isinstance(group, ConsumerGroup):
            return describe_consumer_group(group, self.settings.consumer.assignors[0], self.topics)
        return describe_not_consumer(group_id, exists=group is not None)

    def delete_groups(
        self, group_ids: Iterable[str]
    ) -> CoordinatorResult[list[DeleteGroupsResponse.DeletableGroupResult]]:
        """DeleteGroups: empty ones go, with all their offsets."""
        records: list[CoordinatorRecord] = []
        results = []
        for group_id in group_ids:
            group = self.groups.get(group_id)
            error = ErrorCode.NONE
            if group is None:
                error = ErrorCode.GROUP_ID_NOT_FOUND
            elif group.state not in (GroupState.EMPTY, ConsumerGroupState.EMPTY):
                error = ErrorCode.NON_EMPTY_GROUP
            else:
                tombstones = delete_group_offsets(self.offsets, group_id)
                self.counters.deletions.add(len(tombstones))
                records += tombstones
                if isinstance(group, ConsumerGroup):
                    records += group_tombstones(group)
                else:
                    records.append(group_tombstone(group_id))
            results.append(DeleteGroupsResponse.DeletableGroupResult(group_id=group_id, error_code=error))
        return CoordinatorResult(results, records)

    # ----- replay

    def replay(
        self, offset: int, producer_id: int, producer_epoch: int, key: bytes, value: bytes | None
    ) -> None:
        """Applies a record; DecodeError if it is one of a classic or consumer group's and does not parse."""
        del producer_epoch
        number, parsed = decode_key(key)
        if isinstance(parsed, OffsetCommitKey):
            commit = None if value is None else decode_value(value, OffsetCommitValue)
            assert commit is None or isinstance(commit, OffsetCommitValue)
            if commit is not None and parsed.group not in self.groups:
                self.groups[parsed.group] = ClassicGroup(parsed.group, state_timestamp_ms=None)
            self.offsets.replay(offset, producer_id, parsed, commit)
        elif isinstance(parsed, GroupMetadataKey):
            if value is None:
                self.groups.pop(parsed.group, None)
            else:
                metadata = decode_value(value, GroupMetadataValue)
                assert isinstance(metadata, GroupMetadataValue)
                self.groups[parsed.group] = _restored(parsed.group, metadata)
        elif parsed is not None:
            self.consumers.replay(parsed, value)
        elif number not in self._unknown_types:
            self._unknown_types.add(number)
            logger.warning(
                "records of a type that this version does not know are passed over type=%d offset=%d",
                number,
                offset,
            )

    def replay_end_transaction_marker(
        self, producer_id: int, producer_epoch: int, *, committed: bool
    ) -> None:
        """Makes the offsets of a transaction visible, or drops them."""
        del producer_epoch
        self.offsets.replay_end_transaction(producer_id, committed=committed)

    # ----- life

    def on_loaded(self, now: Now) -> list[CoordinatorResult[None]]:
        """Members have a whole session to find their coordinator again."""
        results = []
        self._cleanup_ms = now.monotonic_ms + self.settings.offsets_retention_check_interval_ms
        for group in list(self.groups.values()):
            if isinstance(group, ConsumerGroup):
                self.consumers.on_loaded(group, now)
                continue
            group.note_subscriptions()
            for member in group.members.values():
                group.start_session(member, now.monotonic_ms, member.session_timeout_ms)
            effects = Effects(now, self.settings)
            if len(group.members) > self.settings.group_max_size:
                prepare_rebalance(
                    group,
                    effects,
                    f"{len(group.members)} members were loaded, group.max.size is {self.settings.group_max_size}",
                )
            results.append(self._finish(group, effects, None))
        return results

    def on_unloaded(self) -> list[Answer]:
        """Everyone who waits learns that this broker is not the coordinator."""
        answers: list[Answer] = []
        error = ErrorCode.NOT_COORDINATOR
        for group in self.groups.values():
            if isinstance(group, ConsumerGroup):
                continue  # nobody is kept waiting by it, but for records to be committed
            for member in group.members.values():
                if member.join_waiter is not None:
                    response = JoinGroupResponse(member_id=member.member_id, error_code=error)
                    answers.append((member.join_waiter, response))
                    group.release_join(member)
                if member.sync_waiter is not None:
                    answers.append((member.sync_waiter, SyncGroupResponse(error_code=error)))
                    member.sync_waiter = None
            group.state = GroupState.DEAD
        self.groups.clear()
        self._deadlines.clear()
        return answers

    # ----- time

    def next_deadline_ms(self) -> float | None:
        """When `on_timer` is due; a little early does no harm."""
        deadline_ms = self._cleanup_ms
        if self._deadlines and self._deadlines[0][0] < deadline_ms:
            deadline_ms = self._deadlines[0][0]
        return None if deadline_ms == NEVER else deadline_ms

    def on_timer(self, now: Now) -> Iterator[CoordinatorResult[None]]:
        """Lets groups act whose deadlines are reached, and expires offsets; some of it, if it is much."""
        deadlines = self._deadlines
        for _ in range(GROUPS_PER_TIMER_CALL):
            if not deadlines or deadlines[0][0] > now.monotonic_ms:
                break
            deadline_ms, group_id = heapq.heappop(deadlines)
            group = self.groups.get(group_id)
            if group is None or group.armed_ms != deadline_ms:
                continue  # an entry that an earlier deadline overtook
            group.armed_ms = NEVER
            if isinstance(group, ConsumerGroup):
                yield self.consumers.on_deadline(group, now)
                continue
            effects = Effects(now, self.settings)
            on_deadline(group, effects)
            group.wake_at(group.next_deadline_ms())
            yield self._finish(group, effects, None)
        if self._cleanup_ms <= now.monotonic_ms:
            yield self._expire_some(now)

    def _finish(
        self, group: ClassicGroup, effects: Effects, response: Any, *, may_forget: bool = True
    ) -> CoordinatorResult[Any]:
        """After a step: sets the group's timer, and forgets a group that nobody will ask for.

        One that was there before a refused request stays, as in Kafka: it had offsets once.
        """
        if effects.completion is not None:
            effects.completion = _TimedCompletion(self, group, effects.completion)
        result = effects.result(response)
        if (
            may_forget
            and group.state is GroupState.EMPTY
            and not group.is_persisted
            and not group.pending_members
            and not effects.records
            and not self.offsets.committed.of_group(group.group_id)
            and not self.offsets.has_open_transactions(group.group_id)
        ):
            self.groups.pop(group.group_id, None)
        else:
            self.arm(group)
        return result

    def arm(self, group: ClassicGroup | ConsumerGroup) -> None:
        """Has the group looked at when it wants to be, unless an earlier look is due anyway."""
        wanted_ms = group.wanted_ms
        group.wanted_ms = NEVER
        if wanted_ms >= group.armed_ms:
            return
        group.armed_ms = wanted_ms
        heapq.heappush(self._deadlines, (wanted_ms, group.group_id))
        if len(self._deadlines) > 2 * len(self.groups) + GROUPS_PER_TIMER_CALL:
            # Most entries were overtaken by earlier ones of the same group.
            self._deadlines = [
                (each.armed_ms, each.group_id) for each in self.groups.values() if each.armed_ms != NEVER
            ]
            heapq.heapify(self._deadlines)

    # ----- expiry

    def _expire_some(self, now: Now) -> CoordinatorResult[None]:
        """Looks over some groups for what has expired; the next call goes on where this one stops."""
        if self._cleanup is None:
            self._cleanup = iter(list(self.groups))
        records: list[CoordinatorRecord] = []
        for looked_at, group_id in enumerate(self._cleanup, start=1):
            group = self.groups.get(group_id)
            if group is not None:
                records += expire_group(group, self.offsets, now.wall_ms, self.settings.offsets_retention_ms)
            if looked_at >= GROUPS_PER_CLEANUP_CALL or len(records) >= RECORDS_PER_CLEANUP_CALL:
                break
        else:
            self._cleanup = None
            self._cleanup_ms = now.monotonic_ms + self.settings.offsets_retention_check_interval_ms
        if records:
            self.counters.expirations.add(sum(is_offset_key(key) for key, _ in records))
            logger.info("offsets and groups have expired tombstones=%d", len(records))
        return CoordinatorResult(None, records)


class _TimedCompletion:
    """Passes on to a group's completion, counts finished rebalances, and sets the group's timer."""

    __slots__ = ("_completion", "_group", "_shard", "_was_rebalancing")

    def __init__(self, shard: GroupShard, group: ClassicGroup, completion: Completion) -> None:
        self._shard = shard
        self._group = group
        self._completion = completion
        self._was_rebalancing = group.state is GroupState.COMPLETING_REBALANCE

    def committed(self, now: Now) -> CoordinatorResult[None] | None:
        return self._after(self._completion.committed(now))

    def failed(self, error: KafkaError, now: Now) -> CoordinatorResult[None] | None:
        return self._after(self._completion.failed(error, now))

    def _after(self, result: CoordinatorResult[None] | None) -> CoordinatorResult[None] | None:
        if self._was_rebalancing and self._group.state is GroupState.STABLE:
            self._shard.counters.rebalances.add()
        if self._shard.groups.get(self._group.group_id) is self._group:
            self._shard.arm(self._group)
        return result


def _restored(group_id: str, value: GroupMetadataValue) -> ClassicGroup:
    """The group that a record describes; its members' sessions begin when the shard is loaded."""
    timestamp_ms = value.current_state_timestamp
    member_ids = {member.member_id for member in value.members}
    group = ClassicGroup(
        group_id,
        state=GroupState.STABLE if value.members else GroupState.EMPTY,
        state_timestamp_ms=None if timestamp_ms == -1 else timestamp_ms,
        generation_id=value.generation,
        protocol_type=value.protocol_type or None,
        protocol_name=value.protocol,
        leader_id=value.leader if value.leader in member_ids else None,
    )
    group.is_persisted = True
    for member in value.members:
        group.add(
            Member(
                member.member_id,
                group_instance_id=member.group_instance_id,
                client_id=member.client_id,
                client_host=member.client_host,
                rebalance_timeout_ms=member.session_timeout
                if member.rebalance_timeout == -1
                else member.rebalance_timeout,
                session_timeout_ms=member.session_timeout,
                protocol_type=value.protocol_type,
                protocols=((value.protocol or "", member.subscription),),
                assignment=member.assignment,
            )
        )
    return group

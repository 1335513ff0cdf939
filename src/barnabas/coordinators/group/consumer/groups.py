"""The consumer groups of one shard: finds the group, has its step made, and sets what no record says."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Any

from barnabas.coordinators.group.consumer.classic_members import (
    heartbeat_classic,
    join_classic,
    leave_classic,
    sync_classic,
)
from barnabas.coordinators.group.consumer.group import ConsumerGroup
from barnabas.coordinators.group.consumer.heartbeat import HeartbeatClient, heartbeat
from barnabas.coordinators.group.consumer.leave import leave
from barnabas.coordinators.group.consumer.member import (
    JOINING_EPOCH,
    LEAVING_EPOCH,
    STATIC_LEAVING_EPOCH,
)
from barnabas.coordinators.group.consumer.migration import check_upgrade, release_waiters, upgraded
from barnabas.coordinators.group.consumer.records import group_records
from barnabas.coordinators.group.consumer.replay import replay_record
from barnabas.coordinators.group.consumer.state import MemberState
from barnabas.coordinators.group.consumer.step import Step
from barnabas.coordinators.group.consumer.timeouts import on_deadline
from barnabas.coordinators.group.records import group_tombstone
from barnabas.coordinators.group.state import GroupState
from barnabas.coordinators.shard import CoordinatorResult, Now
from barnabas.errors import ErrorCode, KafkaError
from barnabas.wire.messages.join_group import JoinGroupResponse
from barnabas.wire.messages.leave_group import LeaveGroupRequest, LeaveGroupResponse
from barnabas.wire.messages.sync_group import SyncGroupResponse

if TYPE_CHECKING:
    from collections.abc import Callable

    from barnabas.coordinators.group.group import ClassicGroup
    from barnabas.coordinators.group.join import Joining
    from barnabas.coordinators.group.shard import GroupShard
    from barnabas.wire.message import Message
    from barnabas.wire.messages.consumer_group_heartbeat import (
        ConsumerGroupHeartbeatRequest,
        ConsumerGroupHeartbeatResponse,
    )
    from barnabas.wire.messages.sync_group import SyncGroupRequest

__all__ = ["ConsumerGroups"]

logger = logging.getLogger(__name__)


class ConsumerGroups:
    """What a shard does for consumer groups.

    Args:
        shard: Holds the groups of all kinds, their settings and timers.
    """

    __slots__ = ("_shard",)

    def __init__(self, shard: GroupShard) -> None:
        self._shard = shard

    # ----- members

    def heartbeat(
        self, request: ConsumerGroupHeartbeatRequest, client: HeartbeatClient, now: Now
    ) -> CoordinatorResult[ConsumerGroupHeartbeatResponse]:
        """ConsumerGroupHeartbeat.

        Raises:
            KafkaError: GROUP_ID_NOT_FOUND, or that of `heartbeat.heartbeat` and `leave.leave`.
        """
        if request.member_epoch in (LEAVING_EPOCH, STATIC_LEAVING_EPOCH):
            step = self._step(self._existing(request.group_id), now)
            return self._result(step, leave(step, request))
        step = self._joined_step(request, now)
        response = heartbeat(step, request, client, self._finish)
        earlier = self._shard.groups.get(request.group_id)
        if earlier is not None and not isinstance(earlier, ConsumerGroup):
            # Only now: a heartbeat that is refused changes nothing for those who wait.
            step.answers += release_waiters(earlier)
        return self._result(step, response)

    def _joined_step(self, request: ConsumerGroupHeartbeatRequest, now: Now) -> Step:
        """A step of the group that the member is in or joins: a new one, one of classic members, or one there already."""
        group_id = request.group_id
        group = self._shard.groups.get(group_id)
        if isinstance(group, ConsumerGroup):
            return self._step(group, now)
        if request.member_epoch != JOINING_EPOCH:
            raise _not_found(group_id, group, kind="Consumer group")
        if group is None:
            return self._step(ConsumerGroup(group_id), now)
        if group.state is GroupState.EMPTY:
            step = self._step(ConsumerGroup(group_id), now)
            step.records.append(group_tombstone(group_id))
            step.later.append(
                lambda _: logger.info("empty classic group becomes a consumer group group=%s", group_id)
            )
            return step
        check_upgrade(group, self._shard.settings)
        step = self._step(upgraded(group, self._shard.topics), now)
        step.records.append(group_tombstone(group_id))
        step.records += group_records(step.group)

        def start(made: ConsumerGroup) -> None:
            for member in made.members.values():
                if member.classic is not None:
                    made.start_session(member.member_id, now.monotonic_ms + member.classic.session_timeout_ms)
            logger.info(
                "classic group becomes a consumer group group=%s generation=%d members=%d",
                group_id,
                group.generation_id,
                len(group.members),
            )

        step.later.append(start)
        return step

    def join_classic(self, group: ConsumerGroup, joining: Joining, now: Now) -> CoordinatorResult[None]:
        """JoinGroup to a consumer group that has members."""
        step = self._step(group, now)
        try:
            join_classic(step, joining, self._finish, self._shard.groups.get, self._shard.arm)
        except KafkaError as error:
            response = JoinGroupResponse(error_code=error.code)
            return CoordinatorResult(None, answers=[(joining.waiter, response)])
        if not step.records and step.completion is not None:
            # Nothing is to be committed that has not been.
            committed = step.completion.committed(now)
            if committed is not None:
                step.answers += committed.answers
            step.completion = None
        return self._result(step, None)

    def sync_classic(
        self, group: ConsumerGroup, request: SyncGroupRequest, waiter: Any, now: Now
    ) -> CoordinatorResult[None]:
        """SyncGroup of a member of the classic protocol."""
        step = self._step(group, now)
        try:
            response = sync_classic(step, request)
        except KafkaError as error:
            response = SyncGroupResponse(error_code=error.code)
        step.answer(waiter, response)
        return self._result(step, None)

    def heartbeat_classic(
        self,
        group: ConsumerGroup,
        member_id: str,
        instance_id: str | None,
        generation_id: int,
        now_ms: float,
    ) -> ErrorCode:
        """Heartbeat of a member of the classic protocol, at monotonic `now_ms`."""
        step = self._step(group, Now(0, now_ms))
        try:
            error = heartbeat_classic(step, member_id, instance_id, generation_id)
        except KafkaError as refusal:
            return refusal.code
        self._shard.arm(group)
        return error

    def leave_classic(
        self, group: ConsumerGroup, identities: list[LeaveGroupRequest.MemberIdentity], now: Now
    ) -> CoordinatorResult[LeaveGroupResponse]:
        """LeaveGroup of members of either protocol."""
        step = self._step(group, now)
        return self._result(step, LeaveGroupResponse(members=leave_classic(step, identities)))

    # ----- time

    def on_deadline(self, group: ConsumerGroup, now: Now) -> CoordinatorResult[None]:
        """A deadline of the group is reached."""
        step = self._step(group, now)
        on_deadline(step)
        group.wake_at(group.next_deadline_ms())
        self._shard.arm(group)
        return self._result(step, None)

    def on_loaded(self, group: ConsumerGroup, now: Now) -> None:
        """Members have a whole session to find their coordinator again, and their time to give up partitions begins anew."""
        timeout_ms = self._shard.settings.consumer.pace_of(group.group_id).session_timeout_ms
        for member in group.members.values():
            group.start_session(member.member_id, now.monotonic_ms + timeout_ms)
            if member.state is MemberState.UNREVOKED_PARTITIONS and not member.uses_classic_protocol:
                deadline_ms = now.monotonic_ms + member.rebalance_timeout_ms
                group.revocations[member.member_id] = (deadline_ms, member.member_epoch)
                group.wake_at(deadline_ms)
        self._shard.arm(group)

    # ----- replay

    def replay(self, key: Message, value: bytes | None) -> None:
        """Applies a record; DecodeError if it does not parse."""
        removed = replay_record(key, value, find=self._find, make=self._find_or_make)
        if removed is not None:
            del self._shard.groups[removed]

    def _find(self, group_id: str) -> ConsumerGroup | None:
        group = self._shard.groups.get(group_id)
        return group if isinstance(group, ConsumerGroup) else None

    def _find_or_make(self, group_id: str) -> ConsumerGroup:
        group = self._find(group_id)
        if group is None:
            # A classic group that is there was made for offsets alone: nothing of it is on record.
            group = self._shard.groups[group_id] = ConsumerGroup(group_id)
        return group

    # ----- steps

    def _existing(self, group_id: str) -> ConsumerGroup:
        group = self._shard.groups.get(group_id)
        if isinstance(group, ConsumerGroup):
            return group
        raise _not_found(group_id, group)

    def _step(self, group: ConsumerGroup, now: Now) -> Step:
        shard = self._shard
        return Step(group, now, settings=shard.settings, topics=shard.topics, counters=shard.counters)

    def _finish(self, group_id: str, apply: Callable[[Step], None], now: Now) -> CoordinatorResult[None]:
        """A later step of a group, if it is still there."""
        group = self._shard.groups.get(group_id)
        if not isinstance(group, ConsumerGroup):
            return CoordinatorResult(None)
        step = self._step(group, now)
        apply(step)
        return self._result(step, None)

    def _result(self, step: Step, response: Any) -> CoordinatorResult[Any]:
        return step.result(response, partial(self._appended, step))

    def _appended(self, step: Step, now: Now) -> None:
        shard = self._shard
        if step.successor is not None and step.start is not None:
            shard.groups[step.group.group_id] = step.successor
            step.start(now)
            shard.arm(step.successor)
            return
        group = shard.groups.get(step.group.group_id)
        if isinstance(group, ConsumerGroup):
            for each in step.later:
                each(group)
            shard.arm(group)


def _not_found(group_id: str, group: ClassicGroup | None, *, kind: str = "Group") -> KafkaError:
    return KafkaError(
        ErrorCode.GROUP_ID_NOT_FOUND,
        f"{kind} {group_id} not found." if group is None else f"Group {group_id} is not a consumer group.",
    )

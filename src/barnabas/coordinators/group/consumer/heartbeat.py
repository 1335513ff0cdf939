"""ConsumerGroupHeartbeat: join, stay, or say what changed; and hear what to read.

    epoch 0         join, or join again after having been fenced
    epoch > 0       stay; what did not change is left out
    epoch -1        leave
    epoch -2        a static member goes for a while, and keeps its partitions

Source: KIP-848; Kafka's `GroupMetadataManager.consumerGroupHeartbeat`.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NamedTuple

from barnabas.coordinators.group.consumer.member import (
    JOINING_EPOCH,
    LEAVING_EPOCH,
    STATIC_LEAVING_EPOCH,
    ConsumerMember,
    without_epochs,
)
from barnabas.coordinators.group.consumer.reconciliation import Target, reconcile
from barnabas.coordinators.group.consumer.records import (
    current_assignment_record,
    member_record,
    member_tombstones,
    target_record,
)
from barnabas.coordinators.group.consumer.state import MemberState
from barnabas.coordinators.group.consumer.subscriptions import note_member
from barnabas.coordinators.group.consumer.target import MemberTarget, subscribed_topic_ids, update_target
from barnabas.coordinators.group.consumer.waiting import heartbeat_interval_ms
from barnabas.errors import ErrorCode, KafkaError
from barnabas.wire.messages.consumer_group_heartbeat import (
    ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from barnabas.coordinators.group.consumer.group import ConsumerGroup
    from barnabas.coordinators.group.consumer.step import Step
    from barnabas.coordinators.shard import CoordinatorResult, Now

__all__ = [
    "HeartbeatClient",
    "check_heartbeat",
    "check_instance",
    "check_room",
    "heartbeat",
    "owned_partitions",
    "replace_member",
    "take_step",
]

logger = logging.getLogger(__name__)

_MEMBER_ID_REQUIRED_FROM = 1
_UNCHANGED_TIMEOUT = -1

_Assignment = ConsumerGroupHeartbeatResponse.Assignment
_TopicPartitions = ConsumerGroupHeartbeatResponse.TopicPartitions


class HeartbeatClient(NamedTuple):
    """Who sends a heartbeat.

    Attributes:
        client_id: The client's name for itself, "" for none.
        client_host: Where it comes from, as Kafka writes it.
        new_member_id: The id that it gets if it has none.
    """

    client_id: str
    client_host: str
    new_member_id: str


def check_heartbeat(request: ConsumerGroupHeartbeatRequest, version: int, assignors: Sequence[str]) -> None:
    """What can be said without knowing the group.

    Raises:
        KafkaError: INVALID_REQUEST or UNSUPPORTED_ASSIGNOR, with Kafka's words.
    """
    epoch = request.member_epoch
    if (version >= _MEMBER_ID_REQUIRED_FROM or epoch > JOINING_EPOCH or epoch == LEAVING_EPOCH) and _is_blank(
        request.member_id
    ):
        raise _invalid("MemberId can't be empty.")
    for text, name in (
        (request.group_id, "GroupId"),
        (request.instance_id, "InstanceId"),
        (request.rack_id, "RackId"),
    ):
        if _is_blank(text):
            raise _invalid(f"{name} can't be empty.")
    if epoch == JOINING_EPOCH:
        if request.rebalance_timeout_ms == _UNCHANGED_TIMEOUT:
            raise _invalid("RebalanceTimeoutMs must be provided in first request.")
        if request.topic_partitions is None or request.topic_partitions:
            raise _invalid("TopicPartitions must be empty when (re-)joining.")
        if request.subscribed_topic_names is None and request.subscribed_topic_regex is None:
            raise _invalid(
                "Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when (re-)joining."
            )
    elif epoch == STATIC_LEAVING_EPOCH:
        if request.instance_id is None:
            raise _invalid("InstanceId can't be null.")
    elif epoch < STATIC_LEAVING_EPOCH:
        raise _invalid("MemberEpoch is invalid.")
    assignor = request.server_assignor
    if assignor is not None and assignor not in assignors:
        raise KafkaError(
            ErrorCode.UNSUPPORTED_ASSIGNOR,
            f"ServerAssignor {assignor} is not supported. Supported assignors: {', '.join(assignors)}.",
        )


def _is_blank(text: str | None) -> bool:
    return text is not None and not text.strip()


def _invalid(message: str) -> KafkaError:
    return KafkaError(ErrorCode.INVALID_REQUEST, message)


def heartbeat(
    step: Step,
    request: ConsumerGroupHeartbeatRequest,
    client: HeartbeatClient,
    finish: Callable[[str, Callable[[Step], None], Now], CoordinatorResult[None]],
) -> ConsumerGroupHeartbeatResponse:
    """A heartbeat of somebody who is or becomes a member.

    Raises:
        KafkaError: GROUP_MAX_SIZE_REACHED, UNKNOWN_MEMBER_ID, FENCED_MEMBER_EPOCH, FENCED_INSTANCE_ID,
            UNRELEASED_INSTANCE_ID, INVALID_REGULAR_EXPRESSION.
    """
    group = step.group
    check_room(step, request.member_id)
    member_id = request.member_id or client.new_member_id
    owned = owned_partitions(request)
    is_joining = request.member_epoch == JOINING_EPOCH
    if request.instance_id is None:
        before = _dynamic(group, member_id, request.member_epoch, owned)
    else:
        before = _static(step, member_id, request, owned)
    names = request.subscribed_topic_names
    regex = request.subscribed_topic_regex
    after = before._replace(
        instance_id=before.instance_id if request.instance_id is None else request.instance_id,
        rack_id=before.rack_id if request.rack_id is None else request.rack_id,
        rebalance_timeout_ms=before.rebalance_timeout_ms
        if request.rebalance_timeout_ms == _UNCHANGED_TIMEOUT
        else request.rebalance_timeout_ms,
        server_assignor=before.server_assignor
        if request.server_assignor is None
        else request.server_assignor,
        topic_names=before.topic_names if names is None else frozenset(names),
        topic_regex=before.topic_regex if regex is None else regex,
        client_id=client.client_id,
        client_host=client.client_host,
        classic=None,
    )
    update = note_member(step, before, after, finish)
    target = update_target(step, update.group_epoch, before, after)
    after = take_step(step, after, target, owned, subscription_changed=update.is_changed)
    pace = step.settings.consumer.pace_of(group.group_id)
    interval_ms = heartbeat_interval_ms(step, after, update.group_epoch, target)
    session_ends_ms = step.now.monotonic_ms + pace.session_timeout_ms
    due_ms = step.now.monotonic_ms + interval_ms
    step.later.append(lambda group: _heard(group, member_id, session_ends_ms, due_ms))
    response = ConsumerGroupHeartbeatResponse(
        member_id=member_id,
        member_epoch=after.member_epoch,
        heartbeat_interval_ms=interval_ms,
    )
    is_full = (
        request.rebalance_timeout_ms != _UNCHANGED_TIMEOUT
        and (names is not None or regex is not None)
        and owned is not None
    )
    if is_joining or is_full or after.assigned != before.assigned:
        response.assignment = _Assignment(
            topic_partitions=[
                _TopicPartitions(topic_id=topic_id, partitions=list(partitions))
                for topic_id, partitions in after.assigned.items()
            ]
        )
    return response


def _heard(group: ConsumerGroup, member_id: str, session_ends_ms: float, due_ms: float) -> None:
    group.start_session(member_id, session_ends_ms)
    group.expected[member_id] = due_ms


def check_room(step: Step, member_id: str) -> None:
    """GROUP_MAX_SIZE_REACHED if the group is full and this is no member of it."""
    limit = step.settings.consumer.max_size
    if len(step.group.members) >= limit and member_id not in step.group.members:
        raise KafkaError(
            ErrorCode.GROUP_MAX_SIZE_REACHED,
            f"The consumer group has reached its maximum capacity of {limit} members.",
        )


def owned_partitions(request: ConsumerGroupHeartbeatRequest) -> dict[bytes, frozenset[int]] | None:
    """What a member says that it owns, None if it says nothing."""
    if request.topic_partitions is None:
        return None
    owned: dict[bytes, frozenset[int]] = {}
    for topic in request.topic_partitions:
        owned[topic.topic_id] = owned.get(topic.topic_id, frozenset()).union(topic.partitions)
    return owned


# ----- who it is


def _dynamic(
    group: ConsumerGroup, member_id: str, epoch: int, owned: Mapping[bytes, frozenset[int]] | None
) -> ConsumerMember:
    member = group.members.get(member_id)
    if member is None:
        if epoch != JOINING_EPOCH:
            raise KafkaError(
                ErrorCode.UNKNOWN_MEMBER_ID, f"Member {member_id} is not a member of group {group.group_id}."
            )
        member = ConsumerMember(member_id)
    _check_epoch(member, epoch, owned)
    if epoch == JOINING_EPOCH:
        logger.info("member joins group=%s member=%s", group.group_id, member_id)
    return member


def _static(
    step: Step,
    member_id: str,
    request: ConsumerGroupHeartbeatRequest,
    owned: Mapping[bytes, frozenset[int]] | None,
) -> ConsumerMember:
    """A static member; one that comes back takes the place that was kept for it, under its new id."""
    group = step.group
    instance_id = request.instance_id
    assert instance_id is not None
    present = group.static_member(instance_id)
    if request.member_epoch != JOINING_EPOCH:
        present = check_instance(group, present, member_id, instance_id)
        _check_epoch(present, request.member_epoch, owned)
        return present
    if present is None:
        logger.info(
            "static member joins group=%s member=%s instance=%s", group.group_id, member_id, instance_id
        )
        return group.members.get(member_id) or ConsumerMember(member_id)
    if not present.uses_classic_protocol and present.member_epoch != STATIC_LEAVING_EPOCH:
        raise KafkaError(
            ErrorCode.UNRELEASED_INSTANCE_ID,
            f"Static member {member_id} with instance id {instance_id} cannot join the group because the instance id is "
            f"owned by {present.member_id} member.",
        )
    return replace_member(step, present, member_id)


def check_instance(
    group: ConsumerGroup, present: ConsumerMember | None, member_id: str, instance_id: str
) -> ConsumerMember:
    """The static member, if it is the one that has this id now.

    Raises:
        KafkaError: UNKNOWN_MEMBER_ID or FENCED_INSTANCE_ID.
    """
    if present is None:
        raise KafkaError(ErrorCode.UNKNOWN_MEMBER_ID, f"Instance id {instance_id} is unknown.")
    if present.member_id != member_id:
        logger.info(
            "static member is fenced group=%s instance=%s member=%s by=%s",
            group.group_id,
            instance_id,
            member_id,
            present.member_id,
        )
        raise KafkaError(
            ErrorCode.FENCED_INSTANCE_ID,
            f"Static member {member_id} with instance id {instance_id} was fenced by member {present.member_id}.",
        )
    return present


def replace_member(step: Step, present: ConsumerMember, member_id: str) -> ConsumerMember:
    """Writes that a static member has a new id from now on, and all that it had."""
    group_id = step.group.group_id
    replacing = present._replace(
        member_id=member_id, member_epoch=JOINING_EPOCH, previous_member_epoch=JOINING_EPOCH
    )
    step.records += member_tombstones(group_id, present.member_id)
    step.records += [
        member_record(group_id, replacing),
        target_record(group_id, member_id, step.group.target_of(present.member_id)),
        current_assignment_record(group_id, replacing),
    ]
    logger.info(
        "static member came back group=%s instance=%s member=%s before=%s",
        group_id,
        present.instance_id,
        member_id,
        present.member_id,
    )
    return replacing


def _check_epoch(member: ConsumerMember, epoch: int, owned: Mapping[bytes, frozenset[int]] | None) -> None:
    """The present epoch is good, and so is the one before if the answer that told the present one may have been lost."""
    if epoch in (JOINING_EPOCH, member.member_epoch):
        return
    if epoch < member.member_epoch:
        if epoch == member.previous_member_epoch and _has_only(owned, without_epochs(member.assigned)):
            return
        relation = "smaller"
    else:
        relation = "greater"
    raise KafkaError(
        ErrorCode.FENCED_MEMBER_EPOCH,
        f"The consumer group member has a {relation} member epoch ({epoch}) than the one known by the group "
        f"coordinator ({member.member_epoch}). The member must abandon all its partitions and rejoin.",
    )


def _has_only(owned: Mapping[bytes, frozenset[int]] | None, assigned: Mapping[bytes, frozenset[int]]) -> bool:
    if owned is None:
        return False
    # A topic that the member has nothing of must not be named at all.
    return all(
        topic_id in assigned and partitions <= assigned[topic_id] for topic_id, partitions in owned.items()
    )


# ----- the step


def take_step(
    step: Step,
    member: ConsumerMember,
    target: MemberTarget,
    owned: Mapping[bytes, frozenset[int]] | None,
    *,
    subscription_changed: bool,
) -> ConsumerMember:
    """Moves the member towards its target, and writes where it is now."""
    if not subscription_changed and member.is_reconciled_to(target.epoch):
        return member
    group = step.group
    after = reconcile(
        member,
        Target(
            target.epoch,
            target.assignment,
            subscribed_topic_ids(group, step.topics, member),
            group.owner_of,
        ),
        owned,
        subscription_changed=subscription_changed,
    )
    if after == member:
        return member
    step.records.append(current_assignment_record(group.group_id, after))
    if not after.uses_classic_protocol:
        if after.state is MemberState.UNREVOKED_PARTITIONS:
            deadline_ms = step.now.monotonic_ms + after.rebalance_timeout_ms
            step.later.append(_revocation(after, deadline_ms))
        else:
            step.later.append(lambda group: _forget_revocation(group, after.member_id))
    return after


def _revocation(member: ConsumerMember, deadline_ms: float) -> Callable[[ConsumerGroup], None]:
    def start(group: ConsumerGroup) -> None:
        group.revocations[member.member_id] = (deadline_ms, member.member_epoch)
        group.wake_at(deadline_ms)

    return start


def _forget_revocation(group: ConsumerGroup, member_id: str) -> None:
    group.revocations.pop(member_id, None)

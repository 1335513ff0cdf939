"""Requests about groups, with what most of them have in common filled in."""

from __future__ import annotations

from barnabas.wire.messages.heartbeat import HeartbeatRequest
from barnabas.wire.messages.join_group import JoinGroupRequest
from barnabas.wire.messages.leave_group import LeaveGroupRequest
from barnabas.wire.messages.offset_commit import OffsetCommitRequest
from barnabas.wire.messages.offset_fetch import OffsetFetchRequest
from barnabas.wire.messages.sync_group import SyncGroupRequest

TOPIC = "orders"
SUBSCRIPTION = b"\x00\x01\x00\x00\x00\x01\x00\x06orders\xff\xff\xff\xff\x00\x00\x00\x00"
"""What a consumer of that topic says of itself."""


def join(group, version, *, member_id="", instance=None, protocols=(("range", SUBSCRIPTION),), **fields):
    return JoinGroupRequest(
        **{
            "group_id": group,
            "session_timeout_ms": 30_000,
            "rebalance_timeout_ms": 30_000 if version else -1,
            "member_id": member_id,
            "group_instance_id": instance,
            "protocol_type": "consumer",
            "protocols": [
                JoinGroupRequest.JoinGroupRequestProtocol(name=name, metadata=metadata)
                for name, metadata in protocols
            ],
        }
        | fields
    )


def sync(joined, version, *, group, assignments=(), **fields):
    values = {
        "group_id": group,
        "generation_id": joined.generation_id,
        "member_id": joined.member_id,
        "assignments": [
            SyncGroupRequest.SyncGroupRequestAssignment(member_id=member_id, assignment=assignment)
            for member_id, assignment in assignments
        ],
    }
    if version >= 5:
        values |= {"protocol_type": "consumer", "protocol_name": joined.protocol_name}
    return SyncGroupRequest(**(values | fields))


def heartbeat(joined, *, group, **fields):
    return HeartbeatRequest(
        **({"group_id": group, "generation_id": joined.generation_id, "member_id": joined.member_id} | fields)
    )


def leave(group, version, *identities, reason=None):
    if version < 3:
        return LeaveGroupRequest(group_id=group, member_id=identities[0][0])
    members = [
        LeaveGroupRequest.MemberIdentity(member_id=member_id, group_instance_id=instance, reason=reason)
        for member_id, instance in identities
    ]
    return LeaveGroupRequest(group_id=group, members=members)


def offset_commit(group, *, version, topics=None, topic_id=None, offset=7, metadata="note", **fields):
    """`topics`: {name: [partitions]}."""
    partition_fields = {"committed_metadata": metadata, "committed_offset": offset}
    if version >= 6:
        partition_fields["committed_leader_epoch"] = 0
    return OffsetCommitRequest(
        group_id=group,
        topics=[
            OffsetCommitRequest.OffsetCommitRequestTopic(
                name=name,
                topic_id=topic_id or bytes(16),
                partitions=[
                    OffsetCommitRequest.OffsetCommitRequestPartition(
                        partition_index=index, **partition_fields
                    )
                    for index in indexes
                ],
            )
            for name, indexes in (topics or {TOPIC: [0]}).items()
        ],
        **fields,
    )


def offset_fetch(group, version, *, topics=None, topic_id=None, require_stable=False):
    if version < 8:
        asked = (
            None
            if topics is None
            else [
                OffsetFetchRequest.OffsetFetchRequestTopic(name=name, partition_indexes=indexes)
                for name, indexes in topics.items()
            ]
        )
        return OffsetFetchRequest(group_id=group, topics=asked, require_stable=require_stable)
    asked = (
        None
        if topics is None
        else [
            OffsetFetchRequest.OffsetFetchRequestTopics(
                name=name, topic_id=topic_id or bytes(16), partition_indexes=indexes
            )
            for name, indexes in topics.items()
        ]
    )
    group = OffsetFetchRequest.OffsetFetchRequestGroup(group_id=group, topics=asked)
    return OffsetFetchRequest(groups=[group], require_stable=require_stable)

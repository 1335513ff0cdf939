"""Group state machines driven by hand: clients that say things, a log that keeps records, a clock that only moves when told."""

from __future__ import annotations

import itertools
from collections import deque

from barnabas.coordinators.group.join import Joining
from barnabas.coordinators.group.settings import GroupSettings
from barnabas.coordinators.group.shard import GroupShard
from barnabas.coordinators.shard import Now
from barnabas.errors import ErrorCode, KafkaError
from barnabas.wire.messages.join_group import JoinGroupRequest
from barnabas.wire.messages.leave_group import LeaveGroupRequest
from barnabas.wire.messages.offset_commit import OffsetCommitRequest
from barnabas.wire.messages.offset_fetch import OffsetFetchRequest
from barnabas.wire.messages.sync_group import SyncGroupRequest

WALL_START_MS = 1_700_000_000_000


class Waiter:
    """Stands where the shell has a future: what was answered, if anything."""

    def __init__(self, client=None):
        self.response = None
        self._client = client

    def resolve(self, response):
        assert self.response is None, f"answered twice: {self.response}, {response}"
        self.response = response
        if self._client is not None and response.error_code == ErrorCode.NONE:
            self._client.member_id = response.member_id
            self._client.generation = response.generation_id

    @property
    def error(self):
        """The error code of the answer, None while there is none."""
        return None if self.response is None else ErrorCode(self.response.error_code)


class Coordinator:
    """A shard with the smallest possible runtime. `hold_commits` keeps written records uncommitted until `commit()`."""

    def __init__(self, topics=None, **settings):
        self.shard = GroupShard(GroupSettings(**settings), topics=topics)
        self.log = []
        self.background = []
        self.hold_background = False
        self.ms = 0
        self.hold_commits = False
        self.fail_appends_with = None
        self._uncommitted = deque()
        self._numbers = itertools.count(1)
        list(self.shard.on_loaded(self.now))

    @property
    def now(self):
        return Now(WALL_START_MS + self.ms, float(self.ms))

    def new_member_id(self, name):
        return f"{name}-{next(self._numbers)}"

    def run(self, result):
        """What the runtime does with a result; gives the response."""
        for waiter, response in result.answers:
            waiter.resolve(response)
        if self.fail_appends_with is not None and result.records:
            error = KafkaError(self.fail_appends_with)
            if result.completion is not None:
                self._follow(result.completion.failed(error, self.now))
                return result.response
            raise error
        for key, value in result.records:
            if result.replay:
                self.shard.replay(len(self.log), -1, -1, key, value)
            self.log.append((key, value))
        if result.appended is not None:
            result.appended(self.now)
        self.background += result.background
        if not self.hold_background:
            self.work()
        if result.completion is not None:
            self._uncommitted.append(result.completion)
            if not self.hold_commits:
                self.commit()
        return result.response

    def _follow(self, result):
        if result is not None:
            self.run(result)

    def work(self):
        """What was left to worker threads is done."""
        while self.background:
            work = self.background.pop(0)
            self.run(work.finish(work.compute(), self.now))

    def commit(self):
        """All that was written is committed."""
        while self._uncommitted:
            self._follow(self._uncommitted.popleft().committed(self.now))

    def lose(self, error=ErrorCode.COORDINATOR_NOT_AVAILABLE):
        """Nobody knows what becomes of the uncommitted records."""
        while self._uncommitted:
            self._follow(self._uncommitted.popleft().failed(KafkaError(error), self.now))

    def advance(self, ms):
        """Time passes, and every timer fires when it is due."""
        end = self.ms + ms
        while (deadline := self.shard.next_deadline_ms()) is not None and deadline <= end:
            self.ms = max(self.ms, int(deadline))
            for result in list(self.shard.on_timer(self.now)):
                self.run(result)
        self.ms = end

    def group(self, group_id="orders"):
        return self.shard.groups.get(group_id)

    def state(self, group_id="orders"):
        return self.group(group_id).state.value

    def replayed(self):
        """What another broker makes of the log."""
        other = Coordinator(self.shard.topics)
        other.shard.settings = self.shard.settings
        for offset, (key, value) in enumerate(self.log):
            other.shard.replay(offset, -1, -1, key, value)
        other.log = list(self.log)
        other.ms = self.ms
        for result in other.shard.on_loaded(other.now):
            other.run(result)
        return other


class Client:
    """A member, or somebody who wants to be one."""

    def __init__(
        self,
        coordinator,
        name="c",
        *,
        group="orders",
        version=9,
        instance=None,
        protocols=(("range", b"range of c"),),
        protocol_type="consumer",
        session_timeout_ms=10_000,
        rebalance_timeout_ms=60_000,
    ):
        self.coordinator = coordinator
        self.name = name
        self.group_id = group
        self.version = version
        self.instance = instance
        self.protocols = protocols
        self.protocol_type = protocol_type
        self.session_timeout_ms = session_timeout_ms
        self.rebalance_timeout_ms = rebalance_timeout_ms
        self.member_id = ""
        self.generation = -1
        self.waiter = None

    def send_join(self, member_id=None, reason=None):
        """One JoinGroup; gives its waiter. A generation is taken in as clients do."""
        waiter = Waiter(self)
        request = JoinGroupRequest(
            group_id=self.group_id,
            session_timeout_ms=self.session_timeout_ms,
            rebalance_timeout_ms=self.rebalance_timeout_ms,
            member_id=self.member_id if member_id is None else member_id,
            group_instance_id=self.instance,
            protocol_type=self.protocol_type,
            protocols=[
                JoinGroupRequest.JoinGroupRequestProtocol(name=name, metadata=metadata)
                for name, metadata in self.protocols
            ],
            reason=reason,
        )
        joining = Joining(
            request,
            version=self.version,
            client_id=self.name,
            client_host="/127.0.0.1",
            new_member_id=self.coordinator.new_member_id(self.instance or self.name),
            waiter=waiter,
        )
        self.coordinator.run(self.coordinator.shard.join(joining, self.coordinator.now))
        return waiter

    def join(self, reason=None):
        """Joins as clients do, coming back with the id that it is given; gives the waiter of the last JoinGroup."""
        self.waiter = self.send_join(reason=reason)
        if self.waiter.error is ErrorCode.MEMBER_ID_REQUIRED:
            self.member_id = self.waiter.response.member_id
            self.waiter = self.send_join(reason=reason)
        return self.waiter

    @property
    def joined(self):
        """The answer to the last JoinGroup; None while it is parked."""
        return self.waiter.response

    def sync(self, assignments=(), **fields):
        """SyncGroup; gives its waiter. `assignments`: (client, bytes) pairs."""
        assert self.joined is not None
        waiter = Waiter()
        values = {
            "group_id": self.group_id,
            "generation_id": self.generation,
            "member_id": self.member_id,
            "group_instance_id": self.instance,
            "protocol_type": self.protocol_type,
            "protocol_name": self.joined.protocol_name,
            "assignments": [
                SyncGroupRequest.SyncGroupRequestAssignment(member_id=client.member_id, assignment=assignment)
                for client, assignment in assignments
            ],
        }
        request = SyncGroupRequest(**(values | fields))
        self.coordinator.run(self.coordinator.shard.sync(request, waiter, self.coordinator.now))
        return waiter

    def heartbeat(self, generation=None, member_id=None, instance=None):
        return self.coordinator.shard.heartbeat(
            self.group_id,
            self.member_id if member_id is None else member_id,
            self.instance if instance is None else instance,
            self.generation if generation is None else generation,
            self.coordinator.now.monotonic_ms,
        )

    def leave(self, reason=None):
        """LeaveGroup for itself; gives the error."""
        (error,) = leave(self.coordinator, (self.member_id, self.instance, reason), group=self.group_id)
        return error

    def commit(self, offset=1, *, topic="t", partition=0, **fields):
        return commit(
            self.coordinator,
            offset,
            topic=topic,
            partition=partition,
            group=self.group_id,
            **(
                {
                    "generation_id_or_member_epoch": self.generation,
                    "member_id": self.member_id,
                    "group_instance_id": self.instance,
                }
                | fields
            ),
        )


def stable_group(coordinator, *clients):
    """All join, the first one leads and assigns its name to each."""
    leader = clients[0]
    for client in clients:
        client.join()
        if client is not leader:
            for earlier in clients[: clients.index(client)]:
                earlier.join()
    assert all(client.joined is not None for client in clients)
    leader.sync([(client, client.name.encode()) for client in clients])
    for client in clients[1:]:
        assert client.sync().error is ErrorCode.NONE
    assert coordinator.state(leader.group_id) == "Stable"


def leave(coordinator, *identities, group="orders"):
    """LeaveGroup; `identities`: (member id, instance id, reason). Gives the errors."""
    members = [
        LeaveGroupRequest.MemberIdentity(member_id=member_id, group_instance_id=instance, reason=reason)
        for member_id, instance, reason in identities
    ]
    response = coordinator.run(coordinator.shard.leave(group, members, coordinator.now))
    return [ErrorCode(member.error_code) for member in response.members]


def commit(coordinator, offset=1, *, topic="t", partition=0, group="orders", version=9, **fields):
    """OffsetCommit for one partition; gives the error."""
    partition_fields = {
        name: fields.pop(name)
        for name in ("committed_metadata", "committed_leader_epoch", "commit_timestamp")
        if name in fields
    }
    topic_id = fields.pop("topic_id", bytes(16))
    request = OffsetCommitRequest(
        group_id=group,
        topics=[
            OffsetCommitRequest.OffsetCommitRequestTopic(
                name=topic,
                topic_id=topic_id,
                partitions=[
                    OffsetCommitRequest.OffsetCommitRequestPartition(
                        partition_index=partition, committed_offset=offset, **partition_fields
                    )
                ],
            )
        ],
        **fields,
    )
    try:
        response = coordinator.run(coordinator.shard.commit_offsets(request, version, coordinator.now))
    except KafkaError as error:
        return error.code
    return ErrorCode(response.topics[0].partitions[0].error_code)


def fetched(coordinator, *, group="orders", topics=None, require_stable=False):
    """OffsetFetch: {(topic, partition): offset or error}. `topics`: {name: [partitions]}, None for all."""
    request = OffsetFetchRequest.OffsetFetchRequestGroup(
        group_id=group,
        topics=None
        if topics is None
        else [
            OffsetFetchRequest.OffsetFetchRequestTopics(name=name, partition_indexes=indexes)
            for name, indexes in topics.items()
        ],
    )
    response = coordinator.shard.fetch_offsets(request, require_stable=require_stable)
    return {
        (topic.name, partition.partition_index): ErrorCode(partition.error_code)
        if partition.error_code
        else partition.committed_offset
        for topic in response.topics
        for partition in topic.partitions
    }

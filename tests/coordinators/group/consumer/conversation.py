"""Consumer groups driven by hand: a cluster whose topics come and go, and members that behave as KIP-848 asks."""

from __future__ import annotations

from dataclasses import replace

from barnabas.coordinators.group.consumer.group import ConsumerGroup
from barnabas.coordinators.group.consumer.heartbeat import HeartbeatClient
from barnabas.coordinators.group.consumer.settings import ConsumerSettings, Pace
from barnabas.coordinators.group.consumer.topics import TopicCatalog
from barnabas.errors import ErrorCode, KafkaError
from barnabas.metadata.deltas import MetadataDelta
from barnabas.metadata.image import Broker, MetadataImage, Partition, Topic
from barnabas.wire.messages.consumer_group_heartbeat import ConsumerGroupHeartbeatRequest
from tests.coordinators.group.conversation import Coordinator

__all__ = ["Cluster", "Member", "ownership", "settings", "settle", "snapshot"]


def settings(*, interval_ms=0, **fields):
    """Consumer groups whose targets are computed at once, unless `interval_ms` says otherwise."""
    return ConsumerSettings(pace=Pace(assignment_interval_ms=interval_ms), **fields)


class Cluster:
    """A coordinator and the topics that it knows of."""

    def __init__(self, *, consumer=None, **group_settings):
        brokers = {number: Broker(number, 1, {}, rack=f"rack-{number}") for number in range(3)}
        self.image = MetadataImage("cluster", offset=0, brokers=brokers)
        self.topics = TopicCatalog(self.image)
        self.coordinator = Coordinator(self.topics, consumer=consumer or settings(), **group_settings)
        self._ids = 0

    def topic(self, name, partitions, *, replicas=None):
        """Creates a topic, or gives one more partitions; gives its id. `replicas`: brokers by partition."""
        before = self.image.topics.get(name)
        self._ids += 1
        topic_id = before.id if before else self._ids.to_bytes(16)
        topic = Topic(
            name,
            topic_id,
            tuple(
                Partition(index, 0, 0, (0,) if replicas is None else replicas[index], (0,))
                for index in range(partitions)
            ),
        )
        delta = MetadataDelta(self.image)
        if before is None:
            delta.created_topics[topic_id] = topic
        else:
            delta.changed_topics[topic_id] = (before, topic)
        self._go_on(self.image.topics | {name: topic}, delta)
        return topic_id

    def delete(self, name):
        """Deletes a topic."""
        delta = MetadataDelta(self.image)
        delta.deleted_topics[self.image.topics[name].id] = self.image.topics[name]
        self._go_on({other: topic for other, topic in self.image.topics.items() if other != name}, delta)

    def _go_on(self, topics, delta):
        self.image = replace(
            self.image,
            offset=self.image.offset + 1,
            topics=topics,
            topics_by_id={topic.id: topic for topic in topics.values()},
        )
        self.topics.update(self.image, delta)
        changed = {
            topic.name
            for topic in (
                *delta.created_topics.values(),
                *(topic for topic, _ in delta.changed_topics.values()),
                *delta.deleted_topics.values(),
            )
        }
        self.coordinator.shard.on_topics_changed(changed)

    def fail_over(self):
        """Another broker takes over from the log."""
        self.coordinator = self.coordinator.replayed()

    def group(self, group_id="orders"):
        group = self.coordinator.group(group_id)
        assert group is None or isinstance(group, ConsumerGroup)
        return group

    def beat(self, version=1, client_id="c", **fields):
        """One ConsumerGroupHeartbeat; the response, or the error's code."""
        request = ConsumerGroupHeartbeatRequest(**({"group_id": "orders"} | fields))
        client = HeartbeatClient(client_id, "/127.0.0.1", "made-up")
        coordinator = self.coordinator
        try:
            return coordinator.run(coordinator.shard.consumer_heartbeat(request, client, coordinator.now))
        except KafkaError as error:
            return error.code


class Member:
    """A member that does what it is told: it stops reading first, says so, and begins to read afterwards."""

    def __init__(
        self,
        cluster,
        name,
        topics=("t",),
        *,
        regex=None,
        instance=None,
        assignor=None,
        rack=None,
        timeout_ms=60_000,
    ):
        self.cluster = cluster
        self.id = name
        self.topics = list(topics)
        self.regex = regex
        self.instance = instance
        self.assignor = assignor
        self.rack = rack
        self.timeout_ms = timeout_ms
        self.epoch = 0
        self.owned = {}
        self.stops = 0
        self.said = None
        self.is_dirty = False

    def partitions(self):
        return {(topic_id, index) for topic_id, indexes in self.owned.items() for index in indexes}

    def join(self):
        """(Re-)joins without any partitions."""
        self.epoch = 0
        self.owned = {}
        return self._send(
            member_epoch=0,
            rebalance_timeout_ms=self.timeout_ms,
            subscribed_topic_names=self.topics,
            subscribed_topic_regex=self.regex,
            topic_partitions=[],
            instance_id=self.instance,
            server_assignor=self.assignor,
            rack_id=self.rack,
        )

    def beat(self, **fields):
        """A heartbeat that says only what changed."""
        if self.is_dirty:
            fields["topic_partitions"] = [
                ConsumerGroupHeartbeatRequest.TopicPartitions(topic_id=topic_id, partitions=sorted(indexes))
                for topic_id, indexes in self.owned.items()
            ]
        return self._send(member_epoch=self.epoch, instance_id=self.instance, **fields)

    def subscribe(self, *topics):
        self.topics = list(topics)
        return self.beat(subscribed_topic_names=self.topics)

    def leave(self, epoch=-1):
        answer = self._send(member_epoch=epoch, instance_id=self.instance)
        self.owned = {}
        return answer

    def _send(self, **fields):
        answer = self.cluster.beat(member_id=self.id, client_id=f"client of {self.id}", **fields)
        if isinstance(answer, ErrorCode):
            return answer
        self.epoch = answer.member_epoch
        self.is_dirty = False
        if answer.assignment is not None:
            given = {topic.topic_id: set(topic.partitions) for topic in answer.assignment.topic_partitions}
            before = self.partitions()
            self.owned = given
            self.stops += len(before - self.partitions())
            self.is_dirty = before != self.partitions()
        return answer


def settle(*members, rounds=20):
    """Everyone beats until nothing moves any more."""
    for _ in range(rounds):
        before = [(member.epoch, member.partitions()) for member in members]
        for member in members:
            answer = member.beat()
            assert not isinstance(answer, ErrorCode), answer
        if before == [(member.epoch, member.partitions()) for member in members] and not any(
            member.is_dirty for member in members
        ):
            return
    raise AssertionError("the group does not settle")


def ownership(group):
    """{(topic id, partition): member ids} of what members have or are giving up."""
    owners = {}
    for member in group.members.values():
        for owned in (member.assigned, member.revoking):
            for topic_id, partitions in owned.items():
                for partition in partitions:
                    owners.setdefault((topic_id, partition), []).append(member.member_id)
    return owners


def snapshot(group):
    """All of a group that is on record."""
    if group is None:
        return None
    return (
        group.group_epoch,
        group.metadata_hash,
        group.assignment_epoch,
        group.assignment_timestamp_ms,
        {member_id: _plain(member) for member_id, member in group.members.items()},
        {member_id: dict(target) for member_id, target in group.targets.items()},
        dict(group.static_members),
        dict(group.expressions),
        {key: count for key, count in group.expression_counts.items() if count},
        group.subscribed_topics(),
        group.classic_count,
        group.state,
        group.preferred_assignor(),
    )


def _plain(member):
    return member._replace(
        assigned={topic_id: dict(partitions) for topic_id, partitions in member.assigned.items()},
        revoking={topic_id: dict(partitions) for topic_id, partitions in member.revoking.items()},
    )

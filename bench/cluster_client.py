"""What the rows of clusters ask brokers beside their load: topics with replicas, who leads them, elections, reassignments; and a
producer that stays with its partition while brokers go."""

from __future__ import annotations

import struct
import threading
import time
from typing import TYPE_CHECKING, NamedTuple, Self

from barnabas.wire.apis import APIS
from barnabas.wire.messages.alter_partition_reassignments import AlterPartitionReassignmentsRequest
from barnabas.wire.messages.delete_topics import DeleteTopicsRequest
from barnabas.wire.messages.describe_quorum import DescribeQuorumRequest
from barnabas.wire.messages.elect_leaders import ElectLeadersRequest
from barnabas.wire.messages.list_partition_reassignments import ListPartitionReassignmentsRequest
from barnabas.wire.messages.metadata import MetadataRequest
from bench import raw

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Sequence

    from bench.clusters import _Cluster

__all__ = [
    "Led",
    "Producer",
    "controller",
    "create_topics",
    "delete_topic",
    "elect_preferred",
    "move",
    "partitions",
    "share_out",
    "wait_until_replicated",
]

_DEADLINE_S = 180
_LOOK_S = 0.02
_PREFERRED = 0
_NOTHING_TO_DO = 84

Name = tuple[str, int]


class Led(NamedTuple):
    """A partition as a broker describes it."""

    leader: int
    replicas: tuple[int, ...]
    isr: tuple[int, ...]


def call(port: int, request, version: int):
    """One answer on a connection of its own."""
    api = APIS[request.API_KEY]
    flexible = version >= request.FLEXIBLE_FROM
    answer = raw.ask(port, raw.frame(request.API_KEY, version, request, flexible=flexible))
    return api.response_class.decode(answer, version, 5 if flexible else 4)


def create_topics(
    port: int,
    names: Sequence[str],
    count: int,
    *,
    replicas: int = 3,
    assignments: Sequence[Sequence[int]] = (),
    **configs: str,
) -> None:
    """Creates topics of `count` partitions, with replicas where the cluster or `assignments` put them."""
    request = raw.create_request(names, count, replicas, assignments, **configs)
    errors = {topic.name: topic.error_message for topic in call(port, request, 5).topics if topic.error_code}
    if errors:
        raise RuntimeError(f"topics are not created: {errors}")


def delete_topic(port: int, name: str) -> None:
    call(port, DeleteTopicsRequest(topic_names=[name], timeout_ms=60_000), 3)


def partitions(port: int, names: Sequence[str] | None = None) -> dict[Name, Led]:
    """All partitions of these topics, or of all, as this broker knows them now; without those that have an error."""
    topics = None if names is None else [MetadataRequest.MetadataRequestTopic(name=name) for name in names]
    response = call(port, MetadataRequest(topics=topics, allow_auto_topic_creation=False), 8)
    return {
        (topic.name, partition.partition_index): Led(
            partition.leader_id, tuple(partition.replica_nodes), tuple(partition.isr_nodes)
        )
        for topic in response.topics
        for partition in topic.partitions
        if not partition.error_code
    }


def wait_until_replicated(
    cluster: _Cluster, names: Sequence[str], count: int, *, isr: int = 3, preferred: bool = False
) -> dict[Name, Led]:
    """Until every broker knows all partitions with one leader and so many in-sync replicas, and every leader serves its own.

    With `preferred` each leader is the first of its replicas. Gives what all brokers agree on.
    """
    wanted = len(names) * count
    deadline = time.monotonic() + _DEADLINE_S
    # The topics that are asked for go into the request, so that it stays small for one topic of many.
    asked = names if len(names) < 100 else None
    known = set(names)
    while True:
        views = []
        for node in cluster.running:
            found = {name: led for name, led in partitions(node.port, asked).items() if name[0] in known}
            if len(found) < wanted or not all(
                led.leader >= 0 and len(led.isr) >= isr and (not preferred or led.leader == led.replicas[0])
                for led in found.values()
            ):
                break
            views.append({name: led.leader for name, led in found.items()})
        else:
            if all(view == views[0] for view in views) and all(
                _serves(node.port, [name for name, leader in views[0].items() if leader == node.id])
                for node in cluster.running
            ):
                return found
        if time.monotonic() > deadline:
            raise RuntimeError(f"{cluster.title} does not replicate {wanted} partitions: {len(found)}")
        time.sleep(_LOOK_S)


def _serves(port: int, names: Sequence[Name]) -> bool:
    """Whether a broker answers ListOffsets for all of these."""
    by_topic: dict[str, list[int]] = {}
    for topic, index in names:
        by_topic.setdefault(topic, []).append(index)
    request = raw.ends_request(by_topic)
    return not any(part.error_code for topic in call(port, request, 4).topics for part in topic.partitions)


def share_out(
    cluster: _Cluster, found: dict[Name, Led], frame_of: Callable[[str, int], bytes]
) -> dict[int, list[bytes]]:
    """The frames for each leader's port."""
    frames: dict[int, list[bytes]] = {}
    for (topic, index), led in sorted(found.items()):
        frames.setdefault(cluster.nodes[led.leader].port, []).append(frame_of(topic, index))
    return frames


def controller(cluster: _Cluster) -> int:
    """Who decides now: the leader of the quorum, or of the log in ZooKeeper."""
    if cluster.name == "barnabas":
        response = call(cluster.port, MetadataRequest(topics=[], allow_auto_topic_creation=False), 8)
        return response.controller_id
    request = DescribeQuorumRequest(
        topics=[
            DescribeQuorumRequest.TopicData(
                topic_name="__cluster_metadata",
                partitions=[DescribeQuorumRequest.PartitionData(partition_index=0)],
            )
        ]
    )
    return call(cluster.port, request, 0).topics[0].partitions[0].leader_id


def elect_preferred(cluster: _Cluster) -> None:
    """Each partition is led by the first of its replicas again."""
    request = ElectLeadersRequest(election_type=_PREFERRED, topic_partitions=None, timeout_ms=60_000)
    response = call(cluster.port, request, 1)
    errors = [
        part.error_code
        for topic in response.replica_election_results
        for part in topic.partition_result
        if part.error_code not in (0, _NOTHING_TO_DO)
    ]
    if response.error_code or errors:
        raise RuntimeError(f"{cluster.title} elects no leaders: {response.error_code} {errors}")


def move(cluster: _Cluster, topic: str, count: int, replicas: Sequence[int]) -> None:
    """All partitions of a topic get these replicas; returns when that is done."""
    request = AlterPartitionReassignmentsRequest(
        timeout_ms=60_000,
        topics=[
            AlterPartitionReassignmentsRequest.ReassignableTopic(
                name=topic,
                partitions=[
                    AlterPartitionReassignmentsRequest.ReassignablePartition(
                        partition_index=index, replicas=list(replicas)
                    )
                    for index in range(count)
                ],
            )
        ],
    )
    response = call(cluster.port, request, 0)
    if response.error_code or any(part.error_code for each in response.responses for part in each.partitions):
        raise RuntimeError(f"{cluster.title} does not reassign: {response.error_message}")
    deadline = time.monotonic() + _DEADLINE_S
    request = ListPartitionReassignmentsRequest(timeout_ms=60_000, topics=None)
    while call(cluster.port, request, 0).topics:
        if time.monotonic() > deadline:
            raise RuntimeError(f"{cluster.title} does not finish a reassignment")
        time.sleep(_LOOK_S)


class Producer:
    """One record after the other with acks=all to one partition, wherever it is led; notes the longest time without an answer.

    It does what clients do, and sooner: when a connection ends, says nothing for half a second, or a broker does not lead any more, it
    asks the others who does, every 10 ms. `frozen` is who need not be asked.

    Attributes:
        acknowledged: How many were.
        longest_s: From one acknowledgement to the next.
    """

    _AGAIN_S = 0.01
    _PAUSE_S = 0.001
    _SILENCE_S = 0.5

    def __init__(self, cluster: _Cluster, topic: str, index: int) -> None:
        self._cluster = cluster
        self._topic = topic
        self._index = index
        self._frame = raw.produce_frame(topic, index, records=1, size_bytes=100)
        self._error_at = raw.produce_error_at(topic)
        self._ends = False
        self.frozen: int | None = None
        self._thread = threading.Thread(target=self._run, name="producer", daemon=True)
        self.acknowledged = 0
        self.longest_s = 0.0

    def __enter__(self) -> Self:
        self._thread.start()
        self.wait_for(200)
        self.longest_s = 0.0
        return self

    def __exit__(self, *_) -> None:
        self._ends = True
        self._thread.join()

    def wait_for(self, count: int) -> None:
        """Until so many more are acknowledged."""
        goal, deadline = self.acknowledged + count, time.monotonic() + _DEADLINE_S
        while self.acknowledged < goal:
            if not self._thread.is_alive() or time.monotonic() > deadline:
                raise RuntimeError(f"{self._cluster.title} acknowledges nothing any more")
            time.sleep(0.005)

    def _run(self) -> None:
        last = 0.0
        connection: socket.socket | None = None
        while not self._ends:
            try:
                if connection is None:
                    connection = self._connect()
                connection.sendall(self._frame)
                answer = raw.receive(connection)
                if answer[self._error_at : self._error_at + 2] == b"\0\0":
                    now = time.monotonic()
                    if last:
                        self.longest_s = max(self.longest_s, now - last)
                    last = now
                    self.acknowledged += 1
                    time.sleep(self._PAUSE_S)
                    continue
            except (OSError, LookupError, struct.error):
                pass
            if connection is not None:
                connection.close()
                connection = None
            time.sleep(self._AGAIN_S)
        if connection is not None:
            connection.close()

    def _connect(self) -> socket.socket:
        for node in self._cluster.running:
            if node.id == self.frozen:
                continue
            try:
                led = partitions(node.port, [self._topic]).get((self._topic, self._index))
            except OSError:
                continue
            leader = self._cluster.nodes.get(led.leader) if led is not None else None
            if leader is not None and leader.is_running and leader.id != self.frozen:
                connection = raw.connect(leader.port)
                connection.settimeout(self._SILENCE_S)
                return connection
        raise LookupError("nobody leads")

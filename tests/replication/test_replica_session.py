"""What a leader tells a follower in its fetch session, when requests and answers cross."""

from __future__ import annotations

import asyncio

import pytest

from barnabas.wire.messages.fetch import FetchRequest
from tests.replication.three_brokers import TOPIC_ID, ThreeBrokers


@pytest.fixture
def cluster(tmp_path):
    cluster = ThreeBrokers(tmp_path, 1, min_insync_replicas=1)
    # The followers are played by the test.
    cluster.cut |= {(one, other) for one in cluster.nodes for other in cluster.nodes if one != other}
    cluster.run(0.5)
    yield cluster
    cluster.close()


class Follower:
    """Fetches the partition in one session; its requests may be sent before earlier ones are answered."""

    def __init__(self, cluster, node_id):
        self.cluster = cluster
        self.node_id = node_id
        self.leader = cluster.nodes[cluster.controller.state.leader]
        self.session_id = self.session_epoch = 0

    def fetch(self, offset=None):
        """Sends a request, that names the partition if `offset` is given; its answer, to come."""
        partition = FetchRequest.FetchPartition(
            partition=0,
            current_leader_epoch=self.leader.partition.leader_epoch,
            fetch_offset=offset or 0,
            last_fetched_epoch=-1,
            log_start_offset=0,
            partition_max_bytes=10_000,
        )
        request = FetchRequest(
            replica_state=FetchRequest.ReplicaState(replica_id=self.node_id, replica_epoch=-1),
            max_wait_ms=200,
            min_bytes=1,
            max_bytes=10_000,
            session_id=self.session_id,
            session_epoch=self.session_epoch,
            topics=[]
            if offset is None
            else [FetchRequest.FetchTopic(topic_id=TOPIC_ID, partitions=[partition])],
        )
        self.session_epoch += 1
        return self.leader.answer(request)

    def high_watermark(self, answer):
        """What an answer says of the partition; None if it does not mention it."""
        if isinstance(answer, asyncio.Future):
            for _ in range(100):
                if answer.done():
                    break
                self.cluster.run(0.01)
            answer = answer.result()
        assert not answer.error_code
        self.session_id = answer.session_id
        marks = [data.high_watermark for topic in answer.responses for data in topic.partitions]
        return marks[0] if marks else None


def test_a_follower_that_names_a_partition_anew_is_told_of_it_anew(cluster):
    """It drops what answers an earlier request; a high watermark in that must not be the last that it hears."""
    followers = [
        Follower(cluster, node_id) for node_id in cluster.nodes if node_id != cluster.controller.state.leader
    ]
    for follower in followers:
        assert follower.high_watermark(follower.fetch(0)) == 0
    first, second = followers
    cluster.produce(first.leader)
    parked = first.fetch(1)
    second.fetch(1)
    assert first.leader.partition.high_watermark == 1
    later = first.fetch(1)
    assert first.high_watermark(parked) == 1
    assert first.high_watermark(later) == 1
    assert first.high_watermark(first.fetch()) is None

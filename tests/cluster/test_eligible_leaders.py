"""Eligible leader replicas (KIP-966), which a new cluster has."""

import pytest

from barnabas.log.files import Files
from barnabas.wire.messages.describe_topic_partitions import DescribeTopicPartitionsRequest


async def test_who_left_last_may_lead(cluster, loop):
    """Everybody tells who is eligible; one of them leads, in order, when it comes back before those that were in sync."""
    async with cluster(4) as brokers:
        await brokers.agree(lambda image: image.features.get("eligible.leader.replicas.version") == 1)
        await brokers.create_topic("orders", assignments=[[1, 2, 3]], min_insync_replicas=2)
        for node_id in (1, 2, 3):
            await brokers.stop(node_id)
            await brokers.agree(lambda image, gone=node_id: image.brokers[gone].fenced)
        partition = brokers.partition("orders", 0)
        assert (partition.leader, partition.isr) == (-1, ())
        assert set(partition.elr) == {2, 3}
        request = DescribeTopicPartitionsRequest(
            topics=[DescribeTopicPartitionsRequest.TopicRequest(name="orders")]
        )
        (topic,) = (await brokers.call(4, request)).topics
        assert sorted(topic.partitions[0].eligible_leader_replicas) == [2, 3]

        await brokers.start(1)
        await brokers.agree(lambda image: image.is_active(1))
        assert brokers.leader("orders", 0) == -1
        await brokers.start(2)
        await brokers.agree(lambda image: image.partition("orders", 0).leader == 2)
        # From there on broker 1 follows, and broker 3 is not needed any more.
        await brokers.agree(lambda image: sorted(image.partition("orders", 0).isr) == [1, 2])
        assert brokers.partition("orders", 0).elr == ()
        assert not brokers.partition("orders", 0).recovering


@pytest.mark.in_memory("it looks into registrations")
@pytest.mark.parametrize("lost", ["a process", "the power"])
async def test_only_a_machine_forgets(cluster, loop, monkeypatch, lost):
    """Whose process was killed stays eligible, and leads in order; whose machine was started anew does not, unless it led last."""
    boots = ["monday"]
    monkeypatch.setattr(Files, "boot_id", lambda _: boots[0])
    async with cluster(4) as brokers:
        await brokers.create_topic("orders", assignments=[[1, 2, 3]], min_insync_replicas=2)
        for node_id in (1, 2, 3):
            await brokers.kill(node_id)
            await brokers.agree(lambda image, gone=node_id: image.brokers[gone].fenced)
        assert set(brokers.partition("orders", 0).elr) == {2, 3}
        if lost == "the power":
            boots[0] = "tuesday"
        await brokers.start(2)
        assert brokers.log.live[2].clean is (lost == "a process")
        await brokers.agree(lambda image: image.is_active(2))
        if lost == "a process":
            await brokers.agree(lambda image: image.partition("orders", 0).leader == 2)
            assert not brokers.partition("orders", 0).recovering
        else:
            assert brokers.leader("orders", 0) == -1
            assert brokers.partition("orders", 0).elr == (3,)
